//! A request's head, of either HTTP.

use http::header::{self, HeaderName};
use http::{HeaderValue, Method};

use crate::Headers;

/// A request whose header section is complete.
#[derive(Clone, Debug)]
pub struct Request {
    /// Method.
    pub method: Method,
    /// What the client spoke to the first proxy (`x-forwarded-proto`).
    pub scheme: Scheme,
    /// `:authority`, or HTTP/1's `host`; empty if there is none.
    pub authority: HeaderValue,
    /// Path with query; empty for `CONNECT` without one.
    pub path: HeaderValue,
    /// The other headers; `host` is not among them.
    pub headers: Headers,
    /// From inside the mesh's internal addresses (`x-envoy-internal`)?
    pub is_internal: bool,
}

/// HTTP in clear or over TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `http`.
    Http,
    /// `https`.
    Https,
}

impl Scheme {
    /// As written in a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

/// A header of a request as configuration names it: the parts of the head that are none have names too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestField {
    /// `:method`.
    Method,
    /// `:authority` or `host`.
    Authority,
    /// `:path`.
    Path,
    /// `:scheme`.
    Scheme,
    /// A header.
    Header(HeaderName),
    /// A name that no header can have.
    Nothing,
}

impl RequestField {
    /// Reads a name, in any case.
    pub fn parse(name: &str) -> RequestField {
        match name.to_ascii_lowercase().as_str() {
            ":method" => RequestField::Method,
            ":authority" | "host" => RequestField::Authority,
            ":path" => RequestField::Path,
            ":scheme" => RequestField::Scheme,
            name => {
                HeaderName::from_bytes(name.as_bytes()).map_or(RequestField::Nothing, RequestField::Header)
            }
        }
    }
}

impl Request {
    /// A request in clear, without headers.
    pub fn new(method: Method, authority: HeaderValue, path: HeaderValue) -> Request {
        Request {
            method,
            scheme: Scheme::Http,
            authority,
            path,
            headers: Headers::default(),
            is_internal: false,
        }
    }

    /// Values of a field, in order.
    pub fn values<'a>(&'a self, field: &'a RequestField) -> impl Iterator<Item = &'a [u8]> {
        let (one, name) = match field {
            RequestField::Method => (Some(self.method.as_str().as_bytes()), None),
            RequestField::Authority => {
                (Some(self.authority.as_bytes()).filter(|text| !text.is_empty()), None)
            }
            RequestField::Path => (Some(self.path.as_bytes()).filter(|path| !path.is_empty()), None),
            RequestField::Scheme => (Some(self.scheme.as_str().as_bytes()), None),
            RequestField::Header(name) => (None, Some(name)),
            RequestField::Nothing => (None, None),
        };
        let several = name.into_iter().flat_map(|name| self.headers.get_all(name));
        one.into_iter().chain(several.map(HeaderValue::as_bytes))
    }

    /// The first value of a field.
    pub fn value<'a>(&'a self, field: &RequestField) -> Option<&'a [u8]> {
        match field {
            RequestField::Method => Some(self.method.as_str().as_bytes()),
            RequestField::Authority => Some(self.authority.as_bytes()).filter(|text| !text.is_empty()),
            RequestField::Path => Some(self.path.as_bytes()).filter(|path| !path.is_empty()),
            RequestField::Scheme => Some(self.scheme.as_str().as_bytes()),
            RequestField::Header(name) => self.headers.get(name).map(HeaderValue::as_bytes),
            RequestField::Nothing => None,
        }
    }

    /// The authority as text. What is none is no authority that anybody could have configured.
    pub fn host(&self) -> &str {
        self.authority.to_str().unwrap_or_default()
    }

    /// Path without query and fragment.
    pub fn bare_path(&self) -> &[u8] {
        let path = self.path.as_bytes();
        let end = memchr::memchr2(b'?', b'#', path).unwrap_or(path.len());
        path.get(..end).unwrap_or_default()
    }

    /// First value of a query parameter, as sent; a name without `=` has the empty value.
    pub fn query(&self, name: &[u8]) -> Option<&[u8]> {
        let path = self.path.as_bytes();
        let begin = memchr::memchr(b'?', path)? + 1;
        let parameters = path.get(begin..)?.split(|b| *b == b'&');
        let mut pairs = parameters.map(|p| match p.iter().position(|b| *b == b'=') {
            Some(equals) => (p.get(..equals).unwrap_or_default(), p.get(equals + 1..).unwrap_or_default()),
            None => (p, &[][..]),
        });
        pairs.find(|(n, _)| *n == name).map(|(_, value)| value)
    }

    /// Whether it is gRPC: `application/grpc`, alone or with a subtype.
    pub fn is_grpc(&self) -> bool {
        self.headers.get(&header::CONTENT_TYPE).is_some_and(is_grpc)
    }
}

/// Whether a content type is gRPC's.
pub fn is_grpc(content_type: &HeaderValue) -> bool {
    let rest = content_type.as_bytes().strip_prefix(b"application/grpc");
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+')))
}
