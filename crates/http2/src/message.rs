//! Header sections: what of them is a message's, and whether it is one (RFC 9113 section 8).
//!
//! Nothing leaves here that HTTP/1 could read as something else: names are tokens, values hold no control characters,
//! paths and authorities no blanks, and whatever frames a message or belongs to a connection is refused or gone.

use bytes::{BufMut as _, BytesMut};
use http::header::{self, HeaderName};
use http::{HeaderValue, Method, StatusCode};
use ostro_engine::{Headers, Request, Scheme};

use crate::event::{RequestHead, ResponseHead};
use crate::hpack::{Class, Name, Pseudo, Sink};
use crate::streams::NO_LENGTH;

/// Fields that a head gets room for: what is usual, and some that will be added.
const FIELDS_USUAL: usize = 24;

/// What is wrong with a section.
pub type Reason = &'static str;

/// A header section that is being read.
#[derive(Debug)]
pub struct Section {
    bytes_left: usize,
    fields_left: usize,
    is_too_large: bool,
    wrong: Option<Reason>,
    /// Pseudo-headers that came, by bit.
    pseudo: u8,
    method: Option<Method>,
    scheme: Option<Scheme>,
    authority: Option<HeaderValue>,
    path: Option<HeaderValue>,
    status: Option<StatusCode>,
    protocol: Option<HeaderValue>,
    /// An ordinary field came: no pseudo-header may follow.
    has_fields: bool,
    headers: Headers,
    host: Option<HeaderValue>,
    /// All cookies, once there are two.
    cookies: Option<BytesMut>,
    length: u64,
    /// A field that no trailers may have.
    frames: bool,
}

impl Section {
    /// An empty one that may hold so much.
    pub fn new(bytes: usize, fields: usize) -> Section {
        Section {
            bytes_left: bytes,
            fields_left: fields,
            is_too_large: false,
            wrong: None,
            pseudo: 0,
            method: None,
            scheme: None,
            authority: None,
            path: None,
            status: None,
            protocol: None,
            has_fields: false,
            headers: Headers::default(),
            host: None,
            cookies: None,
            length: NO_LENGTH,
            frames: false,
        }
    }

    /// Whether it was larger than it may be, so that not all of it is there.
    pub fn is_too_large(&self) -> bool {
        self.is_too_large
    }

    /// It as a request, and the length that it announces.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn request(mut self, takes_protocol: bool) -> Result<(RequestHead, u64), Reason> {
        self.join_cookies();
        self.check()?;
        if self.status.is_some() {
            return Err(":status in a request");
        }
        let method = self.method.take().ok_or("no :method")?;
        let authority = self.authority.take().or(self.host.take());
        let is_connect = method == Method::CONNECT;
        let protocol = self.protocol.take();
        if protocol.is_some() && !(is_connect && takes_protocol) {
            return Err(":protocol where it may not be");
        }
        let (scheme, path) = if is_connect && protocol.is_none() {
            if self.scheme.is_some() || self.path.is_some() {
                return Err(":scheme or :path in CONNECT");
            }
            (Scheme::Http, HeaderValue::from_static(""))
        } else {
            let path = self.path.take().ok_or("no :path")?;
            let is_path = path.as_bytes().starts_with(b"/") || path == "*" && method == Method::OPTIONS;
            if !is_path {
                return Err(":path");
            }
            (self.scheme.ok_or("no :scheme")?, path)
        };
        if is_connect && authority.as_ref().is_none_or(HeaderValue::is_empty) {
            return Err("no :authority in CONNECT");
        }
        let authority = authority.unwrap_or(HeaderValue::from_static(""));
        let length = if is_connect { NO_LENGTH } else { self.length };
        let mut request = Request::new(method, authority, path);
        (request.scheme, request.headers) = (scheme, self.headers);
        Ok((RequestHead { request, protocol }, length))
    }

    /// It as a response, and the length that it announces.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn response(mut self) -> Result<(ResponseHead, u64), Reason> {
        self.join_cookies();
        self.check()?;
        if self.pseudo & !bit(Pseudo::Status) != 0 {
            return Err("a request's pseudo-header in a response");
        }
        let status = self.status.ok_or("no :status")?;
        if status == StatusCode::SWITCHING_PROTOCOLS {
            return Err("status 101");
        }
        if let Some(host) = self.host {
            self.headers.append(header::HOST, host);
        }
        Ok((ResponseHead { status, headers: self.headers }, self.length))
    }

    /// It as trailers.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn trailers(mut self) -> Result<Headers, Reason> {
        self.join_cookies();
        self.check()?;
        if self.pseudo != 0 {
            return Err("a pseudo-header in trailers");
        }
        if self.frames {
            return Err("a trailer that frames a message");
        }
        Ok(self.headers)
    }

    fn check(&self) -> Result<(), Reason> {
        self.wrong.map_or(Ok(()), Err)
    }

    fn fail(&mut self, reason: Reason) {
        self.wrong.get_or_insert(reason);
    }

    fn pseudo(&mut self, pseudo: Pseudo, value: HeaderValue) {
        if self.pseudo & bit(pseudo) != 0 {
            return self.fail("a pseudo-header twice");
        }
        if self.has_fields {
            return self.fail("a pseudo-header behind a field");
        }
        self.pseudo |= bit(pseudo);
        let bytes = value.as_bytes();
        match pseudo {
            Pseudo::Method => match Method::from_bytes(bytes) {
                Ok(method) => self.method = Some(method),
                Err(_) => self.fail(":method"),
            },
            Pseudo::Scheme => match bytes {
                b"http" => self.scheme = Some(Scheme::Http),
                b"https" => self.scheme = Some(Scheme::Https),
                _ => self.fail(":scheme"),
            },
            Pseudo::Authority if is_authority(bytes) => self.authority = Some(value),
            Pseudo::Authority => self.fail(":authority"),
            Pseudo::Path if is_target(bytes) => self.path = Some(value),
            Pseudo::Path => self.fail(":path"),
            Pseudo::Protocol if is_target(bytes) => self.protocol = Some(value),
            Pseudo::Protocol => self.fail(":protocol"),
            Pseudo::Status => match StatusCode::from_bytes(bytes) {
                Ok(status) => self.status = Some(status),
                Err(_) => self.fail(":status"),
            },
        }
    }

    fn special(&mut self, name: &HeaderName, class: Class, value: HeaderValue) {
        match class {
            Class::Plain => {}
            Class::Connection => return self.fail("a field of the connection"),
            Class::Te if !value.as_bytes().eq_ignore_ascii_case(b"trailers") => return self.fail("te"),
            Class::Te => {}
            Class::ContentLength => {
                self.frames = true;
                match decimal(value.as_bytes()) {
                    Some(length) if self.length == NO_LENGTH => self.length = length,
                    Some(_) => return self.fail("more than one content-length"),
                    None => return self.fail("content-length is no number"),
                }
            }
            Class::Cookie => return self.cookie(value),
            Class::Host => return self.host(value),
        }
        self.headers.append(name.clone(), value);
    }

    /// A second way to say the authority. The first counts, as in Envoy; it is the only one where there is no other.
    fn host(&mut self, value: HeaderValue) {
        self.frames = true;
        if self.host.is_some() {
            self.fail("more than one host");
        } else if !is_authority(value.as_bytes()) {
            self.fail("host");
        }
        self.host = Some(value);
    }

    /// RFC 9113 section 8.2.3: the pieces are one field to whoever does not speak HTTP/2.
    fn cookie(&mut self, value: HeaderValue) {
        match (&mut self.cookies, self.headers.get(&header::COOKIE)) {
            (_, None) => self.headers.append(header::COOKIE, value),
            (Some(cookies), _) => {
                cookies.put_slice(b"; ");
                cookies.put_slice(value.as_bytes());
            }
            (cookies, Some(first)) => {
                let mut joined = BytesMut::with_capacity(2 * (first.len() + value.len()));
                joined.put_slice(first.as_bytes());
                joined.put_slice(b"; ");
                joined.put_slice(value.as_bytes());
                *cookies = Some(joined);
            }
        }
    }

    fn join_cookies(&mut self) {
        if let Some(cookies) = self.cookies.take() {
            match HeaderValue::from_maybe_shared(cookies.freeze()) {
                Ok(mut value) => {
                    let is_sensitive =
                        self.headers.get(&header::COOKIE).is_some_and(HeaderValue::is_sensitive);
                    value.set_sensitive(is_sensitive);
                    self.headers.set(header::COOKIE, value);
                }
                Err(_) => self.fail("cookie"),
            }
        }
    }
}

impl Sink for Section {
    fn admit(&mut self, bytes: usize) -> bool {
        match (self.bytes_left.checked_sub(bytes), self.fields_left.checked_sub(1)) {
            (Some(bytes), Some(fields)) if !self.is_too_large => {
                self.bytes_left = bytes;
                self.fields_left = fields;
                true
            }
            _ => {
                self.is_too_large = true;
                false
            }
        }
    }

    fn field(&mut self, name: &Name, value: HeaderValue) {
        match name {
            Name::Field(name, class) => {
                if !self.has_fields {
                    self.has_fields = true;
                    self.headers = Headers::with_capacity(FIELDS_USUAL);
                }
                if *class == Class::Plain {
                    self.headers.append(name.clone(), value);
                } else {
                    self.special(name, *class, value);
                }
            }
            Name::Pseudo(pseudo) => self.pseudo(*pseudo, value),
            Name::Malformed => self.fail("a name that no field can have"),
        }
    }

    fn malformed(&mut self) {
        self.fail("a value that no field can have");
    }
}

fn bit(pseudo: Pseudo) -> u8 {
    1 << pseudo as u8
}

/// Visible ASCII without what is for the client alone; not empty.
fn is_target(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().fold(true, |fits, byte| fits & byte.is_ascii_graphic() & (*byte != b'#'))
}

/// What HTTP/1 takes as `host`.
fn is_authority(text: &[u8]) -> bool {
    text.iter().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'/' | b'@' | b',' | b'#' | b'?'))
}

/// Digits and nothing else.
fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = std::str::from_utf8(text).ok()?.parse().ok()?;
    (number != NO_LENGTH).then_some(number)
}
