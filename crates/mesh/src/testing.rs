//! What the unit tests of this crate share: meshes from text, and proxies to look at them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ostro_api::{Kind, Meta, Object, ObjectKey};
use ostro_names::{Host, Name, Namespace};

use crate::changes::Changes;
use crate::key::Key;
use crate::mesh::{Change, Mesh};
use crate::model::Service;
use crate::proxy::{Proxy, ProxyKind};
use crate::settings::Settings;
use crate::snapshot::Snapshot;

pub(crate) fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

pub(crate) fn meta(kind: Kind, namespace: &str, name: &str) -> Meta {
    Meta {
        kind,
        name: Name::new(name),
        namespace: Namespace::new(namespace),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        creation_timestamp: None,
        uid: String::new(),
        deletion_timestamp: None,
    }
}

/// The objects of a text, which must be without fault.
pub(crate) fn objects(yaml: &str) -> Vec<Arc<Object>> {
    let parsed = ostro_api::parse_file("test.yaml", yaml.as_bytes());
    assert!(parsed.complaints.is_empty(), "{:?}", parsed.complaints);
    parsed.objects.into_iter().map(Arc::new).collect()
}

/// A mesh of these objects.
pub(crate) fn mesh(yaml: &str) -> Mesh {
    let mut mesh = Mesh::new(Settings::default());
    upsert(&mut mesh, yaml);
    mesh
}

/// Applies the objects of a text.
pub(crate) fn upsert(mesh: &mut Mesh, yaml: &str) -> (Snapshot, Changes) {
    mesh.apply(objects(yaml).into_iter().map(Change::Upsert).collect())
}

/// Takes an object away.
pub(crate) fn delete(mesh: &mut Mesh, kind: Kind, namespace: &str, name: &str) -> (Snapshot, Changes) {
    let key = ObjectKey { kind, namespace: Namespace::new(namespace), name: Name::new(name) };
    mesh.apply(vec![Change::Delete(key)])
}

/// The keys of a change, to be compared.
pub(crate) fn keys(changes: &Changes) -> BTreeSet<Key> {
    changes.iter().map(|id| id.key()).collect()
}

pub(crate) fn host(text: &str) -> Host {
    Host::new(text)
}

/// The only service of a host.
pub(crate) fn service(mesh: &Mesh, name: &str) -> Arc<Service> {
    let services = mesh.snapshot().services(host(name));
    assert_eq!(services.len(), 1, "{services:?}");
    services[0].clone()
}

/// A sidecar of a namespace.
pub(crate) fn sidecar(namespace: &str) -> Proxy {
    Proxy {
        kind: ProxyKind::Sidecar,
        id: format!("sidecar~10.1.0.1~pod.{namespace}~{namespace}.svc.cluster.local"),
        addresses: vec!["10.1.0.1".parse().unwrap()],
        namespace: Namespace::new(namespace),
        dns_domain: format!("{namespace}.svc.cluster.local"),
        labels: labels(&[("app", "web")]),
        locality: Default::default(),
        service_account: None,
        cluster_id: None,
        extensions: BTreeSet::new(),
        metadata: BTreeMap::new(),
    }
}
