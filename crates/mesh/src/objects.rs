//! The accepted objects, and the indexes by which others find them.
//!
//! Invariant: the indexes are functions of the objects; an entry lives as long as an object that it points to.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use ostro_api::{Kind, Object, ObjectKey, Spec};
use ostro_names::{Name, Namespace};

use crate::model::Locality;
use crate::workloads::{self, Workload};

/// What names the Service of an EndpointSlice.
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// One object before and after a change.
pub(crate) struct Edit {
    pub(crate) key: ObjectKey,
    pub(crate) old: Option<Arc<Object>>,
    pub(crate) new: Option<Arc<Object>>,
}

/// A map of sets in which an empty set is no entry.
#[derive(Debug)]
pub(crate) struct Index<K, V>(HashMap<K, BTreeSet<V>>);

impl<K, V> Default for Index<K, V> {
    fn default() -> Self {
        Index(HashMap::new())
    }
}

impl<K: Hash + Eq, V: Ord> Index<K, V> {
    pub(crate) fn insert(&mut self, key: K, value: V) {
        self.0.entry(key).or_default().insert(value);
    }

    pub(crate) fn remove(&mut self, key: &K, value: &V) {
        if let Some(values) = self.0.get_mut(key) {
            values.remove(value);
            if values.is_empty() {
                self.0.remove(key);
            }
        }
    }

    pub(crate) fn get<'a>(&'a self, key: &K) -> impl Iterator<Item = &'a V> + use<'a, K, V> {
        self.0.get(key).into_iter().flatten()
    }

    pub(crate) fn count(&self, key: &K) -> usize {
        self.0.get(key).map_or(0, BTreeSet::len)
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The accepted objects.
#[derive(Default)]
pub(crate) struct Objects {
    all: HashMap<ObjectKey, Arc<Object>>,
    of_kind: Index<Kind, ObjectKey>,
    slices: Index<(Namespace, Name), ObjectKey>,
    pods_at: Index<IpAddr, ObjectKey>,
    workloads: HashMap<ObjectKey, Arc<Workload>>,
    workloads_in: Index<Namespace, ObjectKey>,
    selecting: Index<Namespace, ObjectKey>,
    nodes: HashMap<Name, Arc<Locality>>,
}

impl Objects {
    pub(crate) fn get(&self, key: &ObjectKey) -> Option<&Arc<Object>> {
        self.all.get(key)
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// All objects, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.all.values()
    }

    /// The keys of all objects of a kind, sorted.
    pub(crate) fn of_kind(&self, kind: Kind) -> impl Iterator<Item = ObjectKey> + '_ {
        self.of_kind.get(&kind).copied()
    }

    /// The slices of a Service.
    pub(crate) fn slices(&self, namespace: Namespace, service: Name) -> impl Iterator<Item = &Arc<Object>> {
        self.slices.get(&(namespace, service)).filter_map(|key| self.all.get(key))
    }

    /// The workload of a Pod or WorkloadEntry.
    pub(crate) fn workload(&self, key: &ObjectKey) -> Option<&Arc<Workload>> {
        self.workloads.get(key)
    }

    /// The pod with this address.
    pub(crate) fn workload_at(&self, address: IpAddr) -> Option<&Arc<Workload>> {
        self.pods_at.get(&address).next().and_then(|key| self.workloads.get(key))
    }

    /// The workloads of a namespace whose labels contain the selector.
    pub(crate) fn selected<'a>(
        &'a self,
        namespace: Namespace,
        selector: &'a BTreeMap<String, String>,
    ) -> impl Iterator<Item = (&'a ObjectKey, &'a Arc<Workload>)> {
        self.workloads_in
            .get(&namespace)
            .filter_map(|key| Some((key, self.workloads.get(key)?)))
            .filter(|(_, workload)| selects(selector, &workload.labels))
    }

    /// Services and ServiceEntries of a namespace whose selector picks the workload of this kind.
    pub(crate) fn selectors_of(&self, key: &ObjectKey, workload: &Workload) -> Vec<ObjectKey> {
        let picks = |object: &ObjectKey| {
            let selector = self.all.get(object).and_then(|object| selector(object));
            // A Service's pods are found through its slices.
            selector.is_some_and(|selector| selects(selector, &workload.labels))
                && !(object.kind == Kind::Service && key.kind == Kind::Pod)
        };
        self.selecting.get(&key.namespace).copied().filter(picks).collect()
    }

    /// Where a node is.
    pub(crate) fn node(&self, name: Name) -> Option<&Arc<Locality>> {
        self.nodes.get(&name)
    }

    /// Puts an object in the place of its predecessor, or takes it away.
    pub(crate) fn replace(&mut self, key: ObjectKey, new: Option<Arc<Object>>) -> Edit {
        let old = self.all.get(&key).cloned();
        if let Some(old) = &old {
            self.unlink(key, old);
        }
        match &new {
            Some(object) => {
                self.link(key, object);
                self.all.insert(key, object.clone());
            }
            None => {
                self.all.remove(&key);
            }
        }
        Edit { key, old, new }
    }

    fn link(&mut self, key: ObjectKey, object: &Arc<Object>) {
        self.of_kind.insert(key.kind, key);
        if let Some(service) = slice_service(object) {
            self.slices.insert(service, key);
        }
        if selector(object).is_some() {
            self.selecting.insert(key.namespace, key);
        }
        if let Spec::Node(_) = object.spec {
            self.nodes.insert(key.name, Arc::new(workloads::node_locality(&object.meta.labels)));
        }
        if let Some(workload) = workloads::of(object) {
            for address in &workload.pod_addresses {
                self.pods_at.insert(*address, key);
            }
            self.workloads_in.insert(key.namespace, key);
            self.workloads.insert(key, Arc::new(workload));
        }
    }

    fn unlink(&mut self, key: ObjectKey, object: &Arc<Object>) {
        self.of_kind.remove(&key.kind, &key);
        if let Some(service) = slice_service(object) {
            self.slices.remove(&service, &key);
        }
        self.selecting.remove(&key.namespace, &key);
        if let Spec::Node(_) = object.spec {
            self.nodes.remove(&key.name);
        }
        if let Some(workload) = self.workloads.remove(&key) {
            for address in &workload.pod_addresses {
                self.pods_at.remove(address, &key);
            }
            self.workloads_in.remove(&key.namespace, &key);
        }
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
            && self.of_kind.is_empty()
            && self.slices.is_empty()
            && self.pods_at.is_empty()
            && self.workloads.is_empty()
            && self.workloads_in.is_empty()
            && self.selecting.is_empty()
            && self.nodes.is_empty()
    }
}

/// The Service that a slice belongs to.
pub(crate) fn slice_service(object: &Object) -> Option<(Namespace, Name)> {
    let Spec::EndpointSlice(_) = object.spec else { return None };
    let service = object.meta.labels.get(SERVICE_NAME_LABEL)?;
    Some((object.meta.namespace, Name::try_new(service).ok()?))
}

/// The labels by which a Service or ServiceEntry picks workloads; `None` if it does not.
pub(crate) fn selector(object: &Object) -> Option<&BTreeMap<String, String>> {
    match &object.spec {
        Spec::Service(service) if !service.selector.is_empty() => Some(&service.selector),
        Spec::ServiceEntry(entry) => entry.workload_selector.as_ref().map(|selector| &selector.labels),
        _ => None,
    }
}

/// Whether the labels contain all of the selector's.
pub(crate) fn selects(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}
