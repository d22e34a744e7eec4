//! Any bytes as xDS: a listener or a route configuration is taken or refused, and what is taken decides any request.
#![no_main]

use envoy_types::pb::envoy::config::listener::v3::Listener as ListenerProto;
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use http::{HeaderValue, Method};
use libfuzzer_sys::fuzz_target;
use ostro_engine::{Action, Connection, Decision, Listener, Opening, Request, RouteTable};
use prost::Message;

fuzz_target!(|input: (&[u8], &str, &[u8], u64)| {
    let (bytes, authority, path, random) = input;
    if let Some(listener) = ListenerProto::decode(bytes).ok().and_then(|p| Listener::compile(p).ok()) {
        let at = std::net::SocketAddr::from(([10, 0, 0, 1], random as u16));
        listener.chain_for(&Connection {
            destination: at,
            source: at,
            direct_source: at.ip(),
            opening: Opening::Other,
        });
    }
    if let Some(table) = RouteConfiguration::decode(bytes).ok().and_then(|p| RouteTable::compile(p).ok()) {
        let value = |bytes: &[u8]| HeaderValue::from_bytes(bytes).unwrap_or(HeaderValue::from_static("/"));
        let request = Request::new(Method::GET, value(authority.as_bytes()), value(path));
        if let Decision::Route(_, route) = table.decide(&request, random)
            && let Action::Forward(forward) = &route.action
        {
            forward.cluster(&request, random);
        }
    }
});
