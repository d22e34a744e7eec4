//! The inbound listener of a sidecar (`virtualInbound`), in plaintext: TLS that arrives is the application's own.
//!
//! What it is not yet: mutual TLS. [`port_chains`] is where its chains join those of plaintext, by the mode in force.
//!
//! Invariant: the protocol of a port that is declared is not detected, so a server that speaks first is not kept
//! waiting.

use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use envoy_types::pb::envoy::config::listener::v3::{
    Filter, FilterChain, FilterChainMatch, Listener, ListenerFilter,
    ListenerFilterChainMatchPredicate as Predicate,
    listener_filter_chain_match_predicate::{MatchSet, Rule},
};
use envoy_types::pb::envoy::config::route::v3::{
    Decorator, RetryPolicy, Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost, route,
    route_action, route_match,
};
use envoy_types::pb::envoy::r#type::v3::Int32Range;
use ostro_mesh::View;
use ostro_mesh::model::{Instance, ListenerClass};

use crate::encode::{duration, number, socket, wrapped};
use crate::filters::{
    Direction, Routes, chain, http_connection_manager, http_inspector, http_network_filters, original_dst,
    tcp_network_filters, tcp_proxy, tls_inspector,
};
use crate::listener::{HTTP_ALPN, RAW_BUFFER, both_families, give_up};
use crate::outbound::wildcard;
use crate::{access_log, names};

/// How often an inbound request is sent again that the workload's connection lost before it was read.
const RETRIES: u32 = 2;

/// The listener for captured inbound connections.
pub fn virtual_inbound(view: &View<'_>) -> Listener {
    let mesh = view.mesh_config();
    let port = mesh.proxy_inbound_listen_port;
    let bind = wildcard(view);
    let served = served_ports(view);
    let direct = FilterChain {
        filter_chain_match: Some(to_port(port)),
        ..chain("virtualInbound-blackhole", opaque(view, names::BLACK_HOLE_CLUSTER))
    };
    let mut chains = vec![direct];
    chains.extend(undeclared_chains(view));
    chains.extend(served.iter().flat_map(|instance| port_chains(view, instance)));
    let mut listener = Listener {
        name: names::VIRTUAL_INBOUND.to_owned(),
        address: Some(socket(&bind.to_string(), port)),
        traffic_direction: TrafficDirection::Inbound as i32,
        filter_chains: chains,
        listener_filters: listener_filters(port, &served),
        access_log: access_log::of_listener(mesh),
        ..Default::default()
    };
    give_up(view, &mut listener);
    both_families(view, &mut listener, bind, port);
    listener
}

/// What the workload serves, one instance per port: the oldest service's where several share it.
fn served_ports(view: &View<'_>) -> Vec<Instance> {
    let mut instances = view.own_instances();
    instances.retain(|instance| instance.port.protocol.class().is_some());
    instances
        .sort_by_key(|instance| (instance.target_port, instance.age, instance.host, instance.port.number));
    instances.dedup_by_key(|instance| instance.target_port);
    instances
}

/// Ports that no service declares: HTTP where it is seen, opaque otherwise.
fn undeclared_chains(view: &View<'_>) -> [FilterChain; 3] {
    let cluster = names::INBOUND_PASSTHROUGH_CLUSTER;
    let routes = routes(cluster, "inbound|http|0", cluster, ":0/*", false);
    let http = FilterChain {
        filter_chain_match: Some(plaintext_http(FilterChainMatch::default())),
        ..chain("virtualInbound-catchall-http", http_filters(view, cluster, routes))
    };
    let opaque = chain(names::VIRTUAL_INBOUND, opaque(view, cluster));
    let plain =
        FilterChain { filter_chain_match: Some(plaintext(FilterChainMatch::default())), ..opaque.clone() };
    [http, plain, opaque]
}

/// The chains of one port.
fn port_chains(view: &View<'_>, instance: &Instance) -> Vec<FilterChain> {
    let port = instance.target_port;
    let name = names::listener(wildcard(view), port);
    let cluster = names::inbound(port);
    let chain_for = |matched: FilterChainMatch, filters| FilterChain {
        filter_chain_match: Some(matched),
        ..chain(&name, filters)
    };
    let http = || {
        let host = format!("inbound|http|{}", instance.port.number);
        let operation = format!("{}:{}/*", instance.host, instance.port.number);
        // A retry of a stream that HTTP/2 reset is the client's to decide.
        let retry = !instance.port.protocol.is_http2();
        http_filters(view, &format!("inbound_{name}"), routes(&cluster, &host, &cluster, &operation, retry))
    };
    let tcp = || opaque(view, &cluster);
    match instance.port.protocol.class() {
        Some(ListenerClass::Http) => vec![chain_for(to_port(port), http())],
        Some(ListenerClass::Tcp) => vec![chain_for(to_port(port), tcp())],
        Some(ListenerClass::Auto) => {
            vec![
                chain_for(plaintext_http(to_port(port)), http()),
                chain_for(plaintext(to_port(port)), tcp()),
                chain_for(to_port(port), tcp()),
            ]
        }
        None => Vec::new(),
    }
}

fn to_port(port: u16) -> FilterChainMatch {
    FilterChainMatch { destination_port: number(u32::from(port)), ..Default::default() }
}

/// Plaintext in which no HTTP was seen. Once some chain demands plaintext, Envoy offers plaintext to no chain that
/// demands no transport, so beside [`plaintext_http`] this is not implied by saying nothing.
fn plaintext(matched: FilterChainMatch) -> FilterChainMatch {
    FilterChainMatch { transport_protocol: RAW_BUFFER.to_owned(), ..matched }
}

fn plaintext_http(matched: FilterChainMatch) -> FilterChainMatch {
    FilterChainMatch { application_protocols: HTTP_ALPN.map(str::to_owned).to_vec(), ..plaintext(matched) }
}

fn http_filters(view: &View<'_>, stat_prefix: &str, routes: RouteConfiguration) -> Vec<Filter> {
    let routes = Routes::Inline(Box::new(routes));
    let manager = http_connection_manager(view, Direction::Inbound, stat_prefix, routes, false);
    http_network_filters(view, Direction::Inbound, &manager)
}

/// Bytes carried to a cluster.
fn opaque(view: &View<'_>, cluster: &str) -> Vec<Filter> {
    tcp_network_filters(view, Direction::Inbound, &tcp_proxy(view, cluster))
}

/// Every request to one cluster, for as long as it takes: whoever called has its own timeouts.
fn routes(name: &str, virtual_host: &str, cluster: &str, operation: &str, retry: bool) -> RouteConfiguration {
    let unlimited = route_action::MaxStreamDuration {
        max_stream_duration: duration(Duration::ZERO),
        grpc_timeout_header_max: duration(Duration::ZERO),
        ..Default::default()
    };
    let retry_policy = retry.then(|| RetryPolicy {
        retry_on: "reset-before-request".to_owned(),
        num_retries: number(RETRIES),
        ..Default::default()
    });
    let action = RouteAction {
        cluster_specifier: Some(route_action::ClusterSpecifier::Cluster(cluster.to_owned())),
        timeout: duration(Duration::ZERO),
        max_stream_duration: Some(unlimited),
        retry_policy,
        ..Default::default()
    };
    let route = Route {
        name: "default".to_owned(),
        r#match: Some(RouteMatch {
            path_specifier: Some(route_match::PathSpecifier::Prefix("/".to_owned())),
            ..Default::default()
        }),
        decorator: Some(Decorator { operation: operation.to_owned(), propagate: None }),
        action: Some(route::Action::Route(action)),
        ..Default::default()
    };
    let host = VirtualHost {
        name: virtual_host.to_owned(),
        domains: vec!["*".to_owned()],
        routes: vec![route],
        ..Default::default()
    };
    RouteConfiguration {
        name: name.to_owned(),
        virtual_hosts: vec![host],
        validate_clusters: wrapped(false),
        ..Default::default()
    }
}

/// Where a connection was going, and what it speaks; the latter only where a port's protocol is not declared.
fn listener_filters(own_port: u16, served: &[Instance]) -> Vec<ListenerFilter> {
    let declared =
        served.iter().filter(|instance| instance.port.protocol.class() != Some(ListenerClass::Auto));
    let mut known: Vec<u16> =
        std::iter::once(own_port).chain(declared.map(|instance| instance.target_port)).collect();
    known.sort_unstable();
    known.dedup();
    let detecting =
        |filter: ListenerFilter| ListenerFilter { filter_disabled: any_port_of(&known), ..filter };
    vec![original_dst(), detecting(tls_inspector()), detecting(http_inspector())]
}

fn any_port_of(ports: &[u16]) -> Option<Predicate> {
    let port = |port: &u16| Predicate {
        rule: Some(Rule::DestinationPortRange(Int32Range {
            start: i32::from(*port),
            end: i32::from(*port) + 1,
        })),
    };
    let mut rules: Vec<Predicate> = ports.iter().map(port).collect();
    if rules.len() < 2 {
        return rules.pop();
    }
    Some(Predicate { rule: Some(Rule::OrMatch(MatchSet { rules })) })
}
