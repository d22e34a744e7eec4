//! The Huffman code of HPACK (RFC 7541 section 5.2 and appendix B).
//!
//! The code is canonical: the lengths say everything, so they are all that is written down here. Decoding looks up
//! [`LOOKUP_BITS`] bits at a time and falls back to the canonical ranges for the rarer, longer codes.

use super::HpackError;

/// Bits of each byte's code; the last is the end of string, which is never sent.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

/// Longest code, in bits.
const LENGTH_MAX: usize = 30;
/// Shortest code, in bits: how much longer than its code a text can be.
const LENGTH_MIN: usize = 5;
/// Codes up to this many bits are found at one look.
const LOOKUP_BITS: u32 = 8;

/// The code, as decoding and encoding want it.
struct Code {
    /// Of each symbol.
    codes: [u32; 257],
    /// By the next [`LOOKUP_BITS`] bits: symbol and length, or length 0 for what is longer.
    lookup: [(u8, u8); 1 << LOOKUP_BITS],
    /// Symbols by code.
    symbols: [u16; 257],
    /// Of each length: one more than its last code, shifted to the left end of 32 bits; and what to add to a code of
    /// that length for its place in `symbols`.
    ranges: [(u64, i32); LENGTH_MAX + 1],
}

static CODE: Code = build();

#[allow(clippy::indexing_slicing, reason = "runs in the compiler, where a wrong index is an error")]
const fn build() -> Code {
    let mut code = Code {
        codes: [0; 257],
        lookup: [(0, 0); 1 << LOOKUP_BITS],
        symbols: [0; 257],
        ranges: [(0, 0); LENGTH_MAX + 1],
    };
    let (mut next, mut place, mut length) = (0_u32, 0, 1);
    while length <= LENGTH_MAX {
        next <<= 1;
        code.ranges[length].1 = place as i32 - next as i32;
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as usize == length {
                code.codes[symbol] = next;
                code.symbols[place] = symbol as u16;
                if length <= LOOKUP_BITS as usize {
                    fill(&mut code.lookup, next, length as u32, symbol as u8);
                }
                next += 1;
                place += 1;
            }
            symbol += 1;
        }
        code.ranges[length].0 = (next as u64) << (32 - length);
        length += 1;
    }
    code
}

/// Enters a short code for all bits that may follow it.
#[allow(clippy::indexing_slicing, reason = "runs in the compiler, where a wrong index is an error")]
const fn fill(lookup: &mut [(u8, u8); 1 << LOOKUP_BITS], code: u32, length: u32, symbol: u8) {
    let spare = LOOKUP_BITS - length;
    let mut rest = 0;
    while rest < 1 << spare {
        lookup[((code << spare) | rest) as usize] = (symbol, length as u8);
        rest += 1;
    }
}

/// Most bytes that a code of so many bytes may stand for.
pub fn decoded_len_max(coded: usize) -> usize {
    coded * 8 / LENGTH_MIN
}

/// Decodes into the front of `out`, which has room for [`decoded_len_max`]; tells how many bytes it became.
///
/// # Errors
/// A wrong padding, or an end of string (RFC 7541 section 5.2).
pub fn decode(coded: &[u8], out: &mut [u8]) -> Result<usize, HpackError> {
    // The next bits of the text, from the left, and how many of them there are.
    let (mut rest, mut bits, mut have) = (coded, 0_u64, 0_u32);
    let mut size = 0;
    loop {
        if have < LENGTH_MAX as u32 {
            if let Some((word, tail)) = rest.split_first_chunk::<4>() {
                bits |= u64::from(u32::from_be_bytes(*word)) << (32 - have);
                (rest, have) = (tail, have + 32);
            } else {
                for byte in rest {
                    bits |= u64::from(*byte) << (56 - have);
                    have += 8;
                }
                rest = &[];
            }
        }
        let (symbol, length) = symbol(bits);
        if length > have {
            return ends_well(bits, have).then_some(size).ok_or(HpackError);
        }
        *out.get_mut(size).ok_or(HpackError)? = symbol;
        size += 1;
        bits <<= length;
        have -= length;
    }
}

/// The first symbol and its length; more than there can be if it is the end of string.
fn symbol(bits: u64) -> (u8, u32) {
    match CODE.lookup.get((bits >> (64 - LOOKUP_BITS)) as usize) {
        Some((symbol, length)) if *length > 0 => (*symbol, u32::from(*length)),
        _ => long_symbol(bits >> 32),
    }
}

/// A symbol whose code is longer than [`LOOKUP_BITS`].
#[cold]
fn long_symbol(bits: u64) -> (u8, u32) {
    let longer = CODE.ranges.iter().enumerate().skip(LOOKUP_BITS as usize + 1);
    for (length, (end, shift)) in longer {
        if bits < *end {
            let place = (bits >> (32 - length)) as i32 + shift;
            let symbol = CODE.symbols.get(place as usize).and_then(|symbol| u8::try_from(*symbol).ok());
            return symbol.map_or((0, u32::MAX), |symbol| (symbol, length as u32));
        }
    }
    (0, u32::MAX)
}

/// Whether what is left is the padding: less than a byte of ones.
fn ends_well(bits: u64, have: u32) -> bool {
    have < 8 && bits == !(u64::MAX >> have)
}

/// How many bytes the code of this text takes.
pub fn encoded_len(text: &[u8]) -> usize {
    let bits: usize = text.iter().map(|byte| usize::from(length(*byte))).sum();
    bits.div_ceil(8)
}

/// Appends the code of this text.
pub fn encode(text: &[u8], out: &mut Vec<u8>) {
    let (mut bits, mut have) = (0_u64, 0_u32);
    for byte in text {
        let (code, length) = (CODE.codes.get(usize::from(*byte)), u32::from(length(*byte)));
        bits = bits << length | u64::from(code.copied().unwrap_or_default());
        have += length;
        while have >= 8 {
            have -= 8;
            out.push((bits >> have) as u8);
        }
    }
    if have > 0 {
        out.push((bits << (8 - have)) as u8 | 0xff >> have);
    }
}

fn length(byte: u8) -> u8 {
    LENGTHS.get(usize::from(byte)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decoded(coded: &[u8]) -> Result<Vec<u8>, HpackError> {
        let mut out = vec![0; decoded_len_max(coded.len())];
        let size = decode(coded, &mut out)?;
        out.truncate(size);
        Ok(out)
    }

    #[test]
    fn the_examples_of_the_rfc() {
        for (text, coded) in [
            (
                &b"www.example.com"[..],
                &[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff][..],
            ),
            (b"no-cache", &[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf]),
            (b"custom-value", &[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xb8, 0xe8, 0xb4, 0xbf]),
            (b"302", &[0x64, 0x02]),
            (b"", &[]),
        ] {
            let mut out = Vec::new();
            encode(text, &mut out);
            assert_eq!((&out[..], encoded_len(text)), (coded, coded.len()));
            assert_eq!(decoded(coded).unwrap(), text);
        }
    }

    #[test]
    fn padding_is_less_than_a_byte_of_ones() {
        assert_eq!(decoded(&[0x07]).unwrap(), b"0", "five bits of a zero, three of padding");
        for wrong in [&[0x00][..], &[0x06], &[0x07, 0xff], &[0xff], &[0xff; 4], &[0xff, 0xff, 0xff, 0xfc]] {
            assert_eq!(decoded(wrong), Err(HpackError), "{wrong:?}");
        }
    }

    #[test]
    fn every_byte_has_a_code_of_its_own() {
        for byte in 0..=255 {
            let (text, mut out) = ([byte; 3], Vec::new());
            encode(&text, &mut out);
            assert_eq!(decoded(&out).unwrap(), text);
        }
        let sum: u64 = LENGTHS.iter().map(|length| 1 << (LENGTH_MAX - usize::from(*length))).sum();
        assert_eq!(sum, 1 << LENGTH_MAX, "a complete code");
    }

    proptest! {
        #[test]
        fn whatever_is_encoded_is_decoded(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut out = Vec::new();
            encode(&text, &mut out);
            prop_assert_eq!(out.len(), encoded_len(&text));
            prop_assert_eq!(decoded(&out).unwrap(), text);
        }

        #[test]
        fn what_decodes_is_the_code_of_what_it_decodes_to(coded in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(text) = decoded(&coded) {
                let mut out = Vec::new();
                encode(&text, &mut out);
                prop_assert_eq!(out, coded);
            }
        }
    }
}
