//! Messages of Istio's filters, which `envoy-types` lacks. Names and numbers are those of Istio's API; the same, as
//! text, are in the folder `proto` of `envoy-json`.

use std::collections::HashMap;

use envoy_types::pb::google::protobuf::Duration;
use prost::encoding::{DecodeContext, decode_key, skip_field};
use prost::{Message, Name};

use crate::Refusal;

/// A message of which it is known which fields it has: a field that it lacks is refused, not passed over.
pub(super) trait Strict: Message + Name + Default {
    /// Numbers of its fields.
    const FIELDS: &'static [u32];

    /// Reads it.
    fn read(bytes: &[u8]) -> Result<Self, Refusal> {
        let invalid = |error: prost::DecodeError| Refusal::invalid(format!("{}: {error}", Self::full_name()));
        let mut rest = bytes;
        while !rest.is_empty() {
            let (field, wire_type) = decode_key(&mut rest).map_err(invalid)?;
            if !Self::FIELDS.contains(&field) {
                return Err(Refusal::unsupported(format!("{}: field number {field}", Self::full_name())));
            }
            skip_field(wire_type, field, &mut rest, DecodeContext::default()).map_err(invalid)?;
        }
        Self::decode(bytes).map_err(invalid)
    }
}

macro_rules! named {
    ($message:ident, $package:literal, $name:literal, [$($field:literal),*]) => {
        impl Name for $message {
            const NAME: &'static str = $name;
            const PACKAGE: &'static str = $package;

            fn type_url() -> String {
                concat!("type.googleapis.com/", $package, ".", $name).to_owned()
            }
        }

        impl Strict for $message {
            const FIELDS: &'static [u32] = &[$($field),*];
        }
    };
}

/// `stats.PluginConfig`
#[derive(Clone, PartialEq, Message)]
pub(super) struct PluginConfig {
    #[prost(bool, tag = "6")]
    pub disable_host_header_fallback: bool,
    #[prost(message, optional, tag = "7")]
    pub tcp_reporting_duration: Option<Duration>,
    #[prost(message, repeated, tag = "8")]
    pub metrics: Vec<MetricConfig>,
    #[prost(message, repeated, tag = "9")]
    pub definitions: Vec<MetricDefinition>,
    #[prost(enumeration = "ReporterKind", tag = "10")]
    pub reporter: i32,
    #[prost(message, optional, tag = "11")]
    pub rotation_interval: Option<Duration>,
    #[prost(message, optional, tag = "12")]
    pub graceful_deletion_interval: Option<Duration>,
}
named!(PluginConfig, "stats", "PluginConfig", [6, 7, 8, 9, 10, 11, 12]);

/// `stats.MetricConfig`
#[derive(Clone, PartialEq, Message)]
pub(super) struct MetricConfig {
    #[prost(map = "string, string", tag = "1")]
    pub dimensions: HashMap<String, String>,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(string, repeated, tag = "3")]
    pub tags_to_remove: Vec<String>,
    #[prost(string, tag = "4")]
    pub r#match: String,
    #[prost(bool, tag = "5")]
    pub drop: bool,
}

/// `stats.MetricDefinition`
#[derive(Clone, PartialEq, Message)]
pub(super) struct MetricDefinition {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub value: String,
    #[prost(int32, tag = "3")]
    pub r#type: i32,
}

/// `stats.Reporter`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(super) enum ReporterKind {
    Unspecified = 0,
    ServerGateway = 1,
}

/// `io.istio.http.peer_metadata.Config`
#[derive(Clone, PartialEq, Message)]
pub(super) struct PeerConfig {
    #[prost(message, repeated, tag = "1")]
    pub downstream_discovery: Vec<DiscoveryMethod>,
    #[prost(message, repeated, tag = "2")]
    pub upstream_discovery: Vec<DiscoveryMethod>,
    #[prost(message, repeated, tag = "3")]
    pub downstream_propagation: Vec<PropagationMethod>,
    #[prost(message, repeated, tag = "4")]
    pub upstream_propagation: Vec<PropagationMethod>,
    #[prost(bool, tag = "5")]
    pub shared_with_upstream: bool,
    #[prost(string, repeated, tag = "6")]
    pub additional_labels: Vec<String>,
}
named!(PeerConfig, "io.istio.http.peer_metadata", "Config", [1, 2, 3, 4, 5, 6]);

/// `io.istio.http.peer_metadata.Config.DiscoveryMethod`: none of these, if it is one that is not known.
#[derive(Clone, PartialEq, Message)]
pub(super) struct DiscoveryMethod {
    #[prost(oneof = "Discovery", tags = "1, 2, 3")]
    pub method: Option<Discovery>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Discovery {
    #[prost(message, tag = "1")]
    Baggage(Empty),
    #[prost(message, tag = "2")]
    Workload(Empty),
    #[prost(message, tag = "3")]
    Headers(IstioHeaders),
}

/// `io.istio.http.peer_metadata.Config.PropagationMethod`: none of these, if it is one that is not known.
#[derive(Clone, PartialEq, Message)]
pub(super) struct PropagationMethod {
    #[prost(oneof = "Propagation", tags = "1")]
    pub method: Option<Propagation>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Propagation {
    #[prost(message, tag = "1")]
    Headers(IstioHeaders),
}

/// `io.istio.http.peer_metadata.Config.IstioHeaders`
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct IstioHeaders {
    #[prost(bool, tag = "1")]
    pub skip_external_clusters: bool,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Empty {}

/// `envoy.tcp.metadataexchange.config.MetadataExchange`
#[derive(Clone, PartialEq, Message)]
pub(super) struct MetadataExchangeConfig {
    #[prost(string, tag = "1")]
    pub protocol: String,
    #[prost(bool, tag = "2")]
    pub enable_discovery: bool,
    #[prost(string, repeated, tag = "3")]
    pub additional_labels: Vec<String>,
}
named!(MetadataExchangeConfig, "envoy.tcp.metadataexchange.config", "MetadataExchange", [1, 2, 3]);

/// `istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig`
#[derive(Clone, PartialEq, Message)]
pub(super) struct AlpnConfig {
    #[prost(message, repeated, tag = "1")]
    pub alpn_override: Vec<AlpnOverride>,
}
named!(AlpnConfig, "istio.envoy.config.filter.http.alpn.v2alpha1", "FilterConfig", [1]);

/// `istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig.AlpnOverride`
#[derive(Clone, PartialEq, Message)]
pub(super) struct AlpnOverride {
    #[prost(enumeration = "AlpnProtocol", tag = "1")]
    pub upstream_protocol: i32,
    #[prost(string, repeated, tag = "2")]
    pub alpn_override: Vec<String>,
}

/// `istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig.Protocol`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(super) enum AlpnProtocol {
    Http10 = 0,
    Http11 = 1,
    Http2 = 2,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_a_message_lacks_is_refused() {
        let config = PeerConfig { additional_labels: vec!["role".to_owned()], ..Default::default() };
        assert_eq!(PeerConfig::read(&config.encode_to_vec()).unwrap(), config);
        let refusal = PeerConfig::read(&[0x38, 1]).unwrap_err().to_string();
        assert_eq!(refusal, "not supported: io.istio.http.peer_metadata.Config: field number 7");
        assert!(PeerConfig::read(&[0xff]).is_err());
    }
}
