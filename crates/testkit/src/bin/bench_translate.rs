//! `cargo xtask bench translate`: a large mesh, many eager proxies, one change after the other.
//!
//! Prints the size of the read index, and for each sort of change how long the model and the distribution take (on the
//! clock, and of that at work), when the last proxy has it, and how many responses that took. Fails if the index is larger
//! than [`INDEX_BYTES_MAX`]: it grows with what is built, not with who asks, and may not become what a control plane's
//! memory goes to.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a measurement that cannot be made must stop")]

use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ostro_discovery::{Handle, Timing, Translator};
use ostro_mesh::{Change, Mesh, Settings, Snapshot};
use ostro_telemetry::Metrics;
use ostro_testkit::ads::{self, Client, References};
use ostro_testkit::meshgen::{Shape, objects};

/// The read index may take so much: what `docs/evidence.md` promises.
const INDEX_BYTES_MAX: i64 = 200 << 20;

/// Changes of each sort.
const ROUNDS: usize = 5;

/// How often it is looked whether responses arrive.
const LOOK: Duration = Duration::from_millis(5);

/// After so long without a response it is asked whether all have everything.
const SILENCE: Duration = Duration::from_millis(500);

struct Size {
    shape: Shape,
    proxies: usize,
}

fn size() -> Size {
    let shape = Shape {
        services: 5_000,
        namespaces: 1_000,
        endpoints: 2,
        tcp_every: 10,
        rules_every: 10,
        routes_every: 20,
    };
    let mut size = Size { shape, proxies: 200 };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().and_then(|text| text.parse().ok());
        let place = match name.as_str() {
            "--services" => &mut size.shape.services,
            "--namespaces" => &mut size.shape.namespaces,
            "--endpoints" => &mut size.shape.endpoints,
            "--proxies" => &mut size.proxies,
            other => panic!(
                "{other}: there are --services, --namespaces, --endpoints and --proxies, each with a number"
            ),
        };
        *place = value.unwrap_or_else(|| panic!("{name} wants a number"));
    }
    size
}

struct Bench {
    shape: Shape,
    mesh: Mesh,
    metrics: Metrics,
    handle: Handle<Snapshot>,
    clients: Vec<Client>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Size { shape, proxies } = size();
    println!("{} services in {} namespaces, {proxies} eager proxies", shape.services, shape.namespaces);
    let all = shape.objects();
    let number = all.len();
    let mut mesh = Mesh::new(Settings::default());
    let started = Instant::now();
    let (snapshot, changes) = mesh.apply(all.into_iter().map(Change::Upsert).collect());
    println!("model: {number} objects, {} values, {:.2?}", changes.len(), started.elapsed());

    let metrics = Metrics::new("bench");
    let handle = ostro_discovery::start(Translator, snapshot, Timing::default(), metrics.clone()).unwrap();
    let address = serve(handle.clone()).await;
    let started = Instant::now();
    let clients = connect(&shape, proxies, address).await;
    let bench = Bench { shape, mesh, metrics, handle, clients };
    let told = bench.quiet().await.duration_since(started);
    println!(
        "all proxies told everything: {told:.2?}, of which the distribution worked {:.2?}; resident {} MiB (clients included)",
        worked(),
        resident() >> 20
    );
    let index = bench.index();
    bench.changes().await;
    if index > INDEX_BYTES_MAX {
        eprintln!("the read index takes {index} bytes, more than {INDEX_BYTES_MAX}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

async fn serve(handle: Handle<Snapshot>) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(ostro_discovery::ads::serve(listener, handle, std::future::pending()));
    address
}

/// Sidecars of the first pods of the first services, so of as many namespaces as there are.
async fn connect(shape: &Shape, proxies: usize, server: SocketAddr) -> Vec<Client> {
    let references = Arc::new(References::default());
    let mut clients = Vec::new();
    for number in 0..proxies {
        let service = number % shape.services;
        let address = IpAddr::V4(shape.pod_address(service, number / shape.services));
        let node = ads::sidecar_node(address, &format!("s{service}-0"), &shape.namespace(service));
        clients.push(Client::connect(server, node, Default::default(), references.clone(), false).await);
    }
    clients
}

impl Bench {
    fn responses(&self) -> u64 {
        self.clients.iter().map(Client::responses).sum()
    }

    /// Waits until every proxy has everything; when the last response arrived. It is asked seldom whether they have:
    /// answering that takes the distribution longer than most changes.
    async fn quiet(&self) -> Instant {
        let (mut heard, mut last) = (self.responses(), Instant::now());
        loop {
            tokio::time::sleep(LOOK).await;
            let now = self.responses();
            if now != heard {
                (heard, last) = (now, Instant::now());
            } else if last.elapsed() >= SILENCE {
                if self.have_everything().await {
                    return last;
                }
                last = Instant::now();
            }
        }
    }

    async fn have_everything(&self) -> bool {
        let proxies = self.handle.proxies().await;
        // Each has something of every type.
        let told = |kind: &ostro_discovery::status::TypeStatus| {
            kind.pending == 0 && !kind.nonce_sent.is_empty() && kind.nonce_sent == kind.nonce_acked
        };
        proxies.len() == self.clients.len() && proxies.iter().flat_map(|proxy| &proxy.types).all(told)
    }

    /// Prints the read index; its bytes.
    fn index(&self) -> i64 {
        let mut total = 0;
        for kind in ["cds", "eds", "lds", "rds", "vhds"] {
            let label = ostro_telemetry::Typed { r#type: kind };
            let edges = self.metrics.index_edges.get_or_create(&label).get();
            let bytes = self.metrics.index_bytes.get_or_create(&label).get();
            let resources = self.metrics.resources.get_or_create(&label).get();
            total += bytes;
            println!("read index, {kind}: {resources} resources, {edges} edges, {bytes} bytes");
        }
        println!("read index: {total} bytes = {:.1} MiB", total as f64 / f64::from(1 << 20));
        total
    }

    async fn changes(mut self) {
        println!(
            "{:<30} {:>12} {:>12} {:>12} {:>12} {:>10}",
            "one change of", "model", "worked out", "of it work", "all told", "responses"
        );
        let shape = self.shape;
        self.measure("endpoints", |_, service| shape.slice(service, 1)).await;
        self.measure("a VirtualService", |_, service| shape.route(service, 50)).await;
        self.measure("a DestinationRule", |_, service| shape.rule(service, "RANDOM")).await;
        self.measure("a Service's annotation", |_, service| {
            shape.service(service).replacen("metadata: {", "metadata: {annotations: {note: me}, ", 1)
        })
        .await;
        self.measure("the set of Services (one new)", |round, _| {
            Shape { services: shape.services + ROUNDS, ..shape }.service(shape.services + round)
        })
        .await;
    }

    /// Makes the change in so many services, one after the other; `change` is told round and service.
    async fn measure(&mut self, what: &str, change: impl Fn(usize, usize) -> String) {
        let [mut model, mut worked_out, mut work, mut told] = [Duration::ZERO; 4];
        let before = self.responses();
        for round in 0..ROUNDS {
            // A step that keeps to services with a rule and a route, and spreads over the mesh.
            let step = (self.shape.services / ROUNDS / 20).max(1) * 20;
            let new = objects(&change(round, round * step % self.shape.services));
            let arrived = Instant::now();
            let (world, keys) = self.mesh.apply(new.into_iter().map(Change::Upsert).collect());
            model += arrived.elapsed();
            let keys: Vec<_> = keys.iter().collect();
            let change =
                ostro_discovery::Change { world, keys, why: what.to_owned(), trigger: "config", arrived };
            let idle = worked();
            self.handle.changes.send(change).await.unwrap();
            // Answered after the change is worked out.
            self.handle.dump("nobody").await;
            worked_out += arrived.elapsed();
            work += worked().saturating_sub(idle);
            told += self.quiet().await.saturating_duration_since(arrived);
        }
        let after = self.responses();
        let mean = |total: Duration| format!("{:.2?}", total / u32::try_from(ROUNDS).unwrap());
        println!(
            "{what:<30} {:>12} {:>12} {:>12} {:>12} {:>10.1}",
            mean(model),
            mean(worked_out),
            mean(work),
            mean(told),
            (after - before) as f64 / ROUNDS as f64
        );
    }
}

/// The time that the distributing thread has worked: what is left on a busy machine of how long it took.
fn worked() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let is_distributor = |task: &std::path::PathBuf| {
        std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "discovery")
    };
    let task = tasks.into_iter().find(is_distributor).unwrap();
    let schedule = std::fs::read_to_string(task.join("schedstat")).unwrap();
    Duration::from_nanos(schedule.split_whitespace().next().unwrap().parse().unwrap())
}

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = status.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap();
    pages * 4096
}
