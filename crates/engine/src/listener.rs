//! One listener, compiled: its addresses, its inspectors, its filter chains.

use std::net::{IpAddr, SocketAddr};

use envoy_types::pb::envoy::config::core::v3::address::Address as AddressKind;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{Address, SocketAddress};
use envoy_types::pb::envoy::config::listener::v3::{
    AdditionalAddress, FilterChain as ChainProto, Listener as Proto,
};

use crate::chain::{ChainIndex, ChainMatch};
use crate::inspect::Inspectors;
use crate::refusal::{Reason, Within};
use crate::{Connection, DownstreamSocket, NetworkFilter, Refusal, Terminal, filter};

/// A listener.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Name in xDS.
    pub name: String,
    /// Addresses it answers for, the main one first.
    pub addresses: Vec<SocketAddr>,
    /// Does it bind its port, or only take connections that another one hands over?
    pub binds: bool,
    /// Does it hand connections over to the listener of their original destination?
    pub hands_over: bool,
    /// What it sees of a connection.
    pub inspectors: Inspectors,
    /// The message without its filter chains: limits, timeouts, access logs, socket options.
    pub rest: Box<Proto>,
    chains: Vec<FilterChain>,
    index: ChainIndex,
    fallback: Option<FilterChain>,
}

/// What becomes of connections that match.
#[derive(Clone, Debug)]
pub struct FilterChain {
    /// Name in xDS, often empty.
    pub name: String,
    /// Plaintext, or how TLS is taken off.
    pub socket: DownstreamSocket,
    /// Network filters before the last.
    pub filters: Vec<NetworkFilter>,
    /// What the chain is for.
    pub terminal: Terminal,
}

impl Listener {
    /// Compiles a listener.
    pub fn compile(mut proto: Proto) -> Result<Listener, Refusal> {
        let place = format!("listener {}", proto.name);
        check(&proto).within(|| place.clone())?;
        let chains = std::mem::take(&mut proto.filter_chains);
        let fallback = proto.default_filter_chain.take();
        compile_checked(proto, &chains, fallback.as_ref()).within(|| place)
    }

    /// The filter chain for a connection: the best match, else the default one.
    pub fn chain_for(&self, connection: &Connection<'_>) -> Option<&FilterChain> {
        let seen = self.inspectors.look(connection);
        let matched = self.index.find(connection, &seen).and_then(|id| self.chains.get(id));
        matched.or(self.fallback.as_ref())
    }

    /// All filter chains, the default one last.
    pub fn chains(&self) -> impl Iterator<Item = &FilterChain> {
        self.chains.iter().chain(&self.fallback)
    }
}

/// Which field meets which fate; [`Listener::rest`] has what is carried.
fn check(proto: &Proto) -> Result<(), Refusal> {
    fates!(proto: Proto {
        compiled:
            name,
            address,
            additional_addresses,
            filter_chains,
            default_filter_chain,
            use_original_dst,
            bind_to_port,
            listener_filters;
        carried:
            stat_prefix,
            per_connection_buffer_limit_bytes,
            metadata,
            drain_type,
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

fn compile_checked(
    proto: Proto,
    chains: &[ChainProto],
    fallback: Option<&ChainProto>,
) -> Result<Listener, Refusal> {
    let mut compiled: Vec<FilterChain> = Vec::with_capacity(chains.len());
    let mut index = ChainIndex::default();
    for (id, chain) in chains.iter().enumerate() {
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
    let fallback = fallback.map(FilterChain::compile).transpose();
    Ok(Listener {
        name: proto.name.clone(),
        addresses: addresses(&proto)?,
        binds: proto.bind_to_port.as_ref().is_none_or(|b| b.value),
        hands_over: proto.use_original_dst.as_ref().is_some_and(|b| b.value),
        inspectors: Inspectors::compile(&proto.listener_filters)?,
        chains: compiled,
        index,
        fallback: fallback.within(|| "default_filter_chain".to_owned())?,
        rest: Box::new(proto),
    })
}

fn addresses(proto: &Proto) -> Result<Vec<SocketAddr>, Refusal> {
    let main = proto.address.as_ref().map(socket_address).transpose().within(|| "address".to_owned())?;
    let main = main.ok_or_else(|| Refusal::invalid("no address"))?;
    let mut all = vec![main];
    for (i, additional) in proto.additional_addresses.iter().enumerate() {
        let AdditionalAddress { address, socket_options: _, tcp_keepalive: _ } = additional;
        let at = || format!("additional_addresses[{i}]");
        all.extend(address.as_ref().map(socket_address).transpose().within(at)?);
    }
    Ok(all)
}

/// An IP address and port; pipes and names are refused.
pub(crate) fn socket_address(address: &Address) -> Result<SocketAddr, Refusal> {
    let Some(AddressKind::SocketAddress(address)) = &address.address else {
        return Err(Refusal::unsupported("an address that is no socket address"));
    };
    let SocketAddress {
        protocol,
        address,
        resolver_name,
        // Says what an IPv6 socket takes; which listener a connection belongs to does not depend on it.
        ipv4_compat: _,
        network_namespace_filepath,
        port_specifier,
    } = address;
    refuse_if_set!(protocol, resolver_name, network_namespace_filepath);
    let ip: IpAddr = address.parse().map_err(|_| Refusal::invalid(format!("IP address {address:?}")))?;
    match port_specifier {
        Some(PortSpecifier::PortValue(port)) => u16::try_from(*port)
            .map(|port| SocketAddr::new(ip, port))
            .map_err(|_| Refusal::invalid(format!("port {port}"))),
        Some(PortSpecifier::NamedPort(_)) => Err(Refusal::unsupported("named_port")),
        None => Err(Refusal::invalid("no port")),
    }
}

impl FilterChain {
    fn compile(proto: &ChainProto) -> Result<FilterChain, Refusal> {
        #[allow(deprecated, reason = "a deprecated field that is set must be seen to be refused")]
        let ChainProto {
            filter_chain_match: _,
            filters,
            use_proxy_proto,
            metadata: _,
            transport_socket,
            transport_socket_connect_timeout: _,
            name,
        } = proto;
        refuse_if_set!(use_proxy_proto);
        let (filters, terminal) = filter::compile(filters)?;
        Ok(FilterChain {
            name: name.clone(),
            socket: DownstreamSocket::compile(transport_socket.as_ref())?,
            filters,
            terminal,
        })
    }
}
