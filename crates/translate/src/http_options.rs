//! How a cluster speaks HTTP: the typed protocol options, which replace Envoy's deprecated fields of the cluster.

use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::{
    Http1ProtocolOptions, Http2ProtocolOptions, HttpProtocolOptions as CommonOptions, KeepaliveSettings,
    UpstreamHttpProtocolOptions,
};
use envoy_types::pb::envoy::extensions::upstreams::http::v3::{
    HttpProtocolOptions,
    http_protocol_options::{
        ExplicitHttpConfig, UpstreamProtocolOptions, UseDownstreamHttpConfig,
        explicit_http_config::ProtocolConfig,
    },
};
use envoy_types::pb::google::protobuf::Any;
use ostro_api::destination_rule::{ConnectionPoolSettings, H2UpgradePolicy, HttpSettings};
use ostro_api::mesh_config::MeshH2UpgradePolicy;
use ostro_mesh::View;
use ostro_mesh::model::{ListenerClass, Protocol};

use crate::encode::{any, duration, number};

/// Key of these options in `typed_extension_protocol_options`.
pub const KEY: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// Connections of the passthrough clusters are closed after this long without a request.
const PASSTHROUGH_IDLE: Duration = Duration::from_secs(300);

/// Most streams of a connection that HTTP/2 can say.
const STREAMS_MAX: u32 = (1 << 31) - 1;

/// How long an HTTP/2 PING may go unanswered where the rule does not say.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Which HTTP is spoken upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    Http1,
    Http2,
    /// The client's.
    Downstream,
}

/// Options of a cluster, gathered before they are encoded.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    pub version: Version,
    common: CommonOptions,
    http2: Http2ProtocolOptions,
    upstream: Option<UpstreamHttpProtocolOptions>,
}

impl Options {
    /// Options of a cluster for a port of this protocol under this connection pool.
    pub fn outbound(view: &View<'_>, protocol: Protocol, pool: Option<&ConnectionPoolSettings>) -> Self {
        let http = pool.and_then(|pool| pool.http.as_ref());
        let tcp = pool.and_then(|pool| pool.tcp.as_ref());
        let common = CommonOptions {
            idle_timeout: http.and_then(|http| http.idle_timeout).and_then(duration),
            max_connection_duration: tcp.and_then(|tcp| tcp.max_connection_duration).and_then(duration),
            max_requests_per_connection: http
                .map(|http| http.max_requests_per_connection)
                .filter(|limit| *limit > 0)
                .and_then(number),
            ..Default::default()
        };
        let http2 = http.map(http2_options).unwrap_or_default();
        Options { version: version(view, protocol, http), common, http2, upstream: None }
    }

    /// Options of the clusters that keep the original destination.
    pub fn passthrough() -> Self {
        let common = CommonOptions { idle_timeout: duration(PASSTHROUGH_IDLE), ..Default::default() };
        Options { version: Version::Downstream, common, http2: Default::default(), upstream: None }
    }

    /// Options of an inbound cluster.
    pub fn inbound(protocol: Protocol) -> Self {
        let version = match protocol {
            protocol if protocol.is_http2() => Version::Http2,
            Protocol::Auto => Version::Downstream,
            _ => Version::Http1,
        };
        Options { version, common: Default::default(), http2: Default::default(), upstream: None }
    }

    /// Takes the server name of upstream TLS from the request's authority, and if `validate`, demands that the
    /// server's certificate is for it.
    pub fn server_name_from_request(&mut self, validate: bool) {
        self.upstream = Some(UpstreamHttpProtocolOptions {
            auto_sni: true,
            auto_san_validation: validate,
            ..Default::default()
        });
    }

    /// The encoded options; `None` if they are Envoy's defaults.
    pub fn encode(&self) -> Option<Any> {
        let is_default = self.common == CommonOptions::default() && self.upstream.is_none();
        if self.version == Version::Http1 && is_default {
            return None;
        }
        let http1 = Http1ProtocolOptions::default();
        let explicit = |config| {
            UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig { protocol_config: Some(config) })
        };
        let protocol = match self.version {
            Version::Http1 => explicit(ProtocolConfig::HttpProtocolOptions(http1)),
            Version::Http2 => explicit(ProtocolConfig::Http2ProtocolOptions(self.http2.clone())),
            Version::Downstream => {
                UpstreamProtocolOptions::UseDownstreamProtocolConfig(UseDownstreamHttpConfig {
                    http_protocol_options: Some(http1),
                    http2_protocol_options: Some(self.http2.clone()),
                    http3_protocol_options: None,
                })
            }
        };
        let common = (self.common != CommonOptions::default()).then_some(self.common);
        Some(any(&HttpProtocolOptions {
            common_http_protocol_options: common,
            upstream_http_protocol_options: self.upstream.clone(),
            upstream_protocol_options: Some(protocol),
            ..Default::default()
        }))
    }
}

fn http2_options(http: &HttpSettings) -> Http2ProtocolOptions {
    Http2ProtocolOptions {
        max_concurrent_streams: Some(http.max_concurrent_streams.min(STREAMS_MAX))
            .filter(|limit| *limit > 0)
            .and_then(number),
        connection_keepalive: http.http2_keep_alive.as_ref().and_then(|keepalive| {
            Some(KeepaliveSettings {
                interval: duration(keepalive.interval?),
                // Envoy demands one.
                timeout: duration(keepalive.timeout.unwrap_or(PING_TIMEOUT)),
                ..Default::default()
            })
        }),
        ..Default::default()
    }
}

fn version(view: &View<'_>, protocol: Protocol, http: Option<&HttpSettings>) -> Version {
    if http.is_some_and(|http| http.use_client_protocol) {
        return Version::Downstream;
    }
    if protocol.is_http2() {
        return Version::Http2;
    }
    if protocol.class() == Some(ListenerClass::Http) && upgrades(view, http) {
        return Version::Http2;
    }
    match protocol {
        // Only a sidecar hears what its client speaks; a gateway's clients say nothing about the service behind.
        Protocol::Auto if view.kind() == ostro_mesh::ProxyKind::Sidecar => Version::Downstream,
        _ => Version::Http1,
    }
}

fn upgrades(view: &View<'_>, http: Option<&HttpSettings>) -> bool {
    match http.map(|http| http.h2_upgrade_policy).unwrap_or_default() {
        H2UpgradePolicy::Upgrade => true,
        H2UpgradePolicy::DoNotUpgrade => false,
        H2UpgradePolicy::Default => view.mesh_config().h2_upgrade_policy == MeshH2UpgradePolicy::Upgrade,
    }
}
