//! Blocks to fields (RFC 7541 sections 3 and 6).

use std::collections::VecDeque;

use bytes::{Buf as _, Bytes, BytesMut};
use http::HeaderValue;

use super::name::Name;
use super::{ENTRY_OVERHEAD, HpackError, TABLE_BYTES_DEFAULT, huffman, integer, statics, text};

/// Values that are not in the table share memory of this size.
const SCRATCH_BYTES: usize = 4096;

/// Who takes the fields of a block.
pub trait Sink {
    /// A field of so many bytes, name and value, comes next. Is it wanted? It is left out otherwise.
    fn admit(&mut self, bytes: usize) -> bool;
    /// A field.
    fn field(&mut self, name: &Name, value: HeaderValue);
    /// In place of a field whose value no message can have.
    fn malformed(&mut self);
}

/// One direction's decoder, with its table.
#[derive(Debug)]
pub struct Decoder {
    /// Newest first.
    entries: VecDeque<Entry>,
    /// Of all entries, with their overhead.
    bytes: usize,
    /// What they may be: the peer's choice, up to `bytes_max`.
    limit: usize,
    /// What we allow.
    bytes_max: usize,
    /// What we have announced, and will hold the peer to once it has acknowledged.
    announced: usize,
    /// The peer must lower `limit` before anything else.
    must_update: bool,
    /// Where values are put together.
    scratch: BytesMut,
}

#[derive(Debug)]
struct Entry {
    name: Name,
    /// `None` if it is no valid value.
    value: Option<HeaderValue>,
    /// Of the name, as it came.
    name_bytes: usize,
    /// Of name and value, as they came.
    bytes: usize,
}

/// A string as it stands in the block.
struct Coded<'a> {
    bytes: &'a [u8],
    is_huffman: bool,
}

/// A string, decoded.
struct Value {
    /// `None` if it is no valid value.
    value: Option<HeaderValue>,
    /// As it came.
    bytes: usize,
}

impl Decoder {
    /// A decoder whose table may hold what our SETTINGS announce.
    pub fn new(announced: usize) -> Decoder {
        Decoder {
            entries: VecDeque::new(),
            bytes: 0,
            limit: TABLE_BYTES_DEFAULT,
            bytes_max: announced.max(TABLE_BYTES_DEFAULT),
            announced,
            must_update: false,
            scratch: BytesMut::new(),
        }
    }

    /// The peer has acknowledged our SETTINGS.
    pub fn acknowledged(&mut self) {
        self.bytes_max = self.announced;
        // RFC 7541 section 4.2: whoever is to shrink its table says so at the begin of the next block.
        self.must_update = self.limit > self.announced;
    }

    /// Decodes a block.
    ///
    /// # Errors
    /// The block is wrong; this decoder is of no use any more.
    pub fn decode(&mut self, block: &[u8], sink: &mut impl Sink) -> Result<(), HpackError> {
        let mut rest = block;
        self.updates(&mut rest)?;
        while let Some((first, tail)) = rest.split_first() {
            rest = tail;
            match first {
                0x80.. => self.indexed(integer::read(*first, 7, &mut rest)?, sink)?,
                0x40.. => self.insertion(*first, &mut rest, sink)?,
                // Only at the begin of a block (RFC 7541 section 4.2).
                0x20.. => return Err(HpackError),
                _ => self.literal(*first, &mut rest, sink)?,
            }
        }
        Ok(())
    }

    /// Changes of the table's size, section 6.3.
    fn updates(&mut self, rest: &mut &[u8]) -> Result<(), HpackError> {
        while let Some((first @ 0x20..0x40, tail)) = rest.split_first() {
            *rest = tail;
            self.limit = integer::read(*first, 5, rest)?;
            if self.limit > self.bytes_max {
                return Err(HpackError);
            }
            self.must_update = false;
            self.evict(0);
        }
        if self.must_update { Err(HpackError) } else { Ok(()) }
    }

    /// Section 6.1.
    fn indexed(&mut self, index: usize, sink: &mut impl Sink) -> Result<(), HpackError> {
        if let Some(entry) = statics::entry(index) {
            if sink.admit(entry.bytes) {
                sink.field(&entry.name, entry.value.clone());
            }
            return Ok(());
        }
        let entry = self.entry(index)?;
        if sink.admit(entry.bytes) {
            match &entry.value {
                Some(value) => sink.field(&entry.name, value.clone()),
                None => sink.malformed(),
            }
        }
        Ok(())
    }

    fn entry(&self, index: usize) -> Result<&Entry, HpackError> {
        index.checked_sub(statics::LEN + 1).and_then(|place| self.entries.get(place)).ok_or(HpackError)
    }

    /// Section 6.2.1: a literal that enters the table.
    fn insertion(&mut self, first: u8, rest: &mut &[u8], sink: &mut impl Sink) -> Result<(), HpackError> {
        let index = integer::read(first, 6, rest)?;
        let (name, name_bytes) = match index {
            0 => self.name(&coded(rest)?)?,
            _ => self.name_of(index).map(|(name, bytes)| (name.clone(), bytes))?,
        };
        let coded = coded(rest)?;
        let Value { value, bytes } = self.value(&coded, true)?;
        let bytes = name_bytes + bytes;
        if sink.admit(bytes) {
            match &value {
                Some(value) => sink.field(&name, value.clone()),
                None => sink.malformed(),
            }
        }
        self.insert(Entry { name, value, name_bytes, bytes });
        Ok(())
    }

    /// Sections 6.2.2 and 6.2.3: a literal that does not, now or never on its way.
    fn literal(&mut self, first: u8, rest: &mut &[u8], sink: &mut impl Sink) -> Result<(), HpackError> {
        let index = integer::read(first, 4, rest)?;
        let parsed;
        let coded_name = if index == 0 { Some(coded(rest)?) } else { None };
        let coded_value = coded(rest)?;
        let Value { value, bytes } = self.value(&coded_value, false)?;
        let (name, name_bytes) = match coded_name {
            Some(name) => {
                parsed = self.name(&name)?;
                (&parsed.0, parsed.1)
            }
            None => self.name_of(index)?,
        };
        if sink.admit(name_bytes + bytes) {
            match value {
                Some(mut value) => {
                    if first & 0x10 != 0 {
                        value.set_sensitive(true);
                    }
                    sink.field(name, value);
                }
                None => sink.malformed(),
            }
        }
        Ok(())
    }

    /// The name at an index, and its bytes.
    fn name_of(&self, index: usize) -> Result<(&Name, usize), HpackError> {
        match statics::entry(index) {
            Some(entry) => Ok((&entry.name, entry.bytes - entry.value.len())),
            None => {
                let entry = self.entry(index)?;
                Ok((&entry.name, entry.name_bytes))
            }
        }
    }

    /// A name that is written out.
    fn name(&mut self, coded: &Coded<'_>) -> Result<(Name, usize), HpackError> {
        if !coded.is_huffman {
            return Ok((Name::parse(coded.bytes), coded.bytes.len()));
        }
        self.unpack(coded)?;
        let found = (Name::parse(&self.scratch), self.scratch.len());
        self.scratch.clear();
        Ok(found)
    }

    /// A value; `own`: with memory of its own, because it will be kept.
    fn value(&mut self, coded: &Coded<'_>, own: bool) -> Result<Value, HpackError> {
        if !coded.is_huffman {
            let text = text::trim(coded.bytes);
            let bytes = coded.bytes.len();
            if !text::is_value(text) {
                return Ok(Value { value: None, bytes });
            }
            let shared = if own { Bytes::copy_from_slice(text) } else { self.share(text) };
            return Ok(Value { value: Some(text::value(shared)), bytes });
        }
        self.unpack(coded)?;
        let mut whole = self.scratch.split();
        let bytes = whole.len();
        let text = text::trim(&whole);
        let value = if !text::is_value(text) {
            None
        } else if own {
            Some(text::value(Bytes::copy_from_slice(text)))
        } else {
            let begin = text.as_ptr() as usize - whole.as_ptr() as usize;
            let size = text.len();
            whole.advance(begin);
            whole.truncate(size);
            Some(text::value(whole.freeze()))
        };
        Ok(Value { value, bytes })
    }

    /// A copy in the scratch memory.
    fn share(&mut self, text: &[u8]) -> Bytes {
        if text.is_empty() {
            return Bytes::new();
        }
        self.make_room(text.len());
        self.scratch.extend_from_slice(text);
        self.scratch.split().freeze()
    }

    /// Decodes a string into the scratch memory, which is empty.
    fn unpack(&mut self, coded: &Coded<'_>) -> Result<(), HpackError> {
        let room = huffman::decoded_len_max(coded.bytes.len());
        self.make_room(room);
        self.scratch.resize(room, 0);
        let size = huffman::decode(coded.bytes, &mut self.scratch)?;
        self.scratch.truncate(size);
        Ok(())
    }

    fn make_room(&mut self, bytes: usize) {
        if self.scratch.capacity() < bytes {
            self.scratch.reserve(bytes.max(SCRATCH_BYTES));
        }
    }

    fn insert(&mut self, entry: Entry) {
        let bytes = entry.bytes + ENTRY_OVERHEAD;
        self.evict(bytes);
        // Section 4.4: what is too large empties the table, and that is no error.
        if bytes <= self.limit {
            self.bytes += bytes;
            self.entries.push_front(entry);
        }
    }

    /// Makes room for so many bytes, as far as there is any.
    fn evict(&mut self, bytes: usize) {
        while self.bytes + bytes > self.limit {
            let Some(oldest) = self.entries.pop_back() else { return };
            self.bytes -= oldest.bytes + ENTRY_OVERHEAD;
        }
    }
}

/// Takes a string off the front, section 5.2.
fn coded<'a>(rest: &mut &'a [u8]) -> Result<Coded<'a>, HpackError> {
    let (first, tail) = rest.split_first().ok_or(HpackError)?;
    *rest = tail;
    let size = integer::read(*first, 7, rest)?;
    let (bytes, tail) = rest.split_at_checked(size).ok_or(HpackError)?;
    *rest = tail;
    Ok(Coded { bytes, is_huffman: first & 0x80 != 0 })
}

#[cfg(test)]
mod tests {
    use super::super::name::Pseudo;
    use super::*;

    /// Everything that came, as text.
    #[derive(Default)]
    struct Fields(Vec<String>);

    impl Sink for Fields {
        fn admit(&mut self, _bytes: usize) -> bool {
            true
        }

        fn field(&mut self, name: &Name, value: HeaderValue) {
            let never = if value.is_sensitive() { "!" } else { "" };
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            self.0.push(match name {
                Name::Pseudo(pseudo) => format!("{pseudo:?}={value}"),
                Name::Field(name, _) => format!("{never}{name}={value}"),
                Name::Malformed => "malformed name".to_string(),
            });
        }

        fn malformed(&mut self) {
            self.0.push("malformed value".to_string());
        }
    }

    fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<String>, HpackError> {
        let mut fields = Fields::default();
        decoder.decode(block, &mut fields)?;
        Ok(fields.0)
    }

    fn fresh(block: &[u8]) -> Result<Vec<String>, HpackError> {
        decode(&mut Decoder::new(4096), block)
    }

    /// RFC 7541 appendix C.3: three requests on one connection, without Huffman.
    #[test]
    fn requests_of_the_rfc() {
        let mut decoder = Decoder::new(4096);
        let first = [b"\x82\x86\x84\x41\x0f".as_slice(), b"www.example.com"].concat();
        let fields = decode(&mut decoder, &first).unwrap();
        assert_eq!(fields, ["Method=GET", "Scheme=http", "Path=/", "Authority=www.example.com"]);
        let second = [b"\x82\x86\x84\xbe\x58\x08".as_slice(), b"no-cache"].concat();
        assert_eq!(decode(&mut decoder, &second).unwrap().last().unwrap(), "cache-control=no-cache");
        let third = [b"\x82\x87\x85\xbf\x40\x0a".as_slice(), b"custom-key\x0ccustom-value"].concat();
        let fields = decode(&mut decoder, &third).unwrap();
        assert_eq!(fields[2..], ["Path=/index.html", "Authority=www.example.com", "custom-key=custom-value"]);
        assert_eq!((decoder.bytes, decoder.entries.len()), (164, 3));
    }

    /// Appendix C.5: a small table, from which entries fall.
    #[test]
    fn what_does_not_fit_any_more_is_gone() {
        let mut decoder = Decoder::new(256);
        decoder.acknowledged();
        assert_eq!(decode(&mut decoder, b"\x82"), Err(HpackError), "the table is to be shrunk first");
        let mut decoder = Decoder::new(256);
        decoder.acknowledged();
        let update = [0x3f, 0xe1, 0x01];
        assert!(decode(&mut decoder, &update).unwrap().is_empty());
        let long = [b"\x40\x01a\x7f\x01".as_slice(), &[b'v'; 128]].concat();
        decode(&mut decoder, &long).unwrap();
        decode(&mut decoder, b"\x40\x01b\x01w").unwrap();
        assert_eq!((decoder.entries.len(), decoder.bytes), (2, 161 + 34));
        decode(&mut decoder, b"\x40\x01c\x1ewwwwwwwwwwwwwwwwwwwwwwwwwwwwww").unwrap();
        assert_eq!(decoder.entries.len(), 2, "the oldest is gone");
        let huge = [b"\x40\x01d\x7f\x81\x01".as_slice(), &[b'v'; 256]].concat();
        assert_eq!(decode(&mut decoder, &huge).unwrap().len(), 1);
        assert_eq!((decoder.entries.len(), decoder.bytes), (0, 0), "what is too large empties the table");
    }

    #[test]
    fn malformed_fields_keep_the_table_in_step() {
        let mut decoder = Decoder::new(4096);
        let block = b"\x40\x01A\x01v\x40\x02:x\x01v\x40\x01n\x01\n\x40\x01y\x01z";
        let bad = ["malformed name", "malformed name", "malformed value", "y=z"];
        assert_eq!(decode(&mut decoder, block).unwrap(), bad);
        assert_eq!(decode(&mut decoder, b"\xc1\xc0\xbf\xbe").unwrap(), bad);
        assert_eq!(decode(&mut decoder, b"\x7f\x00\x01w").unwrap(), ["n=w"], "its name is a good one");
        assert_eq!(decoder.bytes, 34 + 35 + 34 + 34 + 34);
    }

    #[test]
    fn what_must_not_be_indexed_says_so() {
        assert_eq!(fresh(b"\x10\x01n\x01v\x00\x01n\x01v").unwrap(), ["!n=v", "n=v"]);
    }

    #[test]
    fn values_lose_the_blanks_around_them() {
        assert_eq!(fresh(b"\x00\x01n\x03 v\t").unwrap(), ["n=v"]);
        // "  a " in Huffman: 010100 010100 00011 010100, and one bit of padding.
        assert_eq!(fresh(b"\x00\x01n\x83\x51\x41\xa9").unwrap(), ["n=a"]);
        assert_eq!(fresh(b"\x00\x01n\x83\x51\x41\xa8"), Err(HpackError), "padding of a zero");
    }

    #[test]
    fn wrong_blocks() {
        for block in [
            &b"\x80"[..],
            b"\xbe",
            b"\xff\xff\xff\xff\xff\xff",
            b"\x7e\x01v",
            b"\x00\x05n\x01v",
            b"\x00\x01n",
            b"\x00\x01n\x81\x00",
            b"\x82\x20",
            b"\x3f\xe2\x1f",
            b"\x40",
            b"\x0f",
        ] {
            assert_eq!(fresh(block), Err(HpackError), "{block:?}");
        }
        assert_eq!(fresh(b"\x20\x3f\xe1\x1f\x82").unwrap(), ["Method=GET"], "two updates, then fields");
        assert_eq!(fresh(b"\x04\x02/a").unwrap(), ["Path=/a"]);
        assert!(matches!(Name::parse(b":path"), Name::Pseudo(Pseudo::Path)));
    }
}
