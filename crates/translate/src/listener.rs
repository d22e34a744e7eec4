//! LDS: listeners by name, and which names a proxy has. The parts are in `outbound`, `inbound` and `gateway`.

use std::net::{IpAddr, Ipv6Addr};

use bytes::Bytes;
use envoy_types::pb::envoy::config::listener::v3::{AdditionalAddress, Listener};
use ostro_mesh::{ProxyKind, View};
use ostro_names::Name;

use crate::encode::{bytes, duration, socket};
use crate::filters::{http_inspector, tls_inspector};
use crate::{Part, gateway, http_proxy, inbound, names, outbound};

/// What the HTTP inspector calls the HTTP that it sees in plaintext. HTTP/1.0 is not among it: it is opaque.
pub const HTTP_ALPN: [&str; 2] = ["http/1.1", "h2c"];
/// What the TLS inspector calls a connection without TLS.
pub const RAW_BUFFER: &str = "raw_buffer";

/// The listener of this name, if this proxy has it.
pub fn content(view: &View<'_>, name: Name) -> Option<Bytes> {
    if view.kind() == ProxyKind::Router {
        return gateway::listener(view, name);
    }
    let listener = match name.as_str() {
        names::VIRTUAL_OUTBOUND => outbound::virtual_outbound(view),
        names::VIRTUAL_INBOUND => inbound::virtual_inbound(view),
        other => {
            let (bind, port) = names::parse_listener(other)?;
            let proxy = (bind == http_proxy::ADDRESS).then(|| http_proxy::listener(view, port)).flatten();
            proxy.or_else(|| outbound::content(view, bind, port))?
        }
    };
    Some(bytes(&listener))
}

/// The listeners that `part` contributes.
pub fn part_names(view: &View<'_>, part: Part) -> Vec<Name> {
    match part {
        Part::Fixed => {
            let captured = [names::VIRTUAL_INBOUND, names::VIRTUAL_OUTBOUND].map(str::to_owned);
            names::sorted(captured.into_iter().chain(http_proxy::name(view)))
        }
        Part::Inbound => Vec::new(),
        Part::Gateways => gateway::part_names(view),
        Part::Host(host) => outbound::host_names(view, host),
    }
}

/// A listener at the IPv4 wildcard listens at the IPv6 one too if the proxy has both.
pub fn both_families(view: &View<'_>, listener: &mut Listener, bind: IpAddr, port: u16) {
    if view.families() == (true, true) && bind.is_unspecified() && bind.is_ipv4() {
        let address = Some(socket(&Ipv6Addr::UNSPECIFIED.to_string(), port));
        listener.additional_addresses = vec![AdditionalAddress { address, ..Default::default() }];
    }
}

/// Looks at a connection's first bytes, as far as the listener's chains differ by them; gives up after the mesh's
/// time limit, and then goes on with what is known.
pub fn detection(view: &View<'_>, listener: &mut Listener) {
    let mut tls = false;
    let mut http = false;
    for matched in listener.filter_chains.iter().filter_map(|chain| chain.filter_chain_match.as_ref()) {
        tls |= !matched.server_names.is_empty() || !matched.transport_protocol.is_empty();
        http |= !matched.application_protocols.is_empty();
    }
    if tls {
        listener.listener_filters.push(tls_inspector());
    }
    if http {
        listener.listener_filters.push(http_inspector());
    }
    if tls || http {
        give_up(view, listener);
    }
}

/// The limit of detection. Zero is Envoy's "forever".
pub fn give_up(view: &View<'_>, listener: &mut Listener) {
    listener.listener_filters_timeout = duration(view.mesh_config().protocol_detection_timeout);
    listener.continue_on_listener_filters_timeout = true;
}
