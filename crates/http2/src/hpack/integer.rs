//! Integers of HPACK: a prefix of some bits, then seven bits at a time (RFC 7541 section 5.1).

use super::HpackError;

/// Bits beyond the prefix that are read at most: no length or index that is taken here needs more.
const SHIFT_MAX: u32 = 21;

/// Reads an integer whose first byte, `first`, has `bits` bits of it. `rest` is what follows, and is moved on.
///
/// # Errors
/// It is cut off or too large.
pub fn read(first: u8, bits: u32, rest: &mut &[u8]) -> Result<usize, HpackError> {
    let mask = (1_usize << bits) - 1;
    let mut value = usize::from(first) & mask;
    if value < mask {
        return Ok(value);
    }
    let mut shift = 0;
    loop {
        let (byte, tail) = rest.split_first().ok_or(HpackError)?;
        *rest = tail;
        value += usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
        shift += 7;
        if shift > SHIFT_MAX {
            return Err(HpackError);
        }
    }
}

/// Appends an integer; `pattern` is what stands in its first byte before the `bits` bits of it.
pub fn write(value: usize, pattern: u8, bits: u32, out: &mut Vec<u8>) {
    let mask = (1_usize << bits) - 1;
    if value < mask {
        out.push(pattern | value as u8);
        return;
    }
    out.push(pattern | mask as u8);
    let mut left = value - mask;
    while left >= 0x80 {
        out.push(left as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(bytes: &[u8], bits: u32) -> Result<usize, HpackError> {
        let (first, mut rest) = bytes.split_first().unwrap();
        let value = read(*first, bits, &mut rest)?;
        assert!(rest.is_empty());
        Ok(value)
    }

    #[test]
    fn the_examples_of_the_rfc() {
        for (value, bits, bytes) in [
            (10, 5, &[0b01010][..]),
            (1337, 5, &[0b11111, 0b1001_1010, 0b1010]),
            (42, 8, &[42]),
            (31, 5, &[31, 0]),
        ] {
            let mut out = Vec::new();
            write(value, 0, bits, &mut out);
            assert_eq!(out, bytes);
            assert_eq!(read_all(bytes, bits), Ok(value));
        }
    }

    #[test]
    fn what_is_cut_off_or_too_large_is_refused() {
        assert_eq!(read_all(&[0x7f], 7), Err(HpackError));
        assert_eq!(read_all(&[0x7f, 0x80], 7), Err(HpackError));
        assert_eq!(read_all(&[0x7f, 0xff, 0xff, 0xff, 0xff, 0x0f], 7), Err(HpackError));
    }

    #[test]
    fn sizes_up_to_the_largest_table_are_read_back() {
        for value in [0, 1, 126, 127, 128, 4096, 65_535, 1 << 20, 1 << 27] {
            for bits in 4..8 {
                let mut out = Vec::new();
                write(value, 0, bits, &mut out);
                assert_eq!(read_all(&out, bits), Ok(value));
            }
        }
    }
}
