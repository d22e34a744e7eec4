//! `ClusterLoadAssignment`: the endpoints of a cluster by priority and locality, as they are stated.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::address::Address as ProtoAddress;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{
    Address, HealthStatus, Locality as ProtoLocality, Pipe, SocketAddress,
};
use envoy_types::pb::envoy::config::endpoint::v3::cluster_load_assignment::Policy;
use envoy_types::pb::envoy::config::endpoint::v3::cluster_load_assignment::policy::DropOverload;
use envoy_types::pb::envoy::config::endpoint::v3::endpoint::{AdditionalAddress, HealthCheckConfig};
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint as ProtoEndpoint, LbEndpoint, LocalityLbEndpoints,
};

use crate::proto::{compact, enumeration};
use crate::refusal::Within;
use crate::wire::{bounded, positive};
use crate::{Fraction, Metadata, Refusal};

/// Envoy's default for `overprovisioning_factor`, in percent.
const OVERPROVISIONING: u32 = 140;
/// The last priority there can be: Envoy's limit.
const PRIORITY_MAX: u32 = 128;

/// Endpoints of a cluster.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// Name of the resource.
    pub name: String,
    /// Endpoints by locality and priority, in order; a pair may occur several times.
    pub localities: Vec<LocalityEndpoints>,
    /// Share of requests that is dropped (`drop_overloads`).
    pub drop: Fraction,
    /// Percent of its healthy share that a priority counts for: at 140, it takes all load while 5 of 7 are healthy.
    pub overprovisioning: u32,
    /// Endpoints older than this are not to be trusted.
    pub stale_after: Option<Duration>,
    /// A priority's health is told by weights, not by numbers of hosts.
    pub weighted_priority_health: bool,
}

/// Endpoints of one locality and priority.
#[derive(Clone, Debug)]
pub struct LocalityEndpoints {
    /// Where they are.
    pub locality: Arc<Locality>,
    /// Tried in ascending order.
    pub priority: u32,
    /// Share of the priority's load, where localities are weighted; without one it gets none.
    pub weight: u32,
    /// What is noted about it.
    pub metadata: Metadata,
    /// The endpoints.
    pub endpoints: Vec<Endpoint>,
}

/// A place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Locality {
    /// Region.
    pub region: Box<str>,
    /// Zone.
    pub zone: Box<str>,
    /// Part of the zone.
    pub sub_zone: Box<str>,
}

/// An endpoint.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Where it listens.
    pub address: EndpointAddress,
    /// Other addresses of the same endpoint, to be tried when the first does not answer.
    pub additional: Vec<SocketAddr>,
    /// Its name, if it has one.
    pub hostname: Box<str>,
    /// At least 1.
    pub weight: u32,
    /// What the control plane knows of its health.
    pub health: StatedHealth,
    /// What is noted about it.
    pub metadata: Metadata,
    /// How it is asked for its health.
    pub health_check: HealthCheckTarget,
}

/// Where an endpoint listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndpointAddress {
    /// At an address.
    Socket(SocketAddr),
    /// At the addresses that a name resolves to.
    Name(Box<str>, u16),
    /// At a Unix domain socket; a leading `@` means the abstract namespace.
    Pipe(Box<Path>),
}

/// What the control plane knows of an endpoint's health.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StatedHealth {
    /// Healthy, or nothing is known.
    #[default]
    Healthy,
    /// `UNHEALTHY`.
    Unhealthy,
    /// `DRAINING`: not to be chosen.
    Draining,
    /// `TIMEOUT`: not to be chosen.
    Timeout,
    /// Chosen when there are not enough healthy ones.
    Degraded,
}

/// How an endpoint is asked for its health, where that differs from how it is used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthCheckTarget {
    /// Another address.
    pub address: Option<SocketAddr>,
    /// Another port.
    pub port: Option<u16>,
    /// Value of the `host` header.
    pub hostname: Box<str>,
    /// It is not asked.
    pub disabled: bool,
}

impl Assignment {
    /// Compiles endpoints that all have addresses: a resource of the endpoint discovery service.
    pub fn compile_eds(proto: ClusterLoadAssignment) -> Result<Assignment, Refusal> {
        let place = format!("endpoints {}", proto.cluster_name);
        let compiled = Assignment::compile(proto).within(|| place.clone())?;
        if let Some((name, _)) = compiled.names().next() {
            return Err(Refusal::invalid(format!("{name:?} is no IP address")).within(place));
        }
        Ok(compiled)
    }

    /// Compiles endpoints, whose addresses may be names.
    pub(crate) fn compile(proto: ClusterLoadAssignment) -> Result<Assignment, Refusal> {
        let ClusterLoadAssignment { cluster_name, endpoints, named_endpoints, policy } = proto;
        let named_endpoints = &named_endpoints;
        refuse_if_set!(named_endpoints);
        let localities = endpoints.into_iter().enumerate();
        let localities = localities.map(|(place, locality)| {
            LocalityEndpoints::compile(locality).within(|| format!("endpoints[{place}]"))
        });
        let mut assignment = Assignment {
            name: cluster_name,
            localities: compact(localities.collect::<Result<_, _>>()?),
            drop: Fraction::NONE,
            overprovisioning: OVERPROVISIONING,
            stale_after: None,
            weighted_priority_health: false,
        };
        if let Some(policy) = policy {
            assignment.apply(&policy).within(|| "policy".into())?;
        }
        Ok(assignment)
    }

    fn apply(&mut self, policy: &Policy) -> Result<(), Refusal> {
        let Policy {
            drop_overloads,
            overprovisioning_factor,
            endpoint_stale_after,
            weighted_priority_health,
        } = policy;
        match drop_overloads.as_slice() {
            [] => {}
            [DropOverload { category: _, drop_percentage }] => {
                let share = drop_percentage.as_ref().map(Fraction::compile).transpose()?;
                self.drop = share.unwrap_or(Fraction::NONE);
            }
            _ => return Err(Refusal::invalid("drop_overloads: more than one category")),
        }
        let factor = bounded("overprovisioning_factor", overprovisioning_factor.as_ref(), 1..=u32::MAX)?;
        self.overprovisioning = factor.unwrap_or(OVERPROVISIONING);
        self.stale_after = positive("endpoint_stale_after", endpoint_stale_after.as_ref())?;
        self.weighted_priority_health = *weighted_priority_health;
        Ok(())
    }

    /// Names that must be resolved, with their ports, in order.
    pub fn names(&self) -> impl Iterator<Item = (&str, u16)> {
        let endpoints = self.localities.iter().flat_map(|locality| &locality.endpoints);
        endpoints.filter_map(|endpoint| match &endpoint.address {
            EndpointAddress::Name(name, port) => Some((&**name, *port)),
            EndpointAddress::Socket(_) | EndpointAddress::Pipe(_) => None,
        })
    }
}

impl LocalityEndpoints {
    fn compile(proto: LocalityLbEndpoints) -> Result<LocalityEndpoints, Refusal> {
        let LocalityLbEndpoints {
            locality,
            metadata,
            lb_endpoints,
            load_balancing_weight,
            priority,
            proximity,
            lb_config,
        } = proto;
        let proximity = &proximity;
        let lb_config = &lb_config;
        refuse_if_set!(proximity, lb_config);
        if priority > PRIORITY_MAX {
            return Err(Refusal::invalid(format!("priority {priority} is more than {PRIORITY_MAX}")));
        }
        let weight = bounded("load_balancing_weight", load_balancing_weight.as_ref(), 1..=u32::MAX)?;
        let endpoints = lb_endpoints.into_iter().enumerate();
        let endpoints = endpoints
            .map(|(place, endpoint)| Endpoint::compile(endpoint).within(|| format!("lb_endpoints[{place}]")));
        let endpoints = compact(endpoints.collect::<Result<Vec<_>, _>>()?);
        let total: u64 = endpoints.iter().map(|endpoint| u64::from(endpoint.weight)).sum();
        if total > u64::from(u32::MAX) {
            return Err(Refusal::invalid("weights add up to more than 2^32-1"));
        }
        Ok(LocalityEndpoints {
            locality: Arc::new(Locality::compile(locality)),
            priority,
            weight: weight.unwrap_or(0),
            metadata: Metadata::compile(metadata),
            endpoints,
        })
    }
}

impl Locality {
    fn compile(proto: Option<ProtoLocality>) -> Locality {
        let ProtoLocality { region, zone, sub_zone } = proto.unwrap_or_default();
        Locality { region: region.into(), zone: zone.into(), sub_zone: sub_zone.into() }
    }
}

impl Endpoint {
    fn compile(proto: LbEndpoint) -> Result<Endpoint, Refusal> {
        let LbEndpoint { health_status, metadata, load_balancing_weight, host_identifier } = proto;
        let endpoint = match host_identifier {
            Some(HostIdentifier::Endpoint(endpoint)) => endpoint,
            Some(HostIdentifier::EndpointName(_)) => return Err(Refusal::unsupported("endpoint_name")),
            None => return Err(Refusal::invalid("no endpoint")),
        };
        let ProtoEndpoint {
            address,
            health_check_config,
            hostname,
            additional_addresses,
            observability_name,
        } = endpoint;
        let observability_name = &observability_name;
        refuse_if_set!(observability_name);
        let weight = bounded("load_balancing_weight", load_balancing_weight.as_ref(), 1..=u32::MAX)?;
        let health = match enumeration(health_status, "health_status")? {
            HealthStatus::Unknown | HealthStatus::Healthy => StatedHealth::Healthy,
            HealthStatus::Unhealthy => StatedHealth::Unhealthy,
            HealthStatus::Draining => StatedHealth::Draining,
            HealthStatus::Timeout => StatedHealth::Timeout,
            HealthStatus::Degraded => StatedHealth::Degraded,
        };
        Ok(Endpoint {
            address: EndpointAddress::compile(address)?,
            additional: additional(additional_addresses).within(|| "additional_addresses".into())?,
            hostname: hostname.into(),
            weight: weight.unwrap_or(1),
            health,
            metadata: Metadata::compile(metadata),
            health_check: HealthCheckTarget::compile(health_check_config)
                .within(|| "health_check_config".into())?,
        })
    }
}

fn additional(all: Vec<AdditionalAddress>) -> Result<Vec<SocketAddr>, Refusal> {
    let addresses = all.into_iter().map(|AdditionalAddress { address }| ip(address));
    addresses.collect::<Result<_, _>>().map(compact)
}

fn ip(address: Option<Address>) -> Result<SocketAddr, Refusal> {
    match EndpointAddress::compile(address)? {
        EndpointAddress::Socket(address) => Ok(address),
        other => Err(Refusal::invalid(format!("{other:?} is no IP address"))),
    }
}

impl EndpointAddress {
    fn compile(proto: Option<Address>) -> Result<EndpointAddress, Refusal> {
        match proto.and_then(|address| address.address) {
            Some(ProtoAddress::SocketAddress(address)) => socket(address),
            Some(ProtoAddress::Pipe(Pipe { path, mode: _ })) if !path.is_empty() => {
                Ok(EndpointAddress::Pipe(Path::new(&path).into()))
            }
            Some(ProtoAddress::Pipe(_)) => Err(Refusal::invalid("a pipe without a path")),
            Some(ProtoAddress::EnvoyInternalAddress(_)) => {
                Err(Refusal::unsupported("envoy_internal_address"))
            }
            None => Err(Refusal::invalid("no address")),
        }
    }
}

fn socket(proto: SocketAddress) -> Result<EndpointAddress, Refusal> {
    let SocketAddress {
        protocol,
        address,
        resolver_name,
        ipv4_compat,
        network_namespace_filepath,
        port_specifier,
    } = proto;
    let protocol = &protocol;
    let resolver_name = &resolver_name;
    let ipv4_compat = &ipv4_compat;
    let network_namespace_filepath = &network_namespace_filepath;
    refuse_if_set!(protocol, resolver_name, ipv4_compat, network_namespace_filepath);
    let port = match port_specifier {
        None => 0,
        Some(PortSpecifier::PortValue(port)) => {
            u16::try_from(port).map_err(|_| Refusal::invalid(format!("port {port}")))?
        }
        Some(PortSpecifier::NamedPort(_)) => return Err(Refusal::unsupported("named_port")),
    };
    match address.parse::<IpAddr>() {
        Ok(ip) => Ok(EndpointAddress::Socket(SocketAddr::new(ip, port))),
        Err(_) if address.is_empty() => Err(Refusal::invalid("an empty address")),
        Err(_) => Ok(EndpointAddress::Name(address.into(), port)),
    }
}

impl HealthCheckTarget {
    fn compile(proto: Option<HealthCheckConfig>) -> Result<HealthCheckTarget, Refusal> {
        let Some(HealthCheckConfig { port_value, hostname, address, disable_active_health_check }) = proto
        else {
            return Ok(HealthCheckTarget::default());
        };
        let port = u16::try_from(port_value).map_err(|_| Refusal::invalid(format!("port {port_value}")))?;
        Ok(HealthCheckTarget {
            address: address.map(|address| ip(Some(address))).transpose()?,
            port: (port != 0).then_some(port),
            hostname: hostname.into(),
            disabled: disable_active_health_check,
        })
    }
}
