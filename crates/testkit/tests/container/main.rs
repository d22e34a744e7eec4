//! A mesh in a container as Docker makes them, from the repository's Dockerfile: with the options that the documentation
//! gives it comes up, and for each that is missing `ostro doctor` names what it takes away.
//!
//! There is no engine here: [`sandbox`] does what one does, and [`image`] reads the Dockerfile. The base image is this
//! machine's own root file system, below one that is written to.
#![allow(clippy::unwrap_used, reason = "in a test, what is not there must stop it where it stands")]

mod image;
mod sandbox;

use std::process::Output;

use ostro_testkit::census;
use serde_json::Value;

use image::Image;
use sandbox::{Container, Given};

/// What `docker run` is told beside the image, with all that `docs/local.md` says.
const ALL: Given = Given { seccomp_unconfined: true, systempaths_unconfined: true };

fn run(given: Given, arguments: Option<&[&str]>) -> Output {
    let image = Image::read();
    let container = Container::new(given);
    let output = container.command(&image, arguments).output().unwrap();
    assert_eq!(census::processes(container.word()).len(), 0, "processes");
    output
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The doctor's finding on a piece, and whether a mesh would come up.
fn finding(given: Given, piece: &str) -> (Value, bool) {
    let output = run(given, Some(&["doctor", "--json"]));
    let said: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output)));
    let found = said["findings"].as_array().unwrap().iter().find(|finding| finding["piece"] == piece);
    let able = said["able"].as_bool().unwrap();
    assert_eq!(able, output.status.success());
    (found.unwrap().clone(), able)
}

#[test]
fn the_demo_holds_in_a_container_with_the_documented_options() {
    let image = Image::read();
    let mut arguments: Vec<&str> = image.command.iter().map(String::as_str).collect();
    assert_eq!(arguments[0], "demo");
    arguments.insert(1, "--check");
    let output = run(ALL, Some(&arguments));
    assert!(output.status.success() && text(&output).contains("every step held"), "{}", text(&output));
}

#[test]
fn the_doctor_misses_nothing_there() {
    let output = run(ALL, Some(&["doctor"]));
    assert!(output.status.success() && !text(&output).contains("MISSING"), "{}", text(&output));
}

#[test]
fn with_dockers_filter_of_system_calls_the_doctor_names_it() {
    let (found, able) = finding(Given { seccomp_unconfined: false, ..ALL }, "namespaces");
    assert!(!able && found["verdict"] == "missing", "{found:#}");
    assert!(found["means"].as_str().unwrap().contains("seccomp"), "{found:#}");
    assert!(found["fixes"].to_string().contains("--security-opt seccomp=unconfined"), "{found:#}");
}

#[test]
fn with_dockers_masks_over_proc_the_doctor_names_them() {
    let (found, able) = finding(Given { systempaths_unconfined: false, ..ALL }, "forwarding");
    assert!(!able && found["verdict"] == "missing", "{found:#}");
    assert!(found["fixes"].to_string().contains("--security-opt systempaths=unconfined"), "{found:#}");
}

/// As somebody meets it who has read nothing: the image's own command says what to do.
#[test]
fn without_options_the_demo_ends_with_the_line_that_works() {
    let output = run(Given { seccomp_unconfined: false, systempaths_unconfined: false }, None);
    let said = text(&output);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("MISSING  namespaces") && said.contains("docker run --security-opt"), "{said}");
}
