//! `ostro capture` as Istio's init container is called: in a namespace of its own, again and again.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test by panicking")]

use rustix::thread::UnshareFlags;
use serde_json::Value;
use std::process::{Command, Output};
use std::thread;

/// Flags as the injector writes them.
const SIDECAR: &str = "-p 15001 -z 15006 -u 1337 -m REDIRECT -i * -b * -d 15090,15021,15020";

/// Runs `ostro capture` in the calling thread's namespace.
fn capture(arguments: &str) -> Output {
    let arguments = arguments.split(' ').filter(|argument| !argument.is_empty());
    Command::new(env!("CARGO_BIN_EXE_ostro")).arg("capture").args(arguments).output().unwrap()
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
