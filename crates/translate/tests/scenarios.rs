//! Whole meshes as text: each directory of `scenarios/` has a `mesh.yaml`, which says what it shows, and what a sidecar
//! at 10.1.0.5 and, if the mesh has Gateways, an ingress gateway get of it. `OSTRO_BLESS=1` writes the latter anew.
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

mod common;

use std::path::Path;

use common::{assert_consistent, mesh, render::everything, router, sidecar};
use ostro_mesh::{Proxy, Snapshot};

fn hold(directory: &Path, file: &str, snapshot: &Snapshot, proxy: &Proxy) {
    assert_consistent(snapshot, proxy);
    let path = directory.join(file);
    let got = everything(snapshot, proxy);
    if std::env::var_os("OSTRO_BLESS").is_some() {
        std::fs::write(&path, &got).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    let differing = expected.lines().zip(got.lines()).find(|(expected, got)| expected != got);
    assert!(expected == got, "{}: first difference {differing:#?}\n{got}", path.display());
}

#[test]
fn meshes_give_what_their_scenarios_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut directories: Vec<_> =
        std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    directories.sort();
    assert!(!directories.is_empty());
    for directory in directories {
        let yaml = std::fs::read_to_string(directory.join("mesh.yaml")).unwrap();
        let snapshot = mesh(&yaml);
        hold(&directory, "sidecar.txt", &snapshot, &sidecar(&["10.1.0.5"]));
        if yaml.contains("\nkind: Gateway\n") {
            hold(&directory, "gateway.txt", &snapshot, &router());
        }
    }
}
