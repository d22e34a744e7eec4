//! Peer metadata: how proxies tell each other who they are, in headers of HTTP (`io.istio.http.peer_metadata`) and in front of
//! a connection's bytes (`envoy.filters.network.metadata_exchange`).

use envoy_types::pb::google::protobuf::Any;
use prost::Name as _;

use super::proto::{
    Discovery, DiscoveryMethod, MetadataExchangeConfig, PeerConfig, Propagation, PropagationMethod,
    Strict as _,
};
use crate::Refusal;

/// How a proxy learns of peers over HTTP, and tells them of itself.
///
/// Looking a peer up by its address finds none: workloads are not discovered. It is accepted all the same, because Istio asks for it wherever it asks for headers.
#[derive(Clone, Debug, Default)]
pub struct PeerMetadata {
    /// Clients tell themselves in headers of requests.
    pub reads_requests: bool,
    /// Servers tell themselves in headers of responses.
    pub reads_responses: bool,
    /// Servers are told.
    pub tells_servers: Option<Telling>,
    /// Clients are told, if they told themselves.
    pub tells_clients: Option<Telling>,
    /// Labels that are told besides the usual ones.
    pub labels: Vec<String>,
}

/// To whom a proxy tells itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Telling {
    /// Not to clusters outside the mesh.
    pub skips_external: bool,
}

impl PeerMetadata {
    /// Whether this is the message of the filter.
    pub(crate) fn is(config: &Any) -> bool {
        config.type_url == PeerConfig::type_url()
    }

    pub(crate) fn compile(config: &Any) -> Result<PeerMetadata, Refusal> {
        let PeerConfig {
            downstream_discovery,
            upstream_discovery,
            downstream_propagation,
            upstream_propagation,
            // Connections of the proxy to itself, which would see it, are not there.
            shared_with_upstream: _,
            additional_labels,
        } = PeerConfig::read(&config.value)?;
        Ok(PeerMetadata {
            reads_requests: reads(&downstream_discovery, "downstream_discovery")?,
            reads_responses: reads(&upstream_discovery, "upstream_discovery")?,
            tells_servers: tells(&upstream_propagation, "upstream_propagation")?,
            tells_clients: tells(&downstream_propagation, "downstream_propagation")?,
            labels: additional_labels,
        })
    }
}

fn reads(methods: &[DiscoveryMethod], field: &str) -> Result<bool, Refusal> {
    let mut reads = false;
    for DiscoveryMethod { method } in methods {
        match method {
            Some(Discovery::Headers(_)) => reads = true,
            Some(Discovery::Workload(_)) => {}
            Some(Discovery::Baggage(_)) => return Err(Refusal::unsupported(format!("{field}: baggage"))),
            None => return Err(Refusal::unsupported(format!("{field}: a method that is not known"))),
        }
    }
    Ok(reads)
}

fn tells(methods: &[PropagationMethod], field: &str) -> Result<Option<Telling>, Refusal> {
    let mut telling = None;
    for PropagationMethod { method } in methods {
        match method {
            Some(Propagation::Headers(headers)) => {
                telling = Some(Telling { skips_external: headers.skip_external_clusters });
            }
            None => return Err(Refusal::unsupported(format!("{field}: a method that is not known"))),
        }
    }
    Ok(telling)
}

/// How a proxy learns of peers over TCP.
///
/// Peers tell themselves where both have agreed on [`MetadataExchange::protocol`] by ALPN, so over TLS alone. Elsewhere
/// it is decided at once that nothing is known of the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataExchange {
    /// The application protocol that stands for it.
    pub protocol: String,
    /// Labels that are told besides the usual ones.
    pub labels: Vec<String>,
}

impl MetadataExchange {
    /// Whether this is the message of the filter.
    pub(crate) fn is(config: &Any) -> bool {
        config.type_url == MetadataExchangeConfig::type_url()
    }

    pub(crate) fn compile(config: &Any) -> Result<MetadataExchange, Refusal> {
        let MetadataExchangeConfig {
            protocol,
            // There is nothing to look a workload up in.
            enable_discovery: _,
            additional_labels,
        } = MetadataExchangeConfig::read(&config.value)?;
        Ok(MetadataExchange { protocol, labels: additional_labels })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any(type_url: String, json: serde_json::Value) -> Any {
        let value = ostro_envoy_json::to_wire(&type_url, &json, ostro_envoy_json::Unknown::Refuse).unwrap();
        Any { type_url, value }
    }

    #[test]
    fn what_istio_sends_to_a_client_is_read() {
        let config = serde_json::json!({
            "upstream_discovery": [{"istio_headers": {}}, {"workload_discovery": {}}],
            "upstream_propagation": [{"istio_headers": {"skip_external_clusters": true}}],
            "additional_labels": ["role"],
        });
        let peer = PeerMetadata::compile(&any(PeerConfig::type_url(), config)).unwrap();
        assert!(peer.reads_responses && !peer.reads_requests && peer.tells_clients.is_none());
        assert_eq!(peer.tells_servers, Some(Telling { skips_external: true }));
        assert_eq!(peer.labels, ["role"]);
    }

    #[test]
    fn methods_that_are_not_there_are_refused_by_name() {
        let config = serde_json::json!({"downstream_discovery": [{"baggage": {}}]});
        let refusal = PeerMetadata::compile(&any(PeerConfig::type_url(), config)).unwrap_err().to_string();
        assert_eq!(refusal, "not supported: downstream_discovery: baggage");
        let mut unknown = any(PeerConfig::type_url(), serde_json::json!({}));
        // A method of field number 9.
        unknown.value = vec![0x12, 2, 0x4a, 0];
        assert!(PeerMetadata::compile(&unknown).unwrap_err().to_string().contains("upstream_discovery"));
    }

    #[test]
    fn what_istio_sends_for_connections_is_read() {
        let config = serde_json::json!({"protocol": "istio-peer-exchange", "enable_discovery": true});
        let exchange = MetadataExchange::compile(&any(MetadataExchangeConfig::type_url(), config)).unwrap();
        assert_eq!(exchange.protocol, "istio-peer-exchange");
    }
}
