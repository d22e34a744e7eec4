//! EDS: the endpoints of a cluster, by locality; and the endpoints that DNS clusters hold inline.
//!
//! Invariant: every name is answered, if need be with an assignment without endpoints; a proxy that waits for an
//! answer holds back the whole cluster.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3::{Address, HealthStatus, Locality as EnvoyLocality, Metadata};
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint as EnvoyEndpoint, LbEndpoint, LocalityLbEndpoints,
    lb_endpoint::HostIdentifier,
};
use ostro_api::destination_rule::Subset;
use ostro_mesh::View;
use ostro_mesh::model::{Endpoint, EndpointAddress, Health, Locality};
use ostro_names::Name;

use crate::cluster::{self, Discovery};
use crate::encode::{self, bytes, number, pipe, socket, structure, text};
use crate::locality;
use crate::names::ClusterName;
use crate::policy::Policy;
use crate::service::{self, Outbound};

/// What endpoints say their cluster is called while nothing configures it; Istio's own default.
const CLUSTER_ID: &str = "Kubernetes";

/// The assignment of this name; empty for a name that is not an EDS cluster of this proxy.
pub fn content(view: &View<'_>, name: Name) -> Bytes {
    bytes(&eds_assignment(view, name.as_str()).unwrap_or_else(|| empty(name.as_str())))
}

fn empty(name: &str) -> ClusterLoadAssignment {
    ClusterLoadAssignment { cluster_name: name.to_owned(), ..Default::default() }
}

fn eds_assignment(view: &View<'_>, name: &str) -> Option<ClusterLoadAssignment> {
    let ClusterName::Outbound { port, subset, host } = ClusterName::parse(name)? else { return None };
    let target = Outbound::find(view, host, port, subset)?;
    let policy = target.policy();
    if cluster::discovery(view, &target.service, &policy)? != Discovery::Eds {
        return None;
    }
    let mut endpoints = endpoints(view, &target);
    // Envoy refuses a whole assignment over one address that it would have to resolve.
    endpoints.retain(|endpoint| !matches!(endpoint.address, EndpointAddress::Dns(_)));
    Some(assignment(view, name, endpoints, &policy))
}

/// The endpoints of a DNS cluster; without any, the service's host itself is resolved.
pub(crate) fn dns_assignment(
    view: &View<'_>,
    name: &str,
    target: &Outbound,
    policy: &Policy<'_>,
) -> ClusterLoadAssignment {
    let service = &target.service;
    let declared = view.endpoints(service);
    if !declared.is_empty() || service.host.as_str().starts_with('*') {
        let mut endpoints = endpoints(view, target);
        // Nor does a resolved cluster take a socket that has no port.
        endpoints.retain(|endpoint| !matches!(endpoint.address, EndpointAddress::Unix(_)));
        return assignment(view, name, endpoints, policy);
    }
    single(name, socket(service.host.as_str(), target.port.number))
}

/// The proxy's own workload at its loopback address.
pub(crate) fn loopback(view: &View<'_>, name: &str, port: u16) -> ClusterLoadAssignment {
    let address = match view.families() {
        (false, true) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        _ => IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    single(name, socket(&address.to_string(), port))
}

fn single(name: &str, address: Address) -> ClusterLoadAssignment {
    let endpoint = LbEndpoint { host_identifier: Some(identifier(address)), ..Default::default() };
    let locality = LocalityLbEndpoints { lb_endpoints: vec![endpoint], ..Default::default() };
    ClusterLoadAssignment { cluster_name: name.to_owned(), endpoints: vec![locality], ..Default::default() }
}

fn identifier(address: Address) -> HostIdentifier {
    HostIdentifier::Endpoint(EnvoyEndpoint { address: Some(address), ..Default::default() })
}

/// The endpoints that take traffic for a port of a host: of the service itself and of its namesakes in the namespace
/// (several ServiceEntries for one host add up).
fn endpoints(view: &View<'_>, target: &Outbound) -> Vec<Endpoint> {
    let Outbound { service, port, .. } = target;
    let part = target.subset();
    let mut all = Vec::new();
    for namesake in service::meant(view, service.host) {
        let Some(own_port) = namesake.port(port.number) else { continue };
        if namesake.resolution != service.resolution {
            continue;
        }
        let ready = |endpoint: &Endpoint| match endpoint.health {
            Health::Healthy => true,
            Health::Unhealthy => namesake.publish_not_ready,
            Health::Draining => false,
        };
        all.extend(view.endpoints(&namesake).into_iter().filter(|endpoint| {
            endpoint.port_name == own_port.name
                && ready(endpoint)
                && part.is_none_or(|part| belongs(endpoint, part))
        }));
    }
    all
}

fn belongs(endpoint: &Endpoint, part: &Subset) -> bool {
    part.labels.iter().all(|(key, value)| endpoint.labels.get(key) == Some(value))
}

fn assignment(
    view: &View<'_>,
    name: &str,
    endpoints: Vec<Endpoint>,
    policy: &Policy<'_>,
) -> ClusterLoadAssignment {
    let mut by_place: BTreeMap<Locality, Vec<Endpoint>> = BTreeMap::new();
    for endpoint in endpoints {
        by_place.entry((*endpoint.locality).clone()).or_default().push(endpoint);
    }
    let groups = locality::arrange(view, by_place, policy);
    ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        endpoints: groups.into_iter().map(locality_endpoints).collect(),
        ..Default::default()
    }
}

fn locality_endpoints(group: locality::Group) -> LocalityLbEndpoints {
    let place = &group.place;
    let known = *place != Locality::default();
    LocalityLbEndpoints {
        locality: known.then(|| EnvoyLocality {
            region: place.region.clone(),
            zone: place.zone.clone(),
            sub_zone: place.subzone.clone(),
        }),
        lb_endpoints: group.endpoints.iter().map(lb_endpoint).collect(),
        load_balancing_weight: number(group.weight),
        priority: group.priority,
        ..Default::default()
    }
}

fn lb_endpoint(endpoint: &Endpoint) -> LbEndpoint {
    let address = match &endpoint.address {
        EndpointAddress::Ip(address) => socket(&address.to_string(), endpoint.port),
        EndpointAddress::Dns(name) => socket(name, endpoint.port),
        EndpointAddress::Unix(path) => pipe(path),
    };
    LbEndpoint {
        health_status: HealthStatus::Healthy as i32,
        metadata: metadata(endpoint),
        load_balancing_weight: number(endpoint.weight.max(1)),
        host_identifier: Some(identifier(address)),
    }
}

/// Who it is, for telemetry, and how to speak to it, for the choice of transport socket.
fn metadata(endpoint: &Endpoint) -> Option<Metadata> {
    let workload = &endpoint.workload;
    let mut namespaces = Vec::new();
    if !workload.name.is_empty() {
        let line = format!(
            "{};{};{};{};{CLUSTER_ID}",
            workload.name, workload.namespace, workload.canonical_name, workload.canonical_revision
        );
        namespaces.push(("istio", structure(vec![("workload", text(&line))])));
    }
    if endpoint.mtls {
        namespaces.push(("envoy.transport_socket_match", structure(vec![("tlsMode", text("istio"))])));
    }
    (!namespaces.is_empty()).then(|| encode::metadata(namespaces))
}
