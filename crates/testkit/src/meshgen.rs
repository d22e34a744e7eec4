//! Meshes of any size, as YAML: for benchmarks, and for tests that need many services.
//!
//! Everything follows from the [`Shape`] and a running number; there is no chance in it.

use std::net::Ipv4Addr;
use std::sync::Arc;

use ostro_api::{Kind, Object, ObjectKey};
use ostro_names::{Name, Namespace};

/// What a generated mesh looks like.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Services `s0`, `s1`, ...; one has an HTTP port 80, and `tcp_every`th also a TCP port 9000.
    pub services: usize,
    /// Namespaces `n0`, `n1`, ... over which the services are dealt out.
    pub namespaces: usize,
    /// Pods of each service, half of them labelled `version: v1`, half `v2`.
    pub endpoints: usize,
    /// Every so manieth service has a TCP port; 0: none.
    pub tcp_every: usize,
    /// Every so manieth service has a DestinationRule with the subsets `v1` and `v2`; 0: none.
    pub rules_every: usize,
    /// Every so manieth service has a VirtualService that splits between the subsets; 0: none.
    pub routes_every: usize,
}

impl Default for Shape {
    fn default() -> Self {
        Shape { services: 10, namespaces: 2, endpoints: 2, tcp_every: 5, rules_every: 2, routes_every: 4 }
    }
}

fn is_due(number: usize, every: usize) -> bool {
    every != 0 && number.is_multiple_of(every)
}

impl Shape {
    /// The namespace of a service.
    pub fn namespace(&self, service: usize) -> String {
        format!("n{}", service % self.namespaces.max(1))
    }

    /// The host of a service.
    pub fn host(&self, service: usize) -> String {
        format!("s{service}.{}.svc.cluster.local", self.namespace(service))
    }

    /// The address of a pod of a service (10.128.0.0/9 holds 8 million).
    pub fn pod_address(&self, service: usize, endpoint: usize) -> Ipv4Addr {
        let number = u32::try_from(service * self.endpoints + endpoint + 1).expect("so many pods");
        Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 128, 0, 0)) + number)
    }

    /// The key of what carries the endpoints of a service.
    pub fn slice_key(&self, service: usize) -> ObjectKey {
        let namespace = Namespace::new(&self.namespace(service));
        ObjectKey { kind: Kind::EndpointSlice, namespace, name: Name::new(&format!("s{service}")) }
    }

    /// All documents, ready to be written to a file.
    pub fn yaml(&self) -> String {
        (0..self.services).map(|service| self.of_service(service)).collect()
    }

    /// All objects.
    pub fn objects(&self) -> Vec<Arc<Object>> {
        // Service by service: a file has limits.
        (0..self.services).flat_map(|service| objects(&self.of_service(service))).collect()
    }

    /// The documents of one service.
    fn of_service(&self, service: usize) -> String {
        let mut text = self.service(service) + &self.slice(service, self.endpoints);
        text.extend((0..self.endpoints).map(|endpoint| self.pod(service, endpoint)));
        if is_due(service, self.rules_every) {
            text.push_str(&self.rule(service, "ROUND_ROBIN"));
        }
        if is_due(service, self.routes_every) {
            text.push_str(&self.route(service, 90));
        }
        text
    }

    fn head(&self, api: &str, kind: &str, service: usize, name: &str, extra: &str) -> String {
        let namespace = self.namespace(service);
        format!(
            "---\napiVersion: {api}\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}{extra}}}\n"
        )
    }

    /// The Service itself.
    pub fn service(&self, service: usize) -> String {
        let number = u32::try_from(service).expect("so many services");
        let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 64, 0, 0)) + number + 1);
        let tcp = if is_due(service, self.tcp_every) { ", {name: tcp, port: 9000}" } else { "" };
        self.head("v1", "Service", service, &format!("s{service}"), "")
            + &format!(
                "spec: {{clusterIP: {address}, ports: [{{name: http, port: 80, targetPort: 8080}}{tcp}]}}\n"
            )
    }

    /// Its EndpointSlice, with its first so many pods.
    pub fn slice(&self, service: usize, endpoints: usize) -> String {
        let labels = format!(", labels: {{kubernetes.io/service-name: s{service}}}");
        let listed: Vec<String> = (0..endpoints)
            .map(|endpoint| {
                let address = self.pod_address(service, endpoint);
                format!("{{addresses: [{address}], targetRef: {{kind: Pod, name: s{service}-{endpoint}}}}}")
            })
            .collect();
        self.head("discovery.k8s.io/v1", "EndpointSlice", service, &format!("s{service}"), &labels)
            + &format!(
                "addressType: IPv4\nendpoints: [{}]\nports: [{{name: http, port: 8080}}, {{name: tcp, port: 9000}}]\n",
                listed.join(", ")
            )
    }

    /// One of its pods.
    pub fn pod(&self, service: usize, endpoint: usize) -> String {
        let labels = format!(", labels: {{app: s{service}, version: v{}}}", endpoint % 2 + 1);
        self.head("v1", "Pod", service, &format!("s{service}-{endpoint}"), &labels)
            + &format!(
                "spec: {{}}\nstatus: {{podIP: {}, phase: Running}}\n",
                self.pod_address(service, endpoint)
            )
    }

    /// Its DestinationRule.
    pub fn rule(&self, service: usize, balancer: &str) -> String {
        self.head("networking.istio.io/v1", "DestinationRule", service, &format!("s{service}"), "")
            + &format!(
                "spec: {{host: s{service}, trafficPolicy: {{loadBalancer: {{simple: {balancer}}}}}, subsets: [{{name: v1, labels: {{version: v1}}}}, {{name: v2, labels: {{version: v2}}}}]}}\n"
            )
    }

    /// Its VirtualService: so much in a hundred to `v1`.
    pub fn route(&self, service: usize, weight: u32) -> String {
        let to = |subset: &str, weight: u32| {
            format!("{{destination: {{host: s{service}, subset: {subset}}}, weight: {weight}}}")
        };
        self.head("networking.istio.io/v1", "VirtualService", service, &format!("s{service}"), "")
            + &format!(
                "spec: {{hosts: [s{service}], http: [{{route: [{}, {}]}}]}}\n",
                to("v1", weight),
                to("v2", 100 - weight)
            )
    }
}

/// The objects of a text that is without fault.
pub fn objects(yaml: &str) -> Vec<Arc<Object>> {
    let parsed = ostro_api::parse_file("generated.yaml", yaml.as_bytes());
    assert!(parsed.complaints.is_empty(), "{:?}", parsed.complaints);
    parsed.objects.into_iter().map(Arc::new).collect()
}

#[cfg(test)]
mod tests {
    use ostro_mesh::{Change, Key, Mesh, Settings};

    use super::*;

    #[test]
    fn a_generated_mesh_has_what_its_shape_says() {
        let shape = Shape::default();
        let mut mesh = Mesh::new(Settings::default());
        let (snapshot, changes) = mesh.apply(shape.objects().into_iter().map(Change::Upsert).collect());
        let keys = snapshot.keys();
        let count = |wanted: fn(&Key) -> bool| keys.iter().filter(|key| wanted(key)).count();
        assert_eq!(count(|key| matches!(key, Key::Services(_))), 10);
        assert_eq!(count(|key| matches!(key, Key::Endpoints(_))), 10);
        assert_eq!(count(|key| matches!(key, Key::InstancesAt(_))), 20);
        assert_eq!(count(|key| matches!(key, Key::Rules(..))), 5);
        assert_eq!(count(|key| matches!(key, Key::MeshRoutes(_))), 3);
        assert_eq!(count(|key| matches!(key, Key::HostsOnPort(_))), 2);
        assert!(changes.contains(Key::PublicHosts.id()));
        assert_eq!(objects(&shape.yaml()).len(), shape.objects().len());
    }
}
