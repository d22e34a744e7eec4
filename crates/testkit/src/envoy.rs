//! Stock Envoy as a test instrument: started with a configuration, asked over its admin API, ended on drop.
//!
//! Blocking on purpose: a test that is not async can use it, and one that is calls it from
//! `spawn_blocking` or before its runtime starts. The process binds ports of the kernel's choosing; where the
//! configuration says `port_value: 0`, ask [`Envoy::listener`] which one it became.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The version every test runs against.
pub const VERSION: &str = "1.40.0";

/// How long Envoy may take to say its admin address, or to become ready. It takes about 0.2 s when idle; the
/// rest is for a loaded machine.
pub const START_LIMIT: Duration = Duration::from_secs(30);

/// Log lines kept in memory for [`Envoy::wait_for_log`]; all of them are in the log file.
const LINES_KEPT_MAX: usize = 100_000;

/// Path of the stock Envoy binary: `OSTRO_ENVOY` if set, else where `cargo xtask setup` puts it.
///
/// # Panics
/// If there is none, naming the command that installs it.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("OSTRO_ENVOY") {
        return PathBuf::from(path);
    }
    let path = workspace().join(format!("target/tools/envoy-{VERSION}/envoy"));
    assert!(path.exists(), "no Envoy at {}: run `cargo xtask setup`, or set OSTRO_ENVOY", path.display());
    path
}

/// Root of the workspace this crate was built in.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("testkit lives in crates/").to_path_buf()
}

/// How to start an Envoy; [`Options::default`] suits most tests.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `--component-log-level`, for example `upstream:debug,config:debug`.
    pub component_log_level: String,
    /// Further arguments, as they are.
    pub args: Vec<String>,
}

/// A running Envoy. Dropping it kills the process and removes its directory.
#[derive(Debug)]
pub struct Envoy {
    child: Child,
    admin: SocketAddr,
    dir: tempfile::TempDir,
    log: Arc<Log>,
}

#[derive(Debug, Default)]
struct Log {
    state: Mutex<LogState>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct LogState {
    lines: VecDeque<String>,
    /// How many lines were dropped from the front of `lines`.
    dropped: usize,
    closed: bool,
}

/// What `envoy --mode validate` says: nothing, or its complaint.
pub fn validate(config: &Value) -> Result<(), String> {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = write_config(dir.path(), config);
    let out = Command::new(binary())
        .args(["--mode", "validate", "--use-dynamic-base-id", "-l", "error", "-c"])
        .arg(path)
        .output()
        .expect("run envoy --mode validate");
    if out.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&out.stderr).into_owned())
}

impl Envoy {
    /// Starts Envoy with a bootstrap and waits until its admin interface has an address. The configuration's own
    /// `admin` is replaced by one on a free loopback port.
    ///
    /// # Panics
    /// If it does not start, with the end of its log.
    pub fn start(config: &Value, options: &Options) -> Envoy {
        let dir = tempfile::tempdir().expect("temporary directory");
        let mut config = config.clone();
        config["admin"] = serde_json::json!({
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}
        });
        let path = write_config(dir.path(), &config);
        let mut command = Command::new(binary());
        command.args(["--use-dynamic-base-id", "-l", "info", "--concurrency", "1", "-c"]).arg(path);
        if !options.component_log_level.is_empty() {
            command.args(["--component-log-level", &options.component_log_level]);
        }
        command.args(&options.args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("start envoy");
        let log = Arc::new(Log::default());
        let stderr = child.stderr.take().expect("stderr was piped");
        let file = File::create(dir.path().join("envoy.log")).expect("log file");
        let writer = Arc::clone(&log);
        std::thread::spawn(move || writer.follow(stderr, file));
        let Some(line) = log.wait(0, START_LIMIT, |l| l.contains("admin address: ")) else {
            let _ = child.kill();
            let _ = child.wait();
            panic!("envoy did not start:\n{}", log.tail(30));
        };
        let admin = line.rsplit(' ').next().and_then(|a| a.parse().ok()).expect("an address in the log line");
        Envoy { child, admin, dir, log }
    }

    /// Starts Envoy and waits until it is ready to serve ([`Envoy::wait_ready`]).
    pub fn start_ready(config: &Value) -> Envoy {
        let envoy = Envoy::start(config, &Options::default());
        envoy.wait_ready(START_LIMIT);
        envoy
    }

    /// Waits until admin `/ready` answers 200.
    ///
    /// # Panics
    /// After `limit`, with the last answer and the end of the log.
    pub fn wait_ready(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        loop {
            let (status, body) = self.get("/ready");
            if status == 200 {
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "envoy not ready ({status} {}):\n{}", body.trim(), self.log.tail(30));
            // Whatever makes it ready also logs; the bound covers what does not.
            self.log.wait_more(left.min(Duration::from_millis(50)));
        }
    }

    /// Address of the admin interface.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `GET` on the admin interface: status and body.
    pub fn get(&self, path: &str) -> (u16, String) {
        request(self.admin, "GET", path)
    }

    /// `POST` on the admin interface (`/logging`, `/drain_listeners`, ...): status and body.
    pub fn post(&self, path: &str) -> (u16, String) {
        request(self.admin, "POST", path)
    }

    /// All counters and gauges whose name matches the regular expression `filter`, by name.
    pub fn stats(&self, filter: &str) -> std::collections::BTreeMap<String, u64> {
        let (status, body) = self.get(&format!("/stats?filter={}", percent(filter)));
        assert_eq!(status, 200, "{body}");
        body.lines()
            .filter_map(|l| l.rsplit_once(": "))
            .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
            .collect()
    }

    /// One counter or gauge; 0 if Envoy has not made it yet.
    pub fn stat(&self, name: &str) -> u64 {
        let exact: String = name
            .chars()
            .flat_map(|c| if c.is_ascii_alphanumeric() || c == '_' { vec![c] } else { vec!['\\', c] })
            .collect();
        self.stats(&format!("^{exact}$")).get(name).copied().unwrap_or(0)
    }

    /// The whole `/config_dump?include_eds`.
    pub fn config_dump(&self) -> Value {
        let (status, body) = self.get("/config_dump?include_eds");
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).expect("config_dump is JSON")
    }

    /// Address that the listener of this name is bound to.
    ///
    /// # Panics
    /// If there is no such listener.
    pub fn listener(&self, name: &str) -> SocketAddr {
        let (_, body) = self.get("/listeners?format=json");
        let all: Value = serde_json::from_str(&body).expect("/listeners is JSON");
        let found = all["listener_statuses"].as_array().into_iter().flatten().find(|l| l["name"] == name);
        let Some(found) = found else { panic!("no listener {name} in {body}") };
        let at = &found["local_address"]["socket_address"];
        let ip = at["address"].as_str().and_then(|a| a.parse().ok()).expect("an IP address");
        let port = at["port_value"].as_u64().and_then(|p| u16::try_from(p).ok()).expect("a port");
        SocketAddr::new(ip, port)
    }

    /// Directory of this Envoy's files: `envoy.json`, `envoy.log`.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Everything logged so far.
    pub fn log(&self) -> String {
        self.log.tail(usize::MAX)
    }

    /// Log lines of level warning and above.
    pub fn warnings(&self) -> Vec<String> {
        let state = self.log.state.lock().unwrap();
        let loud = |l: &&String| ["[warning]", "[error]", "[critical]"].iter().any(|level| l.contains(level));
        state.lines.iter().filter(loud).cloned().collect()
    }

    /// Waits until a line that satisfies `wanted` has been logged since start; `None` if none was within `limit`.
    pub fn wait_for_log(&self, limit: Duration, wanted: impl Fn(&str) -> bool) -> Option<String> {
        self.log.wait(0, limit, wanted)
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- end of the log of envoy {}:\n{}", self.child.id(), self.log.tail(20));
        }
        // Both fail only if the process is gone already, which is what we want.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Log {
    /// Copies Envoy's stderr into the file and into memory until it closes.
    fn follow(&self, from: impl Read, mut file: File) {
        for line in BufReader::new(from).lines() {
            let Ok(line) = line else { break };
            let _ = writeln!(file, "{line}");
            let mut state = self.state.lock().unwrap();
            state.lines.push_back(line);
            if state.lines.len() > LINES_KEPT_MAX {
                state.lines.pop_front();
                state.dropped += 1;
            }
            self.more.notify_all();
        }
        self.state.lock().unwrap().closed = true;
        self.more.notify_all();
    }

    /// First line from number `from` on that satisfies `wanted`, waiting up to `limit` or until the log closes.
    fn wait(&self, from: usize, limit: Duration, wanted: impl Fn(&str) -> bool) -> Option<String> {
        let deadline = Instant::now() + limit;
        let mut next = from;
        let mut state = self.state.lock().unwrap();
        loop {
            let skip = next.saturating_sub(state.dropped);
            if let Some(line) = state.lines.iter().skip(skip).find(|l| wanted(l)) {
                return Some(line.clone());
            }
            next = state.dropped + state.lines.len();
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || state.closed {
                return None;
            }
            state = self.more.wait_timeout(state, left).unwrap().0;
        }
    }

    /// Waits for another line, at most `limit`.
    fn wait_more(&self, limit: Duration) {
        let state = self.state.lock().unwrap();
        let _ = self.more.wait_timeout(state, limit).unwrap();
    }

    fn tail(&self, count: usize) -> String {
        let state = self.state.lock().unwrap();
        let skip = state.lines.len().saturating_sub(count);
        state.lines.iter().skip(skip).map(|l| format!("{l}\n")).collect()
    }
}

fn write_config(dir: &Path, config: &Value) -> PathBuf {
    let path = dir.join("envoy.json");
    std::fs::write(&path, serde_json::to_vec_pretty(config).expect("JSON")).expect("write the configuration");
    path
}

/// One blocking HTTP/1.1 exchange on a connection of its own.
fn request(to: SocketAddr, method: &str, path: &str) -> (u16, String) {
    let exchange = || -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect_timeout(&to, START_LIMIT)?;
        stream.set_read_timeout(Some(START_LIMIT))?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        );
        stream.write_all(head.as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    };
    let answer = exchange().unwrap_or_else(|e| panic!("admin {method} {path} on {to}: {e}"));
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    (status, if chunked { unchunk(body) } else { body.to_owned() })
}

/// Body of a chunked message.
fn unchunk(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((size, tail)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        if size == 0 || tail.len() < size {
            break;
        }
        body.push_str(&tail[..size]);
        rest = tail[size..].trim_start_matches("\r\n");
    }
    body
}

fn percent(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}
