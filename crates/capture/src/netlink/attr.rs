//! Netlink attributes: length, kind, value, padded to four bytes; some hold attributes themselves.
//!
//! nf_tables' own numbers are big-endian, unlike the lengths and kinds around them.

/// Bytes of an attribute's own header.
const HEADER: usize = 4;
/// Set in the kind of an attribute that holds others.
const NESTED: u16 = 1 << 15;
/// Bits of the kind that are not the kind.
const FLAGS: u16 = 0b11 << 14;

/// Attributes being written.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
    too_long: bool,
}

impl Writer {
    /// One attribute.
    pub fn put(&mut self, kind: u16, value: &[u8]) {
        let start = self.open(kind);
        self.bytes.extend_from_slice(value);
        self.close(start);
    }

    /// One that holds a number of 32 bits, big-endian.
    pub fn u32(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_be_bytes());
    }

    /// One that holds text, ended by a NUL.
    pub fn text(&mut self, kind: u16, value: &str) {
        let start = self.open(kind);
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(0);
        self.close(start);
    }

    /// One that holds others.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Writer)) {
        let start = self.open(kind | NESTED);
        fill(self);
        self.close(start);
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Nothing so far?
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What was written, unless an attribute was longer than the format can say.
    pub fn finish(self) -> Option<Vec<u8>> {
        (!self.too_long).then_some(self.bytes)
    }

    fn open(&mut self, kind: u16) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0, 0]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        start
    }

    fn close(&mut self, start: usize) {
        match u16::try_from(self.bytes.len() - start) {
            Ok(length) => {
                if let Some(place) = self.bytes.get_mut(start..start + 2) {
                    place.copy_from_slice(&length.to_ne_bytes());
                }
            }
            Err(_) => self.too_long = true,
        }
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// One attribute that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr<'a> {
    /// Its kind, without flags.
    pub kind: u16,
    /// Its value, without padding.
    pub value: &'a [u8],
}

impl<'a> Attr<'a> {
    /// The value as a big-endian number of 32 bits.
    pub fn u32(&self) -> Option<u32> {
        Some(u32::from_be_bytes(self.value.try_into().ok()?))
    }

    /// The value as a big-endian number of 64 bits.
    pub fn u64(&self) -> Option<u64> {
        Some(u64::from_be_bytes(self.value.try_into().ok()?))
    }

    /// The value as text, up to its NUL.
    pub fn text(&self) -> Option<&'a str> {
        let end = self.value.iter().position(|b| *b == 0).unwrap_or(self.value.len());
        std::str::from_utf8(self.value.get(..end)?).ok()
    }

    /// The attributes it holds.
    pub fn inside(&self) -> Attrs<'a> {
        Attrs(self.value)
    }
}

/// Reads attributes one after another; ends at the first that is cut short.
#[derive(Clone, Copy, Debug)]
pub struct Attrs<'a>(pub &'a [u8]);

impl<'a> Attrs<'a> {
    /// The first of this kind.
    pub fn find(mut self, kind: u16) -> Option<Attr<'a>> {
        Iterator::find(&mut self, |attr| attr.kind == kind)
    }

    /// The number in the first of this kind.
    pub fn u32(self, kind: u16) -> Option<u32> {
        self.find(kind)?.u32()
    }

    /// The text in the first of this kind.
    pub fn text(self, kind: u16) -> Option<&'a str> {
        self.find(kind)?.text()
    }
}

impl<'a> Iterator for Attrs<'a> {
    type Item = Attr<'a>;

    fn next(&mut self) -> Option<Attr<'a>> {
        let (length, rest) = self.0.split_first_chunk::<2>()?;
        let (kind, _) = rest.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_ne_bytes(*length));
        let value = self.0.get(HEADER..length)?;
        // The last one may come without its padding.
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Attr { kind: u16::from_ne_bytes(*kind) & !FLAGS, value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut w = Writer::default();
        w.u32(1, 0xdead_beef);
        w.nest(2, |w| {
            w.text(3, "lo");
            w.put(4, &[7]);
        });
        let bytes = w.finish().unwrap();
        assert_eq!(bytes.len() % 4, 0);
        let attrs = Attrs(&bytes);
        assert_eq!(attrs.u32(1), Some(0xdead_beef));
        let inner = attrs.find(2).unwrap().inside();
        assert_eq!(inner.text(3), Some("lo"));
        assert_eq!(inner.map(|a| (a.kind, a.value.to_vec())).collect::<Vec<_>>()[1], (4, vec![7]));
    }

    #[test]
    fn what_does_not_fit_is_said_and_what_is_cut_short_ends_the_reading() {
        let mut w = Writer::default();
        w.put(1, &vec![0; 70_000]);
        assert!(w.finish().is_none());
        for bytes in [&[][..], &[4], &[3, 0, 1, 0], &[9, 0, 1, 0, 5], &[0, 0, 0, 0]] {
            assert_eq!(Attrs(bytes).next(), None, "{bytes:?}");
        }
    }
}
