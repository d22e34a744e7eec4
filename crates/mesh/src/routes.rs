//! VirtualServices: bound to the mesh by host, to gateways by name, and found by name as delegates.

use std::collections::BTreeSet;
use std::sync::Arc;

use ostro_api::{Meta, Object, ObjectKey, Spec};
use ostro_names::{Host, Name, Namespace};

use crate::changes::Touched;
use crate::key::Key;
use crate::model::{Age, RouteRules};
use crate::objects::Objects;
use crate::scope::{resolve_host, visibility};
use crate::sets::Audience;
use crate::settings::Context;
use crate::snapshot::Snapshot;

/// The gateway name that stands for all sidecars.
const MESH: &str = "mesh";

/// Brings the routes of the dirty VirtualServices up to date. The snapshot itself remembers what each was before.
pub(crate) fn update(
    dirty: &BTreeSet<ObjectKey>,
    objects: &Objects,
    context: &Context<'_>,
    snapshot: &mut Snapshot,
    touched: &mut Touched,
) {
    for key in dirty {
        let new = objects.get(key).and_then(|object| rules(object, context)).map(Arc::new);
        let old = snapshot.virtual_service(key.namespace, key.name);
        if old == new {
            continue;
        }
        touched.note(Key::VirtualService(key.namespace, key.name));
        match &new {
            Some(rules) => snapshot.virtual_services.insert((key.namespace, key.name), rules.clone()),
            None => snapshot.virtual_services.remove(&(key.namespace, key.name)),
        };
        let (old, new) = (old.as_ref(), new.as_ref());
        for host in mesh_hosts(old).union(&mesh_hosts(new)) {
            relist_host(*host, key, new, snapshot, touched);
        }
        for gateway in gateways(old).union(&gateways(new)) {
            relist_gateway(*gateway, key, new, snapshot, touched);
        }
    }
}

fn rules(object: &Arc<Object>, context: &Context<'_>) -> Option<RouteRules> {
    let Spec::VirtualService(spec) = &object.spec else { return None };
    let Meta { namespace, .. } = object.meta;
    let mut hosts: Vec<Host> = Vec::new();
    for host in spec.hosts.iter().filter_map(|host| resolve_host(host, namespace, context.domain)) {
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    let gateways = match spec.gateways.as_slice() {
        [] => vec![Name::new(MESH)],
        written => written.iter().filter_map(|gateway| gateway_name(gateway, namespace)).collect(),
    };
    Some(RouteRules {
        age: Age::of(&object.meta),
        hosts,
        gateways,
        visibility: visibility(
            spec.export_to.iter().map(String::as_str),
            context.route_export_to(),
            namespace,
        ),
        spec: Arc::new((**spec).clone()),
    })
}

/// The full name of a gateway that was written in `namespace`: `mesh`, or `namespace/name`. `None` only if the
/// process can take no more names.
pub fn gateway_name(written: &str, namespace: Namespace) -> Option<Name> {
    match written.split_once('/') {
        Some((".", name)) => Name::try_new(&format!("{namespace}/{name}")).ok(),
        Some(_) => Name::try_new(written).ok(),
        None if written == MESH => Some(Name::new(MESH)),
        None => Name::try_new(&format!("{namespace}/{written}")).ok(),
    }
}

/// The hosts that sidecars know from these rules.
fn mesh_hosts(rules: Option<&Arc<RouteRules>>) -> BTreeSet<Host> {
    let bound = rules.filter(|rules| rules.gateways.iter().any(|gateway| gateway.as_str() == MESH));
    bound.into_iter().flat_map(|rules| &rules.hosts).copied().collect()
}

fn gateways(rules: Option<&Arc<RouteRules>>) -> BTreeSet<Name> {
    let gateways = rules.into_iter().flat_map(|rules| &rules.gateways).copied();
    gateways.filter(|gateway| gateway.as_str() != MESH).collect()
}

fn relist_host(
    host: Host,
    key: &ObjectKey,
    rules: Option<&Arc<RouteRules>>,
    snapshot: &mut Snapshot,
    touched: &mut Touched,
) {
    let bound = rules.filter(|rules| mesh_hosts(Some(rules)).contains(&host));
    let old = snapshot.mesh_routes(host);
    let new = relisted(&old, key, bound);
    let audience = |routes: &[Arc<RouteRules>]| Audience::of(routes.iter().map(|rules| &rules.visibility));
    audience(&old).replace(
        &audience(&new),
        host,
        (&mut snapshot.public_route_hosts, Key::PublicRouteHosts),
        (&mut snapshot.namespace_route_hosts, Key::NamespaceRouteHosts),
        touched,
    );
    touched.note(Key::MeshRoutes(host));
    if new.is_empty() {
        snapshot.mesh_routes.remove(&host);
    } else {
        snapshot.mesh_routes.insert(host, Arc::from(new));
    }
}

fn relist_gateway(
    gateway: Name,
    key: &ObjectKey,
    rules: Option<&Arc<RouteRules>>,
    snapshot: &mut Snapshot,
    touched: &mut Touched,
) {
    let bound = rules.filter(|rules| rules.gateways.contains(&gateway));
    let new = relisted(&snapshot.gateway_routes(gateway), key, bound);
    touched.note(Key::GatewayRoutes(gateway));
    if new.is_empty() {
        snapshot.gateway_routes.remove(&gateway);
    } else {
        snapshot.gateway_routes.insert(gateway, Arc::from(new));
    }
}

/// The list with the rules of one object replaced, oldest first.
fn relisted(
    old: &[Arc<RouteRules>],
    key: &ObjectKey,
    rules: Option<&Arc<RouteRules>>,
) -> Vec<Arc<RouteRules>> {
    let others =
        old.iter().filter(|other| (other.age.namespace, other.age.name) != (key.namespace, key.name));
    let mut new: Vec<Arc<RouteRules>> = others.chain(rules).cloned().collect();
    new.sort_by_key(|rules| rules.age);
    new
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{host, keys, mesh, upsert};

    fn route(name: &str, extra: &str, spec: &str) -> String {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}, namespace: shop{extra}}}\nspec: {{{spec}, http: [{{route: [{{destination: {{host: web}}}}]}}]}}\n---\n"
        )
    }

    fn names(routes: &[Arc<RouteRules>]) -> Vec<&'static str> {
        routes.iter().map(|rules| rules.age.name.as_str()).collect()
    }

    const WEB: &str = "web.shop.svc.cluster.local";

    #[test]
    fn routes_are_found_by_host_gateway_and_name() {
        let mesh = mesh(
            &(route("a", "", "hosts: [web, '*.example.com'], gateways: [mesh, edge, other/edge]")
                + &route("b", "", "hosts: [web]")
                + "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: c, namespace: shop}\nspec: {http: [{route: [{destination: {host: web}}]}]}\n"),
        );
        let snapshot = mesh.snapshot();
        assert_eq!(names(&snapshot.mesh_routes(host(WEB))), ["a", "b"]);
        assert_eq!(names(&snapshot.mesh_routes(host("*.example.com"))), ["a"]);
        for gateway in ["shop/edge", "other/edge"] {
            assert_eq!(names(&snapshot.gateway_routes(Name::new(gateway))), ["a"], "{gateway}");
        }
        let delegate = snapshot.virtual_service(Namespace::new("shop"), Name::new("c")).unwrap();
        assert!(delegate.hosts.is_empty());
        assert_eq!(snapshot.public_route_hosts.len(), 2);
    }

    #[test]
    fn the_oldest_comes_first_and_the_undated_last() {
        let dated = |year: u16| format!(", creationTimestamp: '{year}-01-01T00:00:00Z'");
        let mesh = mesh(
            &(route("a", "", "hosts: [web]")
                + &route("b", &dated(2022), "hosts: [web]")
                + &route("c", &dated(2021), "hosts: [web]")),
        );
        assert_eq!(names(&mesh.snapshot().mesh_routes(host(WEB))), ["c", "b", "a"]);
    }

    #[test]
    fn a_change_of_one_touches_its_own_keys_only() {
        let mut mesh = mesh(&(route("a", "", "hosts: [web]") + &route("b", "", "hosts: [other]")));
        let named = |name| Key::VirtualService(Namespace::new("shop"), Name::new(name));
        let (_, changes) =
            upsert(&mut mesh, &route("a", "", "hosts: [web], tcp: [{route: [{destination: {host: web}}]}]"));
        assert_eq!(keys(&changes), BTreeSet::from([named("a"), Key::MeshRoutes(host(WEB))]));
        let (_, changes) = upsert(&mut mesh, &route("b", "", "hosts: [other], exportTo: ['.']"));
        let other = host("other.shop.svc.cluster.local");
        let expected = [
            named("b"),
            Key::MeshRoutes(other),
            Key::PublicRouteHosts,
            Key::NamespaceRouteHosts(Namespace::new("shop")),
        ];
        assert_eq!(keys(&changes), BTreeSet::from(expected));
    }
}
