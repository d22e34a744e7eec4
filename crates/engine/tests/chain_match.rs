//! Filter chain match: Envoy's order, against a definition that shares nothing with the implementation.
//!
//! The definition: take every combination of criteria every chain admits. Level by level, in Envoy's order, drop
//! those that do not fit, then those less specific than the best that is left. What remains is one chain.
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

use std::net::{IpAddr, SocketAddr};

use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{Address, CidrRange, SocketAddress, address};
use envoy_types::pb::envoy::config::listener::v3::{
    FilterChain, FilterChainMatch, Listener as Proto, ListenerFilter, listener_filter,
};
use envoy_types::pb::envoy::extensions::filters::listener::http_inspector::v3::HttpInspector;
use envoy_types::pb::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
use envoy_types::util::pack_any;
use ipnet::IpNet;
use ostro_engine::{ClientHello, Connection, HttpVersion, Listener, Opening, Reason};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

#[derive(Clone, Debug, PartialEq)]
struct Criteria {
    port: Option<u16>,
    prefix: Option<&'static str>,
    name: Option<&'static str>,
    transport: &'static str,
    protocol: Option<&'static str>,
    source_type: i32,
    source: Option<&'static str>,
    source_port: Option<u16>,
}

#[derive(Clone, Debug)]
struct Spec {
    port: Option<u16>,
    prefixes: Vec<&'static str>,
    names: Vec<&'static str>,
    transport: &'static str,
    protocols: Vec<&'static str>,
    source_type: i32,
    sources: Vec<&'static str>,
    source_ports: Vec<u16>,
}

#[derive(Clone, Debug)]
struct Call {
    destination: SocketAddr,
    source: SocketAddr,
    opening: Said,
}

#[derive(Clone, Debug)]
enum Said {
    Tls(&'static str, Vec<&'static str>),
    Http(HttpVersion),
    Other,
}

const NAMES: &[&str] = &["a.com", "b.a.com", "*.a.com", "*.com", "*.b.a.com"];
const PREFIXES: &[&str] = &["10.0.0.0/8", "10.1.0.0/16", "10.1.1.1/32", "fd00::/8"];
const PROTOCOLS: &[&str] = &["http/1.1", "h2c", "h2", "istio"];

fn spec() -> impl Strategy<Value = Spec> {
    (
        prop::option::weighted(0.4, select(vec![80_u16, 443])),
        subsequence(PREFIXES, 0..3),
        subsequence(NAMES, 0..3),
        select(vec!["", "", "tls", "raw_buffer"]),
        subsequence(PROTOCOLS, 0..3),
        select(vec![0, 0, 1, 2]),
        subsequence(PREFIXES, 0..3),
        subsequence(vec![1000_u16, 2000], 0..2),
    )
        .prop_map(|(port, prefixes, names, transport, protocols, source_type, sources, source_ports)| {
            Spec { port, prefixes, names, transport, protocols, source_type, sources, source_ports }
        })
}

fn call() -> impl Strategy<Value = Call> {
    let ips = select(vec!["10.1.1.1", "10.1.2.3", "10.9.9.9", "192.0.2.1", "127.0.0.1", "fd00::1"]);
    let ports = select(vec![80_u16, 443, 8080]);
    let tls =
        (select(vec!["", "a.com", "B.a.com", "c.b.a.com", "x.com", "org"]), subsequence(PROTOCOLS, 0..3))
            .prop_map(|(name, protocols)| Said::Tls(name, protocols));
    let http = select(vec![HttpVersion::Http11, HttpVersion::Http2]).prop_map(Said::Http);
    let said = prop_oneof![tls, http, Just(Said::Other)];
    (ips.clone(), ports, ips, select(vec![1000_u16, 3000]), said).prop_map(
        |(to, port, from, from_port, opening)| {
            let at = |ip: &str, port| SocketAddr::new(ip.parse().unwrap(), port);
            Call { destination: at(to, port), source: at(from, from_port), opening }
        },
    )
}

fn range(text: &str) -> CidrRange {
    let (ip, length) = text.split_once('/').unwrap();
    CidrRange {
        address_prefix: ip.to_owned(),
        prefix_len: Some(length.parse::<u32>().unwrap().into_wrapper()),
    }
}

trait IntoWrapper {
    fn into_wrapper(self) -> envoy_types::pb::google::protobuf::UInt32Value;
}

impl IntoWrapper for u32 {
    fn into_wrapper(self) -> envoy_types::pb::google::protobuf::UInt32Value {
        envoy_types::pb::google::protobuf::UInt32Value { value: self }
    }
}

fn strings(all: &[&str]) -> Vec<String> {
    all.iter().map(|s| (*s).to_owned()).collect()
}

fn listener(specs: &[Spec]) -> Proto {
    let chain = |(i, s): (usize, &Spec)| FilterChain {
        name: i.to_string(),
        filter_chain_match: Some(FilterChainMatch {
            destination_port: s.port.map(|p| u32::from(p).into_wrapper()),
            prefix_ranges: s.prefixes.iter().map(|p| range(p)).collect(),
            server_names: strings(&s.names),
            transport_protocol: s.transport.to_owned(),
            application_protocols: strings(&s.protocols),
            source_type: s.source_type,
            source_prefix_ranges: s.sources.iter().map(|p| range(p)).collect(),
            source_ports: s.source_ports.iter().map(|p| u32::from(*p)).collect(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let inspector = |any| ListenerFilter {
        config_type: Some(listener_filter::ConfigType::TypedConfig(any)),
        ..Default::default()
    };
    Proto {
        name: "l".into(),
        address: Some(Address {
            address: Some(address::Address::SocketAddress(SocketAddress {
                address: "0.0.0.0".into(),
                port_specifier: Some(PortSpecifier::PortValue(15001)),
                ..Default::default()
            })),
        }),
        listener_filters: vec![
            inspector(pack_any(TlsInspector::default())),
            inspector(pack_any(HttpInspector::default())),
        ],
        filter_chains: specs.iter().enumerate().map(chain).collect(),
        ..Default::default()
    }
}

fn some_or_any<T: Copy>(all: &[T]) -> Vec<Option<T>> {
    if all.is_empty() { vec![None] } else { all.iter().copied().map(Some).collect() }
}

fn combinations(specs: &[Spec]) -> Vec<(usize, Criteria)> {
    let mut all = Vec::new();
    for (i, s) in specs.iter().enumerate() {
        for prefix in some_or_any(&s.prefixes) {
            for name in some_or_any(&s.names) {
                for protocol in some_or_any(&s.protocols) {
                    for source in some_or_any(&s.sources) {
                        for source_port in some_or_any(&s.source_ports) {
                            let criteria = Criteria {
                                port: s.port,
                                prefix,
                                name,
                                transport: s.transport,
                                protocol,
                                source_type: s.source_type,
                                source,
                                source_port,
                            };
                            all.push((i, criteria));
                        }
                    }
                }
            }
        }
    }
    all
}

/// Keeps what fits best: `fit` is `None` if a combination does not fit, else how specific it is.
fn keep(left: &mut Vec<(usize, Criteria)>, fit: impl Fn(&Criteria) -> Option<usize>) {
    let best = left.iter().filter_map(|(_, c)| fit(c)).max();
    left.retain(|(_, c)| best.is_some() && fit(c) == best);
}

fn in_range(range: Option<&str>, ip: IpAddr) -> Option<usize> {
    let Some(range) = range else { return Some(0) };
    let net: IpNet = range.parse().unwrap();
    net.contains(&ip).then(|| 1 + usize::from(net.prefix_len()))
}

fn by_definition(specs: &[Spec], call: &Call) -> Option<usize> {
    let (transport, sni, protocols) = match &call.opening {
        Said::Tls(name, protocols) => ("tls", name.to_lowercase(), protocols.clone()),
        Said::Http(version) => ("raw_buffer", String::new(), vec![version.protocol()]),
        Said::Other => ("raw_buffer", String::new(), vec![]),
    };
    let mut left = combinations(specs);
    keep(&mut left, |c| match c.port {
        None => Some(0),
        Some(port) => (port == call.destination.port()).then_some(1),
    });
    keep(&mut left, |c| in_range(c.prefix, call.destination.ip()));
    keep(&mut left, |c| match c.name {
        None => Some(0),
        Some(name) => match name.strip_prefix('*') {
            Some(suffix) => (sni.ends_with(suffix) && sni.len() > suffix.len()).then_some(suffix.len()),
            None => (name == sni).then_some(usize::MAX),
        },
    });
    keep(
        &mut left,
        |c| if c.transport.is_empty() { Some(0) } else { (c.transport == transport).then_some(1) },
    );
    keep(&mut left, |c| match c.protocol {
        None => Some(0),
        // The client's order decides, not the listener's.
        Some(p) => protocols.iter().position(|q| *q == p).map(|place| 100 - place),
    });
    let local = call.source.ip() == call.destination.ip() || call.source.ip().is_loopback();
    keep(&mut left, |c| match c.source_type {
        0 => Some(0),
        1 => local.then_some(1),
        _ => (!local).then_some(1),
    });
    keep(&mut left, |c| in_range(c.source, call.source.ip()));
    keep(&mut left, |c| match c.source_port {
        None => Some(0),
        Some(port) => (port == call.source.port()).then_some(1),
    });
    left.first().map(|(i, _)| *i)
}

fn by_engine(listener: &Listener, call: &Call) -> Option<usize> {
    let opening = match &call.opening {
        Said::Tls(server_name, protocols) => Opening::Tls(ClientHello { server_name, protocols }),
        Said::Http(version) => Opening::Http(*version),
        Said::Other => Opening::Other,
    };
    let connection = Connection {
        destination: call.destination,
        source: call.source,
        direct_source: call.source.ip(),
        opening,
    };
    listener.chain_for(&connection).map(|c| c.name.parse().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_tree_finds_what_the_definition_finds(
        specs in prop::collection::vec(spec(), 1..8),
        calls in prop::collection::vec(call(), 1..12),
    ) {
        let all = combinations(&specs);
        let twice = all.iter().any(|(i, c)| all.iter().any(|(j, d)| i < j && c == d));
        match Listener::compile(listener(&specs)) {
            Ok(listener) => {
                prop_assert!(!twice);
                for call in &calls {
                    prop_assert_eq!(by_engine(&listener, call), by_definition(&specs, call), "{:?}", call);
                }
            }
            Err(refusal) => prop_assert!(twice && matches!(refusal.reason(), Reason::SameMatch { .. }), "{}", refusal),
        }
    }
}

fn chain(port: Option<u16>, names: &[&'static str]) -> Spec {
    Spec {
        port,
        prefixes: vec![],
        names: names.to_vec(),
        transport: "",
        protocols: vec![],
        source_type: 0,
        sources: vec![],
        source_ports: vec![],
    }
}

fn to(port: u16, server_name: &'static str) -> Call {
    let at = |p| SocketAddr::new("10.0.0.1".parse().unwrap(), p);
    Call { destination: at(port), source: at(1), opening: Said::Tls(server_name, vec![]) }
}

#[test]
fn a_matching_port_is_never_left_again_except_for_the_default_chain() {
    let specs = [chain(Some(443), &["a.com"]), chain(None, &[])];
    let mut proto = listener(&specs);
    let compiled = Listener::compile(proto.clone()).unwrap();
    assert_eq!(by_engine(&compiled, &to(443, "b.com")), None);
    assert_eq!(by_engine(&compiled, &to(80, "b.com")), Some(1));
    proto.default_filter_chain = Some(FilterChain { name: "9".into(), ..Default::default() });
    let compiled = Listener::compile(proto).unwrap();
    assert_eq!(by_engine(&compiled, &to(443, "b.com")), Some(9));
}

#[test]
fn without_inspectors_everything_is_plaintext_of_unknown_kind() {
    let mut tls_only = chain(None, &[]);
    tls_only.transport = "tls";
    let mut proto = listener(&[tls_only, chain(None, &[])]);
    proto.listener_filters.clear();
    let compiled = Listener::compile(proto).unwrap();
    assert_eq!(by_engine(&compiled, &to(443, "a.com")), Some(1));
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let mut proto = listener(&[chain(None, &[])]);
    proto.filter_chains[0].filter_chain_match.as_mut().unwrap().address_suffix = "1".into();
    let refusal = Listener::compile(proto).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "listener l.filter_chains[0].filter_chain_match: not supported: address_suffix"
    );

    let refusal = Listener::compile(listener(&[chain(None, &["a*.com"])])).unwrap_err();
    assert!(matches!(refusal.reason(), Reason::Invalid(_)), "{refusal}");
}
