//! Endpoints: what stands behind each service, and what listens at each workload's address.
//!
//! Each Service and ServiceEntry makes one [`Contribution`]; while it is computed, what it looks up among Pods and
//! Nodes is noted, so that a change of those leads back to it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ostro_api::ObjectKey;
use ostro_names::{Host, Name};

use crate::candidates;
use crate::changes::Touched;
use crate::key::Key;
use crate::model::{Endpoint, EndpointAddress, Health, Instance, Locality, Service};
use crate::objects::{Index, Objects};
use crate::services::Services;
use crate::snapshot::{List, Snapshot};
use crate::workloads::Workload;

/// Something besides its own objects that a contribution looked up, found or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Lookup {
    /// A Pod by name.
    Pod(ObjectKey),
    /// The Pod with an address.
    PodAt(IpAddr),
    /// A Node.
    Node(Name),
}

/// One endpoint of one service port, taking traffic or not.
pub(crate) struct Candidate {
    /// Index of the port in the service's list.
    pub(crate) port: usize,
    pub(crate) address: EndpointAddress,
    /// Port at the endpoint.
    pub(crate) number: u16,
    pub(crate) ready: bool,
    pub(crate) weight: u32,
    pub(crate) locality: Arc<Locality>,
    /// The workload behind it, if known.
    pub(crate) workload: Option<Arc<Workload>>,
}

/// What one Service or ServiceEntry contributes.
#[derive(Default, PartialEq)]
struct Contribution {
    endpoints: BTreeMap<Host, List<Endpoint>>,
    instances: BTreeMap<IpAddr, Vec<Instance>>,
}

/// All contributions.
#[derive(Default)]
pub(crate) struct Endpoints {
    of: HashMap<ObjectKey, Contribution>,
    at: Index<IpAddr, ObjectKey>,
    readers: Index<Lookup, ObjectKey>,
    lookups: HashMap<ObjectKey, BTreeSet<Lookup>>,
}

impl Endpoints {
    /// The Services and ServiceEntries that looked this up.
    pub(crate) fn readers(&self, lookup: Lookup) -> impl Iterator<Item = ObjectKey> + '_ {
        self.readers.get(&lookup).copied()
    }

    /// Recomputes the contributions of the dirty objects, and the lists of the hosts whose services changed.
    pub(crate) fn update(
        &mut self,
        dirty: &BTreeSet<ObjectKey>,
        mut hosts: BTreeSet<Host>,
        (objects, services): (&Objects, &Services),
        snapshot: &mut Snapshot,
        touched: &mut Touched,
    ) {
        let mut addresses = BTreeSet::new();
        for key in dirty {
            let mut lookups = BTreeSet::new();
            let new = contribution(key, objects, services.declared(key), &mut lookups);
            self.note_lookups(*key, lookups);
            self.replace(*key, new, &mut hosts, &mut addresses);
        }
        for host in hosts {
            touched.note(Key::Endpoints(host));
            let list = self.listed(host, snapshot);
            if list.is_empty() {
                snapshot.endpoints.remove(&host);
            } else {
                snapshot.endpoints.insert(host, list);
            }
        }
        for address in addresses {
            touched.note(Key::InstancesAt(address));
            let instances = self.instances_at(address);
            if instances.is_empty() {
                snapshot.instances_at.remove(&address);
            } else {
                snapshot.instances_at.insert(address, Arc::from(instances));
            }
        }
    }

    fn note_lookups(&mut self, key: ObjectKey, new: BTreeSet<Lookup>) {
        let old = self.lookups.remove(&key).unwrap_or_default();
        for gone in old.difference(&new) {
            self.readers.remove(gone, &key);
        }
        for come in new.difference(&old) {
            self.readers.insert(*come, key);
        }
        if !new.is_empty() {
            self.lookups.insert(key, new);
        }
    }

    /// Replaces a contribution; names the hosts and addresses where it made or makes a difference.
    fn replace(
        &mut self,
        key: ObjectKey,
        new: Contribution,
        hosts: &mut BTreeSet<Host>,
        addresses: &mut BTreeSet<IpAddr>,
    ) {
        let old = self.of.remove(&key).unwrap_or_default();
        if old != new {
            hosts.extend(old.endpoints.keys().chain(new.endpoints.keys()));
            let differs = |address: &&IpAddr| old.instances.get(address) != new.instances.get(address);
            addresses.extend(old.instances.keys().chain(new.instances.keys()).filter(differs));
            for address in old.instances.keys() {
                self.at.remove(address, &key);
            }
            for address in new.instances.keys() {
                self.at.insert(*address, key);
            }
        }
        if !new.endpoints.is_empty() || !new.instances.is_empty() {
            self.of.insert(key, new);
        }
    }

    /// The endpoints of a host, in the order of its services.
    fn listed(&self, host: Host, snapshot: &Snapshot) -> List<Endpoint> {
        let services = snapshot.services(host);
        let mut lists =
            services.iter().filter_map(|service| self.of.get(&service.key())?.endpoints.get(&host));
        match (lists.next(), lists.next()) {
            (None, _) => Arc::from(Vec::new()),
            (Some(only), None) => only.clone(),
            (Some(first), Some(second)) => {
                [first, second].into_iter().chain(lists).flat_map(|list| list.iter().cloned()).collect()
            }
        }
    }

    fn instances_at(&self, address: IpAddr) -> Vec<Instance> {
        let contributions = self.at.get(&address).filter_map(|key| self.of.get(key)?.instances.get(&address));
        let mut instances: Vec<Instance> = contributions.flatten().cloned().collect();
        instances.sort_by(|a, b| {
            (a.age, a.host, a.port.number, a.target_port).cmp(&(b.age, b.host, b.port.number, b.target_port))
        });
        instances
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.of.is_empty() && self.at.is_empty() && self.readers.is_empty() && self.lookups.is_empty()
    }
}

fn contribution(
    key: &ObjectKey,
    objects: &Objects,
    services: &[Arc<Service>],
    lookups: &mut BTreeSet<Lookup>,
) -> Contribution {
    let mut contribution = Contribution::default();
    let Some(object) = objects.get(key) else { return contribution };
    let mut known: Option<Vec<Candidate>> = None;
    for service in services {
        // All hosts of an object have the same endpoints, except that a host to be resolved is its own.
        let shared = known.get_or_insert_with(|| candidates::shared(object, service, objects, lookups));
        let own = candidates::host_itself(object, service);
        let all = || shared.iter().chain(&own);
        let serving = all().filter(|candidate| candidate.ready || service.publish_not_ready);
        let endpoints: List<Endpoint> =
            serving.filter_map(|candidate| endpoint(service, candidate)).collect();
        if !endpoints.is_empty() {
            contribution.endpoints.insert(service.host, endpoints);
        }
        for candidate in all() {
            if let (EndpointAddress::Ip(address), Some(instance)) =
                (&candidate.address, instance(service, candidate))
            {
                let instances = contribution.instances.entry(*address).or_default();
                if !instances.contains(&instance) {
                    instances.push(instance);
                }
            }
        }
    }
    contribution
}

fn endpoint(service: &Service, candidate: &Candidate) -> Option<Endpoint> {
    let port = service.ports.get(candidate.port)?;
    let workload = candidate.workload.as_deref();
    Some(Endpoint {
        service_namespace: service.namespace,
        service_object: service.object,
        service_registry: service.registry,
        port_name: port.name,
        address: candidate.address.clone(),
        port: candidate.number,
        labels: workload.map(|workload| workload.labels.clone()).unwrap_or_default(),
        locality: candidate.locality.clone(),
        health: Health::Healthy,
        weight: candidate.weight.max(1),
        service_account: workload.and_then(|workload| workload.service_account),
        workload: workload.map(|workload| workload.identity.clone()).unwrap_or_default(),
        mtls: workload.is_some_and(|workload| workload.mtls),
    })
}

fn instance(service: &Service, candidate: &Candidate) -> Option<Instance> {
    Some(Instance {
        host: service.host,
        service_name: service.name,
        namespace: service.namespace,
        age: service.age,
        port: service.ports.get(candidate.port)?.clone(),
        target_port: candidate.number,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::IpAddr;

    use ostro_api::Kind;

    use super::*;
    use crate::mesh::{Change, Mesh};
    use crate::testing::{delete, host, keys, mesh, objects, upsert};

    const WEB: &str = "web.shop.svc.cluster.local";

    const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.0.0.1, ports: [{name: http, port: 80, targetPort: 8080}, {name: tcp-admin, port: 9000}]}
---
";

    fn slice(endpoints: &str) -> String {
        format!(
            "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: web-1, namespace: shop, labels: {{kubernetes.io/service-name: web}}}}
addressType: IPv4
endpoints: [{endpoints}]
ports: [{{name: http, port: 8080}}]
---
"
        )
    }

    fn pod(name: &str, rest: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop, labels: {{app: web, version: v1, security.istio.io/tlsMode: istio}}}}\n{rest}\n---\n"
        )
    }

    fn addresses(mesh: &Mesh, name: &str) -> Vec<String> {
        let endpoints = mesh.snapshot().endpoints(host(name));
        let shown = |endpoint: &Endpoint| match &endpoint.address {
            EndpointAddress::Ip(address) => format!("{} {address}:{}", endpoint.port_name, endpoint.port),
            EndpointAddress::Dns(name) => format!("{} {name}:{}", endpoint.port_name, endpoint.port),
            EndpointAddress::Unix(path) => format!("{} {path}", endpoint.port_name),
        };
        endpoints.iter().map(shown).collect()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn slices_name_endpoints_and_pods_tell_about_them() {
        let mut mesh = mesh(
            &(SERVICE.to_owned()
                + &slice(
                    "{addresses: [10.1.0.2]}, {addresses: [10.1.0.1], targetRef: {kind: Pod, name: p1}}",
                )),
        );
        assert_eq!(addresses(&mesh, WEB), ["http 10.1.0.1:8080", "http 10.1.0.2:8080"]);

        let node = "apiVersion: v1\nkind: Node\nmetadata: {name: n1, labels: {topology.kubernetes.io/region: r, topology.kubernetes.io/zone: z}}\n";
        let (snapshot, changes) = upsert(
            &mut mesh,
            &(pod("p1", "spec: {nodeName: n1, serviceAccountName: sa}\nstatus: {podIP: 10.1.0.1}") + node),
        );
        assert_eq!(keys(&changes), BTreeSet::from([Key::Endpoints(host(WEB))]));
        let first = &snapshot.endpoints(host(WEB))[0];
        assert_eq!(first.labels.get("version").map(String::as_str), Some("v1"));
        assert_eq!((first.locality.region.as_str(), first.locality.zone.as_str()), ("r", "z"));
        assert_eq!(first.service_account.unwrap().as_str(), "sa");
        assert_eq!(first.workload.name, "p1");
        assert!(first.mtls);
        assert!(snapshot.endpoints(host(WEB))[1].labels.is_empty(), "no pod has this address");
    }

    #[test]
    fn one_moved_pod_changes_one_list() {
        let other = SERVICE.replace("name: web", "name: other")
            + &slice("{addresses: [10.1.0.9]}").replace("web", "other");
        let mut mesh = mesh(&(SERVICE.to_owned() + &other + &slice("{addresses: [10.1.0.1]}")));
        let (_, changes) = upsert(&mut mesh, &slice("{addresses: [10.1.0.1]}, {addresses: [10.1.0.2]}"));
        assert_eq!(
            keys(&changes),
            BTreeSet::from([Key::Endpoints(host(WEB)), Key::InstancesAt(ip("10.1.0.2"))])
        );
    }

    #[test]
    fn the_unready_are_left_out_but_know_what_they_serve() {
        let unready =
            slice("{addresses: [10.1.0.1], conditions: {ready: false, serving: true, terminating: true}}");
        let mut mesh = mesh(&(SERVICE.to_owned() + &unready));
        assert!(addresses(&mesh, WEB).is_empty());
        let instances = mesh.snapshot().instances_at(ip("10.1.0.1"));
        assert_eq!(instances.len(), 1);
        assert_eq!((instances[0].port.number, instances[0].target_port), (80, 8080));
        upsert(&mut mesh, &SERVICE.replace("clusterIP", "publishNotReadyAddresses: true, clusterIP"));
        assert_eq!(addresses(&mesh, WEB), ["http 10.1.0.1:8080"]);
    }

    #[test]
    fn endpoints_objects_count_only_without_slices() {
        let listed = "apiVersion: v1\nkind: Endpoints\nmetadata: {name: web, namespace: shop}\nsubsets: [{addresses: [{ip: 10.1.0.5}], notReadyAddresses: [{ip: 10.1.0.6}], ports: [{name: tcp-admin, port: 9001}]}]\n---\n";
        let mut mesh = mesh(&(SERVICE.to_owned() + listed));
        assert_eq!(addresses(&mesh, WEB), ["tcp-admin 10.1.0.5:9001"]);
        upsert(&mut mesh, &slice("{addresses: [10.1.0.1]}"));
        assert_eq!(addresses(&mesh, WEB), ["http 10.1.0.1:8080"]);
        delete(&mut mesh, Kind::EndpointSlice, "shop", "web-1");
        assert_eq!(addresses(&mesh, WEB), ["tcp-admin 10.1.0.5:9001"]);
    }

    #[test]
    fn an_address_in_two_slices_is_one_endpoint() {
        let second = slice("{addresses: [10.1.0.1], conditions: {ready: false}}").replace("web-1", "web-2");
        let mesh = mesh(&(SERVICE.to_owned() + &slice("{addresses: [10.1.0.1]}") + &second));
        assert_eq!(addresses(&mesh, WEB), ["http 10.1.0.1:8080"]);
    }

    fn entry(spec: &str) -> String {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: ext, namespace: shop}}\nspec: {{{spec}}}\n---\n"
        )
    }

    const EXT: &str = "ext.example.com";

    #[test]
    fn endpoints_of_a_service_entry() {
        let ports = "ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}, {number: 443, name: tls, protocol: TLS}]";
        let inline = entry(&format!(
            "hosts: [{EXT}], resolution: STATIC, {ports}, endpoints: [{{address: 10.1.0.1, ports: {{tls: 8443}}, weight: 5, locality: r/z}}]"
        ));
        let mesh_inline = mesh(&inline);
        assert_eq!(addresses(&mesh_inline, EXT), ["http 10.1.0.1:8080", "tls 10.1.0.1:8443"]);
        let first = &mesh_inline.snapshot().endpoints(host(EXT))[0];
        assert_eq!((first.weight, first.locality.zone.as_str()), (5, "z"));
        assert_eq!(mesh_inline.snapshot().instances_at(ip("10.1.0.1")).len(), 2);

        let socket = entry(&format!(
            "hosts: [{EXT}], resolution: STATIC, ports: [{{number: 80, name: http, protocol: HTTP}}], endpoints: [{{address: 'unix:///run/x'}}]"
        ));
        assert_eq!(addresses(&mesh(&socket), EXT), ["http /run/x"]);

        let named = entry(&format!(
            "hosts: [{EXT}], resolution: DNS, {ports}, endpoints: [{{address: one.example.com}}]"
        ));
        assert_eq!(addresses(&mesh(&named), EXT), ["http one.example.com:8080", "tls one.example.com:443"]);
        let bare = entry(&format!("hosts: [{EXT}], resolution: DNS, {ports}"));
        assert_eq!(addresses(&mesh(&bare), EXT), ["http ext.example.com:8080", "tls ext.example.com:443"]);
        let none = entry(&format!("hosts: [{EXT}], resolution: NONE, {ports}"));
        assert!(addresses(&mesh(&none), EXT).is_empty());
    }

    #[test]
    fn selectors_pick_workload_entries_and_ready_pods_as_they_come_and_go() {
        let selecting = entry(&format!(
            "hosts: [{EXT}], resolution: STATIC, workloadSelector: {{labels: {{app: web}}}}, ports: [{{number: 80, name: http, protocol: HTTP}}]"
        ));
        let mut mesh = mesh(&selecting);
        let vm = "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: vm, namespace: shop}\nspec: {address: 10.2.0.1, labels: {app: web}, ports: {http: 81}, serviceAccount: vm}\n---\n";
        upsert(&mut mesh, &(pod("p1", "status: {podIP: 10.1.0.1}") + vm));
        assert_eq!(addresses(&mesh, EXT), ["http 10.1.0.1:80", "http 10.2.0.1:81"]);
        upsert(
            &mut mesh,
            &pod("p1", "status: {podIP: 10.1.0.1, conditions: [{type: Ready, status: 'False'}]}"),
        );
        upsert(&mut mesh, &vm.replace("app: web", "app: other"));
        assert!(addresses(&mesh, EXT).is_empty());
        upsert(
            &mut mesh,
            &pod("p1", "status: {podIP: 10.1.0.1}").replace("namespace: shop", "namespace: elsewhere"),
        );
        assert!(addresses(&mesh, EXT).is_empty(), "selectors stay within their namespace");
    }

    #[test]
    fn a_service_picks_workload_entries_beside_its_slices() {
        let service = SERVICE.replace("clusterIP", "selector: {app: web}, clusterIP");
        let vm = "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: vm, namespace: shop}\nspec: {address: 10.2.0.1, labels: {app: web}}\n---\n";
        let mesh = mesh(
            &(service + &slice("{addresses: [10.1.0.1]}") + vm + &pod("p1", "status: {podIP: 10.1.0.8}")),
        );
        assert_eq!(
            addresses(&mesh, WEB),
            ["http 10.1.0.1:8080", "http 10.2.0.1:8080", "tcp-admin 10.2.0.1:9000"]
        );
    }

    #[test]
    fn nothing_is_kept_of_what_is_gone() {
        let yaml = SERVICE.to_owned()
            + &slice(
                "{addresses: [10.1.0.1], nodeName: n1}, {addresses: [10.1.0.2], targetRef: {kind: Pod, name: p1}}",
            )
            + &pod("p1", "status: {podIP: 10.1.0.2}");
        let mut mesh = mesh(&yaml);
        assert_eq!(addresses(&mesh, WEB).len(), 2);
        mesh.apply(objects(&yaml).into_iter().map(|object| Change::Delete(object.key())).collect());
        assert!(mesh.holds_nothing());
    }
}
