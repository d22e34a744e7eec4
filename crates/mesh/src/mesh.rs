//! The mesh as it is now, and how a change becomes the next snapshot.
//!
//! A change is worked off in this order, each step handing on what it dirtied: MeshConfig and which namespaces are
//! read; the objects are put in their places; what Services and ServiceEntries declare; what stands behind them; routes; rules; gateways. Every
//! value that a step replaces is noted under its key, and at the end the noted keys are compared, old value with
//! new: those that differ are the [`Changes`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ostro_api::mesh_config::MeshConfig;
use ostro_api::{Kind, Object, ObjectKey, Origin, Spec};
use ostro_names::{Name, Namespace};

use crate::changes::{Changes, Touched};
use crate::endpoints::{Endpoints, Lookup};
use crate::gateways::Gateways;
use crate::key::Key;
use crate::objects::{Edit, Objects, slice_service};
use crate::routes;
use crate::rules::Rules;
use crate::selection::{Aside, Reader};
use crate::services::Services;
use crate::settings::{Context, Settings};
use crate::snapshot::Snapshot;

/// Name of the ConfigMap with the mesh's settings.
const MESH_CONFIG_NAME: &str = "istio";

/// A change to the set of accepted objects.
#[derive(Debug, Clone)]
pub enum Change {
    /// The object is new, or takes the place of the one with the same key.
    Upsert(Arc<Object>),
    /// There is no such object any more.
    Delete(ObjectKey),
}

impl Change {
    /// The key of the object that changes.
    pub fn key(&self) -> ObjectKey {
        match self {
            Change::Upsert(object) => object.key(),
            Change::Delete(key) => *key,
        }
    }
}

/// The model of the mesh, kept up to date by changes.
pub struct Mesh {
    settings: Settings,
    objects: Objects,
    aside: Aside,
    services: Services,
    endpoints: Endpoints,
    rules: Rules,
    gateways: Gateways,
    snapshot: Snapshot,
}

/// What has to be computed anew.
#[derive(Default)]
struct Dirty {
    /// Objects that declare services.
    services: BTreeSet<ObjectKey>,
    /// Objects whose services' endpoints may differ.
    endpoints: BTreeSet<ObjectKey>,
    routes: BTreeSet<ObjectKey>,
    rules: BTreeSet<ObjectKey>,
    gateways: BTreeSet<ObjectKey>,
    config: bool,
}

impl Mesh {
    /// A mesh without any object.
    pub fn new(settings: Settings) -> Self {
        let mut mesh = Mesh {
            objects: Objects::default(),
            aside: Aside::default(),
            services: Services::new(settings.cluster_ip_range),
            endpoints: Endpoints::default(),
            rules: Rules::default(),
            gateways: Gateways::default(),
            snapshot: Snapshot::empty(&settings.cluster_domain),
            settings,
        };
        mesh.snapshot.mesh_config = Arc::new(mesh.config_in_force());
        mesh
    }

    /// The mesh as it is now.
    pub fn snapshot(&self) -> Snapshot {
        self.snapshot.clone()
    }

    /// An accepted object, as it is in force or would be if its namespace were read.
    pub fn object(&self, key: &ObjectKey) -> Option<&Arc<Object>> {
        self.objects.get(key).or_else(|| self.aside.get(key))
    }

    /// Where an object that is in force was written.
    pub fn origin(&self, key: &ObjectKey) -> Option<&Origin> {
        self.object(key).map(|object| &object.origin)
    }

    /// How many objects are in force.
    pub fn len(&self) -> usize {
        self.objects.len() + self.aside.len()
    }

    /// Whether no object is in force.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Applies the changes, all at once: of several to one object the last counts. Returns the next snapshot, and
    /// the keys whose values differ from those of the one before.
    pub fn apply(&mut self, changes: Vec<Change>) -> (Snapshot, Changes) {
        let before = self.snapshot.clone();
        let mut touched = Touched::default();
        let mut dirty = Dirty::default();
        let last: BTreeMap<ObjectKey, Change> =
            changes.into_iter().map(|change| (change.key(), change)).collect();
        // What says which namespaces are read comes before what is in them.
        let (deciding, others): (Vec<_>, Vec<_>) =
            last.into_iter().partition(|(key, _)| matches!(key.kind, Kind::ConfigMap | Kind::Namespace));
        let decided = !deciding.is_empty();
        for (key, change) in deciding {
            self.replace(key, change, &mut dirty);
        }
        self.apply_config(&mut dirty, &mut touched);
        self.place(others, decided, &mut dirty);
        self.recompute(dirty, &mut touched);
        (self.snapshot.clone(), touched.differing(&before, &self.snapshot))
    }

    /// Puts objects in their places, or aside where their namespace is not read; and if it may have been `decided` anew
    /// which namespaces are read, those that were there before.
    fn place(&mut self, changes: Vec<(ObjectKey, Change)>, decided: bool, dirty: &mut Dirty) {
        let config = self.snapshot.mesh_config.clone();
        let root = Namespace::new(&config.root_namespace);
        let mut reader = Reader::new(&config.discovery_selectors, [self.settings.system_namespace, root]);
        let selects = !config.discovery_selectors.is_empty() || self.aside.len() > 0;
        if decided && selects {
            let unread: Vec<Arc<Object>> = self
                .objects
                .iter()
                .filter(|object| !reader.admits(&self.objects, &object.key()))
                .cloned()
                .collect();
            for object in unread {
                self.replace(object.key(), Change::Delete(object.key()), dirty);
                self.aside.insert(object);
            }
            for object in self.aside.take(|key| reader.admits(&self.objects, key)) {
                self.replace(object.key(), Change::Upsert(object), dirty);
            }
        }
        for (key, change) in changes {
            self.aside.remove(&key);
            match change {
                Change::Upsert(object) if !reader.admits(&self.objects, &key) => self.aside.insert(object),
                change => self.replace(key, change, dirty),
            }
        }
    }

    /// Puts an object in its place, and marks what hangs on it.
    fn replace(&mut self, key: ObjectKey, change: Change, dirty: &mut Dirty) {
        let new = match change {
            Change::Upsert(object) => Some(object),
            Change::Delete(_) => None,
        };
        // The workload is asked for on both sides of the edit: its old labels may have been selected too.
        self.mark_workload(&key, dirty);
        let edit = self.objects.replace(key, new);
        self.mark_workload(&key, dirty);
        self.mark(&edit, dirty);
    }

    fn mark(&self, edit: &Edit, dirty: &mut Dirty) {
        let key = edit.key;
        match key.kind {
            Kind::Service | Kind::ServiceEntry => {
                dirty.services.insert(key);
                dirty.endpoints.insert(key);
            }
            Kind::EndpointSlice => {
                let services =
                    [&edit.old, &edit.new].into_iter().flatten().filter_map(|slice| slice_service(slice));
                dirty.endpoints.extend(services.map(|(namespace, name)| service_key(namespace, name)));
            }
            Kind::Endpoints => {
                dirty.endpoints.insert(service_key(key.namespace, key.name));
            }
            Kind::Node => dirty.endpoints.extend(self.endpoints.readers(Lookup::Node(key.name))),
            Kind::VirtualService => {
                dirty.routes.insert(key);
            }
            Kind::DestinationRule => {
                dirty.rules.insert(key);
            }
            Kind::Gateway => {
                dirty.gateways.insert(key);
            }
            Kind::ConfigMap => dirty.config = true,
            // Pods and WorkloadEntries: see `mark_workload`. The others are not part of the model.
            _ => {}
        }
    }

    /// Marks the services that have, or would have, the workload among their endpoints.
    fn mark_workload(&self, key: &ObjectKey, dirty: &mut Dirty) {
        if key.kind == Kind::Pod {
            dirty.endpoints.extend(self.endpoints.readers(Lookup::Pod(*key)));
        }
        if let Some(workload) = self.objects.workload(key) {
            let at = |address: &IpAddr| self.endpoints.readers(Lookup::PodAt(*address));
            dirty.endpoints.extend(workload.pod_addresses.iter().flat_map(at));
            dirty.endpoints.extend(self.objects.selectors_of(key, workload));
        }
    }

    fn config_in_force(&self) -> MeshConfig {
        let key = ObjectKey {
            kind: Kind::ConfigMap,
            namespace: self.settings.system_namespace,
            name: Name::new(MESH_CONFIG_NAME),
        };
        let mut config = match self.objects.get(&key).map(|object| &object.spec) {
            Some(Spec::MeshConfig(config)) => (**config).clone(),
            _ => MeshConfig::default(),
        };
        if config.root_namespace.is_empty() {
            config.root_namespace = self.settings.system_namespace.as_str().to_owned();
        }
        config
    }

    /// Puts MeshConfig in force; objects whose default scope it changes are dirty.
    fn apply_config(&mut self, dirty: &mut Dirty, touched: &mut Touched) {
        if !dirty.config {
            return;
        }
        let new = self.config_in_force();
        let old = std::mem::replace(&mut self.snapshot.mesh_config, Arc::new(new));
        let new = &self.snapshot.mesh_config;
        touched.note(Key::MeshConfig);
        if old.default_service_export_to != new.default_service_export_to {
            dirty.services.extend(self.objects.of_kind(Kind::Service));
            dirty.services.extend(self.objects.of_kind(Kind::ServiceEntry));
        }
        if old.default_virtual_service_export_to != new.default_virtual_service_export_to {
            dirty.routes.extend(self.objects.of_kind(Kind::VirtualService));
        }
        if old.default_destination_rule_export_to != new.default_destination_rule_export_to {
            dirty.rules.extend(self.objects.of_kind(Kind::DestinationRule));
        }
    }

    /// Whether every table is empty.
    #[cfg(test)]
    pub(crate) fn holds_nothing(&self) -> bool {
        self.objects.is_empty()
            && self.aside.len() == 0
            && self.services.is_empty()
            && self.endpoints.is_empty()
            && self.rules.is_empty()
            && self.gateways.is_empty()
    }

    fn recompute(&mut self, mut dirty: Dirty, touched: &mut Touched) {
        let config = self.snapshot.mesh_config.clone();
        let context = Context { domain: &self.settings.cluster_domain, config: &config };
        let (objects, snapshot) = (&self.objects, &mut self.snapshot);
        let hosts = self.services.update(&mut dirty.services, objects, &context, snapshot, touched);
        dirty.endpoints.append(&mut dirty.services);
        let inputs = (objects, &self.services);
        self.endpoints.update(&dirty.endpoints, hosts, inputs, snapshot, touched);
        routes::update(&dirty.routes, objects, &context, snapshot, touched);
        self.rules.update(&dirty.rules, objects, &context, snapshot, touched);
        self.gateways.update(&dirty.gateways, objects, snapshot, touched);
    }
}

fn service_key(namespace: Namespace, name: Name) -> ObjectKey {
    ObjectKey { kind: Kind::Service, namespace, name }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{keys, mesh, objects, upsert};

    const CONFIG: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata: {mesh: 'rootNamespace: root'}\n";

    #[test]
    fn mesh_config_counts_in_the_system_namespace_only() {
        let mut mesh = mesh(&CONFIG.replace("istio-system", "elsewhere"));
        assert_eq!(mesh.snapshot().root_namespace(), "istio-system");
        let (snapshot, changes) = upsert(&mut mesh, CONFIG);
        assert_eq!(snapshot.root_namespace(), "root");
        assert_eq!(keys(&changes), BTreeSet::from([Key::MeshConfig]));
        let (snapshot, _) =
            mesh.apply(objects(CONFIG).iter().map(|object| Change::Delete(object.key())).collect());
        assert_eq!(snapshot.root_namespace(), "istio-system");
    }

    #[test]
    fn of_several_changes_to_one_object_the_last_counts() {
        let [config] = objects(CONFIG).try_into().unwrap();
        let key = config.key();
        let mut mesh = Mesh::new(Settings::default());
        let (_, changes) = mesh.apply(vec![Change::Upsert(config.clone()), Change::Delete(key)]);
        assert!(changes.is_empty() && mesh.is_empty());
        let (_, changes) = mesh.apply(vec![Change::Delete(key), Change::Upsert(config)]);
        assert_eq!(changes.len(), 1);
    }

    #[test]
    fn objects_are_remembered_with_the_place_they_were_written_at() {
        let mesh = mesh(CONFIG);
        let key = ObjectKey {
            kind: Kind::ConfigMap,
            namespace: Namespace::new("istio-system"),
            name: Name::new("istio"),
        };
        assert_eq!(mesh.origin(&key).map(ToString::to_string), Some("test.yaml:1".to_owned()));
        assert!(mesh.object(&key).is_some());
        assert_eq!(mesh.len(), 1);
    }
}
