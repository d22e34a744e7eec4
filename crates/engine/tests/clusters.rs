//! Clusters and endpoints compiled: defaults, fields, and what is refused by name.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod support;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, CustomClusterType, DiscoveryType, LbConfig, LbPolicy, MaglevLbConfig,
    TransportSocketMatch,
};
use envoy_types::pb::envoy::config::cluster::v3::{Cluster as Proto, OutlierDetection};
use envoy_types::pb::envoy::config::core::v3::health_check::{
    HealthChecker, HttpHealthCheck, Payload, TcpHealthCheck, payload,
};
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::socket_option::Value as OptionValue;
use envoy_types::pb::envoy::config::core::v3::transport_socket::ConfigType;
use envoy_types::pb::envoy::config::core::v3::{
    BindConfig, ExtraSourceAddress, HealthCheck, HealthStatus, Http2ProtocolOptions,
    HttpProtocolOptions as CommonOptions, Metadata, SocketAddress, SocketOption, TransportSocket,
};
use envoy_types::pb::envoy::config::endpoint::v3::cluster_load_assignment::Policy as AssignmentPolicy;
use envoy_types::pb::envoy::config::endpoint::v3::cluster_load_assignment::policy::DropOverload;
use envoy_types::pb::envoy::config::endpoint::v3::{ClusterLoadAssignment, LocalityLbEndpoints};
use envoy_types::pb::envoy::extensions::clusters::common::dns::v3::DnsLookupFamily;
use envoy_types::pb::envoy::extensions::clusters::dns::v3::DnsCluster;
use envoy_types::pb::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::UpstreamTlsContext;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::explicit_http_config::ProtocolConfig;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::{
    ExplicitHttpConfig, UpstreamProtocolOptions,
};
use envoy_types::pb::envoy::r#type::v3::FractionalPercent;
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{BoolValue, Struct, Value};
use ostro_engine::balance::{NothingResolved, Resolved};
use ostro_engine::cluster::{Assignment, DnsFamily, Policy, Probe, Selection, Transport, UpstreamProtocol};
use ostro_engine::{Cluster, Discovery, Upstream};
use support::{address, any, at, cluster, discovery, endpoint, number, seconds};

const NOW: Duration = Duration::from_secs(1);

fn refused(proto: Proto) -> String {
    Cluster::compile(proto).unwrap_err().to_string()
}

#[test]
fn defaults_are_envoys() {
    let cluster = Cluster::compile(cluster("outbound|80||a")).unwrap();
    assert_eq!(cluster.discovery, Discovery::Eds("outbound|80||a".to_owned()));
    assert_eq!(cluster.connect_timeout, Duration::from_secs(5));
    assert_eq!(cluster.buffer_limit, 1 << 20);
    assert_eq!(&*cluster.stat_name, "outbound|80||a");
    assert_eq!(cluster.http.protocol, UpstreamProtocol::Http1);
    assert_eq!(cluster.http.idle_timeout, Some(Duration::from_secs(3_600)));
    assert_eq!((cluster.http.max_headers_count, cluster.http.max_requests_per_connection), (100, None));
    let limits = &cluster.thresholds.default;
    assert_eq!(
        (limits.connections, limits.pending, limits.requests, limits.retries),
        (1_024, 1_024, 1_024, 3)
    );
    assert_eq!(cluster.balancing.policy, Policy::RoundRobin(None));
    assert_eq!(cluster.balancing.panic_threshold, 50);
    assert!(cluster.outlier.is_none() && cluster.health_checks.is_empty() && cluster.waits_for_warm);
}

#[test]
fn http_options_are_read() {
    let options = HttpProtocolOptions {
        common_http_protocol_options: Some(CommonOptions {
            idle_timeout: seconds(0),
            max_requests_per_connection: number(7),
            max_connection_duration: seconds(60),
            ..Default::default()
        }),
        upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
            protocol_config: Some(ProtocolConfig::Http2ProtocolOptions(Http2ProtocolOptions {
                max_concurrent_streams: number(9),
                ..Default::default()
            })),
        })),
        ..Default::default()
    };
    let key = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions".to_owned();
    let mut proto = cluster("c");
    proto.typed_extension_protocol_options = HashMap::from([(key.clone(), any(&options))]);
    let http = Cluster::compile(proto.clone()).unwrap().http;
    assert_eq!((http.protocol, http.http2.max_concurrent_streams), (UpstreamProtocol::Http2, 9));
    assert_eq!((http.http2.stream_window, http.idle_timeout), (16 << 20, None));
    assert_eq!(http.max_requests_per_connection, Some(7));
    assert_eq!(http.max_connection_duration, Some(Duration::from_secs(60)));
    proto.typed_extension_protocol_options = HashMap::from([("other".to_owned(), any(&options))]);
    assert_eq!(refused(proto.clone()), "cluster c.typed_extension_protocol_options: not supported: other");
    let too_many = HttpProtocolOptions {
        upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
            protocol_config: Some(ProtocolConfig::Http2ProtocolOptions(Http2ProtocolOptions {
                initial_stream_window_size: number(1),
                ..Default::default()
            })),
        })),
        ..Default::default()
    };
    proto.typed_extension_protocol_options = HashMap::from([(key, any(&too_many))]);
    assert!(refused(proto).contains("http2_protocol_options.initial_stream_window_size: invalid: 1 is not"));
}

#[test]
fn policies_are_read_in_their_old_form_and_their_new_one() {
    use envoy_types::pb::envoy::extensions::load_balancing_policies as policies;
    let of = |proto: Proto| Cluster::compile(proto).unwrap().balancing;
    let old = |policy: LbPolicy| Proto { lb_policy: policy as i32, ..cluster("c") };
    let new = |policy| Proto { load_balancing_policy: Some(policy), ..cluster("c") };
    let Policy::LeastRequest(least) = of(old(LbPolicy::LeastRequest)).policy else { panic!() };
    assert_eq!((least.choices, least.bias, least.selection), (2, 1.0, Selection::Choices));
    assert_eq!(
        of(new(support::policy(&policies::least_request::v3::LeastRequest::default()))).policy,
        Policy::LeastRequest(least)
    );
    assert_eq!(of(old(LbPolicy::Random)), of(new(support::policy(&policies::random::v3::Random::default()))));
    assert_eq!(
        of(old(LbPolicy::RingHash)),
        of(new(support::policy(&policies::ring_hash::v3::RingHash::default())))
    );
    assert_eq!(of(old(LbPolicy::Maglev)), of(new(support::policy(&policies::maglev::v3::Maglev::default()))));
    let inner = support::policy(&policies::round_robin::v3::RoundRobin::default());
    let wrr = policies::wrr_locality::v3::WrrLocality { endpoint_picking_policy: Some(inner) };
    let wrr = of(new(support::policy(&wrr)));
    assert_eq!(
        (wrr.policy, wrr.locality),
        (Policy::RoundRobin(None), ostro_engine::cluster::LocalityChoice::Weighted)
    );
    let mut proto = old(LbPolicy::Maglev);
    proto.lb_config = Some(LbConfig::MaglevLbConfig(MaglevLbConfig { table_size: support::number64(9) }));
    assert_eq!(refused(proto), "cluster c: invalid: table_size 9 is no prime up to 5000011");
    assert!(refused(old(LbPolicy::ClusterProvided)).contains("CLUSTER_PROVIDED goes with ORIGINAL_DST"));
    let unknown = support::policy(&policies::pick_first::v3::PickFirst::default());
    assert!(refused(new(unknown)).contains("load_balancing_policy: not supported: type.googleapis.com/envoy.extensions.load_balancing_policies.pick_first"));
}

#[test]
fn transport_sockets_are_matched_by_metadata_and_tls_is_refused_by_name() {
    let raw = TransportSocket {
        name: "envoy.transport_sockets.raw_buffer".to_owned(),
        config_type: Some(ConfigType::TypedConfig(any(&RawBuffer {}))),
    };
    let fields = |value: &str| Struct {
        fields: [("tlsMode".to_owned(), Value { kind: Some(Kind::StringValue(value.to_owned())) })].into(),
    };
    let mut proto = cluster("c");
    proto.transport_socket_matches = vec![
        TransportSocketMatch {
            name: "tlsMode-istio".to_owned(),
            r#match: Some(fields("istio")),
            transport_socket: Some(raw.clone()),
        },
        TransportSocketMatch {
            name: "tlsMode-disabled".to_owned(),
            r#match: Some(Struct::default()),
            transport_socket: Some(raw),
        },
    ];
    let mut istio = endpoint(at(1), 1, HealthStatus::Healthy);
    istio.metadata = Some(Metadata {
        filter_metadata: [("envoy.transport_socket_match".to_owned(), fields("istio"))].into(),
        ..Default::default()
    });
    let assignment = ClusterLoadAssignment {
        endpoints: vec![LocalityLbEndpoints {
            lb_endpoints: vec![istio, endpoint(at(2), 1, HealthStatus::Healthy)],
            ..Default::default()
        }],
        ..Default::default()
    };
    let upstream = support::upstream(proto.clone(), &Assignment::compile_eds(assignment).unwrap());
    let names: Vec<_> = upstream.snapshot().hosts().map(|host| host.transport.name.to_string()).collect();
    assert_eq!(names, ["tlsMode-istio", "tlsMode-disabled"]);
    assert!(upstream.snapshot().hosts().all(|host| host.transport.kind == Transport::Raw));
    proto.transport_socket_matches[0].transport_socket = Some(TransportSocket {
        name: "envoy.transport_sockets.tls".to_owned(),
        config_type: Some(ConfigType::TypedConfig(any(&UpstreamTlsContext::default()))),
    });
    assert_eq!(
        refused(proto),
        "cluster c.transport_socket_matches[0].transport_socket: not supported: transport socket \
         envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
    );
}

struct Names(HashMap<&'static str, Vec<IpAddr>>);

impl Resolved for Names {
    fn addresses(&self, name: &str) -> &[IpAddr] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }
}

fn by_name(logical: bool) -> Proto {
    let dns = DnsCluster {
        dns_refresh_rate: seconds(60),
        respect_dns_ttl: true,
        dns_lookup_family: DnsLookupFamily::V4Only as i32,
        all_addresses_in_single_endpoint: logical,
        ..Default::default()
    };
    let mut named = endpoint(at(0), 3, HealthStatus::Healthy);
    if let Some(envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier::Endpoint(
        endpoint,
    )) = &mut named.host_identifier
    {
        endpoint.address = Some(address("example.test", 443));
    }
    Proto {
        name: "d".to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::ClusterType(CustomClusterType {
            name: "envoy.clusters.dns".to_owned(),
            typed_config: Some(any(&dns)),
        })),
        load_assignment: Some(ClusterLoadAssignment {
            endpoints: vec![LocalityLbEndpoints { lb_endpoints: vec![named], ..Default::default() }],
            ..Default::default()
        }),
        ..Default::default()
    }
}

#[test]
fn names_become_hosts_when_they_are_resolved() {
    let cluster = Arc::new(Cluster::compile(by_name(false)).unwrap());
    assert_eq!(cluster.discovery, Discovery::StrictDns);
    assert_eq!((cluster.dns.family, cluster.dns.refresh), (DnsFamily::V4Only, Duration::from_secs(60)));
    let assignment = cluster.assignment.clone().unwrap();
    assert_eq!(assignment.names().collect::<Vec<_>>(), [("example.test", 443)]);
    let upstream = Upstream::new(cluster);
    upstream.set_endpoints(&assignment, &NothingResolved, NOW);
    assert_eq!(upstream.snapshot().membership().total, 0);
    let found =
        Names([("example.test", vec!["1.1.1.1".parse().unwrap(), "1.1.1.2".parse().unwrap()])].into());
    upstream.set_endpoints(&assignment, &found, NOW);
    let hosts: Vec<_> = upstream.snapshot().hosts().cloned().collect();
    assert_eq!(hosts.iter().map(|host| &*host.name).collect::<Vec<_>>(), ["1.1.1.1:443", "1.1.1.2:443"]);
    assert!(hosts.iter().all(|host| &*host.hostname == "example.test" && host.weight == 3));
}

#[test]
fn a_logical_name_stays_one_host_wherever_it_moves() {
    let cluster = Arc::new(Cluster::compile(by_name(true)).unwrap());
    let assignment = cluster.assignment.clone().unwrap();
    let upstream = Upstream::new(cluster);
    let mut ids = Vec::new();
    for address in ["1.1.1.1", "1.1.1.2"] {
        let found =
            Names([("example.test", vec![address.parse().unwrap(), "9.9.9.9".parse().unwrap()])].into());
        upstream.set_endpoints(&assignment, &found, NOW);
        let hosts: Vec<_> = upstream.snapshot().hosts().cloned().collect();
        assert_eq!((hosts.len(), &*hosts[0].name), (1, &*format!("{address}:443")));
        ids.push(hosts[0].id());
    }
    assert_eq!(ids[0], ids[1]);
}

#[test]
fn addresses_are_demanded_where_nothing_resolves_names() {
    let mut proto = by_name(false);
    proto.cluster_discovery_type = discovery(DiscoveryType::Static);
    assert!(refused(proto.clone()).contains("a name where an address is needed"));
    let error = Assignment::compile_eds(proto.load_assignment.unwrap()).unwrap_err().to_string();
    assert!(error.ends_with("invalid: \"example.test\" is no IP address"), "{error}");
}

#[test]
fn drop_overload_drops_its_share() {
    let mut assignment = support::load_assignment(&[support::Locality::of(&[1])]);
    let drop = |numerator| DropOverload {
        category: "any".to_owned(),
        drop_percentage: Some(FractionalPercent { numerator, denominator: 0 }),
    };
    assignment.policy = Some(AssignmentPolicy { drop_overloads: vec![drop(30)], ..Default::default() });
    let upstream = support::upstream(cluster("c"), &Assignment::compile_eds(assignment.clone()).unwrap());
    assert_eq!((0..1_000).filter(|random| upstream.drops(*random)).count(), 300);
    assignment.policy =
        Some(AssignmentPolicy { drop_overloads: vec![drop(1), drop(2)], ..Default::default() });
    assert!(Assignment::compile_eds(assignment).is_err());
}

#[test]
fn a_source_address_is_of_the_destinations_family() {
    let source = |address: &str| SocketAddress {
        address: address.to_owned(),
        port_specifier: Some(
            envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier::PortValue(0),
        ),
        ..Default::default()
    };
    let mut proto = cluster("c");
    proto.upstream_bind_config = Some(BindConfig {
        source_address: Some(source("127.0.0.6")),
        extra_source_addresses: vec![ExtraSourceAddress {
            address: Some(source("::6")),
            ..Default::default()
        }],
        ..Default::default()
    });
    let bind = Cluster::compile(proto).unwrap().bind.unwrap();
    let from = |to: &str| bind.source_for(to.parse().unwrap()).unwrap().ip().to_string();
    assert_eq!((from("10.0.0.1").as_str(), from("fd00::1").as_str()), ("127.0.0.6", "::6"));
}

#[test]
fn what_a_cluster_says_of_its_sockets_goes_before_what_holds_for_all() {
    let bind = |address: Option<&str>, freebind: Option<bool>, mark: Option<i64>| {
        let mut proto = cluster("c");
        proto.upstream_bind_config = Some(BindConfig {
            source_address: address.map(|address| SocketAddress {
                address: address.to_owned(),
                port_specifier: Some(PortSpecifier::PortValue(0)),
                ..Default::default()
            }),
            freebind: freebind.map(|value| BoolValue { value }),
            socket_options: mark
                .map(|value| SocketOption {
                    level: 1,
                    name: 36,
                    value: Some(OptionValue::IntValue(value)),
                    ..Default::default()
                })
                .into_iter()
                .collect(),
            ..Default::default()
        });
        Cluster::compile(proto).unwrap().bind.unwrap()
    };
    let all = bind(Some("127.0.0.6"), Some(true), Some(1337));
    assert_eq!(all.overridden_by(None), all);
    let address_only = all.overridden_by(Some(&bind(Some("127.0.0.7"), None, None)));
    assert_eq!(address_only, bind(Some("127.0.0.7"), Some(true), Some(1337)));
    let rest_only = all.overridden_by(Some(&bind(None, Some(false), Some(5))));
    assert_eq!(rest_only, bind(None, Some(false), Some(5)));
}

#[test]
fn outlier_detection_has_envoys_defaults() {
    let mut proto = cluster("c");
    proto.outlier_detection = Some(OutlierDetection::default());
    let outlier = Cluster::compile(proto.clone()).unwrap().outlier.unwrap();
    assert_eq!((outlier.consecutive_5xx, outlier.max_ejection_percent), (5, 10));
    assert_eq!((outlier.interval.as_secs(), outlier.base_ejection_time.as_secs()), (10, 30));
    assert_eq!(
        (outlier.max_ejection_time.as_secs(), outlier.enforcing.consecutive_gateway_failure),
        (300, 0)
    );
    proto.outlier_detection =
        Some(OutlierDetection { enforcing_consecutive_5xx: number(101), ..Default::default() });
    assert!(refused(proto).contains("outlier_detection.enforcing_consecutive_5xx"));
}

#[test]
fn health_checks_are_read() {
    let check = |checker| HealthCheck {
        timeout: seconds(1),
        interval: seconds(5),
        unhealthy_threshold: number(2),
        healthy_threshold: number(3),
        health_checker: Some(checker),
        ..Default::default()
    };
    let text = |text: &str| Payload { payload: Some(payload::Payload::Text(text.to_owned())) };
    let mut proto = cluster("c");
    let http = HttpHealthCheck { path: "/ready".to_owned(), ..Default::default() };
    let tcp = TcpHealthCheck { receive: vec![text("00fF")], ..Default::default() };
    let both = [check(HealthChecker::HttpHealthCheck(http)), check(HealthChecker::TcpHealthCheck(tcp))];
    let checks = both.clone().map(|check| {
        let proto = Proto { health_checks: vec![check], ..cluster("c") };
        Cluster::compile(proto).unwrap().health_checks[0].clone()
    });
    proto.health_checks = both.to_vec();
    assert_eq!(refused(proto.clone()), "cluster c: invalid: health_checks: more than one");
    assert_eq!(checks[0].intervals.no_traffic, Duration::from_secs(60));
    assert_eq!(checks[0].intervals.unhealthy_edge, Duration::from_secs(5));
    let Probe::Http(http) = &checks[0].probe else { panic!() };
    assert_eq!((http.method.as_str(), http.path.to_str().unwrap(), http.buffer), ("GET", "/ready", 1_024));
    let Probe::Tcp(tcp) = &checks[1].probe else { panic!() };
    assert_eq!(tcp.receive, [vec![0_u8, 0xff]]);
    let bad = TcpHealthCheck { send: Some(text("0x")), ..Default::default() };
    proto.health_checks = vec![check(HealthChecker::TcpHealthCheck(bad))];
    assert!(refused(proto).contains("tcp_health_check.send: invalid: \"0x\" is not hexadecimal"));
}
