//! Any history leads where a fresh start leads, and on the way nothing ever refers to what is not there.

use proptest::prelude::*;

use super::peer::{Holdings, Net};
use super::toy::{Service, World};
use crate::connection::Transport;

/// One thing that happens.
#[derive(Debug, Clone)]
enum Event {
    Add(u8),
    Remove(u8),
    Version(u8, u32),
    Endpoints(u8, u32),
    Route(u8, bool),
    Rule(u8, u8, Option<u32>),
    Connect(bool, u8),
    Reconnect(u8),
    /// Peers take this many steps, in an order that the second number seeds.
    Steps(u8, u8),
    /// Time passes to the next deadline.
    Wait,
}

const HOSTS: [&str; 4] = ["a", "b", "c", "d"];
const NAMESPACES: [&str; 2] = ["shop", "other"];

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => (0..4u8).prop_map(Event::Add),
        2 => (0..4u8).prop_map(Event::Remove),
        2 => (0..4u8, 0..3u32).prop_map(|(host, version)| Event::Version(host, version)),
        2 => (0..4u8, 0..3u32).prop_map(|(host, count)| Event::Endpoints(host, count)),
        2 => (0..4u8, any::<bool>()).prop_map(|(host, on)| Event::Route(host, on)),
        2 => (0..4u8, 0..2u8, prop::option::of(0..3u32)).prop_map(|(h, ns, rule)| Event::Rule(h, ns, rule)),
        1 => (any::<bool>(), 0..2u8).prop_map(|(delta, ns)| Event::Connect(delta, ns)),
        1 => any::<u8>().prop_map(Event::Reconnect),
        4 => (1..20u8, any::<u8>()).prop_map(|(steps, seed)| Event::Steps(steps, seed)),
        1 => Just(Event::Wait),
    ]
}

fn namespace_of(net: &Net, id: u32) -> &'static str {
    let connection = net.distributor.connections().find(|connection| connection.id == id).unwrap();
    connection.proxy.namespace.as_str()
}

fn apply(net: &mut Net, event: &Event) {
    let host = |index: &u8| HOSTS[usize::from(*index)].to_owned();
    match event {
        Event::Add(h) => net.change(|world| {
            world.services.entry(host(h)).or_default();
        }),
        Event::Remove(h) => net.change(|world| {
            world.services.remove(&host(h));
        }),
        Event::Version(h, version) => net.change(|world| {
            if let Some(service) = world.services.get_mut(&host(h)) {
                service.version = *version;
            }
        }),
        Event::Endpoints(h, count) => net.change(|world| {
            if let Some(service) = world.services.get_mut(&host(h)) {
                service.endpoints = *count;
            }
        }),
        Event::Route(h, true) => net.change(|world| {
            world.routed.insert(host(h));
        }),
        Event::Route(h, false) => net.change(|world| {
            world.routed.remove(&host(h));
        }),
        Event::Rule(h, ns, rule) => net.change(|world| {
            let key = (NAMESPACES[usize::from(*ns)].to_owned(), host(h));
            match rule {
                Some(rule) => drop(world.rules.insert(key, *rule)),
                None => drop(world.rules.remove(&key)),
            }
        }),
        Event::Connect(delta, ns) if net.peers.len() < 4 => {
            let transport = if *delta { Transport::Delta } else { Transport::World };
            net.connect(transport, NAMESPACES[usize::from(*ns)]);
        }
        Event::Connect(..) => {}
        Event::Reconnect(which) => {
            let ids: Vec<u32> = net.peers.keys().copied().collect();
            if let Some(id) = ids.get(usize::from(*which) % ids.len().max(1)) {
                let namespace = namespace_of(net, *id);
                let id = net.reconnect(*id, namespace);
                // Without versions of single resources nobody knows what it has that is to go last.
                if let Some(peer) = net.peers.get_mut(&id).filter(|peer| peer.transport == Transport::World) {
                    peer.strict = false;
                }
            }
        }
        Event::Steps(steps, seed) => {
            let ids: Vec<u32> = net.peers.keys().copied().collect();
            for step in 0..*steps {
                if let Some(id) = ids.get((usize::from(step) * 7 + usize::from(*seed)) % ids.len().max(1)) {
                    net.step(*id);
                }
            }
        }
        Event::Wait => {
            if let Some(at) = net.distributor.next_wake() {
                // Not past an acknowledgement that is merely slow in this history.
                if at <= net.now + std::time::Duration::from_secs(2) {
                    net.now = net.now.max(at);
                    net.distributor.wake(net.now);
                }
            }
        }
    }
}

/// What a peer of this kind holds when it connects to a control plane that has only ever known `world`.
fn fresh(world: &World, transport: Transport, namespace: &str) -> Holdings {
    let mut net = Net::new(world.clone());
    let id = net.connect(transport, namespace);
    net.finish();
    net.peers.remove(&id).unwrap().has
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_history_ends_where_a_fresh_start_does(events in prop::collection::vec(event(), 1..60)) {
        let first = World {
            services: HOSTS[..2].iter().map(|host| ((*host).to_owned(), Service::default())).collect(),
            routed: HOSTS.iter().map(|host| (*host).to_owned()).collect(),
            ..World::default()
        };
        let mut net = Net::new(first);
        net.connect(Transport::Delta, "shop");
        net.connect(Transport::World, "other");
        for event in &events {
            apply(&mut net, event);
        }
        net.finish();
        for (id, peer) in &net.peers {
            let namespace = namespace_of(&net, *id);
            let mut expected = fresh(&net.world, peer.transport, namespace);
            // A peer that ever had a listener keeps its route; a fresh one without listeners never asks for it.
            let mut has = peer.has.clone();
            if net.world.services.is_empty() {
                has.retain(|(kind, _), _| *kind != ostro_translate::ResourceType::Route);
                expected.retain(|(kind, _), _| *kind != ostro_translate::ResourceType::Route);
            }
            prop_assert_eq!(&has, &expected, "{:?} in {}\n{:#?}", peer.transport, namespace, peer.log);
            prop_assert!(peer.warming.is_empty(), "still warming: {:?}", peer.warming);
        }
        for id in net.peers.keys() {
            net.distributor.disconnect(*id);
        }
        prop_assert_eq!(net.distributor.held(), 0, "what nobody holds is let go");
        for kind in ["cds", "eds", "lds", "rds", "vhds"] {
            let label = ostro_telemetry::Typed { r#type: kind };
            prop_assert_eq!(net.metrics.index_edges.get_or_create(&label).get(), 0, "{}", kind);
            prop_assert_eq!(net.metrics.resources.get_or_create(&label).get(), 0, "{}", kind);
        }
    }
}
