//! Stock Envoy takes every resource that `translate` makes, without a warning. It stands here and not in that crate so
//! that the crate's own suites stay quick to build.
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

#[path = "../../translate/tests/common/mod.rs"]
mod common;

use std::process::Command;

use common::{encoded, mesh, names, router, sidecar};
use envoy_types::pb::envoy::config::bootstrap::v3::{Bootstrap, bootstrap};
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use envoy_types::pb::envoy::config::core::v3::{
    ApiConfigSource, ApiVersion, GrpcService, Http2ProtocolOptions, Node, api_config_source, grpc_service,
};
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::listener::v3::{Listener, filter::ConfigType};
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, http_connection_manager::RouteSpecifier,
};
use envoy_types::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::{
    ExplicitHttpConfig, UpstreamProtocolOptions, explicit_http_config::ProtocolConfig,
};
use ostro_mesh::model::Locality;
use ostro_mesh::{Proxy, Snapshot};
use ostro_names::Namespace;
use ostro_testkit::universe::versions;
use ostro_translate::{ResourceType, encode};
use prost::{Message, Name};

const SHOP: &str = include_str!("../../translate/tests/common/shop.yaml");

/// Every policy of a DestinationRule that clusters and TCP listeners carry out, and TCP and TLS routes.
const POLICIES: &str = include_str!("../../translate/tests/common/policies.yaml");

/// Everything that http routes and gateways carry out.
const ROUTES: &str = include_str!("../../translate/tests/common/routes.yaml");

/// A bootstrap with these resources in it, and the stream that they refer to.
fn bootstrap(clusters: Vec<Cluster>, listeners: Vec<Listener>) -> Bootstrap {
    let http2 = HttpProtocolOptions {
        upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
            protocol_config: Some(ProtocolConfig::Http2ProtocolOptions(Http2ProtocolOptions::default())),
        })),
        ..Default::default()
    };
    let xds = Cluster {
        name: "xds-grpc".to_owned(),
        connect_timeout: encode::duration(std::time::Duration::from_secs(1)),
        typed_extension_protocol_options: encode::sorted_map(vec![(
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            encode::any(&http2),
        )]),
        ..Default::default()
    };
    let service = GrpcService {
        target_specifier: Some(grpc_service::TargetSpecifier::EnvoyGrpc(grpc_service::EnvoyGrpc {
            cluster_name: "xds-grpc".to_owned(),
            ..Default::default()
        })),
        ..Default::default()
    };
    let ads = ApiConfigSource {
        api_type: api_config_source::ApiType::DeltaGrpc as i32,
        transport_api_version: ApiVersion::V3 as i32,
        grpc_services: vec![service],
        ..Default::default()
    };
    Bootstrap {
        node: Some(Node { id: "test".to_owned(), cluster: "test".to_owned(), ..Default::default() }),
        static_resources: Some(bootstrap::StaticResources {
            clusters: clusters.into_iter().chain([xds]).collect(),
            listeners,
            ..Default::default()
        }),
        dynamic_resources: Some(bootstrap::DynamicResources { ads_config: Some(ads), ..Default::default() }),
        ..Default::default()
    }
}

/// The listener with every route configuration in it that it would fetch: validation fetches nothing.
fn with_routes(snapshot: &Snapshot, proxy: &Proxy, mut listener: Listener) -> Listener {
    let chains = listener.filter_chains.iter_mut().chain(&mut listener.default_filter_chain);
    for filter in chains.flat_map(|chain| &mut chain.filters) {
        let Some(ConfigType::TypedConfig(config)) = &mut filter.config_type else { continue };
        if config.type_url != HttpConnectionManager::type_url() {
            continue;
        }
        let mut manager = HttpConnectionManager::decode(config.value.as_slice()).unwrap();
        if let Some(RouteSpecifier::Rds(rds)) = &manager.route_specifier {
            let routes = encoded(snapshot, proxy, ResourceType::Route, &rds.route_config_name).unwrap();
            let routes = RouteConfiguration::decode(routes).unwrap();
            manager.route_specifier = Some(RouteSpecifier::RouteConfig(routes));
            *config = encode::any(&manager);
        }
    }
    listener
}

/// A cluster whose endpoints come by EDS, once more with its endpoints in it, for the same reason.
fn with_endpoints(snapshot: &Snapshot, proxy: &Proxy, cluster: Cluster) -> Vec<Cluster> {
    if cluster.eds_cluster_config.is_none() {
        return vec![cluster];
    }
    let bytes = encoded(snapshot, proxy, ResourceType::Endpoint, &cluster.name).unwrap();
    let held = Cluster {
        name: format!("{} held", cluster.name),
        eds_cluster_config: None,
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static as i32)),
        load_assignment: Some(ClusterLoadAssignment::decode(bytes).unwrap()),
        ..cluster.clone()
    };
    vec![cluster, held]
}

/// What Envoy says to all resources of a proxy; nothing if it likes them.
fn complaints(snapshot: &Snapshot, proxy: &Proxy) -> String {
    let all = |kind| {
        let names = names(snapshot, proxy, kind);
        names.into_iter().filter_map(move |name| encoded(snapshot, proxy, kind, name.as_str()))
    };
    let clusters: Vec<Cluster> = all(ResourceType::Cluster)
        .flat_map(|bytes| with_endpoints(snapshot, proxy, Cluster::decode(bytes).unwrap()))
        .collect();
    let listeners: Vec<Listener> = all(ResourceType::Listener)
        .map(|bytes| with_routes(snapshot, proxy, Listener::decode(bytes).unwrap()))
        .collect();
    assert!(!clusters.is_empty());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bootstrap.pb");
    std::fs::write(&path, bootstrap(clusters, listeners).encode_to_vec()).unwrap();
    let output = Command::new(ostro_testkit::envoy::binary())
        .args(["--mode", "validate", "--use-dynamic-base-id", "-l", "warning", "-c"])
        .arg(&path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() && said.trim().is_empty() {
        return String::new();
    }
    format!("{}\n{said}\n{}", output.status, String::from_utf8_lossy(&output.stdout))
}

#[test]
fn stock_envoy_takes_everything_without_a_warning() {
    let mesh_config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n    accessLogFile: /dev/stdout\n    protocolDetectionTimeout: 5s\n    tcpKeepalive: {time: 60s}\n    pathNormalization: {normalization: DECODE_AND_MERGE_SLASHES}\n";
    let json = format!(
        "{mesh_config}    accessLogEncoding: JSON\n    outboundTrafficPolicy: {{mode: REGISTRY_ONLY}}\n    inboundTrafficPolicy: {{mode: LOCALHOST}}\n    h2UpgradePolicy: UPGRADE\n"
    );
    let meshes = [
        SHOP.to_owned(),
        format!("{SHOP}\n---\n{POLICIES}\n---\n{mesh_config}"),
        format!("{SHOP}\n---\n{POLICIES}\n---\n{json}"),
        format!("{SHOP}\n---\n{ROUTES}\n---\n{mesh_config}"),
        format!("{SHOP}\n---\n{POLICIES}\n---\n{ROUTES}\n---\n{json}"),
    ];
    let proxies = [
        sidecar(&["10.1.0.5"]),
        sidecar(&["10.1.0.7"]),
        sidecar(&["2001:db8::99"]),
        sidecar(&["10.1.0.6", "2001:db8::6"]),
        router(),
        Proxy { metadata: [("SDS".to_owned(), "true".to_owned())].into(), ..router() },
        Proxy {
            metadata: [("HTTP_PROXY_PORT".to_owned(), "15099".to_owned())].into(),
            ..sidecar(&["10.1.0.8"])
        },
    ];
    for (index, yaml) in meshes.iter().enumerate() {
        let snapshot = mesh(yaml);
        for proxy in &proxies {
            let said = complaints(&snapshot, proxy);
            assert!(said.is_empty(), "mesh {index}, {:?} {:?}: {said}", proxy.kind, proxy.addresses);
        }
    }
}

/// Random meshes that are judged: some ten seconds of Envoy. Sixty were, when this was written.
const MESHES: u64 = 12;

/// A number that looks random and is the same every time.
fn scrambled(seed: u64) -> u64 {
    let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 16
}

/// Every object in one of its versions, or not there.
fn random_mesh(seed: u64) -> String {
    let mut documents = Vec::new();
    for (index, versions) in versions().iter().enumerate() {
        let draw = scrambled(scrambled(seed + 1) + index as u64) as usize % (versions.len() + 1);
        documents.extend(versions.get(draw).map(|version| version.text.clone()));
    }
    documents.join("\n---\n")
}

#[test]
fn stock_envoy_takes_whatever_objects_meet() {
    let in_a = |proxy: Proxy| Proxy {
        namespace: Namespace::new("a"),
        dns_domain: "a.svc.cluster.local".to_owned(),
        labels: [("app".to_owned(), "web".to_owned()), ("version".to_owned(), "v1".to_owned())].into(),
        locality: Locality { region: "r".into(), zone: "z1".into(), subzone: String::new() },
        ..proxy
    };
    let proxies = [in_a(sidecar(&["10.1.0.1"])), sidecar(&["10.1.0.2"]), router()];
    for seed in 0..MESHES {
        let yaml = random_mesh(seed);
        let snapshot = mesh(&yaml);
        for proxy in &proxies {
            let said = complaints(&snapshot, proxy);
            assert!(said.is_empty(), "seed {seed}, {:?} {:?}: {said}\n{yaml}", proxy.kind, proxy.namespace);
        }
    }
}
