//! Heads and bodies, written.

use std::io::Write as _;

use bytes::BufMut as _;
use http::header::{HeaderName, HeaderValue};
use http::{Method, StatusCode};
use ostro_engine::Headers;

use super::framing::Framing;

/// Fields that the proxy itself has to say of a message.
pub type Own = [Option<(HeaderName, HeaderValue)>];

/// Writes a request's head: `own` fields behind the others. `content-length` is among them if `framing` is a length;
/// `transfer-encoding` is written by the framing.
#[allow(clippy::too_many_arguments, reason = "a head has these parts")]
pub fn request_head(
    out: &mut Vec<u8>,
    method: &Method,
    target: &[u8],
    authority: &HeaderValue,
    headers: &Headers,
    own: &Own,
    framing: Framing,
    names: Names,
) {
    out.reserve(method.as_str().len() + target.len() + authority.len() + headers.wire_bytes() + 160);
    out.put_slice(method.as_str().as_bytes());
    out.put_u8(b' ');
    out.put_slice(target);
    out.put_slice(b" HTTP/1.1\r\nhost: ");
    out.put_slice(authority.as_bytes());
    out.put_slice(b"\r\n");
    fields(out, headers.iter(), names);
    end_head(out, own, framing, names);
}

/// Writes a response's head, with the reason phrase of RFC 9110. Fields and framing as in [`request_head`]; a
/// `content-length` may stand beside [`Framing::Empty`], as after HEAD.
pub fn response_head(
    out: &mut Vec<u8>,
    is_http10: bool,
    status: StatusCode,
    headers: &Headers,
    own: &Own,
    framing: Framing,
    names: Names,
) {
    out.reserve(headers.wire_bytes() + 192);
    out.put_slice(if is_http10 { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    out.put_slice(status.as_str().as_bytes());
    out.put_u8(b' ');
    out.put_slice(status.canonical_reason().unwrap_or("Unknown").as_bytes());
    out.put_slice(b"\r\n");
    fields(out, headers.iter(), names);
    end_head(out, own, framing, names);
}

fn end_head(out: &mut Vec<u8>, own: &Own, framing: Framing, names: Names) {
    fields(out, own.iter().flatten().map(|(name, value)| (name, value)), names);
    body_header(out, framing);
    out.put_slice(b"\r\n");
}

/// How names are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Names {
    /// In lower case.
    #[default]
    Lower,
    /// With a capital after each hyphen (`header_key_format.proper_case_words`).
    Proper,
}

fn name_of(out: &mut Vec<u8>, name: &HeaderName, names: Names) {
    if names == Names::Lower {
        return out.put_slice(name.as_str().as_bytes());
    }
    let mut is_first = true;
    for byte in name.as_str().bytes() {
        out.put_u8(if is_first { byte.to_ascii_uppercase() } else { byte });
        is_first = byte == b'-';
    }
}

fn fields<'a>(
    out: &mut Vec<u8>,
    fields: impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)>,
    names: Names,
) {
    for (name, value) in fields {
        name_of(out, name, names);
        out.put_slice(b": ");
        out.put_slice(value.as_bytes());
        out.put_slice(b"\r\n");
    }
}

fn body_header(out: &mut Vec<u8>, framing: Framing) {
    if framing == Framing::Chunked {
        out.put_slice(b"transfer-encoding: chunked\r\n");
    }
}

/// Frames the parts of one body.
#[derive(Clone, Copy, Debug)]
pub struct BodyEncoder {
    framing: Framing,
}

impl BodyEncoder {
    /// An encoder for what a head has announced.
    pub fn new(framing: Framing) -> Self {
        Self { framing }
    }

    /// Whether there is no body.
    pub fn is_empty(&self) -> bool {
        self.framing == Framing::Empty
    }

    /// Whether the end of the body is the end of the connection.
    pub fn is_until_close(&self) -> bool {
        self.framing == Framing::UntilClose
    }

    /// What comes before so many bytes of data; [`after`](Self::after) follows them.
    pub fn before(&self, out: &mut Vec<u8>, size: usize) {
        if self.framing == Framing::Chunked && size > 0 {
            // Writing to memory does not fail.
            let _ = write!(out, "{size:x}\r\n");
        }
    }

    /// What comes after so many bytes of data.
    pub fn after(&self, out: &mut Vec<u8>, size: usize) {
        if self.framing == Framing::Chunked && size > 0 {
            out.put_slice(b"\r\n");
        }
    }

    /// The end of the body. Trailers go with chunks only; without them they are dropped, as a recipient may
    /// (RFC 9110 section 6.5.1).
    pub fn end(&self, out: &mut Vec<u8>, trailers: Option<&Headers>) {
        if self.framing == Framing::Chunked {
            out.put_slice(b"0\r\n");
            if let Some(trailers) = trailers {
                fields(out, trailers.iter(), Names::Lower);
            }
            out.put_slice(b"\r\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_and_chunks_as_they_are_on_the_wire() {
        let mut headers = Headers::default();
        headers.append(http::HeaderName::from_static("x-a"), HeaderValue::from_static("1"));
        let mut out = Vec::new();
        let host = HeaderValue::from_static("h");
        request_head(&mut out, &Method::POST, b"/p", &host, &headers, &[], Framing::Empty, Names::Lower);
        assert_eq!(&out[..], b"POST /p HTTP/1.1\r\nhost: h\r\nx-a: 1\r\n\r\n");
        out.clear();
        response_head(&mut out, false, StatusCode::OK, &headers, &[], Framing::Chunked, Names::Lower);
        let encoder = BodyEncoder::new(Framing::Chunked);
        encoder.before(&mut out, 17);
        encoder.after(&mut out, 17);
        encoder.end(&mut out, Some(&headers));
        let wire =
            b"HTTP/1.1 200 OK\r\nx-a: 1\r\ntransfer-encoding: chunked\r\n\r\n11\r\n\r\n0\r\nx-a: 1\r\n\r\n";
        assert_eq!(&out[..], wire);
    }
}
