//! The engine's filter chain match against stock Envoy's: random listeners, given to both, and connections of every kind.
//!
//! Every chain of Envoy's counts its connections and closes them. Addresses are of the loopback network, all of which
//! is this machine's.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test's helpers fail the test by panicking")]

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{Address, CidrRange, SocketAddress, address};
use envoy_types::pb::envoy::config::listener::v3::{
    FilterChain, FilterChainMatch, Listener as Proto, ListenerFilter, listener_filter,
};
use envoy_types::pb::envoy::extensions::filters::listener::http_inspector::v3::HttpInspector;
use envoy_types::pb::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
use envoy_types::pb::google::protobuf::UInt32Value;
use envoy_types::util::pack_any;
use ostro_engine::{ClientHello, Connection, HttpVersion, Listener, Opening, Reason};
use ostro_testkit::envoy::Envoy;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

const LISTENERS: usize = 40;
const CALLS: usize = 60;
/// No connection lasts longer.
const ANSWER_MAX: Duration = Duration::from_secs(10);

const NAMES: &[&str] = &["a.com", "b.a.com", "*.a.com", "*.com", "*.b.a.com", "B.com"];
/// Without a range of all addresses: beside a chain without ranges, which of the two Envoy takes is chance.
const RANGES: &[&str] = &["127.0.0.0/8", "127.1.0.0/16", "127.1.1.1/32", "10.0.0.0/8"];
const PROTOCOLS: &[&str] = &["http/1.1", "h2c", "h2", "istio"];
const ADDRESSES: &[&str] = &["127.0.0.1", "127.1.1.1", "127.1.2.3", "127.9.9.9"];

/// A small deterministic generator (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % below as u64).unwrap()
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.roll(from.len())]
    }

    /// None of them two times out of three, else up to two.
    fn some(&mut self, from: &[&'static str]) -> Vec<&'static str> {
        let mut some: Vec<&str> = match self.roll(3) {
            0 => (0..1 + self.roll(2)).map(|_| self.pick(from)).collect(),
            _ => Vec::new(),
        };
        some.sort_unstable();
        some.dedup();
        some
    }
}

/// One chain's match.
#[derive(Clone, Debug)]
struct Spec {
    ranges: Vec<&'static str>,
    names: Vec<&'static str>,
    transport: &'static str,
    protocols: Vec<&'static str>,
    source_type: i32,
    sources: Vec<&'static str>,
}

fn spec(dice: &mut Dice) -> Spec {
    Spec {
        ranges: dice.some(RANGES),
        names: dice.some(NAMES),
        transport: dice.pick(&["", "", "tls", "raw_buffer"]),
        protocols: dice.some(PROTOCOLS),
        source_type: [0, 0, 0, 1, 2][dice.roll(5)],
        sources: dice.some(RANGES),
    }
}

fn split(range: &str) -> (&str, u32) {
    let (address, length) = range.split_once('/').unwrap();
    (address, length.parse().unwrap())
}

fn for_engine(name: &str, specs: &[Spec], has_default: bool) -> Proto {
    let range = |range: &&str| {
        let (address, length) = split(range);
        CidrRange { address_prefix: address.into(), prefix_len: Some(UInt32Value { value: length }) }
    };
    let owned = |all: &[&str]| all.iter().map(|s| (*s).to_owned()).collect::<Vec<String>>();
    let chain = |(i, spec): (usize, &Spec)| FilterChain {
        name: format!("c{i}"),
        filter_chain_match: Some(FilterChainMatch {
            prefix_ranges: spec.ranges.iter().map(range).collect(),
            server_names: owned(&spec.names),
            transport_protocol: spec.transport.into(),
            application_protocols: owned(&spec.protocols),
            source_type: spec.source_type,
            source_prefix_ranges: spec.sources.iter().map(range).collect(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let inspector = |config| ListenerFilter {
        config_type: Some(listener_filter::ConfigType::TypedConfig(config)),
        ..Default::default()
    };
    let socket = SocketAddress {
        address: "0.0.0.0".into(),
        port_specifier: Some(PortSpecifier::PortValue(0)),
        ..Default::default()
    };
    Proto {
        name: name.into(),
        address: Some(Address { address: Some(address::Address::SocketAddress(socket)) }),
        listener_filters: vec![
            inspector(pack_any(TlsInspector::default())),
            inspector(pack_any(HttpInspector::default())),
        ],
        filter_chains: specs.iter().enumerate().map(chain).collect(),
        default_filter_chain: has_default
            .then(|| FilterChain { name: "default".into(), ..Default::default() }),
        ..Default::default()
    }
}

fn for_envoy(name: &str, specs: &[Spec], has_default: bool) -> Value {
    let range = |range: &&str| {
        let (address, length) = split(range);
        json!({"address_prefix": address, "prefix_len": length})
    };
    let filters = |chain: &str| {
        json!([{"name": "count", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": format!("{name}-{chain}"),
            "cluster": "nowhere"}}])
    };
    let chain = |(i, spec): (usize, &Spec)| {
        json!({"name": format!("c{i}"), "filters": filters(&format!("c{i}")), "filter_chain_match": {
            "prefix_ranges": spec.ranges.iter().map(range).collect::<Vec<_>>(),
            "server_names": spec.names,
            "transport_protocol": spec.transport,
            "application_protocols": spec.protocols,
            "source_type": spec.source_type,
            "source_prefix_ranges": spec.sources.iter().map(range).collect::<Vec<_>>(),
        }})
    };
    let inspector = |kind: &str| {
        let package = kind.to_lowercase().replace("inspector", "_inspector");
        json!({"name": kind, "typed_config": {
            "@type": format!("type.googleapis.com/envoy.extensions.filters.listener.{package}.v3.{kind}")}})
    };
    let mut listener = json!({
        "name": name,
        "address": {"socket_address": {"address": "0.0.0.0", "port_value": 0}},
        "listener_filters": [inspector("TlsInspector"), inspector("HttpInspector")],
        "filter_chains": specs.iter().enumerate().map(chain).collect::<Vec<_>>(),
    });
    if has_default {
        listener["default_filter_chain"] = json!({"name": "default", "filters": filters("default")});
    }
    listener
}

/// What a client says first.
#[derive(Clone, Debug)]
enum Said {
    Tls(&'static str, Vec<&'static str>),
    Http(HttpVersion),
    Other,
}

fn said(dice: &mut Dice) -> Said {
    match dice.roll(6) {
        0 => Said::Other,
        1 => Said::Http(HttpVersion::Http11),
        2 => Said::Http(HttpVersion::Http2),
        _ => {
            let names = ["", "a.com", "B.a.com", "c.b.a.com", "x.com", "org", "b.com"];
            Said::Tls(
                dice.pick(&names),
                (0..dice.roll(3)).map(|_| dice.pick(&["http/1.1", "h2", "istio"])).collect(),
            )
        }
    }
}

impl Said {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Said::Tls(name, protocols) => client_hello(name, protocols),
            Said::Http(HttpVersion::Http2) => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            Said::Http(_) => b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(),
            Said::Other => b"\x00\x01\x02\x03 neither TLS nor HTTP\r\n".to_vec(),
        }
    }
}

/// `content` with its length in front, in so many bytes.
fn sized(length_bytes: usize, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    [&length[4 - length_bytes..], content].concat()
}

/// A TLS 1.2 ClientHello (RFC 5246, 7.4.1.2) with server name (RFC 6066) and protocols (RFC 7301).
fn client_hello(name: &str, protocols: &[&str]) -> Vec<u8> {
    let mut extensions = Vec::new();
    if !name.is_empty() {
        let entry = [&[0][..], &sized(2, name.as_bytes())].concat();
        extensions.extend([&[0, 0][..], &sized(2, &sized(2, &entry))].concat());
    }
    if !protocols.is_empty() {
        let list: Vec<u8> = protocols.iter().flat_map(|p| sized(1, p.as_bytes())).collect();
        extensions.extend([&[0, 16][..], &sized(2, &sized(2, &list))].concat());
    }
    let (version, random, ciphers) = ([3, 3], [7; 32], [0xC0, 0x2F]);
    let body =
        [&version[..], &random, &sized(1, &[]), &sized(2, &ciphers), &sized(1, &[0]), &sized(2, &extensions)]
            .concat();
    let handshake = [&[1][..], &sized(3, &body)].concat();
    [&[22, 3, 1][..], &sized(2, &handshake)].concat()
}

/// Connects, says it, and waits until Envoy has closed the connection; where it came from.
async fn call(source: SocketAddr, destination: SocketAddr, said: &Said) -> SocketAddr {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(source).unwrap();
    let mut stream = socket.connect(destination).await.unwrap();
    let source = stream.local_addr().unwrap();
    // Every connection ends, with a reset or without; how does not matter.
    let _ = stream.write_all(&said.bytes()).await;
    let end = tokio::time::timeout(ANSWER_MAX, stream.read_to_end(&mut Vec::new())).await;
    let _ = end.expect("Envoy closes the connection");
    source
}

/// Connections that each chain of a listener has taken so far, by the chain's name.
fn counts(envoy: &Envoy, listener: &str) -> BTreeMap<String, u64> {
    let stats = envoy.stats(&format!("^tcp\\.{listener}-.*\\.downstream_cx_total$"));
    let chain = |name: String| Some(name.split(['-', '.']).nth(2)?.to_owned());
    stats.into_iter().filter_map(|(name, count)| Some((chain(name)?, count))).collect()
}

/// The chain whose count has grown, empty if none has.
fn grown(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> String {
    after
        .iter()
        .find(|(name, count)| before.get(*name) != Some(*count))
        .map(|(n, _)| n.clone())
        .unwrap_or_default()
}

fn by_engine(listener: &Listener, source: SocketAddr, destination: SocketAddr, said: &Said) -> String {
    let opening = match said {
        Said::Tls(server_name, protocols) => Opening::Tls(ClientHello { server_name, protocols }),
        Said::Http(version) => Opening::Http(*version),
        Said::Other => Opening::Other,
    };
    let connection = Connection { destination, source, direct_source: source.ip(), opening };
    listener.chain_for(&connection).map(|c| c.name.clone()).unwrap_or_default()
}

#[test]
fn filter_chains_are_chosen_as_envoy_chooses_them() {
    let mut dice = Dice(20_261_123);
    let (mut compiled, mut listeners) = (Vec::new(), Vec::new());
    while compiled.len() < LISTENERS {
        let name = format!("l{}", compiled.len());
        let specs: Vec<Spec> = (0..1 + dice.roll(7)).map(|_| spec(&mut dice)).collect();
        let has_default = dice.roll(3) == 0;
        match Listener::compile(for_engine(&name, &specs, has_default)) {
            Ok(listener) => {
                listeners.push(for_envoy(&name, &specs, has_default));
                compiled.push((name, listener, specs));
            }
            // Envoy would refuse it, and with it everything.
            Err(refusal) => assert!(matches!(refusal.reason(), Reason::SameMatch { .. }), "{refusal}"),
        }
    }
    let envoy = Envoy::start_ready(&json!({"static_resources": {
        "listeners": listeners,
        "clusters": [{"name": "nowhere", "type": "STATIC"}],
    }}));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (mut disagree, mut taken) = (Vec::new(), 0);
    for (name, listener, specs) in &compiled {
        let port = envoy.listener(name).port();
        let mut before = counts(&envoy, name);
        for _ in 0..CALLS {
            let mut at = |port| SocketAddr::new(dice.pick(ADDRESSES).parse::<IpAddr>().unwrap(), port);
            let (source, destination) = (at(0), at(port));
            let said = said(&mut dice);
            let source = runtime.block_on(call(source, destination, &said));
            let after = counts(&envoy, name);
            let (ours, theirs) = (by_engine(listener, source, destination, &said), grown(&before, &after));
            before = after;
            taken += usize::from(theirs.starts_with('c'));
            if ours != theirs {
                disagree.push(format!(
                    "ours {ours:?}, Envoy {theirs:?}: {source} {destination} {said:?} {specs:#?}"
                ));
            }
        }
    }
    println!("{} connections, {taken} by a match, {} disagreements", LISTENERS * CALLS, disagree.len());
    assert!(disagree.is_empty(), "{} disagreements, the first: {}", disagree.len(), disagree[0]);
    // The random listeners must go on meaning something.
    assert!(taken * 10 > LISTENERS * CALLS, "{taken}");
}
