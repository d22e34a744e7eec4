//! Outbound listeners of a sidecar, of Istio's names and shapes: the one that captured connections arrive at, and those
//! that it hands them to, by address and port.
//!
//! A listener is put together from what each service contributes, oldest first; what two claim is the older's. So HTTP
//! and opaque services share a port, told apart by what they speak, and Istio's table of listener conflicts needs no
//! code of its own.
//!
//! Invariant: nothing here asks for the proxy's own address, but for [`host_names`], which asks whether the proxy is
//! an endpoint of the host. All clients of a service share its listener.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use envoy_types::pb::envoy::config::listener::v3::{Filter, FilterChain, FilterChainMatch, Listener};
use ipnet::IpNet;
use ostro_api::mesh_config::OutboundMode;
use ostro_mesh::View;
use ostro_mesh::model::{
    EndpointAddress, ListenerClass, Protocol, Registry, Resolution, Service, ServicePort,
};
use ostro_names::{Host, Name};

use crate::chain_set::ChainSet;
use crate::encode::{cidr, number, socket, wrapped};
use crate::filters::{
    Direction, Routes, chain, http_connection_manager, http_network_filters, tcp_network_filters, tcp_proxy,
};
use crate::listener::{HTTP_ALPN, RAW_BUFFER, detection};
use crate::{access_log, names, service, tcp_routes};

/// Ports that listeners of the bootstrap hold at the wildcard address: readiness and metrics.
const BOOTSTRAP_PORTS: [u16; 2] = [15021, 15090];

/// Servers on these ports speak first: waiting there for the client's first bytes would wait forever.
const SERVER_FIRST_PORTS: [u16; 4] = [25, 53, 3306, 27017];

/// The listener for captured outbound connections.
pub fn virtual_outbound(view: &View<'_>) -> Listener {
    let mesh = view.mesh_config();
    let port = mesh.proxy_listen_port;
    let direct = FilterChain {
        // Somebody who connects here without having been captured would loop forever.
        filter_chain_match: Some(FilterChainMatch {
            destination_port: number(u32::from(port)),
            ..Default::default()
        }),
        ..chain("virtualOutbound-blackhole", opaque(view, names::BLACK_HOLE_CLUSTER))
    };
    let rest = chain("virtualOutbound-catchall-tcp", opaque(view, unknown_destination(view)));
    Listener {
        name: names::VIRTUAL_OUTBOUND.to_owned(),
        filter_chains: vec![direct, rest],
        use_original_dst: wrapped(true),
        access_log: access_log::of_listener(mesh),
        ..listener_at(view, wildcard(view), port)
    }
}

/// Bytes carried to a cluster.
fn opaque(view: &View<'_>, cluster: &str) -> Vec<Filter> {
    tcp_network_filters(view, Direction::Outbound, &tcp_proxy(view, cluster))
}

/// Where connections go that nothing in the mesh declares.
fn unknown_destination(view: &View<'_>) -> &'static str {
    match view.mesh_config().outbound_traffic_policy.mode {
        OutboundMode::RegistryOnly => names::BLACK_HOLE_CLUSTER,
        OutboundMode::AllowAny | OutboundMode::AllowAnyDynamicDns => names::PASSTHROUGH_CLUSTER,
    }
}

/// The wildcard address of the proxy's preferred family.
pub fn wildcard(view: &View<'_>) -> IpAddr {
    match view.families() {
        (false, true) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    }
}

/// Whether another listener has this port at the wildcard address.
fn is_taken(view: &View<'_>, port: u16) -> bool {
    let mesh = view.mesh_config();
    BOOTSTRAP_PORTS.contains(&port)
        || [mesh.proxy_listen_port, mesh.proxy_inbound_listen_port].contains(&port)
}

fn listener_at(view: &View<'_>, bind: IpAddr, port: u16) -> Listener {
    let mut listener = Listener {
        name: names::listener(bind, port),
        address: Some(socket(&bind.to_string(), port)),
        traffic_direction: TrafficDirection::Outbound as i32,
        ..Default::default()
    };
    crate::listener::both_families(view, &mut listener, bind, port);
    listener
}

/// Where a service's port listens.
#[derive(Debug, Clone, PartialEq)]
enum Place {
    /// At the wildcard address: HTTP, told apart by routes, and whatever has no address; the prefixes, if any, tell it
    /// apart.
    Wildcard(Vec<IpNet>),
    /// At each of these addresses.
    Addresses(Vec<IpAddr>),
    /// At each endpoint's address: Kubernetes headless services, whose clients choose the endpoint themselves.
    Endpoints,
}

/// Where `port` of `service` listens; `None` if nothing listens for it.
fn places(view: &View<'_>, service: &Service, port: &ServicePort) -> Option<Vec<Place>> {
    if matches!(service.resolution, Resolution::Alias(_) | Resolution::DynamicDns) {
        return None;
    }
    if port.protocol.class()? == ListenerClass::Http {
        return Some(vec![Place::Wildcard(Vec::new())]);
    }
    let mut addresses = view.addresses(service);
    if addresses.is_empty() {
        let by_endpoint = service.resolution == Resolution::Passthrough
            && (service.registry == Registry::Kubernetes || !view.endpoints(service).is_empty());
        return Some(vec![if by_endpoint { Place::Endpoints } else { Place::Wildcard(Vec::new()) }]);
    }
    // Addresses of a family that the proxy does not have cannot be gone to.
    let (v4, v6) = view.families();
    addresses.retain(|net| if net.addr().is_ipv4() { v4 || !v6 } else { v6 });
    let (single, wide): (Vec<IpNet>, Vec<IpNet>) =
        addresses.into_iter().partition(|net| net.prefix_len() == net.max_prefix_len());
    let mut places = Vec::new();
    if !single.is_empty() {
        places.push(Place::Addresses(single.iter().map(IpNet::addr).collect()));
    }
    if !wide.is_empty() {
        places.push(Place::Wildcard(wide.iter().map(IpNet::trunc).collect()));
    }
    Some(places)
}

/// The listeners that `host` contributes.
pub fn host_names(view: &View<'_>, host: Host) -> Vec<Name> {
    let mut all = Vec::new();
    for service in service::meant(view, host) {
        for port in &service.ports {
            for place in places(view, &service, port).into_iter().flatten() {
                match place {
                    Place::Wildcard(_) if is_taken(view, port.number) => {}
                    Place::Wildcard(_) => all.push(names::listener(wildcard(view), port.number)),
                    Place::Addresses(addresses) => {
                        all.extend(
                            addresses.into_iter().map(|address| names::listener(address, port.number)),
                        );
                    }
                    Place::Endpoints => all.extend(endpoint_names(view, &service, port)),
                }
            }
        }
    }
    names::sorted(all)
}

/// One listener per endpoint of a headless service, but none for the proxy's own workload: what it sends to itself is
/// not captured, and at that address the inbound side listens.
fn endpoint_names(view: &View<'_>, service: &Service, port: &ServicePort) -> Vec<String> {
    let own = view.own_addresses_behind(service.host);
    let listens = |address: &IpAddr| !own.contains(address);
    let endpoints = view.endpoints(service).into_iter().filter(|endpoint| endpoint.port_name == port.name);
    let addresses = endpoints.filter_map(|endpoint| match endpoint.address {
        EndpointAddress::Ip(address) => Some(address),
        EndpointAddress::Dns(_) | EndpointAddress::Unix(_) => None,
    });
    addresses.filter(listens).map(|address| names::listener(address, port.number)).collect()
}

/// What one service port puts into a listener.
struct Contribution {
    service: Arc<Service>,
    port: ServicePort,
    /// Prefixes by which the listener tells it apart.
    prefixes: Vec<IpNet>,
}

/// The listener at `bind` and `port`, if anything listens there.
pub fn content(view: &View<'_>, bind: IpAddr, port: u16) -> Option<Listener> {
    let at_wildcard = bind == wildcard(view);
    let mut contributions =
        if at_wildcard { at_any_address(view, port) } else { at_address(view, bind, port) };
    if contributions.is_empty() || (at_wildcard && is_taken(view, port)) {
        return None;
    }
    contributions.sort_by_key(|c| (c.service.age, c.service.host, c.service.registry));
    if SERVER_FIRST_PORTS.contains(&port) {
        keep_oldest_class(&mut contributions);
    }
    let chains = merged(view, &contributions, bind, at_wildcard);
    let (chains, rest) = chains.finish(|| fallthrough(view));
    let mut listener = listener_at(view, bind, port);
    listener.bind_to_port = wrapped(false);
    listener.default_filter_chain = rest;
    listener.filter_chains = chains;
    listener.access_log = access_log::of_listener(view.mesh_config());
    detection(view, &mut listener);
    Some(listener)
}

fn at_any_address(view: &View<'_>, port: u16) -> Vec<Contribution> {
    let mut all = Vec::new();
    for host in view.hosts_on_port(port) {
        for service in service::meant(view, host) {
            let Some(own) = service.port(port).cloned() else { continue };
            for place in places(view, &service, &own).into_iter().flatten() {
                if let Place::Wildcard(prefixes) = place {
                    all.push(Contribution { service: Arc::clone(&service), port: own.clone(), prefixes });
                }
            }
        }
    }
    all
}

fn at_address(view: &View<'_>, bind: IpAddr, port: u16) -> Vec<Contribution> {
    let mut hosts: Vec<Host> = view.hosts_at(bind).into_iter().collect();
    let served = view.instances_at(bind).into_iter().filter(|instance| instance.port.number == port);
    hosts.extend(served.map(|instance| instance.host));
    hosts.sort();
    hosts.dedup();
    let mut all = Vec::new();
    for host in hosts {
        for service in service::meant(view, host) {
            let Some(own) = service.port(port).cloned() else { continue };
            let here = places(view, &service, &own).into_iter().flatten().any(|place| match place {
                Place::Wildcard(_) => false,
                Place::Addresses(addresses) => addresses.contains(&bind),
                Place::Endpoints => view.endpoints(&service).iter().any(|endpoint| {
                    endpoint.address == EndpointAddress::Ip(bind) && endpoint.port_name == own.name
                }),
            });
            if here {
                all.push(Contribution { service, port: own, prefixes: Vec::new() });
            }
        }
    }
    all
}

/// Where nothing may be detected, the oldest decides whether the port is HTTP, and who disagrees is left out.
fn keep_oldest_class(contributions: &mut Vec<Contribution>) {
    let is_http = |c: &Contribution| c.port.protocol.class() == Some(ListenerClass::Http);
    let oldest = contributions.first().is_some_and(is_http);
    contributions.retain(|contribution| is_http(contribution) == oldest);
}

impl Contribution {
    fn is_http(&self) -> bool {
        matches!(self.port.protocol.class(), Some(ListenerClass::Http | ListenerClass::Auto))
    }

    fn is_opaque(&self) -> bool {
        matches!(self.port.protocol.class(), Some(ListenerClass::Tcp | ListenerClass::Auto))
    }
}

/// The chains of all contributions, older ones first. HTTP services of a port share one chain,
/// which is made once, be they thousands.
fn merged(view: &View<'_>, contributions: &[Contribution], bind: IpAddr, at_wildcard: bool) -> ChainSet {
    let grpc_web = contributions.iter().any(|contribution| contribution.port.protocol == Protocol::GrpcWeb);
    let mut chains = ChainSet::default();
    let mut http: Vec<&[IpNet]> = Vec::new();
    for contribution in contributions {
        if contribution.is_http() && !http.contains(&contribution.prefixes.as_slice()) {
            http.push(&contribution.prefixes);
            chains.add(http_chain(view, contribution, bind, at_wildcard, grpc_web));
        }
        if contribution.is_opaque() {
            let Contribution { service, port, prefixes } = contribution;
            for chain in tcp_routes::chains(view, service, port, prefixes, at_wildcard) {
                chains.add(chain);
            }
        }
    }
    chains
}

fn http_chain(
    view: &View<'_>,
    contribution: &Contribution,
    bind: IpAddr,
    at_wildcard: bool,
    grpc_web: bool,
) -> FilterChain {
    let port = contribution.port.number;
    let route =
        if at_wildcard { port.to_string() } else { names::service_route(contribution.service.host, port) };
    let prefix = format!("outbound_{}", names::listener(bind, port));
    let manager = http_connection_manager(view, Direction::Outbound, &prefix, Routes::Named(route), grpc_web);
    FilterChain {
        filter_chain_match: Some(FilterChainMatch {
            prefix_ranges: contribution.prefixes.iter().copied().map(cidr).collect(),
            transport_protocol: RAW_BUFFER.to_owned(),
            application_protocols: HTTP_ALPN.map(str::to_owned).to_vec(),
            ..Default::default()
        }),
        ..chain("", http_network_filters(view, Direction::Outbound, &manager))
    }
}

/// The chain for what no other takes.
fn fallthrough(view: &View<'_>) -> FilterChain {
    chain(names::PASSTHROUGH_CHAIN, opaque(view, unknown_destination(view)))
}
