//! A stranger drives our proxy: a control plane that shares no code with ours, in both dialects. Whatever `translate` makes
//! loads and is in force as it was sent; what is not supported is refused by name, and disturbs nothing beside it.
//!
//! Everything stands in a network namespace of its own, because listeners of a mesh have the ports that they have.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests may fail as tests do")]

#[path = "../../translate/tests/common/mod.rs"]
mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use common::{mesh, router, sidecar};
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use ostro_envoy_json::{Unknown, from_value};
use ostro_testkit::dump::{generated, resources};
use ostro_testkit::loaded::differences;
use ostro_testkit::meshgen::Shape;
use ostro_testkit::netns;
use ostro_testkit::ours::{Dialect, Options, Ours};
use ostro_testkit::second::{Change, ControlPlane, Resource};
use ostro_translate::ResourceType;
use serde_json::{Value, json};

const SHOP: &str = include_str!("../../translate/tests/common/shop.yaml");
const POLICIES: &str = include_str!("../../translate/tests/common/policies.yaml");
const ROUTES: &str = include_str!("../../translate/tests/common/routes.yaml");

/// Of what `translate` makes, this is not supported; all of it, and nothing else.
const REFUSED: [&str; 5] = [
    "a pipe",
    "dynamic_metadata",
    "transport socket envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport",
    "transport socket envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
    "tunneling_config",
];

/// No wait here is longer than this unless something is broken.
const PATIENCE: Duration = Duration::from_secs(120);

/// A control plane and a proxy that has nothing yet.
struct Stage {
    plane: ControlPlane,
    ours: Ours,
}

impl Stage {
    async fn open(dialect: Dialect) -> Stage {
        let plane = ControlPlane::start().await;
        let ours = Ours::start(plane.address(), dialect, Options::default());
        Stage { plane, ours }
    }

    /// Makes these the only resources, and waits until the proxy has said what it thinks of each.
    async fn send(&self, sent: Vec<Resource>) {
        let change = self.plane.replace(sent);
        let answered = tokio::time::timeout(PATIENCE, self.plane.answered(change)).await;
        assert!(answered.is_ok(), "{:?}\n{}", self.plane.look(|answers| answers.settled), self.ours.words());
    }

    /// What was refused, each response in one line.
    fn refusals(&self) -> Vec<String> {
        self.plane.look(|answers| answers.refused.iter().map(|refused| refused.message.clone()).collect())
    }
}

/// Runs a test in a namespace of its own.
fn alone<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    netns::alone(test).expect("what went wrong is printed above");
}

/// What a refusal says of each resource that it names: `NAME: why`.
fn lines(refusal: &str) -> impl Iterator<Item = &str> {
    let (_, all) = refusal.split_once("(s) ").unwrap_or_default();
    all.split(", ").flat_map(|part| part.split('\n')).filter(|line| !line.is_empty())
}

/// Those of `sent` that no refusal names.
fn taken(sent: &[Resource], refusals: &[String]) -> Vec<Resource> {
    // A cluster and its endpoints have one name. Without the cluster nobody asks for its endpoints; without endpoints the
    // cluster is there.
    let of_endpoints = |refusal: &str| {
        refusal.split_once("(s) ").is_some_and(|(kind, _)| kind.ends_with("cluster load assignment"))
    };
    let of_kind =
        |refusal: &&String, kind: ResourceType| !of_endpoints(refusal) || kind == ResourceType::Endpoint;
    let is_refused = |of: &&Resource| {
        let mut refused =
            refusals.iter().filter(|refusal| of_kind(refusal, of.kind)).flat_map(|refusal| lines(refusal));
        refused.any(|line| line.starts_with(&format!("{}: ", of.name)))
    };
    sent.iter().filter(|resource| !is_refused(resource)).cloned().collect()
}

async fn shapes(dialect: Dialect) {
    let stage = Stage::open(dialect).await;
    let everything = format!("{SHOP}\n---\n{POLICIES}\n---\n{ROUTES}");
    let (mut kinds, mut refused) = (BTreeMap::new(), BTreeSet::new());
    for yaml in [SHOP, &everything] {
        let snapshot = mesh(yaml);
        for proxy in [sidecar(&["10.1.0.5"]), sidecar(&["10.1.0.7"]), router()] {
            let sent = resources(&snapshot, &proxy);
            let before = stage.refusals().len();
            // From nothing: what is as it was is not told again, and so not refused again.
            stage.send(Vec::new()).await;
            stage.send(sent.clone()).await;
            let refusals = stage.refusals().split_off(before);
            for line in refusals.iter().flat_map(|refusal| lines(refusal)) {
                let (_, what) = line.split_once("not supported: ").unwrap_or_else(|| panic!("{line}"));
                refused.insert(what.to_owned());
            }
            let sent = taken(&sent, &refusals);
            sent.iter().for_each(|resource| *kinds.entry(resource.kind).or_insert(0) += 1);
            let wrong = differences(&stage.ours.config_dump(), &sent);
            assert!(wrong.is_empty(), "{wrong:#?}\n{refusals:#?}\n{}", stage.ours.words());
        }
    }
    assert_eq!(refused.iter().map(String::as_str).collect::<Vec<_>>(), REFUSED);
    assert!(ResourceType::ALL.iter().all(|kind| kinds.get(kind) > Some(&10)), "{kinds:?}");
}

#[test]
fn every_shape_that_is_made_loads_unchanged_by_deltas() {
    alone(|| shapes(Dialect::Delta));
}

#[test]
fn every_shape_that_is_made_loads_unchanged_as_the_state_of_the_world() {
    alone(|| shapes(Dialect::World));
}

/// A large mesh's sidecar, whole.
async fn large() {
    let shape = Shape {
        services: 5_000,
        namespaces: 500,
        endpoints: 2,
        tcp_every: 10,
        rules_every: 10,
        routes_every: 20,
    };
    let sent = resources(&generated(shape), &sidecar(&["10.128.0.1"]));
    assert!(sent.len() > 15_000, "{}", sent.len());
    for dialect in Dialect::ALL {
        let stage = Stage::open(dialect).await;
        let began = Instant::now();
        stage.send(sent.clone()).await;
        println!("{} resources, {dialect:?}: {:.2?}", sent.len(), began.elapsed());
        assert_eq!(stage.refusals(), [""; 0]);
        assert_eq!(differences(&stage.ours.config_dump(), &sent), [""; 0]);
    }
}

#[test]
fn five_thousand_services_load_unchanged_in_both_dialects() {
    alone(large);
}

fn any(kind: &str, mut config: Value) -> Value {
    config["@type"] = format!("type.googleapis.com/{kind}").into();
    config
}

const MANAGER: &str = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

/// A listener on a port of the system's choosing, with a manager that has `more` members, and filters before its router.
fn listener(name: &str, more: Value, filters: Vec<Value>) -> Value {
    let router = any("envoy.extensions.filters.http.router.v3.Router", json!({}));
    let mut filters: Vec<Value> =
        filters.into_iter().map(|config| json!({"name": "extra", "typed_config": config})).collect();
    filters.push(json!({"name": "envoy.filters.http.router", "typed_config": router}));
    let mut manager = any(MANAGER, json!({"stat_prefix": "x", "route_config": {}, "http_filters": filters}));
    manager.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({
        "name": name,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": [{"name": "hcm", "typed_config": manager}]}],
    })
}

fn cluster(name: &str, more: Value) -> Value {
    let mut cluster = json!({"name": name, "type": "STATIC", "connect_timeout": "1s"});
    cluster.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    cluster
}

/// What is not supported: the resource, and what the refusal says of it.
fn unsupported() -> Vec<(ResourceType, Value, &'static str)> {
    let http = |kind: &str| vec![any(kind, json!({}))];
    let tls = any("envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext", json!({}));
    let lua = "envoy.extensions.filters.http.lua.v3.Lua";
    let wasm = "envoy.extensions.filters.http.wasm.v3.Wasm";
    let mongo =
        any("envoy.extensions.filters.network.mongo_proxy.v3.MongoProxy", json!({"stat_prefix": "m"}));
    let mut network = listener("network filter", json!({}), Vec::new());
    network["filter_chains"][0]["filters"] =
        json!([{"name": "envoy.filters.network.mongo_proxy", "typed_config": mongo}]);
    let mut inspector = listener("listener filter", json!({}), Vec::new());
    inspector["listener_filters"] = json!([{
        "name": "dynamic modules",
        "typed_config": any("envoy.extensions.filters.listener.original_src.v3.OriginalSrc", json!({})),
    }]);
    let mut udp = listener("udp", json!({}), Vec::new());
    udp["udp_listener_config"] = json!({});
    let quic = json!({"codec_type": "HTTP3"});
    let scoped = json!({"route_config": null, "scoped_routes": {"name": "s"}});
    vec![
        (ResourceType::Listener, listener("http filter", json!({}), http(lua)), lua),
        (ResourceType::Listener, listener("second http filter", json!({}), http(wasm)), wasm),
        (ResourceType::Listener, network, "envoy.extensions.filters.network.mongo_proxy.v3.MongoProxy"),
        (ResourceType::Listener, inspector, "envoy.extensions.filters.listener.original_src.v3.OriginalSrc"),
        (ResourceType::Listener, udp, "udp_listener_config"),
        (ResourceType::Listener, listener("http3", quic, Vec::new()), "codec_type HTTP3"),
        (ResourceType::Listener, listener("scopes", scoped, Vec::new()), "scoped_routes"),
        (
            ResourceType::Cluster,
            cluster("tls", json!({"transport_socket": {"name": "tls", "typed_config": tls}})),
            "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        ),
        (
            ResourceType::Cluster,
            cluster("budgets", json!({"track_timeout_budgets": true})),
            "track_timeout_budgets",
        ),
        (ResourceType::Cluster, cluster("lrs", json!({"lrs_server": {"self": {}}})), "lrs_server"),
        (ResourceType::Route, json!({"name": "vhds", "vhds": {"config_source": {"ads": {}}}}), "vhds"),
    ]
}

fn resource(kind: ResourceType, value: &Value) -> Resource {
    let name = value["name"].as_str().unwrap();
    match kind {
        ResourceType::Cluster => Resource::new(name, &from_value::<Cluster>(value, Unknown::Refuse).unwrap()),
        ResourceType::Listener => {
            Resource::new(name, &from_value::<Listener>(value, Unknown::Refuse).unwrap())
        }
        ResourceType::Route => {
            Resource::new(name, &from_value::<RouteConfiguration>(value, Unknown::Refuse).unwrap())
        }
        ResourceType::Endpoint => unreachable!("nothing of endpoints is refused here"),
    }
}

/// A listener that has its routes by this name.
fn routed(name: &str, routes: &str) -> Value {
    let rds =
        json!({"route_config": null, "rds": {"route_config_name": routes, "config_source": {"ads": {}}}});
    listener(name, rds, Vec::new())
}

async fn refusals(dialect: Dialect) {
    let stage = Stage::open(dialect).await;
    let good = [
        resource(ResourceType::Cluster, &cluster("good", json!({}))),
        resource(ResourceType::Listener, &routed("good", "good")),
        resource(ResourceType::Listener, &routed("of the refused routes", "vhds")),
        resource(ResourceType::Route, &json!({"name": "good"})),
    ];
    // All at once, the good between the others.
    let all = unsupported();
    let mut sent: Vec<Resource> = all.iter().map(|(kind, value, _)| resource(*kind, value)).collect();
    sent.extend(good.clone());
    stage.send(sent).await;
    let refusals = stage.refusals().join("\n");
    for (kind, value, what) in &all {
        let name = value["name"].as_str().unwrap();
        let line = refusals.split(['\n', ',']).find(|line| line.contains(&format!("{name}: ")));
        let line = line.unwrap_or_else(|| panic!("{kind:?} {name} is not refused by name: {refusals}"));
        assert!(line.contains("not supported: ") && line.contains(what), "{line}");
    }
    assert_eq!(differences(&stage.ours.config_dump(), &good), [""; 0], "{refusals}");
    // What is refused never replaces what is in force.
    let mut worse = cluster("good", json!({"lrs_server": {"self": {}}}));
    worse["connect_timeout"] = "2s".into();
    let change = Change { put: vec![resource(ResourceType::Cluster, &worse)], ..Change::default() };
    let before = stage.refusals().len();
    let change = stage.plane.apply(change);
    tokio::time::timeout(PATIENCE, stage.plane.settled(change)).await.unwrap();
    assert!(stage.refusals().len() > before);
    assert_eq!(differences(&stage.ours.config_dump(), &good), [""; 0]);
}

#[test]
fn what_is_not_supported_is_refused_by_name_in_deltas() {
    alone(|| refusals(Dialect::Delta));
}

#[test]
fn what_is_not_supported_is_refused_by_name_in_the_state_of_the_world() {
    alone(|| refusals(Dialect::World));
}
