//! A proxy that is told what to say, and tests that ask an admin interface before it.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test by panicking")]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use ostro_engine::bootstrap::{
    AdminSettings, Runtime, RuntimeLayer, RuntimeValue, StatsMatcher, StatsSettings,
};
use ostro_envoy_json::{Unknown, to_wire};
use serde_json::{Value, json};

use super::answer::{Body, Out};
use super::subject::CertificateDetails;
use super::*;
use crate::stats::{Reading, Tags, Thread};

/// A resource the proxy has.
struct Known {
    kind: ResourceKind,
    name: &'static str,
    origin: Origin,
    active: Option<Vec<u8>>,
    warming: Option<Vec<u8>>,
    failure: Option<(Vec<u8>, &'static str)>,
    status: Status,
}

/// The proxy.
pub(super) struct Fake {
    state: Mutex<ServerState>,
    bootstrap: Vec<u8>,
    resources: Vec<Known>,
    orders: Mutex<Vec<String>>,
}

fn at() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_250)
}

fn held(bytes: &[u8]) -> Held<'_> {
    Held { version: "v1", bytes, updated: at() }
}

impl Subject for Fake {
    fn state(&self) -> ServerState {
        *self.state.lock().unwrap()
    }

    fn bootstrap(&self) -> Held<'_> {
        Held { version: "", ..held(&self.bootstrap) }
    }

    fn resources(&self, kind: ResourceKind, tell: &mut dyn FnMut(&Resource<'_>)) {
        for known in self.resources.iter().filter(|known| known.kind == kind) {
            tell(&Resource {
                name: known.name,
                origin: known.origin,
                active: known.active.as_deref().map(held),
                warming: known.warming.as_deref().map(held),
                draining: None,
                failure: known
                    .failure
                    .as_ref()
                    .map(|(bytes, details)| Failure { held: held(bytes), details }),
                status: known.status,
            });
        }
    }

    fn version(&self, _: ResourceKind) -> String {
        "v1".to_owned()
    }

    fn clusters(&self, tell: &mut dyn FnMut(&ClusterStatus)) {
        tell(&ClusterStatus {
            name: "c1".to_owned(),
            stat_name: "c1;".to_owned(),
            thresholds: [Thresholds { connections: 1024, pending: 1024, requests: 1024, retries: 3 }; 2],
            overprovisioning: 140,
            hosts: vec![HostStatus {
                address: HostAddress::Socket("127.0.0.1:9".parse().unwrap()),
                hostname: String::new(),
                locality: ["r".to_owned(), String::new(), String::new()],
                weight: 1,
                priority: 0,
                is_canary: false,
                eds_health: "HEALTHY",
                flags: vec!["failed_outlier_check"],
                success_rate: None,
                cx_active: 2,
                cx_connect_fail: 0,
                cx_total: 3,
                rq_active: 0,
                rq_error: 1,
                rq_pending_active: 0,
                rq_success: 4,
                rq_timeout: 0,
                rq_total: 5,
            }],
            ..ClusterStatus::default()
        });
    }

    fn listeners(&self, tell: &mut dyn FnMut(&ListenerStatus)) {
        let address = "127.0.0.1:15001".parse().unwrap();
        tell(&ListenerStatus { name: "l1".to_owned(), address, additional: Vec::new() });
    }

    fn statistics(&self, tell: &mut dyn FnMut(&str, Reading)) {
        tell("cluster_manager.cds.update_success", Reading::Counter(1));
        tell("cluster_manager.cds.version_text", Reading::Text("a\"b".to_owned()));
    }

    fn cluster_statistics(&self, tell: &mut dyn FnMut(&str, Reading)) {
        tell("cluster.c1.membership_total", Reading::Gauge(1));
    }

    fn certificates(&self) -> Vec<Certificate> {
        let details = CertificateDetails {
            path: "<inline>".to_owned(),
            serial_number: "0a".to_owned(),
            uris: vec!["spiffe://a".to_owned()],
            dns_names: Vec::new(),
            valid_from: at(),
            expires: SystemTime::now() + Duration::from_secs(3 * 24 * 60 * 60 + 60),
        };
        vec![Certificate { authorities: vec![details.clone()], chain: vec![details] }]
    }

    fn unready(&self) -> Vec<(String, Vec<String>)> {
        vec![("init manager Server".to_owned(), vec!["LDS".to_owned()])]
    }

    fn concurrency(&self) -> u32 {
        2
    }

    fn connections(&self) -> u64 {
        7
    }

    fn drain_listeners(&self, drain: Drain) {
        self.orders.lock().unwrap().push(format!("{drain:?}"));
    }

    fn fail_health_checks(&self, fail: bool) {
        *self.state.lock().unwrap() = if fail { ServerState::Draining } else { ServerState::Live };
    }

    fn quit(&self) {
        self.orders.lock().unwrap().push("quit".to_owned());
    }
}

fn wire(message: &str, json: Value) -> Vec<u8> {
    to_wire(message, &json, Unknown::Refuse).unwrap()
}

fn resources() -> Vec<Known> {
    let cluster = |name: &str| {
        wire(
            "envoy.config.cluster.v3.Cluster",
            json!({"name": name, "connect_timeout": "1s", "load_assignment": {"cluster_name": name}}),
        )
    };
    let listener = |name: &str| wire("envoy.config.listener.v3.Listener", json!({"name": name}));
    let secret = json!({"name": "s", "tls_certificate": {"certificate_chain": {"inline_string": "chain"}, "private_key": {"inline_string": "key"}}});
    let of = |kind, name, origin| Known {
        kind,
        name,
        origin,
        active: None,
        warming: None,
        failure: None,
        status: Status::Acked,
    };
    vec![
        Known { active: Some(cluster("c1")), ..of(ResourceKind::Cluster, "c1", Origin::Static) },
        Known {
            active: Some(cluster("d1")),
            warming: Some(cluster("d1")),
            ..of(ResourceKind::Cluster, "d1", Origin::Dynamic)
        },
        Known {
            active: Some(listener("l1")),
            failure: Some((listener("l1"), "not supported: x")),
            status: Status::Nacked,
            ..of(ResourceKind::Listener, "l1", Origin::Dynamic)
        },
        Known {
            active: Some(wire("envoy.extensions.transport_sockets.tls.v3.Secret", secret)),
            ..of(ResourceKind::Secret, "s", Origin::Dynamic)
        },
    ]
}

fn admin() -> (Arc<Admin>, Arc<Fake>) {
    let node = json!({"node": {"id": "n", "metadata": {"A": "b"}}});
    let fake = Arc::new(Fake {
        state: Mutex::new(ServerState::Live),
        bootstrap: wire("envoy.config.bootstrap.v3.Bootstrap", node),
        resources: resources(),
        orders: Mutex::default(),
    });
    let layer = RuntimeLayer {
        name: "static".to_owned(),
        values: [("k".to_owned(), RuntimeValue::Number(5.0))].into(),
        is_admin: false,
    };
    let settings = StatsSettings { uses_default_tags: true, ..StatsSettings::default() };
    let subject: Arc<dyn Subject> = fake.clone();
    let (levels, _) = LogLevels::new("info", "").unwrap();
    let admin = Admin {
        subject,
        stats: Stats::default(),
        tags: Tags::new(&settings).unwrap(),
        matcher: StatsMatcher::All,
        buckets: Buckets::new(&settings),
        logs: Logs::default(),
        levels,
        runtime: Runtime {
            layers: vec![
                layer,
                RuntimeLayer { name: "admin".to_owned(), is_admin: true, ..RuntimeLayer::default() },
            ],
        },
        command_line: json!({"concurrency": 2}),
        started: Instant::now(),
        settings: AdminSettings { address: "127.0.0.1:0".parse().unwrap(), paths: Vec::new() },
    };
    (Arc::new(admin), fake)
}

/// Status and body.
fn ask(admin: &Arc<Admin>, is_post: bool, target: &str) -> (u16, String) {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let answer = paths::answer(admin, is_post, path, query);
    let body = match answer.body {
        Body::Whole(bytes) => bytes,
        Body::Written(write) => {
            let (sender, chunks) = std::sync::mpsc::sync_channel(1024);
            write(&mut Out::new(move |chunk| sender.send(chunk).is_ok()));
            chunks.into_iter().flatten().collect()
        }
    };
    (answer.status.as_u16(), String::from_utf8(body).unwrap())
}

fn get(admin: &Arc<Admin>, target: &str) -> String {
    let (status, body) = ask(admin, false, target);
    assert_eq!(status, 200, "{target}: {body}");
    body
}

fn get_json(admin: &Arc<Admin>, target: &str) -> Value {
    let body = get(admin, target);
    serde_json::from_str(&body).unwrap_or_else(|e| panic!("{target}: {e}\n{body}"))
}

#[test]
fn everything_that_is_json_is_json() {
    let (admin, _) = admin();
    for target in [
        "/certs",
        "/clusters?format=json",
        "/config_dump",
        "/config_dump?include_eds",
        "/init_dump",
        "/listeners?format=json",
        "/memory",
        "/runtime",
        "/server_info",
        "/stats?format=json",
        "/stats?format=json&histogram_buckets=cumulative",
        "/stats?format=json&histogram_buckets=detailed",
        "/config_dump?resource=dynamic_warming_secrets",
    ] {
        get_json(&admin, target);
    }
}

#[test]
fn readiness_is_the_state() {
    let (admin, _) = admin();
    assert_eq!(ask(&admin, false, "/ready"), (200, "LIVE\n".to_owned()));
    assert_eq!(ask(&admin, true, "/healthcheck/fail"), (200, "OK\n".to_owned()));
    assert_eq!(ask(&admin, false, "/ready"), (503, "DRAINING\n".to_owned()));
    assert_eq!(get(&admin, "/stats?filter=^server.(live|state)$"), "server.live: 0\nserver.state: 1\n");
    ask(&admin, true, "/healthcheck/ok");
    assert_eq!(ask(&admin, false, "/ready").0, 200);
}

#[test]
fn orders_need_a_post() {
    let (admin, fake) = admin();
    for path in [
        "/drain_listeners",
        "/quitquitquit",
        "/healthcheck/fail",
        "/logging",
        "/reset_counters",
        "/reopen_logs",
    ] {
        assert_eq!(
            ask(&admin, false, path),
            (405, "Method GET not allowed, POST required.".to_owned()),
            "{path}"
        );
    }
    assert!(fake.orders.lock().unwrap().is_empty());
    for target in ["/drain_listeners?graceful&skip_exit", "/drain_listeners?inboundonly", "/quitquitquit"] {
        assert_eq!(ask(&admin, true, target), (200, "OK\n".to_owned()));
    }
    assert_eq!(
        *fake.orders.lock().unwrap(),
        [
            "Drain { graceful: true, inbound_only: false, skip_exit: true }",
            "Drain { graceful: false, inbound_only: true, skip_exit: false }",
            "quit"
        ]
    );
}

#[test]
fn unknown_paths_get_help() {
    let (admin, _) = admin();
    let (status, body) = ask(&admin, false, "/nonsense");
    assert_eq!(status, 404);
    assert!(body.starts_with("invalid path. admin commands are:\n  /: Admin home page\n"), "{body}");
    assert!(get(&admin, "/").contains("<a href=\"/clusters\">"));
}

#[test]
fn configuration_is_dumped_in_parts() {
    let (admin, _) = admin();
    let dump = get_json(&admin, "/config_dump?include_eds");
    let types: Vec<_> =
        dump["configs"].as_array().unwrap().iter().map(|part| part["@type"].as_str().unwrap()).collect();
    let parts =
        ["Bootstrap", "Clusters", "Ecds", "Endpoints", "Listeners", "ScopedRoutes", "Routes", "Secrets"];
    assert_eq!(types, parts.map(|part| format!("type.googleapis.com/envoy.admin.v3.{part}ConfigDump")));
    let clusters = &dump["configs"][1];
    assert_eq!(clusters["version_info"], "v1");
    assert_eq!(clusters["static_clusters"][0]["cluster"]["name"], "c1");
    assert_eq!(clusters["dynamic_active_clusters"][0]["client_status"], "ACKED");
    assert_eq!(clusters["dynamic_warming_clusters"][0]["last_updated"], "2023-11-14T22:13:20.250Z");
    let listener = &dump["configs"][4]["dynamic_listeners"][0];
    assert_eq!(listener["active_state"]["listener"]["name"], "l1");
    assert_eq!(listener["error_state"]["details"], "not supported: x");
    assert_eq!(dump["configs"][3]["static_endpoint_configs"][0]["endpoint_config"]["cluster_name"], "c1");
    // It is a message of Envoy's, whole.
    to_wire("envoy.admin.v3.ConfigDump", &dump, Unknown::Refuse).unwrap();
}

#[test]
fn keys_are_not_dumped() {
    let (admin, _) = admin();
    let secret = &get_json(&admin, "/config_dump?resource=dynamic_active_secrets")["configs"][0]["secret"]["tls_certificate"];
    assert_eq!(secret["private_key"]["inline_string"], "[redacted]");
    assert_eq!(secret["certificate_chain"]["inline_string"], "chain");
}

#[test]
fn a_dump_is_narrowed() {
    let (admin, _) = admin();
    let one = get_json(&admin, "/config_dump?resource=static_clusters&mask=cluster.name");
    assert_eq!(
        one,
        json!({"configs": [{
            "@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump.StaticCluster",
            "cluster": {"@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", "name": "c1"}}]})
    );
    let masked = get_json(&admin, "/config_dump?mask=bootstrap.node");
    assert_eq!(masked["configs"].as_array().unwrap().len(), 1);
    assert_eq!(masked["configs"][0]["bootstrap"]["node"]["id"], "n");
    assert_eq!(masked["configs"][0].get("last_updated"), None);
    let named = get_json(&admin, "/config_dump?name_regex=d.");
    assert_eq!(named["configs"][1].get("static_clusters"), None);
    assert_eq!(named["configs"][1]["dynamic_active_clusters"].as_array().unwrap().len(), 1);
    assert_eq!(get_json(&admin, "/config_dump?resource=static_listeners"), json!({}));
    for (target, status, wanted) in [
        (
            "/config_dump?mask=nonsense",
            400,
            "FieldMask nonsense could not be successfully applied to any configs.",
        ),
        ("/config_dump?resource=nonsense", 404, "nonsense not found in config dump"),
        (
            "/config_dump?resource=version_info",
            400,
            "version_info is not a repeated field. Use ?mask=version_info to get only this field",
        ),
    ] {
        assert_eq!(ask(&admin, false, target), (status, wanted.to_owned()));
    }
    assert_eq!(ask(&admin, false, "/config_dump?name_regex=(").0, 400);
}

#[test]
fn statistics_are_shown_in_three_forms() {
    let (admin, _) = admin();
    let writer = admin.stats.writer(Thread::Worker(0));
    let cluster = admin.stats.cluster("c1").on(&writer);
    let _idle = admin.stats.cluster("idle");
    cluster.upstream_rq_total.inc();
    cluster.answered(200, 5, crate::stats::Origin::External);

    let text = get(&admin, "/stats");
    for line in [
        "cluster.c1.upstream_rq_total: 1",
        "cluster.c1.upstream_rq_200: 1",
        "cluster.c1.upstream_rq_2xx: 1",
        "cluster.c1.external.upstream_rq_completed: 1",
        "cluster.idle.upstream_rq_total: 0",
        "cluster_manager.cds.version_text: \"a&quot;b\"",
        "server.concurrency: 2",
        "cluster.idle.upstream_rq_time: No recorded values",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
    assert!(text.starts_with("cluster_manager.cds.version_text: "), "{text}");
    let used = get(&admin, "/stats?usedonly&filter=^cluster\\.(c1|idle)\\.upstream_rq_(total|time)$");
    let [total, time] = used.lines().collect::<Vec<_>>()[..] else { panic!("{used}") };
    assert_eq!(total, "cluster.c1.upstream_rq_total: 1");
    assert!(time.starts_with("cluster.c1.upstream_rq_time: P0(5.05,5.05) P25(5.05,5.05) "), "{time}");

    let json = get_json(
        &admin,
        "/stats?format=json&histogram_buckets=cumulative&filter=^cluster.c1.upstream_rq_t(otal|ime)$",
    );
    assert_eq!(json["stats"][0], json!({"name": "cluster.c1.upstream_rq_total", "value": 1}));
    let histogram = &json["stats"][1]["histograms"][0];
    assert_eq!(histogram["name"], "cluster.c1.upstream_rq_time");
    assert_eq!(histogram["buckets"][2], json!({"upper_bound": 5, "interval": 1, "cumulative": 1}));

    let prometheus = get(&admin, "/stats/prometheus?filter=cluster.*upstream_rq_(total|200|2xx|time)");
    assert_eq!(
        prometheus,
        get(&admin, "/stats?format=prometheus&filter=cluster.*upstream_rq_(total|200|2xx|time)")
    );
    for line in [
        "# TYPE envoy_cluster_upstream_rq_total counter",
        "envoy_cluster_upstream_rq_total{envoy_cluster_name=\"c1\"} 1",
        "envoy_cluster_upstream_rq{envoy_response_code=\"200\",envoy_cluster_name=\"c1\"} 1",
        "envoy_cluster_external_upstream_rq_xx{envoy_response_code_class=\"2\",envoy_cluster_name=\"c1\"} 1",
        "# TYPE envoy_cluster_upstream_rq_time histogram",
        "envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name=\"c1\",le=\"5\"} 1",
        "envoy_cluster_upstream_rq_time_count{envoy_cluster_name=\"c1\"} 1",
    ] {
        assert!(prometheus.lines().any(|found| found == line), "{line} in\n{prometheus}");
    }
    assert!(!prometheus.contains("idle"), "{prometheus}");

    assert_eq!(ask(&admin, true, "/reset_counters").0, 200);
    assert_eq!(
        get(&admin, "/stats?filter=^cluster.c1.upstream_rq_total$"),
        "cluster.c1.upstream_rq_total: 0\n"
    );
}

#[test]
fn wrong_questions_about_statistics_are_told() {
    let (admin, _) = admin();
    for (target, begin) in [
        ("/stats?filter=(", "Invalid re2 regex"),
        ("/stats?type=Foo", "invalid &type= param"),
        ("/stats?format=foo", "usage: /stats?format="),
        ("/stats?histogram_buckets=foo", "usage: /stats?histogram_buckets="),
        ("/stats/prometheus?histogram_buckets=detailed", "unsupported prometheus histogram bucket mode"),
        ("/clusters?filter=(", "Invalid re2 regex"),
    ] {
        let (status, body) = ask(&admin, false, target);
        assert!(status == 400 && body.starts_with(begin), "{target}: {status} {body}");
    }
}

#[test]
fn clusters_and_listeners_are_told_as_envoy_does() {
    let (admin, _) = admin();
    let text = get(&admin, "/clusters");
    for line in [
        "c1::observability_name::c1;",
        "c1::default_priority::max_retries::3",
        "c1::127.0.0.1:9::health_flags::/failed_outlier_check",
        "c1::127.0.0.1:9::rq_success::4",
        "c1::127.0.0.1:9::region::r",
        "c1::127.0.0.1:9::success_rate::-1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
    assert_eq!(get(&admin, "/clusters?filter=nonsense"), "");
    let clusters = get_json(&admin, "/clusters?format=json");
    to_wire("envoy.admin.v3.Clusters", &clusters, Unknown::Refuse).unwrap();
    assert_eq!(
        clusters["cluster_statuses"][0]["host_statuses"][0]["stats"][1],
        json!({"value": "3", "name": "cx_total"})
    );
    assert_eq!(get(&admin, "/listeners"), "l1::127.0.0.1:15001\n");
    to_wire("envoy.admin.v3.Listeners", &get_json(&admin, "/listeners?format=json"), Unknown::Refuse)
        .unwrap();
    for (target, message) in [
        ("/certs", "envoy.admin.v3.Certificates"),
        ("/init_dump", "envoy.admin.v3.UnreadyTargetsDumps"),
        ("/memory", "envoy.admin.v3.Memory"),
        ("/server_info", "envoy.admin.v3.ServerInfo"),
    ] {
        to_wire(message, &get_json(&admin, target), Unknown::Refuse)
            .unwrap_or_else(|e| panic!("{target}: {e}"));
    }
    assert_eq!(
        get_json(&admin, "/runtime"),
        json!({"layers": ["static", "admin"], "entries": {"k": {"final_value": "5", "layer_values": ["5", ""]}}})
    );
}

#[test]
fn log_levels_are_changed() {
    let (admin, _) = admin();
    let (status, body) = ask(&admin, true, "/logging?paths=upstream:debug,http:off");
    assert_eq!(status, 200);
    assert!(
        body.contains("  upstream: debug\n")
            && body.contains("  http: off\n")
            && body.contains("  admin: info\n"),
        "{body}"
    );
    for (target, wanted) in [
        ("/logging?level=loud", "error: unknown logger level"),
        ("/logging?nonsense=info", "error: unknown logger name"),
        ("/logging?level=info&admin=info", "error: invalid number of parameters"),
    ] {
        let (status, body) = ask(&admin, true, target);
        assert!(status == 400 && body.starts_with(wanted), "{target}: {body}");
    }
}

#[test]
fn it_is_served_on_a_thread_of_its_own() {
    let (admin, _) = admin();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let handle = serve(listener, admin).unwrap();
    let ask = |head: &str| {
        let mut stream = TcpStream::connect(handle.address()).unwrap();
        stream.write_all(format!("{head}\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let answer = ask("GET /ready HTTP/1.1");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nLIVE\n"), "{answer}");
    assert!(answer.contains("content-type: text/plain; charset=UTF-8\r\n"), "{answer}");
    assert!(answer.contains("cache-control: no-cache, max-age=0\r\n"), "{answer}");
    let answer = ask("GET /stats?filter=^(server.live|server.uptime)$ HTTP/1.1");
    assert!(answer.contains("server.live: 1\n"), "{answer}");
    assert!(ask("POST /nonsense HTTP/1.1").starts_with("HTTP/1.1 404"));
    let address = handle.address();
    drop(handle);
    assert!(TcpStream::connect(address).is_err());
}
