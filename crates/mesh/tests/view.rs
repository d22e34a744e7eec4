//! What a generator is told, and what is noted of it.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test by panicking")]

use std::sync::Arc;

use ostro_mesh::model::{Locality, Visibility};
use ostro_mesh::{Attr, Change, Key, Mesh, Proxy, ProxyKind, Settings, Snapshot, View};
use ostro_names::{Host, Namespace};

fn snapshot(yaml: &str) -> Snapshot {
    let parsed = ostro_api::parse_file("view.yaml", yaml.as_bytes());
    assert!(parsed.complaints.is_empty(), "{:?}", parsed.complaints);
    let mut mesh = Mesh::new(Settings::default());
    mesh.apply(parsed.objects.into_iter().map(|object| Change::Upsert(Arc::new(object))).collect()).0
}

fn proxy(namespace: &str) -> Proxy {
    Proxy {
        kind: ProxyKind::Sidecar,
        id: "sidecar~10.0.0.1~p.n~n.svc.cluster.local".into(),
        addresses: vec!["10.0.0.1".parse().unwrap()],
        namespace: Namespace::new(namespace),
        dns_domain: format!("{namespace}.svc.cluster.local"),
        labels: Default::default(),
        locality: Locality::default(),
        service_account: None,
        cluster_id: None,
        extensions: Default::default(),
        metadata: Default::default(),
    }
}

#[test]
fn aliases_are_told_to_those_who_see_them() {
    let snapshot = snapshot(
        "
apiVersion: v1
kind: Service
metadata: {namespace: a, name: web}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {namespace: a, name: shop}
spec: {type: ExternalName, externalName: web.a.svc.cluster.local}
---
apiVersion: v1
kind: Service
metadata: {namespace: b, name: hidden, annotations: {networking.istio.io/exportTo: '.'}}
spec: {type: ExternalName, externalName: web.a.svc.cluster.local}
",
    );
    let web = Host::new("web.a.svc.cluster.local");
    let (shop, hidden) = (Host::new("shop.a.svc.cluster.local"), Host::new("hidden.b.svc.cluster.local"));
    let aliases = |namespace: &str, host| View::new(&snapshot, &proxy(namespace)).aliases(host);
    assert_eq!(aliases("a", web), [shop]);
    assert_eq!(aliases("b", web), [hidden, shop]);
    assert!(aliases("a", shop).is_empty());
}

#[test]
fn a_host_without_aliases_is_noted_by_one_key_for_all_such_hosts() {
    let (snapshot, proxy) = (snapshot(""), proxy("a"));
    let view = View::new(&snapshot, &proxy);
    for host in ["web.a.svc.cluster.local", "db.a.svc.cluster.local"] {
        assert!(view.aliases(Host::new(host)).is_empty());
    }
    assert_eq!(view.into_reads().keys, [Key::AliasTargets.id()]);
}

#[test]
fn who_knows_the_namespace_learns_nothing_more_from_questions_about_it() {
    let (snapshot, proxy) = (snapshot(""), proxy("a"));
    let ask = |view: &View<'_>| {
        view.sees(&Visibility::Namespaces(vec![Namespace::new("a")]));
        view.visible_hosts();
        view.labels_contain(&[("app".to_owned(), "web".to_owned())].into());
    };
    let narrow = View::new(&snapshot, &proxy);
    ask(&narrow);
    assert_eq!(narrow.into_reads().attrs.len(), 3);
    let wide = View::new(&snapshot, &proxy);
    wide.namespace();
    ask(&wide);
    let reads = wide.into_reads();
    assert_eq!(reads.attrs.len(), 2, "the namespace, and the labels: {:?}", reads.attrs);
    assert_eq!(reads.attrs[0].0, Attr::Namespace);
    // The keys that the answers were derived from are noted all the same.
    assert!(reads.keys.contains(&Key::NamespaceHosts(Namespace::new("a")).id()));
}

#[test]
fn words_of_a_proxy_that_are_too_long_count_as_none() {
    let snapshot = snapshot("");
    let mut proxy = proxy("a");
    let long = "x".repeat(ostro_names::limits::NAME_BYTES + 1);
    proxy.labels = [("long".to_owned(), long.clone()), ("short".to_owned(), "y".to_owned())].into();
    proxy.metadata.insert("LONG".to_owned(), long.clone());
    let view = View::new(&snapshot, &proxy);
    assert_eq!((view.label("long"), view.metadata("LONG"), view.label("short")), ("", "", "y"));
    assert_eq!(ostro_names::Name::lookup(&long), None);
}
