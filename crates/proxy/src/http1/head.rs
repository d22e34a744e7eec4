//! Heads of requests and responses, read (RFC 9112 sections 3 to 5).

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderName};
use http::{HeaderValue, Method, StatusCode};
use ostro_engine::Headers;

use super::fields::{self, Fields, Has, value};
use super::framing::{self, Framing};
use super::lines::{self, Found, Search};
use super::target;

/// What a head may be.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Bytes, all of it.
    pub bytes: usize,
    /// Headers.
    pub headers: usize,
    /// Is HTTP/1.0 spoken?
    pub http10: bool,
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
    /// An HTTP/1.1 request that does not say where it goes.
    #[error("no host")]
    NoHost,
    /// HTTP/1.0, which is not spoken here.
    #[error("HTTP/1.0")]
    OldVersion,
    /// Neither HTTP/1.1 nor HTTP/1.0.
    #[error("unsupported version")]
    Version,
}

impl HeadError {
    /// With which status a request of this kind is answered.
    pub fn status(self) -> StatusCode {
        match self {
            HeadError::TooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            HeadError::Malformed(_) | HeadError::NoHost => StatusCode::BAD_REQUEST,
            HeadError::OldVersion => StatusCode::UPGRADE_REQUIRED,
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
    let line = RequestLine::read(&head)?;
    if line.version == Version::Http10 && !limits.http10 {
        return Err(HeadError::OldVersion);
    }
    let Fields { mut headers, has } = fields::read(&head, line.length, limits.headers)?;
    let (method, version) = (line.method, line.version);
    let target = target::parse(&method, line.target)?;
    let framing = declared(&mut headers, has, version)?.unwrap_or(Framing::Empty);
    let host = host(&mut headers, has, version)?;
    if has.connection {
        remove_nominated(&mut headers)?;
    }
    Ok(Some(Request {
        is_https: target.is_https,
        // RFC 9112 section 3.2.2: the target goes before the header.
        authority: target.authority.map(|part| value(&head, part)).transpose()?.or(host),
        path: value(&head, target.path)?,
        keeps_alive: keeps_alive(&headers, has, version),
        expect: expect(&headers, has, version),
        method,
        version,
        headers,
        framing,
    }))
}

/// A request's first line (RFC 9112 section 3).
struct RequestLine<'h> {
    method: Method,
    target: &'h [u8],
    version: Version,
    /// Bytes, line end included.
    length: usize,
}

impl<'h> RequestLine<'h> {
    fn read(head: &'h [u8]) -> Result<RequestLine<'h>, HeadError> {
        let wrong = HeadError::Malformed("request line");
        let end = memchr::memchr(b'\r', head).ok_or(wrong)?;
        let (line, rest) = head.split_at_checked(end).ok_or(wrong)?;
        if rest.get(1) != Some(&b'\n') {
            return Err(wrong);
        }
        let space = memchr::memchr(b' ', line).ok_or(wrong)?;
        let (method, rest) = line.split_at_checked(space).ok_or(wrong)?;
        let rest = rest.get(1..).ok_or(wrong)?;
        let space = memchr::memchr(b' ', rest).ok_or(wrong)?;
        let (target, version) = rest.split_at_checked(space).ok_or(wrong)?;
        if target.is_empty() {
            return Err(wrong);
        }
        Ok(RequestLine {
            method: Method::from_bytes(method).map_err(|_| HeadError::Malformed("method"))?,
            target,
            version: version_of(version.get(1..).ok_or(wrong)?).ok_or(wrong)??,
            length: end + 2,
        })
    }
}

/// A version of HTTP; `None` if it is none at all.
fn version_of(text: &[u8]) -> Option<Result<Version, HeadError>> {
    match text.strip_prefix(b"HTTP/")? {
        b"1.1" => Some(Ok(Version::Http11)),
        b"1.0" => Some(Ok(Version::Http10)),
        [major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            Some(Err(HeadError::Version))
        }
        _ => None,
    }
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
    let line = StatusLine::read(&head)?;
    let (status, version) = (line.status, line.version);
    let Fields { mut headers, has } = fields::read(&head, line.length, limits.headers)?;
    let framing = response_framing(&mut headers, has, status, version, method)?;
    let keeps_alive = keeps_alive(&headers, has, version) && framing != Framing::UntilClose;
    if has.connection {
        // What an upstream names wrongly stays.
        let _ = remove_nominated(&mut headers);
    }
    Ok(Some(Response { status, version, headers, framing, keeps_alive }))
}

/// A response's first line (RFC 9112 section 4).
struct StatusLine {
    status: StatusCode,
    version: Version,
    /// Bytes, line end included.
    length: usize,
}

impl StatusLine {
    fn read(head: &[u8]) -> Result<StatusLine, HeadError> {
        let wrong = HeadError::Malformed("status line");
        let end = memchr::memchr(b'\r', head).ok_or(wrong)?;
        let (line, rest) = head.split_at_checked(end).ok_or(wrong)?;
        if rest.get(1) != Some(&b'\n') {
            return Err(wrong);
        }
        let (version, rest) = line.split_at_checked(8).ok_or(wrong)?;
        let version = version_of(version).ok_or(wrong)??;
        let (code, reason) = match rest {
            [b' ', code @ ..] if code.len() >= 3 => code.split_at_checked(3).ok_or(wrong)?,
            _ => return Err(wrong),
        };
        let is_text = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f);
        if !matches!(reason.first(), None | Some(b' ')) || !reason.iter().all(is_text) {
            return Err(wrong);
        }
        let status = StatusCode::from_bytes(code).map_err(|_| HeadError::Malformed("status code"))?;
        Ok(StatusLine { status, version, length: end + 2 })
    }
}

/// What a head says of its body; `transfer-encoding` is not among the headers any more.
fn declared(headers: &mut Headers, has: Has, version: Version) -> Result<Option<Framing>, HeadError> {
    if !has.content_length && !has.transfer_encoding {
        return Ok(None);
    }
    let declared = framing::declared(headers, version == Version::Http10)?;
    if has.transfer_encoding {
        headers.remove(&header::TRANSFER_ENCODING);
    }
    Ok(declared)
}

/// RFC 9112 section 6.3.
fn response_framing(
    headers: &mut Headers,
    has: Has,
    status: StatusCode,
    version: Version,
    method: &Method,
) -> Result<Framing, HeadError> {
    let tunnel = *method == Method::CONNECT && status.is_success();
    if status.is_informational() || status == StatusCode::NO_CONTENT || tunnel {
        headers.remove(&header::TRANSFER_ENCODING);
        return Ok(if tunnel { Framing::UntilClose } else { Framing::Empty });
    }
    let declared = declared(headers, has, version)?;
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

/// Takes `host` out of the headers. HTTP/1.1 has exactly one (RFC 9112 section 3.2).
fn host(headers: &mut Headers, has: Has, version: Version) -> Result<Option<HeaderValue>, HeadError> {
    let host = if has.host { headers.get(&header::HOST).cloned() } else { None };
    if has.host && headers.get_all(&header::HOST).nth(1).is_some() {
        return Err(HeadError::Malformed("more than one host"));
    }
    if let Some(host) = &host {
        if host
            .as_bytes()
            .iter()
            .any(|byte| !byte.is_ascii_graphic() || matches!(byte, b'/' | b'@' | b',' | b'#' | b'?'))
            || !has_good_port(host.as_bytes())
        {
            return Err(HeadError::Malformed("host"));
        }
        headers.remove(&header::HOST);
    } else if version == Version::Http11 {
        return Err(HeadError::NoHost);
    }
    Ok(host)
}

/// Fields that no client may have removed by naming them in `connection`: they say where a request goes, and from whom.
const FIXED: [&str; 9] = [
    "host",
    "content-length",
    "transfer-encoding",
    ":method",
    ":path",
    ":authority",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
];

/// Removes the fields that `connection` names (RFC 9110 section 7.6.1).
fn remove_nominated(headers: &mut Headers) -> Result<(), HeadError> {
    let mut named: Vec<HeaderName> = Vec::new();
    for value in headers.get_all(&header::CONNECTION) {
        for token in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if FIXED.iter().any(|fixed| token.eq_ignore_ascii_case(fixed.as_bytes())) {
                return Err(HeadError::Malformed("connection names a field that must stay"));
            }
            let is_own = [&b"close"[..], b"keep-alive", b"upgrade", b"te", b"http2-settings"]
                .iter()
                .any(|own| token.eq_ignore_ascii_case(own));
            if !is_own && let Ok(name) = HeaderName::from_bytes(token) {
                named.push(name);
            }
        }
    }
    if !named.is_empty() {
        headers.retain(|name, _| !named.contains(name));
    }
    Ok(())
}

/// Whether what follows the host is a port.
fn has_good_port(host: &[u8]) -> bool {
    let begin = host.iter().rposition(|byte| *byte == b']').map_or(0, |bracket| bracket + 1);
    let rest = host.get(begin..).unwrap_or_default();
    match rest.iter().position(|byte| *byte == b':') {
        Some(colon) => rest.get(colon + 1..).unwrap_or_default().iter().all(u8::is_ascii_digit),
        None => true,
    }
}

/// RFC 9112 section 9.3.
fn keeps_alive(headers: &Headers, has: Has, version: Version) -> bool {
    if !has.connection {
        return version == Version::Http11;
    }
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

fn expect(headers: &Headers, has: Has, version: Version) -> Expect {
    if !has.expect {
        return Expect::Nothing;
    }
    let waits = headers.get(&header::EXPECT).is_some_and(|value| lists(value, "100-continue"));
    if waits && version == Version::Http11 { Expect::Continue } else { Expect::Nothing }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits { bytes: 60 * 1024, headers: 100, http10: true };

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
