//! Istio's own filters, which a stock Envoy lacks: standard metrics (`istio.stats`), who is at the other end (peer metadata),
//! and application protocols of upstream connections (`istio.alpn`).
//!
//! What it is: their configuration compiled, and what they make of a stream: peers, destinations, labels. What it
//! deliberately is not: counters, or caches of what was seen.

mod alpn;
mod attribute;
mod exchange;
mod labels;
mod peer;
mod proto;
mod service;
mod stats;

pub use alpn::Alpn;
pub use attribute::{Attribute, AttributeSource};
pub use exchange::{MetadataExchange, PeerMetadata, Telling};
pub use labels::{Ends, Labels, LocalWorkload, Outcome, Principals, Reporter, RequestProtocol};
pub use peer::{PEER_HEADER_BYTES_MAX, PEER_VALUE_BYTES_MAX, Peer, WorkloadKind};
pub use service::{ClusterFacts, Destination, RouteKind, destination};
pub use stats::{IstioStats, Metric, Values};

use http::HeaderName;

/// Who sends a message: the id of its node.
pub const X_ENVOY_PEER_METADATA_ID: HeaderName = HeaderName::from_static("x-envoy-peer-metadata-id");
/// Who sends a message: a workload ([`Peer`]).
pub const X_ENVOY_PEER_METADATA: HeaderName = HeaderName::from_static("x-envoy-peer-metadata");
