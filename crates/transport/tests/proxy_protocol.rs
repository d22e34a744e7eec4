//! The PROXY protocol: the specification's examples, everything cut at every byte, and any bytes at all.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;

use ostro_transport::proxy_protocol::{
    Addresses, Header, Malformed, Progress, V1_MAX, V2_MAX, Version, encode, parse,
};
use proptest::prelude::*;

fn addresses(source: &str, destination: &str) -> Addresses {
    Addresses { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
}

fn done(bytes: &[u8]) -> (Header<'_>, usize) {
    match parse(bytes) {
        Ok(Progress::Done { header, length }) => (header, length),
        other => panic!("{:?}: {other:?}", String::from_utf8_lossy(bytes)),
    }
}

#[test]
fn version_1() {
    let bytes = b"PROXY TCP4 255.255.255.255 1.2.3.4 65535 443\r\nGET / HTTP/1.1\r\n\r\n";
    let (header, length) = done(bytes);
    assert_eq!(header.addresses, Some(addresses("255.255.255.255:65535", "1.2.3.4:443")));
    assert_eq!((header.version, &bytes[length..length + 5]), (Version::V1, &b"GET /"[..]));
    let longest = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    let line = format!("PROXY TCP6 {longest} {longest} 65535 65535\r\n");
    let end: SocketAddr = format!("[{longest}]:65535").parse().unwrap();
    assert_eq!(done(line.as_bytes()).0.addresses, Some(Addresses { source: end, destination: end }));
    assert_eq!(done(b"PROXY UNKNOWN\r\n").0.addresses, None);
    assert_eq!(done(b"PROXY UNKNOWN ffff::1 whatever else\r\n").0.addresses, None);
}

#[test]
fn lines_that_are_none() {
    for (line, wrong) in [
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n", Malformed::Line),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1 2 \r\n", Malformed::Line),
        ("PROXY TCP4  1.1.1.1 2.2.2.2 1 2\r\n", Malformed::Line),
        ("PROXY UDP4 1.1.1.1 2.2.2.2 1 2\r\n", Malformed::Line),
        ("PROXY UNKNOWNS\r\n", Malformed::Line),
        ("PROXY TCP4 ::1 2.2.2.2 1 2\r\n", Malformed::Address),
        ("PROXY TCP6 1.1.1.1 ::2 1 2\r\n", Malformed::Address),
        ("PROXY TCP4 1.1.1.01 2.2.2.2 1 2\r\n", Malformed::Address),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n", Malformed::Port),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 +1 2\r\n", Malformed::Port),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1 65536\r\n", Malformed::Port),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1 \r\n", Malformed::Port),
    ] {
        assert_eq!(parse(line.as_bytes()), Err(wrong), "{line}");
    }
    let endless = [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; V1_MAX]].concat();
    assert_eq!(parse(&endless), Err(Malformed::Endless));
    assert_eq!(parse(b"PROXY TCP4 \xff\r\n"), Err(Malformed::Line));
}

#[test]
fn version_2() {
    let mut bytes = Vec::new();
    let tlvs: &[(u8, &[u8])] = &[(0x02, b"a.example"), (0xea, b"")];
    let ends = addresses("[2001:db8::1]:4000", "[2001:db8::2]:443");
    encode(Version::V2, Some(&ends), tlvs, &mut bytes).unwrap();
    bytes.extend_from_slice(b"hello");
    let (header, length) = done(&bytes);
    assert_eq!((header.addresses, &bytes[length..]), (Some(ends), &b"hello"[..]));
    let read: Vec<_> = header.tlvs().map(Result::unwrap).collect();
    assert_eq!(read, tlvs);
}

fn raw(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &length, body].concat()
}

#[test]
fn version_2_in_raw_bytes() {
    let v4 = [10, 0, 0, 1, 10, 0, 0, 2, 0x1f, 0x90, 0, 80];
    assert_eq!(done(&raw(0x21, 0x11, &v4)).0.addresses, Some(addresses("10.0.0.1:8080", "10.0.0.2:80")));
    assert_eq!(done(&raw(0x21, 0x12, &v4)).0.addresses, Some(addresses("10.0.0.1:8080", "10.0.0.2:80")));
    // Its own, unspecified, a unix socket: the connection's own addresses hold.
    assert_eq!(done(&raw(0x20, 0x11, &v4)).0.addresses, None);
    assert_eq!(done(&raw(0x20, 0x11, b"")).0.addresses, None);
    assert_eq!(done(&raw(0x21, 0x00, b"whatever")).0.addresses, None);
    assert_eq!(done(&raw(0x21, 0x31, &[b'/'; 216])).0.addresses, None);
    assert_eq!(parse(&raw(0x21, 0x11, &v4[..11])), Err(Malformed::Short));
    assert_eq!(parse(&raw(0x21, 0x21, &v4)), Err(Malformed::Short));
    for command in [0x11, 0x22, 0x00, 0x31] {
        assert_eq!(parse(&raw(command, 0x11, &v4)), Err(Malformed::Command(command)));
        assert_eq!(parse(&raw(command, 0x11, &v4)[..13]), Err(Malformed::Command(command)));
    }
    let cut = raw(0x21, 0x11, &[&v4[..], &[1, 0, 9, 0]].concat());
    assert_eq!(done(&cut).0.tlvs().collect::<Vec<_>>(), [Err(Malformed::Tlv)]);
}

#[test]
fn what_is_something_else_is_seen_at_the_first_byte_that_differs() {
    for (bytes, progress) in [
        (&b""[..], Progress::NeedMore),
        (b"P", Progress::NeedMore),
        (b"PROXY", Progress::NeedMore),
        (b"\r\n\r", Progress::NeedMore),
        (b"PU", Progress::Absent),
        (b"PROXYS", Progress::Absent),
        (b"GET / HTTP/1.1", Progress::Absent),
        (b"\r\n\r\n\0\r\nQUIT ", Progress::Absent),
        (b"\x16\x03\x01", Progress::Absent),
    ] {
        assert_eq!(parse(bytes), Ok(progress), "{bytes:?}");
    }
}

#[test]
fn too_much_to_say() {
    let mut bytes = Vec::new();
    let long = vec![0; 65_536];
    assert!(encode(Version::V2, None, &[(1, &long)], &mut bytes).is_err());
    assert!(encode(Version::V2, None, &[(1, &long[..40_000]), (1, &long[..40_000])], &mut bytes).is_err());
    assert!(encode(Version::V1, None, &[(1, b"")], &mut bytes).is_err());
    assert!(bytes.is_empty());
    encode(Version::V2, None, &[(1, &long[..65_532])], &mut bytes).unwrap();
    assert_eq!((bytes.len(), done(&bytes).1), (V2_MAX, V2_MAX));
}

fn any_end() -> impl Strategy<Value = SocketAddr> {
    (any::<std::net::IpAddr>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

proptest! {
    /// What is written is read again, whatever follows, and not before its last byte.
    #[test]
    fn there_and_back(
        ends in proptest::option::of((any_end(), any_end())),
        tlvs in proptest::collection::vec((any::<u8>(), proptest::collection::vec(any::<u8>(), 0..40)), 0..4),
        v2 in any::<bool>(),
        rest in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let ends = ends.map(|(source, destination)| Addresses { source, destination });
        let version = if v2 { Version::V2 } else { Version::V1 };
        let tlvs: Vec<(u8, &[u8])> = if v2 { tlvs.iter().map(|(t, v)| (*t, v.as_slice())).collect() } else { vec![] };
        let mut bytes = Vec::new();
        encode(version, ends.as_ref(), &tlvs, &mut bytes).unwrap();
        let whole = bytes.len();
        for cut in 0..whole {
            prop_assert_eq!(parse(&bytes[..cut]), Ok(Progress::NeedMore));
        }
        bytes.extend_from_slice(&rest);
        let (header, length) = done(&bytes);
        prop_assert_eq!(length, whole);
        let mixed = ends.is_some_and(|ends| ends.source.is_ipv4() != ends.destination.is_ipv4());
        if mixed {
            let canonical = |a: SocketAddr| SocketAddr::new(a.ip().to_canonical(), a.port());
            let (read, ends) = (header.addresses.unwrap(), ends.unwrap());
            prop_assert_eq!(canonical(read.source), canonical(ends.source));
            prop_assert_eq!(canonical(read.destination), canonical(ends.destination));
        } else {
            prop_assert_eq!(header.addresses, ends);
        }
        let read: Vec<(u8, &[u8])> = header.tlvs().map(Result::unwrap).collect();
        prop_assert_eq!(read, tlvs);
    }

    /// Any bytes: more of them never change an answer that was given.
    #[test]
    fn an_answer_stands(start in 0..3usize, bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let start: &[u8] = [&b""[..], b"PROXY ", b"\r\n\r\n\0\r\nQUIT\n"][start];
        let bytes = [start, &bytes].concat();
        let mut given = None;
        for cut in 0..=bytes.len() {
            let now = parse(&bytes[..cut]);
            if let Some(before) = given {
                prop_assert_eq!(&now, &before);
            }
            given = (now != Ok(Progress::NeedMore)).then_some(now);
        }
    }
}
