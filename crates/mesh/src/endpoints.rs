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
