//! Which namespaces the mesh reads: MeshConfig `discoverySelectors`.
//!
//! Objects of a namespace that no selector picks are accepted and kept aside; they take part in nothing until their
//! namespace is picked. The root namespace and the control plane's own are always read, and so is what belongs to no
//! namespace.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ostro_api::workload::LabelSelector;
use ostro_api::{Kind, Object, ObjectKey};
use ostro_names::{Name, Namespace};

use crate::objects::Objects;

/// The label that Kubernetes gives every namespace: its name.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// The accepted objects that are not read.
#[derive(Default)]
pub(crate) struct Aside {
    objects: BTreeMap<ObjectKey, Arc<Object>>,
}

impl Aside {
    pub(crate) fn get(&self, key: &ObjectKey) -> Option<&Arc<Object>> {
        self.objects.get(key)
    }

    pub(crate) fn len(&self) -> usize {
        self.objects.len()
    }

    pub(crate) fn insert(&mut self, object: Arc<Object>) {
        self.objects.insert(object.key(), object);
    }

    pub(crate) fn remove(&mut self, key: &ObjectKey) {
        self.objects.remove(key);
    }

    /// Takes out what is read from now on.
    pub(crate) fn take(&mut self, mut is_read: impl FnMut(&ObjectKey) -> bool) -> Vec<Arc<Object>> {
        self.objects.extract_if(.., |key, _| is_read(key)).map(|(_, object)| object).collect()
    }
}

/// The selectors in force, as they are asked during one change.
pub(crate) struct Reader<'a> {
    selectors: &'a [LabelSelector],
    always: [Namespace; 2],
    known: HashMap<Namespace, bool>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(selectors: &'a [LabelSelector], always: [Namespace; 2]) -> Self {
        Reader { selectors, always, known: HashMap::new() }
    }

    /// Whether the mesh reads the object of this key. The objects of namespaces must be in their places.
    pub(crate) fn admits(&mut self, objects: &Objects, key: &ObjectKey) -> bool {
        let namespace = key.namespace;
        if self.selectors.is_empty() || namespace.is_empty() || self.always.contains(&namespace) {
            return true;
        }
        let picked = || {
            let own = objects.get(&own_key(namespace));
            let mut labels = own.map(|object| object.meta.labels.clone()).unwrap_or_default();
            labels.insert(NAME_LABEL.to_owned(), namespace.as_str().to_owned());
            self.selectors.iter().any(|selector| picks(selector, &labels))
        };
        *self.known.entry(namespace).or_insert_with(picked)
    }
}

/// The key of a namespace's own object.
fn own_key(namespace: Namespace) -> ObjectKey {
    let name = Name::new(namespace.as_str());
    ObjectKey { kind: Kind::Namespace, namespace: Namespace::default(), name }
}

/// Whether a selector of Kubernetes picks these labels. An operator that nobody knows picks nothing.
fn picks(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let all = selector.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value));
    all && selector.match_expressions.iter().all(|condition| {
        let value = labels.get(&condition.key);
        let listed = value.is_some_and(|value| condition.values.contains(value));
        match condition.operator.as_str() {
            "In" => listed,
            "NotIn" => !listed,
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use ostro_api::Kind;

    use crate::testing::{delete, host, keys, mesh, upsert};
    use crate::{Key, Mesh};

    const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.0.0.1, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: lab}
spec: {clusterIP: 10.0.0.2, ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: lab}
spec: {hosts: [web.shop.svc.cluster.local], http: [{directResponse: {status: 418}}]}
---
";
    const SHOP: &str = "web.shop.svc.cluster.local";
    const LAB: &str = "web.lab.svc.cluster.local";

    fn config(selectors: &str) -> String {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata: {{mesh: '{{discoverySelectors: {selectors}}}'}}\n---\n"
        )
    }

    fn namespace(name: &str, labels: &str) -> String {
        format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{{labels}}}}}\n---\n")
    }

    /// Which of (shop, lab) is read, and whether lab's routes are.
    fn read(mesh: &Mesh) -> (bool, bool, bool) {
        let snapshot = mesh.snapshot();
        let has = |name| !snapshot.services(host(name)).is_empty();
        (has(SHOP), has(LAB), !snapshot.mesh_routes(host(SHOP)).is_empty())
    }

    #[test]
    fn only_namespaces_that_a_selector_picks_are_read() {
        let mut mesh = mesh(SERVICES);
        assert_eq!(read(&mesh), (true, true, true));
        let objects = mesh.len();
        upsert(&mut mesh, &config("[{matchLabels: {mesh: in}}]"));
        assert_eq!(read(&mesh), (false, false, false));
        assert_eq!(mesh.len(), objects + 1, "what is not read is accepted all the same");
        let (_, changes) = upsert(&mut mesh, &namespace("shop", "mesh: in"));
        assert_eq!(read(&mesh), (true, false, false));
        assert!(keys(&changes).contains(&Key::Services(host(SHOP))));
        upsert(&mut mesh, &namespace("shop", "mesh: out"));
        assert_eq!(read(&mesh), (false, false, false));
        upsert(
            &mut mesh,
            &config(
                "[{matchLabels: {mesh: in}}, {matchExpressions: [{key: kubernetes.io/metadata.name, operator: In, values: [lab]}]}]",
            ),
        );
        assert_eq!(read(&mesh), (false, true, true), "any selector is enough, and a namespace has its name");
        delete(&mut mesh, Kind::ConfigMap, "istio-system", "istio");
        assert_eq!(read(&mesh), (true, true, true));
    }

    #[test]
    fn what_changes_while_it_is_not_read_is_read_as_it_is_then() {
        let mut mesh = mesh(&(config("[{matchLabels: {mesh: in}}]") + SERVICES));
        assert_eq!(read(&mesh), (false, false, false));
        let (_, changes) = upsert(&mut mesh, &SERVICES.replace("10.0.0.1", "10.0.0.9"));
        assert!(changes.is_empty());
        delete(&mut mesh, Kind::Service, "lab", "web");
        delete(&mut mesh, Kind::ConfigMap, "istio-system", "istio");
        assert_eq!(read(&mesh), (true, false, true));
        let addresses = mesh.snapshot().services(host(SHOP))[0].addresses.clone();
        assert_eq!(addresses[0].addr().to_string(), "10.0.0.9");
    }

    #[test]
    fn all_at_once_is_as_one_by_one_in_any_order() {
        let all = config("[{matchExpressions: [{key: mesh, operator: NotIn, values: [out]}]}]")
            + SERVICES
            + &namespace("lab", "mesh: out");
        let at_once = mesh(&all);
        assert_eq!(read(&at_once), (true, false, false));
        let mut one_by_one = mesh("");
        for object in
            all.split("---\n").filter(|text| !text.trim().is_empty()).collect::<Vec<_>>().into_iter().rev()
        {
            upsert(&mut one_by_one, object);
        }
        assert_eq!(read(&one_by_one), (true, false, false));
    }
}
