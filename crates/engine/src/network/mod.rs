//! Network filters of a filter chain: what a connection is for. One file for each kind.

mod set_filter_state;
mod tcp_proxy;
mod transport_socket;

use std::borrow::Cow;
use std::sync::Arc;

use envoy_types::pb::envoy::config::listener::v3::Filter;
use envoy_types::pb::envoy::config::listener::v3::filter::ConfigType;
use envoy_types::pb::envoy::extensions::filters::network;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy as TcpProxyProto;
use envoy_types::pb::google::protobuf::Any;

pub use set_filter_state::ConnectionState;
pub use tcp_proxy::TcpProxy;
pub use transport_socket::DownstreamSocket;

use crate::istio::{IstioStats, MetadataExchange};
use crate::refusal::{Within, is, unpack};
use crate::{HttpManager, Refusal, typed_struct};

/// What the last network filter of a chain does with a connection.
#[derive(Clone, Debug)]
pub enum Terminal {
    /// Closes it: there is no filter.
    Close,
    /// Carries its bytes to a cluster.
    Tcp(Arc<TcpProxy>),
    /// Reads HTTP from it.
    Http(Arc<HttpManager>),
}

/// A network filter before the last.
#[derive(Clone, Debug)]
pub enum NetworkFilter {
    /// Notes things of the connection.
    SetFilterState(ConnectionState),
    /// Counts Istio's standard metrics.
    IstioStats(Arc<IstioStats>),
    /// Learns who is at the other end.
    MetadataExchange(MetadataExchange),
}

/// Splits a chain's filters into those before the last and the last, which decides what the chain is for.
pub(crate) fn compile(filters: &[Filter]) -> Result<(Vec<NetworkFilter>, Terminal), Refusal> {
    let Some((last, before)) = filters.split_last() else { return Ok((Vec::new(), Terminal::Close)) };
    let before = before.iter().map(|f| NetworkFilter::compile(f).within(|| f.name.clone()));
    let before = before.collect::<Result<_, _>>()?;
    Ok((before, Terminal::compile(last).within(|| last.name.clone())?))
}

fn config(filter: &Filter) -> Result<Cow<'_, Any>, Refusal> {
    let Filter { name: _, config_type } = filter;
    match config_type {
        Some(ConfigType::TypedConfig(any)) => typed_struct::open(any),
        Some(ConfigType::ConfigDiscovery(_)) => Err(Refusal::unsupported("config_discovery")),
        None => Err(Refusal::invalid("no typed_config")),
    }
}

impl NetworkFilter {
    /// Every kind that may stand before the last is here.
    fn compile(filter: &Filter) -> Result<NetworkFilter, Refusal> {
        let config = &*config(filter)?;
        if is::<network::set_filter_state::v3::Config>(config) {
            ConnectionState::compile(unpack(config)?).map(NetworkFilter::SetFilterState)
        } else if IstioStats::is(config) {
            IstioStats::compile(config).map(|stats| NetworkFilter::IstioStats(Arc::new(stats)))
        } else if MetadataExchange::is(config) {
            MetadataExchange::compile(config).map(NetworkFilter::MetadataExchange)
        } else {
            Err(Refusal::unsupported(&config.type_url))
        }
    }
}

impl Terminal {
    /// Every kind that may stand last is here.
    fn compile(filter: &Filter) -> Result<Terminal, Refusal> {
        let config = &*config(filter)?;
        if is::<TcpProxyProto>(config) {
            TcpProxy::compile(unpack(config)?).map(|proxy| Terminal::Tcp(Arc::new(proxy)))
        } else if is::<HttpConnectionManager>(config) {
            HttpManager::compile(unpack(config)?).map(|manager| Terminal::Http(Arc::new(manager)))
        } else {
            Err(Refusal::unsupported(&config.type_url))
        }
    }
}
