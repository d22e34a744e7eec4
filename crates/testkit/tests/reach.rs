//! Who reaches whom on the local runner, and through which proxies: one mesh, a table of cases, all at once.
//!
//! Calls are made from inside the pods. The way a connection took is read from the proxies' access logs: the
//! addresses of its ends are in the first proxy's line, with those of the connection by which that proxy went on, and
//! so forth. Where a connection comes from does not tell it from others: the kernel uses one port for several
//! connections to different places.
//! The host is namespaces of the test's own, so that addresses and names outside are the test's too.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test's helpers fail the test by panicking")]

#[path = "reach/outside.rs"]
mod outside;
#[path = "reach/table.rs"]
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ostro_agent::DataPlane;
use ostro_local::logs;
use ostro_local::status::PodStatus;
use ostro_testkit::call::{Said, Seen, Speaks, call};
use ostro_testkit::ordinary::Ordinary;
use ostro_testkit::running::{LOOK, Running, program};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use table::{Case, Reached, TABLE, To, Who};

/// How long a case may take to come true: a proxy may hear of an endpoint a moment after it is ready.
const SETTLE_MAX: Duration = Duration::from_secs(10);
/// Envoy writes access logs every ten seconds.
const LOG_MAX: Duration = Duration::from_secs(25);
/// Of the service over UDP.
const UDP_PORT: u16 = 5353;
/// What pods of the mesh say where their proxy is to be named.
const PROXY: &str = "PROXY";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_is_reached_through_ours() {
    through(DataPlane::Ostro).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_is_reached_through_envoy() {
    through(DataPlane::Envoy).await;
}

#[test]
fn everybody_is_reached_through_ours_as_an_ordinary_user() {
    as_an_ordinary_user("everybody_is_reached_through_ours");
}

#[test]
fn everybody_is_reached_through_envoy_as_an_ordinary_user() {
    as_an_ordinary_user("everybody_is_reached_through_envoy");
}

/// A test in the sandbox of an ordinary user, where proxies are known by a mark and the user is the only one.
fn as_an_ordinary_user(test: &str) {
    let user = Ordinary::new();
    let output = user.test(test).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{complaints}");
}

/// Tries every case with this proxy beside whoever has one, and as the gateway.
async fn through(proxy: DataPlane) {
    assert!(TABLE.len() >= 40);
    let resolv_conf = tempfile::NamedTempFile::new().unwrap();
    let host = Arc::new(outside::host(resolv_conf.path()).await);
    let wrong = host.spawn(try_all(proxy)).await.unwrap();
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), TABLE.len(), wrong.join("\n"));
}

/// Waits until the caller's proxy has the listener of the headless service's pod. A pod is ready a moment before others'
/// proxies hear of it; until then connections to its address pass through, which is a right answer by another way.
async fn heard_of_the_database(running: &Running) {
    let listener = format!("{}_9000", running.pod("db").ip);
    let deadline = Instant::now() + SETTLE_MAX;
    loop {
        let (_, listeners) = running.pod("caller").admin("/listeners").await.unwrap().unwrap();
        if String::from_utf8_lossy(&listeners).contains(&listener) {
            return;
        }
        assert!(Instant::now() < deadline, "no listener {listener}");
        tokio::time::sleep(LOOK).await;
    }
}

/// What is wrong, case by case.
async fn try_all(proxy: DataPlane) -> Vec<String> {
    let yaml = include_str!("reach/mesh.yaml").replace(PROXY, proxy.as_str());
    let running = Running::start_with(&[("mesh.yaml", &yaml)], &[], (program("ostro"), proxy)).await;
    let running = Arc::new(running);
    running.pod("web").run(answer_udp()).await.unwrap();
    heard_of_the_database(&running).await;
    let mut cases = JoinSet::new();
    for (number, case) in TABLE.iter().enumerate() {
        let running = running.clone();
        cases.spawn(async move { (number, settle(&running, case).await) });
    }
    let mut seen: BTreeMap<usize, Seen> = BTreeMap::new();
    while let Some(done) = cases.join_next().await {
        seen.extend([done.unwrap()]);
    }
    let logs = Logs::read(&running, &seen).await;
    let judged = TABLE.iter().zip(seen.values()).filter_map(|(case, seen)| judge(case, seen, &logs));
    let wrong = judged.collect();
    Arc::into_inner(running).unwrap().end().await;
    wrong
}

/// Tells who it is, to whoever sends something.
async fn answer_udp() {
    let socket = UdpSocket::bind(("::", UDP_PORT)).await.unwrap();
    tokio::spawn(async move {
        let name = String::from_utf8(std::fs::read("/proc/sys/kernel/hostname").unwrap()).unwrap();
        let answer = format!("{{\"hostname\":\"{}\"}}\n", name.trim());
        let mut bytes = [0; 512];
        while let Ok((_, from)) = socket.recv_from(&mut bytes).await {
            socket.send_to(answer.as_bytes(), from).await.unwrap();
        }
    });
}

/// Calls until the right one answers, or for long enough.
async fn settle(running: &Running, case: &Case) -> Seen {
    let since = Instant::now();
    loop {
        let seen = attempt(running, case).await;
        if answered(&seen.said, case.reached) || since.elapsed() > SETTLE_MAX {
            return seen;
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn attempt(running: &Running, case: &Case) -> Seen {
    let (host, port, speaks) = match case.to {
        To::Name(host, port, speaks) => (host.to_owned(), port, speaks),
        To::Pod(workload, port, speaks) => (running.pod(workload).ip.to_string(), port, speaks),
        To::Pod6(workload, port, speaks) => {
            (running.pod(workload).ip6.expect("the kernel has IPv6").to_string(), port, speaks)
        }
        To::Ingress => {
            let at = running.mesh.ingress();
            (at.ip().to_string(), at.port(), Speaks::Http)
        }
    };
    let calling = call(host, port, speaks);
    match case.from {
        Who::Caller => running.pod("caller").run(calling).await.unwrap(),
        Who::Stranger => running.pod("stranger").run(calling).await.unwrap(),
        Who::Host => calling.await,
    }
}

fn answered(said: &Said, reached: Reached) -> bool {
    match (said, reached) {
        (Said::By(name), Reached::Pod(workload)) => name.starts_with(&format!("{workload}-")),
        (Said::By(name), Reached::Outside) => name == outside::NAME,
        (Said::Status(found), Reached::Status(wanted)) => *found == wanted,
        (Said::Closed(_), Reached::Closed) | (Said::NoName, Reached::NoName) => true,
        _ => false,
    }
}

/// What is wrong with a case, if anything.
fn judge(case: &Case, seen: &Seen, logs: &Logs) -> Option<String> {
    let Case { from, to, reached, via } = case;
    let way = seen.local.map(|local| logs.way(case, local)).unwrap_or_default();
    let wanted: Vec<String> = via.iter().map(|(pod, cluster)| format!("{pod}:{cluster}")).collect();
    let right = answered(&seen.said, *reached) && way == wanted;
    let said = &seen.said;
    (!right).then(|| format!("{from:?} -> {to:?}: {said:?} via {way:?}; wanted {reached:?} via {wanted:?}"))
}

/// What the proxies said.
struct Logs(Vec<Line>);

/// A line of a proxy's access log: a connection, the one by which it went on, and the cluster chosen for it.
struct Line {
    workload: String,
    from: String,
    to: String,
    on_from: String,
    on_to: String,
    cluster: String,
}

impl Logs {
    /// Waits until every way that is wanted is told of, or for long enough.
    async fn read(running: &Running, seen: &BTreeMap<usize, Seen>) -> Self {
        let since = Instant::now();
        loop {
            let logs = Logs::now(running);
            let complete = |(case, seen): (&Case, &Seen)| match seen.local {
                Some(local) => logs.way(case, local).len() >= case.via.len(),
                None => true,
            };
            if TABLE.iter().zip(seen.values()).all(complete) || since.elapsed() > LOG_MAX {
                return logs;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn now(running: &Running) -> Self {
        let mut lines = Vec::new();
        for pod in running.proxies() {
            let text = log_of(&running.state(), &pod);
            for line in text.lines().filter_map(|line| line.strip_prefix("REACH ")) {
                // The last line may be half written.
                if let [from, to, on_from, on_to, cluster] = line.split(' ').collect::<Vec<_>>()[..] {
                    let [from, to, on_from, on_to, cluster] =
                        [from, to, on_from, on_to, cluster].map(str::to_owned);
                    lines.push(Line { workload: pod.workload.clone(), from, to, on_from, on_to, cluster });
                }
            }
        }
        Logs(lines)
    }

    /// The proxies that the connection of a case, from `local`, went through, with the cluster each chose.
    fn way(&self, case: &Case, local: SocketAddr) -> Vec<String> {
        let is_first = |line: &&Line| match case.from {
            // The published port's forwarder connects anew, and nobody but this case calls the gateway.
            Who::Host => line.workload == "istio-ingressgateway",
            // No other connection comes from this port (`probe`); where it goes to is seen only before services'
            // addresses are translated, which for a pod without a proxy is not where its callee's proxy looks.
            Who::Caller | Who::Stranger => line.from == local.to_string(),
        };
        let firsts = self.0.iter().filter(is_first);
        firsts.map(|first| self.way_from(first)).max_by_key(Vec::len).unwrap_or_default()
    }

    fn way_from(&self, first: &Line) -> Vec<String> {
        let mut way = Vec::new();
        let mut passed = BTreeSet::new();
        let mut next = Some(first);
        while let Some(line) = next.filter(|line| passed.insert((&line.from, &line.to))) {
            way.push(format!("{}:{}", line.workload, line.cluster));
            next = self.0.iter().find(|other| other.from == line.on_from && other.to == line.on_to);
        }
        way
    }
}

/// All that a pod's proxy wrote.
fn log_of(state: &Path, pod: &PodStatus) -> String {
    let directory = logs::directory(&state.join("pods"), &pod.name);
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let of_proxy = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with(logs::PROXY);
    files.filter(of_proxy).map(|path| std::fs::read_to_string(path).unwrap()).collect()
}
