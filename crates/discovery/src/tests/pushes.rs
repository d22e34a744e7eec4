//! What is sent, to whom, and in which order.

use std::time::Duration;

use bytes::Bytes;
use ostro_mesh::{Answer, Attr, KeyId, Proxy, Reads};
use ostro_names::{Host, Name};
use ostro_translate::ResourceType::{self, Cluster, Endpoint, Listener, Route};
use ostro_translate::{EncodedVirtualHost, Part, Roster};

use super::peer::{Net, Taken};
use super::toy::{Service, Toy, World};
use crate::connection::Transport;
use crate::generator::{Generator, VirtualHosts};
use crate::order::Timing;
use crate::push::Distributor;

const BOTH: [Transport; 2] = [Transport::Delta, Transport::World];

/// Two hosts, the route leads to both.
fn world() -> World {
    World {
        services: [("a".to_owned(), Service::default()), ("b".to_owned(), Service::default())].into(),
        routed: ["a".to_owned(), "b".to_owned()].into(),
        rules: Default::default(),
    }
}

fn connected(transport: Transport) -> (Net, u32) {
    let mut net = Net::new(world());
    let id = net.connect(transport, "shop");
    net.finish();
    net.told(id);
    (net, id)
}

fn taken(kind: ResourceType, resources: &[&'static str], removed: &[&'static str]) -> Taken {
    Taken { kind, resources: resources.to_vec(), removed: removed.to_vec() }
}

#[test]
fn a_new_peer_gets_everything_in_order() {
    for transport in BOTH {
        let mut net = Net::new(world());
        let id = net.connect(transport, "shop");
        net.finish();
        let told = net.told(id);
        assert_eq!(
            told,
            [
                taken(Cluster, &["whole|a", "whole|b"], &[]),
                taken(Endpoint, &["whole|a", "whole|b"], &[]),
                taken(Listener, &["a", "b"], &[]),
                taken(Route, &["route"], &[]),
            ],
            "{transport:?}"
        );
        assert!(net.peers[&id].warming.is_empty());
    }
}

#[test]
fn one_endpoint_is_one_resource_to_those_who_have_it() {
    for transport in BOTH {
        let (mut net, id) = connected(transport);
        net.change(|world| world.services.get_mut("a").unwrap().endpoints = 7);
        net.finish();
        assert_eq!(net.told(id), [taken(Endpoint, &["whole|a"], &[])]);
    }
}

#[test]
fn what_nobody_reads_is_not_sent() {
    let (mut net, id) = connected(Transport::Delta);
    net.change(|_| {});
    net.finish();
    assert_eq!(net.told(id), []);
}

#[test]
fn equal_bytes_are_not_sent_again() {
    let (mut net, id) = connected(Transport::Delta);
    // Every part of the route is looked at again, and comes out the same.
    net.change(|world| {
        world.routed.insert("nobody".to_owned());
    });
    net.finish();
    assert_eq!(net.told(id), []);
}

#[test]
fn a_changed_cluster_is_followed_by_its_endpoints() {
    let (mut net, id) = connected(Transport::Delta);
    net.change(|world| world.services.get_mut("a").unwrap().version = 7);
    net.finish();
    assert_eq!(
        net.told(id),
        [taken(Cluster, &["whole|a"], &[]), taken(Endpoint, &["whole|a"], &[]), taken(Listener, &["a"], &[])]
    );
    assert!(net.peers[&id].warming.is_empty());
}

#[test]
fn additions_wait_for_what_they_refer_to() {
    let (mut net, id) = connected(Transport::Delta);
    net.change(|world| {
        world.services.insert("c".to_owned(), Service::default());
        world.routed.insert("c".to_owned());
    });
    net.finish();
    assert_eq!(
        net.told(id),
        [
            taken(Cluster, &["whole|c"], &[]),
            taken(Endpoint, &["whole|c"], &[]),
            taken(Listener, &["c"], &[]),
            taken(Route, &["route"], &[]),
        ]
    );
}

#[test]
fn removals_go_last_and_clusters_after_a_grace() {
    for transport in BOTH {
        let (mut net, id) = connected(transport);
        net.change(|world| {
            world.services.remove("b");
        });
        net.settle();
        let whole =
            |names: &[&'static str]| if transport == Transport::World { names.to_vec() } else { vec![] };
        let gone = |name: &'static str| if transport == Transport::World { vec![] } else { vec![name] };
        let told = net.told(id);
        assert_eq!(
            told,
            [
                taken(Route, &["route"], &[]),
                Taken { kind: Listener, resources: whole(&["a"]), removed: gone("b") }
            ],
            "the cluster stays, and so do its endpoints"
        );
        assert!(net.pass(Timing::default().grace));
        assert_eq!(
            net.told(id).first(),
            Some(&Taken { kind: Cluster, resources: whole(&["whole|a"]), removed: gone("whole|b") })
        );
    }
}

#[test]
fn a_removal_that_is_taken_back_is_never_sent() {
    let (mut net, id) = connected(Transport::Delta);
    let service = net.world.services["b"].clone();
    net.change(|world| {
        world.services.remove("b");
    });
    net.settle();
    net.told(id);
    net.change(|world| {
        world.services.insert("b".to_owned(), service);
    });
    net.finish();
    assert_eq!(net.told(id), [taken(Listener, &["b"], &[]), taken(Route, &["route"], &[])]);
}

#[test]
fn endpoints_overtake_what_waits() {
    let (mut net, id) = connected(Transport::Delta);
    net.change(|world| {
        world.services.insert("c".to_owned(), Service::default());
    });
    // The cluster is on its way and not acknowledged; the listener waits.
    net.change(|world| world.services.get_mut("a").unwrap().endpoints = 7);
    let peer = net.peers.get_mut(&id).unwrap();
    let kinds: Vec<String> = std::iter::from_fn(|| peer.inbox.try_recv().ok())
        .map(|outgoing| match outgoing {
            crate::connection::Outgoing::Response(response) => response.type_url,
            crate::connection::Outgoing::Refusal(status) => panic!("{status}"),
        })
        .collect();
    assert_eq!(kinds, [Cluster.type_url(), Endpoint.type_url()]);
}

#[test]
fn a_cluster_that_goes_while_it_warms_still_gets_its_endpoints() {
    let (mut net, id) = connected(Transport::Delta);
    net.change(|world| {
        world.services.get_mut("b").unwrap().version = 7;
        world.services.get_mut("a").unwrap().endpoints = 7;
    });
    net.change(|world| {
        world.services.remove("b");
    });
    net.settle();
    assert!(net.peers[&id].warming.is_empty(), "or Envoy would take no other clusters");
    let endpoints = &net.peers[&id].has[&(Endpoint, super::toy::cluster("b", false))];
    assert_eq!(
        std::str::from_utf8(endpoints).unwrap(),
        "whole|b:Some(0)",
        "as they were: routes still lead there"
    );
    net.finish();
    assert!(!net.peers[&id].has.contains_key(&(Cluster, super::toy::cluster("b", false))));
}

#[test]
fn a_rule_concerns_its_namespace_alone() {
    let mut net = Net::new(world());
    let (shop, other) = (net.connect(Transport::Delta, "shop"), net.connect(Transport::Delta, "other"));
    net.finish();
    net.told(shop);
    net.told(other);
    net.change(|world| {
        world.rules.insert(("shop".into(), "a".into()), 1);
    });
    net.finish();
    assert_eq!(
        net.told(shop),
        [
            taken(Cluster, &["subset|a", "whole|a"], &[]),
            taken(Endpoint, &["whole|a"], &[]),
            taken(Endpoint, &["subset|a"], &[]),
        ]
    );
    assert_eq!(net.told(other), []);
    net.change(|world| world.rules.clear());
    net.finish();
    let told = net.told(shop);
    assert_eq!(told.first(), Some(&taken(Cluster, &["whole|a"], &[])));
    assert_eq!(told.last(), Some(&taken(Cluster, &[], &["subset|a"])));
    assert_eq!(net.told(other), []);
}

#[test]
fn proxies_that_agree_share_one_resource() {
    let mut net = Net::new(world());
    for _ in 0..5 {
        net.connect(Transport::Delta, "shop");
        net.connect(Transport::Delta, "other");
    }
    net.finish();
    // Two rosters, two parts of each, two clusters, two assignments, two listeners, one route of two virtual hosts.
    assert_eq!(net.metrics.cache_misses.get(), 2 + 4 + 2 + 2 + 2 + 1 + 2);
}

#[test]
fn what_nobody_holds_is_let_go() {
    let mut net = Net::new(world());
    let id = net.connect(Transport::Delta, "shop");
    net.finish();
    assert!(net.distributor.held() > 0);
    for _ in 0..3 {
        net.change(|world| world.services.get_mut("a").unwrap().version += 1);
        net.finish();
    }
    let held = net.distributor.held();
    net.change(|world| world.services.get_mut("a").unwrap().version += 1);
    net.finish();
    assert_eq!(net.distributor.held(), held, "the successor takes the place of what it replaces");
    net.distributor.disconnect(id);
    assert_eq!(net.distributor.held(), 0);
    let typed = |kind: ResourceType| ostro_telemetry::Typed { r#type: kind.short() };
    for kind in ResourceType::ALL {
        assert_eq!(net.metrics.index_edges.get_or_create(&typed(kind)).get(), 0, "{kind:?}");
        assert_eq!(net.metrics.resources.get_or_create(&typed(kind)).get(), 0, "{kind:?}");
    }
}

#[test]
fn a_peer_that_returns_gets_what_it_lacks_and_no_more() {
    for transport in BOTH {
        let (mut net, id) = connected(transport);
        let id = net.reconnect(id, "shop");
        net.finish();
        let full: usize = net.told(id).iter().map(|taken| taken.resources.len() + taken.removed.len()).sum();
        assert_eq!(full, 0, "{transport:?}");
        // While it is away one thing changes, one goes.
        net.distributor.disconnect(id);
        net.change(|world| {
            world.services.remove("b");
            world.services.get_mut("a").unwrap().endpoints = 9;
        });
        let id = net.reconnect(id, "shop");
        // Without versions of single resources nobody knows that it has what is to go last.
        net.peers.get_mut(&id).unwrap().strict = transport == Transport::Delta;
        net.finish();
        let has: Vec<(ResourceType, &str)> =
            net.peers[&id].has.keys().map(|(kind, name)| (*kind, name.as_str())).collect();
        assert_eq!(has, [(Cluster, "whole|a"), (Endpoint, "whole|a"), (Listener, "a"), (Route, "route")]);
    }
}

#[test]
fn a_control_plane_that_restarts_sends_nothing_that_is_known() {
    let (mut net, id) = connected(Transport::Delta);
    let mut restarted = Net::new(world());
    let peer = net.peers.remove(&id).unwrap();
    restarted.peers.insert(id, peer);
    let id = restarted.reconnect(id, "shop");
    restarted.finish();
    assert!(restarted.told(id).iter().all(|taken| taken.resources.is_empty() && taken.removed.is_empty()));
}

#[test]
fn a_refused_version_is_not_sent_again_until_it_changes() {
    let (mut net, id) = connected(Transport::Delta);
    net.peers.get_mut(&id).unwrap().refuses = Some(Cluster);
    net.change(|world| world.services.get_mut("a").unwrap().version = 7);
    net.finish();
    let told = net.told(id);
    assert_eq!(told.iter().filter(|taken| taken.kind == Cluster).count(), 1);
    assert_eq!(told.last().unwrap().kind, Listener, "what comes after is not held up");
    net.change(|world| world.services.get_mut("b").unwrap().endpoints = 7);
    net.finish();
    assert_eq!(net.told(id), [taken(Endpoint, &["whole|b"], &[])]);
    net.peers.get_mut(&id).unwrap().refuses = None;
    net.change(|world| world.services.get_mut("a").unwrap().version = 8);
    net.finish();
    assert_eq!(net.told(id).first(), Some(&taken(Cluster, &["whole|a"], &[])));
    assert!(net.metrics.encode().contains("pilot_total_xds_rejects{type=\"cds\"} 1"));
}

#[test]
fn a_peer_that_never_acknowledges_is_told_everything_in_the_end() {
    let (mut net, id) = connected(Transport::Delta);
    net.change(|world| {
        world.services.insert("c".to_owned(), Service::default());
        world.routed.insert("c".to_owned());
    });
    // It reads, and says nothing.
    let mut kinds = Vec::new();
    for _ in 0..10 {
        let peer = net.peers.get_mut(&id).unwrap();
        while let Ok(crate::connection::Outgoing::Response(response)) = peer.inbox.try_recv() {
            kinds.push(ResourceType::from_type_url(&response.type_url).unwrap());
        }
        let Some(at) = net.distributor.next_wake() else { break };
        assert!(at <= net.now + Timing::default().acknowledgement);
        net.now = at;
        net.distributor.wake(at);
    }
    assert_eq!(kinds, [Cluster, Listener, Route]);
    assert!(net.metrics.write_timeouts.get() >= 2);
}

#[test]
fn a_peer_that_does_not_read_has_a_bounded_queue() {
    let (mut net, id) = connected(Transport::Delta);
    for round in 0..1_000 {
        net.change(|world| {
            world.services.get_mut("a").unwrap().endpoints = 10 + round;
            world.services.get_mut("b").unwrap().version = 10 + round;
        });
        net.now += Duration::from_secs(31);
        net.distributor.wake(net.now);
    }
    let peer = net.peers.get_mut(&id).unwrap();
    assert!(peer.inbox.len() <= crate::limits::RESPONSES);
    // When it reads again, it gets the newest and nothing in between.
    peer.strict = false;
    net.finish();
    let endpoints = net.told(id).into_iter().filter(|taken| taken.kind == Endpoint).count();
    assert!(endpoints <= crate::limits::RESPONSES + 2, "{endpoints}");
    let bytes = &net.peers[&id].has[&(Endpoint, super::toy::cluster("a", false))];
    assert_eq!(std::str::from_utf8(bytes).unwrap(), "whole|a:Some(1009)");
}

#[test]
fn a_stale_nonce_is_counted_and_not_answered() {
    use crate::subscriptions::{Delta, Names, Request};
    let (mut net, id) = connected(Transport::Delta);
    let request = Request { nonce: "beef".into(), refusal: None, names: Names::Delta(Delta::default()) };
    net.distributor.request(id, Cluster, request, net.now);
    net.finish();
    assert_eq!(net.told(id), []);
    assert!(net.metrics.encode().contains("pilot_xds_expired_nonce{type=\"cds\"} 1"));
}

/// The toy, but it looks how many responses are on their way when it builds a route.
struct Watching {
    outbound: tokio::sync::mpsc::Sender<crate::connection::Outgoing>,
    seen: std::sync::Arc<std::sync::Mutex<Vec<usize>>>,
}

impl Generator for Watching {
    type World = std::sync::Arc<World>;

    fn answer(
        &self,
        world: &Self::World,
        proxy: &Proxy,
        question: &Attr,
        note: &mut dyn FnMut(KeyId),
    ) -> Answer {
        Toy.answer(world, proxy, question, note)
    }

    fn content(
        &self,
        world: &Self::World,
        proxy: &Proxy,
        virtual_hosts: &mut dyn VirtualHosts,
        kind: ResourceType,
        name: Name,
    ) -> (Option<Bytes>, Reads) {
        if kind == Route {
            self.seen.lock().unwrap().push(self.outbound.max_capacity() - self.outbound.capacity());
        }
        Toy.content(world, proxy, virtual_hosts, kind, name)
    }

    fn virtual_host(
        &self,
        world: &Self::World,
        proxy: &Proxy,
        host: Host,
        port: u16,
    ) -> (Option<EncodedVirtualHost>, Reads) {
        Toy.virtual_host(world, proxy, host, port)
    }

    fn roster(&self, world: &Self::World, proxy: &Proxy, kind: ResourceType) -> (Roster, Reads) {
        Toy.roster(world, proxy, kind)
    }

    fn part_names(
        &self,
        world: &Self::World,
        proxy: &Proxy,
        kind: ResourceType,
        part: Part,
    ) -> (Vec<Name>, Reads) {
        Toy.part_names(world, proxy, kind, part)
    }
}

#[test]
fn endpoints_are_sent_before_other_things_are_built() {
    use crate::subscriptions::{Delta, Names, Request};
    let (outbound, mut inbox) = tokio::sync::mpsc::channel(crate::limits::RESPONSES);
    let seen = std::sync::Arc::default();
    let watching = Watching { outbound: outbound.clone(), seen: std::sync::Arc::clone(&seen) };
    let metrics = ostro_telemetry::Metrics::new("test");
    let mut distributor = Distributor::new(watching, world().into(), Timing::default(), metrics);
    distributor.connect(1, super::toy::proxy(1, "shop"), Transport::Delta, outbound);
    let now = std::time::Instant::now();
    for (kind, name) in [(Endpoint, super::toy::cluster("a", false)), (Route, Name::new("route"))] {
        let ask = |nonce: String, subscribe: Vec<Name>| Request {
            nonce,
            refusal: None,
            names: Names::Delta(Delta { subscribe, ..Delta::default() }),
        };
        distributor.request(1, kind, ask(String::new(), vec![name]), now);
        let Ok(crate::connection::Outgoing::Response(response)) = inbox.try_recv() else {
            panic!("no answer")
        };
        distributor.request(1, kind, ask(response.nonce, vec![]), now);
    }
    let before = world();
    let mut after = world();
    after.services.get_mut("a").unwrap().endpoints = 7;
    after.routed.clear();
    distributor.change(
        crate::Change {
            world: after.clone().into(),
            keys: before.differing(&after),
            why: String::new(),
            trigger: "config",
            arrived: now,
        },
        now,
    );
    assert_eq!(*seen.lock().unwrap(), [0, 1], "the endpoints are on their way when the route is built");
}
