//! A proxy as a process of its own on one processor, for measurements: started, looked at through `/proc`, ended.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::Value;

/// The processors of a measurement: one for the proxies, one for all else.
#[derive(Clone, Copy, Debug)]
pub struct Processors {
    /// Of the proxies.
    pub proxy: usize,
    /// Of clients and backends.
    pub rest: usize,
}

impl Processors {
    /// The first two that this process may use; one for both, if there is no other.
    ///
    /// # Panics
    /// The system does not tell.
    pub fn find() -> Processors {
        let may = sched_getaffinity(None).expect("the processors that this process may use");
        let mut all = (0..CpuSet::MAX_CPU).filter(|cpu| may.is_set(*cpu));
        let proxy = all.next().unwrap_or_default();
        Processors { proxy, rest: all.next().unwrap_or(proxy) }
    }
}

/// Puts this thread, and those that it starts from now on, on one processor.
///
/// # Panics
/// The system refuses.
pub fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).expect("a processor of our own");
}

/// How a proxy is started.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The program.
    pub program: PathBuf,
    /// Its bootstrap.
    pub bootstrap: Value,
    /// On which processors it runs, and we do.
    pub processors: Processors,
    /// Where it writes what it says, and its configuration is; it must outlive the proxy.
    pub dir: PathBuf,
}

/// A running proxy; killed when dropped.
#[derive(Debug)]
pub struct Pinned {
    child: Child,
    dir: PathBuf,
    /// When it was started.
    pub began: Instant,
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Pinned {
    /// Starts it, with one worker, and does not wait.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn start(launch: &Launch) -> Pinned {
        fs::create_dir_all(&launch.dir).unwrap();
        let config = launch.dir.join("bootstrap.json");
        fs::write(&config, launch.bootstrap.to_string()).unwrap();
        let said = fs::File::create(launch.dir.join("said")).unwrap();
        let mut command = Command::new(&launch.program);
        command
            .args(["-l", "warning", "--concurrency", "1", "--disable-hot-restart"])
            .args(["--service-node", "bench", "--service-cluster", "bench"])
            .arg("--admin-address-path")
            .arg(launch.dir.join("admin"))
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(said.try_clone().unwrap())
            .stderr(said);
        // A process begins on the processors of the thread that starts it.
        pin(launch.processors.proxy);
        let began = Instant::now();
        let child = command.spawn();
        pin(launch.processors.rest);
        let child = child.unwrap_or_else(|error| panic!("start {}: {error}", launch.program.display()));
        Pinned { child, dir: launch.dir.clone(), began }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until something listens at `address`.
    ///
    /// # Panics
    /// Nothing does within `limit`, with what the proxy said.
    pub async fn wait_for(&mut self, address: SocketAddr, limit: Duration) {
        while tokio::net::TcpStream::connect(address).await.is_err() {
            assert!(self.began.elapsed() < limit, "nothing listens at {address}: {}", self.said());
            self.check();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Looks whether it is still there.
    ///
    /// # Panics
    /// It has ended, with what it said.
    pub fn check(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("{} ended: {status}: {}", self.dir.display(), self.said());
        }
    }

    /// What it has said so far.
    pub fn said(&self) -> String {
        fs::read_to_string(self.dir.join("said")).unwrap_or_default()
    }

    /// Processor time of all its threads.
    ///
    /// # Panics
    /// It has ended.
    pub fn cpu(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).expect("a process that lives");
        let of = |task: PathBuf| {
            // A thread may end while it is looked at.
            let text = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
            text.split(' ').next().and_then(|nanos| nanos.parse::<u64>().ok()).unwrap_or_default()
        };
        Duration::from_nanos(tasks.map(|task| of(task.unwrap().path())).sum())
    }

    /// Its resident memory, bytes.
    ///
    /// # Panics
    /// It has ended.
    pub fn rss(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// The most resident memory that it has had, bytes.
    ///
    /// # Panics
    /// It has ended.
    pub fn rss_peak(&self) -> u64 {
        self.status("VmHWM:")
    }

    fn status(&self, key: &str) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("a process that lives");
        let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
        line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap_or_default() << 10
    }

    /// How many descriptors it has open.
    ///
    /// # Panics
    /// It has ended.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("a process that lives").count()
    }

    /// Asks it to end, and waits.
    pub fn end(mut self) {
        // It may have ended by itself.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}

/// Reads a checked-in bootstrap, YAML, with values in its places (`${NAME}`). Keys that merge (`<<`) are merged: Envoy
/// knows none.
///
/// # Panics
/// A place is left over, or it is no YAML.
pub fn bootstrap(template: &str, values: &[(&str, String)]) -> Value {
    let (tree, complaints) = ostro_api::parse_value("bootstrap", fill(template, values).as_bytes());
    assert!(complaints.is_empty(), "{complaints:?}");
    tree
}

fn fill(template: &str, values: &[(&str, String)]) -> String {
    let mut text = template.to_owned();
    for (name, value) in values {
        text = text.replace(&format!("${{{name}}}"), value);
    }
    if let Some(at) = text.find("${") {
        panic!("nobody fills {}", text[at..].lines().next().unwrap_or_default());
    }
    text
}

/// A port that is free now.
///
/// # Panics
/// The system gives none.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap().port()
}

/// Empties a log that a proxy goes on appending to.
pub fn empty(path: &Path) {
    // One that is not there yet is empty.
    let _ = fs::OpenOptions::new().write(true).truncate(true).open(path);
}

#[cfg(test)]
mod tests {
    use super::fill;

    #[test]
    fn places_are_filled() {
        let values = [("A", "1".to_owned()), ("B", "x".to_owned())];
        assert_eq!(fill("a: ${A}, b: ${B}${A}", &values), "a: 1, b: x1");
    }
}
