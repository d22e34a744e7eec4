//! Configuration: Envoy's messages as bytes and as JSON, bootstraps, responses of a control plane.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use envoy_types::pb::envoy::config::bootstrap::v3::Bootstrap as BootstrapProto;
use envoy_types::pb::envoy::config::cluster::v3::Cluster as ClusterProto;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::listener::v3::Listener as ListenerProto;
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse, Resource};
use envoy_types::pb::google::protobuf::Any;
use http::{HeaderValue, Method};
use ostro_engine::cluster::Assignment;
use ostro_engine::{
    Action, Bootstrap, Cluster, Connection, Decision, Listener, Opening, Request, RouteTable,
};
use ostro_envoy_json::{Unknown, to_value, to_wire, wire_to_value};
use ostro_xds_client::delivery::Delivery;
use ostro_xds_client::{
    Accepted, Consumer, Kind, Moment, Need, Offered, Origin, Phase, Source, Store, Wildcard,
};
use prost::Message;

use crate::cut::{Cut, joined, texts};

const LISTENER: &str = r#"{"name": "l", "address": {"socket_address": {"address": "127.0.0.1", "port_value": 80}},
 "listener_filters": [{"name": "tls", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"}}],
 "filter_chains": [{"filter_chain_match": {"server_names": ["*.a"], "prefix_ranges": [{"address_prefix": "10.0.0.0", "prefix_len": 8}]},
  "filters": [{"name": "hcm", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
   "stat_prefix": "x", "route_config": {"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "c"}}]}]},
   "http_filters": [{"name": "router", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]}}]}]}"#;
const ROUTES: &str = r#"{"name": "r", "virtual_hosts": [{"name": "v", "domains": ["a", "*.b", "*"],
 "routes": [{"match": {"safe_regex": {"regex": "/a+"}, "headers": [{"name": "k", "string_match": {"prefix": "x"}}]}, "redirect": {"host_redirect": "h"}},
  {"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": [{"name": "c", "weight": 1}, {"name": "d", "weight": 3}]},
   "timeout": "1s", "retry_policy": {"retry_on": "5xx", "num_retries": 2}, "hash_policy": [{"header": {"header_name": "k"}}]}}]}]}"#;
const CLUSTER: &str = r#"{"name": "c", "type": "EDS", "eds_cluster_config": {"eds_config": {"ads": {}}}, "lb_policy": "LEAST_REQUEST",
 "circuit_breakers": {"thresholds": [{"max_connections": 3}]}, "outlier_detection": {"consecutive_5xx": 5}}"#;
const ENDPOINTS: &str = r#"{"cluster_name": "c", "endpoints": [{"locality": {"zone": "z"}, "priority": 0,
 "lb_endpoints": [{"endpoint": {"address": {"socket_address": {"address": "10.0.0.1", "port_value": 80}}}, "load_balancing_weight": 3}]}]}"#;
const BOOTSTRAP: &str = r#"{"node": {"id": "n", "cluster": "c", "metadata": {"a": [1, null, {"b": true}]}},
 "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
 "dynamic_resources": {"ads_config": {"api_type": "DELTA_GRPC", "transport_api_version": "V3", "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}]},
  "cds_config": {"ads": {}, "initial_fetch_timeout": "0s"}, "lds_config": {"ads": {}}},
 "layered_runtime": {"layers": [{"name": "l", "static_layer": {"k": 1}}, {"name": "a", "admin_layer": {}}]},
 "stats_config": {"use_all_default_tags": false, "stats_tags": [{"tag_name": "t", "regex": "^a(.*)$"}]},
 "static_resources": {"clusters": [{"name": "xds", "type": "STATIC", "load_assignment": {"cluster_name": "xds"}}]}}"#;

fn wire(message: &str, json: &str) -> Vec<u8> {
    let tree = to_value(json).expect("a seed is JSON");
    to_wire(message, &tree, Unknown::Refuse).expect("a seed is a message")
}

const SEEDS: [(&str, &str); 4] = [
    ("envoy.config.cluster.v3.Cluster", CLUSTER),
    ("envoy.config.endpoint.v3.ClusterLoadAssignment", ENDPOINTS),
    ("envoy.config.listener.v3.Listener", LISTENER),
    ("envoy.config.route.v3.RouteConfiguration", ROUTES),
];

/// Any bytes as a resource: it is taken or refused, and what is taken decides any request.
pub(crate) fn engine(input: &[u8]) {
    let mut cut = Cut::new(input);
    let kind = cut.byte();
    let random = u64::from(cut.byte()) << 56 | u64::from(cut.byte());
    let (authority, path, bytes) = (cut.piece(), cut.piece(), cut.rest());
    match kind % 4 {
        0 => drop(ClusterProto::decode(bytes).map(Cluster::compile)),
        1 => drop(ClusterLoadAssignment::decode(bytes).map(Assignment::compile_eds)),
        2 => {
            let listener = ListenerProto::decode(bytes).ok().and_then(|proto| Listener::compile(proto).ok());
            let at = std::net::SocketAddr::from(([10, 0, 0, 1], random as u16));
            let opening = Opening::Other;
            let connection = Connection { destination: at, source: at, direct_source: at.ip(), opening };
            if let Some(listener) = listener {
                listener.chain_for(&connection);
            }
        }
        _ => {
            let table =
                RouteConfiguration::decode(bytes).ok().and_then(|proto| RouteTable::compile(proto).ok());
            if let Some(table) = table {
                decide(&table, authority, path, random);
            }
        }
    }
}

fn decide(table: &RouteTable, authority: &[u8], path: &[u8], random: u64) {
    let value = |bytes: &[u8]| HeaderValue::from_bytes(bytes).unwrap_or(HeaderValue::from_static("/"));
    let request = Request::new(Method::GET, value(authority), value(path));
    if let Decision::Route(_, route) = table.decide(&request, random)
        && let Action::Forward(forward) = &route.action
    {
        forward.cluster(&request, random);
    }
}

pub(crate) fn engine_seeds() -> Vec<Vec<u8>> {
    let seed = |(kind, (message, json)): (u8, &(&str, &str))| {
        joined(&[kind, 7, 7], &[b"x.b:80", b"/aa?q"], &wire(message, json))
    };
    (0..4).zip(&SEEDS).map(seed).collect()
}

const MESSAGES: [&str; 4] = [
    "envoy.config.bootstrap.v3.Bootstrap",
    "envoy.config.listener.v3.Listener",
    "envoy.config.cluster.v3.Cluster",
    "google.protobuf.Value",
];

/// JSON and bytes as any message: nothing panics, and what is taken comes back the same.
pub(crate) fn json(input: &[u8]) {
    for message in MESSAGES {
        let _ = wire_to_value(message, input);
    }
    let Some(tree) = std::str::from_utf8(input).ok().and_then(|text| to_value(text).ok()) else { return };
    for message in MESSAGES {
        let mut unknown = Vec::new();
        let Ok(wire) = to_wire(message, &tree, Unknown::Collect(&mut unknown)) else { continue };
        let back = wire_to_value(message, &wire).expect("what we wrote can be read");
        let again = to_wire(message, &back, Unknown::Refuse).expect("what we printed is taken");
        assert_eq!(wire_to_value(message, &again), Ok(back));
    }
}

pub(crate) fn json_seeds() -> Vec<Vec<u8>> {
    let mut seeds = texts(&[LISTENER, CLUSTER, BOOTSTRAP, r#"{"a": [1, -2.5e-3, "x", null, {}]}"#]);
    seeds.extend([wire(SEEDS[0].0, CLUSTER), wire(SEEDS[2].0, LISTENER), wire(MESSAGES[0], BOOTSTRAP)]);
    seeds
}

/// Any text as a bootstrap, in JSON or YAML: it is taken or refused, with everything static in it.
pub(crate) fn bootstrap(input: &[u8]) {
    let json = std::str::from_utf8(input).ok().and_then(|text| to_value(text).ok());
    let (yaml, complaints) = ostro_api::parse_value("fuzz.yaml", input);
    for tree in json.into_iter().chain(complaints.is_empty().then_some(yaml)) {
        let mut unknown = Vec::new();
        let Ok(wire) = to_wire(MESSAGES[0], &tree, Unknown::Collect(&mut unknown)) else { continue };
        let Ok(proto) = BootstrapProto::decode(wire.as_slice()) else { continue };
        let Ok(bootstrap) = Bootstrap::compile(proto) else { continue };
        let _ = bootstrap.clusters.into_iter().map(Cluster::compile).collect::<Vec<_>>();
        let _ = bootstrap.listeners.into_iter().map(Listener::compile).collect::<Vec<_>>();
    }
}

pub(crate) fn bootstrap_seeds() -> Vec<Vec<u8>> {
    let with_listener = format!(
        r#"{{"node": {{"id": "n"}}, "staticResources": {{"listeners": [{LISTENER}], "clusters": [{CLUSTER}]}}}}"#
    );
    let yaml = "node: {id: n, cluster: c}\nadmin:\n  address: {socket_address: {address: 127.0.0.1, port_value: 15000}}\nstats_flush_interval: 5s\n";
    let mut seeds = texts(&[BOOTSTRAP, yaml]);
    seeds.push(with_listener.into_bytes());
    seeds
}

const KINDS: [Kind; 4] = [Kind::CLUSTER, Kind::ENDPOINT, Kind::LISTENER, Kind::ROUTE];

#[derive(Default)]
struct InForce(BTreeMap<(Kind, Arc<str>), Bytes>);

impl Consumer for InForce {
    type Compiled = Bytes;

    fn compile(&mut self, offered: &Offered<'_>) -> Result<Accepted<Bytes>, String> {
        if offered.bytes.len() % 7 == 3 {
            return Err("is of that length".into());
        }
        let kind = match offered.kind {
            Kind::CLUSTER => Some(Kind::ENDPOINT),
            Kind::LISTENER => Some(Kind::ROUTE),
            _ => None,
        };
        let name: Arc<str> = offered.name.chars().take(1).collect::<String>().into();
        let need = |kind| Need { kind, name: name.clone(), source: Source::Ads, fetch_timeout: None };
        Ok(Accepted { compiled: offered.bytes.clone(), needs: kind.map(need).into_iter().collect() })
    }

    fn set(&mut self, kind: Kind, name: &Arc<str>, compiled: Bytes) {
        self.0.insert((kind, name.clone()), compiled);
    }

    fn remove(&mut self, kind: Kind, name: &Arc<str>) {
        assert!(self.0.remove(&(kind, name.clone())).is_some());
    }

    fn commit(&mut self) {}

    fn phase(&mut self, _: Phase) {}
}

/// Whatever comes as responses, one after the other, in either dialect: taken or refused by name, and what is in force is
/// exactly what the records say.
pub(crate) fn responses(input: &[u8]) {
    let now = Moment::now();
    let all = |kind| Wildcard { kind, source: Source::Ads, fetch_timeout: None };
    let mut store = Store::new(InForce::default(), vec![all(Kind::CLUSTER), all(Kind::LISTENER)]);
    store.begin(now);
    let mut cut = Cut::new(input);
    while !cut.is_empty() {
        let (how, bytes) = (cut.byte(), cut.piece());
        let kind = KINDS[usize::from(how & 3)];
        let delivery = if how & 4 == 0 {
            DiscoveryResponse::decode(bytes).map(|response| Delivery::of_world(kind, response))
        } else {
            DeltaDiscoveryResponse::decode(bytes).map(|response| Delivery::of_delta(kind, response))
        };
        let Ok(delivery) = delivery else { continue };
        let outcome = store.deliver(kind, Origin::Ads, delivery, None, now);
        assert_eq!(outcome.reason(kind).is_some(), !outcome.refused.is_empty());
        let mut recorded = BTreeMap::new();
        for kind in KINDS {
            store.records().each(kind, &mut |record| {
                if let Some(held) = &record.active {
                    recorded.insert((kind, record.name.clone()), held.bytes.clone());
                }
            });
        }
        assert_eq!(recorded, store.consumer().0);
    }
}

pub(crate) fn responses_seeds() -> Vec<Vec<u8>> {
    let any = |(message, json): &(&str, &str)| Any {
        type_url: format!("type.googleapis.com/{message}"),
        value: wire(message, json),
    };
    let world = |seed| DiscoveryResponse {
        version_info: "1".into(),
        resources: vec![any(seed)],
        ..Default::default()
    };
    let delta = |(seed, name): (&(&str, &str), &str)| DeltaDiscoveryResponse {
        resources: vec![Resource {
            name: name.into(),
            version: "1".into(),
            resource: Some(any(seed)),
            ..Default::default()
        }],
        removed_resources: vec!["gone".into()],
        ..Default::default()
    };
    let worlds: Vec<u8> = (0..4)
        .zip(&SEEDS)
        .flat_map(|(kind, seed)| joined(&[kind], &[&world(seed).encode_to_vec()], b""))
        .collect();
    let deltas = (4..8).zip(SEEDS.iter().zip(["c", "c", "l", "r"]));
    let deltas: Vec<u8> =
        deltas.flat_map(|(kind, seed)| joined(&[kind], &[&delta(seed).encode_to_vec()], b"")).collect();
    vec![worlds.clone(), deltas.clone(), [worlds, deltas].concat()]
}
