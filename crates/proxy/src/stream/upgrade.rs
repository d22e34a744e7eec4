//! Requests that ask for bytes in both directions: HTTP/1 upgrades, `CONNECT`, and HTTP/2's extended `CONNECT`
//! (RFC 8441), and how one becomes another on the way.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use ostro_engine::{Forward, Headers, HttpManager, Request};
use sha1_smol::Sha1;

/// RFC 6455 section 1.3: what a server adds to the key to show that it understood.
const WEBSOCKET_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const WEBSOCKET: &[u8] = b"websocket";

/// What kind of tunnel a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tunnel {
    /// `upgrade: KIND`, or `CONNECT` with `:protocol: KIND`.
    Upgrade(HeaderValue),
    /// `CONNECT host:port`.
    Connect,
}

/// How a tunnel goes on to the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Onward {
    /// As it is asked for.
    AsAsked,
    /// It ends here: its bytes are those of a connection.
    Terminated,
}

impl Onward {
    /// How a request goes on, by its route's `connect_config`.
    pub fn of(tunnel: Option<&Tunnel>, forward: &Forward, request: &Request) -> Onward {
        let ends = match tunnel {
            Some(Tunnel::Connect) => forward.upgrades.terminates_connect,
            Some(Tunnel::Upgrade(_)) => false,
            None => request.method == Method::POST && forward.upgrades.terminates_post,
        };
        if ends { Onward::Terminated } else { Onward::AsAsked }
    }
}

impl Tunnel {
    /// What a request asks for. An upgrade to HTTP/2 in clear is ignored, as RFC 9113 wants it.
    pub fn asked(request: &mut Request) -> Option<Tunnel> {
        if request.method == Method::CONNECT {
            return Some(Tunnel::Connect);
        }
        let kind = request.headers.get(&header::UPGRADE)?.clone();
        if kind.as_bytes().eq_ignore_ascii_case(b"h2c") {
            request.headers.remove(&header::UPGRADE);
            request.headers.remove(&HeaderName::from_static("http2-settings"));
            return None;
        }
        let mut connection = request.headers.get_all(&header::CONNECTION);
        connection.any(|value| names(value, b"upgrade")).then_some(Tunnel::Upgrade(kind))
    }

    /// Whether manager and route allow it.
    pub fn is_allowed(&self, manager: &HttpManager, forward: &Forward) -> bool {
        match self {
            Tunnel::Upgrade(kind) => manager.upgrades.allows(kind.as_bytes(), Some(&forward.upgrades)),
            Tunnel::Connect => manager.upgrades.allows(b"CONNECT", Some(&forward.upgrades)),
        }
    }

    /// Whether this status grants it.
    pub fn is_granted(&self, status: StatusCode) -> bool {
        match self {
            Tunnel::Upgrade(_) => status == StatusCode::SWITCHING_PROTOCOLS,
            Tunnel::Connect => status.is_success(),
        }
    }

    /// An HTTP/2 client's extended `CONNECT` as the upgrade that it stands for.
    pub fn from_extended(request: &mut Request, protocol: &HeaderValue, key: [u8; 16]) {
        request.method = Method::GET;
        request.headers.append(header::CONNECTION, HeaderValue::from_static("upgrade"));
        request.headers.append(header::UPGRADE, protocol.clone());
        let needs_key = protocol.as_bytes().eq_ignore_ascii_case(WEBSOCKET)
            && !request.headers.contains(&header::SEC_WEBSOCKET_KEY);
        if needs_key && let Ok(key) = HeaderValue::from_str(&STANDARD.encode(key)) {
            request.headers.append(header::SEC_WEBSOCKET_KEY, key);
        }
    }

    /// An upgrade as HTTP/2's extended `CONNECT`: the protocol asked for, the rest in the request.
    pub fn to_extended(request: &Request) -> Option<(Request, HeaderValue)> {
        let protocol = request.headers.get(&header::UPGRADE)?.clone();
        let mut extended = request.clone();
        extended.method = Method::CONNECT;
        for name in [header::CONNECTION, header::UPGRADE, header::SEC_WEBSOCKET_KEY] {
            extended.headers.remove(&name);
        }
        Some((extended, protocol))
    }

    /// Makes the answer of an HTTP/2 upstream that granted an extended `CONNECT` that of an HTTP/1 server.
    pub fn granted_by_http2(request: &Request, status: StatusCode, headers: &mut Headers) -> StatusCode {
        let Some(kind) = request.headers.get(&header::UPGRADE) else { return status };
        if !status.is_success() {
            return status;
        }
        headers.remove(&header::CONTENT_LENGTH);
        headers.append(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.append(header::UPGRADE, kind.clone());
        let accept = request.headers.get(&header::SEC_WEBSOCKET_KEY).map(accept_of);
        if let Some(Some(accept)) = accept
            && !headers.contains(&header::SEC_WEBSOCKET_ACCEPT)
        {
            headers.append(header::SEC_WEBSOCKET_ACCEPT, accept);
        }
        StatusCode::SWITCHING_PROTOCOLS
    }
}

fn accept_of(key: &HeaderValue) -> Option<HeaderValue> {
    let mut sha = Sha1::new();
    sha.update(key.as_bytes());
    sha.update(WEBSOCKET_GUID);
    HeaderValue::from_str(&STANDARD.encode(sha.digest().bytes())).ok()
}

/// Whether a list has this token.
fn names(list: &HeaderValue, token: &[u8]) -> bool {
    list.as_bytes().split(|byte| *byte == b',').any(|part| part.trim_ascii().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(fields: &[(HeaderName, &'static str)]) -> Request {
        let mut request =
            Request::new(Method::GET, HeaderValue::from_static("a"), HeaderValue::from_static("/"));
        for (name, value) in fields {
            request.headers.append(name.clone(), HeaderValue::from_static(value));
        }
        request
    }

    #[test]
    fn what_asks_for_a_tunnel() {
        let asks = |fields: &[_]| Tunnel::asked(&mut request(fields));
        let kind = HeaderValue::from_static("websocket");
        let both = [(header::CONNECTION, "keep-alive, Upgrade"), (header::UPGRADE, "websocket")];
        assert_eq!(asks(&both), Some(Tunnel::Upgrade(kind)));
        assert_eq!(asks(&[(header::UPGRADE, "websocket")]), None);
        assert_eq!(asks(&[(header::CONNECTION, "upgrade")]), None);
        assert_eq!(asks(&[(header::CONNECTION, "upgrade"), (header::UPGRADE, "h2c")]), None);
    }

    #[test]
    fn the_accept_of_rfc_6455_s_own_example() {
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accept_of(&key), Some(HeaderValue::from_static("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")));
    }

    #[test]
    fn an_extended_connect_and_back() {
        let mut extended = request(&[]);
        extended.method = Method::CONNECT;
        Tunnel::from_extended(&mut extended, &HeaderValue::from_static("websocket"), [7; 16]);
        assert!(matches!(Tunnel::asked(&mut extended), Some(Tunnel::Upgrade(_))));
        assert!(extended.headers.contains(&header::SEC_WEBSOCKET_KEY));
        let (back, protocol) = Tunnel::to_extended(&extended).expect("it is an upgrade");
        assert_eq!((back.method, protocol), (Method::CONNECT, HeaderValue::from_static("websocket")));
        assert!(back.headers.is_empty());
    }
}
