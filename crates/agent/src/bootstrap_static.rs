//! The static clusters and listeners of every bootstrap.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::{ADMIN_PORT, METRICS_PORT, READINESS_PORT, STATUS_PORT};

/// Cluster of the control plane.
pub const XDS_CLUSTER: &str = "xds-grpc";
const PROMETHEUS_CLUSTER: &str = "prometheus_stats";
const AGENT_CLUSTER: &str = "agent";

/// A TCP socket address.
pub fn address(ip: &str, port: u16) -> Value {
    json!({"socket_address": {"protocol": "TCP", "address": ip, "port_value": port}})
}

/// Envoy's own admin interface, as an upstream.
pub fn prometheus_cluster() -> Value {
    static_cluster(PROMETHEUS_CLUSTER, "127.0.0.1", ADMIN_PORT)
}

/// The agent's status port, as an upstream.
pub fn agent_cluster() -> Value {
    static_cluster(AGENT_CLUSTER, "127.0.0.1", STATUS_PORT)
}

/// The control plane: HTTP/2 in the clear, with pings so that a dead peer is noticed.
pub fn xds_cluster(control: SocketAddr) -> Value {
    let mut cluster = static_cluster(XDS_CLUSTER, &control.ip().to_string(), control.port());
    cluster["connect_timeout"] = json!("1s");
    cluster["typed_extension_protocol_options"] = json!({
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {
                "connection_keepalive": {"interval": "30s", "timeout": "10s"},
            }},
        },
    });
    cluster["upstream_connection_options"] = json!({"tcp_keepalive": {"keepalive_time": 300}});
    cluster
}

fn static_cluster(name: &str, ip: &str, port: u16) -> Value {
    json!({
        "name": name,
        "alt_stat_name": format!("{name};"),
        "type": "STATIC",
        "connect_timeout": "0.250s",
        "lb_policy": "ROUND_ROBIN",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(ip, port)}}]}],
        },
    })
}

/// `/stats/prometheus` on 15090: Envoy's metrics for whoever scrapes the pod.
pub fn metrics_listener() -> Value {
    listener("stats;", METRICS_PORT, "/stats/prometheus", PROMETHEUS_CLUSTER)
}

/// `/healthz/ready` on 15021: what a readiness probe asks.
pub fn readiness_listener() -> Value {
    listener("agent;", READINESS_PORT, "/healthz/ready", AGENT_CLUSTER)
}

/// A listener outside the captured traffic that leads one path to one cluster.
fn listener(stat_prefix: &str, port: u16, path: &str, cluster: &str) -> Value {
    json!({
        "name": format!("0.0.0.0_{port}"),
        "address": address("0.0.0.0", port),
        "filter_chains": [{"filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "codec_type": "AUTO",
                "stat_prefix": stat_prefix,
                "route_config": {"virtual_hosts": [{
                    "name": "backend",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": path}, "route": {"cluster": cluster}}],
                }]},
                "http_filters": [{
                    "name": "envoy.filters.http.router",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
                    },
                }],
            },
        }]}],
    })
}
