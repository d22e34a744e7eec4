//! The nftables back end: a [`Ruleset`] as tables of nf_tables.
//!
//! Tables and chains have the names that Istio's nftables mode gives them, all in family `inet`.

use ipnet::IpNet;

use crate::config::Interface;
use crate::netlink::batch::{ChainKind, Hook, HookPoint, TableRef};
use crate::netlink::dump::{self, Chains};
use crate::netlink::expr::{Base, Compare, Ct, Expr, Meta, Register, Verdict};
use crate::netlink::{Batch, Family, NetlinkError};
use crate::rules::{self, Action, ChainName, Match, Owner, Protocol, Rule, Ruleset, State, TableKind};

/// Every table we may have made.
pub const TABLES: [TableKind; 3] = [TableKind::Raw, TableKind::Mangle, TableKind::Nat];

/// Bytes of an interface's name in a register.
const INTERFACE_BYTES: usize = 16;

/// `NF_CT_STATE_*` bits, as `ct state` has them.
const STATE_INVALID: u32 = 1;
const STATE_ESTABLISHED: u32 = 2;
const STATE_RELATED: u32 = 4;

/// Brings the rules into force in the calling thread's network namespace, in place of whatever an earlier
/// configuration left there, in one step. Rules that are in force already are left as they are, counters included.
pub fn apply(rules: &Ruleset) -> Result<(), NetlinkError> {
    if differences(rules)?.is_empty() {
        return Ok(());
    }
    let mut batch = Batch::default();
    clear(&mut batch);
    fill(&mut batch, rules);
    batch.commit()
}

/// What is loaded and is not as the rules say, in words; nothing if they are in force.
pub fn differences(rules: &Ruleset) -> Result<Vec<String>, NetlinkError> {
    let mut found = Vec::new();
    for kind in TABLES {
        let at = table_ref(kind);
        let loaded = dump::chains(at)?;
        match (rules.tables.iter().find(|table| table.kind == kind), loaded) {
            (None, None) => {}
            (None, Some(_)) => found.push(format!("not of this plan: table {}", at.name)),
            (Some(_), None) => found.push(format!("missing: table {}", at.name)),
            (Some(table), Some(loaded)) => differ(&mut found, rules, table, loaded),
        }
    }
    Ok(found)
}

fn differ(found: &mut Vec<String>, rules: &Ruleset, table: &rules::Table, mut loaded: Chains) {
    let in_table = table_ref(table.kind).name;
    for chain in &table.chains {
        let name = chain_name(chain.name);
        let Some(there) = loaded.remove(name) else {
            found.push(format!("missing: chain {name} of table {in_table}"));
            continue;
        };
        if there.hook != hook(table.kind, chain.name) {
            found.push(format!("chain {name} of table {in_table} is entered in another way"));
        }
        let lower = |rule| lowered(rules, chain.name, rule).into_iter().map(move |e| (e, rule));
        let wanted: Vec<(Vec<Expr>, &Rule)> = chain.rules.iter().flat_map(lower).collect();
        let Some(place) = first_difference(&wanted, &there.rules) else { continue };
        let text = |rule: Option<&Rule>| rule.map_or("nothing".to_owned(), crate::iptables::rule_text);
        let expected = text(wanted.get(place).map(|(_, rule)| *rule));
        let got = match there.rules.get(place) {
            None => "nothing".to_owned(),
            Some(got) => match wanted.iter().find(|(wanted, _)| wanted == got) {
                Some((_, rule)) => text(Some(rule)),
                None => format!("a rule of another plan ({})", names(got)),
            },
        };
        found.push(format!(
            "rule {} of chain {name}, table {in_table}: expected {expected}, found {got}",
            place + 1
        ));
    }
    found.extend(loaded.keys().map(|name| format!("not of this plan: chain {name} of table {in_table}")));
}

fn first_difference(wanted: &[(Vec<Expr>, &Rule)], there: &[Vec<Expr>]) -> Option<usize> {
    let same = |place: &usize| wanted.get(*place).map(|(rule, _)| rule) == there.get(*place);
    (0..wanted.len().max(there.len())).find(|place| !same(place))
}

/// The instructions of a rule, by name.
fn names(expressions: &[Expr]) -> String {
    expressions.iter().map(Expr::name).collect::<Vec<_>>().join(" ")
}

/// Takes our rules out of the calling thread's network namespace, if there are any.
pub fn remove() -> Result<(), NetlinkError> {
    let mut batch = Batch::default();
    clear(&mut batch);
    batch.commit()
}

fn clear(batch: &mut Batch) {
    for kind in TABLES {
        // Made first, so that deleting it succeeds.
        batch.add_table(table_ref(kind));
        batch.delete_table(table_ref(kind));
    }
}

fn fill(batch: &mut Batch, rules: &Ruleset) {
    for table in &rules.tables {
        let at = table_ref(table.kind);
        batch.add_table(at);
        for chain in &table.chains {
            batch.add_chain(at, chain_name(chain.name), hook(table.kind, chain.name));
        }
        for chain in &table.chains {
            for rule in &chain.rules {
                let what = crate::iptables::rule_text(rule);
                for expressions in lowered(rules, chain.name, rule) {
                    batch.add_rule(at, chain_name(chain.name), &expressions, what.clone());
                }
            }
        }
    }
}

/// The table's name and family.
pub(crate) fn table_ref(kind: TableKind) -> TableRef<'static> {
    let name = match kind {
        TableKind::Raw => "istio-proxy-raw",
        TableKind::Mangle => "istio-proxy-mangle",
        TableKind::Nat => "istio-proxy-nat",
    };
    TableRef { family: Family::Inet, name }
}

/// The chain's name.
pub(crate) fn chain_name(name: ChainName) -> &'static str {
    match name {
        ChainName::Prerouting => "prerouting",
        ChainName::Output => "output",
        ChainName::Inbound => "istio-inbound",
        ChainName::Redirect => "istio-redirect",
        ChainName::InRedirect => "istio-in-redirect",
        ChainName::OutputRules => "istio-output",
        ChainName::OutputDns => "istio-output-dns",
        ChainName::Divert => "istio-divert",
        ChainName::Tproxy => "istio-tproxy",
        ChainName::Drop => "istio-drop",
    }
}

/// Where the kernel enters the chain, if it does: as iptables' tables of the same names.
pub(crate) fn hook(table: TableKind, chain: ChainName) -> Option<Hook> {
    let point = match chain {
        ChainName::Prerouting => HookPoint::Prerouting,
        ChainName::Output => HookPoint::Output,
        _ => return None,
    };
    let (kind, priority) = match (table, point) {
        (TableKind::Raw, _) => (ChainKind::Filter, -300),
        // What an application answers to a client whose address the proxy borrowed is routed by its new mark.
        (TableKind::Mangle, HookPoint::Output) => (ChainKind::Route, -150),
        (TableKind::Mangle, _) => (ChainKind::Filter, -150),
        (TableKind::Nat, _) => (ChainKind::Nat, -100),
    };
    Some(Hook { kind, point, priority })
}

/// A rule as rules of nf_tables.
pub(crate) fn lowered(rules: &Ruleset, chain: ChainName, rule: &Rule) -> Vec<Vec<Expr>> {
    let mut out = vec![expressions(rules, chain, rule)];
    if matches!(rule.action, Action::Tproxy { .. }) {
        // Without a listener nf_tables goes on with the next rule, and the connection would reach the application
        // as if there were no mesh. iptables drops it, and so do we.
        let closed = Rule { matches: rule.matches.clone(), action: Action::Drop };
        out.push(expressions(rules, chain, &closed));
    }
    out
}

fn expressions(rules: &Ruleset, chain: ChainName, rule: &Rule) -> Vec<Expr> {
    let mut out = Vec::new();
    // Tables are for both families; what the kernel enters is closed to the one that is left alone.
    let family = rule.family().or((chain.is_base() && !rules.ipv6).then_some(rules::Family::V4));
    if let Some(family) = family {
        out.push(Expr::Meta(Meta::Family, Register::One));
        out.push(Expr::Compare(Register::One, Compare::Equal, vec![netlink_family(family).number()]));
    }
    for condition in &rule.matches {
        lower_match(&mut out, condition);
    }
    out.push(Expr::Counter);
    lower_action(&mut out, rule);
    out
}

fn netlink_family(family: rules::Family) -> Family {
    match family {
        rules::Family::V4 => Family::Ipv4,
        rules::Family::V6 => Family::Ipv6,
    }
}

fn lower_match(out: &mut Vec<Expr>, condition: &Match) {
    let mut meta = |key, compare, value: Vec<u8>| {
        out.push(Expr::Meta(key, Register::One));
        out.push(Expr::Compare(Register::One, compare, value));
    };
    match condition {
        Match::Protocol(protocol) => meta(Meta::Protocol, Compare::Equal, vec![protocol_number(*protocol)]),
        Match::In(interface) => meta(Meta::InterfaceIn, Compare::Equal, interface_bytes(interface)),
        Match::Out(interface) => meta(Meta::InterfaceOut, Compare::Equal, interface_bytes(interface)),
        Match::Owner(owner) => lower_owner(out, *owner, Compare::Equal),
        Match::NotOwner(owner) => lower_owner(out, *owner, Compare::NotEqual),
        Match::Mark(mark) => meta(Meta::Mark, Compare::Equal, mark.to_ne_bytes().to_vec()),
        Match::NotMark(mark) => meta(Meta::Mark, Compare::NotEqual, mark.to_ne_bytes().to_vec()),
        Match::Dport(port) => lower_port(out, 2, Compare::Equal, *port),
        Match::Sport(port) => lower_port(out, 0, Compare::Equal, *port),
        Match::NotDports(ports) => {
            ports.iter().for_each(|port| lower_port(out, 2, Compare::NotEqual, *port));
        }
        Match::Source(net) => lower_address(out, Side::Source, Compare::Equal, net),
        Match::Destination(net) => lower_address(out, Side::Destination, Compare::Equal, net),
        Match::NotDestination(net) => lower_address(out, Side::Destination, Compare::NotEqual, net),
        Match::ConnectionMark(mark) => {
            out.push(Expr::Ct(Ct::Mark, Register::One));
            out.push(Expr::Compare(Register::One, Compare::Equal, mark.to_ne_bytes().to_vec()));
        }
        Match::State(state) => lower_state(out, *state),
    }
}

fn lower_owner(out: &mut Vec<Expr>, owner: Owner, compare: Compare) {
    let (key, id) = match owner {
        Owner::Uid(id) => (Meta::Uid, id),
        Owner::Gid(id) => (Meta::Gid, id),
        Owner::Mark(mark) => (Meta::Mark, mark),
    };
    out.push(Expr::Meta(key, Register::One));
    out.push(Expr::Compare(Register::One, compare, id.to_ne_bytes().to_vec()));
}

fn lower_port(out: &mut Vec<Expr>, offset: u32, compare: Compare, port: u16) {
    out.push(Expr::Payload { to: Register::One, base: Base::Transport, offset, length: 2 });
    out.push(Expr::Compare(Register::One, compare, port.to_be_bytes().to_vec()));
}

#[derive(Clone, Copy)]
enum Side {
    Source,
    Destination,
}

fn lower_address(out: &mut Vec<Expr>, side: Side, compare: Compare, net: &IpNet) {
    let (offset, address, mask) = match (net, side) {
        (IpNet::V4(net), Side::Source) => {
            (12, net.network().octets().to_vec(), net.netmask().octets().to_vec())
        }
        (IpNet::V4(net), Side::Destination) => {
            (16, net.network().octets().to_vec(), net.netmask().octets().to_vec())
        }
        (IpNet::V6(net), Side::Source) => {
            (8, net.network().octets().to_vec(), net.netmask().octets().to_vec())
        }
        (IpNet::V6(net), Side::Destination) => {
            (24, net.network().octets().to_vec(), net.netmask().octets().to_vec())
        }
    };
    let length = u32::from(net.max_prefix_len()) / 8;
    out.push(Expr::Payload { to: Register::One, base: Base::Network, offset, length });
    if net.prefix_len() < net.max_prefix_len() {
        let xor = vec![0; mask.len()];
        out.push(Expr::Bitwise { register: Register::One, mask, xor });
    }
    out.push(Expr::Compare(Register::One, compare, address));
}

fn lower_state(out: &mut Vec<Expr>, state: State) {
    let bits = match state {
        State::Invalid => STATE_INVALID,
        State::Established => STATE_ESTABLISHED | STATE_RELATED,
    };
    let zero = 0_u32.to_ne_bytes().to_vec();
    out.push(Expr::Ct(Ct::State, Register::One));
    let mask = bits.to_ne_bytes().to_vec();
    out.push(Expr::Bitwise { register: Register::One, mask, xor: zero.clone() });
    out.push(Expr::Compare(Register::One, Compare::NotEqual, zero));
}

fn lower_action(out: &mut Vec<Expr>, rule: &Rule) {
    let verdict = |out: &mut Vec<Expr>, verdict| out.push(Expr::Verdict(verdict));
    let load = |out: &mut Vec<Expr>, value: &[u8]| out.push(Expr::Immediate(Register::One, value.to_vec()));
    match rule.action {
        Action::Return => verdict(out, Verdict::Return),
        Action::Accept => verdict(out, Verdict::Accept),
        Action::Drop => verdict(out, Verdict::Drop),
        Action::Jump(target) => verdict(out, Verdict::Jump(chain_name(target).to_owned())),
        Action::Redirect(port) => {
            load(out, &port.to_be_bytes());
            out.push(Expr::Redirect { port: Register::One });
        }
        Action::Tproxy { port, mark } => {
            let family = netlink_family(rule.family().unwrap_or(rules::Family::V4));
            load(out, &port.to_be_bytes());
            out.push(Expr::Tproxy { family, port: Register::One });
            load(out, &mark.to_ne_bytes());
            out.push(Expr::SetMeta(Meta::Mark, Register::One));
            verdict(out, Verdict::Accept);
        }
        Action::Mark(mark) => {
            load(out, &mark.to_ne_bytes());
            out.push(Expr::SetMeta(Meta::Mark, Register::One));
        }
        Action::SaveMark => {
            out.push(Expr::Meta(Meta::Mark, Register::One));
            out.push(Expr::SetCt(Ct::Mark, Register::One));
        }
        Action::RestoreMark => {
            out.push(Expr::Ct(Ct::Mark, Register::One));
            out.push(Expr::SetMeta(Meta::Mark, Register::One));
        }
        Action::Zone(zone) => {
            load(out, &zone.to_ne_bytes());
            out.push(Expr::SetCt(Ct::Zone, Register::One));
        }
    }
}

/// As IP headers have it.
pub(crate) fn protocol_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
    }
}

/// A whole name is compared with its NULs, the beginning of one without.
fn interface_bytes(interface: &Interface) -> Vec<u8> {
    match interface.prefix() {
        Some(prefix) => prefix.as_bytes().to_vec(),
        None => {
            let mut bytes = interface.as_str().as_bytes().to_vec();
            bytes.resize(INTERFACE_BYTES, 0);
            bytes
        }
    }
}
