//! CDS: clusters by name, of the types that Istio gives each kind of service, and which names a proxy has.
//!
//! Invariant: a cluster that cannot be made as its rule demands has no endpoints; it is never made otherwise.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use bytes::Bytes;
use envoy_types::pb::envoy::config::cluster::v3::{
    Cluster,
    cluster::{ClusterDiscoveryType, CustomClusterType, DiscoveryType, EdsClusterConfig, LbPolicy},
};
use envoy_types::pb::envoy::config::core::v3::{
    BindConfig, ExtraSourceAddress, Metadata, SocketAddress, socket_address,
};
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::extensions::clusters::common::dns::v3::DnsLookupFamily;
use envoy_types::pb::envoy::extensions::clusters::dns::v3::DnsCluster;
use envoy_types::pb::envoy::extensions::network::dns_resolver::cares::v3::CaresDnsResolverConfig;
use ostro_api::mesh_config::InboundMode;
use ostro_mesh::model::{Protocol, Resolution, Service, ServicePort, TrafficRule};
use ostro_mesh::{ProxyKind, View};
use ostro_names::{Host, Name, Namespace};

use crate::encode::{self, ads, any, bytes, duration, extension, number, sorted_map, structure, text};
use crate::http_options::{self, Options};
use crate::names::{self, ClusterName};
use crate::policy::Policy;
use crate::service::{self, Outbound};
use crate::upstream_tls::{self, Socket};
use crate::{Part, balancing, endpoint, telemetry};

/// Inbound connections come from here, so that the rules that capture traffic know them from the workload's own.
const INBOUND_SOURCE_V4: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 6);
const INBOUND_SOURCE_V6: Ipv6Addr = Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6);

/// ORIGINAL_DST hosts of inbound clusters are the workload's own address and never go away.
const INBOUND_CLEANUP: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Queries over one UDP socket before another is opened: some DNS servers stop answering a socket for good.
const DNS_QUERIES_PER_SOCKET: u32 = 100;
/// Spread of DNS refreshes.
const DNS_JITTER: Duration = Duration::from_millis(100);

/// The cluster of this name, if this proxy has it.
pub fn content(view: &View<'_>, name: Name) -> Option<Bytes> {
    let cluster = match ClusterName::parse(name.as_str())? {
        ClusterName::BlackHole => black_hole(view),
        ClusterName::Passthrough if is_sidecar(view) => {
            original_destination(view, names::PASSTHROUGH_CLUSTER)
        }
        ClusterName::InboundPassthrough if is_sidecar(view) => inbound_passthrough(view),
        ClusterName::Inbound(port) if is_sidecar(view) => inbound(view, name.as_str(), port)?,
        ClusterName::Outbound { port, subset, host } => outbound(view, name.as_str(), port, subset, host)?,
        _ => return None,
    };
    Some(bytes(&cluster))
}

/// The clusters that `part` contributes.
pub fn part_names(view: &View<'_>, part: Part) -> Vec<Name> {
    match part {
        Part::Fixed => {
            let sidecar = [names::PASSTHROUGH_CLUSTER, names::INBOUND_PASSTHROUGH_CLUSTER];
            let more = if is_sidecar(view) { &sidecar[..] } else { &[] };
            names::sorted([names::BLACK_HOLE_CLUSTER].iter().chain(more).map(|name| (*name).to_owned()))
        }
        Part::Inbound => {
            let ports =
                view.own_instances().into_iter().filter(|instance| instance.port.protocol != Protocol::Udp);
            names::sorted(ports.map(|instance| names::inbound(instance.target_port)))
        }
        Part::Gateways => Vec::new(),
        Part::Host(host) => host_names(view, host),
    }
}

fn host_names(view: &View<'_>, host: Host) -> Vec<Name> {
    let mut all = Vec::new();
    for service in service::meant(view, host) {
        if !has_clusters(&service) {
            continue;
        }
        let rule = view.traffic_rule(&service);
        let subsets =
            rule.iter().flat_map(|rule| rule.spec.subsets.iter().map(|subset| subset.name.as_str()));
        let subsets: Vec<&str> = std::iter::once("").chain(subsets).collect();
        for port in service.ports.iter().filter(|port| port.protocol != Protocol::Udp) {
            all.extend(subsets.iter().map(|subset| names::outbound(port.number, subset, host.as_str())));
        }
    }
    names::sorted(all)
}

fn is_sidecar(view: &View<'_>) -> bool {
    view.kind() == ProxyKind::Sidecar
}

/// An alias is served by the clusters of what it stands for. Wildcard names resolved by the proxy need the dynamic
/// forward proxy, which is not made yet.
fn has_clusters(service: &Service) -> bool {
    !matches!(service.resolution, Resolution::Alias(_) | Resolution::DynamicDns)
}

/// What all clusters have.
fn named(view: &View<'_>, name: &str, kind: DiscoveryType) -> Cluster {
    Cluster {
        name: name.to_owned(),
        alt_stat_name: names::stat_name(name),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(kind as i32)),
        connect_timeout: duration(view.mesh_config().connect_timeout),
        ..Default::default()
    }
}

fn black_hole(view: &View<'_>) -> Cluster {
    named(view, names::BLACK_HOLE_CLUSTER, DiscoveryType::Static)
}

fn original_destination(view: &View<'_>, name: &str) -> Cluster {
    let mut cluster = named(view, name, DiscoveryType::OriginalDst);
    cluster.lb_policy = LbPolicy::ClusterProvided as i32;
    cluster.circuit_breakers = Some(balancing::unlimited());
    set_http(&mut cluster, &Options::passthrough());
    cluster
}

fn inbound_passthrough(view: &View<'_>) -> Cluster {
    let mut cluster = original_destination(view, names::INBOUND_PASSTHROUGH_CLUSTER);
    cluster.upstream_bind_config = Some(inbound_source(view));
    cluster
}

fn inbound_source(view: &View<'_>) -> BindConfig {
    let source = |address: IpAddr| SocketAddress {
        address: address.to_string(),
        port_specifier: Some(socket_address::PortSpecifier::PortValue(0)),
        ..Default::default()
    };
    let (v4, v6) = view.families();
    let first = if v4 || !v6 { IpAddr::V4(INBOUND_SOURCE_V4) } else { IpAddr::V6(INBOUND_SOURCE_V6) };
    let second = (v4 && v6).then(|| ExtraSourceAddress {
        address: Some(source(IpAddr::V6(INBOUND_SOURCE_V6))),
        ..Default::default()
    });
    BindConfig {
        source_address: Some(source(first)),
        extra_source_addresses: second.into_iter().collect(),
        ..Default::default()
    }
}

fn set_http(cluster: &mut Cluster, options: &Options) {
    if let Some(encoded) = options.encode() {
        cluster.typed_extension_protocol_options = sorted_map(vec![(http_options::KEY, encoded)]);
    }
}

/// What the workload serves at `port`, reached at the address that the client asked for, or at the loopback address
/// if the mesh says so.
fn inbound(view: &View<'_>, name: &str, port: u16) -> Option<Cluster> {
    let mut instances = view.own_instances();
    instances.retain(|instance| instance.target_port == port && instance.port.protocol != Protocol::Udp);
    instances.sort_by_key(|instance| (instance.age, instance.host, instance.port.number));
    let first = instances.first()?;
    let local = view.mesh_config().inbound_traffic_policy.mode == InboundMode::Localhost;
    let mut cluster = if local {
        let mut cluster = named(view, name, DiscoveryType::Static);
        cluster.load_assignment = Some(endpoint::loopback(view, name, port));
        cluster
    } else {
        let mut cluster = named(view, name, DiscoveryType::OriginalDst);
        cluster.lb_policy = LbPolicy::ClusterProvided as i32;
        cluster.upstream_bind_config = Some(inbound_source(view));
        cluster.cleanup_interval = duration(INBOUND_CLEANUP);
        cluster
    };
    let fields = StatFields {
        host: first.host,
        service: first.service_name,
        namespace: first.namespace,
        port: &first.port,
        target_port: port.to_string(),
        subset: "",
    };
    let pattern = &view.mesh_config().inbound_cluster_stat_name;
    cluster.alt_stat_name = patterned_stat_name(pattern, name, &fields);
    cluster.circuit_breakers = Some(balancing::unlimited());
    set_http(&mut cluster, &Options::inbound(first.port.protocol));
    let mut services: Vec<_> =
        instances.iter().map(|instance| (instance.host, instance.service_name, instance.namespace)).collect();
    services.sort();
    services.dedup();
    let services = services
        .iter()
        .map(|(host, name, namespace)| service_value(host.as_str(), name.as_str(), namespace.as_str()));
    cluster.metadata = Some(istio(vec![("services", encode::list(services.collect()))]));
    Some(cluster)
}

fn service_value(host: &str, name: &str, namespace: &str) -> envoy_types::pb::google::protobuf::Value {
    encode::object(vec![("host", text(host)), ("name", text(name)), ("namespace", text(namespace))])
}

fn istio(fields: Vec<(&'static str, envoy_types::pb::google::protobuf::Value)>) -> Metadata {
    encode::metadata(vec![("istio", structure(fields))])
}

/// How the endpoints of an outbound cluster are found by this proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Discovery {
    Eds,
    Dns {
        /// One connection pool over whatever the name resolves to (LOGICAL_DNS), instead of one per address.
        logical: bool,
    },
    OriginalDestination,
}

/// Discovery of the clusters of `service` under `policy`; `None` if it has no clusters.
pub(crate) fn discovery(view: &View<'_>, service: &Service, policy: &Policy<'_>) -> Option<Discovery> {
    if balancing::is_passthrough(policy.load_balancer) && is_sidecar(view) {
        return has_clusters(service).then_some(Discovery::OriginalDestination);
    }
    match service.resolution {
        Resolution::ClientSide => Some(Discovery::Eds),
        Resolution::Dns => Some(Discovery::Dns { logical: false }),
        Resolution::DnsRoundRobin => Some(Discovery::Dns { logical: true }),
        // A gateway's client did not choose an address of the service, so there is none to keep.
        Resolution::Passthrough if is_sidecar(view) => Some(Discovery::OriginalDestination),
        Resolution::Passthrough => Some(Discovery::Eds),
        Resolution::Alias(_) | Resolution::DynamicDns => None,
    }
}

fn outbound(view: &View<'_>, name: &str, port: u16, subset_name: &str, host: Host) -> Option<Cluster> {
    let target = Outbound::find(view, host, port, subset_name)?;
    let Outbound { service, port, rule, .. } = &target;
    let policy = target.policy();
    let mut http = Options::outbound(view, port.protocol, policy.connection_pool);
    let names = &service.subject_alt_names;
    let socket = upstream_tls::transport(policy.tls, policy.proxy_protocol, names, &mut http);
    let mut cluster = match socket {
        Socket::Unavailable => named(view, name, DiscoveryType::Static),
        _ => reachable(view, name, &target, &policy)?,
    };
    balancing::apply(&mut cluster, &policy, view.mesh_config());
    if let Socket::Wrapped(socket) = socket {
        cluster.transport_socket = Some(*socket);
    }
    set_http(&mut cluster, &http);
    cluster.filters = telemetry::of_cluster(view);
    let fields = StatFields {
        host: service.host,
        service: service.name,
        namespace: service.namespace,
        port,
        target_port: String::new(),
        subset: subset_name,
    };
    let pattern = &view.mesh_config().outbound_cluster_stat_name;
    cluster.alt_stat_name = patterned_stat_name(pattern, name, &fields);
    cluster.metadata = Some(outbound_metadata(service, rule.as_deref(), subset_name, &policy));
    Some(cluster)
}

/// The cluster with its way to endpoints and its choice between them.
fn reachable(view: &View<'_>, name: &str, target: &Outbound, policy: &Policy<'_>) -> Option<Cluster> {
    let service = &target.service;
    let discovery = discovery(view, service, policy)?;
    let mut cluster = match discovery {
        Discovery::Eds => {
            let mut cluster = named(view, name, DiscoveryType::Eds);
            cluster.eds_cluster_config =
                Some(EdsClusterConfig { eds_config: Some(ads()), service_name: name.to_owned() });
            cluster
        }
        Discovery::Dns { logical } => {
            let mut cluster = named(view, name, DiscoveryType::StrictDns);
            cluster.cluster_discovery_type = Some(dns(view, logical));
            let mut assignment = endpoint::dns_assignment(view, name, target, policy);
            if logical {
                keep_first(&mut assignment);
                if assignment.endpoints.is_empty() {
                    return Some(named(view, name, DiscoveryType::Static));
                }
            }
            cluster.load_assignment = Some(assignment);
            cluster
        }
        Discovery::OriginalDestination => named(view, name, DiscoveryType::OriginalDst),
    };
    match discovery {
        Discovery::OriginalDestination => cluster.lb_policy = LbPolicy::ClusterProvided as i32,
        _ => balancing::load_balancer(&mut cluster, policy.load_balancer),
    }
    Some(cluster)
}

/// The DNS cluster extension: the same as STRICT_DNS and LOGICAL_DNS, whose fields Envoy has deprecated.
fn dns(view: &View<'_>, logical: bool) -> ClusterDiscoveryType {
    let family = match view.families() {
        (true, true) => DnsLookupFamily::All,
        (false, true) => DnsLookupFamily::V6Only,
        _ => DnsLookupFamily::V4Only,
    };
    let resolver =
        CaresDnsResolverConfig { udp_max_queries: number(DNS_QUERIES_PER_SOCKET), ..Default::default() };
    let config = DnsCluster {
        dns_refresh_rate: duration(view.mesh_config().dns_refresh_rate),
        respect_dns_ttl: true,
        dns_jitter: duration(DNS_JITTER),
        typed_dns_resolver_config: Some(extension("envoy.network.dns_resolver.cares", &resolver)),
        dns_lookup_family: family as i32,
        all_addresses_in_single_endpoint: logical,
        ..Default::default()
    };
    ClusterDiscoveryType::ClusterType(CustomClusterType {
        name: "envoy.clusters.dns".to_owned(),
        typed_config: Some(any(&config)),
    })
}

/// A logical DNS cluster has exactly one name, or Envoy refuses it: the nearest one.
fn keep_first(assignment: &mut ClusterLoadAssignment) {
    assignment.endpoints.sort_by_key(|locality| locality.priority);
    assignment.endpoints.truncate(1);
    if let Some(locality) = assignment.endpoints.first_mut() {
        locality.priority = 0;
        locality.lb_endpoints.truncate(1);
    }
}

fn outbound_metadata(
    service: &Service,
    rule: Option<&TrafficRule>,
    subset: &str,
    policy: &Policy<'_>,
) -> Metadata {
    let own = service_value(service.host.as_str(), service.name.as_str(), service.namespace.as_str());
    let mut fields = vec![("services", encode::list(vec![own]))];
    if let Some(rule) = rule {
        let path = format!(
            "/apis/networking.istio.io/v1/namespaces/{}/destination-rule/{}",
            rule.age.namespace, rule.age.name
        );
        fields.push(("config", text(&path)));
    }
    if !subset.is_empty() {
        fields.push(("subset", text(subset)));
    }
    if service.external {
        fields.push(("external", encode::boolean(true)));
    }
    if upstream_tls::is_users_own(policy.tls) {
        fields.push(("alpn_override", text("false")));
    }
    istio(fields)
}

/// What statistics call a cluster: MeshConfig `inboundClusterStatName` and `outboundClusterStatName` with their
/// placeholders filled in, or the cluster's name where there is no pattern.
fn patterned_stat_name(pattern: &str, name: &str, fields: &StatFields<'_>) -> String {
    if pattern.is_empty() {
        return names::stat_name(name);
    }
    let filled = pattern
        .replace("%SERVICE_FQDN%", fields.host.as_str())
        .replace("%SERVICE_NAME%", fields.service.as_str())
        .replace("%SERVICE_PORT_NAME%", fields.port.name.as_str())
        .replace("%SERVICE_PORT%", &fields.port.number.to_string())
        .replace("%TARGET_PORT%", &fields.target_port)
        .replace("%SERVICE%", &format!("{}.{}", fields.service, fields.namespace))
        .replace("%SUBSET_NAME%", fields.subset);
    names::stat_name(&filled)
}

/// What a pattern for statistics can name.
struct StatFields<'a> {
    host: Host,
    service: Name,
    namespace: Namespace,
    port: &'a ServicePort,
    /// Known to inbound clusters alone; empty elsewhere.
    target_port: String,
    subset: &'a str,
}
