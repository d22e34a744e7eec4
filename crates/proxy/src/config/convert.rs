//! Socket settings as configured, as the transport takes them.

use std::net::IpAddr;

use ostro_engine as engine;
use ostro_engine::cluster::{Bind, DnsFamily};
use ostro_transport::dns::Family;
use ostro_transport::{ConnectOptions, Keepalive, ListenOptions, SocketOption};

/// Keepalive.
fn keepalive(of: engine::TcpKeepalive) -> Keepalive {
    Keepalive { probes: of.probes, time: of.time, interval: of.interval }
}

/// The mark of sockets that are bound so, if they get one.
pub(crate) fn mark(bind: &Bind) -> Option<u32> {
    socket_options(&bind.options).iter().rev().find_map(|option| match option {
        SocketOption::Mark(mark) => Some(*mark),
        _ => None,
    })
}

/// Options that the transport knows; others are refused when the configuration is taken.
fn socket_options(options: &[engine::SocketOption]) -> Vec<SocketOption> {
    options.iter().filter_map(|option| socket_option(option).ok()).collect()
}

/// An option as the transport knows it.
///
/// # Errors
/// Why it does not.
pub(crate) fn socket_option(option: &engine::SocketOption) -> Result<SocketOption, String> {
    let engine::SocketOption { level, name, .. } = *option;
    let value = <[u8; 4]>::try_from(&option.value[..]).map_err(|_| {
        format!("socket option {name} of level {level} that is not a number is not supported")
    })?;
    let value = i32::from_ne_bytes(value);
    SocketOption::from_raw(level.into(), name.into(), value.into()).map_err(|unknown| unknown.to_string())
}

/// How a socket toward an address is made.
pub(crate) fn connect_options(
    bind: &Bind,
    keepalive: Option<engine::TcpKeepalive>,
    to: IpAddr,
) -> ConnectOptions {
    ConnectOptions {
        bind: bind.source_for(to),
        freebind: bind.freebind.unwrap_or_default(),
        keepalive: keepalive.map(self::keepalive),
        options: socket_options(&bind.options),
        ..ConnectOptions::default()
    }
}

/// How a listener's sockets are made.
pub(crate) fn listen_options(settings: &engine::SocketSettings) -> ListenOptions {
    ListenOptions {
        reuse_port: settings.reuse_port,
        backlog: settings.backlog.and_then(std::num::NonZeroU32::new),
        transparent: settings.transparent.unwrap_or_default(),
        freebind: settings.freebind.unwrap_or_default(),
        ipv4_compat: settings.takes_ipv4,
        keepalive: settings.keepalive.map(keepalive),
        options: socket_options(&settings.options),
    }
}

/// Which addresses of a name are asked for.
pub(crate) fn family(of: DnsFamily) -> Family {
    match of {
        DnsFamily::Auto => Family::Auto,
        DnsFamily::V4Only => Family::V4Only,
        DnsFamily::V6Only => Family::V6Only,
        DnsFamily::V4Preferred => Family::V4Preferred,
        DnsFamily::All => Family::All,
    }
}
