//! Where the proxy's own connections come from (`cluster_manager.upstream_bind_config`).

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod support;

use std::net::{IpAddr, TcpListener};

use serde_json::{Value, json};
use support::{Proxy, bootstrap, cluster, connect, listener, refused, tcp_proxy, upstream};

fn source(ip: &str) -> Value {
    json!({"source_address": {"address": ip, "port_value": 0}})
}

/// Where the next connection comes from.
fn caller(listener: &TcpListener) -> IpAddr {
    listener.accept().unwrap().1.ip()
}

#[test]
fn what_the_bootstrap_says_holds_for_clusters_that_say_nothing_and_for_the_control_plane() {
    let ((plain, plain_at), (own, own_at), (control, control_at)) = (upstream(), upstream(), upstream());
    let mut with_own = cluster("own", &[own_at]);
    with_own["upstream_bind_config"] = source("127.0.0.3");
    let mut config = bootstrap(
        &[listener("plain", &tcp_proxy("plain")), listener("own", &tcp_proxy("own"))],
        &[cluster("plain", &[plain_at]), with_own, cluster("xds", &[control_at])],
    );
    config["cluster_manager"] = json!({"upstream_bind_config": source("127.0.0.2")});
    config["dynamic_resources"] = json!({"ads_config": {
        "api_type": "DELTA_GRPC",
        "transport_api_version": "V3",
        "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}],
    }});
    let proxy = Proxy::start(&config);
    let _to_plain = connect(proxy.listener("plain"));
    assert_eq!(caller(&plain).to_string(), "127.0.0.2");
    let _to_own = connect(proxy.listener("own"));
    assert_eq!(caller(&own).to_string(), "127.0.0.3");
    assert_eq!(caller(&control).to_string(), "127.0.0.2");
}

#[test]
fn an_option_that_is_not_known_is_refused() {
    let mut config = bootstrap(&[], &[]);
    config["cluster_manager"] =
        json!({"upstream_bind_config": {"socket_options": [{"level": 1, "name": 13, "int_value": 1}]}});
    let said = refused(&config);
    let expected =
        "cluster_manager.upstream_bind_config.socket_options: not supported: socket option 13 of level 1";
    assert!(said.contains(expected), "{said}");
}
