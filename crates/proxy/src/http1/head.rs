//! Heads of requests and responses, read (RFC 9112 sections 3 to 5).

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderName};
use http::{HeaderValue, Method, StatusCode};
use ostro_engine::Headers;

use super::framing::{self, Framing};
use super::lines::{self, Found, Search};
use super::target;

/// Most headers a head may have, whatever is configured: what fits on the stack.
const HEADERS_MAX: usize = 256;

/// What a head may be.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Bytes, all of it.
    pub bytes: usize,
    /// Headers, at most [`HEADERS_MAX`].
    pub headers: usize,
}

/// Versions of HTTP that are spoken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// Why a head is not taken. The sender is at fault; the connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// More bytes or headers than allowed.
    #[error("the head is too large")]
    TooLarge,
    /// What it is against.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    /// A transfer coding other than `chunked`, alone.
    #[error("unsupported transfer-encoding")]
    TransferCoding,
    /// Neither HTTP/1.1 nor HTTP/1.0.
    #[error("unsupported version")]
    Version,
}

impl HeadError {
    /// With which status a request of this kind is answered.
    pub fn status(self) -> StatusCode {
        match self {
            HeadError::TooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            HeadError::Malformed(_) => StatusCode::BAD_REQUEST,
            HeadError::TransferCoding => StatusCode::NOT_IMPLEMENTED,
            HeadError::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
        }
    }
}

/// A request's head. `host` and `transfer-encoding` are not among its headers any more.
#[derive(Debug)]
pub struct Request {
    /// Method.
    pub method: Method,
    /// Of an absolute target: `https`?
    pub is_https: Option<bool>,
    /// Of the target, or else of `host`.
    pub authority: Option<HeaderValue>,
    /// Path and query; empty for CONNECT.
    pub path: HeaderValue,
    /// Version.
    pub version: Version,
    /// The other headers, in order.
    pub headers: Headers,
    /// What follows.
    pub framing: Framing,
    /// May another request follow on the connection?
    pub keeps_alive: bool,
    /// What the client waits for before it sends its body.
    pub expect: Expect,
}

/// What a client waits for before it sends the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Nothing.
    Nothing,
    /// A response of status 100.
    Continue,
}

/// A response's head. `transfer-encoding` is not among its headers any more.
#[derive(Debug)]
pub struct Response {
    /// Status.
    pub status: StatusCode,
    /// Version.
    pub version: Version,
    /// Headers, in order.
    pub headers: Headers,
    /// What follows. Of an interim response (1xx): nothing.
    pub framing: Framing,
    /// May another request be sent on the connection?
    pub keeps_alive: bool,
}

/// Reads a request's head off the front of `buffer`; `None` if it is not all there yet. `search` remembers how far the
/// buffer was looked at: a fresh one for every head.
///
/// # Errors
/// What is wrong with it; the connection is to be closed after the answer.
pub fn request(
    buffer: &mut BytesMut,
    search: &mut Search,
    limits: HeadLimits,
) -> Result<Option<Request>, HeadError> {
    if *search == Search::default() {
        let empty = lines::empty_lines(buffer);
        let _ = buffer.split_to(empty);
    }
    let Some(head) = complete(buffer, search, limits)? else { return Ok(None) };
    let mut slots = [const { std::mem::MaybeUninit::uninit() }; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut []);
    let status = parsed.parse_with_uninit_headers(&head, &mut slots).map_err(|error| match error {
        httparse::Error::Version if !names_a_version(&head) => HeadError::Malformed("request line"),
        error => head_error(error),
    })?;
    let (httparse::Status::Complete(_), Some(method), Some(path), Some(version)) =
        (status, parsed.method, parsed.path, parsed.version)
    else {
        return Err(HeadError::Malformed("request line"));
    };
    let version = if version == 0 { Version::Http10 } else { Version::Http11 };
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| HeadError::Malformed("method"))?;
    let target = target::parse(&method, path.as_bytes())?;
    let mut headers = collect(&head, parsed.headers, limits)?;
    let framing = framing::declared(&headers, version == Version::Http10)?.unwrap_or(Framing::Empty);
    headers.remove(&header::TRANSFER_ENCODING);
    let host = host(&mut headers, version)?;
    Ok(Some(Request {
        is_https: target.is_https,
        // RFC 9112 section 3.2.2: the target goes before the header.
        authority: target.authority.map(|part| value(&head, part)).transpose()?.or(host),
        path: value(&head, target.path)?,
        keeps_alive: keeps_alive(&headers, version),
        expect: expect(&headers, version),
        method,
        version,
        headers,
        framing,
    }))
}

/// Reads a response's head off the front of `buffer`; `None` if it is not all there yet. What follows depends on the
/// method of the request that it answers.
///
/// # Errors
/// What is wrong with it; the connection is to be closed.
pub fn response(
    buffer: &mut BytesMut,
    search: &mut Search,
    limits: HeadLimits,
    method: &Method,
) -> Result<Option<Response>, HeadError> {
    let Some(head) = complete(buffer, search, limits)? else { return Ok(None) };
    let mut slots = [const { std::mem::MaybeUninit::uninit() }; HEADERS_MAX];
    let mut parsed = httparse::Response::new(&mut []);
    let mut config = httparse::ParserConfig::default();
    config.allow_spaces_after_header_name_in_responses(false);
    let status =
        config.parse_response_with_uninit_headers(&mut parsed, &head, &mut slots).map_err(head_error)?;
    let (httparse::Status::Complete(_), Some(code), Some(version)) = (status, parsed.code, parsed.version)
    else {
        return Err(HeadError::Malformed("status line"));
    };
    let version = if version == 0 { Version::Http10 } else { Version::Http11 };
    let status = StatusCode::from_u16(code).map_err(|_| HeadError::Malformed("status code"))?;
    let mut headers = collect(&head, parsed.headers, limits)?;
    let framing = response_framing(&headers, status, version, method)?;
    headers.remove(&header::TRANSFER_ENCODING);
    let keeps_alive = keeps_alive(&headers, version) && framing != Framing::UntilClose;
    Ok(Some(Response { status, version, headers, framing, keeps_alive }))
}

/// RFC 9112 section 6.3.
fn response_framing(
    headers: &Headers,
    status: StatusCode,
    version: Version,
    method: &Method,
) -> Result<Framing, HeadError> {
    let tunnel = *method == Method::CONNECT && status.is_success();
    if status.is_informational() || status == StatusCode::NO_CONTENT || tunnel {
        return Ok(if tunnel { Framing::UntilClose } else { Framing::Empty });
    }
    let declared = framing::declared(headers, version == Version::Http10)?;
    if *method == Method::HEAD || status == StatusCode::NOT_MODIFIED {
        return Ok(Framing::Empty);
    }
    Ok(declared.unwrap_or(Framing::UntilClose))
}

/// The head's own bytes, once they are all there.
fn complete(
    buffer: &mut BytesMut,
    search: &mut Search,
    limits: HeadLimits,
) -> Result<Option<Bytes>, HeadError> {
    match search.go_on(buffer) {
        Found::End(end) if end > limits.bytes => Err(HeadError::TooLarge),
        Found::End(end) => {
            *search = Search::default();
            Ok(Some(buffer.split_to(end).freeze()))
        }
        Found::More if buffer.len() > limits.bytes => Err(HeadError::TooLarge),
        Found::More => Ok(None),
        Found::BareLineFeed => Err(HeadError::Malformed("a line that ends in LF alone")),
    }
}

/// Whether the request line has three parts, of which the last is a version of HTTP, if not one that is known.
fn names_a_version(head: &[u8]) -> bool {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut parts = line.split(|byte| *byte == b' ').skip(2);
    let version = parts.next().and_then(|part| part.strip_prefix(b"HTTP/"));
    parts.next().is_none()
        && matches!(version, Some([major, b'.', minor]) if major.is_ascii_digit() && minor.is_ascii_digit())
}

fn head_error(error: httparse::Error) -> HeadError {
    HeadError::Malformed(match error {
        httparse::Error::TooManyHeaders => return HeadError::TooLarge,
        httparse::Error::Version => return HeadError::Version,
        httparse::Error::HeaderName => "header name",
        httparse::Error::HeaderValue => "header value",
        httparse::Error::NewLine => "line end",
        httparse::Error::Status => "status code",
        httparse::Error::Token => "request line",
    })
}

fn collect(head: &Bytes, parsed: &[httparse::Header<'_>], limits: HeadLimits) -> Result<Headers, HeadError> {
    if parsed.len() > limits.headers {
        return Err(HeadError::TooLarge);
    }
    let mut headers = Headers::with_capacity(parsed.len() + 8);
    for field in parsed {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        let name = name.map_err(|_| HeadError::Malformed("header name"))?;
        headers.append(name, value(head, field.value)?);
    }
    Ok(headers)
}

/// A part of the head as a value that shares its memory.
fn value(head: &Bytes, part: &[u8]) -> Result<HeaderValue, HeadError> {
    if part.is_empty() {
        return Ok(HeaderValue::from_static(""));
    }
    HeaderValue::from_maybe_shared(head.slice_ref(part)).map_err(|_| HeadError::Malformed("header value"))
}

/// Takes `host` out of the headers. HTTP/1.1 has exactly one (RFC 9112 section 3.2).
fn host(headers: &mut Headers, version: Version) -> Result<Option<HeaderValue>, HeadError> {
    let host = headers.get(&header::HOST).cloned();
    if headers.get_all(&header::HOST).nth(1).is_some() {
        return Err(HeadError::Malformed("more than one host"));
    }
    if let Some(host) = &host {
        if host
            .as_bytes()
            .iter()
            .any(|byte| !byte.is_ascii_graphic() || matches!(byte, b'/' | b'@' | b',' | b'#' | b'?'))
        {
            return Err(HeadError::Malformed("host"));
        }
        headers.remove(&header::HOST);
    } else if version == Version::Http11 {
        return Err(HeadError::Malformed("no host"));
    }
    Ok(host)
}

/// RFC 9112 section 9.3.
fn keeps_alive(headers: &Headers, version: Version) -> bool {
    let says = |option: &str| headers.get_all(&header::CONNECTION).any(|value| lists(value, option));
    match version {
        Version::Http11 => !says("close"),
        Version::Http10 => says("keep-alive") && !says("close"),
    }
}

/// Whether a comma-separated list has this token, in any case.
pub(crate) fn lists(value: &HeaderValue, token: &str) -> bool {
    value
        .as_bytes()
        .split(|byte| *byte == b',')
        .any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

fn expect(headers: &Headers, version: Version) -> Expect {
    let waits = headers.get(&header::EXPECT).is_some_and(|value| lists(value, "100-continue"));
    if waits && version == Version::Http11 { Expect::Continue } else { Expect::Nothing }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits { bytes: 60 * 1024, headers: 100 };

    fn read(text: &str) -> Result<Option<Request>, HeadError> {
        request(&mut BytesMut::from(text), &mut Search::default(), LIMITS)
    }

    fn answer(text: &str, method: Method) -> Result<Option<Response>, HeadError> {
        response(&mut BytesMut::from(text), &mut Search::default(), LIMITS, &method)
    }

    #[test]
    fn a_request_is_taken_apart_and_the_body_left() {
        let mut buffer = BytesMut::from(
            "\r\nPOST /a?b HTTP/1.1\r\nHost: x:80\r\nContent-Length: 3\r\nX-A:  1 \r\nx-a: 2\r\n\r\nabcGET",
        );
        let head = request(&mut buffer, &mut Search::default(), LIMITS).unwrap().unwrap();
        assert_eq!((head.method, head.path.as_bytes()), (Method::POST, &b"/a?b"[..]));
        assert_eq!(head.authority.unwrap(), "x:80");
        assert_eq!(head.framing, Framing::Length(3));
        assert!(head.keeps_alive);
        let of: Vec<_> = head.headers.get_all(&HeaderName::from_static("x-a")).collect();
        assert_eq!(of, ["1", "2"]);
        assert!(!head.headers.contains(&header::HOST));
        assert_eq!(&buffer[..], b"abcGET");
    }

    #[test]
    fn the_targets_authority_goes_before_the_header() {
        let head = read("GET http://b/ HTTP/1.1\r\nhost: a\r\n\r\n").unwrap().unwrap();
        assert_eq!((head.authority.unwrap(), head.is_https), (HeaderValue::from_static("b"), Some(false)));
    }

    #[test]
    fn a_head_that_comes_byte_by_byte_is_read_once_it_is_whole() {
        let text = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        let (mut buffer, mut search) = (BytesMut::new(), Search::default());
        for (place, byte) in text.bytes().enumerate() {
            buffer.extend_from_slice(&[byte]);
            let head = request(&mut buffer, &mut search, LIMITS).unwrap();
            assert_eq!(head.is_some(), place + 1 == text.len());
        }
    }

    #[test]
    fn persistence_follows_version_and_connection() {
        let keeps = |text: &str| read(text).unwrap().unwrap().keeps_alive;
        assert!(keeps("GET / HTTP/1.1\r\nhost: a\r\n\r\n"));
        assert!(!keeps("GET / HTTP/1.1\r\nhost: a\r\nconnection: x, Close\r\n\r\n"));
        assert!(!keeps("GET / HTTP/1.0\r\n\r\n"));
        assert!(keeps("GET / HTTP/1.0\r\nconnection: Keep-Alive\r\n\r\n"));
    }

    #[test]
    fn refused_requests() {
        let bad = StatusCode::BAD_REQUEST;
        for (text, status) in [
            ("GET / HTTP/1.1\r\n\r\n", bad),
            ("GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n", bad),
            ("GET / HTTP/1.1\r\nhost: a, b\r\n\r\n", bad),
            ("GET / HTTP/1.1\r\nhost : a\r\n\r\n", bad),
            ("GET / HTTP/1.1\r\nhost: a\r\n b\r\n\r\n", bad),
            ("GET / HTTP/1.1\r\n host: a\r\n\r\n", bad),
            ("GET / HTTP/1.1\r\nhost: a\r\n: b\r\n\r\n", bad),
            ("GET / HTTP/1.1\r\nhost: a\r\nx: \0\r\n\r\n", bad),
            ("GET / HTTP/1.1\r\nhost: a\r\nx: a\rb\r\n\r\n", bad),
            ("GET / HTTP/1.1\nhost: a\r\n\r\n", bad),
            ("GET  / HTTP/1.1\r\nhost: a\r\n\r\n", bad),
            ("GET /a b HTTP/1.1\r\nhost: a\r\n\r\n", bad),
            ("GET /  HTTP/1.1\r\nhost: a\r\n\r\n", bad),
            ("G(T / HTTP/1.1\r\nhost: a\r\n\r\n", bad),
            ("GET / HTTP/2.0\r\nhost: a\r\n\r\n", StatusCode::HTTP_VERSION_NOT_SUPPORTED),
            ("GET /\r\n\r\n", bad),
            ("GET / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\n", StatusCode::NOT_IMPLEMENTED),
            ("GET / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n", bad),
        ] {
            assert_eq!(read(text).unwrap_err().status(), status, "{text:?}");
        }
    }

    #[test]
    fn limits_hold_before_the_end_is_seen() {
        let many: String = (0..101).map(|n| format!("x-{n}: a\r\n")).collect();
        let text = format!("GET / HTTP/1.1\r\nhost: a\r\n{many}\r\n");
        assert_eq!(read(&text).unwrap_err(), HeadError::TooLarge);
        let long = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}", "a".repeat(LIMITS.bytes));
        assert_eq!(read(&long).unwrap_err(), HeadError::TooLarge);
    }

    #[test]
    fn what_follows_a_response() {
        let framing = |text: &str, method| answer(text, method).unwrap().unwrap().framing;
        assert_eq!(framing("HTTP/1.1 200 OK\r\n\r\n", Method::GET), Framing::UntilClose);
        assert_eq!(framing("HTTP/1.1 200\r\ncontent-length: 4\r\n\r\n", Method::GET), Framing::Length(4));
        assert_eq!(framing("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n", Method::HEAD), Framing::Empty);
        assert_eq!(framing("HTTP/1.1 304 NM\r\ncontent-length: 4\r\n\r\n", Method::GET), Framing::Empty);
        assert_eq!(framing("HTTP/1.1 204 NC\r\n\r\n", Method::GET), Framing::Empty);
        assert_eq!(framing("HTTP/1.1 100 Continue\r\n\r\n", Method::GET), Framing::Empty);
        assert_eq!(framing("HTTP/1.1 200 OK\r\n\r\n", Method::CONNECT), Framing::UntilClose);
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        assert_eq!(framing(chunked, Method::GET), Framing::Chunked);
        assert!(!answer("HTTP/1.1 200 OK\r\n\r\n", Method::GET).unwrap().unwrap().keeps_alive);
    }
}
