//! Filter chain match, in Envoy's order: destination port, destination address, server name, transport protocol,
//! application protocol, direct source, source type, source address, source port.
//!
//! Each level keeps only the most specific entry and never goes back: a chain for the exact port hides those
//! without a port even if nothing below it matches. That is Envoy's rule, and the reason this is a tree of tables
//! and not a list of predicates.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use envoy_types::pb::envoy::config::listener::v3::FilterChainMatch;
use envoy_types::pb::envoy::config::listener::v3::filter_chain_match::ConnectionSourceType;
use ipnet::IpNet;

use crate::Refusal;
use crate::cidr::{self, Prefixes};
use crate::inspect::Seen;

/// The match of every filter chain of a listener; finds a chain by its index.
#[derive(Clone, Debug, Default)]
pub struct ChainIndex {
    root: Keyed<u16, Prefixes<ServerNames>>,
}

/// Index of a chain in its listener.
pub type ChainId = usize;

/// One chain's match, read.
#[derive(Clone, Debug, Default)]
pub struct ChainMatch {
    destination_port: Option<u16>,
    destinations: Vec<IpNet>,
    server_names: Vec<String>,
    transport: String,
    protocols: Vec<String>,
    direct_sources: Vec<IpNet>,
    source_type: ConnectionSourceType,
    sources: Vec<IpNet>,
    source_ports: Vec<u16>,
}

/// The addresses of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Where it was going, before any redirection.
    pub destination: SocketAddr,
    /// Who it is from, after PROXY protocol.
    pub source: SocketAddr,
    /// Address of the peer at the other end of the socket.
    pub direct_source: IpAddr,
}

/// What a connection shows to the match.
struct Question<'a> {
    ends: Ends,
    seen: &'a Seen,
}

/// A level of the tree: entries by key, and one for chains that do not care.
#[derive(Clone, Debug)]
struct Keyed<K, L> {
    exact: HashMap<K, L>,
    any: Option<Box<L>>,
}

impl<K, L> Default for Keyed<K, L> {
    fn default() -> Self {
        Keyed { exact: HashMap::new(), any: None }
    }
}

impl<K: Eq + Hash, L: Default> Keyed<K, L> {
    fn entry(&mut self, key: Option<K>) -> &mut L {
        match key {
            Some(key) => self.exact.entry(key).or_default(),
            None => self.any.get_or_insert_default(),
        }
    }
}

/// Keyed by name; `*.example.com` is kept as `.example.com`.
type ServerNames = Keyed<String, Transports>;
type Transports = Keyed<String, Protocols>;
type Protocols = Keyed<String, Prefixes<SourceTypes>>;
type Sources = Prefixes<Keyed<u16, Leaf>>;

#[derive(Clone, Debug, Default)]
struct SourceTypes {
    any: Option<Box<Sources>>,
    local: Option<Box<Sources>>,
    external: Option<Box<Sources>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Leaf(Option<ChainId>);

impl ChainMatch {
    /// Reads a match; what Envoy calls not implemented is refused.
    pub(crate) fn compile(from: &FilterChainMatch) -> Result<ChainMatch, Refusal> {
        let FilterChainMatch {
            destination_port,
            prefix_ranges,
            address_suffix,
            suffix_len,
            direct_source_prefix_ranges,
            source_type,
            source_prefix_ranges,
            source_ports,
            server_names,
            transport_protocol,
            application_protocols,
        } = from;
        refuse_if_set!(address_suffix, suffix_len);
        let port = |p: u32| u16::try_from(p).map_err(|_| Refusal::invalid(format!("port {p}")));
        let ranges = |all: &[_]| all.iter().map(cidr::range).collect::<Result<Vec<_>, _>>();
        Ok(ChainMatch {
            destination_port: destination_port.as_ref().map(|p| port(p.value)).transpose()?,
            destinations: ranges(prefix_ranges)?,
            server_names: server_names.iter().map(|n| server_name(n)).collect::<Result<_, _>>()?,
            transport: transport_protocol.clone(),
            protocols: application_protocols.clone(),
            direct_sources: ranges(direct_source_prefix_ranges)?,
            source_type: ConnectionSourceType::try_from(*source_type)
                .map_err(|_| Refusal::unsupported(format!("source_type {source_type}")))?,
            sources: ranges(source_prefix_ranges)?,
            source_ports: source_ports.iter().map(|&p| port(p)).collect::<Result<_, _>>()?,
        })
    }
}

/// `*.example.com` becomes `.example.com`; a star anywhere else is refused, as by Envoy. Names have no case.
fn server_name(name: &str) -> Result<String, Refusal> {
    let literal = name.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(name);
    if literal.contains('*') {
        return Err(Refusal::invalid(format!("partial wildcard in server_names: {name}")));
    }
    Ok(literal.to_ascii_lowercase())
}

impl ChainIndex {
    /// Enters a chain. `Err` is the chain that has the same match already.
    pub(crate) fn insert(&mut self, chain_match: &ChainMatch, id: ChainId) -> Result<(), ChainId> {
        let names = self.root.entry(chain_match.destination_port);
        for destination in each(&chain_match.destinations) {
            for name in each(&chain_match.server_names) {
                let transport = Some(chain_match.transport.clone()).filter(|t| !t.is_empty());
                let protocols = names.entry(destination).entry(name).entry(transport);
                for protocol in each(&chain_match.protocols) {
                    insert_sources(protocols.entry(protocol), chain_match, id)?;
                }
            }
        }
        Ok(())
    }

    /// The chain for a connection, of which the inspectors have seen this much.
    pub fn find(&self, ends: Ends, seen: &Seen) -> Option<ChainId> {
        let question = Question { ends, seen };
        let names = match self.root.exact.get(&question.ends.destination.port()) {
            Some(prefixes) => prefixes,
            None => self.root.any.as_deref()?,
        };
        names.find(question.ends.destination.ip())?.find_name(&question)
    }
}

fn insert_sources(
    direct: &mut Prefixes<SourceTypes>,
    chain_match: &ChainMatch,
    id: ChainId,
) -> Result<(), ChainId> {
    for direct_source in each(&chain_match.direct_sources) {
        let types = direct.entry(direct_source);
        let sources = match chain_match.source_type {
            ConnectionSourceType::Any => &mut types.any,
            ConnectionSourceType::SameIpOrLoopback => &mut types.local,
            ConnectionSourceType::External => &mut types.external,
        };
        let sources = sources.get_or_insert_default();
        for source in each(&chain_match.sources) {
            for port in each(&chain_match.source_ports) {
                let Leaf(leaf) = sources.entry(source).entry(port);
                match leaf {
                    Some(other) if *other != id => return Err(*other),
                    _ => *leaf = Some(id),
                }
            }
        }
    }
    Ok(())
}

/// Every value as a key of its own; no values = the one key that does not care.
fn each<T: Clone>(values: &[T]) -> impl Iterator<Item = Option<T>> + '_ {
    let any = values.is_empty().then_some(None);
    any.into_iter().chain(values.iter().cloned().map(Some))
}

impl ServerNames {
    fn find_name(&self, question: &Question<'_>) -> Option<ChainId> {
        let name = &*question.seen.server_name;
        let wildcard = || {
            // ".example.com", then ".com", for "www.example.com".
            let dots = name.char_indices().skip(1).filter(|&(_, c)| c == '.').map(|(i, _)| i);
            dots.filter(|i| i + 1 < name.len()).find_map(|i| self.exact.get(name.get(i..)?))
        };
        let found = self.exact.get(name).filter(|_| !name.is_empty()).or_else(wildcard);
        found.or(self.any.as_deref())?.find_transport(question)
    }
}

impl Transports {
    fn find_transport(&self, question: &Question<'_>) -> Option<ChainId> {
        let protocols = self.exact.get(question.seen.transport).or(self.any.as_deref())?;
        let of_client = question.seen.protocols.iter().find_map(|p| protocols.exact.get(&**p));
        of_client.or(protocols.any.as_deref())?.find(question.ends.direct_source)?.find_source(question)
    }
}

impl SourceTypes {
    fn find_source(&self, question: &Question<'_>) -> Option<ChainId> {
        let ip = question.ends.source.ip();
        // Of loopback Envoy means the one address, not the network.
        let is_loopback = ip == IpAddr::from(Ipv4Addr::LOCALHOST) || ip == IpAddr::from(Ipv6Addr::LOCALHOST);
        let is_local = is_loopback || ip == question.ends.destination.ip();
        let special = if is_local { &self.local } else { &self.external };
        let sources = special.as_deref().or(self.any.as_deref())?;
        let ports = sources.find(ip)?;
        let exact = ports.exact.get(&question.ends.source.port());
        exact.or(ports.any.as_deref()).and_then(|Leaf(id)| *id)
    }
}
