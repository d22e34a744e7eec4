//! How long a message's body is, and how it says so (RFC 9112 section 6).

use http::{HeaderValue, header};
use ostro_engine::Headers;

use super::head::HeadError;

/// How a body is told from what follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    Empty,
    /// So many bytes.
    Length(u64),
    /// In chunks, perhaps with trailers.
    Chunked,
    /// All that comes until the connection is closed; responses only.
    UntilClose,
}

/// What a head says of its body; `None` if nothing. Two lengths, or a length and a coding, are refused: whoever is next
/// on the way might believe the other one.
pub fn declared(headers: &Headers, is_http10: bool) -> Result<Option<Framing>, HeadError> {
    let mut codings = headers.get_all(&header::TRANSFER_ENCODING);
    if let Some(coding) = codings.next() {
        if codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return Err(HeadError::TransferCoding);
        }
        if is_http10 {
            return Err(HeadError::Malformed("transfer-encoding in HTTP/1.0"));
        }
        if headers.contains(&header::CONTENT_LENGTH) {
            return Err(HeadError::Malformed("both transfer-encoding and content-length"));
        }
        return Ok(Some(Framing::Chunked));
    }
    let mut lengths = headers.get_all(&header::CONTENT_LENGTH);
    let Some(length) = lengths.next() else { return Ok(None) };
    if lengths.next().is_some() {
        return Err(HeadError::Malformed("more than one content-length"));
    }
    Ok(Some(match decimal(length)? {
        0 => Framing::Empty,
        length => Framing::Length(length),
    }))
}

/// Digits and nothing else: no sign, no list.
fn decimal(value: &HeaderValue) -> Result<u64, HeadError> {
    let wrong = HeadError::Malformed("content-length is no number");
    let bytes = value.as_bytes();
    if bytes.is_empty() || !bytes.iter().all(u8::is_ascii_digit) {
        return Err(wrong);
    }
    std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok()).ok_or(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declare(pairs: &[(&'static str, &'static str)]) -> Result<Option<Framing>, HeadError> {
        let mut headers = Headers::default();
        for (name, value) in pairs {
            headers.append(http::HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        declared(&headers, false)
    }

    #[test]
    fn one_length_or_one_coding() {
        assert_eq!(declare(&[]), Ok(None));
        assert_eq!(declare(&[("content-length", "0")]), Ok(Some(Framing::Empty)));
        assert_eq!(declare(&[("content-length", "007")]), Ok(Some(Framing::Length(7))));
        assert_eq!(declare(&[("transfer-encoding", "Chunked")]), Ok(Some(Framing::Chunked)));
    }

    #[test]
    fn whatever_could_be_read_in_two_ways_is_refused() {
        for pairs in [
            &[("content-length", "1"), ("content-length", "1")][..],
            &[("content-length", "1, 1")],
            &[("content-length", "+1")],
            &[("content-length", "-1")],
            &[("content-length", "0x1")],
            &[("content-length", "1 ")],
            &[("content-length", "")],
            &[("content-length", "18446744073709551616")],
            &[("content-length", "1"), ("transfer-encoding", "chunked")],
            &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
            &[("transfer-encoding", "gzip, chunked")],
            &[("transfer-encoding", "identity")],
            &[("transfer-encoding", "xchunked")],
        ] {
            assert!(declare(pairs).is_err(), "{pairs:?}");
        }
    }
}
