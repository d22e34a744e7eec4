//! Istio's own filters: for proxies that have them, and only for them.
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

mod common;

use common::{assert_consistent, mesh, resource, router, sidecar, unpack};
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::listener::v3::{FilterChain, Listener, filter::ConfigType};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, http_filter,
};
use envoy_types::pb::google::protobuf::Any;
use ostro_mesh::Proxy;
use ostro_translate::ResourceType;

const SHOP: &str = include_str!("common/shop.yaml");
const GATEWAY: &str = "
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: web, namespace: istio-system}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]
";

/// The proxy with every extension that is asked for.
fn with_istios(mut proxy: Proxy) -> Proxy {
    let names = [
        "envoy.filters.http.istio_stats",
        "envoy.filters.network.istio_stats",
        "envoy.filters.http.peer_metadata",
        "envoy.filters.network.metadata_exchange",
        "envoy.filters.network.upstream.metadata_exchange",
        "istio.alpn",
        "envoy.filters.http.grpc_stats",
        "envoy.filters.http.grpc_web",
        "envoy.filters.http.fault",
        "envoy.filters.http.cors",
    ];
    proxy.extensions = names.map(str::to_owned).into();
    proxy
}

fn listener(proxy: &Proxy, name: &str) -> Listener {
    let snapshot = mesh(&format!("{SHOP}{GATEWAY}"));
    assert_consistent(&snapshot, proxy);
    resource(&snapshot, proxy, ResourceType::Listener, name)
}

fn named<'c>(listener: &'c Listener, chain: &str) -> &'c FilterChain {
    listener.filter_chains.iter().find(|found| found.name == chain).unwrap()
}

fn network_filters(chain: &FilterChain) -> Vec<&str> {
    chain.filters.iter().map(|filter| filter.name.as_str()).collect()
}

fn manager(chain: &FilterChain) -> HttpConnectionManager {
    let Some(ConfigType::TypedConfig(config)) = &chain.filters.last().unwrap().config_type else { panic!() };
    unpack(config)
}

fn http_filters(manager: &HttpConnectionManager) -> Vec<&str> {
    manager.http_filters.iter().map(|filter| filter.name.as_str()).collect()
}

fn config<'m>(manager: &'m HttpConnectionManager, name: &str) -> &'m Any {
    let filter = manager.http_filters.iter().find(|filter| filter.name == name).unwrap();
    let Some(http_filter::ConfigType::TypedConfig(config)) = &filter.config_type else { panic!() };
    config
}

#[test]
fn they_stand_where_istio_puts_them() {
    let outbound = listener(&with_istios(sidecar(&["10.1.0.5"])), "0.0.0.0_80");
    let http = outbound.filter_chains.iter().find(|chain| network_filters(chain).len() == 1).unwrap();
    let http = manager(http);
    assert_eq!(
        http_filters(&http),
        [
            "istio.metadata_exchange",
            "envoy.filters.http.grpc_stats",
            "istio.alpn",
            "envoy.filters.http.fault",
            "envoy.filters.http.cors",
            "istio.stats",
            "envoy.filters.http.router",
        ]
    );
    let stats = config(&http, "istio.stats");
    assert_eq!((stats.type_url.as_str(), stats.value.len()), ("type.googleapis.com/stats.PluginConfig", 0));
    let rest = outbound.default_filter_chain.as_ref().unwrap();
    assert_eq!(network_filters(rest), ["istio.stats", "envoy.filters.network.tcp_proxy"]);

    let inbound = listener(&with_istios(sidecar(&["10.1.0.5"])), "virtualInbound");
    let http = named(&inbound, "virtualInbound-catchall-http");
    assert_eq!(
        network_filters(http),
        ["istio.metadata_exchange", "envoy.filters.network.http_connection_manager"]
    );
    let http = manager(http);
    assert!(!http_filters(&http).contains(&"istio.alpn"), "{:?}", http_filters(&http));
    assert_eq!(config(&http, "istio.stats").value, [0x30, 1], "a host is no service's name here");
    assert_eq!(
        network_filters(named(&inbound, "virtualInbound-blackhole")),
        ["istio.metadata_exchange", "istio.stats", "envoy.filters.network.tcp_proxy"]
    );
}

#[test]
fn gateways_have_them_too() {
    let gateway = listener(&with_istios(router()), "0.0.0.0_80");
    let http = manager(&gateway.filter_chains[0]);
    assert_eq!(http_filters(&http)[0], "istio.metadata_exchange");
    assert!(http_filters(&http).contains(&"istio.alpn"));
    assert_eq!(config(&http, "istio.stats").value, [0x30, 1]);
}

#[test]
fn clusters_exchange_metadata_of_connections() {
    let snapshot = mesh(SHOP);
    let of =
        |proxy: &Proxy, name: &str| -> Cluster { resource(&snapshot, proxy, ResourceType::Cluster, name) };
    let own = with_istios(sidecar(&["10.1.0.5"]));
    let db = of(&own, "outbound|5432||db.default.svc.cluster.local");
    assert_eq!(db.filters[0].name, "istio.metadata_exchange");
    let typed = db.filters[0].typed_config.as_ref().unwrap();
    assert_eq!(typed.type_url, "type.googleapis.com/udpa.type.v1.TypedStruct");
    assert!(of(&own, "PassthroughCluster").filters.is_empty());
    assert!(of(&sidecar(&["10.1.0.5"]), "outbound|5432||db.default.svc.cluster.local").filters.is_empty());
}

#[test]
fn a_stock_envoy_goes_without() {
    for (proxy, name) in [
        (sidecar(&["10.1.0.5"]), "0.0.0.0_80"),
        (sidecar(&["10.1.0.5"]), "virtualInbound"),
        (router(), "0.0.0.0_80"),
    ] {
        let listener = format!("{:?}", listener(&proxy, name));
        for istios in ["istio.stats", "istio.alpn", "istio.metadata_exchange", "peer_metadata"] {
            assert!(!listener.contains(istios), "{name}: {istios}");
        }
    }
}
