//! `ostro capture` as Istio's init container is called: in a namespace of its own, again and again.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test by panicking")]

use rustix::thread::UnshareFlags;
use serde_json::Value;
use std::process::{Command, Output};
use std::thread;

/// Flags as the injector writes them.
const SIDECAR: &str = "-p 15001 -z 15006 -u 1337 -m REDIRECT -i * -b * -d 15090,15021,15020";

/// Runs `ostro` in the calling thread's namespace.
fn ostro(arguments: &str) -> Output {
    let arguments = arguments.split(' ').filter(|argument| !argument.is_empty());
    Command::new(env!("CARGO_BIN_EXE_ostro")).args(arguments).output().unwrap()
}

/// Runs `ostro capture` in the calling thread's namespace.
fn capture(arguments: &str) -> Output {
    ostro(&format!("capture {arguments}"))
}

/// What it printed, if it ended with this status.
fn printed(arguments: &str, status: i32) -> String {
    let output = capture(arguments);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(status), "{arguments}: {said}");
    String::from_utf8(output.stdout).unwrap() + &said
}

/// Runs `work` in a network namespace of its own. Needs root.
fn in_namespace(work: impl FnOnce() + Send) {
    thread::scope(|scope| {
        let work = || {
            // SAFETY: only a namespace is unshared, not the table of file descriptors.
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }.unwrap();
            work();
        };
        scope.spawn(work).join().unwrap();
    });
}

#[test]
fn rules_are_set_found_in_force_and_taken_away() {
    in_namespace(|| {
        for backend in ["", "--backend iptables"] {
            let missing = printed(&format!("check {SIDECAR} {backend}"), 1);
            assert!(missing.contains("missing: ") && missing.contains("ostro capture apply"), "{missing}");
            assert_eq!(printed(&format!("apply {SIDECAR} {backend}"), 0), "18 rules: in force\n");
            assert_eq!(printed(&format!("apply {SIDECAR} {backend}"), 0), "18 rules: in force\n");
            assert_eq!(printed(&format!("check {SIDECAR} {backend}"), 0), "18 rules: in force\n");
            let other = printed(&format!("check {SIDECAR} -o 25 {backend}"), 1);
            assert!(other.contains("--dport 25 -j RETURN"), "{other}");
            printed(&format!("remove {backend}"), 0);
            printed(&format!("remove {backend}"), 0);
            printed(&format!("check {SIDECAR} {backend}"), 1);
        }
    });
}

#[test]
fn it_stands_where_istios_init_and_validation_containers_stood() {
    in_namespace(|| {
        let validation =
            format!("apply {SIDECAR} --run-validation --skip-rule-apply --log_output_level=default:info");
        // By this status Istio's repair controller knows a pod that came up before its rules.
        printed(&validation, 126);
        printed(&format!("apply {SIDECAR} --reconcile --native-nftables --run-validation=true"), 0);
        printed(&validation, 0);
        printed(&format!("apply {SIDECAR} --cleanup-only"), 0);
        printed(&validation, 126);
    });
}

/// Flags of Istio's program, short and long, each with a value; and those that are switches.
const FLAGS: &str = "-p --envoy-port 15001; -z --inbound-capture-port 15006; -e --inbound-tunnel-port 15008; \
     -u --proxy-uid 1337; -g --proxy-gid 1337; -m --istio-inbound-interception-mode TPROXY; \
     -b --istio-inbound-ports 80,81; -d --istio-local-exclude-ports 15020; -c --istio-exclude-interfaces eth1; \
     -i --istio-service-cidr 10.0.0.0/8; -x --istio-service-exclude-cidr 10.1.0.0/16; -q --istio-outbound-ports 31000; \
     -o --istio-local-outbound-ports-exclude 25; -k --kube-virt-interfaces tap0; -t --istio-inbound-tproxy-mark 1337; \
     -r --istio-inbound-tproxy-route-table 133; --iptables-probe-port 15002; --probe-timeout 5s; \
     --network-namespace /proc/self/ns/net; --force-iptables-binary nft";
const SWITCHES: &str = "-n --dry-run --skip-rule-apply --run-validation --redirect-dns --drop-invalid --dual-stack \
     --capture-all-dns --cni-mode --reconcile --cleanup-only --force-apply --native-nftables";

#[test]
fn every_flag_of_istios_program_is_understood() {
    in_namespace(|| {
        for flag in FLAGS.split(';').map(str::trim) {
            let (names, value) = flag.rsplit_once(' ').unwrap();
            for name in names.split(' ') {
                printed(&format!("apply -n {name} {value}"), 0);
                printed(&format!("apply -n {name}={value}"), 0);
            }
        }
        for name in SWITCHES.split(' ').filter(|name| !name.is_empty()) {
            // Validation finds no rules, which has a status of its own.
            let status = if name == "--run-validation" { 126 } else { 0 };
            printed(&format!("apply --skip-rule-apply {name}"), status);
        }
        assert!(printed("apply -b 80 --redirect-dns --capture-all-dns -n", 0).contains("15053"));
        assert!(printed("apply -b 80 -k tap0 -i 10.0.0.0/8 -n", 0).contains("tap0"));
    });
}

#[test]
fn the_init_containers_own_arguments_work_as_they_are() {
    in_namespace(|| {
        let output = ostro(&format!("istio-iptables {SIDECAR} --log_output_level=default:info"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(printed(&format!("check {SIDECAR}"), 0), "18 rules: in force\n");
        let help = String::from_utf8(ostro("--help").stdout).unwrap();
        assert!(!help.contains("istio-iptables"), "{help}");
    });
}

#[test]
fn a_plan_is_shown_and_nothing_is_changed() {
    in_namespace(|| {
        let nft = printed(&format!("plan {SIDECAR}"), 0);
        assert!(nft.starts_with("table inet istio-proxy-nat {\n\tchain prerouting {\n"), "{nft}");
        assert_eq!(printed(&format!("apply {SIDECAR} -n"), 0), nft);
        let iptables = printed(&format!("plan {SIDECAR} --backend iptables"), 0);
        assert!(iptables.starts_with("# iptables-restore --noflush\n*nat\n:ISTIO_INBOUND"), "{iptables}");
        let plan: Value =
            serde_json::from_str(&printed(&format!("plan {SIDECAR} -m TPROXY --json"), 0)).unwrap();
        assert_eq!((&plan["routing"]["mark"], &plan["ipv6"]), (&1337.into(), &false.into()));
        let check: Value = serde_json::from_str(&printed(&format!("check {SIDECAR} --json"), 1)).unwrap();
        assert_eq!((&check["inForce"], check["differences"].as_array().unwrap().len()), (&false.into(), 1));
    });
}

#[test]
fn mistakes_are_answered_with_what_to_do() {
    let said = |arguments: &str, status: i32| printed(arguments, status);
    for (arguments, status, text) in [
        ("plan -b 80,http", 2, "found \"http\", allowed: ports from 1 to 65535, separated by commas"),
        ("plan -i 10.0.0.0/33", 2, "allowed: ranges of addresses such as 10.0.0.0/8 or fd00::/8"),
        ("plan -c a-name-that-is-too-long", 2, "names of interfaces (1 to 15 characters"),
        ("plan -m redirct", 2, "possible values: REDIRECT, TPROXY"),
        (
            "plan -u ghost",
            1,
            "--proxy-uid: found \"ghost\", allowed: numbers, or names that this system knows",
        ),
        ("plan -m TPROXY -b 80 --proxy-mark 1337", 1, "mark 1337 cannot be both"),
        ("plan -m TPROXY -b 80 -r 254", 1, "routing table 254 is the system's own"),
        ("plan --network-namespace /nope", 1, "(a file such as /var/run/netns/NAME or /proc/PID/ns/net)"),
    ] {
        let said = said(arguments, status);
        assert!(said.contains(text), "{arguments}: {said}");
    }
}
