//! Socket settings as configured, as the transport takes them.

use ostro_engine as engine;
use ostro_engine::cluster::DnsFamily;
use ostro_transport::dns::Family;
use ostro_transport::{Keepalive, ListenOptions, SocketOption};

/// Keepalive.
pub(crate) fn keepalive(of: engine::TcpKeepalive) -> Keepalive {
    Keepalive { probes: of.probes, time: of.time, interval: of.interval }
}

/// Options that the transport knows; others were refused when the configuration was taken.
pub(crate) fn socket_options(options: &[engine::SocketOption]) -> Vec<SocketOption> {
    options.iter().filter_map(socket_option).collect()
}

fn socket_option(option: &engine::SocketOption) -> Option<SocketOption> {
    let value = i32::from_ne_bytes(option.value.get(..4)?.try_into().ok()?);
    SocketOption::from_raw(i64::from(option.level), i64::from(option.name), i64::from(value)).ok()
}

/// How a listener's sockets are made.
pub(crate) fn listen_options(settings: &engine::SocketSettings) -> ListenOptions {
    ListenOptions {
        reuse_port: settings.reuse_port,
        backlog: settings.backlog.and_then(std::num::NonZeroU32::new),
        transparent: settings.transparent.unwrap_or_default(),
        freebind: settings.freebind.unwrap_or_default(),
        ipv4_compat: settings.takes_ipv4,
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
