//! The HTTP connection manager: how HTTP is read from connections, what becomes of a request's head before it is routed and
//! of a response's before it goes out, and which filters are between.

mod admit;
mod client;
mod client_cert;
mod host;
mod local_reply;
mod path;
mod respond;
mod sanitize;
mod settings;
mod tracing;
mod upgrades;

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager as Proto;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::{
    CodecType, HcmAccessLogOptions, RouteSpecifier,
};
use http::HeaderValue;

pub use admit::{Admission, Admitted, Answer, Arrival};
pub use client::ClientRules;
pub use client_cert::{Certificate, ClientCertRules, TlsFacts};
pub use host::HostRules;
pub use local_reply::{LocalReplies, Reply};
pub use path::{EscapedSlashes, PathRules};
pub use respond::ServerHeader;
pub use settings::{HeadLimits, ManagerTimeouts, RequestIdRules, SchemeRule, Underscores};
pub use tracing::{RouteTracing, Tracing};
pub use upgrades::Upgrades;

use crate::proto::{enumeration, flag, header_value, time_limit};
use crate::refusal::Within;
use crate::{AccessLog, Http1Options, Http2Options, HttpFilter, Refusal, RouteTable, http_filter};

/// An HTTP connection manager.
#[derive(Clone, Debug)]
pub struct HttpManager {
    /// Which HTTP it reads.
    pub codec: Codec,
    /// Name in statistics.
    pub stat_prefix: String,
    /// Where its routes are.
    pub routes: Routes,
    /// HTTP filters in order, the router last.
    pub filters: Vec<HttpFilter>,
    /// What `server` says in responses.
    pub server: ServerHeader,
    /// What is added to `via` of requests and responses.
    pub via: Option<HeaderValue>,
    /// Who is believed to be the client.
    pub client: ClientRules,
    /// Ids of requests.
    pub request_id: RequestIdRules,
    /// How paths are normalised.
    pub path: PathRules,
    /// How hosts are normalised.
    pub host: HostRules,
    /// What is told of the client's certificate.
    pub client_cert: ClientCertRules,
    /// How long things may take.
    pub timeouts: ManagerTimeouts,
    /// How large heads may be.
    pub limits: HeadLimits,
    /// How HTTP/1 is spoken.
    pub http1: Http1Options,
    /// How HTTP/2 is spoken.
    pub http2: Http2Options,
    /// Which protocols a connection may be upgraded to, where a route says nothing else.
    pub upgrades: Upgrades,
    /// Is `expect: 100-continue` passed on? Otherwise it is answered here.
    pub passes_100_continue: bool,
    /// Fails an invalid message its stream only, where the codec's options do not say?
    pub stream_error_on_invalid: bool,
    /// Is `x-forwarded-port` set?
    pub appends_forwarded_port: bool,
    /// What becomes of `:scheme`.
    pub scheme: SchemeRule,
    /// How replies of the proxy's own look.
    pub local_replies: LocalReplies,
    /// Logs of requests.
    pub access_logs: Vec<AccessLog>,
    /// Long streams are logged again and again after so long.
    pub log_flush_interval: Option<Duration>,
    /// Streams are logged when they begin, too.
    pub logs_on_new_request: bool,
    /// They are logged when a tunnel is established, too.
    pub logs_on_tunnel: bool,
    /// What is traced.
    pub tracing: Option<Box<Tracing>>,
}

/// Which HTTP a manager reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// Either, by ALPN or the first bytes.
    Auto,
    /// HTTP/1 only.
    Http1,
    /// HTTP/2 only.
    Http2,
}

/// Where a manager's routes are.
#[derive(Clone, Debug)]
pub enum Routes {
    /// In the listener.
    Inline(Arc<RouteTable>),
    /// In the route configuration of this name.
    Named(String),
}

impl HttpManager {
    pub(crate) fn compile(proto: Proto) -> Result<HttpManager, Refusal> {
        check(&proto)?;
        let options = proto.access_log_options.unwrap_or_default();
        let HcmAccessLogOptions {
            access_log_flush_interval,
            flush_access_log_on_new_request,
            flush_log_on_tunnel_successfully_established,
        } = options;
        let common = proto.common_http_protocol_options.unwrap_or_default();
        let http1 = proto.http_protocol_options.as_ref().map(Http1Options::compile).transpose();
        let http2 = proto.http2_protocol_options.as_ref().map(Http2Options::compile).transpose();
        Ok(HttpManager {
            codec: match enumeration(proto.codec_type, "codec_type")? {
                CodecType::Auto => Codec::Auto,
                CodecType::Http1 => Codec::Http1,
                CodecType::Http2 => Codec::Http2,
                CodecType::Http3 => return Err(Refusal::unsupported("codec_type HTTP3")),
            },
            server: ServerHeader::compile(&proto)?,
            via: match proto.via.as_str() {
                "" => None,
                via => Some(header_value(via, "via")?),
            },
            client: ClientRules::compile(&proto)?,
            request_id: RequestIdRules::compile(&proto)?,
            path: PathRules::compile(&proto)?,
            host: HostRules::compile(&proto),
            client_cert: ClientCertRules::compile(&proto)?,
            timeouts: ManagerTimeouts::compile(&proto, &common)?,
            limits: HeadLimits::compile(&proto, &common)?,
            http1: http1.within(|| "http_protocol_options".to_owned())?.unwrap_or_default(),
            http2: http2.within(|| "http2_protocol_options".to_owned())?.unwrap_or_default(),
            upgrades: Upgrades::of_manager(&proto.upgrade_configs)?,
            passes_100_continue: proto.proxy_100_continue,
            stream_error_on_invalid: flag(proto.stream_error_on_invalid_http_message.as_ref(), false),
            appends_forwarded_port: proto.append_x_forwarded_port,
            scheme: SchemeRule::compile(proto.scheme_header_transformation.as_ref())?,
            local_replies: LocalReplies::compile(proto.local_reply_config.as_ref())
                .within(|| "local_reply_config".to_owned())?,
            access_logs: AccessLog::compile_all(&proto.access_log)?,
            log_flush_interval: time_limit(access_log_flush_interval.as_ref(), None)?,
            logs_on_new_request: flush_access_log_on_new_request,
            logs_on_tunnel: flush_log_on_tunnel_successfully_established,
            tracing: Tracing::compile(proto.tracing).within(|| "tracing".to_owned())?,
            filters: http_filter::compile(&proto.http_filters)?,
            routes: Routes::compile(proto.route_specifier)?,
            stat_prefix: proto.stat_prefix,
        })
    }
}

impl Routes {
    fn compile(specifier: Option<RouteSpecifier>) -> Result<Routes, Refusal> {
        match specifier {
            Some(RouteSpecifier::RouteConfig(routes)) => {
                RouteTable::compile(routes).map(|table| Routes::Inline(Arc::new(table)))
            }
            Some(RouteSpecifier::Rds(rds)) => Ok(Routes::Named(rds.route_config_name)),
            Some(RouteSpecifier::ScopedRoutes(_)) => Err(Refusal::unsupported("scoped_routes")),
            None => Err(Refusal::invalid("no routes")),
        }
    }
}

/// Which field meets which fate.
fn check(proto: &Proto) -> Result<(), Refusal> {
    fates!(proto: Proto {
        compiled:
            codec_type,
            stat_prefix,
            http_filters,
            route_specifier,
            tracing,
            common_http_protocol_options,
            http_protocol_options,
            http2_protocol_options,
            server_name,
            server_header_transformation,
            scheme_header_transformation,
            max_request_headers_kb,
            stream_idle_timeout,
            stream_flush_timeout,
            request_timeout,
            request_headers_timeout,
            drain_timeout,
            delayed_close_timeout,
            access_log,
            access_log_options,
            use_remote_address,
            xff_num_trusted_hops,
            internal_address_config,
            skip_xff_append,
            via,
            generate_request_id,
            preserve_external_request_id,
            always_set_request_id_in_response,
            forward_client_cert_details,
            set_current_client_cert_details,
            proxy_100_continue,
            upgrade_configs,
            normalize_path,
            merge_slashes,
            path_with_escaped_slashes_action,
            request_id_extension,
            local_reply_config,
            strip_matching_host_port,
            strip_port_mode,
            stream_error_on_invalid_http_message,
            strip_trailing_host_dot,
            append_x_forwarded_port;
        refused:
            add_user_agent,
            http1_safe_max_connection_duration,
            http3_protocol_options,
            drain_timeout_jitter,
            access_log_flush_interval,
            flush_access_log_on_new_request,
            original_ip_detection_extensions,
            early_header_mutation_extensions,
            forward_client_cert_matcher,
            represent_ipv4_remote_address_as_ipv4_mapped_ipv6,
            path_normalization_options,
            proxy_status_config,
            typed_header_validation_config,
            append_local_overload,
            add_proxy_protocol_connection_state,
            forward_proto_config;
    });
    Ok(())
}
