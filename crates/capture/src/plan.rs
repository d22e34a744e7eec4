//! What is captured, as data. Field names follow the options of Istio's own init program.

use ipnet::Ipv4Net;

use crate::{INBOUND_PORT, OUTBOUND_PORT, PROXY_ID, PROXY_PORTS};

/// A choice of TCP ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ports {
    /// Every port; exclusions apply only here.
    All,
    /// Only these, in this order. Empty means none.
    Only(Vec<u16>),
}

/// A choice of destination ranges (IPv4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ranges {
    /// Every destination.
    All,
    /// Only these, in this order. Empty means none.
    Only(Vec<Ipv4Net>),
}

/// Everything the rules of one pod depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Port of the proxy's outbound listener.
    pub outbound_port: u16,
    /// Port of the proxy's inbound listener.
    pub inbound_port: u16,
    /// User ids whose traffic is the proxy's own.
    pub proxy_uids: Vec<u32>,
    /// Group ids whose traffic is the proxy's own.
    pub proxy_gids: Vec<u32>,
    /// Inbound ports that are captured.
    pub inbound: Ports,
    /// Inbound ports left alone when `inbound` is [`Ports::All`].
    pub exclude_inbound: Vec<u16>,
    /// Outbound destinations that are captured.
    pub outbound: Ranges,
    /// Outbound destinations left alone.
    pub exclude_outbound: Vec<Ipv4Net>,
    /// Outbound ports captured whatever the destination.
    pub include_outbound_ports: Vec<u16>,
    /// Outbound ports left alone whatever the destination.
    pub exclude_outbound_ports: Vec<u16>,
    /// Interfaces whose traffic, in and out, is left alone.
    pub exclude_interfaces: Vec<String>,
}

impl Plan {
    /// What a sidecar gets by default: everything in and out but the proxy's own ports.
    pub fn sidecar() -> Self {
        Self {
            inbound: Ports::All,
            exclude_inbound: PROXY_PORTS.to_vec(),
            outbound: Ranges::All,
            ..Self::nothing()
        }
    }

    /// A plan that captures nothing yet: the base for plans that choose by hand.
    pub fn nothing() -> Self {
        Self {
            outbound_port: OUTBOUND_PORT,
            inbound_port: INBOUND_PORT,
            proxy_uids: vec![PROXY_ID],
            proxy_gids: vec![PROXY_ID],
            inbound: Ports::Only(Vec::new()),
            exclude_inbound: Vec::new(),
            outbound: Ranges::Only(Vec::new()),
            exclude_outbound: Vec::new(),
            include_outbound_ports: Vec::new(),
            exclude_outbound_ports: Vec::new(),
            exclude_interfaces: Vec::new(),
        }
    }
}
