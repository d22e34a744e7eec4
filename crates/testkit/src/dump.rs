//! Everything that one proxy of a mesh has, as `translate` makes it.

use std::sync::Arc;

use ostro_mesh::{Change, Mesh, Proxy, Settings, Snapshot, View};
use ostro_names::Name;
use ostro_translate::{Part, ResourceType, content, part_names, roster};

use crate::ads::references;
use crate::meshgen::Shape;
use crate::second::Resource;

/// A generated mesh.
pub fn generated(shape: Shape) -> Snapshot {
    let objects: Vec<Arc<ostro_api::Object>> = shape.objects();
    Mesh::new(Settings::default()).apply(objects.into_iter().map(Change::Upsert).collect()).0
}

/// The clusters and listeners of a proxy, and all endpoints and routes that they refer to.
pub fn resources(snapshot: &Snapshot, proxy: &Proxy) -> Vec<Resource> {
    let mut all = Vec::new();
    for (whole, needed) in
        [(ResourceType::Cluster, ResourceType::Endpoint), (ResourceType::Listener, ResourceType::Route)]
    {
        let mut named = std::collections::BTreeSet::new();
        for name in names(snapshot, proxy, whole) {
            if let Some(resource) = resource(snapshot, proxy, whole, name) {
                named.extend(references(whole, &resource.bytes));
                all.push(resource);
            }
        }
        all.extend(named.into_iter().filter_map(|name| resource(snapshot, proxy, needed, name)));
    }
    all
}

fn names(snapshot: &Snapshot, proxy: &Proxy, kind: ResourceType) -> Vec<Name> {
    let view = View::new(snapshot, proxy);
    let parts = roster(&view, kind);
    let hosts = parts.public.iter().chain(parts.own.iter()).map(|host| Part::Host(*host));
    let parts: Vec<Part> = parts.fixed.iter().copied().chain(hosts).collect();
    let names: std::collections::BTreeSet<Name> =
        parts.into_iter().flat_map(|part| part_names(&view, kind, part)).collect();
    names.into_iter().collect()
}

fn resource(snapshot: &Snapshot, proxy: &Proxy, kind: ResourceType, name: Name) -> Option<Resource> {
    let bytes = content(&View::new(snapshot, proxy), kind, name)?;
    Some(Resource { kind, name: name.as_str().to_owned(), bytes })
}
