//! One listener, compiled: its addresses and sockets, its inspectors, its filter chains.

mod address;
mod socket;

use std::net::SocketAddr;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use envoy_types::pb::envoy::config::listener::v3::listener::ConnectionBalanceConfig;
use envoy_types::pb::envoy::config::listener::v3::listener::DrainType;
use envoy_types::pb::envoy::config::listener::v3::listener::connection_balance_config::BalanceType;
use envoy_types::pb::envoy::config::listener::v3::{
    AdditionalAddress, FilterChain as ChainProto, Listener as Proto,
};

pub use socket::SocketSettings;

use crate::chain::{ChainIndex, ChainMatch, Ends};
use crate::inspect::{Inspectors, Seen};
use crate::proto::{enumeration, flag, number, time_limit};
use crate::refusal::{Reason, Within};
use crate::{AccessLog, Connection, DownstreamSocket, Metadata, NetworkFilter, Refusal, Terminal, network};
pub use address::socket_address;

/// Time that inspection may take where the listener does not say.
const INSPECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Bytes a connection may buffer where nothing says.
pub(crate) const BUFFER_LIMIT: u32 = 1024 * 1024;

/// A listener.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Name in xDS.
    pub name: String,
    /// Name in statistics as configured, perhaps empty; see [`Listener::stat_name`].
    pub stat_prefix: String,
    /// Addresses it answers for, the main one first.
    pub addresses: Vec<SocketAddr>,
    /// Does it bind its port, or only take connections that another one hands over?
    pub binds: bool,
    /// Does it hand connections over to the listener of their original destination?
    pub hands_over: bool,
    /// How its sockets are set up.
    pub socket: SocketSettings,
    /// Which way its traffic goes, seen from the workload.
    pub direction: Direction,
    /// What it sees of a connection.
    pub inspectors: Inspectors,
    /// How long inspection may take; `None` is as long as it likes.
    pub inspect_timeout: Option<Duration>,
    /// Goes a connection on with what is known when that time is over? Otherwise it is closed.
    pub continues_on_timeout: bool,
    /// Bytes that one connection may buffer each way.
    pub buffer_limit: u32,
    /// Is it drained only when it is changed or removed, not when the whole proxy drains?
    pub drains_only_on_change: bool,
    /// Are connections to be spread evenly over workers?
    pub exact_balance: bool,
    /// Connections taken from the system at a time.
    pub accepts_per_event: Option<u32>,
    /// Is it exempt from the process's limit of connections?
    pub ignores_global_limit: bool,
    /// Logs of connections.
    pub access_logs: Vec<AccessLog>,
    /// Notes of others.
    pub metadata: Metadata,
    chains: Vec<FilterChain>,
    index: ChainIndex,
    fallback: Option<FilterChain>,
}

/// Which way traffic goes, seen from the workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Nobody says.
    Unspecified,
    /// To it.
    Inbound,
    /// From it.
    Outbound,
}

/// What becomes of connections that match.
#[derive(Clone, Debug)]
pub struct FilterChain {
    /// Name in xDS, often empty.
    pub name: String,
    /// Plaintext, or how TLS is taken off.
    pub socket: DownstreamSocket,
    /// How long the TLS handshake may take.
    pub handshake_timeout: Option<Duration>,
    /// Network filters before the last.
    pub filters: Vec<NetworkFilter>,
    /// What the chain is for.
    pub terminal: Terminal,
    /// Notes of others.
    pub metadata: Metadata,
}

impl Listener {
    /// Compiles a listener.
    pub fn compile(proto: Proto) -> Result<Listener, Refusal> {
        let place = format!("listener {}", proto.name);
        check(&proto).and_then(|()| compile_checked(proto)).within(|| place)
    }

    /// Is the original destination restored from the socket? (Who hands connections over has to know it.)
    pub fn restores_destination(&self) -> bool {
        self.hands_over || self.inspectors.restores_destination()
    }

    /// The filter chain for a connection: the best match, else the default one.
    pub fn chain_for(&self, connection: &Connection<'_>) -> Option<&FilterChain> {
        let ends = Ends {
            destination: connection.destination,
            source: connection.source,
            direct_source: connection.direct_source,
        };
        self.chain_for_seen(ends, &self.inspectors.look(connection))
    }

    /// The same for a connection that has been inspected already.
    pub fn chain_for_seen(&self, ends: Ends, seen: &Seen) -> Option<&FilterChain> {
        let matched = self.index.find(ends, seen).and_then(|id| self.chains.get(id));
        matched.or(self.fallback.as_ref())
    }

    /// All filter chains, the default one last.
    pub fn chains(&self) -> impl Iterator<Item = &FilterChain> {
        self.chains.iter().chain(&self.fallback)
    }

    /// Name in statistics: its own, or its first address with `_` for every `:`.
    pub fn stat_name(&self) -> String {
        if !self.stat_prefix.is_empty() {
            return self.stat_prefix.clone();
        }
        self.addresses.first().map(|at| at.to_string().replace(':', "_")).unwrap_or_default()
    }
}

/// Which field meets which fate.
fn check(proto: &Proto) -> Result<(), Refusal> {
    fates!(proto: Proto {
        compiled:
            name,
            address,
            additional_addresses,
            stat_prefix,
            filter_chains,
            default_filter_chain,
            use_original_dst,
            bind_to_port,
            per_connection_buffer_limit_bytes,
            metadata,
            drain_type,
            listener_filters,
            listener_filters_timeout,
            continue_on_listener_filters_timeout,
            transparent,
            freebind,
            socket_options,
            tcp_fast_open_queue_length,
            traffic_direction,
            connection_balance_config,
            enable_reuse_port,
            access_log,
            tcp_backlog_size,
            max_connections_to_accept_per_socket_event,
            ignore_global_conn_limit,
            tcp_keepalive;
        refused:
            stats_matcher,
            fcds_config,
            filter_chain_matcher,
            per_connection_buffer_high_watermark_timeout,
            deprecated_v1,
            udp_listener_config,
            api_listener,
            reuse_port,
            enable_mptcp,
            bypass_overload_manager,
            listener_specifier;
    });
    Ok(())
}

fn compile_checked(proto: Proto) -> Result<Listener, Refusal> {
    let (chains, index) = chains(&proto.filter_chains)?;
    let fallback = proto.default_filter_chain.as_ref().map(FilterChain::compile).transpose();
    let (addresses, takes_ipv4) = addresses(&proto)?;
    let timeout = time_limit(proto.listener_filters_timeout.as_ref(), Some(INSPECT_TIMEOUT));
    Ok(Listener {
        addresses,
        binds: flag(proto.bind_to_port.as_ref(), true),
        hands_over: flag(proto.use_original_dst.as_ref(), false),
        socket: SocketSettings::compile(&proto, takes_ipv4)?,
        direction: match enumeration(proto.traffic_direction, "traffic_direction")? {
            TrafficDirection::Unspecified => Direction::Unspecified,
            TrafficDirection::Inbound => Direction::Inbound,
            TrafficDirection::Outbound => Direction::Outbound,
        },
        inspectors: Inspectors::compile(&proto.listener_filters)?,
        inspect_timeout: timeout.within(|| "listener_filters_timeout".to_owned())?,
        continues_on_timeout: proto.continue_on_listener_filters_timeout,
        buffer_limit: number(proto.per_connection_buffer_limit_bytes.as_ref()).unwrap_or(BUFFER_LIMIT),
        drains_only_on_change: enumeration::<DrainType>(proto.drain_type, "drain_type")?
            == DrainType::ModifyOnly,
        exact_balance: exact_balance(proto.connection_balance_config.as_ref())?,
        accepts_per_event: number(proto.max_connections_to_accept_per_socket_event.as_ref()),
        ignores_global_limit: proto.ignore_global_conn_limit,
        access_logs: AccessLog::compile_all(&proto.access_log)?,
        metadata: Metadata::compile(proto.metadata),
        chains,
        index,
        fallback: fallback.within(|| "default_filter_chain".to_owned())?,
        name: proto.name,
        stat_prefix: proto.stat_prefix,
    })
}

fn chains(protos: &[ChainProto]) -> Result<(Vec<FilterChain>, ChainIndex), Refusal> {
    let mut compiled: Vec<FilterChain> = Vec::with_capacity(protos.len());
    let mut index = ChainIndex::default();
    for (id, chain) in protos.iter().enumerate() {
        let place = || format!("filter_chains[{id}]");
        let chain_match = chain.filter_chain_match.as_ref().map(ChainMatch::compile).transpose();
        let chain_match =
            chain_match.within(|| "filter_chain_match".to_owned()).within(place)?.unwrap_or_default();
        if let Err(other) = index.insert(&chain_match, id) {
            let first = compiled.get(other).map(|c| c.name.clone()).unwrap_or_default();
            return Err(Reason::SameMatch { first, second: chain.name.clone() }.into());
        }
        compiled.push(FilterChain::compile(chain).within(place)?);
    }
    Ok((compiled, index))
}

/// All addresses, and whether an IPv6 socket at one of them takes IPv4 too.
fn addresses(proto: &Proto) -> Result<(Vec<SocketAddr>, bool), Refusal> {
    let main = proto.address.as_ref().map(socket_address).transpose().within(|| "address".to_owned())?;
    let (main, mut takes_ipv4) = main.ok_or_else(|| Refusal::invalid("no address"))?;
    let mut all = vec![main];
    for (i, additional) in proto.additional_addresses.iter().enumerate() {
        let AdditionalAddress { address, socket_options, tcp_keepalive } = additional;
        let one = || {
            refuse_if_set!(socket_options, tcp_keepalive);
            address.as_ref().map(socket_address).transpose()
        };
        if let Some((address, compatible)) = one().within(|| format!("additional_addresses[{i}]"))? {
            all.push(address);
            takes_ipv4 |= compatible;
        }
    }
    Ok((all, takes_ipv4))
}

fn exact_balance(proto: Option<&ConnectionBalanceConfig>) -> Result<bool, Refusal> {
    match proto.map(|config| &config.balance_type) {
        None => Ok(false),
        Some(Some(BalanceType::ExactBalance(_))) => Ok(true),
        Some(Some(BalanceType::ExtendBalance(_))) => {
            Err(Refusal::unsupported("connection_balance_config.extend_balance"))
        }
        Some(Some(BalanceType::CpuLocalityBalance(_))) => {
            Err(Refusal::unsupported("connection_balance_config.cpu_locality_balance"))
        }
        Some(None) => Err(Refusal::invalid("connection_balance_config without a type")),
    }
}

impl FilterChain {
    fn compile(proto: &ChainProto) -> Result<FilterChain, Refusal> {
        #[allow(deprecated, reason = "a deprecated field that is set must be seen to be refused")]
        let ChainProto {
            filter_chain_match: _,
            filters,
            use_proxy_proto,
            metadata,
            transport_socket,
            transport_socket_connect_timeout,
            name,
        } = proto;
        refuse_if_set!(use_proxy_proto);
        let (filters, terminal) = network::compile(filters)?;
        let timeout = time_limit(transport_socket_connect_timeout.as_ref(), None);
        Ok(FilterChain {
            name: name.clone(),
            socket: DownstreamSocket::compile(transport_socket.as_ref())?,
            handshake_timeout: timeout.within(|| "transport_socket_connect_timeout".to_owned())?,
            filters,
            terminal,
            metadata: Metadata::compile(metadata.clone()),
        })
    }
}
