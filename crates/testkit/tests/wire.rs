//! What goes over the wire when one thing changes, with 500 services and 20 proxies.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test by panicking")]

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ostro_discovery::{Handle, Timing, Translator};
use ostro_mesh::{Change, Mesh, Settings, Snapshot};
use ostro_telemetry::Metrics;
use ostro_testkit::ads::{self, Client, Heard, References};
use ostro_testkit::meshgen::{Shape, objects};
use ostro_translate::ResourceType;

const SHAPE: Shape =
    Shape { services: 500, namespaces: 50, endpoints: 2, tcp_every: 10, rules_every: 10, routes_every: 20 };
const PROXIES: usize = 20;

/// How long a push may take. Generous: tests share two cores.
const PUSH_MAX: Duration = Duration::from_secs(60);

struct Wire {
    mesh: Mesh,
    handle: Handle<Snapshot>,
    clients: Vec<Client>,
}

/// Twenty sidecars that have everything.
async fn wire() -> Wire {
    let mut mesh = Mesh::new(Settings::default());
    let (snapshot, _) = mesh.apply(SHAPE.objects().into_iter().map(Change::Upsert).collect());
    let handle =
        ostro_discovery::start(Translator, snapshot, Timing::default(), Metrics::new("test")).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap();
    tokio::spawn(ostro_discovery::ads::serve(listener, handle.clone(), std::future::pending()));
    let references = Arc::new(References::default());
    let mut clients = Vec::new();
    for service in 0..PROXIES {
        let address = IpAddr::V4(SHAPE.pod_address(service, 0));
        let node = ads::sidecar_node(address, &format!("s{service}-0"), &SHAPE.namespace(service));
        clients.push(Client::connect(server, node, Default::default(), references.clone(), false).await);
    }
    let wire = Wire { mesh, handle, clients };
    wire.quiet().await;
    for client in &wire.clients {
        client.heard();
    }
    wire
}

impl Wire {
    /// Waits until every proxy has acknowledged everything that it should have, endpoints and routes included.
    async fn quiet(&self) {
        let deadline = Instant::now() + PUSH_MAX;
        loop {
            let proxies = self.handle.proxies().await;
            let settled = proxies.iter().flat_map(|proxy| &proxy.types).all(|kind| kind.state == "SYNCED");
            if settled && proxies.len() == PROXIES && proxies.iter().all(|proxy| proxy.types.len() == 4) {
                return;
            }
            assert!(Instant::now() < deadline, "not quiet: {proxies:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Applies objects; what each proxy then hears.
    async fn change(&mut self, yaml: &str) -> Vec<Vec<Heard>> {
        let arrived = Instant::now();
        let (world, keys) = self.mesh.apply(objects(yaml).into_iter().map(Change::Upsert).collect());
        let keys = keys.iter().collect();
        let change = ostro_discovery::Change { world, keys, why: "test".into(), trigger: "config", arrived };
        self.handle.changes.send(change).await.unwrap();
        // A question that is answered after the change has been worked out; what it caused is pending then, or told.
        self.handle.dump("nobody").await;
        self.quiet().await;
        self.clients.iter().map(Client::heard).collect()
    }
}

/// The clusters of a service that has the subsets `v1` and `v2`.
fn clusters(service: usize, port: u16) -> BTreeSet<String> {
    ["", "v1", "v2"].map(|subset| format!("outbound|{port}|{subset}|{}", SHAPE.host(service))).into()
}

fn names(heard: &[Heard], kind: ResourceType) -> BTreeSet<String> {
    heard.iter().filter(|heard| heard.kind == kind).flat_map(|heard| heard.resources.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_reaches_those_whom_it_concerns_and_carries_nothing_else() {
    let mut wire = wire().await;

    // A service without subsets, with one port: one cluster has its endpoints.
    for heard in wire.change(&SHAPE.slice(401, 1)).await {
        assert_eq!(heard.len(), 1, "{heard:?}");
        assert_eq!(heard[0].kind, ResourceType::Endpoint);
        assert_eq!(heard[0].resources, [format!("outbound|80||{}", SHAPE.host(401))]);
        assert!(heard[0].removed.is_empty());
    }

    // All services share port 80, and so one route configuration.
    for heard in wire.change(&SHAPE.route(400, 50)).await {
        assert_eq!(heard.len(), 1, "{heard:?}");
        assert_eq!(
            (heard[0].kind, heard[0].resources.as_slice()),
            (ResourceType::Route, ["80".to_owned()].as_slice())
        );
    }

    // Its clusters, and their endpoints after them, without which Envoy would keep them warming.
    let both_ports: BTreeSet<String> = clusters(400, 80).union(&clusters(400, 9000)).cloned().collect();
    for heard in wire.change(&SHAPE.rule(400, "RANDOM")).await {
        assert_eq!(names(&heard, ResourceType::Cluster), both_ports, "{heard:?}");
        assert_eq!(names(&heard, ResourceType::Endpoint), both_ports, "{heard:?}");
        assert_eq!(heard.len(), 2, "one response of each: {heard:?}");
        assert_eq!(heard[0].kind, ResourceType::Cluster, "clusters first: {heard:?}");
    }

    let annotated = SHAPE.service(400).replacen("metadata: {", "metadata: {annotations: {note: unread}, ", 1);
    for heard in wire.change(&annotated).await {
        assert!(heard.is_empty(), "{heard:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_reaches_nobody_who_does_not_subscribe_to_it() {
    let mut wire = wire().await;
    // Visible in its own namespace only from now on: the proxies elsewhere lose it.
    let service = 7;
    let private = SHAPE.service(service).replacen(
        "metadata: {",
        "metadata: {annotations: {networking.istio.io/exportTo: '.'}, ",
        1,
    );
    wire.change(&private).await;
    let heard = wire.change(&SHAPE.slice(service, 1)).await;
    for (proxy, heard) in heard.iter().enumerate() {
        let expected = usize::from(SHAPE.namespace(proxy) == SHAPE.namespace(service));
        assert_eq!(heard.len(), expected, "proxy {proxy}: {heard:?}");
    }
    assert_eq!(heard.iter().flatten().count(), 1);
}
