//! The listener of one port of a gateway.

use std::collections::BTreeSet;

use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use envoy_types::pb::envoy::config::listener::v3::{Filter, FilterChain, FilterChainMatch, Listener};
use ostro_mesh::View;

use super::servers::{Bound, Class, Port};
use super::{tcp, tls};
use crate::abilities::fetches_certificates;
use crate::access_log;
use crate::encode::socket;
use crate::filters::{
    Direction, Routes, chain, http_connection_manager, http_network_filters, tls_inspector,
};
use crate::listener::both_families;

/// The listener, or `None` where nothing would come of its connections: a TCP server without a VirtualService, or TLS
/// servers without certificates.
pub fn build(view: &View<'_>, port: &Port) -> Option<Listener> {
    let first = port.servers.first()?;
    let chains = match port.class {
        Class::Http => vec![chain("", http_filters(view, port, first)?)],
        Class::Tcp => vec![chain("", tcp::opaque(view, first)?)],
        Class::Tls => tls_chains(view, port),
    };
    if chains.is_empty() {
        return None;
    }
    let mut listener = Listener {
        name: port.listener_name(),
        address: Some(socket(&port.bind.to_string(), port.number)),
        filter_chains: chains,
        traffic_direction: TrafficDirection::Outbound as i32,
        access_log: access_log::of_listener(view.mesh_config()),
        ..Default::default()
    };
    if port.class == Class::Tls {
        listener.listener_filters.push(tls_inspector());
    }
    both_families(view, &mut listener, port.bind, port.number);
    Some(listener)
}

fn http_filters(view: &View<'_>, port: &Port, server: &Bound) -> Option<Vec<Filter>> {
    let prefix = format!("outbound_{}", port.listener_name());
    let routes = Routes::Named(server.route_name()?);
    let manager = http_connection_manager(view, Direction::Gateway, &prefix, routes, true);
    Some(http_network_filters(view, Direction::Gateway, &manager))
}

/// One chain for each server that ends TLS, and for each match of those that pass it on. A server name that an older
/// one has is not had again: Envoy would refuse the listener.
fn tls_chains(view: &View<'_>, port: &Port) -> Vec<FilterChain> {
    let mut out = Vec::new();
    let mut taken = BTreeSet::new();
    for server in &port.servers {
        if server.passes_through() {
            for passed in tcp::passed_through(view, server) {
                add(&mut out, &mut taken, passed.names, || Some(chain("", passed.filters)));
            }
        } else if fetches_certificates(view) {
            let names = server.hosts().map(|(_, host)| host.to_ascii_lowercase()).collect();
            add(&mut out, &mut taken, names, || ended(view, port, server));
        }
    }
    out
}

/// TLS ends here.
fn ended(view: &View<'_>, port: &Port, server: &Bound) -> Option<FilterChain> {
    let is_http = server.route_name().is_some();
    let filters = if is_http { http_filters(view, port, server)? } else { tcp::opaque(view, server)? };
    let socket = tls::server(server.tls()?, is_http);
    Some(FilterChain { transport_socket: Some(socket), ..chain("", filters) })
}

fn add(
    chains: &mut Vec<FilterChain>,
    taken: &mut BTreeSet<String>,
    names: Vec<String>,
    build: impl FnOnce() -> Option<FilterChain>,
) {
    // Any name at all is no condition.
    let names = if names.iter().any(|name| name == "*") { Vec::new() } else { names };
    let claims: BTreeSet<String> =
        if names.is_empty() { BTreeSet::from(["*".to_owned()]) } else { names.into_iter().collect() };
    if claims.iter().any(|name| taken.contains(name)) {
        return;
    }
    let Some(chain) = build() else { return };
    let matched = if claims.contains("*") {
        FilterChainMatch::default()
    } else {
        FilterChainMatch { server_names: claims.iter().cloned().collect(), ..Default::default() }
    };
    taken.extend(claims);
    chains.push(FilterChain { filter_chain_match: Some(matched), ..chain });
}
