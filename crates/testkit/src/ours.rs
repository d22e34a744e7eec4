//! Our own proxy as a test instrument: started with nothing but the address of a control plane, asked over its admin
//! interface, ended on drop.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use serde_json::{Value, json};

use crate::envoy;

/// How long it may take until its admin interface has an address; the machine may be loaded.
const START_LIMIT: Duration = Duration::from_secs(60);

/// What a control plane is spoken to in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Differences.
    Delta,
    /// The state of the world.
    World,
}

impl Dialect {
    /// Both.
    pub const ALL: [Dialect; 2] = [Dialect::Delta, Dialect::World];

    fn api_type(self) -> &'static str {
        match self {
            Dialect::Delta => "DELTA_GRPC",
            Dialect::World => "GRPC",
        }
    }
}

/// How it is started.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Worker threads.
    pub workers: u32,
    /// How long connections of what was replaced may go on.
    pub drain_seconds: u32,
}

impl Default for Options {
    fn default() -> Options {
        Options { workers: 1, drain_seconds: 600 }
    }
}

/// The program: `OSTRO_PROXY` if set, else where this workspace builds it.
pub fn binary() -> PathBuf {
    let built = || envoy::workspace().join("target/debug/ostro-proxy");
    std::env::var_os("OSTRO_PROXY").map_or_else(built, PathBuf::from)
}

/// A running proxy of ours; killed when dropped.
#[derive(Debug)]
pub struct Ours {
    child: Child,
    admin: SocketAddr,
    dir: tempfile::TempDir,
}

/// A bootstrap that has all of its resources from one control plane.
fn bootstrap(control_plane: SocketAddr, dialect: Dialect) -> Value {
    let socket =
        |at: SocketAddr| json!({"socket_address": {"address": at.ip().to_string(), "port_value": at.port()}});
    let options = json!({
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    });
    let ads = json!({"ads": {}, "resource_api_version": "V3"});
    json!({
        "node": {"id": "sidecar~127.0.0.1~a.default~default.svc.cluster.local", "cluster": "a.default"},
        "admin": {"address": socket(SocketAddr::from(([127, 0, 0, 1], 0)))},
        "static_resources": {"clusters": [{
            "name": "second",
            "type": "STATIC",
            "load_assignment": {
                "cluster_name": "second",
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": socket(control_plane)}}]}],
            },
            "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
        }]},
        "dynamic_resources": {
            "ads_config": {
                "api_type": dialect.api_type(),
                "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": "second"}}],
            },
            "cds_config": ads,
            "lds_config": ads,
        },
    })
}

impl Ours {
    /// Starts it toward a control plane, in the network namespace of the calling thread, and waits until its admin
    /// interface can be asked; what the control plane has is not waited for.
    ///
    /// # Panics
    /// If it does not start, with what it said.
    pub fn start(control_plane: SocketAddr, dialect: Dialect, options: Options) -> Ours {
        let dir = tempfile::tempdir().expect("temporary directory");
        let config = dir.path().join("bootstrap.json");
        let text = serde_json::to_vec_pretty(&bootstrap(control_plane, dialect)).expect("JSON");
        std::fs::write(&config, text).expect("write the bootstrap");
        let admin = dir.path().join("admin");
        rustix::fs::mkfifoat(rustix::fs::CWD, &admin, Mode::RUSR | Mode::WUSR).expect("a pipe with a name");
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let told: File = rustix::fs::open(&admin, flags, Mode::empty()).expect("open the pipe").into();
        let said = File::create(dir.path().join("stderr")).expect("a file");
        let child = Command::new(binary())
            .args(["-l", "warn", "--concurrency", &options.workers.to_string()])
            .args(["--drain-time-s", &options.drain_seconds.to_string(), "-c"])
            .arg(&config)
            .arg("--admin-address-path")
            .arg(&admin)
            .stdin(Stdio::null())
            .stdout(said.try_clone().expect("a file"))
            .stderr(said)
            .spawn()
            .unwrap_or_else(|error| panic!("start {}: {error}", binary().display()));
        let mut ours = Ours { child, admin: SocketAddr::from(([127, 0, 0, 1], 0)), dir };
        ours.admin = ours.hear_address(told);
        ours
    }

    fn hear_address(&mut self, mut told: File) -> SocketAddr {
        let deadline = Instant::now() + START_LIMIT;
        let look = Timespec::try_from(Duration::from_millis(100)).expect("a short time");
        loop {
            let mut fds = [PollFd::new(&told, PollFlags::IN)];
            if matches!(poll(&mut fds, Some(&look)), Ok(count) if count > 0) {
                break;
            }
            let ended = self.child.try_wait().expect("ask for the process");
            let in_time = Instant::now() < deadline;
            assert!(ended.is_none() && in_time, "ostro-proxy did not start ({ended:?}):\n{}", self.words());
        }
        let mut text = [0; 64];
        let length = told.read(&mut text).expect("an address");
        let text = String::from_utf8_lossy(&text[..length]);
        text.trim().parse().unwrap_or_else(|error| panic!("admin address {text:?}: {error}"))
    }

    /// `GET` on the admin interface: the body of a good answer.
    ///
    /// # Panics
    /// If there is none.
    pub fn get(&self, path: &str) -> String {
        let exchange = || -> std::io::Result<Vec<u8>> {
            let mut stream = TcpStream::connect(self.admin)?;
            write!(stream, "GET {path} HTTP/1.0\r\nhost: admin\r\n\r\n")?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            Ok(answer)
        };
        let answer = exchange().unwrap_or_else(|error| panic!("admin {path}: {error}\n{}", self.words()));
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        assert!(head.split(' ').nth(1) == Some("200"), "admin {path}: {head}");
        body.to_owned()
    }

    /// A counter or gauge.
    pub fn stat(&self, name: &str) -> u64 {
        let all = self.get("/stats");
        let value = all.lines().filter_map(|line| line.split_once(": ")).find(|(known, _)| *known == name);
        value.and_then(|(_, value)| value.trim().parse().ok()).unwrap_or(0)
    }

    /// What is in force, with endpoints.
    pub fn config_dump(&self) -> Value {
        serde_json::from_str(&self.get("/config_dump?include_eds")).expect("JSON")
    }

    /// Where a listener is bound.
    pub fn listener(&self, name: &str) -> Option<SocketAddr> {
        let all: Value = serde_json::from_str(&self.get("/listeners?format=json")).expect("JSON");
        let mut all = all["listener_statuses"].as_array()?.iter();
        let at = &all.find(|listener| listener["name"] == name)?["local_address"]["socket_address"];
        let port = u16::try_from(at["port_value"].as_u64()?).ok()?;
        Some(SocketAddr::new(at["address"].as_str()?.parse().ok()?, port))
    }

    /// Resident memory, in bytes.
    pub fn resident(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let text = std::fs::read_to_string(path).expect("the process is there");
        let kib = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = kib.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.expect("a number of kB") << 10
    }

    /// Open descriptors.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("the process is there").count()
    }

    /// What it has printed: warnings, and whatever else went wrong.
    pub fn words(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("stderr")).unwrap_or_default()
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
