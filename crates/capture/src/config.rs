//! What is captured, as data, with the names and the meaning of the options of Istio's own init program.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

use crate::{INBOUND_PORT, OUTBOUND_PORT, PROXY_ID, PROXY_PORTS, TUNNEL_PORT};

/// A choice of TCP ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ports {
    /// Every port; exclusions apply only here.
    All,
    /// Only these, in this order. Empty means none.
    Only(Vec<u16>),
}

/// A choice of destinations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ranges {
    /// Every destination.
    All,
    /// Only these, in this order. Empty means none.
    Only(Vec<IpNet>),
}

/// Whose outbound traffic is captured, by the group of the process that sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Groups {
    /// Everybody's, but for these groups.
    Except(Vec<u32>),
    /// Only that of these groups. Empty means nobody's.
    Only(Vec<u32>),
}

/// How inbound connections reach the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interception {
    /// Their destination is rewritten; the proxy asks the kernel for the original one.
    Redirect,
    /// They arrive with both addresses as they were (transparent proxying).
    Tproxy {
        /// Packet mark of connections that are the proxy's.
        mark: u32,
        /// Routing table that leads marked packets to the loopback.
        table: u32,
    },
}

/// Whether the pod's DNS questions are turned to the proxy's agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dns {
    /// They go where they were sent.
    Off,
    /// Those sent to these servers are captured. Empty means none.
    Servers(Vec<IpAddr>),
    /// Whatever goes to port 53 is captured.
    All,
}

/// Everything the rules of one pod depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Port of the proxy's outbound listener.
    pub outbound_port: u16,
    /// Port of the proxy's inbound listener.
    pub inbound_port: u16,
    /// Port of the proxy's tunnel listener; never redirected, its connections say where they go.
    pub tunnel_port: u16,
    /// User ids whose traffic is the proxy's own.
    pub proxy_uids: Vec<u32>,
    /// Group ids whose traffic is the proxy's own.
    pub proxy_gids: Vec<u32>,
    /// Marks (`SO_MARK`) of sockets whose traffic is the proxy's own. For places where everybody has one user id.
    pub proxy_marks: Vec<u32>,
    /// How inbound connections reach the proxy.
    pub interception: Interception,
    /// Inbound ports that are captured.
    pub inbound: Ports,
    /// Inbound ports left alone when `inbound` is [`Ports::All`].
    pub exclude_inbound: Vec<u16>,
    /// Outbound destinations that are captured.
    pub outbound: Ranges,
    /// Outbound destinations left alone.
    pub exclude_outbound: Vec<IpNet>,
    /// Outbound ports captured whatever the destination.
    pub include_outbound_ports: Vec<u16>,
    /// Outbound ports left alone whatever the destination, over TCP and UDP.
    pub exclude_outbound_ports: Vec<u16>,
    /// Whose outbound traffic is captured.
    pub owner_groups: Groups,
    /// Interfaces whose traffic, in and out, is left alone.
    pub exclude_interfaces: Vec<Interface>,
    /// Interfaces of guests (virtual machines): what comes in by them is outbound traffic.
    pub virtual_interfaces: Vec<Interface>,
    /// Whether DNS questions are captured.
    pub dns: Dns,
    /// Drop packets that belong to no connection the kernel knows, instead of resetting it.
    pub drop_invalid: bool,
    /// Capture IPv6 too. Without it, IPv6 traffic is as if there were no rules.
    pub ipv6: bool,
    /// What counts as IPv4 loopback: left alone, as the application's private matter.
    pub loopback: Ipv4Net,
}

impl Config {
    /// What a sidecar gets by default: everything in and out but the proxy's own ports, IPv4.
    pub fn sidecar() -> Self {
        Self {
            inbound: Ports::All,
            exclude_inbound: PROXY_PORTS.to_vec(),
            outbound: Ranges::All,
            ..Self::nothing()
        }
    }

    /// Captures nothing yet: the base for choices by hand, and the defaults of Istio's init program.
    pub fn nothing() -> Self {
        Self {
            outbound_port: OUTBOUND_PORT,
            inbound_port: INBOUND_PORT,
            tunnel_port: TUNNEL_PORT,
            proxy_uids: vec![PROXY_ID],
            proxy_gids: vec![PROXY_ID],
            proxy_marks: Vec::new(),
            interception: Interception::Redirect,
            inbound: Ports::Only(Vec::new()),
            exclude_inbound: Vec::new(),
            outbound: Ranges::Only(Vec::new()),
            exclude_outbound: Vec::new(),
            include_outbound_ports: Vec::new(),
            exclude_outbound_ports: Vec::new(),
            owner_groups: Groups::Except(Vec::new()),
            exclude_interfaces: Vec::new(),
            virtual_interfaces: Vec::new(),
            dns: Dns::Off,
            drop_invalid: false,
            ipv6: false,
            loopback: LOOPBACK_V4,
        }
    }

    /// The same, with the proxy known by the mark (`SO_MARK`) of its sockets and by nothing else: for places where
    /// only one user is mapped.
    pub fn by_mark(self, mark: u32) -> Self {
        Self { proxy_uids: Vec::new(), proxy_gids: Vec::new(), proxy_marks: vec![mark], ..self }
    }

    /// Is anything inbound captured?
    pub(crate) fn captures_inbound(&self) -> bool {
        self.inbound != Ports::Only(Vec::new())
    }

    /// Is a loopback range captured by name? Then what stays within the pod is not left alone.
    pub(crate) fn captures_loopback(&self) -> bool {
        match &self.outbound {
            Ranges::All => false,
            Ranges::Only(ranges) => ranges.iter().any(|range| range.addr().is_loopback()),
        }
    }

    /// Does DNS capture do anything?
    pub(crate) fn captures_dns(&self) -> bool {
        !matches!(&self.dns, Dns::Off) && self.dns != Dns::Servers(Vec::new())
    }
}

/// 127.0.0.1/32: only the address that programs name as localhost. Others of 127/8 are used by meshes themselves.
const LOOPBACK_V4: Ipv4Net = Ipv4Net::new_assert(std::net::Ipv4Addr::LOCALHOST, 32);

/// Name of an interface; with `+` at its end, of all whose names begin so.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interface(String);

/// Not the name of an interface. The user's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not the name of an interface: 1 to {INTERFACE_MAX} characters without blanks and slashes, as `ip link` shows them, or the beginning of one followed by `+`"
)]
pub struct NotAnInterface(String);

/// Longest name of an interface, in bytes (IFNAMSIZ without its final NUL).
pub const INTERFACE_MAX: usize = 15;

impl Interface {
    /// The loopback.
    pub fn loopback() -> Self {
        Self("lo".to_owned())
    }

    /// As it was written, `+` included.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What names begin with, if it stands for several.
    pub fn prefix(&self) -> Option<&str> {
        self.0.strip_suffix('+')
    }
}

impl std::str::FromStr for Interface {
    type Err = NotAnInterface;

    fn from_str(text: &str) -> Result<Self, NotAnInterface> {
        let name = text.strip_suffix('+').unwrap_or(text);
        let fits = !text.is_empty() && name.len() <= INTERFACE_MAX && name != "." && name != "..";
        // What no kernel allows, and what would end a word of the text that iptables-restore reads.
        let plain =
            name.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '/' | '"' | '\'' | '\\' | ':' | '!'));
        match fits && plain {
            true => Ok(Self(text.to_owned())),
            false => Err(NotAnInterface(text.to_owned())),
        }
    }
}
