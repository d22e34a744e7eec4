//! The static table (RFC 7541 appendix A), for decoding and for encoding.

use http::HeaderValue;
use http::header::{self, HeaderName};

use super::name::{Class, Name, Pseudo};

/// How many entries there are; the first has index 1.
pub const LEN: usize = 61;

/// Names and values as text, in the order of their indexes.
#[rustfmt::skip]
const TEXTS: [(&str, &str); LEN] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// An entry, for decoding.
pub struct Entry {
    /// Name.
    pub name: Name,
    /// Value, perhaps empty.
    pub value: HeaderValue,
    /// Bytes of both.
    pub bytes: usize,
}

/// The entry of an index.
pub fn entry(index: usize) -> Option<&'static Entry> {
    ENTRIES.get(index.wrapping_sub(1))
}

const fn pseudo(place: usize, pseudo: Pseudo) -> Entry {
    entry_of(place, Name::Pseudo(pseudo))
}

const fn plain(place: usize, name: HeaderName) -> Entry {
    entry_of(place, Name::Field(name, Class::Plain))
}

const fn special(place: usize, name: HeaderName, class: Class) -> Entry {
    entry_of(place, Name::Field(name, class))
}

#[allow(clippy::indexing_slicing, reason = "runs in the compiler, where a wrong index is an error")]
const fn entry_of(place: usize, name: Name) -> Entry {
    let (text, value) = TEXTS[place];
    Entry { name, value: HeaderValue::from_static(value), bytes: text.len() + value.len() }
}

#[rustfmt::skip]
static ENTRIES: [Entry; LEN] = [
    pseudo(0, Pseudo::Authority),
    pseudo(1, Pseudo::Method),
    pseudo(2, Pseudo::Method),
    pseudo(3, Pseudo::Path),
    pseudo(4, Pseudo::Path),
    pseudo(5, Pseudo::Scheme),
    pseudo(6, Pseudo::Scheme),
    pseudo(7, Pseudo::Status),
    pseudo(8, Pseudo::Status),
    pseudo(9, Pseudo::Status),
    pseudo(10, Pseudo::Status),
    pseudo(11, Pseudo::Status),
    pseudo(12, Pseudo::Status),
    pseudo(13, Pseudo::Status),
    plain(14, header::ACCEPT_CHARSET),
    plain(15, header::ACCEPT_ENCODING),
    plain(16, header::ACCEPT_LANGUAGE),
    plain(17, header::ACCEPT_RANGES),
    plain(18, header::ACCEPT),
    plain(19, header::ACCESS_CONTROL_ALLOW_ORIGIN),
    plain(20, header::AGE),
    plain(21, header::ALLOW),
    plain(22, header::AUTHORIZATION),
    plain(23, header::CACHE_CONTROL),
    plain(24, header::CONTENT_DISPOSITION),
    plain(25, header::CONTENT_ENCODING),
    plain(26, header::CONTENT_LANGUAGE),
    special(27, header::CONTENT_LENGTH, Class::ContentLength),
    plain(28, header::CONTENT_LOCATION),
    plain(29, header::CONTENT_RANGE),
    plain(30, header::CONTENT_TYPE),
    special(31, header::COOKIE, Class::Cookie),
    plain(32, header::DATE),
    plain(33, header::ETAG),
    plain(34, header::EXPECT),
    plain(35, header::EXPIRES),
    plain(36, header::FROM),
    special(37, header::HOST, Class::Host),
    plain(38, header::IF_MATCH),
    plain(39, header::IF_MODIFIED_SINCE),
    plain(40, header::IF_NONE_MATCH),
    plain(41, header::IF_RANGE),
    plain(42, header::IF_UNMODIFIED_SINCE),
    plain(43, header::LAST_MODIFIED),
    plain(44, header::LINK),
    plain(45, header::LOCATION),
    plain(46, header::MAX_FORWARDS),
    plain(47, header::PROXY_AUTHENTICATE),
    plain(48, header::PROXY_AUTHORIZATION),
    plain(49, header::RANGE),
    plain(50, header::REFERER),
    plain(51, header::REFRESH),
    plain(52, header::RETRY_AFTER),
    plain(53, header::SERVER),
    plain(54, header::SET_COOKIE),
    plain(55, header::STRICT_TRANSPORT_SECURITY),
    special(56, header::TRANSFER_ENCODING, Class::Connection),
    plain(57, header::USER_AGENT),
    plain(58, header::VARY),
    plain(59, header::VIA),
    plain(60, header::WWW_AUTHENTICATE),
];

/// Slots of the table from a name's hash to its index; a power of two.
const SLOTS: usize = 512;

/// The bits of a hash that tell all names of the table apart.
const SHIFT: u32 = 9;

/// By hash: the first index of a name, or 0. No two names share a slot, which the compiler has checked.
static NAMES: [u8; SLOTS] = names();

#[allow(clippy::indexing_slicing, reason = "runs in the compiler, where a wrong index is an error")]
const fn names() -> [u8; SLOTS] {
    let mut slots = [0; SLOTS];
    let (mut place, mut before) = (0, "");
    while place < LEN {
        let name = TEXTS[place].0;
        if !same(name.as_bytes(), before.as_bytes()) {
            let slot = slot(hash(0, name.as_bytes()));
            assert!(slots[slot] == 0, "two names in one slot: take other bits of the hash");
            slots[slot] = place as u8 + 1;
        }
        (place, before) = (place + 1, name);
    }
    slots
}

#[allow(clippy::indexing_slicing, reason = "runs in the compiler, where a wrong index is an error")]
const fn same(a: &[u8], b: &[u8]) -> bool {
    let mut place = 0;
    while place < a.len() && place < b.len() {
        if a[place] != b[place] {
            return false;
        }
        place += 1;
    }
    a.len() == b.len()
}

const fn slot(hash: u64) -> usize {
    (hash >> SHIFT) as usize % SLOTS
}

/// The index of a name with this [`hash`] (from 0), if it is in the table.
pub fn name_index(name: &[u8], hash: u64) -> Option<usize> {
    let index = usize::from(*NAMES.get(slot(hash))?);
    let (text, _) = TEXTS.get(index.wrapping_sub(1))?;
    (text.as_bytes() == name).then_some(index)
}

/// A hash of a text that goes on from another's. Quick, and easily fooled: whoever finds something by it compares.
pub const fn hash(from: u64, text: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    const fn mix(hash: u64) -> u64 {
        let product = hash as u128 * FACTOR as u128;
        product as u64 ^ (product >> 64) as u64
    }
    let mut rest = text;
    let mut hash = mix(from ^ text.len() as u64 ^ FACTOR);
    while let Some((word, tail)) = rest.split_first_chunk::<8>() {
        hash = mix(hash ^ u64::from_le_bytes(*word));
        rest = tail;
    }
    let mut last = 0;
    while let Some((byte, tail)) = rest.split_first() {
        last = last << 8 | *byte as u64;
        rest = tail;
    }
    mix(hash ^ last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_what_their_texts_say() {
        assert!(entry(0).is_none() && entry(LEN + 1).is_none());
        for (place, (name, value)) in TEXTS.iter().enumerate() {
            let entry = entry(place + 1).unwrap();
            assert_eq!(entry.name, Name::parse(name.as_bytes()), "{name}");
            assert_eq!((entry.value.as_bytes(), entry.bytes), (value.as_bytes(), name.len() + value.len()));
        }
    }

    #[test]
    fn names_are_found_at_their_first_index() {
        for (place, (name, _)) in TEXTS.iter().enumerate() {
            let index = name_index(name.as_bytes(), hash(0, name.as_bytes())).unwrap();
            assert_eq!(TEXTS.iter().position(|(other, _)| other == name), Some(index - 1));
            assert!(index <= place + 1);
        }
        assert_eq!(name_index(b"x-a", hash(0, b"x-a")), None);
    }
}
