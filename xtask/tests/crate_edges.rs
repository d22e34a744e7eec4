//! The house's floors, guarded: a crate depends only on floors below its own, sideways only where [`SIDEWAYS`]
//! says so, and bought crates that belong to a floor stay on it. Normal dependencies count; those of tests are
//! free, and so are `testkit` and `xtask`, on which nothing may depend.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test by panicking")]

use serde_json::Value;
use std::collections::BTreeMap;
use std::process::Command;

/// Every crate of the house and its floor. A new crate is added here first.
const FLOORS: &[(&str, u8)] = &[
    ("ostro-names", 0),
    ("ostro-re2", 0),
    ("ostro-envoy-json", 0),
    ("ostro-api", 1),
    ("ostro-mesh", 2),
    ("ostro-translate", 2),
    ("ostro-engine", 2),
    ("ostro-http2", 3),
    ("ostro-sources", 3),
    ("ostro-discovery", 3),
    ("ostro-capture", 3),
    ("ostro-telemetry", 3),
    ("ostro-transport", 3),
    ("ostro-xds-client", 3),
    ("ostro-agent", 4),
    ("ostro-control", 4),
    ("ostro-local", 4),
    ("ostro-proxy", 4),
    ("ostro", 5),
];

/// Edges within one floor, each with its reason.
const SIDEWAYS: &[(&str, &str, &str)] = &[
    ("ostro-translate", "ostro-mesh", "generators read the model's snapshot through its recorder"),
    ("ostro-discovery", "ostro-telemetry", "pushes are counted where they happen"),
    ("ostro-xds-client", "ostro-transport", "the control plane is connected to as everything else is"),
    ("ostro-local", "ostro-agent", "every local pod has what stands beside its Envoy"),
];

/// Outside the floors: may depend on anything, and nothing on them.
const SCAFFOLDING: &[&str] = &["ostro-testkit", "ostro-fuzz-targets", "xtask"];

/// Programs that the demo mesh carries: they are workloads, and know nothing of the mesh.
const WORKLOADS: &[&str] = &["ostro-samples"];

/// May this crate, on this floor, have it?
type Allowed = fn(&str, u8) -> bool;

/// Bought crates that stay on some floors: (crate, where it may be, why).
const CONFINED: &[(&str, Allowed, &str)] = &[
    ("tokio", |_, floor| floor >= 3, "floors 0 to 2 are pure: no I/O, no clock"),
    ("tonic", |_, floor| floor >= 3, "floors 0 to 2 are pure: no sockets"),
    ("hyper", |_, floor| floor >= 3, "floors 0 to 2 are pure: no sockets"),
    ("notify", |name, _| name == "ostro-sources", "only `sources` watches files"),
    ("saphyr-parser", |name, _| name == "ostro-api", "only `api` reads YAML"),
    (
        "envoy-types",
        |name, _| {
            ["ostro-translate", "ostro-engine", "ostro-discovery", "ostro-xds-client", "ostro-proxy"]
                .contains(&name)
        },
        "most of the house compiles without Envoy's types",
    ),
];

#[test]
fn the_house_has_no_forbidden_edge() {
    let found = violations(&normal_edges());
    assert!(found.is_empty(), "forbidden edges between crates:\n  {}", found.join("\n  "));
}

#[test]
fn a_forbidden_edge_is_found() {
    let edge = |from: &str, to: &str| violations(&BTreeMap::from([(from.to_string(), vec![to.to_string()])]));
    assert_eq!(edge("ostro-mesh", "ostro-api"), Vec::<String>::new());
    assert_eq!(edge("ostro-translate", "ostro-mesh"), Vec::<String>::new());
    for (from, to) in [
        ("ostro-api", "ostro-mesh"),
        ("ostro-mesh", "ostro-translate"),
        ("ostro-mesh", "tokio"),
        ("ostro-control", "envoy-types"),
        ("ostro", "ostro-testkit"),
        ("ostro-samples", "ostro-names"),
        ("ostro-unheard-of", "ostro-names"),
    ] {
        assert_eq!(edge(from, to).len(), 1, "{from} -> {to}");
    }
}

/// What is wrong with these edges, one line each.
fn violations(edges: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let mut found = Vec::new();
    for (from, targets) in edges {
        if SCAFFOLDING.contains(&from.as_str()) {
            continue;
        }
        let Some(floor) = floor_of(from).or(WORKLOADS.contains(&from.as_str()).then_some(u8::MAX)) else {
            found.push(format!("{from} has no floor: give it one in FLOORS"));
            continue;
        };
        found.extend(targets.iter().filter_map(|to| violation(from, floor, to)));
    }
    found
}

fn violation(from: &str, floor: u8, to: &str) -> Option<String> {
    if WORKLOADS.contains(&from) && to.starts_with("ostro") {
        return Some(format!("{from} -> {to}: sample programs are workloads, they know nothing of the mesh"));
    }
    if SCAFFOLDING.contains(&to) || WORKLOADS.contains(&to) {
        return Some(format!("{from} -> {to}: the product does not depend on scaffolding or samples"));
    }
    if let Some((_, allowed, why)) = CONFINED.iter().find(|(name, ..)| *name == to) {
        return (!allowed(from, floor)).then(|| format!("{from} -> {to}: {why}"));
    }
    let below = floor_of(to)?;
    if below < floor || SIDEWAYS.iter().any(|(a, b, _)| (*a, *b) == (from, to)) {
        return None;
    }
    Some(format!("{from} (floor {floor}) -> {to} (floor {below}): only floors below, or an edge in SIDEWAYS"))
}

fn floor_of(name: &str) -> Option<u8> {
    FLOORS.iter().find(|(known, _)| *known == name).map(|(_, floor)| *floor)
}

/// Workspace member to its direct normal dependencies.
fn normal_edges() -> BTreeMap<String, Vec<String>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap();
            // `kind` is null for a normal dependency, else "dev" or "build".
            let normal = dependencies.iter().filter(|dependency| dependency["kind"].is_null());
            let names = normal.map(|dependency| dependency["name"].as_str().unwrap().to_string());
            (package["name"].as_str().unwrap().to_string(), names.collect())
        })
        .collect()
}
