//! Where connections to a cluster come from.

use std::net::{IpAddr, SocketAddr};

use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{BindConfig, ExtraSourceAddress, SocketAddress};

use crate::refusal::Within;
use crate::{Refusal, SocketOption};

/// Where connections come from; by default, where the system lets them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bind {
    /// The address for destinations of its family. The unspecified address leaves it to the system.
    pub source: Option<SocketAddr>,
    /// Others, for destinations of theirs.
    pub extra: Vec<SocketAddr>,
    /// `IP_FREEBIND`, on or off, or left as it is.
    pub freebind: Option<bool>,
    /// Further options of the socket.
    pub options: Vec<SocketOption>,
}

impl Bind {
    pub(crate) fn compile(proto: &BindConfig) -> Result<Bind, Refusal> {
        #[allow(deprecated, reason = "the older way to write extra_source_addresses")]
        let BindConfig {
            source_address,
            freebind,
            socket_options,
            extra_source_addresses,
            additional_source_addresses,
            local_address_selector,
            validate_network_namespaces,
        } = proto;
        refuse_if_set!(local_address_selector, validate_network_namespaces);
        let source = source_address.as_ref().map(address).transpose().within(|| "source_address".into())?;
        let mut extra = Vec::new();
        for ExtraSourceAddress { address: found, socket_options } in extra_source_addresses {
            refuse_if_set!(socket_options);
            let found =
                found.as_ref().ok_or_else(|| Refusal::invalid("extra_source_addresses: no address"))?;
            extra.push(address(found).within(|| "extra_source_addresses".into())?);
        }
        for found in additional_source_addresses {
            extra.push(address(found).within(|| "additional_source_addresses".into())?);
        }
        if source.is_none() && !extra.is_empty() {
            return Err(Refusal::invalid("extra_source_addresses without source_address"));
        }
        let mut options = Vec::new();
        for option in socket_options {
            options.extend(SocketOption::compile(option).within(|| "socket_options".into())?);
        }
        Ok(Bind { source, extra, freebind: freebind.as_ref().map(|flag| flag.value), options })
    }

    /// What holds for a cluster that says `own`, where this is what holds for all. As in Envoy, addresses are those of one
    /// or the other as a whole, the rest is looked up one by one.
    pub fn overridden_by(&self, own: Option<&Bind>) -> Bind {
        let Some(own) = own else { return self.clone() };
        Bind {
            source: own.source,
            extra: own.extra.clone(),
            freebind: own.freebind.or(self.freebind),
            options: if own.options.is_empty() { self.options.clone() } else { own.options.clone() },
        }
    }

    /// The address to connect from: the first of the destination's family, else the first of all, as in Envoy (connecting
    /// will fail then). `None`: none is configured, or whichever the system likes.
    pub fn source_for(&self, destination: IpAddr) -> Option<SocketAddr> {
        let mut all = self.source.iter().chain(&self.extra);
        let same = all.find(|source| source.is_ipv4() == destination.is_ipv4());
        let found = same.or(self.source.as_ref())?;
        (!found.ip().is_unspecified() || found.port() != 0).then_some(*found)
    }
}

fn address(proto: &SocketAddress) -> Result<SocketAddr, Refusal> {
    let SocketAddress {
        protocol,
        address,
        resolver_name,
        ipv4_compat,
        network_namespace_filepath,
        port_specifier,
    } = proto;
    refuse_if_set!(protocol, resolver_name, ipv4_compat, network_namespace_filepath);
    let ip: IpAddr = address.parse().map_err(|_| Refusal::invalid(format!("address {address:?}")))?;
    let port = match port_specifier {
        None => 0,
        Some(PortSpecifier::PortValue(port)) => {
            u16::try_from(*port).map_err(|_| Refusal::invalid(format!("port {port}")))?
        }
        Some(PortSpecifier::NamedPort(_)) => return Err(Refusal::unsupported("named_port")),
    };
    Ok(SocketAddr::new(ip, port))
}
