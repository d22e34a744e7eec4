//! The proxy as a process of its own, with a bootstrap that the test writes.

#![allow(dead_code, reason = "each test takes what it needs")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test's helpers fail the test by panicking")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long anything may take; the machine may be loaded.
pub const PATIENCE: Duration = Duration::from_secs(60);

const HCM: &str =
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const ROUTER: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
const TCP_PROXY: &str = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";

/// A proxy; killed when dropped.
pub struct Proxy {
    child: Child,
    admin: SocketAddr,
}

fn command(bootstrap: &Value) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ostro-proxy"));
    command
        .args(["--config-yaml", &bootstrap.to_string()])
        .args(["--service-node", "test", "--service-cluster", "test"])
        .args(["--admin-address-path", "/dev/stdout"])
        .stdin(Stdio::null());
    command
}

impl Proxy {
    /// Starts it, and waits until it is ready.
    pub fn start(bootstrap: &Value) -> Proxy {
        Proxy::start_with(bootstrap, &["--concurrency", "2"])
    }

    /// The same with other arguments.
    pub fn start_with(bootstrap: &Value, arguments: &[&str]) -> Proxy {
        let proxy = Proxy::start_unready(bootstrap, arguments);
        proxy.wait("/ready", |body| body.trim() == "LIVE");
        proxy
    }

    /// The same, not waited for.
    pub fn start_unready(bootstrap: &Value, arguments: &[&str]) -> Proxy {
        let mut bootstrap = bootstrap.clone();
        bootstrap["admin"] = json!({"address": socket(SocketAddr::from(([127, 0, 0, 1], 0)))});
        let mut child =
            command(&bootstrap).args(arguments).stdout(Stdio::piped()).spawn().expect("start the proxy");
        let mut said = [0; 64];
        let length = child.stdout.as_mut().unwrap().read(&mut said).unwrap();
        let text = std::str::from_utf8(&said[..length]).unwrap();
        let admin =
            text.trim().parse().unwrap_or_else(|_| panic!("no address of an admin interface: {text:?}"));
        Proxy { child, admin }
    }

    /// What it answers to a path of its admin interface.
    pub fn admin(&self, method: &str, path: &str) -> String {
        let request = format!("{method} {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
        let answer = exchange(self.admin, &request);
        answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
    }

    /// Asks again and again until the answer is good.
    pub fn wait(&self, path: &str, is_good: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let body = self.admin("GET", path);
            if is_good(&body) {
                return body;
            }
            assert!(Instant::now() < deadline, "{path} stays\n{body}");
            std::thread::yield_now();
        }
    }

    /// A counter or gauge; 0 if there is none.
    pub fn stat(&self, name: &str) -> u64 {
        value(&self.admin("GET", &format!("/stats?filter={name}")), name)
    }

    /// Waits until a counter or gauge is good.
    pub fn wait_stat(&self, name: &str, is_good: impl Fn(u64) -> bool) {
        self.wait(&format!("/stats?filter={name}"), |body| is_good(value(body, name)));
    }

    /// Where a listener listens.
    pub fn listener(&self, name: &str) -> SocketAddr {
        let all: Value = serde_json::from_str(&self.admin("GET", "/listeners?format=json")).unwrap();
        let listener = all["listener_statuses"].as_array().unwrap().iter().find(|one| one["name"] == name);
        let at = &listener.unwrap_or_else(|| panic!("no listener {name}: {all}"))["local_address"]["socket_address"];
        let ip = at["address"].as_str().unwrap().parse().unwrap();
        SocketAddr::new(ip, u16::try_from(at["port_value"].as_u64().unwrap()).unwrap())
    }

    /// Its id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn value(stats: &str, name: &str) -> u64 {
    let found = stats.lines().filter_map(|line| line.split_once(": ")).find(|(known, _)| *known == name);
    found.map_or(0, |(_, value)| value.trim().parse().unwrap())
}

/// What a proxy says that does not start with this bootstrap.
pub fn refused(bootstrap: &Value) -> String {
    let output = command(bootstrap).output().expect("start the proxy");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "it started: {said}");
    said
}

/// Sends bytes, and reads until the peer closes.
pub fn exchange(to: SocketAddr, request: &str) -> String {
    let mut stream = connect(to);
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    // A reset ends an answer, too.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// A GET, and the whole answer.
pub fn get(to: SocketAddr, path: &str) -> String {
    exchange(to, &format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n"))
}

/// The status of an answer.
pub fn status(answer: &str) -> u16 {
    let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    code.unwrap_or_else(|| panic!("no answer: {answer:?}"))
}

/// A connection.
pub fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&to, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A socket that listens somewhere.
pub fn upstream() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A thread that answers every request on every connection the same way, for as long as the test runs. `answer` sees
/// the request's head.
pub fn server(answer: impl Fn(&str) -> String + Send + Sync + Clone + 'static) -> SocketAddr {
    let (listener, address) = upstream();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = answer.clone();
            std::thread::spawn(move || serve(stream, &answer));
        }
    });
    address
}

fn serve(mut stream: TcpStream, answer: &impl Fn(&str) -> String) {
    let mut read = Vec::new();
    let mut byte = [0; 1024];
    while let Ok(count) = stream.read(&mut byte) {
        if count == 0 {
            return;
        }
        read.extend_from_slice(&byte[..count]);
        while let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            let head: Vec<u8> = read.drain(..end + 4).collect();
            if stream.write_all(answer(&String::from_utf8_lossy(&head)).as_bytes()).is_err() {
                return;
            }
        }
    }
}

/// 200 with a body.
pub fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

pub fn socket(at: SocketAddr) -> Value {
    json!({"socket_address": {"address": at.ip().to_string(), "port_value": at.port()}})
}

fn anywhere() -> Value {
    socket(SocketAddr::from(([127, 0, 0, 1], 0)))
}

/// A static cluster.
pub fn cluster(name: &str, endpoints: &[SocketAddr]) -> Value {
    let endpoint = |at: &SocketAddr| json!({"endpoint": {"address": socket(*at)}});
    let endpoints: Vec<Value> = endpoints.iter().map(endpoint).collect();
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "10s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
    })
}

/// A connection manager that sends everything to a cluster.
pub fn manager(cluster: &str) -> Value {
    json!({
        "@type": HCM,
        "stat_prefix": "test",
        "route_config": {"virtual_hosts": [{
            "name": "all",
            "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": cluster}}],
        }]},
        "http_filters": [{"name": "router", "typed_config": {"@type": ROUTER}}],
    })
}

/// A TCP proxy to a cluster.
pub fn tcp_proxy(cluster: &str) -> Value {
    json!({"@type": TCP_PROXY, "stat_prefix": "test", "cluster": cluster})
}

/// A listener with one filter.
pub fn listener(name: &str, filter: &Value) -> Value {
    json!({
        "name": name,
        "address": anywhere(),
        "filter_chains": [{"filters": [{"name": "filter", "typed_config": filter}]}],
    })
}

/// A bootstrap.
pub fn bootstrap(listeners: &[Value], clusters: &[Value]) -> Value {
    json!({"static_resources": {"listeners": listeners, "clusters": clusters}})
}
