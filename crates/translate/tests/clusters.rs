//! Clusters and their endpoints, from objects.
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

mod common;

use common::{assert_consistent, listed, mesh, reads, resource, router, sidecar, unpack};
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, DiscoveryType, LbConfig, LbPolicy,
};
use envoy_types::pb::envoy::config::endpoint::v3::{ClusterLoadAssignment, lb_endpoint::HostIdentifier};
use envoy_types::pb::envoy::extensions::clusters::dns::v3::DnsCluster;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::UpstreamTlsContext;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::UpstreamProtocolOptions;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::explicit_http_config::ProtocolConfig;
use ostro_mesh::{Proxy, Snapshot};
use ostro_translate::ResourceType;

const SHOP: &str = include_str!("common/shop.yaml");
const WEB: &str = "outbound|80||web.default.svc.cluster.local";

fn cluster(snapshot: &Snapshot, proxy: &Proxy, name: &str) -> Cluster {
    resource(snapshot, proxy, ResourceType::Cluster, name)
}

fn assignment(snapshot: &Snapshot, proxy: &Proxy, name: &str) -> ClusterLoadAssignment {
    resource(snapshot, proxy, ResourceType::Endpoint, name)
}

/// `address:port` of every endpoint, by locality and priority.
fn addresses(assignment: &ClusterLoadAssignment) -> Vec<(u32, String)> {
    let mut all = Vec::new();
    for group in &assignment.endpoints {
        for endpoint in &group.lb_endpoints {
            let Some(HostIdentifier::Endpoint(endpoint)) = &endpoint.host_identifier else {
                panic!("named endpoint")
            };
            all.push((
                group.priority,
                format!("{:?}", endpoint.address.as_ref().unwrap().address.as_ref().unwrap()),
            ));
        }
    }
    all
}

fn hosts(assignment: &ClusterLoadAssignment) -> Vec<(u32, String)> {
    addresses(assignment)
        .into_iter()
        .map(|(priority, text)| {
            let address = text.split("address: \"").nth(1).and_then(|rest| rest.split('"').next());
            (priority, address.unwrap_or(&text).to_owned())
        })
        .collect()
}

fn kind(cluster: &Cluster) -> String {
    match &cluster.cluster_discovery_type {
        Some(ClusterDiscoveryType::Type(kind)) => {
            DiscoveryType::try_from(*kind).unwrap().as_str_name().to_owned()
        }
        Some(ClusterDiscoveryType::ClusterType(custom)) => custom.name.clone(),
        None => "none".to_owned(),
    }
}

fn http(cluster: &Cluster) -> Option<HttpProtocolOptions> {
    cluster.typed_extension_protocol_options.values().next().map(unpack)
}

fn version(cluster: &Cluster) -> &'static str {
    match http(cluster).and_then(|options| options.upstream_protocol_options) {
        None => "default",
        Some(UpstreamProtocolOptions::UseDownstreamProtocolConfig(_)) => "downstream",
        Some(UpstreamProtocolOptions::ExplicitHttpConfig(config)) => match config.protocol_config {
            Some(ProtocolConfig::Http2ProtocolOptions(_)) => "h2",
            _ => "h1",
        },
        Some(UpstreamProtocolOptions::AutoConfig(_)) => "auto",
    }
}

/// The shop with one more object.
fn with(rule: &str) -> Snapshot {
    mesh(&format!("{SHOP}\n---\n{rule}"))
}

fn rule(spec: &str) -> Snapshot {
    with(&format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: r, namespace: default}}\nspec:\n{spec}"
    ))
}

#[test]
fn a_sidecar_has_the_clusters_of_what_it_sees_and_of_what_it_serves() {
    let snapshot = mesh(SHOP);
    let proxy = sidecar(&["10.1.0.5"]);
    assert_eq!(
        listed(&snapshot, &proxy, ResourceType::Cluster),
        [
            "BlackHoleCluster",
            "InboundPassthroughCluster",
            "PassthroughCluster",
            "inbound|8080||",
            "inbound|8081||",
            "inbound|9090||",
            "outbound|443||api.example.com",
            "outbound|5432||db.default.svc.cluster.local",
            "outbound|6000||rr.example.com",
            "outbound|6379||hl.default.svc.cluster.local",
            "outbound|6500||sock.example.com",
            "outbound|7000||six.default.svc.cluster.local",
            "outbound|7443||nets.example.com",
            "outbound|80||hl.default.svc.cluster.local",
            "outbound|80||nets.example.com",
            "outbound|80||shop.default.svc.cluster.local",
            "outbound|80||web.default.svc.cluster.local",
            "outbound|81||web.default.svc.cluster.local",
            "outbound|82||hl.default.svc.cluster.local",
            "outbound|8443||api.example.com",
            "outbound|9090||web.default.svc.cluster.local",
        ]
    );
    for proxy in [proxy, sidecar(&["10.1.0.99"]), sidecar(&["10.1.0.5", "2001:db8::5"]), router()] {
        assert_consistent(&snapshot, &proxy);
    }
    let gateway = listed(&snapshot, &router(), ResourceType::Cluster);
    assert!(gateway.iter().all(|name| *name == "BlackHoleCluster" || name.starts_with("outbound|")));
}

#[test]
fn the_type_of_a_cluster_follows_resolution_and_proxy() {
    let snapshot = mesh(SHOP);
    let cases = [
        (WEB, "EDS", "EDS"),
        ("outbound|6379||hl.default.svc.cluster.local", "ORIGINAL_DST", "EDS"),
        ("outbound|443||api.example.com", "envoy.clusters.dns", "envoy.clusters.dns"),
        ("outbound|6000||rr.example.com", "envoy.clusters.dns", "envoy.clusters.dns"),
        ("outbound|7443||nets.example.com", "ORIGINAL_DST", "EDS"),
    ];
    for (name, at_sidecar, at_router) in cases {
        let of = |proxy: &Proxy| kind(&cluster(&snapshot, proxy, name));
        assert_eq!(of(&sidecar(&["10.1.0.99"])), at_sidecar, "{name}");
        assert_eq!(of(&router()), at_router, "{name}");
    }
    let original =
        cluster(&snapshot, &sidecar(&["10.1.0.99"]), "outbound|6379||hl.default.svc.cluster.local");
    assert_eq!(original.lb_policy, LbPolicy::ClusterProvided as i32);
}

#[test]
fn names_that_nothing_declares_are_no_clusters_and_have_empty_assignments() {
    let snapshot = mesh(SHOP);
    let proxy = sidecar(&["10.1.0.99"]);
    for name in [
        "outbound|81||shop.default.svc.cluster.local",
        "outbound|80|v1|web.default.svc.cluster.local",
        "outbound|53||db.default.svc.cluster.local",
        "outbound|80||elsewhere.default.svc.cluster.local",
        "inbound|8080||",
        "what is this",
    ] {
        assert!(common::encoded(&snapshot, &proxy, ResourceType::Cluster, name).is_none(), "{name}");
        let empty = assignment(&snapshot, &proxy, name);
        assert_eq!((empty.cluster_name.as_str(), empty.endpoints.len()), (name, 0));
    }
}

#[test]
fn ready_endpoints_of_the_port_and_no_others_are_served() {
    let snapshot = mesh(SHOP);
    let proxy = sidecar(&["10.1.0.99"]);
    let own = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    let expected = [own("10.1.0.5", "8080"), own("10.1.0.6", "8080")].map(|(address, _)| (0, address));
    assert_eq!(hosts(&assignment(&snapshot, &proxy, WEB)), expected);
    let text = addresses(&assignment(&snapshot, &proxy, "outbound|9090||web.default.svc.cluster.local"));
    assert!(text.iter().all(|(_, address)| address.contains("PortValue(9090)")), "{text:?}");
    let socket = addresses(&assignment(&snapshot, &proxy, "outbound|6500||sock.example.com"));
    assert!(socket.len() == 1 && socket[0].1.contains("/var/run/app.sock"), "{socket:?}");
}

#[test]
fn a_name_without_endpoints_is_itself_resolved() {
    let snapshot = mesh(SHOP);
    let proxy = sidecar(&["10.1.0.99"]);
    let own = cluster(&snapshot, &proxy, "outbound|443||api.example.com");
    assert_eq!(hosts(own.load_assignment.as_ref().unwrap()), [(0, "api.example.com".to_owned())]);
    let one = cluster(&snapshot, &proxy, "outbound|6000||rr.example.com");
    let Some(ClusterDiscoveryType::ClusterType(custom)) = &one.cluster_discovery_type else {
        panic!("no type")
    };
    let dns: DnsCluster = unpack(custom.typed_config.as_ref().unwrap());
    assert!(dns.all_addresses_in_single_endpoint && dns.respect_dns_ttl);
    assert_eq!(hosts(one.load_assignment.as_ref().unwrap()), [(0, "one.example.com".to_owned())]);
    // Envoy refuses such a cluster without a name; a part of the service may have none.
    let part = rule("  host: rr.example.com\n  subsets: [{name: none, labels: {nobody: has}}]");
    assert_eq!(kind(&cluster(&part, &proxy, "outbound|6000|none|rr.example.com")), "STATIC");
}

#[test]
fn http_versions_follow_protocol_and_rule() {
    let proxy = sidecar(&["10.1.0.99"]);
    let plain = mesh(SHOP);
    let upgraded = rule(
        "  host: web\n  trafficPolicy: {connectionPool: {http: {h2UpgradePolicy: UPGRADE, maxConcurrentStreams: 7}}}",
    );
    let kept = rule("  host: web\n  trafficPolicy: {connectionPool: {http: {useClientProtocol: true}}}");
    let named = |port: u16| format!("outbound|{port}||web.default.svc.cluster.local");
    // (port, plain, upgraded, kept)
    let cases = [
        (80, "default", "h2", "downstream"),
        (9090, "h2", "h2", "downstream"),
        (81, "downstream", "downstream", "downstream"),
    ];
    for (port, first, second, third) in cases {
        let of = |snapshot: &Snapshot| version(&cluster(snapshot, &proxy, &named(port)));
        assert_eq!((of(&plain), of(&upgraded), of(&kept)), (first, second, third), "{port}");
    }
    // A gateway's client says nothing about the service behind.
    assert_eq!(version(&cluster(&plain, &router(), &named(81))), "default");
}

#[test]
fn a_rule_sets_balancer_pool_and_outlier_detection() {
    let proxy = sidecar(&["10.1.0.99"]);
    let snapshot = rule(
        r"
  host: web.default.svc.cluster.local
  trafficPolicy:
    loadBalancer: {simple: ROUND_ROBIN, warmup: {duration: 30s, minimumPercent: 20, aggression: 2}}
    connectionPool:
      tcp: {maxConnections: 3, connectTimeout: 2s, tcpKeepalive: {probes: 2, time: 60s, interval: 5s}, maxConnectionDuration: 600s}
      http: {http1MaxPendingRequests: 4, http2MaxRequests: 5, maxRetries: 6, idleTimeout: 7s, maxRequestsPerConnection: 8}
    outlierDetection: {consecutive5xxErrors: 2, interval: 1s, baseEjectionTime: 3s, maxEjectionPercent: 50, minHealthPercent: 30}
    portLevelSettings:
    - port: {number: 81}
      loadBalancer: {consistentHash: {httpHeaderName: x, ringHash: {minimumRingSize: 64}}}
  subsets:
  - name: v1
    labels: {version: v1}
    trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 1009}}}}",
    );
    let whole = cluster(&snapshot, &proxy, WEB);
    assert_eq!(whole.lb_policy, LbPolicy::RoundRobin as i32);
    let Some(LbConfig::RoundRobinLbConfig(config)) = &whole.lb_config else { panic!("no config") };
    let slow = config.slow_start_config.as_ref().unwrap();
    assert_eq!(slow.min_weight_percent.unwrap().value, 20.0);
    assert_eq!(whole.connect_timeout.unwrap().seconds, 2);
    let limits = &whole.circuit_breakers.as_ref().unwrap().thresholds[0];
    let value = |limit: Option<envoy_types::pb::google::protobuf::UInt32Value>| limit.unwrap().value;
    assert_eq!(
        [limits.max_connections, limits.max_pending_requests, limits.max_requests, limits.max_retries]
            .map(value),
        [3, 4, 5, 6]
    );
    let outlier = whole.outlier_detection.as_ref().unwrap();
    assert_eq!(value(outlier.consecutive_5xx), 2);
    assert_eq!(value(outlier.enforcing_consecutive_5xx), 100);
    assert_eq!(value(outlier.enforcing_success_rate), 0);
    let common = whole.common_lb_config.as_ref().unwrap();
    assert_eq!(common.healthy_panic_threshold.unwrap().value, 30.0);
    let options = http(&whole).unwrap().common_http_protocol_options.unwrap();
    assert_eq!(options.idle_timeout.unwrap().seconds, 7);
    assert_eq!(value(options.max_requests_per_connection), 8);
    // The port's settings replace all four.
    let port = cluster(&snapshot, &proxy, "outbound|81||web.default.svc.cluster.local");
    assert_eq!(port.lb_policy, LbPolicy::RingHash as i32);
    assert!(port.outlier_detection.is_none());
    assert_eq!(value(port.circuit_breakers.unwrap().thresholds[0].max_connections), u32::MAX);
    // The subset overrides one and keeps the rest.
    let subset = cluster(&snapshot, &proxy, "outbound|80|v1|web.default.svc.cluster.local");
    assert_eq!(subset.lb_policy, LbPolicy::Maglev as i32);
    assert!(subset.outlier_detection.is_some());
    let istio = &subset.metadata.unwrap().filter_metadata["istio"].fields;
    let text = format!("{istio:?}");
    assert!(text.contains("/apis/networking.istio.io/v1/namespaces/default/destination-rule/r"), "{text}");
    assert!(text.contains("\"subset\""), "{text}");
}

#[test]
fn tls_is_spoken_as_asked_or_not_at_all() {
    let proxy = sidecar(&["10.1.0.99"]);
    let name = "outbound|8443||api.example.com";
    let with = |tls: &str| {
        let snapshot = rule(&format!("  host: api.example.com\n  trafficPolicy: {{tls: {tls}}}"));
        cluster(&snapshot, &proxy, name)
    };
    let context = |cluster: &Cluster| -> UpstreamTlsContext {
        let socket = cluster.transport_socket.as_ref().unwrap();
        let envoy_types::pb::envoy::config::core::v3::transport_socket::ConfigType::TypedConfig(any) =
            socket.config_type.as_ref().unwrap();
        unpack(any)
    };
    let simple = with("{mode: SIMPLE}");
    assert!(context(&simple).sni.is_empty());
    let from_request = http(&simple).unwrap().upstream_http_protocol_options.unwrap();
    assert!(from_request.auto_sni && from_request.auto_san_validation);
    let named = with("{mode: SIMPLE, sni: other.example.com, subjectAltNames: [other.example.com]}");
    assert_eq!(context(&named).sni, "other.example.com");
    assert!(http(&named).is_none());
    let unchecked = with("{mode: SIMPLE, insecureSkipVerify: true}");
    assert!(context(&unchecked).common_tls_context.unwrap().validation_context_type.is_none());
    assert!(with("{mode: DISABLE}").transport_socket.is_none());
    // Nothing that needs certificates from elsewhere falls back to plaintext: there is nobody to talk to.
    for tls in ["{mode: ISTIO_MUTUAL}", "{mode: SIMPLE, credentialName: cert}"] {
        let unreachable = with(tls);
        assert_eq!(kind(&unreachable), "STATIC", "{tls}");
        assert!(unreachable.load_assignment.is_none() && unreachable.transport_socket.is_none(), "{tls}");
    }
}

#[test]
fn inbound_clusters_keep_the_destination_or_go_to_the_loopback_address() {
    let proxy = sidecar(&["10.1.0.5"]);
    let kept = cluster(&mesh(SHOP), &proxy, "inbound|8080||");
    assert_eq!(kind(&kept), "ORIGINAL_DST");
    let source = kept.upstream_bind_config.unwrap().source_address.unwrap();
    assert_eq!(source.address, "127.0.0.6");
    assert_eq!(version(&cluster(&mesh(SHOP), &proxy, "inbound|9090||")), "h2");
    let config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n    inboundTrafficPolicy: {mode: LOCALHOST}\n";
    let local = cluster(&with(config), &proxy, "inbound|8080||");
    assert_eq!(kind(&local), "STATIC");
    assert_eq!(hosts(local.load_assignment.as_ref().unwrap()), [(0, "127.0.0.1".to_owned())]);
}

#[test]
fn statistics_are_called_what_the_mesh_says() {
    let proxy = sidecar(&["10.1.0.5"]);
    let plain = mesh(SHOP);
    assert_eq!(cluster(&plain, &proxy, "inbound|8080||").alt_stat_name, "inbound|8080||;");
    let config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n    inboundClusterStatName: in/%SERVICE%/%SERVICE_PORT_NAME%/%TARGET_PORT%\n    outboundClusterStatName: out/%SERVICE_FQDN%/%SERVICE_PORT%\n";
    let named = with(config);
    assert_eq!(cluster(&named, &proxy, "inbound|8080||").alt_stat_name, "in/web.default/http/8080;");
    assert_eq!(
        cluster(&named, &proxy, "outbound|80||web.default.svc.cluster.local").alt_stat_name,
        "out/web.default.svc.cluster.local/80;"
    );
}

#[test]
fn a_cluster_asks_nothing_about_the_proxy_that_does_not_matter_to_it() {
    let snapshot = mesh(SHOP);
    for kind in [ResourceType::Cluster, ResourceType::Endpoint] {
        let asked = |proxy: &Proxy| reads(&snapshot, proxy, kind, WEB).attrs;
        assert_eq!(asked(&sidecar(&["10.1.0.98"])), asked(&sidecar(&["10.1.0.99"])), "{kind:?}");
    }
}

const PLACES: &str = r"
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: spread, namespace: default}
spec:
  hosts: [spread.example.com]
  addresses: [198.51.100.2]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints:
  - {address: 10.2.0.1, locality: r1/z1/s1, labels: {rack: a}}
  - {address: 10.2.0.2, locality: r1/z2/s1, labels: {rack: b}}
  - {address: 10.2.0.3, locality: r2/z1/s1, labels: {rack: a}}
  - {address: 10.2.0.4, locality: r3/z1/s1, weight: 3}
";

#[test]
fn nearer_places_come_first_once_failures_are_detected() {
    let name = "outbound|80||spread.example.com";
    let near = |text: &str| {
        let mut parts = text.split('/').map(str::to_owned);
        let mut proxy = sidecar(&["10.1.0.99"]);
        proxy.labels.insert("rack".into(), "a".into());
        proxy.locality = ostro_mesh::model::Locality {
            region: parts.next().unwrap_or_default(),
            zone: parts.next().unwrap_or_default(),
            subzone: parts.next().unwrap_or_default(),
        };
        proxy
    };
    let spread = |policy: &str, proxy: &Proxy| {
        let yaml = format!(
            "{PLACES}---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: r, namespace: default}}\nspec:\n  host: spread.example.com\n  trafficPolicy: {policy}\n"
        );
        let assignment = assignment(&mesh(&yaml), proxy, name);
        let groups = assignment.endpoints.iter().zip(hosts(&assignment));
        groups
            .map(|(group, (priority, address))| {
                (address, priority, group.load_balancing_weight.unwrap().value)
            })
            .collect::<Vec<_>>()
    };
    let of = |rows: &[(&str, u32, u32)]| -> Vec<(String, u32, u32)> {
        rows.iter().map(|(address, priority, weight)| ((*address).to_owned(), *priority, *weight)).collect()
    };
    let flat = of(&[("10.2.0.1", 0, 1), ("10.2.0.2", 0, 1), ("10.2.0.3", 0, 1), ("10.2.0.4", 0, 3)]);
    let detect = "outlierDetection: {interval: 1s}";
    // Without detection, or without a place of its own, no place is nearer.
    assert_eq!(spread("{loadBalancer: {simple: RANDOM}}", &near("r1/z1/s1")), flat);
    assert_eq!(spread(&format!("{{{detect}}}"), &sidecar(&["10.1.0.99"])), flat);
    assert_eq!(
        spread(&format!("{{{detect}}}"), &near("r1/z1/s1")),
        of(&[("10.2.0.1", 0, 1), ("10.2.0.2", 1, 1), ("10.2.0.3", 2, 1), ("10.2.0.4", 2, 3)])
    );
    let over =
        format!("{{{detect}, loadBalancer: {{localityLbSetting: {{failover: [{{from: r1, to: r3}}]}}}}}}");
    assert_eq!(
        spread(&over, &near("r1/z1/s1")),
        of(&[("10.2.0.1", 0, 1), ("10.2.0.2", 1, 1), ("10.2.0.3", 3, 1), ("10.2.0.4", 2, 3)])
    );
    let labels = format!("{{{detect}, loadBalancer: {{localityLbSetting: {{failoverPriority: [rack]}}}}}}");
    assert_eq!(
        spread(&labels, &near("r1/z1/s1")),
        of(&[("10.2.0.1", 0, 1), ("10.2.0.2", 1, 1), ("10.2.0.3", 0, 1), ("10.2.0.4", 1, 3)])
    );
    let places = "[topology.kubernetes.io/region, topology.kubernetes.io/zone]";
    let by_place =
        format!("{{{detect}, loadBalancer: {{localityLbSetting: {{failoverPriority: {places}}}}}}}");
    assert_eq!(
        spread(&by_place, &near("r1/z1/s1")),
        of(&[("10.2.0.1", 0, 1), ("10.2.0.2", 1, 1), ("10.2.0.3", 2, 1), ("10.2.0.4", 2, 3)]),
        "labels of a place need not be on the pods"
    );
    let shares =
        "{loadBalancer: {localityLbSetting: {distribute: [{from: r1/*, to: {r1/*: 70, r2/*: 30}}]}}}";
    assert_eq!(
        spread(shares, &near("r1/z1/s1")),
        of(&[("10.2.0.1", 0, 35), ("10.2.0.2", 0, 35), ("10.2.0.3", 0, 30)])
    );
    assert_eq!(
        spread(
            "{outlierDetection: {}, loadBalancer: {localityLbSetting: {enabled: false}}}",
            &near("r1/z1/s1")
        ),
        flat
    );
}

#[test]
fn weights_of_places_count_where_shares_are_written_or_places_fail_over() {
    let weighted = |setting: &str, policy: &str| {
        let config = format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata: {{mesh: '{{localityLbSetting: {setting}}}'}}\n"
        );
        let rule = format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: r, namespace: default}}\nspec:\n  host: spread.example.com\n  trafficPolicy: {policy}\n"
        );
        let snapshot = mesh(&format!("{PLACES}---\n{config}---\n{rule}"));
        let cluster = cluster(&snapshot, &sidecar(&["10.1.0.99"]), "outbound|80||spread.example.com");
        cluster.common_lb_config.is_some_and(|config| config.locality_config_specifier.is_some())
    };
    let shares = "{enabled: true, distribute: [{from: \"*\", to: {r1: 70, r2: 30}}]}";
    let over = "{enabled: true, failover: [{from: r1, to: r2}]}";
    let (plain, detecting) = ("{loadBalancer: {simple: RANDOM}}", "{outlierDetection: {interval: 1s}}");
    assert!(weighted(shares, plain), "the mesh's shares hold for services whose rule has none");
    assert!(!weighted(over, plain), "without detection nothing fails over");
    assert!(weighted(over, detecting));
    assert!(!weighted("{enabled: true}", detecting));
    assert!(!weighted("{enabled: false}", detecting));
    let own = |setting: &str| format!("{{loadBalancer: {{localityLbSetting: {setting}}}}}");
    assert!(weighted("{enabled: true}", &own("{distribute: [{from: \"*\", to: {r1: 100}}]}")));
    assert!(!weighted(shares, &own("{enabled: false}")));
}

#[test]
fn what_does_not_exist_yet_is_known_to_be_awaited() {
    let snapshot = mesh(SHOP);
    let proxy = sidecar(&["10.1.0.99"]);
    let name = "outbound|80||not-yet.default.svc.cluster.local";
    for kind in [ResourceType::Cluster, ResourceType::Endpoint] {
        let keys = reads(&snapshot, &proxy, kind, name).keys;
        let keys: Vec<String> = keys.iter().map(|key| format!("{:?}", key.key())).collect();
        assert_eq!(keys, ["Services(\"not-yet.default.svc.cluster.local\")"], "{kind:?}");
    }
}
