//! Listeners of sidecars, from objects.
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

mod common;

use common::render::told;
use common::{assert_consistent, listed, mesh, reads, resource, router, sidecar, unpack};
use envoy_types::pb::envoy::config::listener::v3::{Listener, filter};
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use ostro_mesh::{Proxy, Snapshot};
use ostro_translate::ResourceType;

const SHOP: &str = include_str!("common/shop.yaml");

fn listener(snapshot: &Snapshot, proxy: &Proxy, name: &str) -> Listener {
    resource(snapshot, proxy, ResourceType::Listener, name)
}

fn inspectors(listener: &Listener) -> Vec<&str> {
    listener.listener_filters.iter().map(|filter| filter.name.rsplit('.').next().unwrap()).collect()
}

fn with(more: &str) -> Snapshot {
    mesh(&format!("{SHOP}\n---\n{more}"))
}

fn mesh_config(text: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata:\n  mesh: |\n    {text}\n"
    )
}

#[test]
fn a_sidecar_listens_for_what_it_sees_by_class_and_address() {
    let snapshot = mesh(SHOP);
    assert_eq!(
        listed(&snapshot, &sidecar(&["10.1.0.99"]), ResourceType::Listener),
        [
            "0.0.0.0_443",
            "0.0.0.0_6000",
            "0.0.0.0_7443",
            "0.0.0.0_80",
            "0.0.0.0_8443",
            "0.0.0.0_9090",
            "10.1.0.7_6379",
            "10.1.0.7_82",
            "10.1.0.8_6379",
            "10.1.0.8_82",
            "10.96.0.10_81",
            "10.96.0.20_5432",
            "198.51.100.1_6500",
            "virtualInbound",
            "virtualOutbound",
        ]
    );
    // An endpoint of a headless service has no listener for itself.
    let own = listed(&snapshot, &sidecar(&["10.1.0.7"]), ResourceType::Listener);
    assert!(own.contains(&"10.1.0.8_6379") && !own.contains(&"10.1.0.7_6379"), "{own:?}");
    // Families of the proxy decide which addresses matter.
    let six = listed(&snapshot, &sidecar(&["2001:db8::99"]), ResourceType::Listener);
    assert!(six.contains(&"::_80") && six.contains(&"2001:db8::20_7000"), "{six:?}");
    assert!(!six.contains(&"10.96.0.20_5432"), "{six:?}");
    for addresses in [&["10.1.0.99"][..], &["10.1.0.7"], &["2001:db8::99"], &["10.1.0.5", "2001:db8::5"]] {
        assert_consistent(&snapshot, &sidecar(addresses));
    }
}

#[test]
fn an_http_port_is_detected_and_shared_with_what_is_opaque() {
    let snapshot = mesh(SHOP);
    let shared = listener(&snapshot, &sidecar(&["10.1.0.99"]), "0.0.0.0_80");
    assert_eq!(
        told(&shared),
        [
            "raw_buffer http/1.1 h2c -> routes 80",
            "192.0.2.0/24 -> outbound|80||nets.example.com",
            "[PassthroughFilterChain]  -> PassthroughCluster",
        ]
    );
    assert_eq!(inspectors(&shared), ["tls_inspector", "http_inspector"]);
    assert_eq!(shared.bind_to_port.map(|bind| bind.value), Some(false));
    assert!(shared.continue_on_listener_filters_timeout);
    let timeout = shared.listener_filters_timeout.unwrap();
    assert_eq!((timeout.seconds, timeout.nanos), (0, 0));
}

#[test]
fn an_opaque_port_is_not_inspected() {
    let snapshot = mesh(SHOP);
    let proxy = sidecar(&["10.1.0.99"]);
    for (name, cluster) in [
        ("10.96.0.20_5432", "outbound|5432||db.default.svc.cluster.local"),
        ("10.1.0.8_6379", "outbound|6379||hl.default.svc.cluster.local"),
        ("0.0.0.0_6000", "outbound|6000||rr.example.com"),
    ] {
        let opaque = listener(&snapshot, &proxy, name);
        assert_eq!(told(&opaque), [format!(" -> {cluster}")], "{name}");
        assert!(inspectors(&opaque).is_empty(), "{name}");
    }
}

#[test]
fn an_undeclared_protocol_is_detected_at_the_services_own_address() {
    let snapshot = mesh(SHOP);
    let proxy = sidecar(&["10.1.0.99"]);
    let service = listener(&snapshot, &proxy, "10.96.0.10_81");
    assert_eq!(
        told(&service),
        [
            "raw_buffer http/1.1 h2c -> routes web.default.svc.cluster.local:81",
            " -> outbound|81||web.default.svc.cluster.local",
        ]
    );
    assert_eq!(inspectors(&service), ["tls_inspector", "http_inspector"]);
    let pod = listener(&snapshot, &proxy, "10.1.0.8_82");
    assert_eq!(told(&pod)[0], "raw_buffer http/1.1 h2c -> routes hl.default.svc.cluster.local:82");
}

#[test]
fn tls_without_an_address_of_its_own_is_told_by_server_name() {
    let snapshot = mesh(SHOP);
    let proxy = sidecar(&["10.1.0.99"]);
    let nets = listener(&snapshot, &proxy, "0.0.0.0_7443");
    assert_eq!(
        told(&nets),
        [
            "192.0.2.0/24 sni nets.example.com -> outbound|7443||nets.example.com",
            "[PassthroughFilterChain]  -> PassthroughCluster",
        ]
    );
    assert_eq!(inspectors(&nets), ["tls_inspector"]);
    let strict = with(&mesh_config("outboundTrafficPolicy: {mode: REGISTRY_ONLY}"));
    let nets = listener(&strict, &proxy, "0.0.0.0_7443");
    assert_eq!(told(&nets)[1], "[PassthroughFilterChain]  -> BlackHoleCluster");
}

#[test]
fn captured_connections_arrive_and_loops_end() {
    let proxy = sidecar(&["10.1.0.99"]);
    let outbound = listener(&mesh(SHOP), &proxy, "virtualOutbound");
    assert_eq!(
        told(&outbound),
        [
            "[virtualOutbound-blackhole] port 15001 -> BlackHoleCluster",
            "[virtualOutbound-catchall-tcp]  -> PassthroughCluster",
        ]
    );
    assert_eq!(outbound.use_original_dst.map(|use_it| use_it.value), Some(true));
    let strict = with(&mesh_config("outboundTrafficPolicy: {mode: REGISTRY_ONLY}"));
    let outbound = listener(&strict, &proxy, "virtualOutbound");
    assert_eq!(told(&outbound)[1], "[virtualOutbound-catchall-tcp]  -> BlackHoleCluster");
}

#[test]
fn the_inbound_listener_has_a_chain_per_port_served_and_detects_only_what_is_undeclared() {
    let more = r"
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: raw, namespace: default}
spec:
  hosts: [raw.example.com]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 3307, name: tcp, protocol: TCP, targetPort: 3306}]
  endpoints: [{address: 10.1.0.5}]
";
    let inbound = listener(&with(more), &sidecar(&["10.1.0.5"]), "virtualInbound");
    assert_eq!(
        told(&inbound),
        [
            "[virtualInbound-blackhole] port 15006 -> BlackHoleCluster",
            "[virtualInbound-catchall-http] raw_buffer http/1.1 h2c -> inline InboundPassthroughCluster inbound|http|0",
            "[virtualInbound] raw_buffer -> InboundPassthroughCluster",
            "[virtualInbound]  -> InboundPassthroughCluster",
            "[0.0.0.0_3306] port 3306 -> inbound|3306||",
            "[0.0.0.0_8080] port 8080 -> inline inbound|8080|| inbound|http|80",
            "[0.0.0.0_8081] port 8081 raw_buffer http/1.1 h2c -> inline inbound|8081|| inbound|http|81",
            "[0.0.0.0_8081] port 8081 raw_buffer -> inbound|8081||",
            "[0.0.0.0_8081] port 8081 -> inbound|8081||",
            "[0.0.0.0_9090] port 9090 -> inline inbound|9090|| inbound|http|9090",
        ]
    );
    assert_eq!(inspectors(&inbound), ["original_dst", "tls_inspector", "http_inspector"]);
    assert!(inbound.listener_filters[0].filter_disabled.is_none());
    for filter in &inbound.listener_filters[1..] {
        let disabled = format!("{:?}", filter.filter_disabled);
        for port in [15006, 3306, 8080, 9090] {
            assert!(disabled.contains(&format!("start: {port}, end: {}", port + 1)), "{port}: {disabled}");
        }
        assert!(!disabled.contains("start: 8081"), "{disabled}");
    }
}

const ROUTES: &str = r"
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: db, namespace: default}
spec:
  hosts: [db]
  tcp:
  - match: [{port: 1, destinationSubnets: [10.0.0.0/8]}]
    route: [{destination: {host: never}}]
  - match: [{sourceLabels: {tier: gold}}]
    route: [{destination: {host: gold, port: {number: 5432}}}]
  - match: [{destinationSubnets: [10.96.0.0/16]}]
    route:
    - {destination: {host: db, subset: v1}, weight: 90}
    - {destination: {host: hl, port: {number: 6379}}, weight: 10}
    - {destination: {host: six}, weight: 0}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: nets, namespace: default}
spec:
  hosts: ['*.example.com']
  tls:
  - match: [{sniHosts: [a.example.com, b.example.com]}]
    route: [{destination: {host: api.example.com, port: {number: 443}}}]
  - match: [{sniHosts: [c.example.com], destinationSubnets: [192.0.2.7]}]
    route: [{destination: {host: nets.example.com, port: {number: 7443}}}]
  - match: [{sniHosts: [d.example.com], gateways: [default/edge]}]
    route: [{destination: {host: never}}]
";

#[test]
fn opaque_routes_become_chains() {
    let snapshot = with(ROUTES);
    let proxy = sidecar(&["10.1.0.99"]);
    assert_eq!(
        told(&listener(&snapshot, &proxy, "10.96.0.20_5432")),
        [
            "10.96.0.0/16 -> 90*outbound|5432|v1|db.default.svc.cluster.local + 10*outbound|6379||hl.default.svc.cluster.local",
            " -> outbound|5432||db.default.svc.cluster.local",
        ]
    );
    let idle = "
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: db, namespace: default}
spec: {host: db, trafficPolicy: {connectionPool: {tcp: {idleTimeout: 77s}}}, subsets: [{name: v1}]}
";
    let split = listener(&with(&format!("{ROUTES}{idle}")), &proxy, "10.96.0.20_5432");
    for chain in split.filter_chains.iter().chain(&split.default_filter_chain) {
        let Some(filter::ConfigType::TypedConfig(config)) = &chain.filters[0].config_type else { panic!() };
        let idle = unpack::<TcpProxy>(config).idle_timeout.map(|timeout| timeout.seconds);
        assert_eq!(idle, Some(77), "a split by weight obeys the rule of its first destination");
    }
    let mut gold = proxy.clone();
    gold.labels.insert("tier".into(), "gold".into());
    assert_eq!(
        told(&listener(&snapshot, &gold, "10.96.0.20_5432")),
        [" -> outbound|5432||gold.default.svc.cluster.local"]
    );
    assert_eq!(
        told(&listener(&snapshot, &proxy, "0.0.0.0_7443")),
        [
            "192.0.2.0/24 sni a.example.com sni b.example.com -> outbound|443||api.example.com",
            "192.0.2.7/32 sni c.example.com -> outbound|7443||nets.example.com",
            "[PassthroughFilterChain]  -> PassthroughCluster",
        ]
    );
}

/// Entries (protocol, addresses), the listener to look at, and its chains.
type Claim = (&'static [(&'static str, &'static str)], &'static str, &'static [&'static str]);

fn entry(name: &str, protocol: &str, addresses: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}, namespace: default}}\nspec:\n  hosts: [{name}.test]\n  addresses: {addresses}\n  resolution: NONE\n  ports: [{{number: 9000, name: p, protocol: {protocol}}}]\n"
    )
}

#[test]
fn of_two_that_claim_the_same_the_older_has_it() {
    let proxy = sidecar(&["10.1.0.99"]);
    let cases: [Claim; 5] = [
        (
            &[("TCP", "[1.1.1.1]"), ("TCP", "[2.2.2.2, 1.1.1.1]")],
            "1.1.1.1_9000",
            &[" -> outbound|9000||e0.test"],
        ),
        (
            &[("TCP", "[1.1.1.1]"), ("TCP", "[2.2.2.2, 1.1.1.1]")],
            "2.2.2.2_9000",
            &[" -> outbound|9000||e1.test"],
        ),
        (
            &[("TCP", "['1234:1::1/32']"), ("TCP", "['1234:1::2/32']")],
            "0.0.0.0_9000",
            &["1234:1::/32 -> outbound|9000||e0.test", "[PassthroughFilterChain]  -> PassthroughCluster"],
        ),
        (
            &[("HTTP", "[1.1.1.1]"), ("TCP", "[]")],
            "0.0.0.0_9000",
            &["raw_buffer http/1.1 h2c -> routes 9000", " -> outbound|9000||e1.test"],
        ),
        (
            &[("TCP", "[]"), ("HTTP", "[]"), ("TCP", "[]")],
            "0.0.0.0_9000",
            &["raw_buffer http/1.1 h2c -> routes 9000", " -> outbound|9000||e0.test"],
        ),
    ];
    for (entries, name, chains) in cases {
        let yaml: Vec<String> = entries
            .iter()
            .enumerate()
            .map(|(index, (protocol, addresses))| entry(&format!("e{index}"), protocol, addresses))
            .collect();
        let mut both = proxy.clone();
        both.addresses.push("1234::1234".parse().unwrap());
        let snapshot = mesh(&yaml.join("---\n"));
        assert_eq!(told(&listener(&snapshot, &both, name)), *chains, "{entries:?} {name}");
    }
}

#[test]
fn where_servers_speak_first_nothing_is_detected() {
    let entry =
        |name: &str, protocol: &str| entry(name, protocol, "[]").replace("number: 9000", "number: 3306");
    let snapshot = mesh(&[entry("a", "TCP"), entry("b", "HTTP")].join("---\n"));
    let opaque = listener(&snapshot, &sidecar(&["10.1.0.99"]), "0.0.0.0_3306");
    assert_eq!(told(&opaque), [" -> outbound|3306||a.test"]);
    assert!(inspectors(&opaque).is_empty());
}

#[test]
fn clients_share_their_outbound_listeners() {
    let snapshot = with(ROUTES);
    let (one, other) = (sidecar(&["10.1.0.98"]), sidecar(&["10.1.0.99"]));
    for name in listed(&snapshot, &one, ResourceType::Listener) {
        let asked = |proxy: &Proxy| reads(&snapshot, proxy, ResourceType::Listener, name).attrs;
        assert_eq!(asked(&one) == asked(&other), name != "virtualInbound", "{name}");
    }
}

#[test]
fn names_that_nothing_declares_are_no_listeners() {
    let snapshot = mesh(SHOP);
    let proxy = sidecar(&["10.1.0.99"]);
    for name in [
        "0.0.0.0_81",
        "10.96.0.10_80",
        "10.96.0.20_53",
        "10.1.0.5_8080",
        "0.0.0.0_15021",
        "nonsense",
        "::_80",
    ] {
        assert!(common::encoded(&snapshot, &proxy, ResourceType::Listener, name).is_none(), "{name}");
    }
    assert!(common::encoded(&snapshot, &router(), ResourceType::Listener, "virtualOutbound").is_none());
}
