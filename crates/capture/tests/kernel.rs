//! Rules in a real kernel: what is loaded, replaced, removed.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test's helpers fail the test by panicking")]

mod support;

use ostro_capture::{Config, Dns, Groups, Interception, Plan, Ports, Ranges};
use support::{in_namespace, ip, nft_list};

/// Uses everything a configuration can say.
fn everything() -> Config {
    Config {
        interception: Interception::Tproxy { mark: 1337, table: 133 },
        inbound: Ports::Only(vec![80, 9080]),
        outbound: Ranges::Only(vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]),
        exclude_outbound: vec!["10.1.2.0/24".parse().unwrap(), "fd01::/16".parse().unwrap()],
        include_outbound_ports: vec![3306],
        exclude_outbound_ports: vec![25],
        proxy_marks: vec![0x539_0000],
        owner_groups: Groups::Only(vec![7, 8]),
        exclude_interfaces: vec!["eth1".parse().unwrap(), "net+".parse().unwrap()],
        virtual_interfaces: vec!["tap0".parse().unwrap()],
        dns: Dns::Servers(vec!["10.0.0.10".parse().unwrap(), "fd00::10".parse().unwrap()]),
        drop_invalid: true,
        ipv6: true,
        ..Config::nothing()
    }
}

fn apply(config: &Config) {
    let plan = Plan::new(config).unwrap();
    ostro_capture::apply(&plan).unwrap();
    assert_eq!(ostro_capture::differences(&plan).unwrap(), [""; 0]);
}

fn remove() {
    ostro_capture::remove().unwrap();
}

/// What else a plan may leave behind.
fn routing() -> String {
    let commands = ["-4 rule", "-6 rule", "-4 route list table all", "-6 route list table all", "-6 addr"];
    commands.map(ip).join("")
}

#[test]
fn every_rule_is_taken_and_nothing_is_left_of_it() {
    in_namespace(|| {
        let before = routing();
        for config in [Config::nothing(), Config::sidecar(), everything()] {
            apply(&config);
            let loaded = nft_list();
            assert!(loaded.contains("table inet istio-proxy-nat"), "{loaded}");
            remove();
            assert_eq!(nft_list(), "");
            assert_eq!(routing(), before);
        }
        remove();
    });
}

#[test]
fn applying_twice_is_applying_once_and_another_plan_replaces_the_first() {
    in_namespace(|| {
        apply(&Config::sidecar());
        let once = (nft_list(), routing());
        apply(&Config::sidecar());
        assert_eq!((nft_list(), routing()), once);
        apply(&everything());
        assert_ne!(nft_list(), once.0);
        assert_eq!(routing().matches("fwmark 0x539").count(), 2);
        assert_eq!(routing().matches("table 133").count(), 2);
        let other = routing();
        apply(&everything());
        assert_eq!(routing(), other);
        apply(&Config::sidecar());
        assert_eq!((nft_list(), routing()), once);
    });
}

/// Runs `nft` on the loaded rules.
fn nft(arguments: &str) {
    let status = std::process::Command::new("nft").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "nft {arguments}");
}

#[test]
fn what_somebody_changed_is_found_and_named_and_put_right() {
    in_namespace(|| {
        let plan = Plan::new(&everything()).unwrap();
        for (change, said) in [
            ("delete table inet istio-proxy-raw", "missing: table istio-proxy-raw"),
            ("add chain inet istio-proxy-nat mine", "not of this plan: chain mine of table istio-proxy-nat"),
            (
                "insert rule inet istio-proxy-nat istio-output tcp dport 9 accept",
                "rule 1 of chain istio-output, table istio-proxy-nat: expected -p tcp --dport 25 -j RETURN, \
                 found a rule of another plan (meta cmp payload cmp immediate)",
            ),
            (
                "flush chain inet istio-proxy-mangle istio-divert",
                "rule 1 of chain istio-divert, table istio-proxy-mangle: expected -j MARK --set-mark 1337, found nothing",
            ),
        ] {
            apply(&everything());
            nft(change);
            assert_eq!(ostro_capture::differences(&plan).unwrap(), [said]);
        }
        ip("rule del fwmark 0x539 lookup 133");
        assert!(
            ostro_capture::differences(&plan)
                .unwrap()
                .contains(&"missing: IPv4 routing rule for TPROXY's mark".into())
        );
        apply(&everything());
        let other = Plan::new(&Config::sidecar()).unwrap();
        let found = ostro_capture::differences(&other).unwrap();
        assert!(found.contains(&"not of this plan: table istio-proxy-raw".to_owned()), "{found:?}");
        remove();
        assert_eq!(ostro_capture::differences(&other).unwrap(), ["missing: table istio-proxy-nat"]);
    });
}
