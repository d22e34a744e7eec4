//! The hash by which requests and connections are spread over hosts: xxHash64 with seed 0, as in Envoy, so that both mean
//! the same host by the same key.

use std::io::Write as _;
use std::net::IpAddr;

use xxhash_rust::xxh64::xxh64;

/// The hash of bytes.
pub fn of_bytes(bytes: &[u8]) -> u64 {
    xxh64(bytes, 0)
}

/// The hash of several texts, in this order.
pub fn of_all<'a>(all: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    all.into_iter().fold(0, |seed, bytes| xxh64(bytes, seed))
}

/// The hash of an address: that of its text.
pub fn of_address(address: IpAddr) -> u64 {
    // The longest is an IPv4 address mapped into IPv6.
    let mut text = [0; 48];
    let capacity = text.len();
    let mut rest = text.as_mut_slice();
    // It fits.
    let _ = write!(rest, "{address}");
    let length = capacity - rest.len();
    of_bytes(text.get(..length).unwrap_or_default())
}

/// Adds the hash of one more key to that of those before, as Envoy does: rotated, then mixed.
pub fn add(before: Option<u64>, next: u64) -> u64 {
    before.map_or(next, |before| before.rotate_left(1) ^ next)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of xxHash's own test suite.
    #[test]
    fn it_is_xxhash64() {
        assert_eq!(of_bytes(b""), 0xef46_db37_51d8_e999);
        assert_eq!(of_bytes(b"a"), 0xd24e_c4f1_a98c_6e5b);
        assert_eq!(of_bytes(b"abc"), 0x44bc_2cf5_ad77_0999);
    }

    #[test]
    fn addresses_are_their_text() {
        for text in ["10.0.0.1", "fd00::1", "::ffff:10.1.2.3", "1111:2222:3333:4444:5555:6666:7777:8888"] {
            assert_eq!(of_address(text.parse().unwrap()), of_bytes(text.as_bytes()));
        }
    }

    #[test]
    fn the_order_of_keys_matters() {
        assert_eq!(add(None, 5), 5);
        assert_eq!(add(Some(1 << 63), 6), 7);
        assert_ne!(add(Some(1), 2), add(Some(2), 1));
    }
}
