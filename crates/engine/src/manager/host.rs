//! How hosts are normalised before anything matches them.

use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager as Proto;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::StripPortMode;
use http::HeaderValue;

/// How hosts are normalised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostRules {
    /// Which ports are dropped.
    strips: StripPort,
    /// A dot at the end of the name is dropped.
    strips_trailing_dot: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StripPort {
    None,
    /// The listener's own.
    Own,
    Any,
}

impl HostRules {
    pub(super) fn compile(proto: &Proto) -> HostRules {
        let any = matches!(proto.strip_port_mode, Some(StripPortMode::StripAnyHostPort(true)));
        let strips = match (any, proto.strip_matching_host_port) {
            (true, _) => StripPort::Any,
            (false, true) => StripPort::Own,
            (false, false) => StripPort::None,
        };
        HostRules { strips, strips_trailing_dot: proto.strip_trailing_host_dot }
    }

    /// Normalises a host; gives the port that was dropped. `port` is the listener's.
    pub(super) fn apply(self, host: &mut HeaderValue, port: u16) -> Option<u16> {
        if self.strips_trailing_dot
            && let Some(stripped) = without_trailing_dot(host.as_bytes())
        {
            replace(host, &stripped);
        }
        if self.strips == StripPort::None {
            return None;
        }
        let bytes = host.as_bytes();
        let colon = port_start(bytes)?;
        let said: u16 = std::str::from_utf8(bytes.get(colon + 1..)?).ok()?.parse().ok()?;
        if self.strips == StripPort::Own && said != port {
            return None;
        }
        let name = bytes.get(..colon)?.to_vec();
        replace(host, &name);
        Some(said)
    }
}

fn replace(host: &mut HeaderValue, with: &[u8]) {
    // A part of a valid value is valid.
    if let Ok(value) = HeaderValue::from_bytes(with) {
        *host = value;
    }
}

/// Where the colon of the port is; an IPv6 literal has colons of its own, within brackets.
fn port_start(host: &[u8]) -> Option<usize> {
    let colon = memchr::memrchr(b':', host)?;
    let is_outside = memchr::memrchr(b']', host).is_none_or(|bracket| bracket < colon);
    (is_outside && colon + 1 < host.len()).then_some(colon)
}

/// `a.` becomes `a`, `a.:80` becomes `a:80`; `None` if there is no such dot.
fn without_trailing_dot(host: &[u8]) -> Option<Vec<u8>> {
    let dot = memchr::memrchr(b'.', host)?;
    let after = host.get(dot + 1..)?;
    if !after.is_empty() && after.first() != Some(&b':') {
        return None;
    }
    Some([host.get(..dot)?, after].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(strips: StripPort, dot: bool, host: &str) -> (String, Option<u16>) {
        let mut value = HeaderValue::from_str(host).unwrap();
        let port = HostRules { strips, strips_trailing_dot: dot }.apply(&mut value, 80);
        (value.to_str().unwrap().to_owned(), port)
    }

    #[test]
    fn ports_are_stripped() {
        for (host, own, any) in [
            ("a:80", ("a", Some(80)), ("a", Some(80))),
            ("a:81", ("a:81", None), ("a", Some(81))),
            ("a", ("a", None), ("a", None)),
            ("[::1]:80", ("[::1]", Some(80)), ("[::1]", Some(80))),
            ("[::1]", ("[::1]", None), ("[::1]", None)),
            ("a:", ("a:", None), ("a:", None)),
            ("a:x", ("a:x", None), ("a:x", None)),
        ] {
            assert_eq!(applied(StripPort::Own, false, host), (own.0.to_owned(), own.1), "{host}");
            assert_eq!(applied(StripPort::Any, false, host), (any.0.to_owned(), any.1), "{host}");
            assert_eq!(applied(StripPort::None, false, host), (host.to_owned(), None), "{host}");
        }
    }

    #[test]
    fn dots_are_stripped() {
        for (host, wanted) in
            [("a.", "a"), ("a.:81", "a:81"), ("a.b", "a.b"), ("[::1]", "[::1]"), ("..", ".")]
        {
            assert_eq!(applied(StripPort::None, true, host).0, wanted, "{host}");
        }
        assert_eq!(applied(StripPort::Any, true, "a.b.:1"), ("a.b".to_owned(), Some(1)));
    }
}
