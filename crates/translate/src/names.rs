//! The names of resources, which are Istio's: built and parsed in one place.
//!
//! Invariant: what is built here parses here, and to the same parts.

use std::net::IpAddr;

use ostro_names::{Host, Name};

/// The cluster that nothing comes out of.
pub const BLACK_HOLE_CLUSTER: &str = "BlackHoleCluster";
/// Outbound traffic to where it was going anyway.
pub const PASSTHROUGH_CLUSTER: &str = "PassthroughCluster";
/// Inbound traffic to where it was going anyway.
pub const INBOUND_PASSTHROUGH_CLUSTER: &str = "InboundPassthroughCluster";
/// The listener that captured outbound connections arrive at.
pub const VIRTUAL_OUTBOUND: &str = "virtualOutbound";
/// The listener that captured inbound connections arrive at.
pub const VIRTUAL_INBOUND: &str = "virtualInbound";
/// The chain of what no other chain of an outbound listener takes.
pub const PASSTHROUGH_CHAIN: &str = "PassthroughFilterChain";

/// What a cluster's name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClusterName<'a> {
    BlackHole,
    Passthrough,
    InboundPassthrough,
    /// `inbound|<port>||`
    Inbound(u16),
    /// `outbound|<port>|<subset>|<host>`; the subset is empty for the whole service.
    Outbound {
        port: u16,
        subset: &'a str,
        host: Host,
    },
}

impl<'a> ClusterName<'a> {
    /// The parts of `name`, or `None` if it is of no form that we make.
    ///
    /// The host is interned even if nothing in the mesh has it yet: "there is no such service" is something that was
    /// read, and that can change. Names come from peers, so the table's own limit bounds them.
    pub fn parse(name: &'a str) -> Option<Self> {
        match name {
            BLACK_HOLE_CLUSTER => return Some(Self::BlackHole),
            PASSTHROUGH_CLUSTER => return Some(Self::Passthrough),
            INBOUND_PASSTHROUGH_CLUSTER => return Some(Self::InboundPassthrough),
            _ => {}
        }
        let mut parts = name.splitn(4, '|');
        let (direction, port) = (parts.next()?, parts.next()?.parse().ok()?);
        let (subset, host) = (parts.next()?, parts.next()?);
        match direction {
            "inbound" if subset.is_empty() && host.is_empty() => Some(Self::Inbound(port)),
            "outbound" => Some(Self::Outbound { port, subset, host: Host::try_new(host).ok()? }),
            _ => None,
        }
    }
}

/// `outbound|<port>|<subset>|<host>`
pub fn outbound(port: u16, subset: &str, host: &str) -> String {
    format!("outbound|{port}|{subset}|{host}")
}

/// `inbound|<port>||`
pub fn inbound(port: u16) -> String {
    format!("inbound|{port}||")
}

/// SNI of a cluster under Istio mTLS, and name of its SNI-routed twin: `outbound_.<port>_.<subset>_.<host>`.
pub fn sni(port: u16, subset: &str, host: &str) -> String {
    format!("outbound_.{port}_.{subset}_.{host}")
}

/// `<ip>_<port>`
pub fn listener(bind: IpAddr, port: u16) -> String {
    format!("{bind}_{port}")
}

/// The address and port in a listener's name.
pub fn parse_listener(name: &str) -> Option<(IpAddr, u16)> {
    let (bind, port) = name.rsplit_once('_')?;
    Some((bind.parse().ok()?, port.parse().ok()?))
}

/// Route configuration of a listener that is one service's alone: `<host>:<port>`.
pub fn service_route(host: Host, port: u16) -> String {
    format!("{host}:{port}")
}

/// What a cluster is called in statistics: the trailing `;` ends the name for the expressions that take tags out of
/// it, which would otherwise stop at the first dot.
pub fn stat_name(name: &str) -> String {
    format!("{name};")
}

/// Interns names, sorts them and drops repetitions.
pub fn sorted(names: impl IntoIterator<Item = String>) -> Vec<Name> {
    let mut names: Vec<Name> = names.into_iter().map(|name| Name::new(&name)).collect();
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cluster_names_parse_to_what_they_were_built_from() {
        let host = Host::new("reviews.default.svc.cluster.local");
        let cases = [
            (outbound(9080, "v1", host.as_str()), ClusterName::Outbound { port: 9080, subset: "v1", host }),
            (outbound(80, "", host.as_str()), ClusterName::Outbound { port: 80, subset: "", host }),
            (inbound(8080), ClusterName::Inbound(8080)),
            (BLACK_HOLE_CLUSTER.to_owned(), ClusterName::BlackHole),
            (PASSTHROUGH_CLUSTER.to_owned(), ClusterName::Passthrough),
            (INBOUND_PASSTHROUGH_CLUSTER.to_owned(), ClusterName::InboundPassthrough),
        ];
        for (name, parts) in cases {
            assert_eq!(ClusterName::parse(&name), Some(parts), "{name}");
        }
    }

    #[test]
    fn names_of_other_forms_are_refused() {
        let cases = [
            "",
            "xds-grpc",
            "outbound",
            "outbound|80",
            "outbound|80|",
            "outbound|65536||reviews.default.svc.cluster.local",
            "outbound|-1||reviews.default.svc.cluster.local",
            "inbound|80|v1|",
            "inbound|80||host",
            "sideways|80||host",
        ];
        for name in cases {
            assert_eq!(ClusterName::parse(name), None, "{name}");
        }
    }

    #[test]
    fn listener_names_of_both_families_parse() {
        for (bind, port) in [("0.0.0.0", 80), ("10.96.0.20", 5432), ("::", 80), ("2001:2::1", 65535)] {
            let bind: IpAddr = bind.parse().unwrap();
            assert_eq!(parse_listener(&listener(bind, port)), Some((bind, port)));
        }
        for name in ["virtualInbound", "10.96.0.20", "10.96.0.20_", "10.96.0_80", "_80", "1.2.3.4_65536"] {
            assert_eq!(parse_listener(name), None, "{name}");
        }
    }
}
