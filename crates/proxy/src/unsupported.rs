//! What the engine understands and this proxy does not carry out: refused by name, never left out in silence.
//!
//! What is taken although it changes nothing here is told in `docs/compatibility.md`.

use std::fmt::Display;

use ostro_engine::cluster::{Assignment, Bind, EndpointAddress};
use ostro_engine::{
    Cluster, DownstreamSocket, FilterChain, FilterStateRule, Http2Keepalive, HttpFilterKind, HttpManager,
    Listener, NetworkFilter, RouteFilter, RouteTable, Routes, SocketOption, TcpProxy, Terminal,
};

/// Notes that say something about TLS towards an upstream, of which there is none: nobody reads them.
const NOTES_OF_TLS: &[&str] = &[
    "envoy.network.application_protocols",
    "envoy.network.upstream_server_name",
    "envoy.network.upstream_subject_alt_names",
];
/// Notes that are text, for whoever logs them.
const NOTES_OF_TEXT: &str = "envoy.string";

/// Configuration that is not carried out here. Whoever wrote it is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: not supported: {why}")]
pub(crate) struct Unsupported {
    /// The field.
    place: String,
    /// What of it.
    why: String,
}

type Check = Result<(), Unsupported>;

fn refused(place: impl Into<String>, why: impl Display) -> Unsupported {
    Unsupported { place: place.into(), why: why.to_string() }
}

/// A field that must not be set.
fn unset(place: &str, is_set: bool, why: &str) -> Check {
    if is_set { Err(refused(place, why)) } else { Ok(()) }
}

/// Says where.
trait Within {
    fn within(self, outer: impl FnOnce() -> String) -> Self;
}

impl Within for Check {
    fn within(self, outer: impl FnOnce() -> String) -> Check {
        self.map_err(|Unsupported { place, why }| Unsupported { place: format!("{}.{place}", outer()), why })
    }
}

/// Where connections come from.
pub(crate) fn bind(bind: &Bind) -> Check {
    options(&bind.options)
}

fn options(options: &[SocketOption]) -> Check {
    let unknown = |why| refused("socket_options", why);
    options.iter().try_for_each(|option| crate::config::socket_option(option).map(|_| ()).map_err(unknown))
}

/// A listener with its filter chains.
pub(crate) fn listener(listener: &Listener) -> Check {
    of_listener(listener).within(|| format!("listener {}", listener.name))
}

fn of_listener(listener: &Listener) -> Check {
    let fast_open = listener.socket.fast_open.unwrap_or_default() > 0;
    unset("tcp_fast_open_queue_length", fast_open, "data in a SYN may be delivered twice")?;
    options(&listener.socket.options)?;
    unset(
        "connection_balance_config.exact_balance",
        listener.exact_balance,
        "the kernel deals connections out",
    )?;
    for (place, chain) in listener.chains().enumerate() {
        of_chain(chain).within(|| match chain.name.as_str() {
            "" => format!("filter_chains[{place}]"),
            name => format!("filter_chains[{name}]"),
        })?;
    }
    Ok(())
}

fn of_chain(chain: &FilterChain) -> Check {
    let is_tls = matches!(chain.socket, DownstreamSocket::Tls { .. });
    unset("transport_socket", is_tls, "DownstreamTlsContext")?;
    for filter in &chain.filters {
        let NetworkFilter::SetFilterState(state) = filter else { continue };
        notes(&state.on_new_connection).within(|| "set_filter_state.on_new_connection".to_owned())?;
    }
    match &chain.terminal {
        Terminal::Close => Ok(()),
        Terminal::Tcp(tcp) => tcp_proxy(tcp).within(|| "tcp_proxy".to_owned()),
        Terminal::Http(http) => manager(http).within(|| "http_connection_manager".to_owned()),
    }
}

/// Notes that somebody would have to read.
fn notes(rules: &[FilterStateRule]) -> Check {
    let read =
        rules.iter().find(|rule| !NOTES_OF_TLS.contains(&&*rule.key) && &*rule.factory != NOTES_OF_TEXT);
    read.map_or(Ok(()), |rule| Err(refused("object_key", &rule.key)))
}

fn tcp_proxy(tcp: &TcpProxy) -> Check {
    let options = "access_log_options";
    let flushes = tcp.log_flush_interval.is_some();
    unset("access_log_flush_interval", flushes, "logs are written at the end")
        .within(|| options.to_owned())?;
    let connected = tcp.logs_on_connected;
    unset("flush_access_log_on_connected", connected, "logs are written at the end")
        .within(|| options.to_owned())?;
    unset("flush_access_log_on_start", tcp.logs_on_start, "logs are written at the end")
        .within(|| options.to_owned())
}

fn manager(manager: &HttpManager) -> Check {
    of_logs(manager).within(|| "access_log_options".to_owned())?;
    let http1 = &manager.http1;
    let of_http1 = || "http_protocol_options".to_owned();
    unset("allow_absolute_url", !http1.allows_absolute_url, "false").within(of_http1)?;
    unset("allow_chunked_length", http1.allows_chunked_length, "two lengths are an attack")
        .within(of_http1)?;
    let keeps = http1.stream_error_on_invalid == Some(true);
    unset("override_stream_error_on_invalid_http_message", keeps, "true").within(of_http1)?;
    let field_limit = manager.http2.max_header_field_bytes.is_some();
    let of_http2 = || "http2_protocol_options".to_owned();
    unset("max_header_field_size_kb", field_limit, "heads are limited as a whole").within(of_http2)?;
    keepalive(manager.http2.keepalive.as_ref()).within(of_http2)?;
    for filter in &manager.filters {
        http_filter(&filter.kind).within(|| format!("http_filters[{}]", filter.name))?;
    }
    match &manager.routes {
        Routes::Inline(table) => routes(table),
        Routes::Named { .. } => Ok(()),
    }
}

fn keepalive(keepalive: Option<&Http2Keepalive>) -> Check {
    let idle = keepalive.is_some_and(|keepalive| keepalive.idle_interval.is_some());
    unset("connection_keepalive.connection_idle_interval", idle, "PINGs go by interval alone")
}

fn of_logs(manager: &HttpManager) -> Check {
    let why = "logs are written at the end";
    unset("access_log_flush_interval", manager.log_flush_interval.is_some(), why)?;
    unset("flush_access_log_on_new_request", manager.logs_on_new_request, why)?;
    unset("flush_log_on_tunnel_successfully_established", manager.logs_on_tunnel, why)
}

fn http_filter(kind: &HttpFilterKind) -> Check {
    match kind {
        HttpFilterKind::OnDemand { .. } => Err(refused("typed_config", "OnDemand")),
        HttpFilterKind::SetFilterState(state) => {
            notes(&state.on_request_headers).within(|| "on_request_headers".to_owned())
        }
        // Istio puts GrpcWeb into every gateway: the filter is taken, and requests of gRPC-Web are answered (`stream`).
        HttpFilterKind::Router(_)
        | HttpFilterKind::GrpcWeb
        | HttpFilterKind::Cors
        | HttpFilterKind::Fault(_)
        | HttpFilterKind::GrpcStats(_)
        | HttpFilterKind::HeaderMutation(_)
        | HttpFilterKind::IstioStats(_)
        | HttpFilterKind::PeerMetadata(_)
        | HttpFilterKind::Alpn(_) => Ok(()),
    }
}

/// A cluster, with the endpoints that it has itself.
pub(crate) fn cluster(cluster: &Cluster) -> Check {
    of_cluster(cluster).within(|| format!("cluster {}", cluster.name))
}

fn of_cluster(cluster: &Cluster) -> Check {
    cluster.bind.as_ref().map_or(Ok(()), bind).within(|| "upstream_bind_config".to_owned())?;
    let http = &cluster.http;
    let of_http = || "HttpProtocolOptions".to_owned();
    let jitters = http.max_connection_duration_jitter > 0.0;
    unset("common_http_protocol_options.max_connection_duration_jitter", jitters, "durations are exact")
        .within(of_http)?;
    let lengths = http.http1.allows_chunked_length;
    unset("http_protocol_options.allow_chunked_length", lengths, "two lengths are an attack")
        .within(of_http)?;
    let field_limit = http.http2.max_header_field_bytes.is_some();
    unset("http2_protocol_options.max_header_field_size_kb", field_limit, "heads are limited as a whole")
        .within(of_http)?;
    keepalive(http.http2.keepalive.as_ref())
        .within(|| "HttpProtocolOptions.http2_protocol_options".to_owned())?;
    let closes = cluster.balancing.closes_on_host_set_change;
    unset("common_lb_config.close_connections_on_host_set_change", closes, "true")?;
    unset("wait_for_warm_on_init", !cluster.waits_for_warm, "false")?;
    cluster.assignment.as_deref().map_or(Ok(()), endpoints).within(|| "load_assignment".to_owned())
}

/// Endpoints of a cluster.
pub(crate) fn endpoints(assignment: &Assignment) -> Check {
    unset("policy.endpoint_stale_after", assignment.stale_after.is_some(), "endpoints do not age")?;
    let all = assignment.localities.iter().flat_map(|locality| &locality.endpoints);
    let is_pipe = |address: &EndpointAddress| matches!(address, EndpointAddress::Pipe(_));
    unset("endpoints", all.into_iter().any(|endpoint| is_pipe(&endpoint.address)), "a pipe")
}

/// A route configuration.
pub(crate) fn routes(table: &RouteTable) -> Check {
    of_routes(table).within(|| format!("route_config {}", table.name))
}

fn of_routes(table: &RouteTable) -> Check {
    unset("validate_clusters", table.validates_clusters == Some(true), "clusters may come later")?;
    let all = table.hosts().iter().flat_map(|host| {
        std::iter::once((&host.name, &host.filters))
            .chain(host.routes.iter().map(|route| (&host.name, &route.filters)))
    });
    for (host, filters) in all {
        for (name, said) in filters.iter() {
            let RouteFilter::SetFilterState(state) = said else { continue };
            notes(&state.on_request_headers).within(|| {
                format!("virtual_hosts[{host}].typed_per_filter_config[{name}].on_request_headers")
            })?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test's helpers fail the test by panicking")]

    use super::*;
    use envoy_types::pb::envoy::config::cluster::v3::Cluster as ClusterProto;
    use envoy_types::pb::envoy::config::listener::v3::Listener as ListenerProto;
    use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
    use ostro_envoy_json::{Unknown, to_wire};
    use prost::{Message, Name};
    use serde_json::{Value, json};

    const HCM: &str = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    const HTTP: &str = "type.googleapis.com/envoy.extensions.filters.http.";

    fn message<M: Message + Name + Default>(value: &Value) -> M {
        M::decode(&*to_wire(&M::full_name(), value, Unknown::Refuse).unwrap()).unwrap()
    }

    /// Why a listener whose chain has this filter is refused; empty: it is not.
    fn said_of(filter: Value, change: impl FnOnce(&mut Value)) -> String {
        let mut value = json!({
            "name": "l",
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": 80}},
            "filter_chains": [{"name": "c", "filters": [{"name": "f", "typed_config": filter}]}],
        });
        change(&mut value);
        let compiled = Listener::compile(message::<ListenerProto>(&value)).unwrap();
        listener(&compiled).err().map(|refused| refused.to_string()).unwrap_or_default()
    }

    fn hcm(field: &str, value: Value) -> Value {
        let router = json!({"name": "router", "typed_config": {"@type": format!("{HTTP}router.v3.Router")}});
        let mut hcm = json!({
            "@type": HCM,
            "stat_prefix": "p",
            "route_config": {"name": "r"},
            "http_filters": [router.clone()],
        });
        match field {
            "" => {}
            "http_filters" => hcm["http_filters"] = json!([value, router]),
            field => hcm[field] = value,
        }
        hcm
    }

    #[test]
    fn what_is_wrong_with_a_listener_is_told_by_the_name_of_the_field() {
        assert_eq!(said_of(hcm("", Value::Null), |_| {}), "");
        let tls = json!({"name": "tls", "typed_config": {"@type":
            "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"}});
        assert_eq!(
            said_of(hcm("", Value::Null), |value| value["filter_chains"][0]["transport_socket"] = tls),
            "listener l.filter_chains[c].transport_socket: not supported: DownstreamTlsContext"
        );
        for (field, value) in [
            ("tcp_fast_open_queue_length", json!(5)),
            ("connection_balance_config", json!({"exact_balance": {}})),
            ("socket_options", json!([{"level": 6, "name": 23, "int_value": 5}])),
        ] {
            let said = said_of(hcm("", Value::Null), |listener| listener[field] = value);
            assert!(
                said.starts_with(&format!("listener l.{field}")) && said.contains(": not supported: "),
                "{said}"
            );
        }
    }

    #[test]
    fn what_is_wrong_with_a_manager_is_told_by_the_name_of_the_field() {
        let place = "listener l.filter_chains[c].http_connection_manager";
        for (field, value, rest) in [
            ("access_log_options", json!({"access_log_flush_interval": "1s"}), ".access_log_flush_interval"),
            (
                "access_log_options",
                json!({"flush_access_log_on_new_request": true}),
                ".flush_access_log_on_new_request",
            ),
            (
                "access_log_options",
                json!({"flush_log_on_tunnel_successfully_established": true}),
                ".flush_log_on_tunnel_successfully_established",
            ),
            ("http_protocol_options", json!({"allow_absolute_url": false}), ".allow_absolute_url"),
            ("http_protocol_options", json!({"allow_chunked_length": true}), ".allow_chunked_length"),
            (
                "http2_protocol_options",
                json!({"connection_keepalive": {"timeout": "1s", "connection_idle_interval": "1s"}}),
                ".connection_keepalive.connection_idle_interval",
            ),
        ] {
            let said = said_of(hcm(field, value), |_| {});
            assert!(said.starts_with(&format!("{place}.{field}{rest}: not supported: ")), "{said}");
        }
        let on_demand = format!("{HTTP}on_demand.v3.OnDemand");
        let filter = json!({"name": "x", "typed_config": {"@type": on_demand}});
        let said = said_of(hcm("http_filters", filter), |_| {});
        let begins = format!("{place}.http_filters[x].typed_config: not supported: ");
        assert!(said.starts_with(&begins), "{said}");
    }

    #[test]
    fn notes_are_taken_where_nobody_has_to_read_them() {
        let filter = |key: &str, factory: &str| {
            let note = json!({
                "object_key": key,
                "factory_key": factory,
                "format_string": {"text_format_source": {"inline_string": "a"}},
            });
            let config =
                json!({"@type": format!("{HTTP}set_filter_state.v3.Config"), "on_request_headers": [note]});
            said_of(hcm("http_filters", json!({"name": "notes", "typed_config": config})), |_| {})
        };
        assert_eq!(filter("envoy.network.application_protocols", ""), "");
        assert_eq!(filter("my.note", "envoy.string"), "");
        assert!(filter("envoy.tcp_proxy.cluster", "").ends_with(
            "http_filters[notes].on_request_headers.object_key: not supported: envoy.tcp_proxy.cluster"
        ));
    }

    #[test]
    fn what_is_wrong_with_a_tcp_proxy_is_told_by_the_name_of_the_field() {
        for field in ["flush_access_log_on_connected", "flush_access_log_on_start"] {
            let said = said_of(
                json!({
                    "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                    "stat_prefix": "p",
                    "cluster": "c",
                    "access_log_options": {field: true},
                }),
                |_| {},
            );
            assert!(
                said.contains(&format!("tcp_proxy.access_log_options.{field}: not supported: ")),
                "{said}"
            );
        }
    }

    #[test]
    fn what_is_wrong_with_clusters_and_routes_is_told_by_the_name_of_the_field() {
        let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
        let of_http = |http: Value| json!({options: {"@type": format!("type.googleapis.com/{options}"), "explicit_http_config": http}});
        let pipe = json!({"cluster_name": "c", "endpoints": [{"lb_endpoints": [
            {"endpoint": {"address": {"pipe": {"path": "/a"}}}},
        ]}]});
        for (field, value, place) in [
            ("wait_for_warm_on_init", json!(false), "wait_for_warm_on_init"),
            (
                "common_lb_config",
                json!({"close_connections_on_host_set_change": true}),
                "common_lb_config.close_connections_on_host_set_change",
            ),
            ("load_assignment", pipe, "load_assignment.endpoints"),
            (
                "upstream_bind_config",
                json!({"socket_options": [{"level": 1, "name": 13, "int_value": 1}]}),
                "upstream_bind_config.socket_options",
            ),
            (
                "typed_extension_protocol_options",
                of_http(json!({"http_protocol_options": {"allow_chunked_length": true}})),
                "HttpProtocolOptions.http_protocol_options.allow_chunked_length",
            ),
        ] {
            let mut value_of_cluster = json!({"name": "c", "connect_timeout": "1s"});
            value_of_cluster[field] = value;
            let compiled = Cluster::compile(message::<ClusterProto>(&value_of_cluster)).unwrap();
            let said = cluster(&compiled).unwrap_err().to_string();
            assert!(said.starts_with(&format!("cluster c.{place}: not supported: ")), "{said}");
        }
        let table = message::<RouteConfiguration>(&json!({"name": "r", "validate_clusters": true}));
        let said = routes(&RouteTable::compile(table).unwrap()).unwrap_err().to_string();
        assert!(said.starts_with("route_config r.validate_clusters: not supported: "), "{said}");
    }
}
