//! The demo as an ordinary user: no name, no sub-uids, nothing in PATH.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use ostro_testkit::running::program;
use ostro_testkit::{census, envoy};

/// Nobody on any machine: between the ranges of people, of services, and of users made up for containers.
const USER: u32 = 54_321;

/// Where the user may read: the workspace may be below a directory that only root enters.
fn install(dir: &Path) {
    for source in [program("ostro"), program("ostro-sample"), envoy::binary()] {
        let target = dir.join(source.file_name().unwrap());
        fs::copy(&source, &target).unwrap();
        fs::set_permissions(&target, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn the_demo_holds_for_an_ordinary_user_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    install(dir.path());
    let tmp = dir.path().join("tmp");
    fs::create_dir(&tmp).unwrap();
    std::os::unix::fs::chown(&tmp, Some(USER), Some(USER)).unwrap();
    let word = dir.path().file_name().unwrap().to_string_lossy().into_owned();
    let before = census::Host::look(dir.path());

    let output = Command::new(dir.path().join("ostro"))
        .args(["demo", "--check", "--envoy"])
        .arg(dir.path().join("envoy"))
        .uid(USER)
        .gid(USER)
        .env_clear()
        .env("PATH", dir.path())
        .env("TMPDIR", &tmp)
        .env(census::VARIABLE, &word)
        .current_dir("/")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}", output.status);
    assert!(said.contains("every step held"));

    assert_eq!(census::processes(&word).len(), 0, "processes");
    assert_eq!(census::Host::look(dir.path()), before, "mounts, links, rules, sockets");
    assert_eq!(fs::read_dir(&tmp).unwrap().count(), 0, "files");
}
