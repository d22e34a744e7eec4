//! Names of fields as the decoder hands them out: told apart once, when they enter the table.

use http::header::HeaderName;

/// A field's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// One of those that begin with a colon.
    Pseudo(Pseudo),
    /// An ordinary one.
    Field(HeaderName, Class),
    /// One that no message can have: upper case, an unknown pseudo-header, no token.
    Malformed,
}

/// Pseudo-headers (RFC 9113 section 8.3, RFC 8441 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pseudo {
    /// `:method`.
    Method,
    /// `:scheme`.
    Scheme,
    /// `:authority`.
    Authority,
    /// `:path`.
    Path,
    /// `:status`.
    Status,
    /// `:protocol`.
    Protocol,
}

/// What there is to do about a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Nothing.
    Plain,
    /// It belongs to a connection of HTTP/1 and is in no message of HTTP/2 (RFC 9113 section 8.2.2).
    Connection,
    /// `te`: `trailers` or nothing.
    Te,
    /// `content-length`.
    ContentLength,
    /// `cookie`, which may come in pieces.
    Cookie,
    /// `host`.
    Host,
}

impl Name {
    /// Tells what a name is.
    pub fn parse(text: &[u8]) -> Name {
        if let Some(pseudo) = text.strip_prefix(b":") {
            return match pseudo {
                b"method" => Name::Pseudo(Pseudo::Method),
                b"scheme" => Name::Pseudo(Pseudo::Scheme),
                b"authority" => Name::Pseudo(Pseudo::Authority),
                b"path" => Name::Pseudo(Pseudo::Path),
                b"status" => Name::Pseudo(Pseudo::Status),
                b"protocol" => Name::Pseudo(Pseudo::Protocol),
                _ => Name::Malformed,
            };
        }
        HeaderName::from_lowercase(text).map_or(Name::Malformed, |name| Name::Field(name, Class::of(text)))
    }
}

impl Class {
    /// Of a name in lower case.
    pub fn of(name: &[u8]) -> Class {
        match name {
            b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"upgrade" => {
                Class::Connection
            }
            b"te" => Class::Te,
            b"content-length" => Class::ContentLength,
            b"cookie" => Class::Cookie,
            b"host" => Class::Host,
            _ => Class::Plain,
        }
    }
}
