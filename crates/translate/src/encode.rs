//! Protobuf, encoded the same way every time, and the small messages that every resource is made of.
//!
//! `envoy-types` keeps proto maps in `HashMap`s with random seeds, and prost writes them in iteration order. Bytes decide
//! here whether anything is sent at all, so no such map is built by hand: [`sorted_map`] gives one that iterates in
//! order of its keys.
//!
//! Invariant: equal input gives equal bytes, in this process and in the next.

use std::collections::HashMap;
use std::hash::RandomState;
use std::net::IpAddr;
use std::sync::{OnceLock, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3::{
    Address, AggregatedConfigSource, ApiVersion, CidrRange, ConfigSource, Metadata, SocketAddress,
    TypedExtensionConfig, address, config_source, socket_address,
};
use envoy_types::pb::google::protobuf::{
    self, Any, BoolValue, Struct, UInt32Value, UInt64Value, Value, value,
};
use ipnet::IpNet;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use prost::{Message, Name};

/// The most entries [`sorted_map`] takes: finding a hasher costs the factorial of it, once per set of keys.
pub const MAP_ENTRIES: usize = 7;

/// Sets of keys whose hasher is remembered. The sets are written in this crate's code, some dozens in all; past the
/// limit a hasher is searched each time, which is slow and still right.
const KNOWN_KEY_SETS: usize = 1_024;

/// A resource's bytes.
pub fn bytes(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

/// Appends to an encoded message the start of a field of text, bytes or a message, which is to be followed by its
/// `length` bytes.
pub fn append_start(message: &mut Vec<u8>, field: u32, length: usize) {
    encode_key(field, WireType::LengthDelimited, message);
    encode_varint(length as u64, message);
}

/// Appends such a field.
pub fn append(message: &mut Vec<u8>, field: u32, value: &[u8]) {
    append_start(message, field, value.len());
    message.extend_from_slice(value);
}

/// Bytes of such a field with its start.
pub fn field_len(field: u32, length: usize) -> usize {
    key_len(field) + encoded_len_varint(length as u64) + length
}

/// A message with its type URL.
pub fn any<M: Message + Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

/// An extension under the name that Envoy's registry has for it.
pub fn extension<M: Message + Name>(name: &str, message: &M) -> TypedExtensionConfig {
    TypedExtensionConfig { name: name.to_owned(), typed_config: Some(any(message)) }
}

/// A map that iterates, and so is encoded, in the order of its keys, which must be distinct, come from this crate's
/// code and be at most [`MAP_ENTRIES`].
pub fn sorted_map<V>(entries: Vec<(&'static str, V)>) -> HashMap<String, V> {
    let mut entries = entries;
    entries.sort_by_key(|(key, _)| *key);
    debug_assert!(entries.len() <= MAP_ENTRIES, "a map of {} entries cannot be put in order", entries.len());
    let keys: Vec<&'static str> = entries.iter().map(|(key, _)| *key).collect();
    let hasher = ordering_hasher(&keys);
    let mut map = HashMap::with_capacity_and_hasher(entries.len(), hasher);
    map.extend(entries.into_iter().map(|(key, value)| (key.to_owned(), value)));
    map
}

/// A hasher with which a map of exactly these keys, inserted in this order, iterates in this order.
fn ordering_hasher(keys: &[&'static str]) -> RandomState {
    static KNOWN: OnceLock<RwLock<HashMap<Vec<&'static str>, RandomState>>> = OnceLock::new();
    if keys.len() < 2 {
        return RandomState::new();
    }
    let known = KNOWN.get_or_init(RwLock::default);
    if let Some(hasher) = known.read().unwrap_or_else(PoisonError::into_inner).get(keys) {
        return hasher.clone();
    }
    let hasher = search_hasher(keys);
    let mut known = known.write().unwrap_or_else(PoisonError::into_inner);
    if known.len() < KNOWN_KEY_SETS {
        known.insert(keys.to_vec(), hasher.clone());
    }
    hasher
}

fn search_hasher(keys: &[&'static str]) -> RandomState {
    // 5,040 orders of seven keys: missing the right one this often has a probability below 1e-40.
    const TRIES: usize = 500_000;
    for _ in 0..TRIES {
        let hasher = RandomState::new();
        let mut map = HashMap::with_capacity_and_hasher(keys.len(), hasher.clone());
        map.extend(keys.iter().map(|key| ((*key).to_owned(), ())));
        if map.keys().map(String::as_str).eq(keys.iter().copied()) {
            return hasher;
        }
    }
    RandomState::new()
}

/// A string in a `Struct`.
pub fn text(text: &str) -> Value {
    Value { kind: Some(value::Kind::StringValue(text.to_owned())) }
}

/// A boolean in a `Struct`.
pub fn boolean(value: bool) -> Value {
    Value { kind: Some(value::Kind::BoolValue(value)) }
}

/// A nested object in a `Struct`.
pub fn object(fields: Vec<(&'static str, Value)>) -> Value {
    Value { kind: Some(value::Kind::StructValue(structure(fields))) }
}

/// A list in a `Struct`.
pub fn list(values: Vec<Value>) -> Value {
    Value { kind: Some(value::Kind::ListValue(protobuf::ListValue { values })) }
}

/// A `Struct`.
pub fn structure(fields: Vec<(&'static str, Value)>) -> Struct {
    Struct { fields: sorted_map(fields) }
}

/// Filter metadata: one `Struct` per namespace.
pub fn metadata(namespaces: Vec<(&'static str, Struct)>) -> Metadata {
    Metadata { filter_metadata: sorted_map(namespaces), ..Default::default() }
}

/// A wrapped boolean.
pub fn wrapped(value: bool) -> Option<BoolValue> {
    Some(BoolValue { value })
}

/// A wrapped 32-bit number.
pub fn number(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

/// A wrapped 64-bit number.
pub fn number64(value: u64) -> Option<UInt64Value> {
    Some(UInt64Value { value })
}

/// A duration; what is beyond Envoy's range is cut to 285 years.
pub fn duration(value: Duration) -> Option<protobuf::Duration> {
    // Envoy counts nanoseconds in 63 bits, and refuses what does not fit.
    const LONGEST: u64 = 9_000_000_000;
    let seconds = value.as_secs().min(LONGEST);
    Some(protobuf::Duration { seconds: seconds as i64, nanos: value.subsec_nanos() as i32 })
}

/// A TCP address, where `host` is an IP address or, for DNS clusters, a name.
pub fn socket(host: &str, port: u16) -> Address {
    Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: host.to_owned(),
            port_specifier: Some(socket_address::PortSpecifier::PortValue(u32::from(port))),
            ..Default::default()
        })),
    }
}

/// A Unix domain socket.
pub fn pipe(path: &str) -> Address {
    use envoy_types::pb::envoy::config::core::v3::Pipe;
    Address { address: Some(address::Address::Pipe(Pipe { path: path.to_owned(), mode: 0 })) }
}

/// A prefix, without the bits that it does not cover.
pub fn cidr(net: IpNet) -> CidrRange {
    let net = net.trunc();
    CidrRange { address_prefix: net.addr().to_string(), prefix_len: number(u32::from(net.prefix_len())) }
}

/// The prefix that covers exactly one address.
pub fn host_prefix(address: IpAddr) -> IpNet {
    IpNet::from(address)
}

/// "From the stream that this came on."
pub fn ads() -> ConfigSource {
    ConfigSource {
        resource_api_version: ApiVersion::V3 as i32,
        // Without limit: every name is answered, and what went live without its answer would fail requests.
        initial_fetch_timeout: duration(Duration::ZERO),
        config_source_specifier: Some(config_source::ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_iterate_in_key_order_up_to_the_limit() {
        const KEYS: [&str; MAP_ENTRIES] = [
            "services",
            "config",
            "subset",
            "external",
            "alpn_override",
            "disable_mx",
            "default_original_port",
        ];
        for size in 0..=MAP_ENTRIES {
            let entries: Vec<(&'static str, usize)> =
                KEYS.iter().take(size).enumerate().map(|(value, key)| (*key, value)).collect();
            let map = sorted_map(entries.clone());
            let mut expected = entries;
            expected.sort();
            let got: Vec<(&str, usize)> = map.iter().map(|(key, value)| (key.as_str(), *value)).collect();
            assert_eq!(got, expected);
        }
    }

    #[test]
    fn the_same_metadata_has_the_same_bytes_every_time() {
        let build = || {
            metadata(vec![
                (
                    "istio",
                    structure(vec![
                        ("services", list(vec![object(vec![("host", text("a")), ("name", text("b"))])])),
                        ("config", text("c")),
                        ("subset", text("d")),
                    ]),
                ),
                ("envoy.transport_socket_match", structure(vec![("tlsMode", text("istio"))])),
            ])
        };
        let first = bytes(&build());
        for _ in 0..200 {
            // A clone keeps the order too, so a message may be copied into a larger one.
            assert_eq!(bytes(&build().clone()), first);
        }
    }

    #[test]
    fn prefixes_lose_the_bits_they_do_not_cover() {
        let range = cidr("1234:1f1:123:123:f816:3eff:feb8:2287/32".parse().unwrap());
        assert_eq!(range.address_prefix, "1234:1f1::");
        assert_eq!(range.prefix_len.unwrap().value, 32);
    }

    #[test]
    fn durations_beyond_envoys_range_are_cut() {
        let longest = duration(Duration::MAX).unwrap();
        assert_eq!(longest.seconds, 9_000_000_000);
        assert_eq!(duration(Duration::from_millis(1500)).unwrap().nanos, 500_000_000);
    }
}
