//! What the debug pages show: which proxy has what.

use bytes::Bytes;
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use ostro_translate::ResourceType;
use prost::Message;
use serde::Serialize;

use crate::connection::{Connection, Transport};

/// One connected proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProxyStatus {
    /// Node id, whole.
    pub proxy: String,
    /// `delta` or `sotw`.
    pub transport: &'static str,
    /// Seconds since the epoch.
    pub connected_since: u64,
    /// By type, in push order.
    pub types: Vec<TypeStatus>,
}

/// One type of one proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TypeStatus {
    /// `cds`, `eds`, `lds` or `rds`.
    pub r#type: &'static str,
    /// Istio's words: `SYNCED` (also without a response, if the proxy brought everything along), `NOT SENT`, `STALE` (sent and not acknowledged, or waiting to be sent), `ERROR`
    /// (refused).
    pub state: &'static str,
    /// Resources the proxy should have.
    pub resources: usize,
    /// Of these, still to be told (removals included).
    pub pending: usize,
    /// Version of the whole set it should have.
    pub version: String,
    /// Nonce of the last response; empty if there was none.
    pub nonce_sent: String,
    /// Nonce of the last response accepted.
    pub nonce_acked: String,
    /// The proxy's words, if it refused the last response.
    pub refusal: Option<String>,
}

/// Everything one proxy should have.
#[derive(Debug, Clone)]
pub struct Dump {
    /// Its state.
    pub status: ProxyStatus,
    /// By type in push order, then by name.
    pub resources: Vec<DumpedResource>,
}

/// One resource as it is on the wire.
#[derive(Debug, Clone)]
pub struct DumpedResource {
    /// Its type.
    pub kind: ResourceType,
    /// Its name.
    pub name: &'static str,
    /// Its version, as the proxy knows it.
    pub version: String,
    /// The encoded message.
    pub bytes: Bytes,
}

impl DumpedResource {
    /// The message, decoded, for people.
    pub fn text(&self) -> String {
        fn show<M: Message + Default + std::fmt::Debug>(bytes: &Bytes) -> String {
            M::decode(bytes.clone()).map_or_else(|error| error.to_string(), |message| format!("{message:#?}"))
        }
        match self.kind {
            ResourceType::Cluster => show::<Cluster>(&self.bytes),
            ResourceType::Endpoint => show::<ClusterLoadAssignment>(&self.bytes),
            ResourceType::Listener => show::<Listener>(&self.bytes),
            ResourceType::Route => show::<RouteConfiguration>(&self.bytes),
        }
    }
}

impl ProxyStatus {
    pub(crate) fn of(connection: &Connection) -> Self {
        let since = connection.since.duration_since(std::time::UNIX_EPOCH);
        ProxyStatus {
            proxy: connection.proxy.id.clone(),
            transport: match connection.transport {
                Transport::Delta => "delta",
                Transport::World => "sotw",
            },
            connected_since: since.map_or(0, |since| since.as_secs()),
            types: ResourceType::ALL.into_iter().map(|kind| TypeStatus::of(connection, kind)).collect(),
        }
    }
}

impl TypeStatus {
    fn of(connection: &Connection, kind: ResourceType) -> Self {
        let channel = connection.channels.of(kind);
        let (nonce_sent, nonce_acked) = channel.subscription.nonces();
        let (tracked, pending) = channel.ledger.counts();
        let refusal = channel.subscription.refusal().map(str::to_owned);
        let state = if refusal.is_some() {
            "ERROR"
        } else if nonce_sent.is_empty() && tracked == 0 {
            "NOT SENT"
        } else if nonce_sent != nonce_acked || pending > 0 {
            "STALE"
        } else {
            "SYNCED"
        };
        TypeStatus {
            r#type: kind.short(),
            state,
            resources: tracked,
            pending,
            version: channel.ledger.set_version().to_string(),
            nonce_sent,
            nonce_acked,
            refusal,
        }
    }
}

impl Dump {
    pub(crate) fn of(connection: &Connection) -> Self {
        let mut resources = Vec::new();
        for kind in ResourceType::ALL {
            let ledger = &connection.channels.of(kind).ledger;
            for name in ledger.names() {
                let Some(resource) = ledger.wanted(name) else { continue };
                let Some(bytes) = &resource.bytes else { continue };
                resources.push(DumpedResource {
                    kind,
                    name: name.as_str(),
                    version: resource.version.to_string(),
                    bytes: bytes.clone(),
                });
            }
        }
        Dump { status: ProxyStatus::of(connection), resources }
    }
}
