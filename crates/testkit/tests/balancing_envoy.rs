//! The engine's choice by hash against stock Envoy's: the same clusters given to both as the same bytes, the same hashes
//! asked of both. Nothing listens where the hosts are: Envoy says which one it tried.
//!
//! What is held against each other: places on rings and in Maglev tables, by weight, by locality, by names; which
//! priority a hash falls to; which hosts are used in panic. What cannot be: choices that Envoy draws at random.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test's helpers fail the test by panicking")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::Cluster as Proto;
use envoy_types::pb::envoy::config::cluster::v3::cluster::common_lb_config::{
    ConsistentHashingLbConfig, LocalityConfigSpecifier, LocalityWeightedLbConfig,
};
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, CommonLbConfig, DiscoveryType, LbConfig, LbPolicy, MaglevLbConfig, RingHashLbConfig,
};
use envoy_types::pb::envoy::config::core::v3::address::Address as AnyAddress;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{Address, HealthStatus, Locality, SocketAddress};
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints,
};
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryResponse;
use envoy_types::pb::envoy::r#type::v3::Percent;
use envoy_types::pb::google::protobuf::{UInt32Value, UInt64Value};
use envoy_types::util::pack_any;
use ostro_engine::balance::NothingResolved;
use ostro_engine::{Choice, Cluster, Picker, Upstream};
use ostro_testkit::envoy::{Envoy, START_LIMIT};
use prost::Message;
use serde_json::{Value, json};
use xxhash_rust::xxh64::xxh64;

/// Hashes asked of each cluster.
const HASHES: usize = 300;

/// Hosts of a locality: weight and health of each.
struct Group {
    zone: &'static str,
    priority: u32,
    weight: Option<u32>,
    hosts: Vec<(u32, HealthStatus)>,
}

fn group(hosts: &[u32]) -> Group {
    let hosts = hosts.iter().map(|weight| (*weight, HealthStatus::Healthy)).collect();
    Group { zone: "", priority: 0, weight: None, hosts }
}

/// So many of ten hosts are healthy, some of the others degraded.
fn sick(priority: u32, healthy: usize, degraded: usize) -> Group {
    let health = |place| match place {
        place if place < healthy => HealthStatus::Healthy,
        place if place < healthy + degraded => HealthStatus::Degraded,
        _ => HealthStatus::Unhealthy,
    };
    Group { priority, hosts: (0..10).map(|place| (1, health(place))).collect(), ..group(&[]) }
}

fn assignment(name: &str, groups: &[Group]) -> ClusterLoadAssignment {
    let mut number = 0;
    let mut endpoint = |(weight, health): &(u32, HealthStatus)| {
        number += 1;
        let address = SocketAddress {
            address: format!("127.77.{}.{}", number / 200, number % 200 + 1),
            // Nothing listens at port 9, the discard service, any more.
            port_specifier: Some(PortSpecifier::PortValue(9)),
            ..Default::default()
        };
        let endpoint = Endpoint {
            address: Some(Address { address: Some(AnyAddress::SocketAddress(address)) }),
            // In another order than the addresses.
            hostname: format!("host-{}.test", 150 - number),
            ..Default::default()
        };
        LbEndpoint {
            host_identifier: Some(HostIdentifier::Endpoint(endpoint)),
            health_status: *health as i32,
            load_balancing_weight: Some(UInt32Value { value: *weight }),
            ..Default::default()
        }
    };
    let mut locality = |group: &Group| LocalityLbEndpoints {
        locality: Some(Locality { zone: group.zone.to_owned(), ..Default::default() }),
        lb_endpoints: group.hosts.iter().map(&mut endpoint).collect(),
        priority: group.priority,
        load_balancing_weight: group.weight.map(|value| UInt32Value { value }),
        ..Default::default()
    };
    ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        endpoints: groups.iter().map(&mut locality).collect(),
        ..Default::default()
    }
}

fn ring(least: Option<u64>, most: Option<u64>) -> Proto {
    let size = |value: Option<u64>| value.map(|value| UInt64Value { value });
    let config = RingHashLbConfig {
        minimum_ring_size: size(least),
        maximum_ring_size: size(most),
        ..Default::default()
    };
    Proto {
        lb_policy: LbPolicy::RingHash as i32,
        lb_config: Some(LbConfig::RingHashLbConfig(config)),
        ..Default::default()
    }
}

fn maglev(size: u64) -> Proto {
    let config = MaglevLbConfig { table_size: Some(UInt64Value { value: size }) };
    Proto {
        lb_policy: LbPolicy::Maglev as i32,
        lb_config: Some(LbConfig::MaglevLbConfig(config)),
        ..Default::default()
    }
}

fn common(proto: Proto, change: impl FnOnce(&mut CommonLbConfig)) -> Proto {
    let mut common = proto.common_lb_config.clone().unwrap_or_default();
    change(&mut common);
    Proto { common_lb_config: Some(common), ..proto }
}

fn by_locality(proto: Proto) -> Proto {
    let weighted = LocalityConfigSpecifier::LocalityWeightedLbConfig(LocalityWeightedLbConfig {});
    common(proto, |common| common.locality_config_specifier = Some(weighted))
}

/// Envoy takes names for places only of clusters that resolve names; addresses resolve to themselves.
fn by_hostname(proto: Proto) -> Proto {
    let kind = ClusterDiscoveryType::Type(DiscoveryType::StrictDns as i32);
    let proto = Proto { cluster_discovery_type: Some(kind), ..proto };
    let hostname = ConsistentHashingLbConfig { use_hostname_for_hashing: true, ..Default::default() };
    common(proto, |common| common.consistent_hashing_lb_config = Some(hostname))
}

fn panics_at(proto: Proto, percent: f64) -> Proto {
    common(proto, |common| common.healthy_panic_threshold = Some(Percent { value: percent }))
}

fn clusters() -> Vec<Proto> {
    let localities = || {
        vec![
            Group { zone: "a", weight: Some(2), ..group(&[1, 1, 4]) },
            Group { zone: "b", weight: Some(5), ..group(&[3, 1]) },
            Group { zone: "c", weight: None, ..group(&[1]) },
        ]
    };
    let priorities = |first: (usize, usize), second: (usize, usize), third: (usize, usize)| {
        vec![sick(0, first.0, first.1), sick(1, second.0, second.1), sick(2, third.0, third.1)]
    };
    let wide = vec![
        Group { zone: "z", weight: Some(3), ..group(&[1; 8]) },
        Group { zone: "a", weight: Some(1), ..group(&[1, 2, 1, 1]) },
    ];
    let all = vec![
        (ring(None, None), vec![group(&[1; 7])]),
        (ring(Some(50), None), vec![group(&[1, 2, 3, 4, 5])]),
        (ring(Some(1), None), vec![group(&[1; 3])]),
        (ring(Some(3), Some(20)), vec![group(&[1, 7, 128])]),
        (ring(Some(3), Some(20)), vec![group(&[1; 30])]),
        (by_hostname(ring(None, None)), vec![group(&[1; 5])]),
        (by_locality(ring(Some(200), None)), localities()),
        (maglev(65_537), vec![group(&[1; 7])]),
        (maglev(251), vec![group(&[1, 2, 3, 4, 5])]),
        (maglev(11), vec![group(&[1; 5])]),
        (by_hostname(maglev(503)), vec![group(&[1; 15])]),
        (maglev(251), vec![group(&[2, 1, 1, 5, 1, 1, 1, 1, 1, 9, 1, 1, 3])]),
        (by_locality(maglev(251)), wide),
        (by_locality(maglev(503)), localities()),
        (ring(None, None), priorities((7, 0), (5, 0), (10, 0))),
        (maglev(251), priorities((2, 1), (3, 0), (1, 0))),
        (maglev(251), priorities((0, 0), (4, 0), (10, 0))),
        (maglev(251), priorities((1, 0), (1, 0), (1, 0))),
        (panics_at(maglev(251), 10.0), priorities((1, 0), (1, 0), (2, 0))),
        (panics_at(maglev(251), 0.0), priorities((1, 0), (0, 0), (1, 0))),
    ];
    let named = all.into_iter().enumerate().map(|(place, (proto, groups))| {
        let name = format!("c{place}");
        Proto { load_assignment: Some(assignment(&name, &groups)), name, ..proto }
    });
    named.collect()
}

fn bootstrap(clusters: &str) -> Value {
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "route_config": {
            "virtual_hosts": [{
                "name": "all", "domains": ["*"],
                "routes": [{
                    "match": {"prefix": "/"},
                    "route": {
                        "cluster_header": "x-cluster",
                        "hash_policy": [{"header": {"header_name": "x-key"}}],
                    },
                    "response_headers_to_add": [{"header": {"key": "x-tried", "value": "%UPSTREAM_HOST%"}}],
                }],
            }],
        },
        "http_filters": [{"name": "router", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}],
    });
    json!({
        "node": {"id": "test", "cluster": "test"},
        "dynamic_resources": {"cds_config": {"path_config_source": {"path": clusters}}},
        "static_resources": {"listeners": [{
            "name": "in",
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
            "filter_chains": [{"filters": [{"name": "hcm", "typed_config": manager}]}],
        }]},
    })
}

/// The host that Envoy tried.
fn by_envoy(connection: &mut BufReader<TcpStream>, cluster: &str, key: &str) -> String {
    let text = format!("GET / HTTP/1.1\r\nhost: h\r\nx-cluster: {cluster}\r\nx-key: {key}\r\n\r\n");
    connection.get_mut().write_all(text.as_bytes()).unwrap();
    let (mut tried, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        assert!(connection.read_line(&mut line).unwrap() > 0, "the connection ended");
        match line.trim_end().split_once(": ") {
            Some(("content-length", value)) => length = value.parse().unwrap(),
            Some(("x-tried", value)) => tried = value.to_owned(),
            _ if line.trim_end().is_empty() => break,
            _ => {}
        }
    }
    connection.read_exact(&mut vec![0; length]).unwrap();
    tried
}

#[test]
fn hashes_fall_to_the_hosts_that_envoy_chooses() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("clusters.pb");
    let clusters = clusters();
    let response = DiscoveryResponse {
        resources: clusters.iter().cloned().map(pack_any).collect(),
        version_info: "1".into(),
        ..Default::default()
    };
    std::fs::write(&file, response.encode_to_vec()).unwrap();
    let envoy = Envoy::start_ready(&bootstrap(file.to_str().unwrap()));
    let stream = TcpStream::connect(envoy.listener("in")).unwrap();
    stream.set_read_timeout(Some(START_LIMIT)).unwrap();
    let mut connection = BufReader::new(stream);
    let now = Duration::from_secs(1);
    let mut disagree = Vec::new();
    for proto in clusters.clone() {
        let name = proto.name.clone();
        let cluster = Arc::new(Cluster::compile(proto).unwrap());
        let upstream = Upstream::new(Arc::clone(&cluster));
        upstream.set_endpoints(cluster.assignment.as_ref().unwrap(), &NothingResolved, now);
        let mut picker = Picker::new(Arc::new(upstream), 0);
        let mut hosts = std::collections::BTreeSet::new();
        let mut differing = 0;
        for number in 0..HASHES {
            let key = format!("key {number}");
            let choice = Choice { hash: Some(xxh64(key.as_bytes(), 0)), ..Choice::default() };
            let ours =
                picker.choose(&choice, now, &mut || 0).map_or("-".to_owned(), |host| host.name.to_string());
            let theirs = by_envoy(&mut connection, &name, &key);
            differing += usize::from(ours != theirs);
            if ours != theirs && differing < 4 {
                disagree.push(format!("{name} {key}: ours {ours}, Envoy {theirs}"));
            }
            hosts.insert(theirs);
        }
        println!("{name}: {} hosts, {differing} of {HASHES} differ", hosts.len());
    }
    assert!(disagree.is_empty(), "{}", disagree.join("\n"));
}
