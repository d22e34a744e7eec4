//! Route configurations that are joined of virtual hosts, each of which is an item of its own.

use ostro_names::Name;
use ostro_translate::ResourceType::Route;

use super::peer::{Net, ROUTE};
use super::toy::{HEAVY, Service, World};
use crate::connection::Transport;

/// Three hosts, all routed, so that the route asks for the namespace: every namespace has a table of its own.
fn world() -> World {
    let hosts = ["a", "b", "c"].map(str::to_owned);
    World {
        services: hosts.iter().map(|host| (host.clone(), Service::default())).collect(),
        routed: hosts.into(),
        rules: Default::default(),
    }
}

/// Peers in two namespaces that have everything.
fn connected() -> (Net, u32, u32) {
    let mut net = Net::new(world());
    let (shop, other) = (net.connect(Transport::Delta, "shop"), net.connect(Transport::Delta, "other"));
    net.finish();
    net.told(shop);
    net.told(other);
    (net, shop, other)
}

fn route(net: &Net, id: u32) -> &str {
    std::str::from_utf8(&net.peers[&id].has[&(Route, Name::new(ROUTE))]).unwrap()
}

/// The times that anything was built while `act` ran.
fn built(net: &mut Net, act: impl FnOnce(&mut Net)) -> i64 {
    let before = net.metrics.cache_misses.get();
    act(net);
    net.metrics.cache_misses.get() - before
}

fn insert_rule(net: &mut Net, namespace: &str, host: &str, rule: u32) {
    net.change(|world| {
        world.rules.insert((namespace.to_owned(), host.to_owned()), rule);
    });
    net.finish();
}

#[test]
fn tables_of_different_namespaces_are_joined_of_the_same_virtual_hosts() {
    let mut net = Net::new(world());
    net.connect(Transport::Delta, "shop");
    net.finish();
    let more = built(&mut net, |net| {
        net.connect(Transport::Delta, "other");
        net.finish();
    });
    assert_eq!(more, 1, "the table, and nothing in it");
}

#[test]
fn a_change_builds_one_virtual_host_and_joins_the_tables_that_have_it() {
    let (mut net, shop, other) = connected();
    insert_rule(&mut net, "shop", "a", HEAVY + 1);
    assert_eq!(route(&net, shop), "route:a=Some(2),b=None,c=None,");
    assert_eq!(route(&net, other), "route:a=None,b=None,c=None,");
    let label = ostro_telemetry::Typed { r#type: "vhds" };
    assert_eq!(net.metrics.resources.get_or_create(&label).get(), 4, "one of a for each namespace");
    let rebuilt = built(&mut net, |net| insert_rule(net, "shop", "a", HEAVY + 2));
    assert_eq!(route(&net, shop), "route:a=Some(3),b=None,c=None,");
    // Its cluster, that of its subset, the subset's endpoints, the names of its part; the virtual host and its table.
    assert_eq!(rebuilt, 4 + 2);
}

#[test]
fn a_virtual_host_that_comes_out_the_same_touches_no_table() {
    let (mut net, shop, _) = connected();
    insert_rule(&mut net, "shop", "a", HEAVY - 1);
    net.told(shop);
    let rebuilt = built(&mut net, |net| insert_rule(net, "shop", "a", HEAVY));
    // Its cluster, that of its subset, the subset's endpoints, the names of its part; the virtual host.
    assert_eq!(rebuilt, 4 + 1);
    assert!(net.told(shop).iter().all(|taken| taken.kind != Route));
    let rebuilt = built(&mut net, |net| insert_rule(net, "shop", "a", HEAVY + 1));
    assert_eq!(rebuilt, 4 + 2, "its keys are still watched");
    assert_eq!(route(&net, shop), "route:a=Some(2),b=None,c=None,");
}

#[test]
fn a_virtual_host_lives_as_long_as_a_table_joins_it() {
    let (mut net, shop, other) = connected();
    let resources = |net: &Net| {
        let label = ostro_telemetry::Typed { r#type: "vhds" };
        net.metrics.resources.get_or_create(&label).get()
    };
    assert_eq!(resources(&net), 3);
    net.distributor.disconnect(shop);
    net.peers.remove(&shop);
    assert_eq!(resources(&net), 3, "the other table has them");
    net.change(|world| assert!(world.routed.remove("c")));
    net.finish();
    assert_eq!(resources(&net), 2);
    net.distributor.disconnect(other);
    assert_eq!((resources(&net), net.distributor.held()), (0, 0));
}

#[test]
fn who_answers_differently_gets_a_table_of_other_virtual_hosts() {
    let (mut net, shop, other) = connected();
    // Few enough that the table asks what its virtual hosts ask, and both namespaces share it.
    net.change(|world| assert!(world.routed.remove("c")));
    net.finish();
    let resources = |net: &Net| {
        let label = ostro_telemetry::Typed { r#type: "rds" };
        net.metrics.resources.get_or_create(&label).get()
    };
    assert_eq!(resources(&net), 1);
    insert_rule(&mut net, "shop", "b", HEAVY + 1);
    assert_eq!(resources(&net), 2);
    assert_eq!(route(&net, shop), "route:a=None,b=Some(2),");
    assert_eq!(route(&net, other), "route:a=None,b=None,");
    net.change(|world| world.rules.clear());
    net.finish();
    assert_eq!(resources(&net), 1);
    assert_eq!(route(&net, shop), route(&net, other));
}
