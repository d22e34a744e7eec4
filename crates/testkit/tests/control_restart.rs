//! The control plane is killed ten times under load, and nobody notices; what comes back sends what changed.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use ostro_testkit::load::{Load, Plan};
use ostro_testkit::running::{LOOK, Running, program};

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_control_plane_costs_no_request_and_sends_what_changed() {
    let scratch = tempfile::tempdir().unwrap();
    let hold = scratch.path().join("hold");
    let pid = scratch.path().join("pid");
    let files = [("mesh.yaml", config()), ("doomed.yaml", DOOMED.to_string())];
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let running = Running::start_with(&files, &[], wrapper(scratch.path())).await;
    reconnected(&running).await;
    let full = full_state(&running).await;
    assert!(full > 100_000, "full state is {full} bytes");

    let plan = Plan {
        target: running.mesh.ingress(),
        path: "/".to_string(),
        headers: vec![("host".to_string(), "echo.example".to_string())],
        rate: 2_000,
        connections: 16,
    };
    let load = Load::start(plan, |answer| match answer.status {
        200 => Ok("ok".to_string()),
        status => Err(format!("{status}: {}", String::from_utf8_lossy(&answer.body))),
    });
    load.more(2_000).await;

    // How long the control plane stays away, in milliseconds.
    for (turn, away) in
        [100, 200, 400, 700, 1_000, 1_500, 2_500, 4_000, 8_000, 30_000].into_iter().enumerate()
    {
        fs::write(&hold, "").unwrap();
        let killed: i32 = fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(killed).unwrap(),
            rustix::process::Signal::KILL,
        )
        .unwrap();
        fs::remove_file(&pid).unwrap();
        match turn {
            // A service goes while nobody looks.
            3 => running.remove("doomed.yaml"),
            // What is invalid on disk changes nothing.
            5 => running.write("mesh.yaml", &config().replace("number: 8080", "number: many")),
            _ => {}
        }
        // The time away is what is tested here, not a wait for something.
        tokio::time::sleep(Duration::from_millis(away)).await;
        fs::remove_file(&hold).unwrap();
        reconnected(&running).await;
        let returned = sent(&running).await;
        assert!(returned * 100 <= full, "turn {turn}: {returned} bytes sent on return, of {full}");
        assert!(pid.exists());
    }

    let report = load.finish().await;
    println!(
        "requests: {}, failed: {}, due but not sent by this machine: {}; full state: {full} bytes",
        report.total(),
        report.failed,
        report.unsent
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
