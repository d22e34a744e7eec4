//! An xDS node to a [`Proxy`]: the four parts of its id (`type~ip~pod.namespace~domain`), and metadata by Istio's keys.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::google::protobuf::Struct;
use envoy_types::pb::google::protobuf::value::Kind;
use ostro_mesh::model::{Labels, Locality};
use ostro_mesh::{Proxy, ProxyKind};
use ostro_names::{Name, NameError, Namespace};

/// Why a node is not one that can be served. The proxy's bootstrap is at fault; retrying does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The first request of the stream carries none.
    #[error("the first request carries no node")]
    Missing,
    /// An id or a place that nobody would write.
    #[error("an id or place of {bytes} bytes; {NODE_BYTES} at most")]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// Not four parts.
    #[error("node id {0:?} is not of the form type~ip~id~domain")]
    Id(String),
    /// A type that is not served.
    #[error("node type {0:?} is not served; served are sidecar and router")]
    Kind(String),
    /// No usable address.
    #[error("node id {id:?} has no usable address: {found:?}")]
    Address {
        /// The node id.
        id: String,
        /// The part that should be an address.
        found: String,
    },
    /// The namespace is in neither the metadata, the id nor the domain.
    #[error("node id {0:?} tells no namespace")]
    Namespace(String),
    /// A name that is refused.
    #[error("a name of node {id:?}: {error}")]
    Name {
        /// The node id.
        id: String,
        /// What is wrong with it.
        error: NameError,
    },
}

/// Bytes of a node's id and of each part of its place: an id is a few DNS names.
const NODE_BYTES: usize = 2_048;
/// Metadata keys kept of one node, and bytes of one value: what generators ask for is short.
const METADATA_KEYS: usize = 256;
const METADATA_BYTES: usize = 16 << 10;
/// Extensions kept of one node; Envoy 1.40 has about 600.
const EXTENSIONS: usize = 4_096;

/// Reads a node. Unknown metadata is kept, not judged.
pub fn proxy(node: Option<&Node>) -> Result<Proxy, NodeError> {
    let node = node.ok_or(NodeError::Missing)?;
    let place = node.locality.clone().unwrap_or_default();
    // What is asked of a proxy becomes a name, and names are for ever.
    for text in [&node.id, &place.region, &place.zone, &place.sub_zone] {
        if text.len() > NODE_BYTES {
            return Err(NodeError::TooLong { bytes: text.len() });
        }
    }
    let parts: Vec<&str> = node.id.split('~').collect();
    let [kind, address, id, domain] = parts[..] else { return Err(NodeError::Id(node.id.clone())) };
    let kind = match kind {
        "sidecar" => ProxyKind::Sidecar,
        "router" => ProxyKind::Router,
        other => return Err(NodeError::Kind(other.to_owned())),
    };
    let metadata = strings(node.metadata.as_ref());
    let named = |key: &str| metadata.get(key).map(String::as_str).filter(|text| !text.is_empty());
    let name =
        |text: &str| Name::try_new(text).map_err(|error| NodeError::Name { id: node.id.clone(), error });
    let namespace = named("NAMESPACE")
        .or_else(|| id.rsplit_once('.').map(|(_, namespace)| namespace))
        .or_else(|| domain.split_once(".svc").map(|(namespace, _)| namespace))
        .filter(|text| !text.is_empty())
        .ok_or_else(|| NodeError::Namespace(node.id.clone()))?;
    let namespace =
        Namespace::try_new(namespace).map_err(|error| NodeError::Name { id: node.id.clone(), error })?;
    Ok(Proxy {
        kind,
        id: node.id.clone(),
        addresses: addresses(&node.id, address, named("INSTANCE_IPS"))?,
        namespace,
        dns_domain: domain.to_owned(),
        labels: labels(node.metadata.as_ref()),
        locality: Locality { region: place.region, zone: place.zone, subzone: place.sub_zone },
        service_account: named("SERVICE_ACCOUNT").map(name).transpose()?,
        cluster_id: named("CLUSTER_ID").map(name).transpose()?,
        extensions: extensions(node),
        metadata,
    })
}

/// The id's address first, then those of `INSTANCE_IPS`, each once.
fn addresses(id: &str, primary: &str, others: Option<&str>) -> Result<Vec<IpAddr>, NodeError> {
    let texts = std::iter::once(primary).chain(others.into_iter().flat_map(|list| list.split(',')));
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in texts.filter_map(|text| text.trim().parse().ok()) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        return Err(NodeError::Address { id: id.to_owned(), found: primary.to_owned() });
    }
    Ok(addresses)
}

fn strings(metadata: Option<&Struct>) -> BTreeMap<String, String> {
    let fields = metadata.map(|metadata| metadata.fields.iter()).into_iter().flatten();
    // Sorted before it is cut, so that the same node always keeps the same keys.
    let sorted: BTreeMap<&String, &String> = fields
        .filter_map(|(key, value)| match &value.kind {
            Some(Kind::StringValue(text)) if text.len() <= METADATA_BYTES => Some((key, text)),
            _ => None,
        })
        .collect();
    sorted.into_iter().take(METADATA_KEYS).map(|(key, text)| (key.clone(), text.clone())).collect()
}

fn labels(metadata: Option<&Struct>) -> Labels {
    let labels = metadata.and_then(|metadata| metadata.fields.get("LABELS"));
    let Some(Kind::StructValue(labels)) = labels.and_then(|labels| labels.kind.as_ref()) else {
        return Labels::default();
    };
    strings(Some(labels))
}

fn extensions(node: &Node) -> BTreeSet<String> {
    let enabled = node.extensions.iter().filter(|extension| !extension.disabled);
    enabled.take(EXTENSIONS).map(|extension| extension.name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use envoy_types::pb::google::protobuf::Value;

    fn text(value: &str) -> Value {
        Value { kind: Some(Kind::StringValue(value.into())) }
    }

    fn node(id: &str, metadata: &[(&str, Value)]) -> Node {
        let fields = metadata.iter().map(|(key, value)| (key.to_string(), value.clone())).collect();
        Node { id: id.into(), metadata: Some(Struct { fields }), ..Node::default() }
    }

    #[test]
    fn a_sidecar_is_read_whole() {
        let labels = Struct { fields: [("app".to_owned(), text("reviews"))].into() };
        let node = node(
            "sidecar~10.1.0.5~reviews-1.shop~shop.svc.cluster.local",
            &[
                ("NAMESPACE", text("shop")),
                ("INSTANCE_IPS", text("10.1.0.5,fd00::5")),
                ("SERVICE_ACCOUNT", text("reviews")),
                ("LABELS", Value { kind: Some(Kind::StructValue(labels)) }),
                ("SOMETHING_NEW", text("kept")),
            ],
        );
        let proxy = proxy(Some(&node)).unwrap();
        assert_eq!(proxy.kind, ProxyKind::Sidecar);
        assert_eq!(proxy.addresses, ["10.1.0.5".parse::<IpAddr>().unwrap(), "fd00::5".parse().unwrap()]);
        assert_eq!(proxy.namespace, Namespace::new("shop"));
        assert_eq!(proxy.dns_domain, "shop.svc.cluster.local");
        assert_eq!(proxy.labels["app"], "reviews");
        assert_eq!(proxy.service_account, Some(Name::new("reviews")));
        assert_eq!(proxy.metadata["SOMETHING_NEW"], "kept");
    }

    #[test]
    fn the_namespace_is_in_the_metadata_or_the_id_or_the_domain() {
        for (id, expected) in [
            ("sidecar~10.0.0.1~web-1.from-id~from-domain.svc.cluster.local", "from-id"),
            ("sidecar~10.0.0.1~web-1~from-domain.svc.cluster.local", "from-domain"),
        ] {
            assert_eq!(proxy(Some(&node(id, &[]))).unwrap().namespace, Namespace::new(expected));
            let said = node(id, &[("NAMESPACE", text("said"))]);
            assert_eq!(proxy(Some(&said)).unwrap().namespace, Namespace::new("said"));
        }
    }

    #[test]
    fn a_node_that_says_too_much_is_refused() {
        let domain = "x".repeat(NODE_BYTES);
        let refused = |node: &Node| matches!(proxy(Some(node)), Err(NodeError::TooLong { .. }));
        assert!(refused(&node(&format!("sidecar~10.0.0.1~web.ns~{domain}"), &[])));
        let mut far = node("sidecar~10.0.0.1~web.ns~ns.svc.cluster.local", &[]);
        let place = envoy_types::pb::envoy::config::core::v3::Locality {
            zone: "z".repeat(NODE_BYTES + 1),
            ..Default::default()
        };
        assert!(!refused(&far));
        far.locality = Some(place);
        assert!(refused(&far));
    }

    #[test]
    fn a_bad_node_is_told_what_is_wrong() {
        assert_eq!(proxy(None), Err(NodeError::Missing));
        for (id, words) in [
            ("web", "type~ip~id~domain"),
            ("sidecar~10.0.0.1~web.ns~a~b", "type~ip~id~domain"),
            ("teapot~10.0.0.1~web.ns~ns.svc.cluster.local", "teapot"),
            ("sidecar~here~web.ns~ns.svc.cluster.local", "here"),
            ("sidecar~10.0.0.1~web~", "namespace"),
        ] {
            let error = proxy(Some(&node(id, &[]))).unwrap_err().to_string();
            assert!(error.contains(words), "{id}: {error}");
        }
    }
}
