//! Resources from files: read at once, again when they are replaced, kept when they are broken.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use envoy_types::pb::envoy::service::discovery::v3::DiscoveryResponse;
use ostro_xds_client::{Handle, Kind, Origin, PathSource, Phase, Records, Source, Store, Wildcard, run};
use prost::Message;
use support::*;

/// Tests write encoded messages; what a proxy reads is JSON, by a decoder that it brings.
fn decode(_: &Path, bytes: Vec<u8>) -> Result<DiscoveryResponse, String> {
    DiscoveryResponse::decode(bytes.as_slice()).map_err(|error| format!("is none: {error}"))
}

fn source(path: &Path) -> Source {
    Source::Path(PathSource { path: path.to_owned(), watched_directory: None })
}

fn start(wildcards: Vec<Wildcard>, needs: Source) -> (Told, Records, tokio::task::JoinHandle<()>) {
    let (mut teller, told) = Teller::new();
    teller.source = needs;
    let mut store = Store::new(teller, wildcards);
    let records = store.records();
    let task =
        tokio::spawn(async move { match run(&mut store, None, Some(decode), &Handle::new()).await {} });
    (told, records, task)
}

/// As Envoy advises: beside, then moved.
fn replace(path: &Path, kind: Kind, version: &str, resources: Vec<Made>) {
    let beside = path.with_extension("new");
    fs::write(&beside, world(kind, version, resources).encode_to_vec()).unwrap();
    fs::rename(beside, path).unwrap();
}

fn failures(records: &Records, kind: Kind) -> u64 {
    let mut failures = 0;
    records.counters(kind).each(&mut |name, value| {
        if name == "update_failure" {
            failures = value;
        }
    });
    failures
}

async fn until(mut condition: impl FnMut() -> bool) {
    soon(async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn files_replace_what_was_in_force() {
    let dir = tempfile::tempdir().unwrap();
    let [clusters, assignments, listeners] = ["cds", "eds", "lds"].map(|name| dir.path().join(name));
    replace(&clusters, Kind::CLUSTER, "1", vec![cluster("a", "1", Some("x")), cluster("b", "1", Some("y"))]);
    replace(&assignments, Kind::ENDPOINT, "1", vec![endpoints("x", "1"), endpoints("other", "1")]);
    replace(&listeners, Kind::LISTENER, "1", vec![listener("l", "1", &[])]);
    let wildcard = |kind, path: &Path| Wildcard { kind, source: source(path), fetch_timeout: None };
    let wildcards = vec![wildcard(Kind::CLUSTER, &clusters), wildcard(Kind::LISTENER, &listeners)];
    let (mut told, records, task) = start(wildcards, source(&assignments));
    told.until(&["cds a=1", "eds x=1"]).await;
    replace(&assignments, Kind::ENDPOINT, "2", vec![endpoints("x", "2"), endpoints("y", "2")]);
    told.until(&["cds a=1", "cds b=1", "eds x=2", "eds y=2", "lds l=1"]).await;
    told.until_phase(Phase::Live).await;
    assert_eq!(records.get(Kind::ENDPOINT, "x").unwrap().origin, Origin::File);

    // What is broken, empty or gone changes nothing.
    fs::write(&listeners, [0xff; 9]).unwrap();
    until(|| failures(&records, Kind::LISTENER) == 1).await;
    fs::remove_file(&listeners).unwrap();
    replace(&clusters, Kind::CLUSTER, "2", vec![cluster("b", "2", None), cluster("c", "!no", None)]);
    told.until(&["cds b=2", "lds l=1"]).await;
    replace(&listeners, Kind::LISTENER, "3", vec![listener("m", "3", &[])]);
    told.until(&["cds b=2", "lds m=3"]).await;
    // Written in place, to its end.
    fs::write(&listeners, world(Kind::LISTENER, "4", vec![]).encode_to_vec()).unwrap();
    told.until(&["cds b=2"]).await;
    assert_eq!(records.version(Kind::LISTENER), "s-4");
    task.abort();
}

#[tokio::test]
async fn a_watched_directory_as_kubernetes_mounts_them() {
    let dir = tempfile::tempdir().unwrap();
    let version = |name: &str| dir.path().join(name);
    fs::create_dir(version("..1")).unwrap();
    replace(&version("..1").join("cds"), Kind::CLUSTER, "1", vec![cluster("a", "1", None)]);
    symlink("..1", version("..data")).unwrap();
    symlink("..data/cds", version("cds")).unwrap();
    let path = PathSource { path: version("cds"), watched_directory: Some(dir.path().to_owned()) };
    let wildcard = Wildcard { kind: Kind::CLUSTER, source: Source::Path(path), fetch_timeout: None };
    let (mut told, _, task) = start(vec![wildcard], Source::Ads);
    told.until(&["cds a=1"]).await;
    fs::create_dir(version("..2")).unwrap();
    replace(&version("..2").join("cds"), Kind::CLUSTER, "2", vec![cluster("a", "2", None)]);
    symlink("..2", version("..new")).unwrap();
    fs::rename(version("..new"), version("..data")).unwrap();
    told.until(&["cds a=2"]).await;
    task.abort();
}

#[tokio::test]
async fn a_file_in_no_directory_is_reported() {
    let missing = Path::new("/no/such/directory/cds");
    let wildcard = Wildcard { kind: Kind::CLUSTER, source: source(missing), fetch_timeout: None };
    let (told, records, task) = start(vec![wildcard], Source::Ads);
    until(|| failures(&records, Kind::CLUSTER) >= 1).await;
    assert!(told.now().is_empty() && !task.is_finished());
    task.abort();
}
