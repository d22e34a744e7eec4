//! The HTTP proxy of a sidecar: a port on the loopback address for applications that are told to use a proxy instead of
//! having their connections captured (node metadata `HTTP_PROXY_PORT`).

use std::net::{IpAddr, Ipv4Addr};

use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use envoy_types::pb::envoy::config::listener::v3::Listener;
use ostro_mesh::View;

use crate::encode::socket;
use crate::filters::{Direction, Routes, chain, http_connection_manager, http_network_filters};
use crate::names;
use crate::routes::sidecar::HTTP_PROXY;

/// Metadata key with the port that one proxy opens; otherwise MeshConfig's `proxyHttpPort` counts.
const PORT: &str = "HTTP_PROXY_PORT";
/// Only the proxy's own workload may ask.
pub const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The port, if the proxy has one.
pub fn port(view: &View<'_>) -> Option<u16> {
    let port = match view.metadata(PORT) {
        "" => view.mesh_config().proxy_http_port,
        own => own.parse().ok()?,
    };
    (port != 0).then_some(port)
}

/// The listener's name, if there is one.
pub fn name(view: &View<'_>) -> Option<String> {
    port(view).map(|port| names::listener(ADDRESS, port))
}

/// The listener, if the proxy's port is `wanted`.
pub fn listener(view: &View<'_>, wanted: u16) -> Option<Listener> {
    let port = port(view).filter(|port| *port == wanted)?;
    let name = names::listener(ADDRESS, port);
    let routes = Routes::Named(HTTP_PROXY.to_owned());
    let prefix = format!("outbound_{name}");
    let manager = http_connection_manager(view, Direction::Outbound, &prefix, routes, false);
    Some(Listener {
        address: Some(socket(&ADDRESS.to_string(), port)),
        filter_chains: vec![chain("", http_network_filters(view, Direction::Outbound, &manager))],
        traffic_direction: TrafficDirection::Outbound as i32,
        name,
        ..Default::default()
    })
}
