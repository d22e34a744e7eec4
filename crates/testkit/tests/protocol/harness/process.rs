//! The process under test.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use ostro_testkit::envoy;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use serde_json::{Value, json};

use super::logs::{Logs, fifo};
use super::wire::{Trouble, trouble};

/// How long a process may take to serve; the machine may be loaded.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Which proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    Envoy,
    Ours,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Subject::Envoy => "envoy",
            Subject::Ours => "ours",
        })
    }
}

/// How it is started.
#[derive(Clone, Debug)]
pub struct Launch {
    pub workers: u32,
    pub drain_time: u32,
}

impl Default for Launch {
    fn default() -> Launch {
        Launch { workers: 1, drain_time: 600 }
    }
}

/// A running proxy; killed when dropped.
pub struct Proxy {
    pub subject: Subject,
    child: Mutex<Child>,
    pid: Pid,
    admin: SocketAddr,
    listeners: HashMap<String, SocketAddr>,
    pub logs: Logs,
    dir: tempfile::TempDir,
}

fn program(subject: Subject) -> PathBuf {
    match subject {
        Subject::Envoy => envoy::binary(),
        Subject::Ours => match std::env::var_os("OSTRO_PROXY") {
            Some(path) => PathBuf::from(path),
            None => envoy::workspace().join("target/debug/ostro-proxy"),
        },
    }
}

impl Proxy {
    /// Starts it with the bootstrap that `configure` makes, given the path of the access log, and waits until it serves.
    ///
    /// # Panics
    /// If it does not, with what it said.
    pub fn start(subject: Subject, launch: &Launch, configure: impl FnOnce(&Path) -> Value) -> Proxy {
        let dir = tempfile::tempdir().expect("temporary directory");
        let logs = Logs::open(dir.path());
        let mut config = configure(logs.path());
        config["admin"] = json!({"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}});
        let config_path = dir.path().join("bootstrap.json");
        std::fs::write(&config_path, serde_json::to_vec_pretty(&config).unwrap()).unwrap();
        let admin_path = dir.path().join("admin.fifo");
        let admin_file = fifo(&admin_path);
        let said = File::create(dir.path().join("stderr")).unwrap();
        let program = program(subject);
        let child = Command::new(&program)
            .args([
                "--use-dynamic-base-id",
                "-l",
                "warn",
                "--service-node",
                "suite",
                "--service-cluster",
                "suite",
            ])
            .args(["--file-flush-interval-msec", "10", "--concurrency", &launch.workers.to_string()])
            .args(["--drain-time-s", &launch.drain_time.to_string()])
            // Every connection learns of a drain at once, and not one after the other as time passes.
            .args(["--drain-strategy", "immediate", "-c"])
            .arg(&config_path)
            .arg("--admin-address-path")
            .arg(&admin_path)
            .stdin(Stdio::null())
            .stdout(said.try_clone().unwrap())
            .stderr(said)
            .spawn()
            .unwrap_or_else(|error| panic!("start {}: {error}", program.display()));
        let pid = Pid::from_child(&child);
        let listeners = HashMap::new();
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let child = Mutex::new(child);
        let mut proxy = Proxy { subject, child, pid, admin: nowhere, listeners, logs, dir };
        proxy.admin = proxy.admin_address(admin_file);
        proxy.wait_ready();
        proxy.listeners = proxy.addresses();
        proxy
    }

    fn admin_address(&self, mut file: File) -> SocketAddr {
        let deadline = Instant::now() + START_LIMIT;
        while !readable(&file, Duration::from_millis(100)) {
            self.still_starting(deadline);
        }
        let mut text = [0; 100];
        let length = file.read(&mut text).unwrap();
        let text = String::from_utf8_lossy(&text[..length]);
        text.trim().parse().unwrap_or_else(|_| panic!("admin address {text:?}"))
    }

    fn wait_ready(&self) {
        let deadline = Instant::now() + START_LIMIT;
        let process = pidfd_open(self.pid, PidfdFlags::empty()).expect("pidfd");
        while !matches!(self.admin("GET", "/ready"), Ok((200, _))) {
            self.still_starting(deadline);
            // Either it ends, or it is asked again.
            readable(&process, Duration::from_millis(10));
        }
    }

    fn still_starting(&self, deadline: Instant) {
        if let Some(how) = self.died() {
            panic!("{} did not start: {how}\n{}", self.subject, self.last_words());
        }
        assert!(Instant::now() < deadline, "{} does not serve:\n{}", self.subject, self.last_words());
    }

    fn addresses(&self) -> HashMap<String, SocketAddr> {
        let (_, body) = self.admin("GET", "/listeners?format=json").expect("admin /listeners");
        let all: Value =
            serde_json::from_str(&body).unwrap_or_else(|e| panic!("/listeners is JSON: {e}: {body}"));
        let address = |listener: &Value| {
            let at = &listener["local_address"]["socket_address"];
            let ip = at["address"].as_str()?.parse().ok()?;
            let port = u16::try_from(at["port_value"].as_u64()?).ok()?;
            Some((listener["name"].as_str()?.to_owned(), SocketAddr::new(ip, port)))
        };
        all["listener_statuses"].as_array().into_iter().flatten().filter_map(address).collect()
    }

    /// Where the listener of a case is.
    pub fn listener(&self, name: &str) -> Result<SocketAddr, Trouble> {
        match self.listeners.get(name) {
            Some(address) => Ok(*address),
            None => trouble(format!("no listener {name}")),
        }
    }

    /// One exchange with the admin interface: status and body.
    pub fn admin(&self, method: &str, path: &str) -> Result<(u16, String), Trouble> {
        let mut stream = TcpStream::connect_timeout(&self.admin, START_LIMIT)?;
        stream.set_read_timeout(Some(START_LIMIT))?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        );
        stream.write_all(head.as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let message = super::http1::whole(&answer)?;
        Ok((message.status(), message.text()))
    }

    /// A counter or gauge; 0 if there is none yet.
    pub fn stat(&self, name: &str) -> Result<u64, Trouble> {
        let pattern = name.replace('.', "%5C.");
        let (_, body) = self.admin("GET", &format!("/stats?filter=%5E{pattern}$"))?;
        let value = body.lines().filter_map(|line| line.split_once(": ")).find(|(known, _)| *known == name);
        Ok(value.and_then(|(_, value)| value.trim().parse().ok()).unwrap_or(0))
    }

    /// Resident memory now, in bytes.
    pub fn memory(&self) -> u64 {
        self.status_field("VmRSS:")
    }

    /// The most that was resident since [`Proxy::forget_peak`], in bytes.
    pub fn peak_memory(&self) -> u64 {
        self.status_field("VmHWM:")
    }

    pub fn forget_peak(&self) {
        let path = format!("/proc/{}/clear_refs", self.pid.as_raw_nonzero());
        std::fs::write(&path, "5").unwrap_or_else(|e| panic!("{path}: {e}"));
    }

    fn status_field(&self, name: &str) -> u64 {
        let path = format!("/proc/{}/status", self.pid.as_raw_nonzero());
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let line = text.lines().find(|l| l.starts_with(name)).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        kill_process(self.pid, Signal::TERM).expect("signal the proxy");
    }

    /// Waits for its end: `exit 0`, `signal 15`.
    pub fn end(&self, patience: Duration) -> String {
        let process = pidfd_open(self.pid, PidfdFlags::empty());
        if let Ok(process) = process {
            readable(&process, patience);
        }
        self.died().unwrap_or_else(|| "still running".to_owned())
    }

    /// How it ended, if it has.
    pub fn died(&self) -> Option<String> {
        let status = self.child.lock().unwrap().try_wait().ok()??;
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        Some(match (status.code(), signal) {
            (Some(code), _) => format!("exit {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => status.to_string(),
        })
    }

    /// The end of what it printed.
    pub fn last_words(&self) -> String {
        let text = std::fs::read(self.dir.path().join("stderr")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let mut child = self.child.lock().unwrap();
        // Both fail only if it is gone already.
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Waits until there is something to read.
pub fn readable(file: &impl std::os::fd::AsFd, patience: Duration) -> bool {
    let limit = Timespec::try_from(patience).expect("a short time");
    let mut fds = [PollFd::new(file, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&limit)), Ok(count) if count > 0)
}

/// Which of two became readable first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Either {
    First,
    Second,
}

/// Waits until one of two can be read; the first if both can, or neither.
pub fn readable_either(first: &impl std::os::fd::AsFd, second: &impl std::os::fd::AsFd) -> Either {
    let limit = Timespec::try_from(super::wire::PATIENCE).expect("a short time");
    let mut fds = [PollFd::new(first, PollFlags::IN), PollFd::new(second, PollFlags::IN)];
    let waited = poll(&mut fds, Some(&limit));
    let second = waited.is_ok() && fds[0].revents().is_empty() && !fds[1].revents().is_empty();
    if second { Either::Second } else { Either::First }
}

/// The first of these that can be read, waited for.
pub fn first_readable(files: &[std::os::fd::BorrowedFd<'_>]) -> Option<usize> {
    let limit = Timespec::try_from(super::wire::PATIENCE).expect("a short time");
    let mut fds: Vec<PollFd<'_>> =
        files.iter().map(|file| PollFd::from_borrowed_fd(*file, PollFlags::IN)).collect();
    poll(&mut fds, Some(&limit)).ok()?;
    fds.iter().position(|fd| !fd.revents().is_empty())
}
