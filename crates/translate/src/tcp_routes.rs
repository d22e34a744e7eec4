//! Filter chains for opaque connections to a service: `tls` and `tcp` rules of VirtualServices, or the service itself.
//!
//! What it is not: the judge of chains that claim the same connections (`chain_set`).

use std::net::IpAddr;
use std::sync::Arc;

use envoy_types::pb::envoy::config::listener::v3::{Filter, FilterChain, FilterChainMatch};
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::{TcpProxy, tcp_proxy};
use envoy_types::pb::envoy::r#type::v3::{HashPolicy, hash_policy};
use ipnet::IpNet;
use ostro_api::destination_rule::TunnelSettings;
use ostro_api::virtual_service::{L4MatchAttributes, RouteDestination, TlsMatchAttributes};
use ostro_mesh::model::{Labels, RouteRules, Service, ServicePort, Visibility};
use ostro_mesh::{ProxyKind, View};
use ostro_names::{Host, Namespace};

use crate::encode::{cidr, duration};
use crate::filters::{Direction, chain, tcp_network_filters, tcp_proxy};
use crate::names;
use crate::policy::{Policy, subset};
use crate::routes::{MESH, destination};

/// The chains of `port` of `service`. `prefixes` are those of the service that the listener must tell apart (none
/// where its address says it all); `by_name` demands the server name of TLS, where no address says whose it is.
pub fn chains(
    view: &View<'_>,
    service: &Service,
    port: &ServicePort,
    prefixes: &[IpNet],
    by_name: bool,
) -> Vec<FilterChain> {
    let rules = rules_for(view, service.host);
    let scope = Scope { view, service, port, prefixes };
    if port.protocol.is_tls() { scope.tls_chains(&rules, by_name) } else { scope.tcp_chains(&rules) }
}

/// The VirtualServices for `host` as a destination of opaque traffic: those for the host itself, else those for the
/// longest wildcard that covers it.
fn rules_for(view: &View<'_>, host: Host) -> Vec<Arc<RouteRules>> {
    let exact = view.mesh_routes(host);
    if !exact.is_empty() {
        return exact;
    }
    let mut rest = host.as_str();
    while let Some((_, parent)) = rest.split_once('.') {
        let rules = view.mesh_routes(Host::new(&format!("*.{parent}")));
        if !rules.is_empty() {
            return rules;
        }
        rest = parent;
    }
    view.mesh_routes(Host::new("*"))
}

struct Scope<'a> {
    view: &'a View<'a>,
    service: &'a Service,
    port: &'a ServicePort,
    prefixes: &'a [IpNet],
}

impl Scope<'_> {
    fn tls_chains(&self, rules: &[Arc<RouteRules>], by_name: bool) -> Vec<FilterChain> {
        let mut chains: Vec<FilterChain> = Vec::new();
        for rule in rules {
            for route in &rule.spec.tls {
                for condition in route.r#match.iter().filter(|condition| self.tls_applies(condition)) {
                    let prefixes = self.subnets(&condition.destination_subnets);
                    let matched = chain_match(&prefixes, &condition.sni_hosts);
                    chains.push(conditional(
                        matched,
                        routed(self.view, &route.route, rule.age.namespace, self.port.number),
                    ));
                }
            }
        }
        if chains.is_empty() {
            let names = if by_name { vec![self.service.host.as_str().to_owned()] } else { Vec::new() };
            chains.push(conditional(chain_match(self.prefixes, &names), self.direct()));
        }
        chains
    }

    fn tcp_chains(&self, rules: &[Arc<RouteRules>]) -> Vec<FilterChain> {
        let mut chains: Vec<FilterChain> = Vec::new();
        for rule in rules {
            for route in &rule.spec.tcp {
                let conditions: Vec<_> =
                    route.r#match.iter().filter(|condition| self.tcp_applies(condition)).collect();
                if !route.r#match.is_empty() && conditions.is_empty() {
                    continue;
                }
                let filters = routed(self.view, &route.route, rule.age.namespace, self.port.number);
                if conditions.iter().all(|condition| !condition.destination_subnets.is_empty())
                    && !conditions.is_empty()
                {
                    let subnets: Vec<String> = conditions
                        .iter()
                        .flat_map(|condition| condition.destination_subnets.clone())
                        .collect();
                    chains.push(conditional(chain_match(&self.subnets(&subnets), &[]), filters));
                } else {
                    // Without a subnet it takes every connection of the service: nothing after it is reached.
                    chains.push(conditional(chain_match(self.prefixes, &[]), filters));
                    return chains;
                }
            }
        }
        chains.push(conditional(chain_match(self.prefixes, &[]), self.direct()));
        chains
    }

    fn tls_applies(&self, condition: &TlsMatchAttributes) -> bool {
        self.applies(
            condition.port,
            &condition.gateways,
            &condition.source_labels,
            &condition.source_namespace,
        )
    }

    fn tcp_applies(&self, condition: &L4MatchAttributes) -> bool {
        self.applies(
            condition.port,
            &condition.gateways,
            &condition.source_labels,
            &condition.source_namespace,
        )
    }

    /// Whether a condition's static part holds for this proxy and port: VirtualService
    /// `gateways`, `port`, `sourceLabels` and `sourceNamespace`, which Istio too decides in the control plane.
    fn applies(&self, port: Option<u16>, gateways: &[String], labels: &Labels, namespace: &str) -> bool {
        port.is_none_or(|port| port == self.port.number)
            && (gateways.is_empty() || gateways.iter().any(|gateway| gateway == MESH))
            && self.view.labels_contain(labels)
            && (namespace.is_empty()
                || self.view.sees(&Visibility::Namespaces(vec![Namespace::new(namespace)])))
    }

    /// The subnets that a rule demands, or those of the service where it demands none.
    fn subnets(&self, written: &[String]) -> Vec<IpNet> {
        if written.is_empty() {
            return self.prefixes.to_vec();
        }
        let parse = |text: &String| {
            text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
        };
        let mut subnets: Vec<IpNet> = written.iter().filter_map(parse).map(|net| net.trunc()).collect();
        subnets.sort();
        subnets.dedup();
        subnets
    }

    /// To the service itself.
    fn direct(&self) -> Vec<Filter> {
        let cluster = names::outbound(self.port.number, "", self.service.host.as_str());
        let mut proxy = tcp_proxy(self.view, &cluster);
        obey_rule(self.view, &mut proxy, self.service, self.port.number, "");
        tcp_network_filters(self.view, Direction::Outbound, &proxy)
    }
}

/// To the destinations of a rule that was written in `namespace`, by weight, on a listener of `port`.
pub fn routed(view: &View<'_>, route: &[RouteDestination], namespace: Namespace, port: u16) -> Vec<Filter> {
    let target = |route: &RouteDestination| {
        let target = destination::target(view, route.destination.as_ref()?, namespace, port)?;
        Some((target, route.weight))
    };
    let mut targets: Vec<_> = route.iter().filter_map(target).collect();
    // Of several, those without weight get nothing; one alone gets everything whatever its weight.
    if targets.len() > 1 {
        targets.retain(|(_, weight)| *weight > 0);
    }
    let proxy = match targets.as_slice() {
        [] => tcp_proxy(view, names::BLACK_HOLE_CLUSTER),
        [(only, _)] => {
            let mut proxy = tcp_proxy(view, &only.cluster);
            if let Some(service) = &only.service {
                obey_rule(view, &mut proxy, service, only.port, &only.subset);
            }
            proxy
        }
        [(first, _), ..] => {
            let weighted =
                targets.iter().map(|(target, weight)| tcp_proxy::weighted_cluster::ClusterWeight {
                    name: target.cluster.clone(),
                    weight: *weight,
                    ..Default::default()
                });
            let clusters = tcp_proxy::WeightedCluster { clusters: weighted.collect() };
            let mut proxy = TcpProxy {
                cluster_specifier: Some(tcp_proxy::ClusterSpecifier::WeightedClusters(clusters)),
                ..tcp_proxy(view, &first.cluster)
            };
            // One filter serves them all: the first's rule speaks for all, as in Istio.
            if let Some(service) = &first.service {
                obey_rule(view, &mut proxy, service, first.port, &first.subset);
            }
            proxy
        }
    };
    let direction = if view.kind() == ProxyKind::Sidecar { Direction::Outbound } else { Direction::Gateway };
    tcp_network_filters(view, direction, &proxy)
}

/// What a DestinationRule says about connections rather than clusters: idle time, age, affinity, tunnel.
fn obey_rule(view: &View<'_>, proxy: &mut TcpProxy, service: &Service, port: u16, subset_name: &str) {
    let Some(rule) = view.traffic_rule(service) else { return };
    let policy = Policy::of(&rule.spec, subset(&rule.spec, subset_name), port);
    if let Some(tcp) = policy.connection_pool.and_then(|pool| pool.tcp.as_ref()) {
        proxy.idle_timeout = tcp.idle_timeout.and_then(duration);
        proxy.max_downstream_connection_duration = tcp.max_connection_duration.and_then(duration);
    }
    let hash = policy.load_balancer.and_then(|lb| lb.consistent_hash.as_ref());
    if hash.is_some_and(|hash| hash.use_source_ip == Some(true)) {
        let by_source = hash_policy::PolicySpecifier::SourceIp(hash_policy::SourceIp {});
        proxy.hash_policy = vec![HashPolicy { policy_specifier: Some(by_source) }];
    }
    proxy.tunneling_config = policy.tunnel.map(tunneling);
}

fn tunneling(tunnel: &TunnelSettings) -> tcp_proxy::TunnelingConfig {
    tcp_proxy::TunnelingConfig {
        hostname: format!("{}:{}", tunnel.target_host, tunnel.target_port),
        use_post: tunnel.protocol == "POST",
        ..Default::default()
    }
}

fn chain_match(prefixes: &[IpNet], server_names: &[String]) -> FilterChainMatch {
    // Envoy has no word for "any name" but silence.
    let any = server_names.iter().any(|name| name == "*");
    FilterChainMatch {
        prefix_ranges: prefixes.iter().copied().map(cidr).collect(),
        server_names: if any {
            Vec::new()
        } else {
            server_names.iter().map(|name| name.to_ascii_lowercase()).collect()
        },
        ..Default::default()
    }
}

/// A chain under a condition.
fn conditional(matched: FilterChainMatch, filters: Vec<Filter>) -> FilterChain {
    let matched = (matched != FilterChainMatch::default()).then_some(matched);
    FilterChain { filter_chain_match: matched, ..chain("", filters) }
}
