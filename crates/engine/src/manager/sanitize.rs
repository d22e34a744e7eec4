//! Headers of a request that are about the client's connection, or are not what they claim to be.

use http::header::{CONNECTION, HOST, REFERER, TE};
use http::{HeaderName, HeaderValue, StatusCode};

use super::admit::Answer;
use super::respond::remove_hop_by_hop;
use crate::Headers;
use crate::names::{X_ENVOY_INTERNAL, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO};

/// A `connection` that names so many headers is refused.
const NOMINATED_MAX: usize = 10;

/// Removes them. An answer refuses the request.
pub(super) fn sanitize(headers: &mut Headers, is_upgrade: bool) -> Option<Answer> {
    if headers.contains(&CONNECTION) && !remove_nominated(headers) {
        let details = "http1.connection_header_rejected";
        return Some(Answer { status: StatusCode::BAD_REQUEST, details, location: None });
    }
    remove_hop_by_hop(headers, is_upgrade);
    headers.remove(&X_ENVOY_INTERNAL);
    headers.remove(&HOST);
    sanitize_te(headers);
    sanitize_referer(headers);
    None
}

/// Removes the headers that `connection` names (RFC 9110, 7.6.1); `false` if it names what nobody may have removed.
fn remove_nominated(headers: &mut Headers) -> bool {
    let name = CONNECTION;
    let tokens = headers.get_all(&name).flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let mut nominated = Vec::new();
    for (place, token) in tokens.map(<[u8]>::trim_ascii).enumerate() {
        if place >= NOMINATED_MAX - 1 || token.starts_with(b":") {
            return false;
        }
        let Ok(nominee) = HeaderName::from_bytes(token) else { continue };
        // Who takes these away hides where a request is from.
        if [X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO].contains(&nominee) {
            return false;
        }
        let is_option =
            matches!(nominee.as_str(), "close" | "keep-alive" | "upgrade" | "http2-settings" | "te");
        if !is_option && nominee != CONNECTION {
            nominated.push(nominee);
        }
    }
    nominated.iter().for_each(|name| _ = headers.remove(name));
    true
}

/// Of `te` only `trailers` is for anybody behind us.
fn sanitize_te(headers: &mut Headers) {
    if !headers.contains(&TE) {
        return;
    }
    let is_trailers = |token: &[u8]| token.trim_ascii().eq_ignore_ascii_case(b"trailers");
    let has_trailers = |value: &HeaderValue| value.as_bytes().split(|byte| *byte == b',').any(is_trailers);
    if headers.get_all(&TE).any(has_trailers) {
        headers.set(TE, HeaderValue::from_static("trailers"));
    } else {
        headers.remove(&TE);
    }
}

/// A referrer is one URL, absolute or relative, or nothing.
fn sanitize_referer(headers: &mut Headers) {
    let is_one = {
        let name = REFERER;
        let mut values = headers.get_all(&name);
        let Some(first) = values.next() else { return };
        values.next().is_none() && is_referrer(first.as_bytes())
    };
    if !is_one {
        headers.remove(&REFERER);
    }
}

/// Neither fragment nor user (RFC 9110, 10.1.3).
fn is_referrer(url: &[u8]) -> bool {
    let is_plain = url.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#');
    let Some(end) = memchr::memmem::find(url, b"://") else {
        let first = url.split(|byte| *byte == b'/').next().unwrap_or_default();
        return is_plain && !first.contains(&b':');
    };
    let (scheme, rest) = url.split_at(end);
    let host = rest.get(3..).unwrap_or_default().split(|byte| matches!(byte, b'/' | b'?')).next();
    let is_host = host.is_some_and(|host| !host.is_empty() && !host.contains(&b'@'));
    is_plain && is_host && !scheme.is_empty() && scheme.iter().all(u8::is_ascii_alphabetic)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sanitized(headers: &[(&'static str, &'static str)]) -> Option<Vec<String>> {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        let mut headers: Headers = headers.iter().map(pair).collect();
        let answer = sanitize(&mut headers, false);
        let text =
            |(name, value): (&HeaderName, &HeaderValue)| format!("{name}: {}", value.to_str().unwrap());
        answer.is_none().then(|| headers.iter().map(text).collect())
    }

    /// What Envoy 1.40 makes of them.
    #[test]
    fn hop_by_hop_headers_go() {
        let all = sanitized(&[
            ("connection", "te, x-foo, close"),
            ("x-foo", "1"),
            ("x-bar", "2"),
            ("keep-alive", "x"),
            ("proxy-connection", "y"),
            ("transfer-encoding", "chunked"),
            ("te", "gzip, Trailers"),
        ]);
        assert_eq!(all.unwrap(), ["x-bar: 2", "te: trailers"]);
        assert_eq!(sanitized(&[("te", "gzip, trailers;q=1")]).unwrap(), [""; 0]);
        assert_eq!(sanitized(&[("connection", "x-forwarded-for")]), None);
        assert_eq!(sanitized(&[("connection", ":path")]), None);
        assert_eq!(sanitized(&[("connection", "a,b,c,d,e,f,g,h,i,j")]), None);
    }

    #[test]
    fn referrers_are_urls() {
        for good in ["foo", "/a:b", "http://x/y", "http://x?q"] {
            assert_eq!(sanitized(&[("referer", good)]).unwrap().len(), 1, "{good}");
        }
        for bad in ["about:blank", "http://u@x/", "http://x/#f", "http:///a", "a b"] {
            assert_eq!(sanitized(&[("referer", bad)]).unwrap().len(), 0, "{bad}");
        }
        assert_eq!(sanitized(&[("referer", "a"), ("referer", "b")]).unwrap().len(), 0);
    }
}
