//! The engine takes every cluster, every assignment and every listener that `translate` makes; what it does not, it refuses by
//! name.
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

#[path = "../../translate/tests/common/mod.rs"]
mod common;

use std::collections::BTreeMap;

use common::{encoded, mesh, names, router, sidecar};
use envoy_types::pb::envoy::config::cluster::v3::Cluster as Proto;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::listener::v3::Listener as ListenerProto;
use ostro_engine::cluster::Assignment;
use ostro_engine::{Cluster, Discovery, Listener};
use ostro_mesh::Proxy;
use ostro_translate::ResourceType;
use prost::Message;

const SHOP: &str = include_str!("../../translate/tests/common/shop.yaml");
const POLICIES: &str = include_str!("../../translate/tests/common/policies.yaml");
const ROUTES: &str = include_str!("../../translate/tests/common/routes.yaml");

/// What is refused, until it is there. Nothing else may be.
const REFUSED: &[&str] = &["transport socket"];

/// A proxy that says it has what the engine has.
fn with_own_extensions(mut proxy: Proxy) -> Proxy {
    proxy.extensions = ostro_engine::extensions().map(|extension| extension.name.to_owned()).collect();
    proxy
}

#[test]
fn the_engine_takes_every_listener_that_is_made_for_its_extensions() {
    let snapshot = mesh(SHOP);
    let mut told = String::new();
    for proxy in [sidecar(&["10.1.0.5"]), sidecar(&["2001:db8::99"])].map(with_own_extensions) {
        for name in names(&snapshot, &proxy, ResourceType::Listener) {
            let bytes = encoded(&snapshot, &proxy, ResourceType::Listener, name.as_str()).unwrap();
            let listener = Listener::compile(ListenerProto::decode(bytes).unwrap());
            told += &format!("{:?}", listener.unwrap_or_else(|refusal| panic!("{refusal}")));
        }
    }
    for istios in ["IstioStats(", "PeerMetadata(", "MetadataExchange(", "Alpn("] {
        assert!(told.contains(istios), "{istios}");
    }
}

#[test]
fn the_engine_takes_every_cluster_that_is_made() {
    let meshes = [SHOP.to_owned(), format!("{SHOP}\n---\n{POLICIES}\n---\n{ROUTES}")];
    let own = with_own_extensions(sidecar(&["10.1.0.5"]));
    let proxies = [sidecar(&["10.1.0.5"]), sidecar(&["10.1.0.7"]), sidecar(&["2001:db8::99"]), router(), own];
    let (mut taken, mut kinds, mut refused) = (0, BTreeMap::new(), BTreeMap::new());
    for yaml in &meshes {
        let snapshot = mesh(yaml);
        for proxy in &proxies {
            for name in names(&snapshot, proxy, ResourceType::Cluster) {
                let Some(bytes) = encoded(&snapshot, proxy, ResourceType::Cluster, name.as_str()) else {
                    continue;
                };
                let discovery = match Cluster::compile(Proto::decode(bytes).unwrap()) {
                    Ok(cluster) => cluster.discovery,
                    Err(refusal) => {
                        let reason = refusal.reason().to_string();
                        assert!(REFUSED.iter().any(|known| reason.contains(known)), "{refusal}");
                        *refused.entry(reason).or_insert(0) += 1;
                        continue;
                    }
                };
                taken += 1;
                let kind = format!("{discovery:?}").split(['(', '{', ' ']).next().unwrap().to_owned();
                *kinds.entry(kind).or_insert(0) += 1;
                if let Discovery::Eds(service) = discovery {
                    let bytes = encoded(&snapshot, proxy, ResourceType::Endpoint, &service).unwrap();
                    Assignment::compile_eds(ClusterLoadAssignment::decode(bytes).unwrap()).unwrap();
                }
            }
        }
    }
    println!("{taken} clusters taken: {kinds:?}; refused: {refused:?}");
    assert!(taken > 100 && kinds.len() >= 4, "{taken} {kinds:?}");
}
