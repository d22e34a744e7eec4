//! What is configured, and how it changes.

use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use ostro_testkit::pinned;
use ostro_testkit::served::Served;
use ostro_translate::ResourceType;
use serde_json::Value;

use crate::load::Counts;

const RESOURCES: &str = include_str!("resources.yaml");

/// Between two changes.
const STEP: Duration = Duration::from_millis(200);
/// Clusters besides those that carry traffic; a part of them is there.
const CLUSTERS: usize = 200;

/// Changes.
pub struct Churn {
    served: Served,
    values: Vec<(&'static str, String)>,
    backends: [SocketAddr; 5],
    step: usize,
}

impl Churn {
    /// `backends`: two of HTTP/1.1, of HTTP/2, of gRPC, one that breaks off. `at`: where HTTP and bytes are taken.
    pub fn new(served: Served, backends: [SocketAddr; 5], at: [SocketAddr; 2], log: &Path) -> Churn {
        let values = vec![
            ("HTTP", at[0].port().to_string()),
            ("TCP", at[1].port().to_string()),
            ("LOG", log.display().to_string()),
        ];
        Churn { served, values, backends, step: 0 }
    }

    /// Puts everything there.
    pub fn begin(&mut self) {
        for name in ["http1", "http2", "grpc", "bytes", "vanish"] {
            self.cluster(name);
            self.endpoints(name);
        }
        for number in 0..CLUSTERS {
            self.extra(number);
        }
        self.listeners();
        self.routes();
    }

    /// Changes something again and again, until the traffic ends.
    pub async fn run(mut self, counts: Rc<Counts>) {
        while !counts.ends.get() {
            tokio::time::sleep(STEP).await;
            self.step += 1;
            self.change();
        }
    }

    fn change(&mut self) {
        let names = ["http1", "http2", "grpc", "bytes", "vanish"];
        if let Some(name) = names.get(self.step % names.len()) {
            self.endpoints(name);
        }
        if self.step.is_multiple_of(7) {
            self.routes();
        }
        if self.step.is_multiple_of(3) {
            self.extra(self.step / 3 % CLUSTERS);
        }
        if self.step.is_multiple_of(50)
            && let Some(name) = names.get(self.step / 50 % names.len())
        {
            self.cluster(name);
        }
        if self.step.is_multiple_of(150) {
            self.listeners();
        }
    }

    /// One resource of the file, its places filled.
    fn resource(&self, which: &str, values: &[(&'static str, String)]) -> Value {
        let step = [("STEP", self.step.to_string()), ("BIT", (self.step % 2).to_string())];
        let fillers = ["NAME", "ADDRESSES", "TIMEOUT"].map(|name| (name, "0".to_owned()));
        let all: Vec<_> = values.iter().chain(&self.values).chain(&step).chain(&fillers).cloned().collect();
        pinned::bootstrap(RESOURCES, &all)[which].clone()
    }

    fn put(&self, kind: ResourceType, message: &str, name: &str, tree: &Value) {
        let unknown = ostro_envoy_json::Unknown::Refuse;
        let bytes = ostro_envoy_json::to_wire(message, tree, unknown).expect("a resource");
        self.served.put(kind, name, &self.step.to_string(), bytes);
    }

    fn cluster(&self, name: &str) {
        let which = if matches!(name, "http2" | "grpc") { "cluster_of_http2" } else { "cluster" };
        // It changes with every other step.
        let timeout = format!("{}s", 5 + self.step % 2);
        let tree = self.resource(which, &[("NAME", name.to_owned()), ("TIMEOUT", timeout)]);
        self.put(ResourceType::Cluster, "envoy.config.cluster.v3.Cluster", name, &tree);
    }

    /// A cluster that carries nothing comes or goes.
    fn extra(&self, number: usize) {
        let name = format!("extra-{number}");
        if (self.step / 3 / CLUSTERS) % 2 == 1 {
            return self.served.remove(ResourceType::Cluster, &name);
        }
        self.cluster(&name);
        self.endpoints(&name);
    }

    fn endpoints(&self, name: &str) {
        let [first, second, http2, grpc, broken] = self.backends;
        // Somewhere nobody listens.
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
        let turn = self.step / 5;
        let all: &[SocketAddr] = match (name, turn % 3) {
            ("http2", _) => &[http2],
            ("grpc", _) => &[grpc],
            ("vanish", 0) => &[nowhere],
            ("vanish", 1) => &[broken, first],
            ("vanish", _) => &[broken, nowhere, second],
            (_, 0) => &[first],
            (_, 1) => &[first, second],
            (_, _) => &[second],
        };
        let address = |at: &SocketAddr| {
            let at = format!("{{address: 127.0.0.1, port_value: {}}}", at.port());
            format!("{{endpoint: {{address: {{socket_address: {at}}}}}}}")
        };
        let list = format!("[{}]", all.iter().map(address).collect::<Vec<_>>().join(", "));
        let tree = self.resource("endpoints", &[("NAME", name.to_owned()), ("ADDRESSES", list)]);
        let message = "envoy.config.endpoint.v3.ClusterLoadAssignment";
        self.put(ResourceType::Endpoint, message, name, &tree);
    }

    fn routes(&self) {
        let tree = self.resource("routes", &[]);
        self.put(ResourceType::Route, "envoy.config.route.v3.RouteConfiguration", "soak", &tree);
    }

    fn listeners(&self) {
        for which in ["http", "tcp"] {
            let tree = self.resource(which, &[]);
            self.put(ResourceType::Listener, "envoy.config.listener.v3.Listener", which, &tree);
        }
    }
}
