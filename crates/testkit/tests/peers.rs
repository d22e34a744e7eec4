//! Two of our proxies tell each other who they are, and both count the same traffic under the other's name.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test by panicking")]

use ostro_testkit::call::{Said, Speaks, call};
use ostro_testkit::own_proxy::OwnProxy;
use ostro_testkit::pair::{Called, Pair, Sides};
use ostro_testkit::prometheus::{Family, families};
use ostro_testkit::running::{LOOK, Running};
use serde_json::{Value, json};

const SERVICE: &str = "ratings.shop.svc.cluster.local";

fn side(workload: &str, namespace: &str) -> (String, Value) {
    let metadata = json!({
        "NAME": format!("{workload}-0"),
        "NAMESPACE": namespace,
        "WORKLOAD_NAME": workload,
        "CLUSTER_ID": "Kubernetes",
        "ISTIO_VERSION": "1.30.0",
        "OWNER": format!("kubernetes://apis/apps/v1/namespaces/{namespace}/deployments/{workload}"),
        "LABELS": {
            "app": workload,
            "version": "v1",
            "service.istio.io/canonical-name": workload,
            "service.istio.io/canonical-revision": "v1",
        },
    });
    (format!("sidecar~10.0.0.1~{workload}-0.{namespace}~{namespace}.svc.cluster.local"), metadata)
}

async fn pair(metrics: Value) -> Pair {
    let (client, server) = (side("web", "front"), side("ratings", "shop"));
    Pair::start(&Sides { client, server, service: SERVICE.to_owned(), metrics }).await.unwrap()
}

/// The family, once the sum over these labels is as wanted.
fn family(proxy: &OwnProxy, name: &str, labels: &[(&str, &str)], wanted: f64) -> Family {
    let is_there =
        |_, text: &str| families(text).get(name).is_some_and(|family| family.sum(labels) >= wanted);
    let text = proxy.wait("/stats/prometheus", is_there).unwrap();
    let family = families(&text).remove(name).unwrap();
    assert_eq!(family.sum(labels), wanted, "{name} {labels:?}\n{:#?}", family.samples);
    family
}

const FROM: [(&str, &str); 5] = [
    ("source_workload", "web"),
    ("source_workload_namespace", "front"),
    ("source_canonical_service", "web"),
    ("source_app", "web"),
    ("source_cluster", "Kubernetes"),
];
const TO: [(&str, &str); 6] = [
    ("destination_workload", "ratings"),
    ("destination_workload_namespace", "shop"),
    ("destination_service", SERVICE),
    ("destination_service_name", "ratings"),
    ("destination_service_namespace", "shop"),
    ("destination_version", "v1"),
];

/// Both ends, and what else there is.
fn labels<'l>(reporter: &'l str, more: &[(&'l str, &'l str)]) -> Vec<(&'l str, &'l str)> {
    let mut all = vec![("reporter", reporter)];
    all.extend(FROM);
    all.extend(TO);
    all.extend(more);
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_counted_at_both_ends_under_both_names() {
    let pair = pair(json!([])).await;
    for http2 in [false, true] {
        assert_eq!(pair.get(SERVICE, 200, http2).await.unwrap(), 200);
        assert_eq!(pair.get(SERVICE, 503, http2).await.unwrap(), 503);
    }
    assert_eq!(pair.call(3, 7).await.unwrap(), Called { status: 200, grpc_status: Some("7".to_owned()) });
    for (reporter, policy) in [("source", "unknown"), ("destination", "none")] {
        let proxy = if reporter == "source" { &pair.client } else { &pair.server };
        let policy = ("connection_security_policy", policy);
        for (more, wanted) in [
            ([("request_protocol", "http"), ("response_code", "200"), ("grpc_response_status", "")], 2.0),
            ([("request_protocol", "http"), ("response_code", "503"), ("grpc_response_status", "")], 2.0),
            ([("request_protocol", "grpc"), ("response_code", "200"), ("grpc_response_status", "7")], 1.0),
        ] {
            let mut more = more.to_vec();
            more.extend([policy, ("response_flags", "-")]);
            let family = family(proxy, "istio_requests_total", &labels(reporter, &more), wanted);
            assert_eq!(family.kind, "counter");
            assert!(family.samples.iter().all(|(_, labels, _)| labels.len() == 25), "{family:?}");
        }
        for name in ["istio_request_messages_total", "istio_response_messages_total"] {
            let family = family(proxy, name, &labels(reporter, &[]), 3.0);
            assert!(family.samples.iter().all(|(_, labels, _)| labels.len() == 20), "{family:?}");
        }
        let text = proxy.get("/stats/prometheus").unwrap().1;
        let families = families(&text);
        for name in ["istio_request_duration_milliseconds", "istio_request_bytes", "istio_response_bytes"] {
            let counts =
                families[name].samples.iter().filter(|(sample, ..)| *sample == format!("{name}_count"));
            assert_eq!(counts.map(|(.., count)| count).sum::<f64>(), 5.0, "{name}");
        }
        let build = [("component", "proxy"), ("tag", "1.30.0")];
        assert_eq!(families["istio_build"].sum(&build), 1.0);
        assert_eq!(families["envoy_istio_stats_series_overflow"].sum(&[]), 0.0);
        let plain = proxy.get("/stats?filter=istio_requests_total").unwrap().1;
        assert!(
            plain.starts_with(&format!("istiocustom.istio_requests_total.reporter.{reporter}.")),
            "{plain}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_counted_while_they_are_open_and_when_they_close() {
    let pair = pair(json!([])).await;
    let open = pair.connect(b"twelve bytes").await.unwrap();
    drop(pair.connect(b"four").await.unwrap());
    for proxy in [&pair.client, &pair.server] {
        let reporter = if std::ptr::eq(proxy, &pair.client) { "source" } else { "destination" };
        // Without TLS nobody is told who is at the other end.
        let peer = if reporter == "source" { "destination_workload" } else { "source_workload" };
        let labels = [
            ("reporter", reporter),
            (peer, "unknown"),
            ("request_protocol", "tcp"),
            ("destination_service", SERVICE),
            ("response_flags", "-"),
        ];
        family(proxy, "istio_tcp_connections_opened_total", &labels, 2.0);
        family(proxy, "istio_tcp_connections_closed_total", &labels, 1.0);
        family(proxy, "envoy_metadata_exchange_alpn_protocol_not_found", &[], 2.0);
        family(proxy, "istio_tcp_sent_bytes_total", &labels, 16.0);
        let family = family(proxy, "istio_tcp_received_bytes_total", &labels, 16.0);
        assert!(family.samples.iter().all(|(_, labels, _)| labels.len() == 23), "{family:?}");
    }
    drop(open);
    family(&pair.client, "istio_tcp_connections_closed_total", &[("reporter", "source")], 2.0);
    family(&pair.server, "istio_tcp_connections_closed_total", &[("reporter", "destination")], 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn people_have_labels_of_their_own_and_go_without_metrics() {
    let pair = pair(json!([
        {
            "name": "requests_total",
            "dimensions": {"method": "request.method", "response_code": "'any'", "team": "request.headers['x-team']"},
            "tags_to_remove": ["source_principal"],
        },
        {"name": "request_bytes", "drop": true},
    ]))
    .await;
    assert_eq!(pair.get(SERVICE, 200, false).await.unwrap(), 200);
    assert_eq!(pair.get(SERVICE, 404, true).await.unwrap(), 404);
    for (proxy, reporter) in [(&pair.client, "source"), (&pair.server, "destination")] {
        let own = [("reporter", reporter), ("method", "GET"), ("response_code", "any"), ("team", "unknown")];
        let family = family(proxy, "istio_requests_total", &own, 2.0);
        assert_eq!(family.samples.len(), 1, "{family:?}");
        assert!(!family.samples[0].1.contains_key("source_principal"), "{family:?}");
        let families = families(&proxy.get("/stats/prometheus").unwrap().1);
        assert!(!families.contains_key("istio_request_bytes"));
        let codes =
            families["istio_response_bytes"].samples.iter().map(|(_, labels, _)| &labels["response_code"]);
        assert!(codes.clone().any(|code| code == "200") && codes.clone().any(|code| code == "404"));
    }
}

const MESH: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  template:
    metadata: {labels: {app: web, version: v1}, annotations: {ostro.dev/proxy: ostro}}
    spec:
      containers:
      - {name: echo, image: ostro/sample, args: [echo, --http, "8080"], ports: [{containerPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: ratings}
spec: {selector: {app: ratings}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: ratings}
spec:
  template:
    metadata: {labels: {app: ratings, version: v2}, annotations: {ostro.dev/proxy: ostro}}
    spec:
      containers:
      - {name: echo, image: ostro/sample, args: [echo, --http, "8080"], ports: [{containerPort: 8080}]}
"#;

/// What a pod's proxy tells Prometheus, at the port that Istio has for it.
async fn scraped(running: &Running, workload: &str) -> String {
    let at = "127.0.0.1:15090".parse().unwrap();
    let get = ostro_testkit::load::get(at, "/stats/prometheus", &[("host", "prometheus")]);
    let answer = running.pod(workload).run(get).await.unwrap().unwrap();
    String::from_utf8_lossy(&answer.body).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mesh_of_our_own_counts_under_the_names_of_its_workloads() {
    let running = Running::start(&[("mesh.yaml", MESH)], &[]).await;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    // The first answers may come before the caller's proxy has heard of the service.
    while !matches!(
        running.pod("web").run(call("ratings".to_owned(), 80, Speaks::Http)).await.unwrap().said,
        Said::By(name) if name.starts_with("ratings")
    ) {
        assert!(std::time::Instant::now() < deadline, "ratings does not answer");
        tokio::time::sleep(LOOK).await;
    }
    let both = [
        ("source_workload", "web"),
        ("source_canonical_service", "web"),
        ("source_workload_namespace", "default"),
        ("source_version", "v1"),
        ("destination_workload", "ratings"),
        ("destination_app", "ratings"),
        ("destination_version", "v2"),
        ("destination_service", "ratings.default.svc.cluster.local"),
        ("destination_service_name", "ratings"),
        ("request_protocol", "http"),
        ("response_code", "200"),
    ];
    for (workload, reporter) in [("web", "source"), ("ratings", "destination")] {
        let labels: Vec<_> = both.into_iter().chain([("reporter", reporter)]).collect();
        loop {
            let text = scraped(&running, workload).await;
            let families = families(&text);
            if families.get("istio_requests_total").is_some_and(|family| family.sum(&labels) >= 1.0) {
                break;
            }
            let lines: Vec<_> =
                text.lines().filter(|line| line.starts_with("istio_requests_total")).collect();
            assert!(std::time::Instant::now() < deadline, "{workload}: {lines:#?}");
            tokio::time::sleep(LOOK).await;
        }
    }
    running.end().await;
}
