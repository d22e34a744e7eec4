//! Istio's own filters, for proxies that have them: standard metrics, peer metadata, application protocols. A stock Envoy
//! goes without.
//!
//! Their messages are not among Envoy's: those that Istio sends as JSON (`TypedStruct`) are sent as such.

use envoy_types::pb::envoy::config::cluster::v3::Filter as ClusterFilter;
use envoy_types::pb::envoy::config::listener::v3::{Filter, filter};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpFilter, http_filter,
};
use envoy_types::pb::google::protobuf::{Any, Struct, Value};
use ostro_mesh::View;
use prost::Message;

use crate::encode::{boolean, list, object, structure, text};
use crate::filters::Direction;

/// Names in Envoy's registry.
const HTTP_STATS: &str = "envoy.filters.http.istio_stats";
const NETWORK_STATS: &str = "envoy.filters.network.istio_stats";
const HTTP_PEER_METADATA: &str = "envoy.filters.http.peer_metadata";
const NETWORK_METADATA_EXCHANGE: &str = "envoy.filters.network.metadata_exchange";
const UPSTREAM_METADATA_EXCHANGE: &str = "envoy.filters.network.upstream.metadata_exchange";
const ALPN: &str = "istio.alpn";

/// Names under which Istio configures them.
const STATS_NAME: &str = "istio.stats";
const EXCHANGE_NAME: &str = "istio.metadata_exchange";

/// `udpa.type.v1.TypedStruct`
#[derive(Clone, PartialEq, Message)]
struct TypedStruct {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(message, optional, tag = "2")]
    value: Option<Struct>,
}

/// `stats.PluginConfig`, as far as it is set here.
#[derive(Clone, PartialEq, Message)]
struct PluginConfig {
    #[prost(bool, tag = "6")]
    disable_host_header_fallback: bool,
}

/// `istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig`
#[derive(Clone, PartialEq, Message)]
struct AlpnConfig {
    #[prost(message, repeated, tag = "1")]
    alpn_override: Vec<AlpnOverride>,
}

#[derive(Clone, PartialEq, Message)]
struct AlpnOverride {
    /// HTTP/1.0, HTTP/1.1, HTTP/2.
    #[prost(int32, tag = "1")]
    upstream_protocol: i32,
    #[prost(string, repeated, tag = "2")]
    alpn_override: Vec<String>,
}

fn typed(type_url: &str, value: Vec<(&'static str, Value)>) -> Any {
    let typed = TypedStruct { type_url: type_url.to_owned(), value: Some(structure(value)) };
    Any { type_url: "type.googleapis.com/udpa.type.v1.TypedStruct".to_owned(), value: typed.encode_to_vec() }
}

fn http(name: &str, config: Any) -> HttpFilter {
    HttpFilter {
        name: name.to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(config)),
        ..Default::default()
    }
}

fn network(name: &str, config: Any) -> Filter {
    Filter { name: name.to_owned(), config_type: Some(filter::ConfigType::TypedConfig(config)) }
}

/// The first HTTP filter: who is at the other end.
pub(crate) fn peer_metadata(view: &View<'_>, direction: Direction) -> Option<HttpFilter> {
    if !view.has_extension(HTTP_PEER_METADATA) {
        return None;
    }
    let empty = || object(Vec::new());
    let discovery = || {
        list(vec![object(vec![("istio_headers", empty())]), object(vec![("workload_discovery", empty())])])
    };
    let propagation = || list(vec![object(vec![("istio_headers", empty())])]);
    let fields = match direction {
        Direction::Inbound => {
            vec![("downstream_discovery", discovery()), ("downstream_propagation", propagation())]
        }
        Direction::Outbound | Direction::Gateway => {
            vec![("upstream_discovery", discovery()), ("upstream_propagation", propagation())]
        }
    };
    Some(http(EXCHANGE_NAME, typed("type.googleapis.com/io.istio.http.peer_metadata.Config", fields)))
}

/// Behind gRPC's statistics: which application protocols connections of Istio's mutual TLS offer.
pub(crate) fn alpn(view: &View<'_>, direction: Direction) -> Option<HttpFilter> {
    if direction == Direction::Inbound || !view.has_extension(ALPN) {
        return None;
    }
    let offers = [
        (0, ["istio-http/1.0", "istio", "http/1.0"]),
        (1, ["istio-http/1.1", "istio", "http/1.1"]),
        (2, ["istio-h2", "istio", "h2"]),
    ];
    let one = |(upstream_protocol, offered): (i32, [&str; 3])| AlpnOverride {
        upstream_protocol,
        alpn_override: offered.map(str::to_owned).to_vec(),
    };
    let config = AlpnConfig { alpn_override: offers.map(one).to_vec() };
    let type_url = "type.googleapis.com/istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig";
    Some(http(ALPN, Any { type_url: type_url.to_owned(), value: config.encode_to_vec() }))
}

fn plugin_config(direction: Direction) -> Any {
    // A host that comes from outside the mesh is no service's name; and what arrives at a workload is for its own.
    let disable_host_header_fallback = direction != Direction::Outbound;
    let config = PluginConfig { disable_host_header_fallback };
    Any { type_url: "type.googleapis.com/stats.PluginConfig".to_owned(), value: config.encode_to_vec() }
}

/// The last HTTP filter before the router: standard metrics.
pub(crate) fn stats(view: &View<'_>, direction: Direction) -> Option<HttpFilter> {
    view.has_extension(HTTP_STATS).then(|| http(STATS_NAME, plugin_config(direction)))
}

/// Network filters before a connection manager.
pub(crate) fn before_http(view: &View<'_>, direction: Direction) -> Option<Filter> {
    // Outbound, the exchange is a matter of the cluster.
    let exchanges = direction == Direction::Inbound && view.has_extension(NETWORK_METADATA_EXCHANGE);
    exchanges.then(|| network(EXCHANGE_NAME, exchange()))
}

/// Network filters before a TCP proxy.
pub(crate) fn before_tcp(view: &View<'_>, direction: Direction) -> Vec<Filter> {
    let stats = view.has_extension(NETWORK_STATS).then(|| network(STATS_NAME, plugin_config(direction)));
    before_http(view, direction).into_iter().chain(stats).collect()
}

/// Network filters of an outbound cluster's connections.
pub(crate) fn of_cluster(view: &View<'_>) -> Vec<ClusterFilter> {
    let filter = || ClusterFilter {
        name: EXCHANGE_NAME.to_owned(),
        typed_config: Some(exchange()),
        ..Default::default()
    };
    view.has_extension(UPSTREAM_METADATA_EXCHANGE).then(filter).into_iter().collect()
}

fn exchange() -> Any {
    typed(
        "type.googleapis.com/envoy.tcp.metadataexchange.config.MetadataExchange",
        vec![("protocol", text("istio-peer-exchange")), ("enable_discovery", boolean(true))],
    )
}
