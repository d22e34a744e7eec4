//! Network filters of a filter chain: what a connection is for. One file for each kind.

mod set_filter_state;
mod tcp_proxy;
mod transport_socket;

use envoy_types::pb::envoy::config::listener::v3::Filter;
use envoy_types::pb::envoy::config::listener::v3::filter::ConfigType;
use envoy_types::pb::envoy::extensions::filters::network;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy as TcpProxyProto;
use envoy_types::pb::google::protobuf::Any;

pub use set_filter_state::ConnectionState;
pub use tcp_proxy::TcpProxy;
pub use transport_socket::DownstreamSocket;

use crate::refusal::{Within, is, unpack};
use crate::{HttpManager, Refusal};

/// What the last network filter of a chain does with a connection.
#[derive(Clone, Debug)]
pub enum Terminal {
    /// Closes it: there is no filter.
    Close,
    /// Carries its bytes to a cluster.
    Tcp(Box<TcpProxy>),
    /// Reads HTTP from it.
    Http(Box<HttpManager>),
}

/// A network filter before the last.
#[derive(Clone, Debug)]
pub enum NetworkFilter {
    /// Notes things of the connection.
    SetFilterState(ConnectionState),
}

/// Splits a chain's filters into those before the last and the last, which decides what the chain is for.
pub(crate) fn compile(filters: &[Filter]) -> Result<(Vec<NetworkFilter>, Terminal), Refusal> {
    let Some((last, before)) = filters.split_last() else { return Ok((Vec::new(), Terminal::Close)) };
    let before = before.iter().map(|f| NetworkFilter::compile(f).within(|| f.name.clone()));
    let before = before.collect::<Result<_, _>>()?;
    Ok((before, Terminal::compile(last).within(|| last.name.clone())?))
}

fn config(filter: &Filter) -> Result<&Any, Refusal> {
    let Filter { name: _, config_type } = filter;
    match config_type {
        Some(ConfigType::TypedConfig(any)) => Ok(any),
        Some(ConfigType::ConfigDiscovery(_)) => Err(Refusal::unsupported("config_discovery")),
        None => Err(Refusal::invalid("no typed_config")),
    }
}

impl NetworkFilter {
    /// Every kind that may stand before the last is here.
    fn compile(filter: &Filter) -> Result<NetworkFilter, Refusal> {
        let config = config(filter)?;
        if is::<network::set_filter_state::v3::Config>(config) {
            ConnectionState::compile(unpack(config)?).map(NetworkFilter::SetFilterState)
        } else {
            Err(Refusal::unsupported(&config.type_url))
        }
    }
}

impl Terminal {
    /// Every kind that may stand last is here.
    fn compile(filter: &Filter) -> Result<Terminal, Refusal> {
        let config = config(filter)?;
        if is::<TcpProxyProto>(config) {
            TcpProxy::compile(unpack(config)?).map(|proxy| Terminal::Tcp(Box::new(proxy)))
        } else if is::<HttpConnectionManager>(config) {
            HttpManager::compile(unpack(config)?).map(|manager| Terminal::Http(Box::new(manager)))
        } else {
            Err(Refusal::unsupported(&config.type_url))
        }
    }
}
