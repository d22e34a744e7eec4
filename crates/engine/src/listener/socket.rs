//! How a listener's sockets are set up.

use envoy_types::pb::envoy::config::listener::v3::Listener as Proto;

use crate::proto::{flag, number};
use crate::refusal::Within;
use crate::{Refusal, SocketOption, TcpKeepalive};

/// Settings of the sockets that a listener binds.
#[derive(Clone, Debug)]
pub struct SocketSettings {
    /// `IP_TRANSPARENT` on or off, or left as it is.
    pub transparent: Option<bool>,
    /// `IP_FREEBIND` on or off, or left as it is.
    pub freebind: Option<bool>,
    /// A socket for each worker (`SO_REUSEPORT`), or one for all.
    pub reuse_port: bool,
    /// Connections that may wait to be accepted; `None` for the system's limit.
    pub backlog: Option<u32>,
    /// TCP Fast Open with a queue of this length, 0 to switch it off, or left as it is.
    pub fast_open: Option<u32>,
    /// TCP keepalive, if it is wanted.
    pub keepalive: Option<TcpKeepalive>,
    /// Further options, in order.
    pub options: Vec<SocketOption>,
    /// A socket at `[::]` takes IPv4 connections too.
    pub takes_ipv4: bool,
}

impl SocketSettings {
    pub(super) fn compile(proto: &Proto, takes_ipv4: bool) -> Result<SocketSettings, Refusal> {
        let options = proto.socket_options.iter().enumerate();
        let options = options.filter_map(|(place, option)| {
            SocketOption::compile(option).within(|| format!("socket_options[{place}]")).transpose()
        });
        Ok(SocketSettings {
            transparent: proto.transparent.as_ref().map(|flag| flag.value),
            freebind: proto.freebind.as_ref().map(|flag| flag.value),
            reuse_port: flag(proto.enable_reuse_port.as_ref(), true),
            backlog: number(proto.tcp_backlog_size.as_ref()),
            fast_open: number(proto.tcp_fast_open_queue_length.as_ref()),
            keepalive: proto.tcp_keepalive.as_ref().map(TcpKeepalive::compile),
            options: options.collect::<Result<_, _>>()?,
            takes_ipv4,
        })
    }
}
