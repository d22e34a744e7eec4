//! What a plan needs beside packet rules: for TPROXY, that marked packets are delivered here; for IPv6, the
//! address that proxies connect to their application from.
//!
//! What we add carries a protocol number of our own, so that it is found again without knowing the plan.

use std::io;
use std::net::IpAddr;

use netlink_packet_core::{
    NLM_F_CREATE, NLM_F_EXCL, NetlinkDeserializable, NetlinkHeader, NetlinkSerializable,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::route::{RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage as Message};
use rustix::io::Errno;

use crate::NetlinkError;
use crate::netlink::socket::{ACK, Answer, DUMP, Socket, message};
use crate::plan::{INBOUND_SOURCE_V6, Plan, Routing};

/// Marks rules and routes as ours; not one that others use (`/etc/iproute2/rt_protos`).
const PROTOCOL: RouteProtocol = RouteProtocol::Other(157);
/// The loopback's index: the kernel gives it to no other interface, in any namespace.
const LOOPBACK_INDEX: u32 = 1;
/// Table numbers above this have an attribute of their own.
const TABLE_COMPACT: u32 = 255;
/// Prefix length of a single IPv6 address.
const HOST_V6: u8 = 128;

/// Why routing is not as a plan needs it.
#[derive(Debug, thiserror::Error)]
pub enum RoutingError {
    /// The socket, or permission.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The kernel refused.
    #[error("the kernel refused {what}: {source}{hint}")]
    Refused {
        /// What was to be changed.
        what: &'static str,
        /// The kernel's word.
        source: io::Error,
        /// What to do, if that is known.
        hint: &'static str,
    },
}

/// Makes what the plan needs, in the calling thread's network namespace.
pub fn apply(plan: &Plan) -> Result<(), RoutingError> {
    let socket = Socket::open(None)?;
    if plan.inbound_source_v6 {
        ask(&socket, &Message::NewAddress(inbound_source()), NEW, "the address ::6 on the loopback")?;
    }
    for wanted in plan.routing.iter().flat_map(wanted) {
        let what = "the routing of TPROXY connections";
        ask(&socket, &Message::NewRoute(wanted.route), NEW, what)?;
        // The kernel takes a rule twice, so it is looked for first.
        if !rules(&socket)?.iter().any(|rule| same_rule(rule, &wanted.rule)) {
            ask(&socket, &Message::NewRule(wanted.rule), NEW, what)?;
        }
    }
    Ok(())
}

/// Takes away what is ours and the plan does not need (all of it, without a plan).
pub fn remove_but(plan: Option<&Plan>) -> Result<(), RoutingError> {
    let socket = Socket::open(None)?;
    let keep: Vec<Wanted> = plan.and_then(|plan| plan.routing).iter().flat_map(wanted).collect();
    let what = "removing the routing of TPROXY connections";
    for rule in rules(&socket)? {
        if !keep.iter().any(|k| same_rule(&k.rule, &rule)) {
            ask(&socket, &Message::DelRule(rule), 0, what)?;
        }
    }
    for route in routes(&socket)? {
        if !keep.iter().any(|k| same_route(&k.route, &route)) {
            ask(&socket, &Message::DelRoute(route), 0, what)?;
        }
    }
    if !plan.is_some_and(|plan| plan.inbound_source_v6) && has_inbound_source(&socket)? {
        ask(&socket, &Message::DelAddress(inbound_source()), 0, "removing the address ::6")?;
    }
    Ok(())
}

/// What the plan needs and is not there, and what is ours and not needed; in words.
pub fn differences(plan: &Plan) -> Result<Vec<String>, RoutingError> {
    let socket = Socket::open(None)?;
    let mut found = Vec::new();
    let (rules, routes) = (rules(&socket)?, routes(&socket)?);
    let wanted: Vec<Wanted> = plan.routing.iter().flat_map(wanted).collect();
    for Wanted { rule, route } in &wanted {
        let family = if rule.header.family == AddressFamily::Inet6 { "IPv6" } else { "IPv4" };
        if !rules.iter().any(|r| same_rule(r, rule)) {
            found.push(format!("missing: {family} routing rule for TPROXY's mark"));
        }
        if !routes.iter().any(|r| same_route(r, route)) {
            found.push(format!("missing: {family} local route for TPROXY"));
        }
    }
    let extra = rules.iter().filter(|r| !wanted.iter().any(|w| same_rule(&w.rule, r))).count()
        + routes.iter().filter(|r| !wanted.iter().any(|w| same_route(&w.route, r))).count();
    if extra > 0 {
        found.push(format!("not of this plan: {extra} routing rules and routes for TPROXY"));
    }
    let source = has_inbound_source(&socket)?;
    if plan.inbound_source_v6 && !source {
        found.push("missing: address ::6 on the loopback".to_owned());
    }
    Ok(found)
}

/// Has an interface of the calling thread's network namespace an IPv6 address that is good beyond its own network?
/// Where none has, there is no IPv6 to capture.
pub fn has_ipv6() -> Result<bool, RoutingError> {
    let mut all = AddressMessage::default();
    all.header.family = AddressFamily::Inet6;
    let beyond = |address: &IpAddr| match address {
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local() && *v6 != INBOUND_SOURCE_V6,
        IpAddr::V4(_) => false,
    };
    Ok(list(&Socket::open(None)?, &Message::GetAddress(all))?.iter().any(|found| match found {
        Message::NewAddress(found) => found.attributes.iter().any(|attribute| match attribute {
            AddressAttribute::Address(address) => beyond(address),
            _ => false,
        }),
        _ => false,
    }))
}

/// Make it; that it is there already is fine.
const NEW: u16 = NLM_F_CREATE | NLM_F_EXCL;

/// Marked packets look into a table that says: here.
struct Wanted {
    rule: RuleMessage,
    route: RouteMessage,
}

fn wanted(routing: &Routing) -> Vec<Wanted> {
    let families = [Some(AddressFamily::Inet), routing.ipv6.then_some(AddressFamily::Inet6)];
    families.into_iter().flatten().map(|family| wanted_of(routing, family)).collect()
}

fn wanted_of(routing: &Routing, family: AddressFamily) -> Wanted {
    let compact = u8::try_from(routing.table).unwrap_or_default();
    let mut rule = RuleMessage::default();
    rule.header.family = family;
    rule.header.table = compact;
    rule.header.action = RuleAction::ToTable;
    rule.attributes = vec![
        RuleAttribute::FwMark(routing.mark),
        RuleAttribute::FwMask(u32::MAX),
        RuleAttribute::Table(routing.table),
        RuleAttribute::Protocol(PROTOCOL),
    ];
    let mut route = RouteMessage::default();
    route.header.address_family = family;
    route.header.table = compact;
    route.header.protocol = PROTOCOL;
    route.header.scope = RouteScope::Host;
    route.header.kind = RouteType::Local;
    route.attributes = vec![RouteAttribute::Oif(LOOPBACK_INDEX)];
    if routing.table > TABLE_COMPACT {
        route.attributes.push(RouteAttribute::Table(routing.table));
    }
    Wanted { rule, route }
}

fn inbound_source() -> AddressMessage {
    let mut address = AddressMessage::default();
    address.header.family = AddressFamily::Inet6;
    address.header.prefix_len = HOST_V6;
    address.header.index = LOOPBACK_INDEX;
    address.attributes = vec![
        AddressAttribute::Address(IpAddr::V6(INBOUND_SOURCE_V6)),
        AddressAttribute::Local(IpAddr::V6(INBOUND_SOURCE_V6)),
    ];
    address
}

fn has_inbound_source(socket: &Socket) -> Result<bool, RoutingError> {
    let mut all = AddressMessage::default();
    all.header.family = AddressFamily::Inet6;
    let address = AddressAttribute::Address(IpAddr::V6(INBOUND_SOURCE_V6));
    Ok(list(socket, &Message::GetAddress(all))?.iter().any(|found| match found {
        Message::NewAddress(found) => {
            found.header.index == LOOPBACK_INDEX && found.attributes.contains(&address)
        }
        _ => false,
    }))
}

/// Our routing rules.
fn rules(socket: &Socket) -> Result<Vec<RuleMessage>, RoutingError> {
    let ours = RuleAttribute::Protocol(PROTOCOL);
    let listed = list(socket, &Message::GetRule(RuleMessage::default()))?;
    Ok(listed
        .into_iter()
        .filter_map(|m| match m {
            Message::NewRule(rule) => rule.attributes.contains(&ours).then_some(rule),
            _ => None,
        })
        .collect())
}

/// Our routes.
fn routes(socket: &Socket) -> Result<Vec<RouteMessage>, RoutingError> {
    let listed = list(socket, &Message::GetRoute(RouteMessage::default()))?;
    Ok(listed
        .into_iter()
        .filter_map(|m| match m {
            Message::NewRoute(route) => (route.header.protocol == PROTOCOL).then_some(route),
            _ => None,
        })
        .collect())
}

fn same_rule(a: &RuleMessage, b: &RuleMessage) -> bool {
    let key = |rule: &RuleMessage| {
        let mark = rule.attributes.iter().find_map(|a| match a {
            RuleAttribute::FwMark(mark) => Some(*mark),
            _ => None,
        });
        let table = rule.attributes.iter().find_map(|a| match a {
            RuleAttribute::Table(table) => Some(*table),
            _ => None,
        });
        (rule.header.family, mark, table.unwrap_or(u32::from(rule.header.table)))
    };
    key(a) == key(b)
}

fn same_route(a: &RouteMessage, b: &RouteMessage) -> bool {
    let key = |route: &RouteMessage| {
        let table = route.attributes.iter().find_map(|a| match a {
            RouteAttribute::Table(table) => Some(*table),
            _ => None,
        });
        let table = table.unwrap_or(u32::from(route.header.table));
        (route.header.address_family, table, route.header.kind, route.header.destination_prefix_length)
    };
    key(a) == key(b)
}

/// Sends a change. What is there already, or gone already, is as it should be.
fn ask(socket: &Socket, change: &Message, flags: u16, what: &'static str) -> Result<(), RoutingError> {
    let answers = socket.ask(&encode(change, flags | ACK))?;
    let error = answers.iter().find_map(|answer| match answer {
        Answer::Error { error, .. } => Some(*error),
        _ => None,
    });
    match error {
        None if answers.iter().any(|a| matches!(a, Answer::Ack { .. })) => Ok(()),
        None => Err(NetlinkError::Answer { what: what.to_owned(), found: "no acknowledgement" }.into()),
        Some(Errno::EXIST) if flags & NEW == NEW => Ok(()),
        Some(Errno::NOENT | Errno::SRCH | Errno::ADDRNOTAVAIL) if flags & NEW == 0 => Ok(()),
        Some(Errno::PERM) => Err(NetlinkError::Permission.into()),
        Some(error) => Err(RoutingError::Refused { what, source: error.into(), hint: hint(error) }),
    }
}

fn hint(error: Errno) -> &'static str {
    match error {
        Errno::NETDOWN | Errno::NETUNREACH => ": raise the loopback first (ip link set lo up)",
        Errno::ACCESS => {
            ": IPv6 is switched off here (sysctl net.ipv6.conf.lo.disable_ipv6): switch it on, or capture IPv4 only"
        }
        Errno::OPNOTSUPP | Errno::AFNOSUPPORT => ": this kernel has no policy routing, or no IPv6",
        _ => "",
    }
}

fn list(socket: &Socket, request: &Message) -> Result<Vec<Message>, RoutingError> {
    let mut found = Vec::new();
    for answer in socket.ask(&encode(request, DUMP))? {
        match answer {
            Answer::Message { kind, body } => {
                let mut header = NetlinkHeader::default();
                header.message_type = kind;
                // What is newer than our reader is not ours.
                found.extend(Message::deserialize(&header, &body));
            }
            Answer::Error { error, .. } => {
                return Err(NetlinkError::socket("listing addresses and routes", error).into());
            }
            Answer::Ack { .. } | Answer::Done { .. } => {}
        }
    }
    Ok(found)
}

fn encode(request: &Message, flags: u16) -> Vec<u8> {
    let mut body = vec![0; request.buffer_len()];
    request.serialize(&mut body);
    let mut out = Vec::new();
    message(&mut out, request.message_type(), flags, 1, &body);
    out
}
