//! Who is at the other end: a workload as proxies tell each other of it.
//!
//! On the wire it is a `google.protobuf.Struct`, in base64 in a header. Keys and fallbacks are those of Istio's proxy.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use envoy_types::pb::envoy::config::core::v3::{Locality, Node};
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Struct, Value};
use http::HeaderValue;
use prost::Message as _;

/// Longest header that is read, in bytes; the metadata of a pod with long names and a dozen labels is under 2 kB.
pub const PEER_HEADER_BYTES_MAX: usize = 16 * 1024;
/// Longest value that is taken of a peer, in bytes: Kubernetes' names have at most 253.
pub const PEER_VALUE_BYTES_MAX: usize = 512;

const CANONICAL_NAME: &str = "service.istio.io/canonical-name";
const CANONICAL_REVISION: &str = "service.istio.io/canonical-revision";

/// Base64 with padding or without.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A workload. What is not known is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Name of the instance: of the pod.
    pub name: Box<str>,
    /// Its namespace.
    pub namespace: Box<str>,
    /// Name of the workload: of the deployment, or whatever owns the pod.
    pub workload: Box<str>,
    /// What kind of workload it is.
    pub kind: WorkloadKind,
    /// The cluster it is in.
    pub cluster: Box<str>,
    /// Its SPIFFE identity.
    pub identity: Box<str>,
    /// Istio's name for the service that it is part of.
    pub canonical_name: Box<str>,
    /// Istio's name for its version.
    pub canonical_revision: Box<str>,
    /// Label `app.kubernetes.io/name`, or `app`.
    pub app: Box<str>,
    /// Label `app.kubernetes.io/version`, or `version`.
    pub version: Box<str>,
    /// Where it is.
    pub region: Box<str>,
    /// Where it is there.
    pub zone: Box<str>,
    /// Further labels, those that were asked for, by name.
    pub labels: Vec<(Box<str>, Box<str>)>,
}

/// What owns a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WorkloadKind {
    /// Nobody says.
    #[default]
    Unknown,
    /// It is on its own.
    Pod,
    /// A Deployment.
    Deployment,
    /// A Job.
    Job,
    /// A CronJob.
    CronJob,
}

impl WorkloadKind {
    const ALL: [(WorkloadKind, &'static str); 4] = [
        (WorkloadKind::Pod, "pod"),
        (WorkloadKind::Deployment, "deployment"),
        (WorkloadKind::Job, "job"),
        (WorkloadKind::CronJob, "cronjob"),
    ];

    /// Its name, if it is known.
    pub fn as_str(self) -> Option<&'static str> {
        WorkloadKind::ALL.iter().find(|(kind, _)| *kind == self).map(|(_, name)| *name)
    }

    /// Of an owner's path (`kubernetes://apis/apps/v1/namespaces/a/deployments/b`), whose end is the workload's name.
    fn of_owner(owner: &str, workload: &str) -> WorkloadKind {
        let kind = owner.len().checked_sub(workload.len() + 2).and_then(|end| owner.get(..end));
        let kind = kind.and_then(|path| path.rsplit_once('/')).map_or("", |(_, kind)| kind);
        WorkloadKind::ALL
            .iter()
            .find(|(_, name)| *name == kind)
            .map_or(WorkloadKind::Unknown, |(kind, _)| *kind)
    }
}

impl Peer {
    /// The workload of a proxy's node, with these labels besides those that are always told.
    pub fn of_node(node: &Node, labels: &[String]) -> Peer {
        let nothing = Struct::default();
        let mut peer = Peer::of_struct(node.metadata.as_ref().unwrap_or(&nothing), labels);
        if let Some(Locality { region, zone, .. }) = &node.locality {
            if peer.region.is_empty() {
                peer.region = region.as_str().into();
            }
            if peer.zone.is_empty() {
                peer.zone = zone.as_str().into();
            }
        }
        peer
    }

    /// The workload that a struct tells of. Keys that are not known are passed over.
    pub fn of_struct(metadata: &Struct, labels: &[String]) -> Peer {
        let top = |key: &str| text(metadata, key).into();
        let nothing = Struct::default();
        let own = match metadata.fields.get("LABELS").and_then(|value| value.kind.as_ref()) {
            Some(Kind::StructValue(labels)) => labels,
            _ => &nothing,
        };
        let either = |one: &str, other: &str| match text(own, one) {
            "" => text(own, other).into(),
            found => found.into(),
        };
        let workload: Box<str> = top("WORKLOAD_NAME");
        let further = |name: &String| {
            let value = text(own, name);
            (!value.is_empty()).then(|| (name.as_str().into(), value.into()))
        };
        Peer {
            name: top("NAME"),
            namespace: top("NAMESPACE"),
            kind: WorkloadKind::of_owner(text(metadata, "OWNER"), &workload),
            workload,
            cluster: top("CLUSTER_ID"),
            identity: top("IDENTITY"),
            canonical_name: text(own, CANONICAL_NAME).into(),
            canonical_revision: text(own, CANONICAL_REVISION).into(),
            app: either("app.kubernetes.io/name", "app"),
            version: either("app.kubernetes.io/version", "version"),
            region: top("REGION"),
            zone: top("AVAILABILITY_ZONE"),
            labels: labels.iter().filter_map(further).collect(),
        }
    }

    /// The workload that a header tells of; nothing if it tells of none, or at too great a length.
    pub fn of_header(value: &[u8], labels: &[String]) -> Option<Peer> {
        if value.len() > PEER_HEADER_BYTES_MAX {
            return None;
        }
        let bytes = LENIENT.decode(value).ok()?;
        Some(Peer::of_struct(&Struct::decode(bytes.as_slice()).ok()?, labels))
    }

    /// The workload that an endpoint's metadata tells of: `workload;namespace;canonical-name;canonical-revision;cluster`.
    pub fn of_endpoint(text: &str) -> Option<Peer> {
        let known = |part: &str| part.len() <= PEER_VALUE_BYTES_MAX;
        let mut parts =
            text.split(';').map(|part| Some(part).filter(|part| known(part)).unwrap_or_default().into());
        Some(Peer {
            workload: parts.next()?,
            namespace: parts.next()?,
            canonical_name: parts.next()?,
            canonical_revision: parts.next()?,
            cluster: parts.next()?,
            ..Peer::default()
        })
    }

    /// As others read it.
    pub fn to_struct(&self) -> Struct {
        let labels = [
            (CANONICAL_NAME, &self.canonical_name),
            (CANONICAL_REVISION, &self.canonical_revision),
            ("app", &self.app),
            ("version", &self.version),
        ];
        let further = self.labels.iter().map(|(name, value)| (&**name, value));
        let labels = Struct { fields: told(labels.into_iter().chain(further)) };
        let owner: Box<str> = match self.kind.as_str() {
            Some(kind) => {
                let Peer { namespace, workload, .. } = self;
                format!("kubernetes://apis/apps/v1/namespaces/{namespace}/{kind}s/{workload}").into()
            }
            None => "".into(),
        };
        let top = [
            ("NAME", &self.name),
            ("NAMESPACE", &self.namespace),
            ("WORKLOAD_NAME", &self.workload),
            ("CLUSTER_ID", &self.cluster),
            ("IDENTITY", &self.identity),
            ("OWNER", &owner),
            ("REGION", &self.region),
            ("AVAILABILITY_ZONE", &self.zone),
        ];
        let mut fields = told::<Vec<_>>(top.into_iter());
        fields.push(("LABELS".to_owned(), Value { kind: Some(Kind::StructValue(labels)) }));
        Struct { fields: fields.into_iter().collect() }
    }

    /// As a header has it: the same workload always the same. Nothing if it cannot be a header.
    pub fn to_header(&self) -> Option<HeaderValue> {
        let text = STANDARD.encode(sorted(&self.to_struct()));
        HeaderValue::from_str(&text).ok()
    }
}

/// What is not empty, as values.
fn told<'a, C: FromIterator<(String, Value)>>(pairs: impl Iterator<Item = (&'a str, &'a Box<str>)>) -> C {
    let value = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
    pairs.filter(|(_, text)| !text.is_empty()).map(|(key, text)| (key.to_owned(), value(text))).collect()
}

/// A text in a struct; empty if there is none, or one that is too long to be meant.
fn text<'s>(of: &'s Struct, key: &str) -> &'s str {
    match of.fields.get(key).and_then(|value| value.kind.as_ref()) {
        Some(Kind::StringValue(text)) if text.len() <= PEER_VALUE_BYTES_MAX => text,
        _ => "",
    }
}

/// A struct's bytes with its keys in order: maps have none of their own.
fn sorted(of: &Struct) -> Vec<u8> {
    let mut keys: Vec<&String> = of.fields.keys().collect();
    keys.sort_unstable();
    let entry = |key: &String| {
        let value = of.fields.get(key).cloned().unwrap_or_default();
        let value = match &value.kind {
            Some(Kind::StructValue(inner)) => SortedStruct { bytes: Some(sorted(inner)) }.encode_to_vec(),
            _ => value.encode_to_vec(),
        };
        SortedEntry { key: key.clone(), value: Some(value) }
    };
    SortedFields { fields: keys.into_iter().map(entry).collect() }.encode_to_vec()
}

/// `google.protobuf.Struct`, its entries in order.
#[derive(Clone, PartialEq, prost::Message)]
struct SortedFields {
    #[prost(message, repeated, tag = "1")]
    fields: Vec<SortedEntry>,
}

/// An entry of its map: the value is encoded.
#[derive(Clone, PartialEq, prost::Message)]
struct SortedEntry {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(bytes = "vec", optional, tag = "2")]
    value: Option<Vec<u8>>,
}

/// `google.protobuf.Value` that is a struct: encoded, too.
#[derive(Clone, PartialEq, prost::Message)]
struct SortedStruct {
    #[prost(bytes = "vec", optional, tag = "5")]
    bytes: Option<Vec<u8>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(json: serde_json::Value) -> Node {
        ostro_envoy_json::from_value(&json, ostro_envoy_json::Unknown::Refuse).unwrap()
    }

    fn reviews() -> Node {
        node(serde_json::json!({
            "id": "sidecar~10.0.0.1~reviews-0.shop~shop.svc.cluster.local",
            "locality": {"region": "r", "zone": "z"},
            "metadata": {
                "NAME": "reviews-0", "NAMESPACE": "shop", "WORKLOAD_NAME": "reviews", "CLUSTER_ID": "c",
                "OWNER": "kubernetes://apis/apps/v1/namespaces/shop/deployments/reviews", "ODD": {"a": 1},
                "LABELS": {
                    "app": "old", "app.kubernetes.io/name": "reviews-app", "version": "v1", "role": "x",
                    "service.istio.io/canonical-name": "reviews", "service.istio.io/canonical-revision": "v1",
                },
            },
        }))
    }

    #[test]
    fn a_node_is_told_and_read_again() {
        let peer = Peer::of_node(&reviews(), &["role".to_owned(), "none".to_owned()]);
        assert_eq!((&*peer.app, &*peer.version, &*peer.region), ("reviews-app", "v1", "r"));
        assert_eq!(peer.kind, WorkloadKind::Deployment);
        assert_eq!(peer.labels, [("role".into(), "x".into())]);
        let header = peer.to_header().unwrap();
        assert_eq!(Peer::of_header(header.as_bytes(), &["role".to_owned()]), Some(peer.clone()));
        assert_eq!(peer.to_header(), Some(header.clone()), "the same each time");
        let unpadded = header.to_str().unwrap().trim_end_matches('=').as_bytes().to_vec();
        assert_eq!(Peer::of_header(&unpadded, &[]).unwrap().workload, peer.workload);
    }

    #[test]
    fn keys_are_in_order_and_labels_always_there() {
        let bytes = STANDARD.decode(Peer::default().to_header().unwrap()).unwrap();
        assert_eq!(bytes, b"\x0a\x0c\x0a\x06LABELS\x12\x02\x2a\x00");
        let peer = Peer { name: "n".into(), namespace: "s".into(), cluster: "c".into(), ..Peer::default() };
        let bytes = sorted(&peer.to_struct());
        let at = |key: &[u8]| bytes.windows(key.len()).position(|part| part == key).unwrap();
        assert!(at(b"CLUSTER_ID") < at(b"LABELS") && at(b"LABELS") < at(b"NAMESPACE"));
        assert_eq!(Struct::decode(bytes.as_slice()).unwrap(), peer.to_struct());
    }

    #[test]
    fn what_tells_of_no_workload_is_none() {
        for wrong in [&b"%%%"[..], b"AAAA", &[b'A'; PEER_HEADER_BYTES_MAX + 4]] {
            assert_eq!(Peer::of_header(wrong, &[]), None);
        }
        let long = "x".repeat(PEER_VALUE_BYTES_MAX + 1);
        let peer = Peer::of_node(&node(serde_json::json!({"metadata": {"NAME": long}})), &[]);
        assert_eq!(&*peer.name, "");
    }

    #[test]
    fn an_endpoint_says_it_in_five_parts() {
        let peer = Peer::of_endpoint("w;n;c;r;k;more").unwrap();
        assert_eq!((&*peer.workload, &*peer.namespace, &*peer.canonical_name), ("w", "n", "c"));
        assert_eq!((&*peer.canonical_revision, &*peer.cluster, &*peer.app), ("r", "k", ""));
        assert_eq!(Peer::of_endpoint("w;n;c;r"), None);
    }

    #[test]
    fn the_owner_says_the_kind() {
        let of = |owner: &str, workload: &str| WorkloadKind::of_owner(owner, workload);
        assert_eq!(of("kubernetes://apis/batch/v1/namespaces/a/cronjobs/b", "b"), WorkloadKind::CronJob);
        assert_eq!(of("kubernetes://apis/v1/namespaces/a/statefulsets/b", "b"), WorkloadKind::Unknown);
        assert_eq!(of("", "b"), WorkloadKind::Unknown);
    }
}
