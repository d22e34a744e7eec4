//! `istio.alpn`: which application protocols an upstream connection offers, by the HTTP that is spoken on it.
//!
//! It matters where connections are TLS. Until they are, the table is read and held to its rules.

use envoy_types::pb::google::protobuf::Any;
use prost::Name as _;

use super::proto::{AlpnConfig, AlpnOverride, AlpnProtocol, Strict as _};
use crate::proto::enumeration;
use crate::{Protocol, Refusal};

/// Application protocols by HTTP protocol.
#[derive(Clone, Debug, Default)]
pub struct Alpn(Vec<(Protocol, Vec<String>)>);

impl Alpn {
    /// Whether this is the message of the filter.
    pub(crate) fn is(config: &Any) -> bool {
        config.type_url == AlpnConfig::type_url()
    }

    pub(crate) fn compile(config: &Any) -> Result<Alpn, Refusal> {
        let AlpnConfig { alpn_override } = AlpnConfig::read(&config.value)?;
        let mut table: Vec<(Protocol, Vec<String>)> = Vec::new();
        for AlpnOverride { upstream_protocol, alpn_override } in alpn_override {
            let protocol = match enumeration(upstream_protocol, "upstream_protocol")? {
                AlpnProtocol::Http10 => Protocol::Http10,
                AlpnProtocol::Http11 => Protocol::Http11,
                AlpnProtocol::Http2 => Protocol::Http2,
            };
            // Of several for one protocol the first holds, as in Istio.
            if table.iter().all(|(known, _)| *known != protocol) {
                table.push((protocol, alpn_override));
            }
        }
        Ok(Alpn(table))
    }

    /// What is offered where this is spoken; nothing: what the cluster says.
    pub fn offered(&self, protocol: Protocol) -> &[String] {
        self.0
            .iter()
            .find(|(known, _)| *known == protocol)
            .map(|(_, offered)| &offered[..])
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_have_their_own() {
        let json = serde_json::json!({"alpn_override": [
            {"alpn_override": ["istio-http/1.0", "istio"]},
            {"upstream_protocol": "HTTP2", "alpn_override": ["istio-h2", "istio", "h2"]},
            {"upstream_protocol": "HTTP2", "alpn_override": ["late"]},
        ]});
        let type_url = AlpnConfig::type_url();
        let value = ostro_envoy_json::to_wire(&type_url, &json, ostro_envoy_json::Unknown::Refuse).unwrap();
        let any = Any { type_url, value };
        assert!(Alpn::is(&any));
        let alpn = Alpn::compile(&any).unwrap();
        assert_eq!(alpn.offered(Protocol::Http2), ["istio-h2", "istio", "h2"]);
        assert_eq!(alpn.offered(Protocol::Http10), ["istio-http/1.0", "istio"]);
        assert!(alpn.offered(Protocol::Http11).is_empty());
    }
}
