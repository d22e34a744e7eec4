//! What connections to a cluster are wrapped in, by what is known of the endpoint.
//!
//! TLS is refused by name in [`Transport::compile`], the one place where a transport socket is read.

use std::sync::Arc;

use envoy_types::pb::envoy::config::cluster::v3::Cluster as Proto;
use envoy_types::pb::envoy::config::cluster::v3::cluster::TransportSocketMatch;
use envoy_types::pb::envoy::config::core::v3::TransportSocket as ProtoSocket;
use envoy_types::pb::envoy::config::core::v3::transport_socket::ConfigType;
use envoy_types::pb::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
use envoy_types::pb::google::protobuf::Value;
use prost::Name;

use crate::refusal::{Within, is};
use crate::{Metadata, Refusal};

/// Namespace of an endpoint's metadata that says which transport socket it wants.
const MATCH_NAMESPACE: &str = "envoy.transport_socket_match";
/// Well-known name of the plain transport socket, which needs no configuration.
const RAW_BUFFER: &str = "envoy.transport_sockets.raw_buffer";

/// The transport sockets of a cluster.
#[derive(Clone, Debug)]
pub struct TransportSockets {
    matches: Vec<Match>,
    default: Arc<TransportSocket>,
}

/// What a connection is wrapped in.
#[derive(Clone, Debug)]
pub struct TransportSocket {
    /// Name of the match it belongs to (`tlsMode-istio`), `default` for the cluster's own: part of statistics' names.
    pub name: Box<str>,
    /// What it is.
    pub kind: Transport,
}

/// Kinds of transport sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Transport {
    /// Bytes as they are.
    Raw,
}

#[derive(Clone, Debug)]
struct Match {
    /// What an endpoint's metadata must have; none: any endpoint matches.
    wanted: Vec<(String, Value)>,
    socket: Arc<TransportSocket>,
}

impl TransportSockets {
    pub(super) fn compile(proto: &Proto) -> Result<TransportSockets, Refusal> {
        let default = match &proto.transport_socket {
            None => Transport::Raw,
            Some(socket) => Transport::compile(socket).within(|| "transport_socket".into())?,
        };
        let matches = proto.transport_socket_matches.iter().enumerate();
        let matches = matches.map(|(place, socket)| {
            Match::compile(socket).within(|| format!("transport_socket_matches[{place}]"))
        });
        Ok(TransportSockets {
            matches: matches.collect::<Result<_, _>>()?,
            default: Arc::new(TransportSocket { name: "default".into(), kind: default }),
        })
    }

    /// The socket of an endpoint: of the first match that its metadata meets, else the cluster's own.
    pub fn of(&self, endpoint: &Metadata) -> &Arc<TransportSocket> {
        let found = self.matches.iter().find(|candidate| candidate.holds(endpoint));
        found.map_or(&self.default, |found| &found.socket)
    }

    /// All of them: the cluster's own first, then those of matches, in order.
    pub fn all(&self) -> impl Iterator<Item = &Arc<TransportSocket>> {
        std::iter::once(&self.default).chain(self.matches.iter().map(|candidate| &candidate.socket))
    }
}

impl Match {
    fn compile(proto: &TransportSocketMatch) -> Result<Match, Refusal> {
        let TransportSocketMatch { name, r#match, transport_socket } = proto;
        let kind = match transport_socket {
            None => return Err(Refusal::invalid("no transport_socket")),
            Some(socket) => Transport::compile(socket).within(|| "transport_socket".into())?,
        };
        let wanted = r#match.iter().flat_map(|fields| &fields.fields);
        let mut wanted: Vec<_> = wanted.map(|(key, value)| (key.clone(), value.clone())).collect();
        wanted.sort_by(|(a, _), (b, _)| a.cmp(b));
        let socket = Arc::new(TransportSocket { name: name.as_str().into(), kind });
        Ok(Match { wanted, socket })
    }

    fn holds(&self, endpoint: &Metadata) -> bool {
        self.wanted.iter().all(|(key, value)| endpoint.get(MATCH_NAMESPACE, &[key]) == Some(value))
    }
}

impl Transport {
    fn compile(proto: &ProtoSocket) -> Result<Transport, Refusal> {
        let ProtoSocket { name, config_type } = proto;
        match config_type {
            None if name == RAW_BUFFER => Ok(Transport::Raw),
            Some(ConfigType::TypedConfig(config)) if is::<RawBuffer>(config) => Ok(Transport::Raw),
            Some(ConfigType::TypedConfig(config)) => {
                let prefix = "type.googleapis.com/";
                let kind = config.type_url.strip_prefix(prefix).unwrap_or(&config.type_url);
                Err(Refusal::unsupported(format!("transport socket {kind}")))
            }
            None => Err(Refusal::invalid(format!("{name} without a {}", RawBuffer::full_name()))),
        }
    }
}
