//! A mesh from YAML and what its proxies get, decoded.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test by panicking")]
#![allow(
    dead_code,
    reason = "every suite of this directory compiles this module and uses its own part of it"
)]

pub mod render;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use envoy_types::pb::google::protobuf::Any;
use ostro_mesh::model::{Labels, Locality};
use ostro_mesh::{Change, Mesh, Proxy, ProxyKind, Reads, Settings, Snapshot, View};
use ostro_names::{Name, Namespace};
use ostro_translate::{Part, ResourceType, content, part_names, roster};
use prost::Message;

/// The snapshot of a mesh of these objects, each of which must be acceptable.
pub fn mesh(yaml: &str) -> Snapshot {
    let parsed = ostro_api::parse_file("scenario.yaml", yaml.as_bytes());
    assert!(parsed.complaints.is_empty(), "{:#?}", parsed.complaints);
    let mut mesh = Mesh::new(Settings::default());
    let changes = parsed.objects.into_iter().map(|object| Change::Upsert(Arc::new(object))).collect();
    mesh.apply(changes).0
}

/// A sidecar in `default` with these addresses.
pub fn sidecar(addresses: &[&str]) -> Proxy {
    Proxy {
        kind: ProxyKind::Sidecar,
        id: "sidecar~test".to_owned(),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        namespace: Namespace::new("default"),
        dns_domain: "default.svc.cluster.local".to_owned(),
        labels: Labels::new(),
        locality: Locality::default(),
        service_account: None,
        cluster_id: None,
        extensions: BTreeSet::new(),
        metadata: BTreeMap::new(),
    }
}

/// A gateway in `istio-system`.
pub fn router() -> Proxy {
    Proxy {
        kind: ProxyKind::Router,
        namespace: Namespace::new("istio-system"),
        dns_domain: "istio-system.svc.cluster.local".to_owned(),
        labels: Labels::from([("istio".to_owned(), "ingressgateway".to_owned())]),
        ..sidecar(&["10.1.9.9"])
    }
}

/// The names that a wildcard subscriber has.
pub fn names(snapshot: &Snapshot, proxy: &Proxy, kind: ResourceType) -> BTreeSet<Name> {
    let parts = roster(&View::new(snapshot, proxy), kind);
    let hosts = parts.public.iter().chain(parts.own.iter()).map(|host| Part::Host(*host));
    let parts: Vec<Part> = parts.fixed.iter().copied().chain(hosts).collect();
    parts.into_iter().flat_map(|part| part_names(&View::new(snapshot, proxy), kind, part)).collect()
}

/// The names as text, sorted.
pub fn listed(snapshot: &Snapshot, proxy: &Proxy, kind: ResourceType) -> Vec<&'static str> {
    names(snapshot, proxy, kind).into_iter().map(|name| name.as_str()).collect()
}

/// The bytes of one resource.
pub fn encoded(snapshot: &Snapshot, proxy: &Proxy, kind: ResourceType, name: &str) -> Option<Bytes> {
    content(&View::new(snapshot, proxy), kind, Name::new(name))
}

/// One resource, which must exist.
pub fn resource<M: Message + Default>(
    snapshot: &Snapshot,
    proxy: &Proxy,
    kind: ResourceType,
    name: &str,
) -> M {
    let bytes = encoded(snapshot, proxy, kind, name).unwrap_or_else(|| panic!("there is no {name}"));
    M::decode(bytes).unwrap()
}

/// What the generator of one resource read.
pub fn reads(snapshot: &Snapshot, proxy: &Proxy, kind: ResourceType, name: &str) -> Reads {
    let view = View::new(snapshot, proxy);
    content(&view, kind, Name::new(name));
    view.into_reads()
}

/// A message out of its `Any`.
pub fn unpack<M: Message + Default + prost::Name>(any: &Any) -> M {
    assert_eq!(any.type_url, M::type_url());
    M::decode(any.value.as_slice()).unwrap()
}

/// Every listed name has content and the other way round; equal input gives equal bytes.
pub fn assert_consistent(snapshot: &Snapshot, proxy: &Proxy) {
    for kind in [ResourceType::Cluster, ResourceType::Listener] {
        for name in names(snapshot, proxy, kind) {
            let first = encoded(snapshot, proxy, kind, name.as_str());
            assert!(first.is_some(), "{name} is listed and has no content");
            assert_eq!(first, encoded(snapshot, proxy, kind, name.as_str()), "{name}");
        }
    }
}
