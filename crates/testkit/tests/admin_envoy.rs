//! The admin interface of our own proxy beside that of a stock Envoy: the same bootstrap, the same requests, and then the same questions.

#![recursion_limit = "256"]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test's helpers fail the test by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ostro_testkit::envoy::{Envoy, Options, START_LIMIT};
use serde_json::{Value, json};

/// Our proxy, with admin address; ended on drop.
struct Ours {
    child: Child,
    admin: SocketAddr,
    _directory: tempfile::TempDir,
}

impl Ours {
    fn start(config: &Value) -> Ours {
        let directory = tempfile::tempdir().unwrap();
        let mut config = config.clone();
        config["admin"] = json!({"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}});
        let path = directory.path().join("bootstrap.json");
        std::fs::write(&path, config.to_string()).unwrap();
        let told = directory.path().join("admin");
        assert!(Command::new("mkfifo").arg(&told).status().unwrap().success());
        let binary = match std::env::var_os("OSTRO_PROXY") {
            Some(path) => PathBuf::from(path),
            None => ostro_testkit::envoy::workspace().join("target/debug/ostro-proxy"),
        };
        let child = Command::new(&binary)
            .args(["--concurrency", "1", "--use-dynamic-base-id", "-l", "info", "-c"])
            .arg(&path)
            .arg("--admin-address-path")
            .arg(&told)
            .stdin(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}: `cargo build -p ostro-proxy` makes it", binary.display()));
        let admin = std::fs::read_to_string(&told).unwrap().trim().parse().unwrap();
        let ours = Ours { child, admin, _directory: directory };
        let deadline = std::time::Instant::now() + START_LIMIT;
        while ours.ask("GET", "/ready").status != 200 {
            assert!(std::time::Instant::now() < deadline, "our proxy is not ready");
            std::thread::yield_now();
        }
        ours
    }

    fn ask(&self, method: &str, path: &str) -> Answer {
        ask(self.admin, method, path)
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    content_type: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }
}

/// One exchange on a connection of its own; bodies come chunked or to the end.
fn ask(to: SocketAddr, method: &str, path: &str) -> Answer {
    let mut stream = TcpStream::connect_timeout(&to, START_LIMIT).unwrap();
    stream.set_read_timeout(Some(START_LIMIT)).unwrap();
    let head =
        format!("{method} {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let status = line.split(' ').nth(1).unwrap().parse().unwrap();
    let (mut content_type, mut is_chunked) = (String::new(), false);
    loop {
        line.clear();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-type" => value.clone_into(&mut content_type),
            "transfer-encoding" => is_chunked = true,
            _ => {}
        }
    }
    let mut body = Vec::new();
    while is_chunked {
        line.clear();
        reader.read_line(&mut line).unwrap();
        let size = usize::from_str_radix(line.trim(), 16).unwrap();
        let mut chunk = vec![0; size + 2];
        reader.read_exact(&mut chunk).unwrap();
        body.extend(&chunk[..size]);
        is_chunked = size > 0;
    }
    if body.is_empty() {
        reader.read_to_end(&mut body).unwrap();
    }
    Answer { status, content_type, body: String::from_utf8(body).unwrap() }
}

/// A server that answers 200, or 404 on `/missing`, until the test ends.
fn upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream);
                let mut head = String::new();
                while reader.read_line(&mut head).is_ok_and(|n| n > 0) {
                    if head.ends_with("\r\n\r\n") {
                        let status =
                            if head.starts_with("GET /missing") { "404 Not Found" } else { "200 OK" };
                        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\nok");
                        if reader.get_mut().write_all(answer.as_bytes()).is_err() {
                            return;
                        }
                        head.clear();
                    }
                }
            });
        }
    });
    address
}

fn config(upstream: SocketAddr) -> Value {
    let cluster = |name: &str| {
        json!({
            "name": name, "connect_timeout": "1s", "type": "STATIC",
            "load_assignment": {"cluster_name": name, "endpoints": [{"locality": {"region": "r"}, "lb_endpoints": [
                {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": upstream.port()}}}}]}]},
        })
    };
    let mut used = cluster("c1");
    used["outlier_detection"] = json!({});
    used["circuit_breakers"] = json!({"thresholds": [{"track_remaining": true}]});
    let listener = |name: &str, filter: Value| {
        json!({
            "name": name, "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
            "stat_prefix": name, "filter_chains": [{"filters": [filter]}],
        })
    };
    let http = json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "route_config": {"name": "inline", "virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [
            {"match": {"prefix": "/"}, "route": {"cluster": "c1"}}]}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}],
    }});
    let tcp = json!({"name": "envoy.filters.network.tcp_proxy", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": "through", "cluster": "c2"}});
    json!({
        "node": {"id": "n", "cluster": "m", "metadata": {"LABELS": {"app": "a"}}},
        "static_resources": {"clusters": [used, cluster("c2"), cluster("idle")], "listeners": [listener("l1", http), listener("l2", tcp)]},
        "layered_runtime": {"layers": [{"name": "static", "static_layer": {"re2.max_program_size.error_level": 32768}}, {"name": "admin", "admin_layer": {}}]},
    })
}

/// Both, after the same requests.
fn both() -> (Envoy, Ours) {
    let config = config(upstream());
    let envoy = Envoy::start(&config, &Options::default());
    envoy.wait_ready(START_LIMIT);
    let ours = Ours::start(&config);
    for admin in [envoy.admin(), ours.admin] {
        let listeners = ask(admin, "GET", "/listeners?format=json").json();
        let port = |name: &str| {
            let all = listeners["listener_statuses"].as_array().unwrap();
            let found = all.iter().find(|listener| listener["name"] == name).unwrap();
            u16::try_from(found["local_address"]["socket_address"]["port_value"].as_u64().unwrap()).unwrap()
        };
        let (http, tcp) =
            (SocketAddr::from(([127, 0, 0, 1], port("l1"))), SocketAddr::from(([127, 0, 0, 1], port("l2"))));
        for path in ["/", "/missing", "/"] {
            ask(http, "GET", path);
        }
        let mut stream = TcpStream::connect(tcp).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let mut answer = [0; 15];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 OK");
        drop(stream);
        // Counted at the end of the request, and of the connection.
        wait(admin, "http.in.downstream_rq_completed", 3);
        wait(admin, "tcp.through.downstream_cx_total", 1);
        wait(admin, "listener.l2.downstream_cx_destroy", 1);
        wait(admin, "http.in.downstream_cx_destroy", 3);
    }
    (envoy, ours)
}

fn wait(admin: SocketAddr, name: &str, value: u64) {
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    loop {
        let all = stats(&ask(admin, "GET", "/stats").body);
        if all.get(name) == Some(&value.to_string()) {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "{name} is {:?}, not {value}", all.get(name));
        std::thread::yield_now();
    }
}

fn stats(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// Every path of keys in a tree; elements of lists are all the same.
fn shape(value: &Value) -> BTreeSet<String> {
    fn walk(value: &Value, path: &str, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(members) => {
                members.iter().for_each(|(key, member)| walk(member, &format!("{path}.{key}"), found))
            }
            Value::Array(items) => items.iter().for_each(|item| walk(item, &format!("{path}[]"), found)),
            _ => {
                found.insert(path.to_owned());
            }
        }
    }
    let mut found = BTreeSet::new();
    walk(value, "", &mut found);
    found
}

/// Moments and addresses are nobody's but one's own.
fn without_moments(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.remove("last_updated");
            members.values_mut().for_each(without_moments);
        }
        Value::Array(items) => items.iter_mut().for_each(without_moments),
        _ => {}
    }
}

/// A part of a dump of configuration, by the name of its message.
fn part(dump: &Value, name: &str) -> Value {
    let parts = dump["configs"].as_array().unwrap();
    let found = parts.iter().find(|part| part["@type"].as_str().unwrap().ends_with(&format!(".{name}")));
    found.cloned().unwrap_or_default()
}

/// Lists of clusters in the order of their names: Envoy has its own.
fn sorted(mut value: Value, by: &str) -> Value {
    if let Value::Array(items) = &mut value {
        items.sort_by_key(|item| item.pointer(by).map(ToString::to_string));
    }
    value
}

#[test]
fn documents_have_envoys_shape() {
    let (envoy, ours) = both();
    let pair = |path: &str| (ask(envoy.admin(), "GET", path).json(), ours.ask("GET", path).json());

    let (mut theirs, mut mine) = pair("/config_dump?include_eds");
    without_moments(&mut theirs);
    without_moments(&mut mine);
    for name in ["ListenersConfigDump", "ScopedRoutesConfigDump", "RoutesConfigDump", "SecretsConfigDump"] {
        assert_eq!(part(&mine, name), part(&theirs, name), "{name}");
    }
    let clusters =
        |dump: &Value| sorted(part(dump, "ClustersConfigDump")["static_clusters"].clone(), "/cluster/name");
    assert_eq!(clusters(&mine), clusters(&theirs));
    let (a, b) = (part(&mine, "BootstrapConfigDump"), part(&theirs, "BootstrapConfigDump"));
    for key in ["static_resources", "layered_runtime"] {
        assert_eq!(a["bootstrap"][key], b["bootstrap"][key]);
    }
    let (a, b) = (shape(&part(&mine, "EndpointsConfigDump")), shape(&part(&theirs, "EndpointsConfigDump")));
    // Envoy writes a weight of 0 for localities without one.
    let extra: Vec<_> = b.symmetric_difference(&a).cloned().collect();
    assert_eq!(extra, [".static_endpoint_configs[].endpoint_config.endpoints[].load_balancing_weight"]);

    for path in ["/clusters?format=json", "/listeners?format=json", "/server_info"] {
        let (theirs, mine) = pair(path);
        let (theirs, mine) = (shape(&theirs), shape(&mine));
        let odd: Vec<_> = mine.difference(&theirs).collect();
        assert!(odd.is_empty(), "{path}: Envoy has no {odd:?}");
        let is_envoys = |path: &&String| {
            [".command_line_options.", ".node.extensions", ".node.user_agent"]
                .iter()
                .any(|own| path.starts_with(own))
        };
        let missing: Vec<_> = theirs.difference(&mine).filter(|path| !is_envoys(path)).collect();
        assert!(missing.is_empty(), "{path}: we have no {missing:?}");
    }
    for path in ["/runtime", "/certs", "/init_dump", "/config_dump?resource=dynamic_active_clusters"] {
        let (theirs, mine) = pair(path);
        assert_eq!(mine, theirs, "{path}");
    }
    let mask = "/config_dump?resource=static_clusters&mask=cluster.name,cluster.load_assignment.cluster_name&name_regex=c.";
    let (theirs, mine) = pair(mask);
    assert_eq!(
        sorted(mine["configs"].clone(), "/cluster/name"),
        sorted(theirs["configs"].clone(), "/cluster/name")
    );
}

#[test]
fn text_has_envoys_lines() {
    let (envoy, ours) = both();
    let keys = |admin: SocketAddr| -> BTreeSet<String> {
        let body = ask(admin, "GET", "/clusters").body;
        body.lines().map(|line| line.rsplit_once("::").unwrap().0.to_owned()).collect()
    };
    assert_eq!(keys(ours.admin), keys(envoy.admin()));
    let names = |admin: SocketAddr| -> Vec<String> {
        ask(admin, "GET", "/listeners")
            .body
            .lines()
            .map(|line| line.split("::").next().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names(ours.admin), names(envoy.admin()));
}

#[test]
fn odd_questions_get_envoys_answers() {
    let (envoy, ours) = both();
    for (method, path) in [
        ("GET", "/ready"),
        ("GET", "/nonsense"),
        ("GET", "/ready/"),
        ("GET", "/logging"),
        ("GET", "/quitquitquit"),
        ("GET", "/drain_listeners"),
        ("POST", "/logging?level=loud"),
        ("POST", "/logging?nonsense=info"),
        ("POST", "/logging?level=info&paths=admin:info"),
        ("POST", "/logging?paths=admin:info"),
        ("POST", "/healthcheck/fail"),
        ("GET", "/ready"),
        ("POST", "/healthcheck/ok"),
        ("POST", "/ready"),
        ("POST", "/reopen_logs"),
        ("POST", "/reset_counters"),
        ("GET", "/contention"),
        ("GET", "/stats?filter=("),
        ("GET", "/stats?type=Foo"),
        ("GET", "/stats?format=foo"),
        ("GET", "/stats?histogram_buckets=foo"),
        ("GET", "/stats?filter=^server.live$"),
        ("GET", "/stats?filter=%5Eserver.live%24&format=json"),
        ("GET", "/stats/prometheus?filter=^server.live$"),
        ("GET", "/stats/prometheus?histogram_buckets=detailed"),
        ("GET", "/clusters?filter=("),
        ("GET", "/clusters?filter=nonsense"),
        ("GET", "/config_dump?mask=nonsense"),
        ("GET", "/config_dump?resource=nonsense"),
        ("GET", "/config_dump?resource=bootstrap"),
        ("GET", "/config_dump?name_regex=("),
        ("POST", "/drain_listeners?graceful&skip_exit"),
    ] {
        let (theirs, mine) = (ask(envoy.admin(), method, path), ours.ask(method, path));
        assert_eq!(mine.status, theirs.status, "{method} {path}: {mine:?} {theirs:?}");
        assert_eq!(mine.content_type, theirs.content_type, "{method} {path}");
        // Words of a regular expression's error are its engine's; of help and lists of loggers, each one's own.
        let begin = |answer: &Answer| answer.body.chars().take(17).collect::<String>();
        assert_eq!(begin(&mine), begin(&theirs), "{method} {path}");
    }
}

#[test]
fn statistics_are_envoys() {
    let (envoy, ours) = both();
    let (theirs, mine) =
        (stats(&ask(envoy.admin(), "GET", "/stats").body), stats(&ours.ask("GET", "/stats").body));
    for name in [
        "cluster.c1.external.upstream_rq_completed",
        "cluster.c1.membership_total",
        "cluster.c1.upstream_rq_200",
        "cluster.c1.upstream_rq_404",
        "cluster.c1.upstream_rq_4xx",
        "cluster.c1.upstream_rq_total",
        "cluster.c1.circuit_breakers.default.cx_open",
        "cluster.c1.circuit_breakers.default.remaining_retries",
        "cluster.c2.upstream_cx_total",
        "cluster.idle.upstream_rq_total",
        "cluster_manager.active_clusters",
        "http.in.downstream_cx_total",
        "http.in.downstream_rq_2xx",
        "http.in.downstream_rq_4xx",
        "http.in.downstream_rq_total",
        "listener.l1.downstream_cx_active",
        "listener.l1.downstream_cx_total",
        "listener.l1.worker_0.downstream_cx_total",
        "listener_manager.total_listeners_active",
        "listener_manager.workers_started",
        "runtime.num_keys",
        "server.concurrency",
        "server.days_until_first_cert_expiring",
        "server.live",
        "server.state",
        "tcp.through.downstream_cx_total",
    ] {
        assert_eq!(mine.get(name), theirs.get(name), "{name}");
        assert!(mine.contains_key(name), "{name}");
    }
    // A histogram that has seen the same is told the same: how many values there were is.
    let count =
        |all: &BTreeMap<String, String>| all["cluster.c1.upstream_cx_length_ms"].starts_with("No recorded");
    assert_eq!(count(&mine), count(&theirs));
}

/// Types of metrics, and for each sample its name with the names of its labels.
fn prometheus(text: &str) -> (BTreeMap<String, String>, BTreeSet<String>) {
    let mut types = BTreeMap::new();
    let mut samples = BTreeSet::new();
    for line in text.lines() {
        if let Some(metric) = line.strip_prefix("# TYPE ") {
            let (name, kind) = metric.split_once(' ').unwrap();
            types.insert(name.to_owned(), kind.to_owned());
        } else if let Some((name, labels)) = line.split_once('{') {
            let labels = labels.rsplit_once('}').unwrap().0;
            let mut keys: Vec<_> =
                labels.split("\",").filter_map(|label| label.split_once("=\"")).map(|(key, _)| key).collect();
            keys.sort_unstable();
            samples.insert(format!("{name} {}", keys.join(",")));
        }
    }
    (types, samples)
}

#[test]
fn prometheus_sees_envoys_metrics() {
    let (envoy, ours) = both();
    let (their_types, their_samples) = prometheus(&ask(envoy.admin(), "GET", "/stats/prometheus").body);
    let (types, samples) = prometheus(&ours.ask("GET", "/stats/prometheus").body);
    let shared = types.iter().filter(|(name, _)| their_types.contains_key(*name));
    let wrong: Vec<_> = shared.filter(|(name, kind)| their_types[*name] != **kind).collect();
    assert!(wrong.is_empty(), "other types than Envoy's: {wrong:?}");
    let names: BTreeSet<_> = their_samples.iter().map(|sample| sample.split(' ').next().unwrap()).collect();
    let odd: Vec<_> = samples
        .iter()
        .filter(|sample| {
            names.contains(sample.split(' ').next().unwrap()) && !their_samples.contains(*sample)
        })
        .collect();
    assert!(odd.is_empty(), "other labels than Envoy's: {odd:?}");
    for wanted in [
        "envoy_cluster_upstream_rq_xx envoy_cluster_name,envoy_response_code_class",
        "envoy_cluster_upstream_rq envoy_cluster_name,envoy_response_code",
        "envoy_cluster_upstream_rq_time_bucket envoy_cluster_name,le",
        "envoy_http_downstream_rq_xx envoy_http_conn_manager_prefix,envoy_response_code_class",
        "envoy_tcp_downstream_cx_total envoy_tcp_prefix",
        "envoy_server_live ",
    ] {
        assert!(samples.contains(wanted) && their_samples.contains(wanted), "{wanted}");
    }
}
