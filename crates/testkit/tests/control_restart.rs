//! The control plane is killed again and again under load, and nobody notices; what comes back sends what changed.
//!
//! The load is open: a request is due every half millisecond from the first to the last, whatever happens, and none
//! is left out. A machine that is slower than that answers them later, as quickly as it can: the rate that was carried,
//! in all and during each absence, is printed, and is no verdict. The load starts in the gateway's own pod, so that
//! nothing of ours but the control plane stands between it and the programs.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use ostro_agent::DataPlane;
use ostro_testkit::load::{Load, Plan};
use ostro_testkit::running::{LOOK, Running, program};

/// Requests a second, through the gateway and one of nineteen sidecars each.
const RATE: u32 = 2_000;

/// Kept-alive connections to the gateway; as many requests may be under way.
const CONNECTIONS: usize = 64;

/// How long the control plane stays away, in milliseconds, from proxies of ours.
const AWAY_MS: [u64; 10] = [100, 200, 400, 700, 1_000, 1_500, 2_500, 4_000, 8_000, 30_000];
/// And from stock Envoys.
const AWAY_FROM_ENVOY_MS: [u64; 5] = [100, 400, 1_500, 4_000, 8_000];
/// The turn in which a service goes while nobody looks.
const GOES: usize = 2;
/// The turn in which what is invalid on disk changes nothing.
const INVALID: usize = 3;

/// Nineteen echo servers and the ingress gateway: twenty proxies, and two services that nobody calls.
fn config() -> String {
    let service = |name: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  selector: {{app: echo}}\n  \
             ports:\n  - {{name: http, port: 8080, targetPort: 8080}}\n---\n"
        )
    };
    let mut text = service("echo") + &service("kept");
    // Enough state that one percent of it is more than a nonce.
    for number in 0..40 {
        text += &service(&format!("other-{number}"));
    }
    text + r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: echo}
spec:
  replicas: 19
  selector: {matchLabels: {app: echo}}
  template:
    metadata: {labels: {app: echo}}
    spec:
      containers:
      - name: echo
        image: ostro/sample
        args: [echo, --http, "8080"]
        ports: [{containerPort: 8080}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 8080, name: http, protocol: HTTP}
    hosts: ["*"]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: echo}
spec:
  hosts: ["*"]
  gateways: [edge]
  http:
  - route:
    - destination: {host: echo, port: {number: 8080}}
"#
}

/// On a port of its own and of nobody's pods: one route configuration a port, and one inbound listener a pod, would
/// otherwise change with it, and come whole to an eager stock Envoy.
const DOOMED: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: doomed}\nspec:\n  selector: {app: nobody}\n  ports:\n  - {name: tcp, port: 7777, targetPort: 8080}\n";

/// The control plane's program: holds back while `hold` exists, tells its process id, and becomes `ostro`.
fn wrapper(directory: &Path) -> std::path::PathBuf {
    let path = directory.join("held-ostro");
    let text = format!(
        "#!/bin/sh\nwhile [ -e {dir}/hold ]; do sleep 0.02; done\necho $$ > {dir}/pid.new\nmv {dir}/pid.new {dir}/pid\nexec {ostro} \"$@\"\n",
        dir = directory.display(),
        ostro = program("ostro").display(),
    );
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Bytes of xDS resources that the control plane has sent since it started.
async fn sent(running: &Running) -> u64 {
    let metrics = running.control("/metrics").await.unwrap();
    metrics
        .lines()
        .filter(|line| line.starts_with("pilot_xds_config_size_bytes_sum"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum::<f64>() as u64
}

/// Bytes of everything that the proxies should have.
async fn full_state(running: &Running) -> u64 {
    let proxies: Vec<serde_json::Value> =
        serde_json::from_str(&running.control("/debug/syncz").await.unwrap()).unwrap();
    let mut bytes = 0;
    for proxy in proxies {
        let id = proxy["proxy"].as_str().unwrap();
        let dump = running.control(&format!("/debug/config_dump?proxyID={id}")).await.unwrap();
        let dump: serde_json::Value = serde_json::from_str(&dump).unwrap();
        let resources = dump["resources"].as_array().unwrap();
        bytes += resources.iter().filter_map(|resource| resource["bytes"].as_u64()).sum::<u64>();
    }
    bytes
}

/// Waits until all twenty proxies are connected to the control plane that runs now, and have what it has.
async fn reconnected(running: &Running) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        let page = running.control("/debug/syncz").await;
        let proxies: Vec<serde_json::Value> =
            page.as_ref().ok().and_then(|page| serde_json::from_str(page).ok()).unwrap_or_default();
        if proxies.len() == 20 && proxies.iter().all(is_synced) {
            return;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "{} proxies came back; not in sync: {:?}; {:?}",
            proxies.len(),
            proxies.iter().filter(|proxy| !is_synced(proxy)).collect::<Vec<_>>(),
            page.err(),
        );
        tokio::time::sleep(LOOK).await;
    }
}

/// Whether a proxy, as `/debug/syncz` shows it, has all it should have.
fn is_synced(proxy: &serde_json::Value) -> bool {
    let types = proxy["types"].as_array().cloned().unwrap_or_default();
    !types.is_empty() && types.iter().all(|kind| kind["state"] == "SYNCED")
}

/// The load, from within the gateway's pod.
async fn start_load(running: &Running) -> Load {
    let gateway = running.pod("istio-ingressgateway");
    let plan = Plan {
        target: (gateway.ip, 8080).into(),
        path: "/".to_string(),
        headers: vec![("host".to_string(), "echo.example".to_string())],
        rate: RATE,
        connections: CONNECTIONS,
    };
    let start = async move {
        Load::start(plan, |answer| match answer.status {
            200 => Ok("ok".to_string()),
            status => Err(format!("{status}: {}", String::from_utf8_lossy(&answer.body))),
        })
    };
    gateway.run(start).await.unwrap()
}

/// Kills the control plane, which stays away while `hold` exists.
fn kill(hold: &Path, pid: &Path) {
    fs::write(hold, "").unwrap();
    let killed: i32 = fs::read_to_string(pid).unwrap().trim().parse().unwrap();
    let killed = rustix::process::Pid::from_raw(killed).unwrap();
    rustix::process::kill_process(killed, rustix::process::Signal::KILL).unwrap();
    fs::remove_file(pid).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_control_plane_costs_no_request_and_sends_what_changed() {
    killed(DataPlane::Ostro, &AWAY_MS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_control_plane_costs_no_request_and_sends_what_changed_to_envoys() {
    killed(DataPlane::Envoy, &AWAY_FROM_ENVOY_MS).await;
}

/// Kills the control plane of a mesh with these proxies; it stays away for so long each time.
async fn killed(proxies: DataPlane, away_ms: &[u64]) {
    let scratch = tempfile::tempdir().unwrap();
    let hold = scratch.path().join("hold");
    let pid = scratch.path().join("pid");
    let files = [("mesh.yaml", config()), ("doomed.yaml", DOOMED.to_string())];
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let running = Running::start_with(&files, &[], (wrapper(scratch.path()), proxies)).await;
    reconnected(&running).await;
    let full = full_state(&running).await;
    assert!(full > 100_000, "full state is {full} bytes");
    // What the returns are measured by does count.
    let first = sent(&running).await;
    assert!(first >= full, "{first} bytes sent at first, of {full}");

    let load = start_load(&running).await;
    load.more(u64::from(RATE)).await;
    let (mut due_away, mut done_away) = (0, 0);
    for (turn, away) in away_ms.iter().copied().enumerate() {
        kill(&hold, &pid);
        let (due, done, killed) = (load.due(), load.done(), Instant::now());
        match turn {
            GOES => running.remove("doomed.yaml"),
            INVALID => running.write("mesh.yaml", &config().replace("number: 8080", "number: many")),
            _ => {}
        }
        // The time away is what is tested here, not a wait for something.
        tokio::time::sleep(Duration::from_millis(away)).await;
        let (due, done) = (load.due() - due, load.done() - done);
        // Nobody waits for the control plane: requests that stood still until it was back would not count as failed.
        assert!(
            done > 0,
            "turn {turn}: no request was answered in the {away} ms that the control plane was away"
        );
        (due_away, done_away) = (due_away + due, done_away + done);
        fs::remove_file(&hold).unwrap();
        reconnected(&running).await;
        let returned = sent(&running).await;
        println!(
            "away {away} ms: {done} requests answered of {due} due; all proxies back {:?} after the kill, \
             {returned} bytes sent; then {} requests owed",
            killed.elapsed(),
            load.owed()
        );
        assert!(returned * 100 <= full, "turn {turn}: {returned} bytes sent on return, of {full}");
        assert!(pid.exists());
    }

    let (planned, seconds) = (load.due(), load.elapsed().as_secs_f64());
    let report = load.finish().await;
    println!(
        "planned: {planned}, sent: {}, failed: {}, seconds: {seconds:.1}: {:.0} requests/s; while the control plane \
         was away: {done_away} answered of {due_away} due; full state: {full} bytes",
        report.total(),
        report.failed,
        report.total() as f64 / seconds,
    );
    assert_eq!(report.failed, 0, "{:?}", report.failures);
    for pod in running.proxies() {
        let (_, clusters) = pod.admin("/clusters").await.unwrap().unwrap();
        let clusters = String::from_utf8_lossy(&clusters).into_owned();
        assert!(!clusters.contains("doomed"), "{} still has the deleted service", pod.name);
        assert!(clusters.contains("outbound|8080||kept.default.svc.cluster.local"), "{}", pod.name);
    }
    running.end().await;
}
