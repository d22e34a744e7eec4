//! The demo as an ordinary user: no name, no sub-uids, nothing in PATH.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test by panicking")]

use std::fs;

use ostro_testkit::census;
use ostro_testkit::ordinary::Ordinary;
use ostro_testkit::running::program;

#[test]
fn the_demo_holds_for_an_ordinary_user_and_leaves_nothing() {
    // No Envoy anywhere.
    let user = Ordinary::with(&[program("ostro"), program("ostro-sample")]);
    holds(&user, &[]);
}

#[test]
fn the_demo_holds_for_an_ordinary_user_with_envoy() {
    let user = Ordinary::new();
    let envoy = user.path("envoy").to_string_lossy().into_owned();
    holds(&user, &["--proxy", "envoy", "--envoy", &envoy]);
}

/// Every step holds, and nothing is left.
fn holds(user: &Ordinary, more: &[&str]) {
    let word = user.dir().file_name().unwrap().to_string_lossy().into_owned();
    let before = census::Host::look(user.dir());

    let output = user
        .command("ostro")
        .args(["demo", "--check"])
        .args(more)
        .env(census::VARIABLE, &word)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}", output.status);
    assert!(said.contains("every step held"));

    assert_eq!(census::processes(&word).len(), 0, "processes");
    assert_eq!(census::Host::look(user.dir()), before, "mounts, links, rules, sockets");
    assert_eq!(fs::read_dir(user.tmp()).unwrap().count(), 0, "files");
}
