//! Gateways: what a router listens to and how it routes, from the Gateways that select it.
//! Listener names, route names and the merging of Gateways are Istio's.
//!
//! What it is not: a router's clusters, which are those of every proxy.
//!
//! Invariants:
//! - content and membership read the same merged ports ([`servers::ports`]), so a name that is listed has content;
//! - who was first stays: of two servers that cannot both be had, the one of the older Gateway is;
//! - a server whose certificate the proxy cannot get is left out, never served without.

mod hosts;
mod http;
mod listener;
mod servers;
mod tcp;
mod tls;

pub use http::route_configuration;

use bytes::Bytes;
use ostro_mesh::View;
use ostro_names::Name;

use crate::encode;

/// The listener of this name, if a Gateway asks for it.
pub fn listener(view: &View<'_>, name: Name) -> Option<Bytes> {
    let ports = servers::ports(view);
    let port = ports.iter().find(|port| port.listener_name() == name.as_str())?;
    listener::build(view, port).map(|listener| encode::bytes(&listener))
}

/// The names of the proxy's listeners, sorted.
pub fn part_names(view: &View<'_>) -> Vec<Name> {
    let ports = servers::ports(view);
    let mut names: Vec<Name> = ports
        .iter()
        .filter(|port| listener::build(view, port).is_some())
        .filter_map(|port| Name::try_new(&port.listener_name()).ok())
        .collect();
    names.sort();
    names.dedup();
    names
}
