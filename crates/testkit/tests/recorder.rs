//! The recorder is honest (the first two rules of ARCHITECTURE.md), for the product's own generators over the
//! product's own model.
//!
//! Objects come, change and go at random. After each change everything is generated anew for every proxy, and then:
//! 1. what differs had read a key that changed: no resource goes stale;
//! 2. proxies that give the same answers have the same bytes: sharing is never wrong;
//! 3. who shares a value that was built for another proxy learns of the change too, by what was read for the other or by
//!    what its own answers depend on;
//! 4. virtual hosts, which are kept apart from the tables that join them, are honest in the same way, and tables that are
//!    joined of them are what they would be if everything were built on the spot.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use ostro_discovery::{Generator, Translator, VirtualHosts};
use ostro_mesh::model::Locality;
use ostro_mesh::{Attr, Change, Changes, KeyId, Mesh, Proxy, ProxyKind, Reads, Settings, Snapshot, View};
use ostro_names::{Host, Name, Namespace};
use ostro_testkit::{ads, universe};
use ostro_translate::{EncodedVirtualHost, Part, ResourceType};
use proptest::prelude::*;

/// Something that is generated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Item {
    Roster(ResourceType),
    Names(ResourceType, Part),
    VirtualHost(Host, u16),
    Content(ResourceType, Name),
}

/// What it came out as.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Parts(BTreeSet<Part>),
    Names(Vec<Name>),
    VirtualHost(Option<EncodedVirtualHost>),
    Content(Option<Bytes>),
}

/// Virtual hosts as the cache gives them: each built and noted for itself, its questions put to the table too.
struct Apart<'a> {
    world: &'a Snapshot,
    proxy: &'a Proxy,
    /// What the cache knows by the edge from the table to its virtual hosts.
    keys: BTreeSet<KeyId>,
    joined: BTreeSet<(Host, u16)>,
}

impl VirtualHosts for Apart<'_> {
    fn get(&mut self, host: Host, port: u16, ask: &mut dyn FnMut(&Attr)) -> Option<Arc<EncodedVirtualHost>> {
        let (virtual_host, reads) = Translator.virtual_host(self.world, self.proxy, host, port);
        self.keys.extend(reads.keys);
        self.joined.insert((host, port));
        reads.attrs.iter().for_each(|(question, _)| ask(question));
        virtual_host.map(Arc::new)
    }
}

impl<'a> Apart<'a> {
    fn new(world: &'a Snapshot, proxy: &'a Proxy) -> Self {
        Apart { world, proxy, keys: BTreeSet::new(), joined: BTreeSet::new() }
    }
}

type Built = (Value, Reads);

fn build(world: &Snapshot, proxy: &Proxy, item: Item) -> Built {
    match item {
        Item::Roster(kind) => {
            let (roster, reads) = Translator.roster(world, proxy, kind);
            let hosts = roster.public.iter().chain(roster.own.iter()).map(|host| Part::Host(*host));
            (Value::Parts(roster.fixed.iter().copied().chain(hosts).collect()), reads)
        }
        Item::Names(kind, part) => {
            let (names, reads) = Translator.part_names(world, proxy, kind, part);
            (Value::Names(names), reads)
        }
        Item::VirtualHost(host, port) => {
            let (virtual_host, reads) = Translator.virtual_host(world, proxy, host, port);
            (Value::VirtualHost(virtual_host), reads)
        }
        Item::Content(kind, name) => {
            let mut apart = Apart::new(world, proxy);
            let (bytes, mut reads) = Translator.content(world, proxy, &mut apart, kind, name);
            let whole = ostro_translate::content(&View::new(world, proxy), kind, name);
            assert_eq!(bytes, whole, "{item:?} of {} depends on who keeps its virtual hosts", proxy.id);
            reads.keys.extend(apart.keys);
            (Value::Content(bytes), reads)
        }
    }
}

/// What the proxy would subscribe to, now.
fn items(world: &Snapshot, proxy: &Proxy) -> BTreeSet<Item> {
    let mut items = BTreeSet::new();
    for kind in [ResourceType::Cluster, ResourceType::Listener] {
        let (Value::Parts(parts), _) = build(world, proxy, Item::Roster(kind)) else { unreachable!() };
        items.insert(Item::Roster(kind));
        for part in parts {
            items.insert(Item::Names(kind, part));
            let (Value::Names(names), _) = build(world, proxy, Item::Names(kind, part)) else {
                unreachable!()
            };
            items.extend(names.into_iter().map(|name| Item::Content(kind, name)));
        }
    }
    let named: BTreeSet<Item> = items.iter().flat_map(|item| named_by(world, proxy, *item)).collect();
    let joined: Vec<Item> = named.iter().flat_map(|item| named_by(world, proxy, *item)).collect();
    items.extend(named);
    items.extend(joined);
    items
}

fn named_by(world: &Snapshot, proxy: &Proxy, item: Item) -> Vec<Item> {
    let Item::Content(kind, name) = item else { return Vec::new() };
    if kind == ResourceType::Route {
        let mut apart = Apart::new(world, proxy);
        Translator.content(world, proxy, &mut apart, kind, name);
        return apart.joined.into_iter().map(|(host, port)| Item::VirtualHost(host, port)).collect();
    }
    let (Value::Content(Some(bytes)), _) = build(world, proxy, item) else { return Vec::new() };
    let named = if kind == ResourceType::Cluster { ResourceType::Endpoint } else { ResourceType::Route };
    ads::references(kind, &bytes).into_iter().map(|name| Item::Content(named, name)).collect()
}

fn proxy(kind: ProxyKind, namespace: &str, address: &str, labels: &[(&str, &str)]) -> Proxy {
    let word = if kind == ProxyKind::Router { "router" } else { "sidecar" };
    Proxy {
        kind,
        id: format!("{word}~{address}~p.{namespace}~{namespace}.svc.cluster.local"),
        addresses: vec![address.parse().unwrap()],
        namespace: Namespace::new(namespace),
        dns_domain: format!("{namespace}.svc.cluster.local"),
        labels: labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
        locality: Locality::default(),
        service_account: None,
        cluster_id: None,
        extensions: BTreeSet::new(),
        metadata: BTreeMap::new(),
    }
}

fn proxies() -> Vec<Proxy> {
    let mut dns = proxy(ProxyKind::Sidecar, "a", "10.1.0.3", &[]);
    dns.metadata.insert("DNS_CAPTURE".into(), "true".into());
    dns.metadata.insert("DNS_AUTO_ALLOCATE".into(), "true".into());
    dns.locality = Locality { region: "r".into(), zone: "z1".into(), subzone: String::new() };
    // Its table of all ports asks for the namespace itself; it is built for the others too.
    dns.metadata.insert("HTTP_PROXY_PORT".into(), "15099".into());
    vec![
        proxy(ProxyKind::Sidecar, "a", "10.1.0.1", &[("app", "web")]),
        dns,
        proxy(ProxyKind::Sidecar, "b", "10.1.0.2", &[("app", "web")]),
        proxy(ProxyKind::Sidecar, "c", "10.7.0.1", &[]),
        proxy(ProxyKind::Router, "b", "10.1.0.1", &[("istio", "ingress")]),
        proxy(ProxyKind::Router, "c", "10.7.0.2", &[("istio", "other")]),
    ]
}

/// Everything that any proxy ever had, generated for each proxy: absences are resources to be told about too.
struct Everything {
    proxies: Vec<Proxy>,
    items: BTreeSet<Item>,
    built: BTreeMap<Item, Vec<Built>>,
}

impl Everything {
    fn new() -> Self {
        Everything { proxies: proxies(), items: BTreeSet::new(), built: BTreeMap::new() }
    }

    /// Generates all anew; what it was before.
    fn rebuild(&mut self, world: &Snapshot) -> BTreeMap<Item, Vec<Built>> {
        for proxy in &self.proxies {
            self.items.extend(items(world, proxy));
        }
        let each =
            |item: &Item| (*item, self.proxies.iter().map(|proxy| build(world, proxy, *item)).collect());
        std::mem::replace(&mut self.built, self.items.iter().map(each).collect())
    }
}

/// Whether `proxy` would take the value that was built with these reads; the keys on which its answers depend.
fn takes(world: &Snapshot, proxy: &Proxy, reads: &Reads) -> Option<Vec<KeyId>> {
    let mut keys = Vec::new();
    for (question, answer) in &reads.attrs {
        if Translator.answer(world, proxy, question, &mut |key| keys.push(key)) != *answer {
            return None;
        }
    }
    Some(keys)
}

fn marked(changes: &Changes, keys: &[KeyId]) -> bool {
    keys.iter().any(|key| changes.contains(*key))
}

/// Checks every item against what it was before the change.
fn check(
    proxies: &[Proxy],
    (old_world, before): (&Snapshot, &BTreeMap<Item, Vec<Built>>),
    (world, after): (&Snapshot, &BTreeMap<Item, Vec<Built>>),
    changes: &Changes,
) -> Result<(), TestCaseError> {
    for (item, now) in after {
        for (proxy, (value, _)) in proxies.iter().zip(now) {
            for (owner, (other, reads)) in proxies.iter().zip(now) {
                let shares = takes(world, proxy, reads).is_some();
                prop_assert!(
                    !shares || other == value,
                    "{item:?} of {} is shared by {}, which should have another: {:?}",
                    owner.id,
                    proxy.id,
                    reads.attrs
                );
            }
        }
        let Some(then) = before.get(item) else { continue };
        for ((proxy, (old, _)), (new, _)) in proxies.iter().zip(then).zip(now) {
            if old == new {
                continue;
            }
            for (owner, (_, reads)) in proxies.iter().zip(then) {
                let Some(answers) = takes(old_world, proxy, reads) else { continue };
                prop_assert!(
                    marked(changes, &reads.keys) || marked(changes, &answers),
                    "{item:?} of {} (built for {}) changed unnoticed.\nread: {:?}\nchanged: {:?}",
                    proxy.id,
                    owner.id,
                    reads.keys.iter().map(|key| key.key()).collect::<Vec<_>>(),
                    changes.iter().map(|key| key.key()).collect::<Vec<_>>()
                );
            }
        }
    }
    Ok(())
}

type Event = (prop::sample::Index, prop::sample::Index);

fn change((object, version): Event) -> Change {
    let versions = object.get(universe::versions());
    match version.index(versions.len() + 1) {
        gone if gone == versions.len() => Change::Delete(versions[0].object.key()),
        version => Change::Upsert(versions[version].object.clone()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_changes_unnoticed_and_nothing_is_shared_wrongly(
        start in prop::collection::vec(any::<prop::sample::Index>(), universe::versions().len()),
        events in prop::collection::vec(any::<Event>(), 1..16),
    ) {
        let mut mesh = Mesh::new(Settings::default());
        let full = universe::versions().iter().zip(start).map(|(versions, index)| index.get(versions).object.clone());
        let (mut world, _) = mesh.apply(full.map(Change::Upsert).collect());
        let mut everything = Everything::new();
        everything.rebuild(&world);
        for event in events {
            let (next, changes) = mesh.apply(vec![change(event)]);
            let before = everything.rebuild(&next);
            check(&everything.proxies, (&world, &before), (&next, &everything.built), &changes)?;
            world = next;
        }
    }
}
