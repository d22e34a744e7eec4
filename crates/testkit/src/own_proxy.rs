//! Our own proxy as a process of its own, from a bootstrap as JSON.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::{Value, json};

use crate::running;

/// How long it may take to serve; the machine may be loaded.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long its admin interface may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// Between two looks at something awaited.
const LOOK: Duration = Duration::from_millis(20);

/// A running `ostro-proxy`; killed when dropped.
pub struct OwnProxy {
    child: Mutex<Child>,
    pid: Pid,
    admin: SocketAddr,
    dir: tempfile::TempDir,
}

impl OwnProxy {
    /// Starts it, with an admin interface of its own, and waits until it is ready. `OSTRO_PROXY` names another program.
    ///
    /// # Errors
    /// If it does not serve: with what it said.
    pub fn start(bootstrap: &Value, workers: u32) -> Result<OwnProxy, String> {
        let program =
            std::env::var_os("OSTRO_PROXY").map_or_else(|| running::program("ostro-proxy"), Into::into);
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        let mut config = bootstrap.clone();
        config["admin"] = json!({"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}});
        let path = dir.path().join("bootstrap.json");
        std::fs::write(&path, config.to_string()).map_err(|error| error.to_string())?;
        let address = dir.path().join("admin.fifo");
        let told = fifo(&address).map_err(|error| format!("FIFO: {error}"))?;
        let said = File::create(dir.path().join("stderr")).map_err(|error| error.to_string())?;
        let child = Command::new(&program)
            .args(["-l", "warn", "--concurrency", &workers.to_string(), "-c"])
            .arg(&path)
            .arg("--admin-address-path")
            .arg(&address)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(said)
            .spawn()
            .map_err(|error| format!("{}: {error}", program.display()))?;
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut proxy =
            OwnProxy { pid: Pid::from_child(&child), child: Mutex::new(child), admin: nowhere, dir };
        proxy.admin = proxy.told_address(told)?;
        proxy.wait("/ready", |status, _| status == 200)?;
        Ok(proxy)
    }

    fn told_address(&self, mut told: File) -> Result<SocketAddr, String> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            if is_readable(&told) {
                break;
            }
            self.is_alive()?;
            if Instant::now() > deadline {
                return Err(self.failed("does not start"));
            }
        }
        let mut text = [0; 100];
        let length = told.read(&mut text).map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&text[..length]);
        text.trim().parse().map_err(|_| format!("admin address {text:?}"))
    }

    fn is_alive(&self) -> Result<(), String> {
        match self.child.lock().expect("nobody panics with it").try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(self.failed(&format!("ended: {status}"))),
            Err(error) => Err(error.to_string()),
        }
    }

    fn failed(&self, how: &str) -> String {
        let said = std::fs::read_to_string(self.dir.path().join("stderr")).unwrap_or_default();
        format!("ostro-proxy {how}\n{said}")
    }

    /// Asks the admin interface again and again until the answer is as `wanted`; the answer.
    ///
    /// # Errors
    /// If it never is: with the last answer.
    pub fn wait(&self, path: &str, wanted: impl Fn(u16, &str) -> bool) -> Result<String, String> {
        let deadline = Instant::now() + START_LIMIT;
        let process = pidfd_open(self.pid, PidfdFlags::empty()).map_err(|error| error.to_string())?;
        loop {
            let answer = self.get(path);
            if let Ok((status, body)) = &answer
                && wanted(*status, body)
            {
                return Ok(body.clone());
            }
            self.is_alive()?;
            if Instant::now() > deadline {
                return Err(self.failed(&format!("{path}: {answer:?}")));
            }
            // Either it ends, or it is asked again.
            is_readable(&process);
        }
    }

    /// `GET` on the admin interface: status and body.
    ///
    /// # Errors
    /// If there is no answer.
    pub fn get(&self, path: &str) -> std::io::Result<(u16, String)> {
        let mut stream = TcpStream::connect_timeout(&self.admin, ANSWER_LIMIT)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        // HTTP/1.0: the body ends with the connection.
        stream.write_all(format!("GET {path} HTTP/1.0\r\nhost: admin\r\n\r\n").as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Ok((status, body.to_owned()))
    }

    /// Address that the listener of this name is bound to.
    ///
    /// # Errors
    /// If there is none.
    pub fn listener(&self, name: &str) -> Result<SocketAddr, String> {
        let (_, body) = self.get("/listeners?format=json").map_err(|error| error.to_string())?;
        let all: Value = serde_json::from_str(&body).map_err(|error| error.to_string())?;
        let found = all["listener_statuses"].as_array().into_iter().flatten().find(|l| l["name"] == name);
        let at = found.map(|listener| &listener["local_address"]["socket_address"]);
        let ip = at.and_then(|at| at["address"].as_str()?.parse().ok());
        let port = at.and_then(|at| u16::try_from(at["port_value"].as_u64()?).ok());
        let address = ip.zip(port).map(|(ip, port)| SocketAddr::new(ip, port));
        address.ok_or_else(|| format!("no listener {name} in {body}"))
    }

    /// What it printed.
    pub fn said(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("stderr")).unwrap_or_default()
    }
}

impl Drop for OwnProxy {
    fn drop(&mut self) {
        let mut child = self.child.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // Both fail only if it is gone already.
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Waits a moment until there is something to read.
fn is_readable(file: &impl AsFd) -> bool {
    let mut fds = [PollFd::new(file, PollFlags::IN)];
    let limit = Timespec::try_from(LOOK).ok();
    matches!(poll(&mut fds, limit.as_ref()), Ok(count) if count > 0)
}

/// Open for both, so that neither opening nor reading waits for the other end.
fn fifo(path: &Path) -> std::io::Result<File> {
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0)?;
    OpenOptions::new().read(true).write(true).open(path)
}
