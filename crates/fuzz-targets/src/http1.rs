//! HTTP/1: whatever comes on a connection, in either direction.

use bytes::BytesMut;
use http::{HeaderValue, Method};
use ostro_engine::Headers;
use ostro_proxy::http1::{
    BodyDecoder, Decoded, Framing, HeadLimits, Names, Request, Search, request, request_head, response,
};

use crate::cut::Cut;

/// Little, so that it is reached.
const LIMITS: HeadLimits = HeadLimits { bytes: 1_024, headers: 16, http10: true };

/// Heads and bodies, one after the other: the same however they are cut, nothing beyond the limits, and what is written of
/// a request is one request.
pub(crate) fn run(input: &[u8]) {
    let mut cut = Cut::new(input);
    let (role, piece) = (cut.byte(), usize::from(cut.byte()) + 1);
    let bytes = cut.rest();
    let whole = read(role, bytes, usize::MAX);
    let pieces = read(role, bytes, piece);
    assert_eq!(whole, pieces);
}

/// Bytes that come in pieces.
struct Wire<'a> {
    left: std::slice::Chunks<'a, u8>,
    buffer: BytesMut,
}

impl Wire<'_> {
    /// Whether there was more.
    fn more(&mut self) -> bool {
        let next = self.left.next();
        self.buffer.extend_from_slice(next.unwrap_or_default());
        next.is_some()
    }
}

/// What is made of the messages: heads as text, bodies, and the word that ended it.
fn read(role: u8, bytes: &[u8], piece: usize) -> Vec<String> {
    let mut wire = Wire { left: bytes.chunks(piece.max(1)), buffer: BytesMut::new() };
    let mut said = Vec::new();
    loop {
        let framing = if role & 1 == 0 {
            next_request(&mut wire, &mut said)
        } else {
            next_response(role, &mut wire, &mut said)
        };
        let Some(framing) = framing else { return said };
        if !body(framing, &mut wire, &mut said) {
            return said;
        }
    }
}

fn next_request(wire: &mut Wire<'_>, said: &mut Vec<String>) -> Option<Framing> {
    let mut search = Search::default();
    loop {
        match request(&mut wire.buffer, &mut search, LIMITS) {
            Ok(Some(head)) => {
                check(&head.headers);
                written(&head);
                said.push(format!("{head:?}"));
                return head.keeps_alive.then_some(head.framing);
            }
            Ok(None) if wire.more() => {}
            Ok(None) => return None,
            Err(error) => {
                assert!(error.status().is_client_error() || error.status().is_server_error());
                said.push("refused".to_owned());
                return None;
            }
        }
    }
}

fn next_response(role: u8, wire: &mut Wire<'_>, said: &mut Vec<String>) -> Option<Framing> {
    let method = [Method::GET, Method::HEAD, Method::CONNECT][usize::from(role / 2 % 3)].clone();
    let mut search = Search::default();
    loop {
        match response(&mut wire.buffer, &mut search, LIMITS, &method) {
            Ok(Some(head)) => {
                check(&head.headers);
                assert!(!head.keeps_alive || head.framing != Framing::UntilClose);
                said.push(format!("{head:?}"));
                return Some(head.framing);
            }
            Ok(None) if wire.more() => {}
            Ok(None) => return None,
            Err(_) => {
                said.push("refused".to_owned());
                return None;
            }
        }
    }
}

/// Whether another message may follow.
fn body(framing: Framing, wire: &mut Wire<'_>, said: &mut Vec<String>) -> bool {
    let mut decoder = BodyDecoder::new(framing, LIMITS);
    let (mut data, mut is_closed) = (Vec::new(), false);
    let end = loop {
        match decoder.decode(&mut wire.buffer, is_closed) {
            Ok(Decoded::Data(part)) => data.extend_from_slice(&part),
            Ok(Decoded::Trailers(trailers)) => {
                check(&trailers);
                said.push(format!("{trailers:?}"));
            }
            Ok(Decoded::End) => break true,
            Ok(Decoded::More) => is_closed = !wire.more(),
            Err(_) => break false,
        }
    };
    if let Framing::Length(length) = framing {
        assert!(data.len() as u64 <= length && (!end || data.len() as u64 == length));
    }
    said.push(format!("{} {end}", data.escape_ascii()));
    end && framing != Framing::UntilClose
}

fn check(headers: &Headers) {
    assert!(headers.len() <= LIMITS.headers);
    for (name, value) in headers.iter() {
        assert!(!name.as_str().is_empty() && name.as_str() != "transfer-encoding");
        assert!(!value.as_bytes().iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
    }
}

/// What goes on to an upstream is read there as this one request, and nothing is left of it.
fn written(head: &Request) {
    if head.method == Method::CONNECT || head.path.is_empty() {
        return;
    }
    let authority = head.authority.clone().unwrap_or(HeaderValue::from_static("a"));
    let mut out = Vec::new();
    request_head(
        &mut out,
        &head.method,
        head.path.as_bytes(),
        &authority,
        &head.headers,
        &[],
        head.framing,
        Names::Lower,
    );
    let limits = HeadLimits { bytes: 16 << 10, headers: 64, http10: false };
    let mut out = BytesMut::from(&out[..]);
    let again = request(&mut out, &mut Search::default(), limits);
    let again = again.expect("what is written is taken").expect("all of it is there");
    assert!(out.is_empty());
    assert_eq!((again.method, again.framing), (head.method.clone(), head.framing));
    assert_eq!((again.path, again.headers.len()), (head.path.clone(), head.headers.len()));
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let seed = |(role, piece, text): (u8, u8, &str)| [&[role, piece], text.as_bytes()].concat();
    [
        (0, 3, "GET /a?b HTTP/1.1\r\nhost: a:80\r\nx-a:  b \r\nconnection: keep-alive, x-a\r\n\r\nGET http://b/ HTTP/1.1\r\nHost: c\r\n\r\n"),
        (0, 6, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\nhelloGET"),
        (0, 1, "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5;x=\"y\"\r\nhello\r\n0\r\nx-t: 1\r\n\r\nOPTIONS * HTTP/1.1\r\nhost:\r\n\r\n"),
        (0, 9, "\r\nCONNECT a:443 HTTP/1.1\r\nhost: a\r\n\r\n\x16\x03\x01"),
        (0, 0, "GET / HTTP/1.0\r\n\r\n"),
        (0, 4, "GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        (1, 5, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc"),
        (1, 7, "HTTP/1.1 200\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
        (3, 2, "HTTP/1.1 304 Not Modified\r\ncontent-length: 3\r\n\r\nHTTP/1.0 200 OK\r\n\r\nrest"),
        (5, 8, "HTTP/1.1 200 OK\r\nupgrade: x\r\n\r\nbytes"),
    ]
    .map(seed)
    .to_vec()
}
