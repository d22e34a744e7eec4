//! The PROXY protocol, versions 1 and 2 (haproxy's `proxy-protocol.txt`), from bytes and to bytes.
//!
//! What it is: a parser that is given all bytes received so far and says whether they are a header, a part of one, or
//! none. What it is not: a filter. What is done with the addresses, and whether a connection without a header is
//! served, is the caller's. The checksum of version 2 is passed on as the TLV it is, not verified, as in Envoy.
//!
//! Invariants: no input panics; the answer for a whole header does not depend on how much follows it; `NeedMore` is never said of
//! more than [`V1_MAX`] bytes that begin as version 1, nor of more than [`V2_MAX`].

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// Bytes of the longest header of version 1, line end included.
pub const V1_MAX: usize = 107;
/// Bytes of the longest header of version 2.
pub const V2_MAX: usize = V2_FIXED + u16::MAX as usize;

const V1_START: &[u8] = b"PROXY ";
const V2_START: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_FIXED: usize = 16;

/// Which form a header has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// What some bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress<'a> {
    /// The beginning of a header.
    NeedMore,
    /// No header: the peer speaks something else.
    Absent,
    /// A header.
    Done {
        /// What it says.
        header: Header<'a>,
        /// Its bytes; what follows them is the peer's.
        length: usize,
    },
}

/// What a header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// Its form.
    pub version: Version,
    /// Whose connection it is; none: the proxy's own (`LOCAL`), or of a family that has no address here
    /// (`UNKNOWN`, unix sockets). Then the socket's addresses are kept.
    pub addresses: Option<Addresses>,
    /// Version 2's extensions, as bytes; see [`Header::tlvs`].
    pub tlvs: &'a [u8],
}

/// The two ends of a proxied connection, of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Who connected.
    pub source: SocketAddr,
    /// To where.
    pub destination: SocketAddr,
}

/// Bytes that begin as a header and are none. The peer is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A line of version 1 that does not end.
    #[error("no line end within {V1_MAX} bytes")]
    Endless,
    /// A line that is not five fields, of a known family, single spaces between.
    #[error("not a line of version 1")]
    Line,
    /// An address that is none, or of another family than announced.
    #[error("not an address of the family announced")]
    Address,
    /// A port that is not a decimal number from 0 to 65535 without leading zeros.
    #[error("not a port")]
    Port,
    /// Version 2's version or command is unknown.
    #[error("unknown version or command {0:#04x}")]
    Command(u8),
    /// The header is too short for its addresses.
    #[error("too short for the addresses announced")]
    Short,
    /// An extension that reaches beyond the header.
    #[error("an extension is cut off")]
    Tlv,
}

/// Extensions that do not fit into a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a header of the PROXY protocol has at most 65535 bytes of addresses and extensions, and version 1 none"
)]
pub struct TooLong;

/// Says what the bytes received so far are.
pub fn parse(bytes: &[u8]) -> Result<Progress<'_>, Malformed> {
    if starts_alike(bytes, V2_START) {
        return v2(bytes);
    }
    if starts_alike(bytes, V1_START) {
        return v1(bytes);
    }
    Ok(Progress::Absent)
}

/// Is either the beginning of the other?
fn starts_alike(bytes: &[u8], start: &[u8]) -> bool {
    bytes.iter().zip(start).all(|(a, b)| a == b)
}

fn v1(bytes: &[u8]) -> Result<Progress<'_>, Malformed> {
    let line = bytes.get(..V1_MAX).unwrap_or(bytes);
    let Some(end) = line.windows(2).position(|pair| pair == b"\r\n") else {
        return if line.len() < V1_MAX { Ok(Progress::NeedMore) } else { Err(Malformed::Endless) };
    };
    let text = line.get(..end).and_then(|line| std::str::from_utf8(line).ok()).ok_or(Malformed::Line)?;
    let header = Header { version: Version::V1, addresses: v1_addresses(text)?, tlvs: &[] };
    Ok(Progress::Done { header, length: end + 2 })
}

fn v1_addresses(line: &str) -> Result<Option<Addresses>, Malformed> {
    // The receiver ignores what follows UNKNOWN.
    if line == "PROXY UNKNOWN" || line.starts_with("PROXY UNKNOWN ") {
        return Ok(None);
    }
    let fields: Vec<&str> = line.split(' ').collect();
    let &["PROXY", family, source, destination, source_port, destination_port] = fields.as_slice() else {
        return Err(Malformed::Line);
    };
    let address = |text: &str, port: &str| -> Result<SocketAddr, Malformed> {
        let address = match family {
            "TCP4" => text.parse::<Ipv4Addr>().map_err(|_| Malformed::Address)?.into(),
            "TCP6" => text.parse::<Ipv6Addr>().map_err(|_| Malformed::Address)?.into(),
            _ => return Err(Malformed::Line),
        };
        Ok(SocketAddr::new(address, v1_port(port)?))
    };
    let source = address(source, source_port)?;
    Ok(Some(Addresses { source, destination: address(destination, destination_port)? }))
}

fn v1_port(text: &str) -> Result<u16, Malformed> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || (text.len() > 1 && text.starts_with('0')) {
        return Err(Malformed::Port);
    }
    text.parse().map_err(|_| Malformed::Port)
}

fn v2(bytes: &[u8]) -> Result<Progress<'_>, Malformed> {
    // What is wrong already is not waited for.
    if let Some(command) = bytes.get(12)
        && !matches!(command, 0x20 | 0x21)
    {
        return Err(Malformed::Command(*command));
    }
    let Some(&[command, family, high, low]) = bytes.get(12..V2_FIXED) else { return Ok(Progress::NeedMore) };
    let length = V2_FIXED + usize::from(u16::from_be_bytes([high, low]));
    let Some(body) = bytes.get(V2_FIXED..length) else { return Ok(Progress::NeedMore) };
    let taken = match family {
        0x11 | 0x12 => 12,
        0x21 | 0x22 => 36,
        0x31 | 0x32 => 216,
        _ => 0,
    };
    let (addresses, tlvs) = match body.split_at_checked(taken) {
        Some((addresses, tlvs)) => (addresses, tlvs),
        // The proxy's own connection: whatever the family, nothing of it is used.
        None if command == 0x20 => (&[][..], &[][..]),
        None => return Err(Malformed::Short),
    };
    let addresses = if command == 0x21 { v2_addresses(addresses) } else { None };
    Ok(Progress::Done { header: Header { version: Version::V2, addresses, tlvs }, length })
}

fn v2_addresses(bytes: &[u8]) -> Option<Addresses> {
    let port = |bytes: &[u8]| Some(u16::from_be_bytes(bytes.try_into().ok()?));
    let (source, destination, ports) = if let Ok(bytes) = <&[u8; 12]>::try_from(bytes) {
        let address = |at: &[u8]| Some(Ipv4Addr::from(<[u8; 4]>::try_from(at).ok()?).into());
        (address(bytes.get(..4)?)?, address(bytes.get(4..8)?)?, bytes.get(8..)?)
    } else if let Ok(bytes) = <&[u8; 36]>::try_from(bytes) {
        let address = |at: &[u8]| Some(Ipv6Addr::from(<[u8; 16]>::try_from(at).ok()?).into());
        (address(bytes.get(..16)?)?, address(bytes.get(16..32)?)?, bytes.get(32..)?)
    } else {
        return None;
    };
    Some(Addresses {
        source: SocketAddr::new(source, port(ports.get(..2)?)?),
        destination: SocketAddr::new(destination, port(ports.get(2..)?)?),
    })
}

impl<'a> Header<'a> {
    /// Version 2's extensions: their types and values, until one is cut off.
    pub fn tlvs(&self) -> impl Iterator<Item = Result<(u8, &'a [u8]), Malformed>> + use<'a> {
        let mut rest = self.tlvs;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let Some((kind, value, after)) = split_tlv(rest) else {
                rest = &[];
                return Some(Err(Malformed::Tlv));
            };
            rest = after;
            Some(Ok((kind, value)))
        })
    }
}

fn split_tlv(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[kind, high, low], rest) = bytes.split_first_chunk()?;
    let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([high, low])))?;
    Some((kind, value, rest))
}

/// Appends a header. No addresses: the connection is the proxy's own (version 2), or unknown (version 1). An IPv4 and
/// an IPv6 address together are written as two IPv6 ones.
pub fn encode(
    version: Version,
    addresses: Option<&Addresses>,
    tlvs: &[(u8, &[u8])],
    into: &mut Vec<u8>,
) -> Result<(), TooLong> {
    match version {
        Version::V1 if !tlvs.is_empty() => Err(TooLong),
        Version::V1 => {
            into.extend_from_slice(v1_line(addresses).as_bytes());
            Ok(())
        }
        Version::V2 => encode_v2(addresses, tlvs, into),
    }
}

fn v1_line(addresses: Option<&Addresses>) -> String {
    let Some(Addresses { source, destination }) = addresses else { return "PROXY UNKNOWN\r\n".to_owned() };
    let mut line = String::with_capacity(V1_MAX);
    // Writing to a string cannot fail.
    let _ = match (source, destination) {
        (SocketAddr::V4(from), SocketAddr::V4(to)) => {
            write!(line, "PROXY TCP4 {} {} {} {}\r\n", from.ip(), to.ip(), from.port(), to.port())
        }
        (from, to) => {
            write!(line, "PROXY TCP6 {} {} {} {}\r\n", wide(*from), wide(*to), from.port(), to.port())
        }
    };
    line
}

fn wide(address: SocketAddr) -> Ipv6Addr {
    match address {
        SocketAddr::V4(v4) => v4.ip().to_ipv6_mapped(),
        SocketAddr::V6(v6) => *v6.ip(),
    }
}

fn encode_v2(addresses: Option<&Addresses>, tlvs: &[(u8, &[u8])], into: &mut Vec<u8>) -> Result<(), TooLong> {
    let mut body = Vec::with_capacity(36);
    let (command, family) = match addresses {
        None => (0x20, 0x00),
        Some(Addresses { source: SocketAddr::V4(from), destination: SocketAddr::V4(to) }) => {
            body.extend_from_slice(&from.ip().octets());
            body.extend_from_slice(&to.ip().octets());
            (0x21, 0x11)
        }
        Some(Addresses { source, destination }) => {
            body.extend_from_slice(&wide(*source).octets());
            body.extend_from_slice(&wide(*destination).octets());
            (0x21, 0x21)
        }
    };
    if let Some(Addresses { source, destination }) = addresses {
        body.extend_from_slice(&source.port().to_be_bytes());
        body.extend_from_slice(&destination.port().to_be_bytes());
    }
    for (kind, value) in tlvs {
        body.push(*kind);
        body.extend_from_slice(&u16::try_from(value.len()).map_err(|_| TooLong)?.to_be_bytes());
        body.extend_from_slice(value);
    }
    let length = u16::try_from(body.len()).map_err(|_| TooLong)?;
    into.extend_from_slice(V2_START);
    into.extend_from_slice(&[command, family]);
    into.extend_from_slice(&length.to_be_bytes());
    into.extend_from_slice(&body);
    Ok(())
}
