//! A request, as far as choosing its route needs to know it.

use std::borrow::Cow;

/// A request whose header section is complete, after the connection manager has normalised it (path, port of
/// the authority) as its settings say.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Method, in its own case.
    pub method: &'a str,
    /// `:authority`, or HTTP/1's `host`.
    pub authority: &'a str,
    /// Path with query; empty for `CONNECT` without one.
    pub path: &'a [u8],
    /// What the client spoke to the first proxy (`x-forwarded-proto`).
    pub scheme: Scheme,
    /// From inside the mesh's internal addresses (`x-envoy-internal`)?
    pub is_internal: bool,
    /// The other headers, names in lower case, in order.
    pub headers: &'a [(&'a str, &'a [u8])],
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

impl<'a> Request<'a> {
    /// Value of a header (name in lower case, pseudo headers included); several are joined by commas.
    pub fn header(&self, name: &str) -> Option<Cow<'a, [u8]>> {
        match name {
            ":method" => return Some(Cow::Borrowed(self.method.as_bytes())),
            ":authority" | "host" => return Some(Cow::Borrowed(self.authority.as_bytes())),
            ":path" => return Some(Cow::Borrowed(self.path)).filter(|p| !p.is_empty()),
            ":scheme" => return Some(Cow::Borrowed(self.scheme.as_str().as_bytes())),
            _ => {}
        }
        let mut values = self.headers.iter().filter(|(n, _)| *n == name).map(|(_, v)| *v);
        let first = values.next()?;
        let mut joined = Cow::Borrowed(first);
        for value in values {
            let all = joined.to_mut();
            all.push(b',');
            all.extend_from_slice(value);
        }
        Some(joined)
    }

    /// Path without query and fragment.
    pub fn bare_path(&self) -> &'a [u8] {
        let end = self.path.iter().position(|b| matches!(b, b'?' | b'#')).unwrap_or(self.path.len());
        self.path.get(..end).unwrap_or_default()
    }

    /// First value of a query parameter, as sent; a name without `=` has the empty value.
    pub fn query(&self, name: &[u8]) -> Option<&'a [u8]> {
        let begin = self.path.iter().position(|b| *b == b'?')? + 1;
        let parameters = self.path.get(begin..)?.split(|b| *b == b'&');
        let mut pairs = parameters.map(|p| match p.iter().position(|b| *b == b'=') {
            Some(equals) => (p.get(..equals).unwrap_or_default(), p.get(equals + 1..).unwrap_or_default()),
            None => (p, &[][..]),
        });
        pairs.find(|(n, _)| *n == name).map(|(_, value)| value)
    }
}
