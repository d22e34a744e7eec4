//! Fields to blocks (RFC 7541).
//!
//! What enters the table: a name that is not there yet, with its value; of a known name, a value that is seen for the
//! second time. So what differs on every request (ids, times) costs its value alone and pushes nothing out, without any
//! list of names.

use std::collections::VecDeque;

use http::HeaderValue;
use http::header::HeaderName;

use super::{ENTRY_OVERHEAD, TABLE_BYTES_DEFAULT, huffman, integer, statics};

/// Places where an entry is looked for by its hash; a power of two. Beyond what a table of the default size holds.
const SLOTS: usize = 256;
/// Values seen once that are remembered; a power of two.
const SEEN: usize = 256;
/// Secrets shorter than this are never put into any table: they could be guessed from what a guess compresses to
/// (RFC 7541 section 7.1.3).
const SECRET_BYTES_MIN: usize = 20;

/// One direction's encoder, with its table.
#[derive(Debug)]
pub struct Encoder {
    /// Newest first.
    entries: VecDeque<Entry>,
    /// Of all entries, with their overhead.
    bytes: usize,
    /// What they may be.
    limit: usize,
    /// What we want at most, whatever the peer allows.
    bytes_max: usize,
    /// The smallest limit since the last block, if the limit has changed since.
    lowered_to: Option<usize>,
    /// How many entries there have been, plus one, wrapping.
    inserted: u32,
    /// By hash of name and value: the number of the entry. Stale numbers are found out by comparing.
    fields: [u32; SLOTS],
    /// By hash of the name.
    names: [u32; SLOTS],
    /// By hash of name and value: the hash of what was last seen.
    seen: [u32; SEEN],
    /// Strings are written in the shorter of both forms, not as they are.
    huffman: bool,
}

#[derive(Debug)]
struct Entry {
    /// Name, then value.
    text: Box<[u8]>,
    name_bytes: usize,
}

/// A name with its hash.
#[derive(Clone, Copy)]
struct Hashed<'a> {
    text: &'a [u8],
    hash: u64,
}

impl<'a> Hashed<'a> {
    fn new(text: &'a str) -> Hashed<'a> {
        let text = text.as_bytes();
        Hashed { text, hash: statics::hash(0, text) }
    }
}

impl Entry {
    fn is(&self, name: &[u8], value: &[u8]) -> bool {
        self.text.split_at_checked(self.name_bytes).is_some_and(|(n, v)| n == name && v == value)
    }

    fn has_name(&self, name: &[u8]) -> bool {
        self.text.get(..self.name_bytes) == Some(name)
    }
}

impl Encoder {
    /// An encoder that uses a table of at most so many bytes.
    pub fn new(bytes_max: usize, huffman: bool) -> Encoder {
        let limit = bytes_max.min(TABLE_BYTES_DEFAULT);
        Encoder {
            entries: VecDeque::new(),
            bytes: 0,
            limit,
            bytes_max,
            lowered_to: (limit < TABLE_BYTES_DEFAULT).then_some(limit),
            inserted: 1,
            fields: [0; SLOTS],
            names: [0; SLOTS],
            seen: [0; SEEN],
            huffman,
        }
    }

    /// The peer's SETTINGS allow a table of so many bytes.
    pub fn allow(&mut self, bytes: usize) {
        let limit = bytes.min(self.bytes_max);
        if limit != self.limit {
            self.limit = limit;
            self.lowered_to = Some(self.lowered_to.map_or(limit, |lowest| lowest.min(limit)));
            self.evict(0);
        }
    }

    /// To be called before the first field of every block.
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        if let Some(lowest) = self.lowered_to.take() {
            // RFC 7541 section 4.2: the lowest, then the present one.
            if lowest < self.limit {
                integer::write(lowest, 0x20, 5, out);
            }
            integer::write(self.limit, 0x20, 5, out);
        }
    }

    /// Appends a field by its index alone: one of the static table.
    pub fn indexed(&self, index: u8, out: &mut Vec<u8>) {
        out.push(0x80 | index);
    }

    /// Appends an ordinary field.
    pub fn field(&mut self, name: &HeaderName, value: &HeaderValue, out: &mut Vec<u8>) {
        let name = Hashed::new(name.as_str());
        if value.is_sensitive() {
            let index = self.known(name);
            self.literal(0x10, 4, index, name.text, value.as_bytes(), out);
        } else {
            self.put(name, value.as_bytes(), out);
        }
    }

    /// Appends a pseudo-header whose value is in no static entry.
    pub fn pseudo(&mut self, name: &'static str, value: &[u8], out: &mut Vec<u8>) {
        self.put(Hashed::new(name), value, out);
    }

    fn put(&mut self, name: Hashed<'_>, value: &[u8], out: &mut Vec<u8>) {
        let hash = statics::hash(name.hash, value);
        // Most fields are in the table: nothing else is looked at before.
        if let Some(index) = self.index(&self.fields, hash, |entry| entry.is(name.text, value)) {
            integer::write(index, 0x80, 7, out);
            return;
        }
        let index = self.known(name);
        if is_secret(index, value) {
            self.literal(0x10, 4, index, name.text, value, out);
            return;
        }
        let fits = name.text.len() + value.len() + ENTRY_OVERHEAD <= self.limit / 2;
        if fits && (index.is_none() || self.was_seen(hash)) {
            self.literal(0x40, 6, index, name.text, value, out);
            self.insert(name, value, hash);
        } else {
            self.literal(0, 4, index, name.text, value, out);
        }
    }

    /// The index of a name.
    fn known(&self, name: Hashed<'_>) -> Option<usize> {
        statics::name_index(name.text, name.hash)
            .or_else(|| self.index(&self.names, name.hash, |entry| entry.has_name(name.text)))
    }

    /// The index of the entry that a table of numbers has for a hash, if it is there still and is the right one.
    fn index(
        &self,
        numbers: &[u32; SLOTS],
        hash: u64,
        is_right: impl FnOnce(&Entry) -> bool,
    ) -> Option<usize> {
        let number = *numbers.get(hash as usize % SLOTS)?;
        let age = self.inserted.wrapping_sub(number).wrapping_sub(1) as usize;
        let entry = self.entries.get(age)?;
        is_right(entry).then_some(statics::LEN + 1 + age)
    }

    /// Whether this is the second time, as far as is remembered.
    fn was_seen(&mut self, hash: u64) -> bool {
        let tag = (hash >> 32) as u32;
        match self.seen.get_mut(hash as usize % SEEN) {
            Some(slot) if *slot == tag => true,
            Some(slot) => {
                *slot = tag;
                false
            }
            None => false,
        }
    }

    fn literal(
        &self,
        pattern: u8,
        bits: u32,
        index: Option<usize>,
        name: &[u8],
        value: &[u8],
        out: &mut Vec<u8>,
    ) {
        integer::write(index.unwrap_or(0), pattern, bits, out);
        if index.is_none() {
            self.string(name, out);
        }
        self.string(value, out);
    }

    fn string(&self, text: &[u8], out: &mut Vec<u8>) {
        if self.huffman {
            let size = huffman::encoded_len(text);
            if size < text.len() {
                integer::write(size, 0x80, 7, out);
                huffman::encode(text, out);
                return;
            }
        }
        integer::write(text.len(), 0, 7, out);
        out.extend_from_slice(text);
    }

    fn insert(&mut self, name: Hashed<'_>, value: &[u8], hash: u64) {
        let Hashed { text: name, hash: name_hash } = name;
        let bytes = name.len() + value.len() + ENTRY_OVERHEAD;
        self.evict(bytes);
        let mut text = Vec::with_capacity(name.len() + value.len());
        text.extend_from_slice(name);
        text.extend_from_slice(value);
        self.entries.push_front(Entry { text: text.into_boxed_slice(), name_bytes: name.len() });
        self.bytes += bytes;
        if let Some(slot) = self.fields.get_mut(hash as usize % SLOTS) {
            *slot = self.inserted;
        }
        if let Some(slot) = self.names.get_mut(name_hash as usize % SLOTS) {
            *slot = self.inserted;
        }
        self.inserted = self.inserted.wrapping_add(1);
    }

    /// Makes room for so many bytes.
    fn evict(&mut self, bytes: usize) {
        while self.bytes + bytes > self.limit {
            let Some(oldest) = self.entries.pop_back() else { return };
            self.bytes -= oldest.text.len() + ENTRY_OVERHEAD;
        }
    }
}

/// Whether a field of the static table holds what somebody might want to guess, and could.
fn is_secret(index: Option<usize>, value: &[u8]) -> bool {
    // authorization, cookie, proxy-authorization, set-cookie.
    matches!(index, Some(23 | 32 | 49 | 55)) && value.len() < SECRET_BYTES_MIN
}

#[cfg(test)]
mod tests {
    use super::super::{Decoder, Name, Sink};
    use super::*;
    use proptest::prelude::*;

    #[derive(Default)]
    struct Fields(Vec<(String, Vec<u8>, bool)>);

    impl Sink for Fields {
        fn admit(&mut self, _bytes: usize) -> bool {
            true
        }

        fn field(&mut self, name: &Name, value: HeaderValue) {
            let text = match name {
                Name::Pseudo(pseudo) => format!("{pseudo:?}"),
                Name::Field(name, _) => name.to_string(),
                Name::Malformed => panic!("a malformed name"),
            };
            self.0.push((text, value.as_bytes().to_vec(), value.is_sensitive()));
        }

        fn malformed(&mut self) {
            panic!("a malformed value");
        }
    }

    fn block(encoder: &mut Encoder, fields: &[(&'static str, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        encoder.begin(&mut out);
        for (name, value) in fields {
            encoder.field(&HeaderName::from_static(name), &HeaderValue::from_str(value).unwrap(), &mut out);
        }
        out
    }

    #[test]
    fn what_repeats_becomes_one_byte_and_what_does_not_leaves_the_table_alone() {
        let mut encoder = Encoder::new(4096, false);
        let first = block(&mut encoder, &[("x-mesh", "a"), ("content-type", "text/plain")]);
        assert_eq!(
            first, b"\x40\x06x-mesh\x01a\x0f\x10\x0atext/plain",
            "a new name enters, a known one waits"
        );
        let second = block(&mut encoder, &[("x-mesh", "a"), ("content-type", "text/plain")]);
        assert_eq!(second, b"\xbe\x5f\x0atext/plain");
        assert_eq!(block(&mut encoder, &[("x-mesh", "a"), ("content-type", "text/plain")]), b"\xbf\xbe");
        for id in 0..100 {
            let other = id.to_string();
            let out = block(&mut encoder, &[("x-mesh", &other)]);
            assert_eq!(out.len(), 3 + other.len(), "the name's index in two bytes");
        }
        assert_eq!(encoder.entries.len(), 2);
    }

    #[test]
    fn short_secrets_and_marked_values_enter_no_table() {
        let mut encoder = Encoder::new(4096, false);
        for _ in 0..3 {
            let mut out = Vec::new();
            let mut marked = HeaderValue::from_static("v");
            marked.set_sensitive(true);
            encoder.field(&HeaderName::from_static("x-key"), &marked, &mut out);
            encoder.field(&HeaderName::from_static("cookie"), &HeaderValue::from_static("a=b"), &mut out);
            assert_eq!(out, b"\x10\x05x-key\x01v\x1f\x11\x03a=b");
        }
        assert!(encoder.entries.is_empty());
    }

    #[test]
    fn changes_of_the_tables_size_are_told_lowest_first() {
        let mut encoder = Encoder::new(4096, false);
        encoder.allow(65_536);
        assert_eq!(
            block(&mut encoder, &[("x-a", "b")]),
            b"\x40\x03x-a\x01b",
            "larger than wanted: no change"
        );
        encoder.allow(0);
        encoder.allow(100);
        assert_eq!(block(&mut encoder, &[]), [0x20, 0x3f, 69]);
        assert_eq!(block(&mut encoder, &[("x-a", "b")]), b"\x40\x03x-a\x01b", "it had been emptied");
        assert_eq!(block(&mut Encoder::new(0, false), &[("x-a", "b")]), b"\x20\x00\x03x-a\x01b");
    }

    #[test]
    fn the_shorter_form_is_taken() {
        let mut encoder = Encoder::new(0, true);
        encoder.begin(&mut Vec::new());
        assert_eq!(block(&mut encoder, &[("x-a", "00000000")]), b"\x00\x03x-a\x85\x00\x00\x00\x00\x00");
        assert_eq!(block(&mut encoder, &[("x-a", "!!!")])[5..], b"\x03!!!"[..]);
    }

    fn text() -> impl Strategy<Value = String> {
        prop_oneof!["[a-c]{0,3}", "[ -~]{0,60}".prop_map(|text| text.trim().to_string())]
    }

    proptest! {
        #[test]
        fn any_sequence_of_blocks_comes_out_as_it_went_in(
            blocks in prop::collection::vec(prop::collection::vec(("[a-d]{1,2}|cookie|x-long-name", text(), any::<bool>()), 0..12), 1..12),
            sizes in prop::collection::vec(prop::option::of(0_usize..5000), 12),
            huffman in any::<bool>(),
        ) {
            let mut encoder = Encoder::new(4096, huffman);
            let mut decoder = Decoder::new(4096);
            for (fields, size) in blocks.iter().zip(sizes) {
                if let Some(size) = size {
                    encoder.allow(size);
                }
                let mut out = Vec::new();
                encoder.begin(&mut out);
                let mut expected = Vec::new();
                for (name, value, never) in fields {
                    let mut header = HeaderValue::from_str(value).unwrap();
                    header.set_sensitive(*never);
                    encoder.field(&HeaderName::from_bytes(name.as_bytes()).unwrap(), &header, &mut out);
                    let secret = name == "cookie" && value.len() < SECRET_BYTES_MIN;
                    expected.push((name.clone(), value.as_bytes().to_vec(), *never || secret));
                }
                let mut found = Fields::default();
                decoder.decode(&out, &mut found).unwrap();
                prop_assert_eq!(found.0, expected);
            }
        }
    }
}
