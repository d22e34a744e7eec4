//! Workloads change under load: scaled up, replaced, scaled down, removed. No request fails for it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use ostro_testkit::load::{Load, Plan, Report};
use ostro_testkit::running::{LOOK, Running};

const EDGE: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: echo}
spec:
  selector: {app: echo}
  ports: [{name: http, port: 8080}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 80, name: http, protocol: HTTP}
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
    - destination: {host: echo}
"#;

/// How long pods may take to come and go on a machine that does other things too.
const PODS_MAX: Duration = Duration::from_secs(60);

fn deployment(replicas: u32, generation: &str) -> String {
    format!(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {{name: echo}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: echo}}}}
  template:
    metadata: {{labels: {{app: echo, generation: "{generation}"}}}}
    spec:
      containers:
      - name: echo
        image: ostro/sample
        args: [echo, --http, "8080"]
        ports: [{{containerPort: 8080}}]
"#
    )
}

/// Names of the workload's pods, once there are `count` of them, all ready and none in `gone`.
async fn pods(running: &Running, count: usize, gone: &BTreeSet<String>) -> BTreeSet<String> {
    let deadline = Instant::now() + PODS_MAX;
    loop {
        let status = running.mesh.status();
        let pods: Vec<_> = status.pods.iter().filter(|pod| pod.workload == "echo").collect();
        let names: BTreeSet<String> = pods.iter().map(|pod| pod.name.name.clone()).collect();
        if names.len() == count && pods.iter().all(|pod| pod.ready) && names.is_disjoint(gone) {
            return names;
        }
        assert!(Instant::now() < deadline, "{count} pods wanted, there are {pods:?}");
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits until every one of `names`, and nobody else, answers.
async fn answered_by(load: &Load, names: &BTreeSet<String>, all: &mut Report) {
    let deadline = Instant::now() + PODS_MAX;
    loop {
        load.more(100).await;
        let report = load.take();
        all.failed += report.failed;
        all.failures.extend(report.failures);
        let seen: BTreeSet<String> = report.classes.into_keys().collect();
        if seen == *names {
            return;
        }
        assert!(Instant::now() < deadline, "answers are from {seen:?}, expected {names:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_come_and_go_and_no_request_fails() {
    let running = Running::start(&[("edge.yaml", EDGE), ("echo.yaml", &deployment(1, "a"))], &[]).await;
    let plan = Plan {
        target: running.mesh.ingress(),
        path: "/".into(),
        headers: vec![("host".into(), "echo.example".into())],
        rate: 200,
        connections: 8,
    };
    let none = BTreeSet::new();
    let first = pods(&running, 1, &none).await;
    let load = Load::start(plan, |answer| {
        let body: serde_json::Value = serde_json::from_slice(&answer.body).map_err(|e| e.to_string())?;
        match (answer.status, body["hostname"].as_str()) {
            (200, Some(name)) => Ok(name.to_owned()),
            (status, _) => Err(format!("status {status}: {body}")),
        }
    });
    let mut seen = Report::default();
    // The gateway's route may be a moment behind its readiness.
    answered_by(&load, &first, &mut Report::default()).await;

    running.write("echo.yaml", &deployment(3, "a"));
    let three = pods(&running, 3, &none).await;
    assert!(three.is_superset(&first), "scaling up replaces nobody");
    answered_by(&load, &three, &mut seen).await;

    running.write("echo.yaml", &deployment(3, "b"));
    let replaced = pods(&running, 3, &three).await;
    answered_by(&load, &replaced, &mut seen).await;

    running.write("echo.yaml", &deployment(1, "b"));
    let last = pods(&running, 1, &three).await;
    assert!(replaced.is_superset(&last));
    answered_by(&load, &last, &mut seen).await;

    let rest = load.finish().await;
    assert_eq!((seen.failed, rest.failed), (0, 0), "{:?} {:?}", seen.failures, rest.failures);
    running.assert_content().await;

    running.remove("echo.yaml");
    pods(&running, 0, &none).await;
    running.mesh.end().await;
}
