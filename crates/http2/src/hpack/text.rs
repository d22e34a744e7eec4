//! Field values from bytes that were looked at already.

use bytes::Bytes;
use http::HeaderValue;

/// Whether these bytes may be a field's value (RFC 9110 section 5.5): what could end a line of HTTP/1 may not.
///
/// Looks at all of them, whatever it finds: that way the compiler looks at many at a time.
pub fn is_value(text: &[u8]) -> bool {
    text.iter().fold(true, |valid, byte| valid & ((*byte >= b' ') & (*byte != 0x7f) | (*byte == b'\t')))
}

/// Without blanks around it. A value has none there (RFC 9113 section 8.2.1); Envoy lets them pass, and so they do here,
/// cut off, because HTTP/1 could not tell them from what it puts there itself.
pub fn trim(text: &[u8]) -> &[u8] {
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let mut text = text;
    while is_blank(text.first()) {
        text = text.get(1..).unwrap_or_default();
    }
    while is_blank(text.last()) {
        text = text.get(..text.len() - 1).unwrap_or_default();
    }
    text
}

/// A value of bytes for which [`is_value`] holds; others make an empty one.
pub fn value(text: Bytes) -> HeaderValue {
    if text.is_empty() || !is_value(&text) {
        return HeaderValue::from_static("");
    }
    // SAFETY: the only demand is that the bytes are those of a valid value, which was just seen. `HeaderValue` looks at
    // one byte at a time, which is most of what a value costs.
    unsafe { HeaderValue::from_maybe_shared_unchecked(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_the_http_crate() {
        for byte in 0..=255_u8 {
            let text = [b'a', byte, b'b'];
            assert_eq!(is_value(&text), HeaderValue::from_bytes(&text).is_ok(), "{byte}");
            let value = value(Bytes::copy_from_slice(&text));
            assert_eq!(value.is_empty(), !is_value(&text));
        }
    }

    #[test]
    fn blanks_around_are_cut_off() {
        for (text, left) in [(" \ta b\t ", "a b"), ("", ""), (" ", ""), ("a", "a")] {
            assert_eq!(trim(text.as_bytes()), left.as_bytes());
        }
    }
}
