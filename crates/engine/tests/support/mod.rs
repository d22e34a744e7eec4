//! Clusters and endpoints for tests of balancing.

#![allow(dead_code, reason = "each test uses its part")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, DiscoveryType, EdsClusterConfig,
};
use envoy_types::pb::envoy::config::cluster::v3::load_balancing_policy::Policy;
use envoy_types::pb::envoy::config::cluster::v3::{Cluster as Proto, LoadBalancingPolicy};
use envoy_types::pb::envoy::config::core::v3::address::Address as AnyAddress;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{
    Address, HealthStatus, Locality as ProtoLocality, SocketAddress, TypedExtensionConfig,
};
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints,
};
use envoy_types::pb::google::protobuf::{Any, Duration as ProtoDuration, UInt32Value, UInt64Value};
use ostro_engine::balance::NothingResolved;
use ostro_engine::cluster::Assignment;
use ostro_engine::{Cluster, Upstream};
use prost::{Message, Name};

pub fn number(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

pub fn number64(value: u64) -> Option<UInt64Value> {
    Some(UInt64Value { value })
}

pub fn seconds(seconds: i64) -> Option<ProtoDuration> {
    Some(ProtoDuration { seconds, nanos: 0 })
}

pub fn any<M: Message + Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

pub fn discovery(kind: DiscoveryType) -> Option<ClusterDiscoveryType> {
    Some(ClusterDiscoveryType::Type(kind as i32))
}

pub fn policy<M: Message + Name>(config: &M) -> LoadBalancingPolicy {
    let config = TypedExtensionConfig { name: M::full_name(), typed_config: Some(any(config)) };
    LoadBalancingPolicy { policies: vec![Policy { typed_extension_config: Some(config) }] }
}

/// An EDS cluster.
pub fn cluster(name: &str) -> Proto {
    Proto {
        name: name.to_owned(),
        cluster_discovery_type: discovery(DiscoveryType::Eds),
        eds_cluster_config: Some(EdsClusterConfig::default()),
        ..Default::default()
    }
}

pub fn compiled(proto: Proto) -> Arc<Cluster> {
    Arc::new(Cluster::compile(proto).unwrap())
}

pub fn upstream(proto: Proto, assignment: &Assignment) -> Arc<Upstream> {
    let upstream = Upstream::new(compiled(proto));
    assert!(!upstream.is_known());
    upstream.set_endpoints(assignment, &NothingResolved, Duration::from_secs(900));
    assert!(upstream.is_known());
    Arc::new(upstream)
}

/// The address of a host by number.
pub fn at(number: u8) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, number / 10, number)), 80)
}

pub fn name(number: u8) -> String {
    at(number).to_string()
}

/// Hosts of a locality.
#[derive(Clone, Debug)]
pub struct Locality {
    pub zone: &'static str,
    pub priority: u32,
    /// 0: not set.
    pub weight: u32,
    /// Number of the first host.
    pub first: u8,
    pub weights: Vec<u32>,
    pub health: Vec<HealthStatus>,
}

impl Locality {
    pub fn of(weights: &[u32]) -> Locality {
        Locality {
            zone: "",
            priority: 0,
            weight: 0,
            first: 0,
            weights: weights.to_vec(),
            health: vec![HealthStatus::Healthy; weights.len()],
        }
    }

    fn proto(&self) -> LocalityLbEndpoints {
        let hosts = self.weights.iter().zip(&self.health).zip(self.first..);
        let hosts = hosts.map(|((weight, health), place)| LbEndpoint {
            // Priorities and localities have hosts of their own.
            ..endpoint(at(place + 100 * u8::try_from(self.priority).unwrap()), *weight, *health)
        });
        LocalityLbEndpoints {
            locality: Some(ProtoLocality { zone: self.zone.to_owned(), ..Default::default() }),
            lb_endpoints: hosts.collect(),
            load_balancing_weight: Some(self.weight).filter(|weight| *weight > 0).and_then(number),
            priority: self.priority,
            ..Default::default()
        }
    }
}

pub fn address(host: &str, port: u16) -> Address {
    Address {
        address: Some(AnyAddress::SocketAddress(SocketAddress {
            address: host.to_owned(),
            port_specifier: Some(PortSpecifier::PortValue(port.into())),
            ..Default::default()
        })),
    }
}

pub fn endpoint(at: SocketAddr, weight: u32, health: HealthStatus) -> LbEndpoint {
    let endpoint = Endpoint { address: Some(address(&at.ip().to_string(), at.port())), ..Default::default() };
    LbEndpoint {
        health_status: health as i32,
        load_balancing_weight: number(weight),
        host_identifier: Some(HostIdentifier::Endpoint(endpoint)),
        ..Default::default()
    }
}

pub fn load_assignment(localities: &[Locality]) -> ClusterLoadAssignment {
    ClusterLoadAssignment {
        cluster_name: "c".to_owned(),
        endpoints: localities.iter().map(Locality::proto).collect(),
        ..Default::default()
    }
}

pub fn endpoints(localities: &[Locality]) -> Assignment {
    Assignment::compile_eds(load_assignment(localities)).unwrap()
}
