//! Network and HTTP filters that listeners of every kind share: the HTTP connection manager with its filters, and the
//! TCP proxy.
//!
//! Invariant: a filter beyond Envoy's network core is there only if the proxy has it; the order is Istio's.

use std::time::Duration;

use envoy_types::pb::envoy::config::listener::v3::{
    Filter, FilterChain, ListenerFilter, filter, listener_filter,
};
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::envoy::extensions::filters::http::cors::v3::Cors;
use envoy_types::pb::envoy::extensions::filters::http::fault::v3::HttpFault;
use envoy_types::pb::envoy::extensions::filters::http::grpc_stats::v3::{
    FilterConfig as GrpcStats, filter_config,
};
use envoy_types::pb::envoy::extensions::filters::http::grpc_web::v3::GrpcWeb;
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::listener::http_inspector::v3::HttpInspector;
use envoy_types::pb::envoy::extensions::filters::listener::original_dst::v3::OriginalDst;
use envoy_types::pb::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, Rds, http_connection_manager as hcm, http_filter,
};
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::{TcpProxy, tcp_proxy};
use ostro_api::mesh_config::NormalizationType;
use ostro_mesh::View;
use prost::{Message, Name};

use crate::encode::{ads, any, duration, wrapped};
use crate::{access_log, names, telemetry};

/// Which way the requests of a connection manager go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the proxy's own workload.
    Outbound,
    /// To the proxy's own workload.
    Inbound,
    /// Through a gateway.
    Gateway,
}

/// Where a connection manager has its routes from.
#[derive(Debug, Clone)]
pub enum Routes {
    /// RDS on the same stream.
    Named(String),
    /// Within the listener.
    Inline(Box<RouteConfiguration>),
}

/// An HTTP connection manager with the mesh's settings. `stat_prefix` is without the closing `;`.
///
/// `grpc_web` adds the translation from gRPC-Web, which gRPC-Web ports and gateways have.
pub fn http_connection_manager(
    view: &View<'_>,
    direction: Direction,
    stat_prefix: &str,
    routes: Routes,
    grpc_web: bool,
) -> HttpConnectionManager {
    let mesh = view.mesh_config();
    let mut manager = HttpConnectionManager {
        codec_type: hcm::CodecType::Auto as i32,
        stat_prefix: names::stat_name(stat_prefix),
        http_filters: http_filters(view, direction, grpc_web),
        // Istio's name where the mesh answers for the service; the caller's own side keeps Envoy's.
        server_name: if direction == Direction::Outbound { String::new() } else { "istio-envoy".to_owned() },
        use_remote_address: wrapped(direction == Direction::Gateway),
        proxy_100_continue: true,
        // Streams may be silent for as long as they like; routes and clusters have timeouts of their own.
        stream_idle_timeout: duration(Duration::ZERO),
        upgrade_configs: vec![hcm::UpgradeConfig {
            upgrade_type: "websocket".to_owned(),
            ..Default::default()
        }],
        access_log: access_log::of_requests(mesh),
        route_specifier: Some(match routes {
            Routes::Named(name) => {
                hcm::RouteSpecifier::Rds(Rds { config_source: Some(ads()), route_config_name: name })
            }
            Routes::Inline(config) => hcm::RouteSpecifier::RouteConfig(*config),
        }),
        ..Default::default()
    };
    client_certificate(&mut manager, direction);
    normalization(&mut manager, mesh.path_normalization.normalization);
    manager
}

/// What is said to the upstream of the client's certificate.
fn client_certificate(manager: &mut HttpConnectionManager, direction: Direction) {
    use hcm::ForwardClientCertDetails as Forward;
    let (forward, details) = match direction {
        Direction::Outbound => (Forward::Sanitize, None),
        Direction::Inbound => (
            Forward::AppendForward,
            Some(hcm::SetCurrentClientCertDetails {
                subject: wrapped(true),
                dns: true,
                uri: true,
                ..Default::default()
            }),
        ),
        Direction::Gateway => (
            Forward::SanitizeSet,
            Some(hcm::SetCurrentClientCertDetails {
                subject: wrapped(true),
                cert: true,
                dns: true,
                uri: true,
                ..Default::default()
            }),
        ),
    };
    manager.forward_client_cert_details = forward as i32;
    manager.set_current_client_cert_details = details;
}

/// How paths are normalised before anything matches them (MeshConfig `pathNormalization`).
fn normalization(manager: &mut HttpConnectionManager, kind: NormalizationType) {
    use hcm::PathWithEscapedSlashesAction as Escaped;
    let (normalize, merge, escaped) = match kind {
        NormalizationType::None => (false, false, Escaped::KeepUnchanged),
        NormalizationType::Default | NormalizationType::Base => (true, false, Escaped::KeepUnchanged),
        NormalizationType::MergeSlashes => (true, true, Escaped::KeepUnchanged),
        NormalizationType::DecodeAndMergeSlashes => (true, true, Escaped::UnescapeAndForward),
    };
    manager.normalize_path = wrapped(normalize);
    manager.merge_slashes = merge;
    manager.path_with_escaped_slashes_action = escaped as i32;
}

fn http_filters(view: &View<'_>, direction: Direction, grpc_web: bool) -> Vec<HttpFilter> {
    let mut filters: Vec<HttpFilter> = telemetry::peer_metadata(view, direction).into_iter().collect();
    let mut add = |name: &'static str, filter: Option<HttpFilter>| {
        if !view.lacks_extension(name) {
            filters.extend(filter);
        }
    };
    let web = grpc_web || direction == Direction::Gateway;
    add("envoy.filters.http.grpc_web", web.then(|| http_filter("envoy.filters.http.grpc_web", &GrpcWeb {})));
    let stats = GrpcStats {
        emit_filter_state: true,
        per_method_stat_specifier: Some(filter_config::PerMethodStatSpecifier::StatsForAllMethods(
            Default::default(),
        )),
        ..Default::default()
    };
    add("envoy.filters.http.grpc_stats", Some(http_filter("envoy.filters.http.grpc_stats", &stats)));
    add("istio.alpn", telemetry::alpn(view, direction));
    // Faults and CORS are configured per route; the filters here only carry them out.
    let fault = HttpFault::default();
    add("envoy.filters.http.fault", Some(http_filter("envoy.filters.http.fault", &fault)));
    add("envoy.filters.http.cors", Some(http_filter("envoy.filters.http.cors", &Cors {})));
    filters.extend(telemetry::stats(view, direction));
    filters.push(http_filter("envoy.filters.http.router", &Router::default()));
    filters
}

fn http_filter<M: Message + Name>(name: &str, config: &M) -> HttpFilter {
    HttpFilter {
        name: name.to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(any(config))),
        ..Default::default()
    }
}

/// A connection manager as the last of a chain's network filters.
pub fn http_network_filters(
    view: &View<'_>,
    direction: Direction,
    manager: &HttpConnectionManager,
) -> Vec<Filter> {
    let manager = network_filter("envoy.filters.network.http_connection_manager", manager);
    telemetry::before_http(view, direction).into_iter().chain([manager]).collect()
}

/// A TCP proxy to one cluster, with the mesh's access log and nothing else.
pub fn tcp_proxy(view: &View<'_>, cluster: &str) -> TcpProxy {
    TcpProxy {
        stat_prefix: cluster.to_owned(),
        access_log: access_log::of_connections(view.mesh_config()),
        cluster_specifier: Some(tcp_proxy::ClusterSpecifier::Cluster(cluster.to_owned())),
        ..Default::default()
    }
}

/// A TCP proxy as the last of a chain's network filters.
pub fn tcp_network_filters(view: &View<'_>, direction: Direction, proxy: &TcpProxy) -> Vec<Filter> {
    let mut filters = telemetry::before_tcp(view, direction);
    filters.push(network_filter("envoy.filters.network.tcp_proxy", proxy));
    filters
}

fn network_filter<M: Message + Name>(name: &str, config: &M) -> Filter {
    Filter { name: name.to_owned(), config_type: Some(filter::ConfigType::TypedConfig(any(config))) }
}

/// A chain of these filters, under no condition yet.
pub fn chain(name: &str, filters: Vec<Filter>) -> FilterChain {
    FilterChain { name: name.to_owned(), filters, ..Default::default() }
}

/// Recovers the address that a captured connection was going to.
pub fn original_dst() -> ListenerFilter {
    listener_filter("envoy.filters.listener.original_dst", &OriginalDst {})
}

/// Sees whether a connection begins with TLS, and its server name and ALPN.
pub fn tls_inspector() -> ListenerFilter {
    listener_filter("envoy.filters.listener.tls_inspector", &TlsInspector::default())
}

/// Sees whether a plaintext connection begins with HTTP, and which.
pub fn http_inspector() -> ListenerFilter {
    listener_filter("envoy.filters.listener.http_inspector", &HttpInspector {})
}

fn listener_filter<M: Message + Name>(name: &str, config: &M) -> ListenerFilter {
    ListenerFilter {
        name: name.to_owned(),
        config_type: Some(listener_filter::ConfigType::TypedConfig(any(config))),
        ..Default::default()
    }
}
