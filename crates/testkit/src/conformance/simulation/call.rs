//! One call, matched as Envoy would, step by step until something stops it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::{HeaderValue, Method};
use ostro_engine::{
    Action, ClientHello, Connection, Decision, DownstreamSocket, FilterChain, HttpManager, HttpVersion,
    Listener, Opening, Request, RouteTable, Routes, Scheme, Terminal,
};

use super::case::{Call, Mode, Outcome, Protocol, Tls};
use super::world::World;

/// Where calls come from: neither the proxy nor loopback.
const CALLER: ([u8; 4], u16) = ([9, 9, 9, 9], 40_000);

const VIRTUAL_INBOUND: &str = "virtualInbound";
const VIRTUAL_OUTBOUND: &str = "virtualOutbound";

/// The random number of every request: cases do not depend on it.
const RANDOM: u64 = 0;

/// What becomes of a call.
pub(super) fn run(world: &World, call: &Call) -> Outcome {
    let mut outcome = Outcome::default();
    if let Err(error) = follow(world, call, &mut outcome) {
        outcome.note("error", error);
    }
    outcome
}

/// The TLS of a call. Who names a server says so in a ClientHello, even where the case forgets to say TLS.
fn tls(call: &Call) -> Tls {
    match call.tls {
        Tls::Plaintext if call.sni.is_some() => Tls::Simple,
        stated => stated,
    }
}

/// Fills in the outcome as far as the call gets; the error is what stopped it.
fn follow(world: &World, call: &Call, outcome: &mut Outcome) -> Result<(), String> {
    let destination = SocketAddr::new(call.address, call.port);
    let listener = listener(world, call, destination)?;
    outcome.note("listener", &listener.name);

    let protocols: Vec<&str> = alpn(call).into_iter().collect();
    let server_name = call.sni.as_deref().unwrap_or(match tls(call) {
        Tls::Simple => &call.host_header,
        Tls::Plaintext | Tls::Mtls => "",
    });
    let source = SocketAddr::new(IpAddr::from(CALLER.0), CALLER.1);
    let hello = ClientHello { server_name, protocols: &protocols };
    let connection =
        Connection { destination, source, direct_source: source.ip(), opening: opening(call, hello) };
    let chain = listener.chain_for(&connection).ok_or("no-filter-chain")?;
    outcome.note("filterChain", &chain.name);
    check_tls(chain, tls(call))?;

    match &chain.terminal {
        Terminal::Close => Ok(()),
        Terminal::Tcp(proxy) => {
            outcome.note("cluster", proxy.cluster(RANDOM));
            Ok(())
        }
        Terminal::Http(manager) => {
            // What is not taken off by the chain reaches the manager, which cannot read it.
            let is_readable =
                tls(call) == Tls::Plaintext || matches!(chain.socket, DownstreamSocket::Tls { .. });
            if !is_readable || call.protocol == Protocol::Tcp {
                return Err("protocol-error".to_owned());
            }
            follow_request(world, call, manager, outcome)
        }
    }
}

fn listener<'a>(world: &'a World, call: &Call, destination: SocketAddr) -> Result<&'a Listener, String> {
    let found = match call.mode {
        Mode::Inbound => world.listeners.get(VIRTUAL_INBOUND),
        Mode::Outbound if world.is_router => world.listeners.answering(destination),
        Mode::Outbound => world.listeners.accept(VIRTUAL_OUTBOUND, destination),
    };
    // Two chains of one listener with the same match: Envoy takes none of the listener.
    let refused = !world.refused.is_empty();
    found.ok_or_else(|| if refused { "multiple-filter-chains" } else { "no-listener" }.to_owned())
}

/// What the client offers in its ClientHello.
fn alpn(call: &Call) -> Option<&str> {
    if let Some(alpn) = &call.alpn {
        return Some(alpn);
    }
    match (tls(call), call.protocol) {
        (Tls::Plaintext, _) | (Tls::Simple, Protocol::Tcp) => None,
        (Tls::Simple, Protocol::Http) => Some("http/1.1"),
        (Tls::Simple, Protocol::Http2) => Some("h2"),
        (Tls::Mtls, Protocol::Http) => Some("istio-http/1.1"),
        (Tls::Mtls, Protocol::Http2) => Some("istio-h2"),
        (Tls::Mtls, Protocol::Tcp) => Some("istio"),
    }
}

fn opening<'a>(call: &Call, hello: ClientHello<'a>) -> Opening<'a> {
    match (tls(call), call.protocol) {
        (Tls::Simple | Tls::Mtls, _) => Opening::Tls(hello),
        (Tls::Plaintext, Protocol::Http) => Opening::Http(HttpVersion::Http11),
        (Tls::Plaintext, Protocol::Http2) => Opening::Http(HttpVersion::Http2),
        (Tls::Plaintext, Protocol::Tcp) => Opening::Other,
    }
}

fn check_tls(chain: &FilterChain, tls: Tls) -> Result<(), String> {
    let DownstreamSocket::Tls { requires_client_certificate, .. } = &chain.socket else { return Ok(()) };
    match tls {
        Tls::Plaintext => Err("tls-error".to_owned()),
        Tls::Simple | Tls::Mtls if *requires_client_certificate != (tls == Tls::Mtls) => {
            Err("mtls-error".to_owned())
        }
        Tls::Simple | Tls::Mtls => Ok(()),
    }
}

fn follow_request(
    world: &World,
    call: &Call,
    manager: &HttpManager,
    outcome: &mut Outcome,
) -> Result<(), String> {
    let table = match &manager.routes {
        Routes::Inline(table) => Arc::clone(table),
        Routes::Named { name, .. } => {
            outcome.note("routeConfig", name);
            world.routes(name).map(Arc::new)?
        }
    };
    let address = SocketAddr::new(call.address, call.port).to_string();
    let header = |(name, text): (&String, &String)| Ok((name.parse().map_err(no_header)?, value(text)?));
    // Who names no host calls the address.
    let authority = value(if call.host_header.is_empty() { &address } else { &call.host_header })?;
    let request = Request {
        scheme: if tls(call) == Tls::Plaintext { Scheme::Http } else { Scheme::Https },
        headers: call.headers.iter().map(header).collect::<Result<_, String>>()?,
        ..Request::new(Method::GET, authority, value(&call.path)?)
    };
    decide(&table, &request, outcome)
}

fn value(text: &str) -> Result<HeaderValue, String> {
    text.parse().map_err(no_header)
}

fn no_header(error: impl std::fmt::Display) -> String {
    format!("the case itself: {error}")
}

fn decide(table: &RouteTable, request: &Request, outcome: &mut Outcome) -> Result<(), String> {
    let decision = table.decide(request, RANDOM);
    if let Decision::RedirectToTls(host) | Decision::NoRoute(host) | Decision::Route(host, _) = decision {
        outcome.note("virtualHost", &host.name);
    }
    match decision {
        Decision::NoVirtualHost => Err("no-virtual-host".to_owned()),
        Decision::RedirectToTls(_) => Err("tls-redirect".to_owned()),
        Decision::NoRoute(_) => Err("no-route".to_owned()),
        Decision::Route(_, route) => {
            outcome.note("route", &route.name);
            if let Action::Forward(forward) = &route.action {
                outcome.note("cluster", forward.cluster(request, RANDOM).unwrap_or_default());
            }
            Ok(())
        }
    }
}
