//! How HTTP is spoken to a cluster: the `HttpProtocolOptions` extension.

use std::collections::HashMap;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::{
    Http1ProtocolOptions, Http2ProtocolOptions, HttpProtocolOptions as CommonOptions,
    UpstreamHttpProtocolOptions,
};
use envoy_types::pb::envoy::extensions::filters::http::upstream_codec::v3::UpstreamCodec;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_filter::ConfigType;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::explicit_http_config::ProtocolConfig;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::{
    ExplicitHttpConfig, UpstreamProtocolOptions, UseDownstreamHttpConfig,
};
use envoy_types::pb::google::protobuf::Any;

use crate::proto::{number, time_limit};
use crate::refusal::{Within, is, unpack};
use crate::wire::bounded;
use crate::{Http1Options, Http2Options, Refusal};

/// Key of the extension in `typed_extension_protocol_options`.
const KEY: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
/// Envoy's default for `idle_timeout`.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3_600);
/// Envoy's default for `max_headers_count`.
const HEADERS_COUNT: u32 = 100;
/// Envoy's default for `max_response_headers_kb`.
const HEADERS_KILOBYTES: u32 = 60;
/// The most that `max_response_headers_kb` may be.
const HEADERS_KILOBYTES_MAX: u32 = 8_192;

/// How HTTP is spoken to a cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamHttp {
    /// Which HTTP.
    pub protocol: UpstreamProtocol,
    /// How, if it is HTTP/1.
    pub http1: Http1Options,
    /// How, if it is HTTP/2.
    pub http2: Http2Options,
    /// A connection without requests for so long is closed.
    pub idle_timeout: Option<Duration>,
    /// A connection takes no new requests after this, and is closed when it has none.
    pub max_connection_duration: Option<Duration>,
    /// Random addition to it, as a share of it (0 to 1).
    pub max_connection_duration_jitter: f64,
    /// Header fields of a response.
    pub max_headers_count: u32,
    /// Bytes of a response's headers.
    pub max_response_headers_bytes: usize,
    /// From a request's beginning to its end.
    pub max_stream_duration: Option<Duration>,
    /// Requests of a connection.
    pub max_requests_per_connection: Option<u32>,
    /// TLS names the server by the request's authority.
    pub auto_sni: bool,
    /// The server's certificate must be for that name.
    pub auto_san_validation: bool,
}

/// Which HTTP is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, known beforehand.
    Http2,
    /// The client's.
    Downstream,
}

impl Default for UpstreamHttp {
    fn default() -> UpstreamHttp {
        UpstreamHttp {
            protocol: UpstreamProtocol::Http1,
            http1: Http1Options::default(),
            http2: Http2Options::default(),
            idle_timeout: Some(IDLE_TIMEOUT),
            max_connection_duration: None,
            max_connection_duration_jitter: 0.0,
            max_headers_count: HEADERS_COUNT,
            max_response_headers_bytes: kilobytes(HEADERS_KILOBYTES),
            max_stream_duration: None,
            max_requests_per_connection: None,
            auto_sni: false,
            auto_san_validation: false,
        }
    }
}

impl UpstreamHttp {
    /// Reads the extension; any other is refused. `old_requests_limit` is the cluster's own field, which this one replaces.
    pub(super) fn compile(
        extensions: &HashMap<String, Any>,
        old_requests_limit: Option<u32>,
    ) -> Result<UpstreamHttp, Refusal> {
        let mut unknown: Vec<&String> = extensions.keys().filter(|key| *key != KEY).collect();
        unknown.sort();
        if let Some(key) = unknown.first() {
            return Err(Refusal::unsupported(key.as_str()));
        }
        let mut options = match extensions.get(KEY) {
            None => UpstreamHttp::default(),
            Some(any) if is::<HttpProtocolOptions>(any) => compile(&unpack(any)?)?,
            Some(any) => return Err(Refusal::unsupported(format!("{KEY} of type {}", any.type_url))),
        };
        options.max_requests_per_connection = options.max_requests_per_connection.or(old_requests_limit);
        Ok(options)
    }
}

fn compile(proto: &HttpProtocolOptions) -> Result<UpstreamHttp, Refusal> {
    let HttpProtocolOptions {
        common_http_protocol_options,
        upstream_http_protocol_options,
        http_filters,
        header_validation_config,
        outlier_detection,
        request_mirror_policies,
        hash_policy,
        retry_policy,
        upstream_protocol_options,
    } = proto;
    refuse_if_set!(
        header_validation_config,
        outlier_detection,
        request_mirror_policies,
        hash_policy,
        retry_policy
    );
    for filter in http_filters {
        // The codec is what there is without any filter.
        match &filter.config_type {
            Some(ConfigType::TypedConfig(config)) if is::<UpstreamCodec>(config) => {}
            _ => return Err(Refusal::unsupported(format!("http_filters {}", filter.name))),
        }
    }
    let (protocol, http1, http2) = spoken(upstream_protocol_options.as_ref())?;
    let mut options = UpstreamHttp { protocol, http1, http2, ..UpstreamHttp::default() };
    if let Some(common) = common_http_protocol_options {
        apply(&mut options, common).within(|| "common_http_protocol_options".into())?;
    }
    if let Some(upstream) = upstream_http_protocol_options {
        let UpstreamHttpProtocolOptions { auto_sni, auto_san_validation, override_auto_sni_header } =
            upstream;
        refuse_if_set!(override_auto_sni_header);
        options.auto_sni = *auto_sni;
        options.auto_san_validation = *auto_san_validation;
    }
    Ok(options)
}

type Spoken = (UpstreamProtocol, Http1Options, Http2Options);

fn spoken(proto: Option<&UpstreamProtocolOptions>) -> Result<Spoken, Refusal> {
    match proto {
        Some(UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig { protocol_config })) => {
            match protocol_config {
                Some(ProtocolConfig::HttpProtocolOptions(http1)) => {
                    Ok((UpstreamProtocol::Http1, of_http1(Some(http1))?, Http2Options::default()))
                }
                Some(ProtocolConfig::Http2ProtocolOptions(http2)) => {
                    Ok((UpstreamProtocol::Http2, Http1Options::default(), of_http2(Some(http2))?))
                }
                Some(ProtocolConfig::Http3ProtocolOptions(_)) => {
                    Err(Refusal::unsupported("http3_protocol_options"))
                }
                None => Err(Refusal::invalid("explicit_http_config without a protocol")),
            }
        }
        Some(UpstreamProtocolOptions::UseDownstreamProtocolConfig(config)) => {
            let UseDownstreamHttpConfig {
                http_protocol_options,
                http2_protocol_options,
                http3_protocol_options,
            } = config;
            refuse_if_set!(http3_protocol_options);
            let http1 = of_http1(http_protocol_options.as_ref())?;
            Ok((UpstreamProtocol::Downstream, http1, of_http2(http2_protocol_options.as_ref())?))
        }
        // Chosen by ALPN: comes with TLS.
        Some(UpstreamProtocolOptions::AutoConfig(_)) => Err(Refusal::unsupported("auto_config")),
        None => Err(Refusal::invalid("no upstream_protocol_options")),
    }
}

fn of_http1(proto: Option<&Http1ProtocolOptions>) -> Result<Http1Options, Refusal> {
    let options = proto.map(Http1Options::compile).transpose();
    options.map(Option::unwrap_or_default).within(|| "http_protocol_options".into())
}

fn of_http2(proto: Option<&Http2ProtocolOptions>) -> Result<Http2Options, Refusal> {
    let options = proto.map(Http2Options::compile).transpose();
    options.map(Option::unwrap_or_default).within(|| "http2_protocol_options".into())
}

fn apply(options: &mut UpstreamHttp, common: &CommonOptions) -> Result<(), Refusal> {
    let CommonOptions {
        idle_timeout,
        max_connection_duration,
        max_connection_duration_jitter,
        max_headers_count,
        max_response_headers_kb,
        max_stream_duration,
        // Of requests only, by Envoy's words; a response's names are taken as they come.
        headers_with_underscores_action,
        max_requests_per_connection,
    } = common;
    refuse_if_set!(headers_with_underscores_action);
    options.idle_timeout = time_limit(idle_timeout.as_ref(), Some(IDLE_TIMEOUT))?;
    options.max_connection_duration = time_limit(max_connection_duration.as_ref(), None)?;
    let jitter =
        crate::wire::percent("max_connection_duration_jitter", max_connection_duration_jitter.as_ref())?;
    options.max_connection_duration_jitter = jitter.unwrap_or(0.0) / 100.0;
    let count = bounded("max_headers_count", max_headers_count.as_ref(), 1..=u32::MAX)?;
    options.max_headers_count = count.unwrap_or(HEADERS_COUNT);
    let size =
        bounded("max_response_headers_kb", max_response_headers_kb.as_ref(), 1..=HEADERS_KILOBYTES_MAX)?;
    options.max_response_headers_bytes = kilobytes(size.unwrap_or(HEADERS_KILOBYTES));
    options.max_stream_duration = time_limit(max_stream_duration.as_ref(), None)?;
    options.max_requests_per_connection =
        number(max_requests_per_connection.as_ref()).filter(|limit| *limit > 0);
    Ok(())
}

fn kilobytes(number: u32) -> usize {
    number as usize * 1_024
}
