//! Configuration under fire: random valid changes, one after the other, from a second control plane, while requests pass.
//!
//! Every part of the configuration that a request meets leaves its generation on it: route table, virtual host and route
//! in what the upstream sees, the table once more in the answer; the cluster by who answers; the listener by what it adds
//! to `via` on the way there and back, and its `server`. An answer whose parts are not of one configuration is a failure.
//!
//! What changes: routes move between clusters, clusters get other endpoints, other settings, or are replaced by ones of
//! another name, the listener is replaced, and listeners beside it come and go. As a control plane must, the
//! routes name only clusters that have been acknowledged, and clusters go when nothing names them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use ostro_envoy_json::{Unknown, from_value};
use ostro_translate::ResourceType;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::MissedTickBehavior;

use crate::load::{Answer, Load, Plan as LoadPlan, Report as LoadReport};
use crate::ours::{Dialect, Options, Ours};
use crate::second::{Change, ControlPlane, Resource};

/// Clusters that the routes move between.
const SLOTS: usize = 16;
/// Programs behind each.
const HOSTS: usize = 2;
/// Virtual hosts beside the one that is asked for.
const OTHERS: usize = 20;
/// Listeners that come and go.
const SIDES: u64 = 4;
/// No wait here is longer than this unless something is broken.
const PATIENCE: Duration = Duration::from_secs(60);
const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
/// How long connections of a listener that was replaced may go on.
const DRAIN_SECONDS: u32 = 5;

/// How much of it.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Changes a second.
    pub updates: u32,
    /// Requests a second.
    pub requests: u32,
    /// Connections of the client.
    pub connections: usize,
    /// Requests alone before, so that everything that grows with them has grown.
    pub warm_up: Duration,
    /// How long both.
    pub fire: Duration,
}

/// What came of it.
#[derive(Debug)]
pub struct Report {
    /// Changes made.
    pub updates: u64,
    /// Responses that the proxy acknowledged meanwhile.
    pub acknowledged: u64,
    /// Responses that it refused, in its words.
    pub refused: Vec<String>,
    /// The requests: all that were answered by one configuration are of the class `ok`.
    pub load: LoadReport,
    /// Requests that were due.
    pub due: u64,
    /// Route tables that requests met, of those that were made.
    pub tables: (u64, u64),
    /// Resident memory after the warm-up, and at the end, in bytes.
    pub memory: (u64, u64),
    /// The most that was seen meanwhile.
    pub memory_max: u64,
    /// Open descriptors, likewise.
    pub descriptors: (usize, usize),
    /// How long it took.
    pub took: Duration,
    /// What the proxy printed.
    pub words: String,
}

/// Runs it.
pub async fn run(plan: Plan) -> Report {
    let mut fire = Fire::open().await;
    let target = fire.target().await;
    let seen = Arc::new(std::sync::Mutex::new(std::collections::BTreeSet::new()));
    let tables = seen.clone();
    let load_plan = LoadPlan {
        target,
        path: "/".to_owned(),
        headers: vec![("host".to_owned(), "fire".to_owned())],
        rate: plan.requests,
        connections: plan.connections,
    };
    let load = Load::start(load_plan, move |answer| {
        let generation = judge(answer)?;
        tables.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(generation);
        Ok("ok".to_owned())
    });
    load.more(u64::from(plan.requests) * plan.warm_up.as_secs()).await;
    let warm = load.take();
    let (memory, descriptors) = (fire.ours.resident(), fire.ours.descriptors());
    let acknowledged = fire.plane.look(|answers| answers.acknowledged);
    let (began, due, made) = (Instant::now(), load.due(), fire.generation);

    let (updates, memory_max) = fire.burn(plan).await;
    let last = fire.change;
    let settled = tokio::time::timeout(PATIENCE, fire.plane.settled(last)).await;
    assert!(settled.is_ok(), "not all is acknowledged\n{}", fire.ours.words());
    let (took, due) = (began.elapsed(), load.due() - due);
    let acknowledged = fire.plane.look(|answers| answers.acknowledged) - acknowledged;
    let mut report = load.finish().await;
    report.failed += warm.failed;
    report.failures.extend(warm.failures);
    let after = fire.rest(descriptors).await;
    let met = seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner).len() as u64;
    Report {
        updates,
        acknowledged,
        refused: fire.plane.look(|answers| answers.refused.iter().map(|one| one.message.clone()).collect()),
        load: report,
        due,
        tables: (met, fire.generation - made + 1),
        memory: (memory, after.0),
        memory_max,
        descriptors: (descriptors, after.1),
        took,
        words: fire.ours.words(),
    }
}

/// The generation of the route table that an answer is of, if all of it is of one configuration.
fn judge(answer: &Answer) -> Result<String, String> {
    let header = |name: &str| answer.headers.get(name).map(String::as_str).unwrap_or_default();
    let table = header("x-fire-table");
    let is_one =
        ["x-saw-fire-table", "x-saw-fire-host", "x-saw-fire-route"].iter().all(|name| header(name) == table);
    let same_cluster = header("x-saw-fire-slot") == header("x-upstream-slot");
    let listener = header("via");
    let same_listener = header("x-saw-fire-listener") == listener && header("server") == listener;
    let whole = !table.is_empty() && !header("x-upstream-slot").is_empty() && listener.starts_with("fire-");
    if answer.status == 200 && whole && is_one && same_cluster && same_listener {
        return Ok(table.to_owned());
    }
    Err(format!("status {}, headers {:?}", answer.status, answer.headers))
}

/// A cluster that the routes may name.
struct Slot {
    /// How often it was replaced.
    incarnation: u64,
    /// The change that must be settled before routes may name it.
    put_in: u64,
    /// The change after which nothing names it any more, once settled; none: the routes do.
    left_in: Option<u64>,
    hosts: Vec<SocketAddr>,
}

struct Fire {
    plane: ControlPlane,
    ours: Ours,
    slots: Vec<Slot>,
    dice: Dice,
    generation: u64,
    change: u64,
    current: usize,
}

impl Fire {
    async fn open() -> Fire {
        let plane = ControlPlane::start().await;
        let mut slots = Vec::new();
        for number in 0..SLOTS {
            let mut hosts = Vec::new();
            for _ in 0..HOSTS {
                hosts.push(upstream(number).await);
            }
            slots.push(Slot { incarnation: 0, put_in: 0, left_in: Some(0), hosts });
        }
        let address = plane.address();
        let options = Options { workers: 2, drain_seconds: DRAIN_SECONDS };
        let ours = Ours::start(address, Dialect::Delta, options);
        let mut fire = Fire { plane, ours, slots, dice: Dice(0x5eed), generation: 0, change: 0, current: 0 };
        fire.begin().await;
        fire
    }

    /// The first configuration, in force.
    async fn begin(&mut self) {
        let mut put = Vec::new();
        for number in 0..SLOTS {
            put.push(self.cluster(number));
            put.push(self.endpoints(number));
        }
        put.push(self.routes(0));
        put.push(main_listener(0));
        self.slots[0].left_in = None;
        self.change = self.plane.apply(Change { put, ..Change::default() });
        let answered = tokio::time::timeout(PATIENCE, self.plane.answered(self.change)).await;
        assert!(answered.is_ok(), "the first configuration is not taken\n{}", self.ours.words());
        assert_eq!(self.plane.look(|answers| answers.refused.len()), 0, "{:?}", self.plane.answers().refused);
    }

    /// Where the main listener is bound.
    async fn target(&self) -> SocketAddr {
        let mut look = tokio::time::interval(Duration::from_millis(5));
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.ours.listener("main") {
                return at;
            }
            assert!(Instant::now() < deadline, "no listener\n{}", self.ours.words());
            look.tick().await;
        }
    }

    /// Makes changes at the pace of the plan; how many, and the most memory that was seen.
    async fn burn(&mut self, plan: Plan) -> (u64, u64) {
        let mut pace = tokio::time::interval(Duration::from_secs(1) / plan.updates);
        pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let total = u64::from(plan.updates) * plan.fire.as_millis() as u64 / 1000;
        let mut memory_max = 0;
        for number in 0..total {
            pace.tick().await;
            let change = self.next();
            self.change = self.plane.apply(change);
            if number % u64::from(plan.updates) == 0 {
                memory_max = memory_max.max(self.ours.resident());
            }
        }
        (total, memory_max)
    }

    /// Waits until what was replaced is drained and what is idle closed; memory and descriptors then.
    async fn rest(&self, descriptors: usize) -> (u64, usize) {
        let deadline = Instant::now() + PATIENCE;
        let mut look = tokio::time::interval(Duration::from_millis(200));
        // Chains that were replaced last are there for the drain time.
        let drained = Instant::now() + Duration::from_secs(u64::from(DRAIN_SECONDS) + 1);
        loop {
            look.tick().await;
            let now = self.ours.descriptors();
            if (now <= descriptors && Instant::now() > drained) || Instant::now() > deadline {
                return (self.ours.resident(), now);
            }
        }
    }

    fn next(&mut self) -> Change {
        let number = self.change + 1;
        let slot = self.dice.below(SLOTS as u64) as usize;
        let settled = self.plane.look(|answers| answers.settled);
        match self.dice.below(100) {
            0..55 => self.move_routes(slot, number, settled),
            55..80 => put(self.endpoints(slot)),
            80..92 => put(self.cluster(slot)),
            92..97 => self.replace(slot, number, settled),
            97..99 => put(main_listener(number)),
            _ => side_listener(number),
        }
    }

    /// Another table, to this slot if it may be named.
    fn move_routes(&mut self, slot: usize, number: u64, settled: u64) -> Change {
        if self.slots[slot].put_in <= settled && slot != self.current {
            self.slots[self.current].left_in = Some(number);
            self.slots[slot].left_in = None;
            self.current = slot;
        }
        put(self.routes(self.current))
    }

    /// A cluster of another name in place of one that nothing names any more; if something does, another setting of it.
    fn replace(&mut self, slot: usize, number: u64, settled: u64) -> Change {
        let of = &self.slots[slot];
        if of.put_in > settled || of.left_in.is_none_or(|left| left > settled) {
            return put(self.cluster(slot));
        }
        let gone = self.name(slot);
        self.slots[slot].incarnation += 1;
        self.slots[slot].put_in = number;
        Change {
            put: vec![self.cluster(slot), self.endpoints(slot)],
            remove: vec![(ResourceType::Cluster, gone.clone()), (ResourceType::Endpoint, gone)],
        }
    }

    fn name(&self, slot: usize) -> String {
        format!("slot-{slot}-{}", self.slots[slot].incarnation)
    }

    fn cluster(&mut self, slot: usize) -> Resource {
        let policy = ["ROUND_ROBIN", "LEAST_REQUEST", "RANDOM"][self.dice.below(3) as usize];
        let cluster = json!({
            "name": self.name(slot),
            "type": "EDS",
            "eds_cluster_config": {"eds_config": {"ads": {}, "resource_api_version": "V3"}},
            "connect_timeout": format!("{}s", 5 + self.dice.below(20)),
            "lb_policy": policy,
            "circuit_breakers": {"thresholds": [{
                "max_connections": 10_000 + self.dice.below(100),
                "max_pending_requests": 10_000,
                "max_requests": 10_000 + self.dice.below(100),
            }]},
            "metadata": {"filter_metadata": {"fire": {"change": self.change}}},
            "typed_extension_protocol_options": {OPTIONS: {
                "@type": format!("type.googleapis.com/{OPTIONS}"),
                "common_http_protocol_options": {"idle_timeout": "2s"},
                "explicit_http_config": {"http_protocol_options": {}},
            }},
        });
        message::<Cluster>(&self.name(slot), &cluster)
    }

    fn endpoints(&mut self, slot: usize) -> Resource {
        let name = self.name(slot);
        let which = 1 + self.dice.below((1 << HOSTS) - 1);
        let hosts = self.slots[slot].hosts.clone();
        let chosen = hosts.iter().enumerate().filter(|(place, _)| which >> place & 1 == 1);
        let endpoints: Vec<Value> = chosen
            .map(|(_, at)| {
                let address =
                    json!({"socket_address": {"address": at.ip().to_string(), "port_value": at.port()}});
                json!({"endpoint": {"address": address}, "load_balancing_weight": 1 + self.dice.below(9)})
            })
            .collect();
        let assignment = json!({"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]});
        message::<ClusterLoadAssignment>(&name, &assignment)
    }

    /// The next table, all of whose parts carry its generation.
    fn routes(&mut self, slot: usize) -> Resource {
        self.generation += 1;
        let generation = self.generation.to_string();
        let add = |name: &str, value: &str| json!([{"header": {"key": name, "value": value}}]);
        let mut on_route = add("x-fire-route", &generation);
        on_route
            .as_array_mut()
            .expect("a list")
            .push(json!({"header": {"key": "x-fire-slot", "value": slot.to_string()}}));
        let cluster = self.name(slot);
        let route = json!({
            "match": {"prefix": "/"},
            "route": {"cluster": cluster, "timeout": "60s"},
            "request_headers_to_add": on_route,
        });
        let mut hosts = vec![json!({
            "name": "fire",
            "domains": ["fire"],
            "routes": [route],
            "request_headers_to_add": add("x-fire-host", &generation),
        })];
        hosts.extend((0..OTHERS).map(|other| {
            json!({
                "name": format!("other-{other}"),
                "domains": [format!("other-{other}.example"), format!("*.other-{other}.example")],
                "routes": [{"match": {"prefix": format!("/{}", self.dice.below(1000))}, "route": {"cluster": cluster}}],
            })
        }));
        let table = json!({
            "name": "routes",
            "virtual_hosts": hosts,
            "request_headers_to_add": add("x-fire-table", &generation),
            "response_headers_to_add": add("x-fire-table", &generation),
        });
        message::<RouteConfiguration>("routes", &table)
    }
}

fn put(resource: Resource) -> Change {
    Change { put: vec![resource], ..Change::default() }
}

fn message<M: prost::Message + prost::Name + Default>(name: &str, value: &Value) -> Resource {
    let message: M = from_value(value, Unknown::Refuse).expect("a valid resource");
    Resource::new(name, &message)
}

/// The listener that is asked.
fn main_listener(generation: u64) -> Resource {
    listener("main", generation)
}

/// One of the listeners beside it comes, or goes.
fn side_listener(number: u64) -> Change {
    let name = format!("side-{}", number % SIDES);
    match number / SIDES % 2 {
        0 => put(listener(&name, number)),
        _ => Change { put: Vec::new(), remove: vec![(ResourceType::Listener, name)] },
    }
}

fn listener(name: &str, generation: u64) -> Resource {
    let any = |kind: &str, mut config: Value| {
        config["@type"] = format!("type.googleapis.com/envoy.extensions.filters.{kind}").into();
        config
    };
    let mark = format!("fire-{generation}");
    let manager = json!({
        "stat_prefix": name,
        "via": mark,
        "server_name": mark,
        "rds": {"route_config_name": "routes", "config_source": {"ads": {}, "resource_api_version": "V3"}},
        "http_filters": [{"name": "router", "typed_config": any("http.router.v3.Router", json!({}))}],
    });
    let manager = any("network.http_connection_manager.v3.HttpConnectionManager", manager);
    let value = json!({
        "name": name,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": [{"name": "hcm", "typed_config": manager}]}],
    });
    message::<Listener>(name, &value)
}

/// A program that says which slot it is of, and what it saw.
async fn upstream(slot: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let answer = move |request: Request<hyper::body::Incoming>| async move {
                let mut answer = Response::builder().header("x-upstream-slot", slot.to_string());
                if let Some(via) = request.headers().get("via") {
                    answer = answer.header("x-saw-fire-listener", via);
                }
                for (name, value) in request.headers() {
                    if let Some(mark) = name.as_str().strip_prefix("x-fire-") {
                        answer = answer.header(format!("x-saw-fire-{mark}"), value);
                    }
                }
                Ok::<_, Infallible>(answer.body(Full::new(Bytes::from_static(b"fire"))).expect("an answer"))
            };
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(socket), service_fn(answer));
            tokio::spawn(connection);
        }
    });
    address
}

/// Numbers that look random and are the same every time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}
