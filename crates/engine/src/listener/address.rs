//! Addresses in configuration: IP addresses and ports.

use std::net::{IpAddr, SocketAddr};

use envoy_types::pb::envoy::config::core::v3::address::Address as AddressKind;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{Address, SocketAddress};

use crate::Refusal;

/// An IP address and port, and whether an IPv6 socket there takes IPv4 too; pipes and names are refused.
pub(crate) fn socket_address(address: &Address) -> Result<(SocketAddr, bool), Refusal> {
    let Some(AddressKind::SocketAddress(address)) = &address.address else {
        return Err(Refusal::unsupported("an address that is no socket address"));
    };
    let SocketAddress {
        protocol,
        address,
        resolver_name,
        ipv4_compat,
        network_namespace_filepath,
        port_specifier,
    } = address;
    refuse_if_set!(protocol, resolver_name, network_namespace_filepath);
    let ip: IpAddr = address.parse().map_err(|_| Refusal::invalid(format!("IP address {address:?}")))?;
    let port = match port_specifier {
        Some(PortSpecifier::PortValue(port)) => {
            u16::try_from(*port).map_err(|_| Refusal::invalid(format!("port {port}")))?
        }
        Some(PortSpecifier::NamedPort(_)) => return Err(Refusal::unsupported("named_port")),
        None => return Err(Refusal::invalid("no port")),
    };
    Ok((SocketAddr::new(ip, port), *ipv4_compat))
}
