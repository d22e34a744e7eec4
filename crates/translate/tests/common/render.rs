//! Resources as lines that a person can read and a test can compare.
#![allow(
    dead_code,
    reason = "every suite of this directory compiles this module and uses its own part of it"
)]

use std::collections::BTreeSet;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType, LbPolicy};
use envoy_types::pb::envoy::config::core::v3::{address::Address, socket_address::PortSpecifier};
use envoy_types::pb::envoy::config::endpoint::v3::{ClusterLoadAssignment, lb_endpoint::HostIdentifier};
use envoy_types::pb::envoy::config::listener::v3::{FilterChain, Listener, filter::ConfigType};
use envoy_types::pb::envoy::config::route::v3::{
    Route, RouteConfiguration, route::Action, route_action::ClusterSpecifier as To,
    route_match::PathSpecifier,
};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, http_connection_manager::RouteSpecifier,
};
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::{
    TcpProxy, tcp_proxy::ClusterSpecifier,
};
use ostro_mesh::{Proxy, Snapshot};
use ostro_translate::ResourceType;

use super::{listed, resource, unpack};

/// Everything a proxy gets, by type and name.
pub fn everything(snapshot: &Snapshot, proxy: &Proxy) -> String {
    let mut text = String::from("clusters\n");
    let mut eds = Vec::new();
    for name in listed(snapshot, proxy, ResourceType::Cluster) {
        let cluster: Cluster = resource(snapshot, proxy, ResourceType::Cluster, name);
        text.push_str(&format!("  {name}: {}\n", tell_cluster(&cluster)));
        if cluster.eds_cluster_config.is_some() {
            eds.push(name);
        }
    }
    text.push_str("endpoints\n");
    for name in eds {
        let assignment: ClusterLoadAssignment = resource(snapshot, proxy, ResourceType::Endpoint, name);
        text.push_str(&format!("  {name}: {}\n", tell_endpoints(&assignment)));
    }
    text.push_str("listeners\n");
    let mut routes = BTreeSet::new();
    for name in listed(snapshot, proxy, ResourceType::Listener) {
        let listener: Listener = resource(snapshot, proxy, ResourceType::Listener, name);
        text.push_str(&format!("  {name}\n"));
        for line in told(&listener) {
            text.push_str(&format!("    {line}\n"));
            routes.extend(line.split_once("-> routes ").map(|(_, name)| name.to_owned()));
        }
    }
    text.push_str("routes\n");
    for name in routes {
        let config: RouteConfiguration = resource(snapshot, proxy, ResourceType::Route, &name);
        text.push_str(&format!("  {name}\n"));
        for host in &config.virtual_hosts {
            text.push_str(&format!("    {} [{}]\n", host.name, host.domains.join(" ")));
            host.routes.iter().for_each(|route| text.push_str(&format!("      {}\n", tell_route(route))));
        }
    }
    text
}

fn tell_cluster(cluster: &Cluster) -> String {
    let kind = match &cluster.cluster_discovery_type {
        Some(ClusterDiscoveryType::Type(kind)) => {
            DiscoveryType::try_from(*kind).unwrap().as_str_name().to_owned()
        }
        Some(ClusterDiscoveryType::ClusterType(custom)) => custom.name.clone(),
        None => "none".to_owned(),
    };
    let mut words = vec![kind, LbPolicy::try_from(cluster.lb_policy).unwrap().as_str_name().to_owned()];
    words.extend(cluster.load_assignment.as_ref().map(tell_endpoints));
    words.extend(cluster.transport_socket.as_ref().map(|socket| socket.name.clone()));
    words.extend(cluster.outlier_detection.as_ref().map(|_| "outlier detection".to_owned()));
    words.join(", ")
}

fn tell_endpoints(assignment: &ClusterLoadAssignment) -> String {
    let mut groups = Vec::new();
    for group in &assignment.endpoints {
        let addresses = group.lb_endpoints.iter().map(|endpoint| {
            let Some(HostIdentifier::Endpoint(endpoint)) = &endpoint.host_identifier else {
                panic!("no address")
            };
            match endpoint.address.as_ref().unwrap().address.as_ref().unwrap() {
                Address::SocketAddress(socket) => match &socket.port_specifier {
                    Some(PortSpecifier::PortValue(port)) => format!("{}:{port}", socket.address),
                    _ => socket.address.clone(),
                },
                Address::Pipe(pipe) => pipe.path.clone(),
                other => format!("{other:?}"),
            }
        });
        let weight = group.load_balancing_weight.map_or(1, |weight| weight.value);
        groups.push(format!(
            "priority {} weight {weight} [{}]",
            group.priority,
            addresses.collect::<Vec<_>>().join(" ")
        ));
    }
    if groups.is_empty() { "none".to_owned() } else { groups.join(", ") }
}

/// `match -> where to`, one line per chain, the default chain last.
pub fn told(listener: &Listener) -> Vec<String> {
    listener.filter_chains.iter().chain(&listener.default_filter_chain).map(tell).collect()
}

fn tell(chain: &FilterChain) -> String {
    let matched = chain.filter_chain_match.clone().unwrap_or_default();
    let mut words: Vec<String> = Vec::new();
    words.extend(matched.destination_port.map(|port| format!("port {}", port.value)));
    for range in &matched.prefix_ranges {
        words.push(format!("{}/{}", range.address_prefix, range.prefix_len.unwrap().value));
    }
    words.extend(matched.server_names.iter().map(|name| format!("sni {name}")));
    words.extend(Some(matched.transport_protocol).filter(|transport| !transport.is_empty()));
    words.extend(matched.application_protocols);
    let name = if chain.name.is_empty() { String::new() } else { format!("[{}] ", chain.name) };
    format!("{name}{} -> {}", words.join(" "), destination(chain))
}

fn destination(chain: &FilterChain) -> String {
    let filter = chain.filters.last().unwrap();
    let Some(ConfigType::TypedConfig(any)) = &filter.config_type else { panic!("no config") };
    if filter.name == "envoy.filters.network.tcp_proxy" {
        return match unpack::<TcpProxy>(any).cluster_specifier.unwrap() {
            ClusterSpecifier::Cluster(name) => name,
            ClusterSpecifier::WeightedClusters(weighted) => {
                let parts = weighted.clusters.iter().map(|part| format!("{}*{}", part.weight, part.name));
                parts.collect::<Vec<_>>().join(" + ")
            }
        };
    }
    match unpack::<HttpConnectionManager>(any).route_specifier.unwrap() {
        RouteSpecifier::Rds(rds) => format!("routes {}", rds.route_config_name),
        RouteSpecifier::RouteConfig(config) => {
            let host = &config.virtual_hosts[0];
            format!("inline {} {}", config.name, host.name)
        }
        RouteSpecifier::ScopedRoutes(_) => panic!("scoped routes"),
    }
}

fn tell_route(route: &Route) -> String {
    let matched = route.r#match.as_ref().unwrap();
    let mut words = vec![match &matched.path_specifier {
        Some(PathSpecifier::Prefix(prefix)) => format!("{prefix}*"),
        Some(PathSpecifier::Path(path)) => path.clone(),
        Some(PathSpecifier::SafeRegex(regex)) => format!("~{}", regex.regex),
        other => format!("{other:?}"),
    }];
    words.extend(matched.headers.iter().map(|header| format!("header {}", header.name)));
    words.extend(matched.query_parameters.iter().map(|parameter| format!("query {}", parameter.name)));
    let action = match route.action.as_ref().unwrap() {
        Action::Route(action) => match action.cluster_specifier.as_ref().unwrap() {
            To::Cluster(name) => name.clone(),
            To::WeightedClusters(weighted) => {
                let parts = weighted.clusters.iter();
                let parts = parts.map(|part| format!("{}*{}", part.weight.map_or(0, |w| w.value), part.name));
                parts.collect::<Vec<_>>().join(" + ")
            }
            other => format!("{other:?}"),
        },
        Action::Redirect(redirect) => {
            format!("redirect {}{:?}", redirect.host_redirect, redirect.path_rewrite_specifier)
        }
        Action::DirectResponse(response) => format!("answer {}", response.status),
        other => format!("{other:?}"),
    };
    format!("{} -> {action}", words.join(" "))
}
