//! A request, as far as choosing its route needs to know it.

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
    /// Values of a header in order (name in lower case, pseudo headers included).
    pub fn header<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        let pseudo = match name {
            ":method" => Some(self.method.as_bytes()),
            ":authority" | "host" => Some(self.authority.as_bytes()),
            ":path" => Some(self.path).filter(|path| !path.is_empty()),
            ":scheme" => Some(self.scheme.as_str().as_bytes()),
            _ => None,
        };
        pseudo
            .into_iter()
            .chain(self.headers.iter().filter(move |(n, _)| *n == name).map(|(_, value)| *value))
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
