//! Names of header fields, looked up rather than made.
//!
//! Peers use the same few dozen names over and over. A name that has been seen is found by its hash, so that it is
//! neither checked again nor given memory of its own.
//!
//! Invariant: what a thread remembers is bounded; a peer that sends many names only makes them be looked at anew.

use std::cell::RefCell;

use http::HeaderName;

/// Names that are remembered, by their hash.
const REMEMBERED: usize = 512;
/// Longest name that is remembered, in bytes.
const LENGTH_MAX: usize = 48;

/// What each byte of a name is in lower case; 0 for what no name may have (RFC 9110 section 5.6.2).
const LOWER: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let char = byte as u8;
        if char.is_ascii_alphanumeric()
            || matches!(
                char,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            )
        {
            table[byte] = char.to_ascii_lowercase();
        }
        byte += 1;
    }
    table
};

thread_local! {
    static KNOWN: RefCell<Box<[Option<HeaderName>]>> = RefCell::new(vec![None; REMEMBERED].into_boxed_slice());
}

/// The name at the front of `line`, which a `:` ends, and how long it is. `None` if there is none.
pub(super) fn read(line: &[u8]) -> Option<(HeaderName, usize)> {
    let mut lower = [0; LENGTH_MAX];
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut length = 0;
    for (place, byte) in lower.iter_mut().zip(line) {
        let char = LOWER[usize::from(*byte)];
        if char == 0 {
            break;
        }
        *place = char;
        hash = (hash ^ u64::from(char)).wrapping_mul(0x0000_0100_0000_01b3);
        length += 1;
    }
    if length == LENGTH_MAX && line.get(length) != Some(&b':') {
        return long(line);
    }
    if line.get(length) != Some(&b':') {
        return None;
    }
    let name = find(lower.get(..length)?, hash)?;
    Some((name, length))
}

fn long(line: &[u8]) -> Option<(HeaderName, usize)> {
    let length = memchr::memchr(b':', line)?;
    let name = HeaderName::from_bytes(line.get(..length)?).ok()?;
    Some((name, length))
}

fn find(lower: &[u8], hash: u64) -> Option<HeaderName> {
    KNOWN.with_borrow_mut(|known| {
        let place = usize::try_from((hash ^ (hash >> 32)) % REMEMBERED as u64).ok()?;
        let slot = known.get_mut(place)?;
        if let Some(name) = slot
            && name.as_str().as_bytes() == lower
        {
            return Some(name.clone());
        }
        let name = HeaderName::from_bytes(lower).ok()?;
        *slot = Some(name.clone());
        Some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lower_case_and_end_at_the_colon() {
        let long = "x".repeat(LENGTH_MAX);
        let longer = "Y".repeat(LENGTH_MAX + 1);
        for name in ["Host", "x-A", "content-length", "!#$%&'*+-.^_`|~0", &long, &longer] {
            for _ in 0..2 {
                let (found, length) = read(format!("{name}: v").as_bytes()).expect(name);
                assert_eq!((found.as_str(), length), (&*name.to_lowercase(), name.len()));
            }
        }
        let bad = format!("{longer} : v");
        for line in
            ["", ":", ": v", "a", "a b: v", "a : v", "a\t: v", "ä: v", "a\0: v", "a(b: v", &longer, &bad]
        {
            assert!(read(line.as_bytes()).is_none(), "{line:?}");
        }
    }
}
