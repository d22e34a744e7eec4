//! Whatever happens, in whatever order: the snapshot is the one that a mesh started afresh on the surviving objects
//! has, and the changes are exactly the keys whose values differ.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use ostro_api::{Object, ObjectKey};
use ostro_mesh::{Change, Changes, Key, Mesh, Settings, Snapshot};
use proptest::prelude::*;

/// Every object of the universe, by key, in several versions. Names are few, so that objects collide: hosts declared
/// twice, services with and without slices, selectors that pick pods of both kinds.
fn universe() -> &'static [Vec<Arc<Object>>] {
    static UNIVERSE: LazyLock<Vec<Vec<Arc<Object>>>> = LazyLock::new(parsed);
    &UNIVERSE
}

fn parsed() -> Vec<Vec<Arc<Object>>> {
    let mut documents = mesh_configs();
    for namespace in ["a", "b"] {
        documents.extend(services(namespace));
        documents.extend(behind(namespace));
        documents.extend(entries(namespace));
        documents.extend(policies(namespace));
    }
    documents.extend(nodes());
    let mut by_key: BTreeMap<ObjectKey, Vec<Arc<Object>>> = BTreeMap::new();
    for document in documents {
        let parsed = ostro_api::parse_file("universe.yaml", document.as_bytes());
        assert!(parsed.complaints.is_empty(), "{document}\n{:?}", parsed.complaints);
        assert_eq!(parsed.objects.len(), 1, "{document}");
        for object in parsed.objects {
            by_key.entry(object.key()).or_default().push(Arc::new(object));
        }
    }
    by_key.into_values().collect()
}

fn document(api: &str, kind: &str, namespace: &str, name: &str, extra: &str, spec: &str) -> String {
    format!(
        "apiVersion: {api}\nkind: {kind}\nmetadata: {{namespace: {namespace}, name: {name}{extra}}}\n{spec}\n"
    )
}

fn mesh_configs() -> Vec<String> {
    let config = |text: &str| {
        let lines: String = text.lines().map(|line| format!("    {line}\n")).collect();
        document("v1", "ConfigMap", "istio-system", "istio", "", &format!("data:\n  mesh: |\n{lines}"))
    };
    vec![
        config("rootNamespace: a"),
        config("defaultServiceExportTo: ['.']\ndefaultVirtualServiceExportTo: [b]"),
        config("defaultDestinationRuleExportTo: ['.']\nconnectTimeout: 3s"),
    ]
}

fn nodes() -> Vec<String> {
    let node = |zone: &str| {
        format!(
            "apiVersion: v1\nkind: Node\nmetadata: {{name: n1, labels: {{topology.kubernetes.io/zone: {zone}}}}}\n"
        )
    };
    vec![node("z1"), node("z2")]
}

fn services(namespace: &str) -> Vec<String> {
    let service = |name: &str, extra: &str, spec: &str| {
        document("v1", "Service", namespace, name, extra, &format!("spec: {{{spec}}}"))
    };
    let web = "ports: [{name: http, port: 80}, {name: tcp-x, port: 9000}]";
    let hidden = ", annotations: {networking.istio.io/exportTo: '.'}";
    let old = ", creationTimestamp: '2020-01-01T00:00:00Z'";
    vec![
        service("s1", "", web),
        service("s1", hidden, web),
        service("s1", old, "clusterIP: 10.9.0.3, ports: [{name: http, port: 80}]"),
        service("s1", "", "ports: [{name: other, port: 81}], selector: {app: web}"),
        service("s2", "", web),
        service(
            "s2",
            "",
            "clusterIP: None, publishNotReadyAddresses: true, ports: [{name: tcp-x, port: 9000}]",
        ),
        service("s3", "", "ports: [{name: dns, port: 53, protocol: UDP}]"),
        service("s3", "", "type: ExternalName, externalName: s1.a.svc.cluster.local"),
        service("s3", "", "type: ExternalName, externalName: x.example.com, ports: [{port: 80}]"),
    ]
}

/// Slices, Endpoints, Pods.
fn behind(namespace: &str) -> Vec<String> {
    let slice = |name: &str, service: &str, endpoints: &str, port: &str| {
        let extra = format!(", labels: {{kubernetes.io/service-name: {service}}}");
        let body = format!("addressType: IPv4\nendpoints: [{endpoints}]\nports: [{port}]");
        document("discovery.k8s.io/v1", "EndpointSlice", namespace, name, &extra, &body)
    };
    let pod = |name: &str, labels: &str, rest: &str| {
        document("v1", "Pod", namespace, name, &format!(", labels: {{{labels}}}"), rest)
    };
    let http = "{name: http, port: 8080}";
    let one = "{addresses: [10.1.0.1], targetRef: {kind: Pod, name: p1}}";
    vec![
        slice("e1", "s1", one, http),
        slice("e1", "s1", "{addresses: [10.1.0.1], conditions: {ready: false}, nodeName: n1}", http),
        slice("e1", "s2", "{addresses: [10.1.0.2]}", "{name: tcp-x, port: 9000}"),
        slice("e2", "s1", &format!("{one}, {{addresses: [10.1.0.2]}}"), http),
        slice("e2", "s2", "{addresses: [10.1.0.2], conditions: {ready: false}}", "{name: tcp-x, port: 9000}"),
        document(
            "v1",
            "Endpoints",
            namespace,
            "s1",
            "",
            "subsets: [{addresses: [{ip: 10.1.0.1}], notReadyAddresses: [{ip: 10.1.0.3}], ports: [{name: http, port: 80}]}]",
        ),
        pod("p1", "app: web", "spec: {nodeName: n1}\nstatus: {podIP: 10.1.0.1}"),
        pod(
            "p1",
            "app: other, security.istio.io/tlsMode: istio",
            "spec: {serviceAccountName: z}\nstatus: {podIP: 10.1.0.2}",
        ),
        pod("p2", "app: web", "spec: {}\nstatus: {podIP: 10.1.0.2, phase: Pending}"),
        pod("p2", "app: web", "spec: {hostNetwork: true}\nstatus: {podIP: 10.1.0.1}"),
    ]
}

fn entries(namespace: &str) -> Vec<String> {
    let entry = |name: &str, spec: &str| {
        document("networking.istio.io/v1", "ServiceEntry", namespace, name, "", &format!("spec: {{{spec}}}"))
    };
    let workload = |labels: &str, address: &str| {
        let spec = format!("spec: {{address: {address}, labels: {{{labels}}}, locality: r/z}}");
        document("networking.istio.io/v1", "WorkloadEntry", namespace, "w1", "", &spec)
    };
    let port = "ports: [{number: 80, name: http, protocol: HTTP}]";
    vec![
        entry("x1", &format!("hosts: [ext.example.com], resolution: DNS, {port}")),
        entry(
            "x1",
            &format!("hosts: [ext.example.com, two.example.com], resolution: DNS, exportTo: ['.'], {port}"),
        ),
        entry(
            "x1",
            &format!(
                "hosts: [ext.example.com], addresses: [10.9.0.9, 10.8.0.0/16], resolution: NONE, {port}"
            ),
        ),
        entry("x2", &format!("hosts: [ext.example.com], resolution: DNS, {port}")),
        entry(
            "x2",
            &format!(
                "hosts: [ext.example.com], resolution: STATIC, workloadSelector: {{labels: {{app: web}}}}, {port}"
            ),
        ),
        entry(
            "x2",
            &format!(
                "hosts: [s1.a.svc.cluster.local], resolution: STATIC, endpoints: [{{address: 10.1.0.1}}], {port}"
            ),
        ),
        workload("app: web", "10.1.0.7"),
        workload("app: other", "10.1.0.7"),
    ]
}

fn policies(namespace: &str) -> Vec<String> {
    let istio = |kind: &str, name: &str, extra: &str, spec: &str| {
        document("networking.istio.io/v1", kind, namespace, name, extra, &format!("spec: {{{spec}}}"))
    };
    let old = ", creationTimestamp: '2021-01-01T00:00:00Z'";
    let to = "http: [{route: [{destination: {host: s1}}]}]";
    let subset = |name: &str| format!("subsets: [{{name: {name}, labels: {{version: {name}}}}}]");
    let server = "servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]";
    vec![
        istio("VirtualService", "v1", "", &format!("hosts: [s1], {to}")),
        istio(
            "VirtualService",
            "v1",
            old,
            &format!("hosts: [s1, '*.example.com'], gateways: [mesh, g1, b/g1], {to}"),
        ),
        istio("VirtualService", "v2", "", &format!("hosts: [s1.a.svc.cluster.local], exportTo: ['.'], {to}")),
        istio("VirtualService", "v2", "", to),
        istio("DestinationRule", "d1", "", &format!("host: s1, {}", subset("one"))),
        istio("DestinationRule", "d1", "", "host: '*.example.com', exportTo: ['*']"),
        istio("DestinationRule", "d2", "", &format!("host: s1, {}", subset("two"))),
        istio(
            "DestinationRule",
            "d2",
            old,
            &format!("host: s1, workloadSelector: {{matchLabels: {{app: web}}}}, {}", subset("two")),
        ),
        istio("Gateway", "g1", "", server),
        istio("Gateway", "g1", old, &format!("selector: {{istio: ingress}}, {server}")),
    ]
}

fn settings() -> Settings {
    // So small that services push each other aside.
    Settings { cluster_ip_range: "10.9.0.0/29".parse().ok(), ..Settings::default() }
}

/// The keys whose values differ, by comparing all there are.
fn difference(before: &Snapshot, after: &Snapshot) -> BTreeSet<Key> {
    let all: BTreeSet<Key> = before.keys().union(&after.keys()).copied().collect();
    all.into_iter().filter(|key| !before.agrees(after, *key)).collect()
}

fn listed(changes: &Changes) -> BTreeSet<Key> {
    changes.iter().map(|id| id.key()).collect()
}

/// A mesh that is given the objects one by one.
fn afresh(objects: impl IntoIterator<Item = Arc<Object>>) -> Snapshot {
    let mut mesh = Mesh::new(settings());
    for object in objects {
        mesh.apply(vec![Change::Upsert(object)]);
    }
    mesh.snapshot()
}

/// One event: which object, and which version of it is accepted (past the last: it is deleted).
type Event = (prop::sample::Index, prop::sample::Index);

fn change(universe: &[Vec<Arc<Object>>], (object, version): Event) -> Change {
    let versions = object.get(universe);
    match version.index(versions.len() + 1) {
        deleted if deleted == versions.len() => Change::Delete(versions[0].key()),
        version => Change::Upsert(versions[version].clone()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_history_ends_where_a_fresh_start_does(
        batches in prop::collection::vec(prop::collection::vec(any::<Event>(), 1..5), 1..40),
    ) {
        let mut mesh = Mesh::new(settings());
        let mut alive: BTreeMap<ObjectKey, Arc<Object>> = BTreeMap::new();
        for batch in batches {
            let changes: Vec<Change> = batch.into_iter().map(|event| change(universe(), event)).collect();
            for change in &changes {
                match change {
                    Change::Upsert(object) => drop(alive.insert(change.key(), object.clone())),
                    Change::Delete(key) => drop(alive.remove(key)),
                }
            }
            let before = mesh.snapshot();
            let (after, changes) = mesh.apply(changes);
            prop_assert_eq!(listed(&changes), difference(&before, &after));
            let forward = afresh(alive.values().cloned());
            prop_assert_eq!(difference(&forward, &after), BTreeSet::new());
            let backward = afresh(alive.values().rev().cloned());
            prop_assert_eq!(difference(&backward, &after), BTreeSet::new());
            prop_assert_eq!(forward.keys(), after.keys());
            prop_assert_eq!(mesh.len(), alive.len());
        }
        // Nothing is left behind once all objects are gone.
        let deletions = alive.into_keys().map(Change::Delete).collect();
        mesh.apply(deletions);
        let empty = Mesh::new(settings());
        prop_assert_eq!(mesh.snapshot().keys(), empty.snapshot().keys());
        prop_assert!(mesh.is_empty());
    }
}

/// The universe is worth something: all of it together makes a value under every sort of key.
#[test]
fn the_universe_has_values_under_every_sort_of_key() {
    let snapshot = afresh(universe().iter().flatten().cloned());
    let hidden = afresh(universe().iter().map(|versions| versions[1 % versions.len()].clone()));
    let mut sorts: BTreeSet<String> = BTreeSet::new();
    for key in snapshot.keys().into_iter().chain(hidden.keys()) {
        let text = format!("{key:?}");
        sorts.insert(text.split('(').next().unwrap_or_default().to_owned());
    }
    assert_eq!(sorts.len(), 18, "{sorts:?}");
}
