//! Connections to the hosts of a cluster.

use std::net::SocketAddr;

use ostro_engine::balance::HostAddress;
use ostro_engine::cluster::Bind;
use ostro_engine::{Cluster, Host};

use super::error::UpstreamError;
use crate::socket::Socket;

/// Connects to a host within the cluster's `connect_timeout`. `bind`: where connections of the cluster come from.
///
/// # Errors
/// [`UpstreamError::Connect`] with the reason in Envoy's words, or [`UpstreamError::ConnectTimeout`].
pub(crate) async fn connect(cluster: &Cluster, bind: &Bind, host: &Host) -> Result<Socket, UpstreamError> {
    let HostAddress::Socket(address) = host.address else {
        return Err(UpstreamError::Connect("not an IP address".to_owned()));
    };
    match tokio::time::timeout(cluster.connect_timeout, open(cluster, bind, address)).await {
        Ok(connected) => connected,
        Err(_) => Err(UpstreamError::ConnectTimeout),
    }
}

/// Connects to an address, for as long as it takes.
///
/// # Errors
/// [`UpstreamError::Connect`] with the reason in Envoy's words.
pub(crate) async fn open(
    cluster: &Cluster,
    bind: &Bind,
    address: SocketAddr,
) -> Result<Socket, UpstreamError> {
    let options = crate::config::connect_options(bind, cluster.keepalive, address.ip());
    match ostro_transport::connect(address, &options).await {
        Ok(stream) => Ok(Socket::Plain(stream)),
        Err(error) => Err(UpstreamError::Connect(reason(&error))),
    }
}

/// As Envoy words it.
fn reason(error: &std::io::Error) -> String {
    let text = match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "Connection refused".to_owned(),
        std::io::ErrorKind::ConnectionReset => "Connection reset by peer".to_owned(),
        std::io::ErrorKind::HostUnreachable => "No route to host".to_owned(),
        std::io::ErrorKind::NetworkUnreachable => "Network is unreachable".to_owned(),
        _ => error.to_string(),
    };
    format!("delayed connect error: {text}")
}
