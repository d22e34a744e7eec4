//! Numbers and addresses as text, written straight into a line: every request has a dozen of them, and `core::fmt` takes
//! several times as long.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};

/// Digits of the largest number.
const DIGITS_MAX: usize = 20;

/// Adds a number, with zeros in front up to `width` digits.
pub(super) fn number(mut value: u64, width: usize, out: &mut Vec<u8>) {
    let mut digits = [b'0'; DIGITS_MAX];
    let mut begin = DIGITS_MAX;
    for place in digits.iter_mut().rev() {
        // One digit: it fits.
        *place = b'0' + (value % 10) as u8;
        value /= 10;
        begin -= 1;
        if value == 0 {
            break;
        }
    }
    let begin = begin.min(DIGITS_MAX.saturating_sub(width));
    out.extend_from_slice(digits.get(begin..).unwrap_or_default());
}

/// Adds an address as Envoy writes it.
pub(super) fn ip(address: IpAddr, out: &mut Vec<u8>) {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets().map(u64::from);
            number(a, 1, out);
            for octet in [b, c, d] {
                out.push(b'.');
                number(octet, 1, out);
            }
        }
        // Writing to memory does not fail.
        IpAddr::V6(address) => _ = write!(out, "{address}"),
    }
}

/// Adds an address with its port.
pub(super) fn socket(address: SocketAddr, out: &mut Vec<u8>) {
    match address {
        SocketAddr::V4(address) => ip(IpAddr::V4(*address.ip()), out),
        // Writing to memory does not fail.
        SocketAddr::V6(address) => _ = write!(out, "[{}]", address.ip()),
    }
    out.push(b':');
    number(address.port().into(), 1, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_the_standard_library() {
        for value in [0, 7, 10, 99, 100, 65_535, u64::MAX] {
            let mut out = Vec::new();
            number(value, 1, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), value.to_string());
            let mut out = Vec::new();
            number(value, 3, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), format!("{value:03}"));
        }
        for text in ["0.0.0.0:0", "10.1.22.255:65535", "[::1]:80", "[2001:db8::1]:443"] {
            let mut out = Vec::new();
            socket(text.parse().unwrap(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), text);
            let address: SocketAddr = text.parse().unwrap();
            let mut out = Vec::new();
            ip(address.ip(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), address.ip().to_string());
        }
    }
}
