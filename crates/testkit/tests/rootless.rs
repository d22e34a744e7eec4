//! The demo as an ordinary user: no name, no sub-uids, nothing in PATH.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test by panicking")]

use std::fs;

use ostro_testkit::census;
use ostro_testkit::ordinary::Ordinary;

#[test]
fn the_demo_holds_for_an_ordinary_user_and_leaves_nothing() {
    let user = Ordinary::new();
    let word = user.dir().file_name().unwrap().to_string_lossy().into_owned();
    let before = census::Host::look(user.dir());

    let output = user
        .command("ostro")
        .args(["demo", "--check", "--envoy"])
        .arg(user.path("envoy"))
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
