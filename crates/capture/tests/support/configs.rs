//! Configurations at random. Also used by `testkit`'s suite, which sends packets.

use ostro_capture::{Config, Dns, Groups, Interception, Interface, Ports, Ranges};
use proptest::collection::vec;
use proptest::prelude::*;

/// Ports from a small set, so that different lists meet.
fn ports() -> impl Strategy<Value = Vec<u16>> {
    vec(prop::sample::select(vec![22, 53, 80, 443, 9999, 15008, 15020]), 0..3)
}

fn ranges() -> impl Strategy<Value = Vec<ipnet::IpNet>> {
    let some = [
        "10.0.0.0/8",
        "10.1.0.0/16",
        "203.0.113.9/32",
        "127.1.2.3/32",
        "0.0.0.0/0",
        "fd99::/16",
        "2001:db8::/33",
    ];
    vec(prop::sample::select(some.map(|range| range.parse().unwrap()).to_vec()), 0..3)
}

fn interfaces() -> impl Strategy<Value = Vec<Interface>> {
    let some: Vec<Interface> = ["eth1", "net+", "eth0"].map(|name| name.parse().unwrap()).to_vec();
    vec(prop::sample::select(some), 0..2)
}

fn dns() -> impl Strategy<Value = Dns> {
    let some = ["127.0.0.53", "10.96.0.10", "fd99::53"].map(|server| server.parse().unwrap()).to_vec();
    prop_oneof![Just(Dns::Off), Just(Dns::All), vec(prop::sample::select(some), 0..3).prop_map(Dns::Servers)]
}

fn groups() -> impl Strategy<Value = Groups> {
    let ids = || vec(2000_u32..2003, 0..3);
    prop_oneof![ids().prop_map(Groups::Except), ids().prop_map(Groups::Only)]
}

prop_compose! {
    fn proxy()(uids in vec(1337_u32..1340, 0..3), gids in vec(1337_u32..1340, 0..3), marks in vec(70_u32..72, 1..2))
        -> (Vec<u32>, Vec<u32>, Vec<u32>) {
        (uids, gids, marks)
    }
}

prop_compose! {
    /// Any configuration that makes sense.
    pub fn config()(
        (proxy_uids, proxy_gids, proxy_marks) in proxy(),
        tproxy in any::<bool>(),
        inbound in prop_oneof![Just(Ports::All), ports().prop_map(Ports::Only)],
        exclude_inbound in ports(),
        outbound in prop_oneof![Just(Ranges::All), ranges().prop_map(Ranges::Only)],
        exclude_outbound in ranges(),
        include_outbound_ports in ports(),
        exclude_outbound_ports in ports(),
        owner_groups in groups(),
        (exclude_interfaces, virtual_interfaces) in (interfaces(), interfaces()),
        dns in dns(),
        (drop_invalid, ipv6) in (any::<bool>(), any::<bool>()),
        wide in any::<bool>(),
    ) -> Config {
        let interception = match tproxy {
            true => Interception::Tproxy { mark: 1337, table: 133 },
            false => Interception::Redirect,
        };
        Config {
            proxy_uids,
            proxy_gids,
            proxy_marks,
            interception,
            inbound,
            exclude_inbound,
            outbound,
            exclude_outbound,
            include_outbound_ports,
            exclude_outbound_ports,
            owner_groups,
            exclude_interfaces,
            virtual_interfaces,
            dns,
            drop_invalid,
            ipv6,
            loopback: if wide { "127.0.0.0/8" } else { "127.0.0.1/32" }.parse().unwrap(),
            ..Config::nothing()
        }
    }
}
