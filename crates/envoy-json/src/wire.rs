//! Protobuf's wire format: tags, and the four ways in which a value follows.

/// A value as it stands in a message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Raw<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
}

/// The bytes end early, or there is a group, which proto3 does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Takes a message apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next field: number and value.
    pub fn field(&mut self) -> Result<Option<(u32, Raw<'a>)>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = u32::try_from(self.varint()?).map_err(|_| Malformed)?;
        let number = tag >> 3;
        let value = match tag & 7 {
            _ if number == 0 => return Err(Malformed),
            0 => Raw::Varint(self.varint()?),
            1 => Raw::Fixed64(self.fixed64()?),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
                Raw::Bytes(self.take(length)?)
            }
            5 => Raw::Fixed32(self.fixed32()?),
            _ => return Err(Malformed),
        };
        Ok(Some((number, value)))
    }

    pub fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.rest.split_first().ok_or(Malformed)?;
            self.rest = rest;
            // Of the tenth byte one bit is left; decoders ignore the others.
            value |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    pub fn fixed64(&mut self) -> Result<u64, Malformed> {
        let bytes = self.take(8)?.try_into().map_err(|_| Malformed)?;
        Ok(u64::from_le_bytes(bytes))
    }

    pub fn fixed32(&mut self) -> Result<u32, Malformed> {
        let bytes = self.take(4)?.try_into().map_err(|_| Malformed)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Malformed)?;
        self.rest = rest;
        Ok(taken)
    }
}

/// The last value of a field; what counts if a field that is not repeated comes several times.
pub(crate) fn last(message: &[u8], number: u32) -> Result<Option<Raw<'_>>, Malformed> {
    let mut reader = Reader::new(message);
    let mut found = None;
    while let Some((at, value)) = reader.field()? {
        if at == number {
            found = Some(value);
        }
    }
    Ok(found)
}

/// A value to be written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Made {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(Vec<u8>),
}

impl Made {
    /// Is it what the field has if nothing is said?
    pub fn is_default(&self) -> bool {
        match self {
            Made::Varint(value) | Made::Fixed64(value) => *value == 0,
            Made::Fixed32(value) => *value == 0,
            Made::Bytes(value) => value.is_empty(),
        }
    }

    /// As a field of its own.
    pub fn write(&self, number: u32, out: &mut Vec<u8>) {
        let kind = match self {
            Made::Varint(_) => 0,
            Made::Fixed64(_) => 1,
            Made::Bytes(_) => 2,
            Made::Fixed32(_) => 5,
        };
        varint(u64::from(number) << 3 | kind, out);
        self.write_bare(out);
    }

    /// Without its number, as in packed lists.
    pub fn write_bare(&self, out: &mut Vec<u8>) {
        match self {
            Made::Varint(value) => varint(*value, out),
            Made::Fixed64(value) => out.extend(value.to_le_bytes()),
            Made::Fixed32(value) => out.extend(value.to_le_bytes()),
            Made::Bytes(value) => {
                varint(value.len() as u64, out);
                out.extend_from_slice(value);
            }
        }
    }
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        #[allow(clippy::cast_possible_truncation, reason = "the low seven bits are wanted")]
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    #[allow(clippy::cast_possible_truncation, reason = "less than 0x80")]
    out.push(value as u8);
}

/// Protobuf's mapping of signed numbers to small unsigned ones.
pub(crate) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

/// The way back.
pub(crate) fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_comes_back_as_it_was_written() {
        let mut out = Vec::new();
        let fields = [
            (1, Made::Varint(u64::MAX)),
            (16, Made::Fixed32(7)),
            (536_870_911, Made::Fixed64(8)),
            (2, Made::Bytes(vec![1, 2])),
        ];
        for (number, value) in &fields {
            value.write(*number, &mut out);
        }
        let mut reader = Reader::new(&out);
        assert_eq!(reader.field(), Ok(Some((1, Raw::Varint(u64::MAX)))));
        assert_eq!(reader.field(), Ok(Some((16, Raw::Fixed32(7)))));
        assert_eq!(reader.field(), Ok(Some((536_870_911, Raw::Fixed64(8)))));
        assert_eq!(reader.field(), Ok(Some((2, Raw::Bytes(&[1, 2])))));
        assert_eq!(reader.field(), Ok(None));
        for cut in [1, out.len() - 1] {
            assert_eq!(last(&out[..cut], 1), Err(Malformed), "{cut}");
        }
    }

    #[test]
    fn zigzag_goes_both_ways() {
        for (signed, coded) in [(0, 0), (-1, 1), (1, 2), (i64::MIN, u64::MAX), (i64::MAX, u64::MAX - 1)] {
            assert_eq!((zigzag(signed), unzigzag(coded)), (coded, signed));
        }
    }
}
