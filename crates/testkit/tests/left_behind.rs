//! Whichever way `ostro up` ends, nothing of the mesh is left: no process, and so no namespace.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test by panicking")]

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ostro_testkit::envoy;
use ostro_testkit::running::program;
use rustix::process::{Pid, Signal, kill_process};

const YAML: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: echo}
spec:
  selector: {matchLabels: {app: echo}}
  template:
    metadata: {labels: {app: echo}}
    spec:
      containers:
      - name: echo
        image: ostro/sample
        args: [echo, --http, "8080"]
        ports: [{containerPort: 8080}]
"#;

/// First words of the processes' command lines: control plane, program, its proxy, the ingress gateway's.
const PROCESSES: [(&str, usize); 3] = [("ostro", 1), ("program-0", 1), ("envoy", 2)];
const LIMIT: Duration = Duration::from_secs(60);

/// Every thread's children: each pod's processes are those of a thread of its own.
fn children(parent: u32) -> Vec<u32> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{parent}/task")) else { return Vec::new() };
    let lists = tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// True if all of the mesh is among them.
fn is_complete(processes: &[u32]) -> bool {
    let program = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let first = line.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
        String::from_utf8_lossy(&first).rsplit('/').next().unwrap_or_default().to_owned()
    };
    let names: Vec<String> = processes.iter().map(program).collect();
    PROCESSES.iter().all(|(name, count)| names.iter().filter(|n| n == name).count() == *count)
}

/// Gone, or only waiting to be reaped by whoever inherited it.
fn is_over(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
}

/// Looks until it is so.
fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        std::thread::yield_now();
    }
}

fn up(dir: &std::path::Path) -> (Child, Vec<u32>) {
    let yaml = dir.join("echo.yaml");
    fs::write(&yaml, YAML).unwrap();
    let child = Command::new(program("ostro"))
        .args(["up", "--ingress", "127.0.0.1:0", "--control-http", "127.0.0.1:0", "--state-dir"])
        .arg(dir.join("state"))
        .arg("--envoy")
        .arg(envoy::binary())
        .arg("-f")
        .arg(&yaml)
        .stdout(Stdio::null())
        .stderr(fs::File::create(dir.join("log")).unwrap())
        .spawn()
        .unwrap();
    let mut found = Vec::new();
    wait_for("the mesh's processes run", || {
        found = children(child.id());
        is_complete(&found)
    });
    (child, found)
}

#[test]
fn nothing_is_left_of_a_mesh_that_was_asked_to_end() {
    let dir = tempfile::tempdir().unwrap();
    let (mut child, processes) = up(dir.path());
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
    wait_for("its processes are gone", || processes.iter().all(|pid| is_over(*pid)));
}

#[test]
fn nothing_is_left_of_a_mesh_that_was_killed() {
    let dir = tempfile::tempdir().unwrap();
    let (mut child, processes) = up(dir.path());
    child.kill().unwrap();
    child.wait().unwrap();
    wait_for("its processes are gone", || processes.iter().all(|pid| is_over(*pid)));
}
