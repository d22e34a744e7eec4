//! Addresses of services that lead to their endpoints: what `kube-proxy` is to a cluster.
//!
//! One table in one namespace: connections that arrive there, or begin there, and go to a service's address and port
//! are sent to one of its endpoints, chosen at random for every connection. A service without endpoints refuses. An
//! endpoint that calls its own service and is its own answer sees the connection come from this namespace
//! (masquerade); otherwise nobody would take its answers for those of the service.
//!
//! What it deliberately is not: session affinity, or node ports. UDP "connections" are what the kernel takes for one:
//! packets between the same two addresses and ports, until 30 seconds pass without any (120 with answers).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use crate::netlink::batch::{ChainKind, Hook, HookPoint, KeyPart, Set, TableRef};
use crate::netlink::expr::{Base, Compare, Ct, Expr, LookupTo, Meta, Nat, Register, Verdict};
use crate::netlink::{Batch, Family, NetlinkError};
use crate::nft::protocol_number;
use crate::rules::Protocol;

const TABLE: TableRef<'static> = TableRef { family: Family::Inet, name: "ostro-services" };
/// Where both hooks lead.
const SERVICES: &str = "services";
/// A batch is sent when it has this many bytes: what the kernel takes at once without privilege, and room to spare.
/// Each service comes into force whole; a great many of them, one batch after another.
const BATCH_BYTES: usize = 128 << 10;
/// Most endpoints of one service: their rules have to fit into one batch. The rest gets no connections.
pub const ENDPOINTS_MAX: usize = 400;
/// `IPS_DST_NAT`.
const STATUS_DESTINATION_CHANGED: u32 = 1 << 5;

/// A port of a service at one of its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Virtual {
    /// The service's address.
    pub address: IpAddr,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The service's port.
    pub port: u16,
}

/// Where connections to services lead. An endpoint of another family than the address is passed over.
pub type Destinations = BTreeMap<Virtual, Vec<SocketAddr>>;

/// The two families are alike but for the width of an address.
#[derive(Clone, Copy)]
struct Width {
    family: Family,
    part: KeyPart,
    /// Where source and destination are in the header.
    offsets: [u32; 2],
    services: &'static str,
    refused: &'static str,
    hairpin: &'static str,
}

const V4: Width = Width {
    family: Family::Ipv4,
    part: KeyPart::Ipv4,
    offsets: [12, 16],
    services: "services4",
    refused: "refused4",
    hairpin: "hairpin4",
};
const V6: Width = Width {
    family: Family::Ipv6,
    part: KeyPart::Ipv6,
    offsets: [8, 24],
    services: "services6",
    refused: "refused6",
    hairpin: "hairpin6",
};

/// The table of one namespace: that of the thread that calls, which has to be the same every time.
#[derive(Debug, Default)]
pub struct Services {
    /// What is in force, if the table was made.
    loaded: Option<Loaded>,
}

#[derive(Debug, Default)]
struct Loaded {
    destinations: Destinations,
    /// Endpoints that may meet themselves.
    hairpins: BTreeSet<IpAddr>,
}

/// One change that a batch makes.
enum Change {
    Service(Virtual, Option<Vec<SocketAddr>>),
    Hairpin(IpAddr, bool),
}

impl Services {
    /// Brings these into force. The first call replaces whatever table was there; later ones change what differs,
    /// and nothing that stays as it is notices. After an error, what was sent before it is in force, and the next
    /// call goes on from there.
    pub fn set(&mut self, wanted: &Destinations) -> Result<(), NetlinkError> {
        let wanted: Destinations = wanted.iter().map(|(at, to)| (*at, usable(*at, to))).collect();
        if self.loaded.is_none() {
            let mut batch = Batch::default();
            skeleton(&mut batch);
            batch.commit()?;
        }
        let loaded = self.loaded.get_or_insert_default();
        let mut batch = Batch::default();
        let mut pending = Vec::new();
        for change in changes(loaded, &wanted) {
            match &change {
                Change::Service(at, to) => {
                    change_service(&mut batch, *at, loaded.destinations.get(at), to.as_deref());
                }
                Change::Hairpin(address, there) => change_hairpin(&mut batch, *address, *there),
            }
            pending.push(change);
            if batch.bytes() >= BATCH_BYTES {
                std::mem::take(&mut batch).commit()?;
                loaded.note(std::mem::take(&mut pending));
            }
        }
        batch.commit()?;
        loaded.note(pending);
        Ok(())
    }

    /// What is in force, if anything was ever set.
    pub fn in_force(&self) -> Option<&Destinations> {
        self.loaded.as_ref().map(|loaded| &loaded.destinations)
    }

    /// Takes the table away, if there is one.
    pub fn remove(&mut self) -> Result<(), NetlinkError> {
        let mut batch = Batch::default();
        batch.add_table(TABLE);
        batch.delete_table(TABLE);
        batch.commit()?;
        self.loaded = None;
        Ok(())
    }
}

impl Loaded {
    fn note(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Service(at, Some(to)) => drop(self.destinations.insert(at, to)),
                Change::Service(at, None) => drop(self.destinations.remove(&at)),
                Change::Hairpin(address, true) => drop(self.hairpins.insert(address)),
                Change::Hairpin(address, false) => drop(self.hairpins.remove(&address)),
            }
        }
    }
}

/// What differs. An endpoint is known as one before connections lead to it, and until they no longer do.
fn changes(loaded: &Loaded, wanted: &Destinations) -> Vec<Change> {
    let hairpins: BTreeSet<IpAddr> = wanted.values().flatten().map(SocketAddr::ip).collect();
    let mut changes = Vec::new();
    changes.extend(hairpins.difference(&loaded.hairpins).map(|a| Change::Hairpin(*a, true)));
    let gone = loaded.destinations.keys().filter(|at| !wanted.contains_key(at));
    changes.extend(gone.map(|at| Change::Service(*at, None)));
    let other = wanted.iter().filter(|(at, to)| loaded.destinations.get(at) != Some(to));
    changes.extend(other.map(|(at, to)| Change::Service(*at, Some(to.clone()))));
    changes.extend(loaded.hairpins.difference(&hairpins).map(|a| Change::Hairpin(*a, false)));
    changes
}

/// The endpoints that connections can be sent to.
fn usable(at: Virtual, to: &[SocketAddr]) -> Vec<SocketAddr> {
    let fit: BTreeSet<SocketAddr> =
        to.iter().filter(|to| to.is_ipv4() == at.address.is_ipv4()).copied().collect();
    fit.into_iter().take(ENDPOINTS_MAX).collect()
}

/// The table without services.
fn skeleton(batch: &mut Batch) {
    batch.add_table(TABLE);
    batch.delete_table(TABLE);
    batch.add_table(TABLE);
    for width in [V4, V6] {
        let service = [width.part, KeyPart::Protocol, KeyPart::Port];
        let set = |name, key, verdicts| Set { name, key, verdicts };
        batch.add_set(TABLE, set(width.services, &service, true));
        batch.add_set(TABLE, set(width.refused, &service, false));
        batch.add_set(TABLE, set(width.hairpin, &[width.part, width.part], false));
    }
    batch.add_chain(TABLE, SERVICES, None);
    for width in [V4, V6] {
        let mut rule = service_key(width);
        rule.push(lookup(width.services, Some(LookupTo::Verdict)));
        batch.add_rule(TABLE, SERVICES, &rule, "to a service".to_owned());
    }
    for point in [HookPoint::Prerouting, HookPoint::Output] {
        let refusing = format!("refuse-{}", point.as_str());
        batch.add_chain(TABLE, &refusing, Some(Hook { kind: ChainKind::Filter, point, priority: -110 }));
        for width in [V4, V6] {
            let mut rule = service_key(width);
            rule.extend([lookup(width.refused, None), Expr::Reject]);
            batch.add_rule(TABLE, &refusing, &rule, "no endpoints".to_owned());
        }
        batch.add_chain(TABLE, point.as_str(), Some(Hook { kind: ChainKind::Nat, point, priority: -100 }));
        let jump = [Expr::Verdict(Verdict::Jump(SERVICES.to_owned()))];
        batch.add_rule(TABLE, point.as_str(), &jump, "services".to_owned());
    }
    let point = HookPoint::Postrouting;
    batch.add_chain(TABLE, point.as_str(), Some(Hook { kind: ChainKind::Nat, point, priority: 100 }));
    for width in [V4, V6] {
        batch.add_rule(TABLE, point.as_str(), &masquerade(width), "to itself".to_owned());
    }
}

/// Loads address, protocol and port of the destination, as maps have them.
fn service_key(width: Width) -> Vec<Expr> {
    let [_, destination] = width.offsets;
    let mut out = only(width.family);
    let protocol = word(width.part.bytes());
    let port = word(width.part.bytes() + KeyPart::Protocol.bytes());
    out.push(address(width, destination, Register::Word(0)));
    out.push(Expr::Meta(Meta::Protocol, protocol));
    // The port is at the same place for TCP and UDP; of other protocols there is no key.
    out.push(Expr::Payload { to: port, base: Base::Transport, offset: 2, length: 2 });
    out
}

/// Connections whose address we changed, from an endpoint to itself.
fn masquerade(width: Width) -> Vec<Expr> {
    let [source, destination] = width.offsets;
    let changed = STATUS_DESTINATION_CHANGED.to_ne_bytes().to_vec();
    let zero = vec![0; changed.len()];
    let mut lo = b"lo".to_vec();
    lo.resize(16, 0);
    let mut out = only(width.family);
    out.extend([
        // What stays within this namespace knows itself.
        Expr::Meta(Meta::InterfaceOut, Register::One),
        Expr::Compare(Register::One, Compare::NotEqual, lo),
        Expr::Ct(Ct::Status, Register::One),
        Expr::Bitwise { register: Register::One, mask: changed, xor: zero.clone() },
        Expr::Compare(Register::One, Compare::NotEqual, zero),
        address(width, source, Register::Word(0)),
        address(width, destination, word(width.part.bytes())),
        lookup(width.hairpin, None),
        Expr::Masquerade,
    ]);
    out
}

fn only(family: Family) -> Vec<Expr> {
    vec![
        Expr::Meta(Meta::Family, Register::One),
        Expr::Compare(Register::One, Compare::Equal, vec![family.number()]),
    ]
}

fn address(width: Width, offset: u32, to: Register) -> Expr {
    Expr::Payload { to, base: Base::Network, offset, length: width.part.bytes() }
}

/// The register that begins this many bytes after the first one.
fn word(bytes: u32) -> Register {
    Register::Word(u8::try_from(bytes / 4).unwrap_or_default())
}

fn lookup(set: &str, to: Option<LookupTo>) -> Expr {
    Expr::Lookup { set: set.to_owned(), key: Register::Word(0), to }
}

fn width(address: IpAddr) -> Width {
    if address.is_ipv4() { V4 } else { V6 }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// The key of a service's maps.
fn key(at: Virtual) -> Vec<u8> {
    let [high, low] = at.port.to_be_bytes();
    let mut key = octets(at.address);
    key.extend([protocol_number(at.protocol), 0, 0, 0, high, low, 0, 0]);
    key
}

/// The chain of a service's rules. Colons are not for names.
fn chain_name(at: Virtual) -> String {
    let protocol = match at.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    };
    format!("{protocol}-{}-{}", at.address.to_string().replace(':', "_"), at.port)
}

fn change_service(batch: &mut Batch, at: Virtual, old: Option<&Vec<SocketAddr>>, new: Option<&[SocketAddr]>) {
    let (width, key, chain) = (width(at.address), key(at), chain_name(at));
    let leads = |to: Option<&[SocketAddr]>| to.is_some_and(|to| !to.is_empty());
    let refuses = |to: Option<&[SocketAddr]>| to.is_some_and(<[SocketAddr]>::is_empty);
    let old = old.map(Vec::as_slice);
    match (leads(old), leads(new)) {
        (false, true) => batch.add_chain(TABLE, &chain, None),
        (true, false) => {
            batch.delete_element(TABLE, width.services, &key);
            batch.flush_chain(TABLE, &chain);
            batch.delete_chain(TABLE, &chain);
        }
        (true, true) => batch.flush_chain(TABLE, &chain),
        (false, false) => {}
    }
    match (refuses(old), refuses(new)) {
        (true, false) => batch.delete_element(TABLE, width.refused, &key),
        (false, true) => batch.add_element(TABLE, width.refused, &key, None),
        _ => {}
    }
    if let Some(new) = new {
        for (place, to) in new.iter().enumerate() {
            batch.add_rule(TABLE, &chain, &endpoint_rule(*to, new.len() - place), format!("to {to}"));
        }
    }
    if leads(new) && !leads(old) {
        batch.add_element(TABLE, width.services, &key, Some(&Verdict::Goto(chain)));
    }
}

/// Sends every n-th connection to an endpoint. With n counting down to 1 over a service's endpoints, each gets as many
/// as every other, and the last one all that came so far.
fn endpoint_rule(to: SocketAddr, every: usize) -> Vec<Expr> {
    let mut out = Vec::new();
    if let Some(modulus) = u32::try_from(every).ok().filter(|every| *every > 1) {
        out.push(Expr::Random { to: Register::One, modulus });
        out.push(Expr::Compare(Register::One, Compare::Equal, 0_u32.to_ne_bytes().to_vec()));
    }
    out.push(Expr::Immediate(Register::One, octets(to.ip())));
    out.push(Expr::Immediate(Register::Two, to.port().to_be_bytes().to_vec()));
    let family = width(to.ip()).family;
    let (address, port) = (Register::One, Some(Register::Two));
    out.push(Expr::Nat { which: Nat::Destination, family, address, port });
    out
}

fn change_hairpin(batch: &mut Batch, address: IpAddr, there: bool) {
    let set = width(address).hairpin;
    let key = [octets(address), octets(address)].concat();
    match there {
        true => batch.add_element(TABLE, set, &key, None),
        false => batch.delete_element(TABLE, set, &key),
    }
}
