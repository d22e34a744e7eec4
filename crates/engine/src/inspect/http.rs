//! Is it HTTP in plaintext? A look at the first bytes.
//!
//! HTTP/1 is a request line with a method of the well-known ones, as for Envoy: whatever else begins with capital letters
//! (`SSH-2.0`, `EHLO`) is not taken for HTTP.

use crate::HttpVersion;

/// What HTTP/2 begins with (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Methods that make a first line a request line.
const METHODS: [&[u8]; 33] = [
    b"ACL",
    b"BIND",
    b"CHECKOUT",
    b"CONNECT",
    b"COPY",
    b"DELETE",
    b"GET",
    b"HEAD",
    b"LINK",
    b"LOCK",
    b"MERGE",
    b"MKACTIVITY",
    b"MKCALENDAR",
    b"MKCOL",
    b"MOVE",
    b"MSEARCH",
    b"M-SEARCH",
    b"NOTIFY",
    b"OPTIONS",
    b"PATCH",
    b"POST",
    b"PROPFIND",
    b"PROPPATCH",
    b"PURGE",
    b"PUT",
    b"REBIND",
    b"REPORT",
    b"SEARCH",
    b"SOURCE",
    b"SUBSCRIBE",
    b"TRACE",
    b"UNLOCK",
    b"UNSUBSCRIBE",
];

/// What the first bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    NeedMore,
    Http(HttpVersion),
    NotHttp,
}

/// Looks at the bytes that have come so far.
pub(super) fn read(bytes: &[u8]) -> Read {
    if bytes.starts_with(PREFACE) {
        return Read::Http(HttpVersion::Http2);
    }
    if PREFACE.starts_with(bytes) {
        return Read::NeedMore;
    }
    let Some(end) = memchr::memchr2(b'\r', b'\n', bytes) else {
        return if may_become_request_line(bytes) { Read::NeedMore } else { Read::NotHttp };
    };
    match bytes.get(..end).and_then(request_line) {
        Some(version) => Read::Http(version),
        None => Read::NotHttp,
    }
}

/// The beginning of a line without its end.
fn may_become_request_line(begun: &[u8]) -> bool {
    match memchr::memchr(b' ', begun) {
        None => METHODS.iter().any(|method| method.starts_with(begun)),
        Some(space) => begun.get(..space).is_some_and(|method| METHODS.contains(&method)),
    }
}

/// `method target HTTP/x.y`, or HTTP/0.9's without the last.
fn request_line(line: &[u8]) -> Option<HttpVersion> {
    let mut words = line.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    let method = words.next().filter(|_| line.first() != Some(&b' '))?;
    let target = words.next()?;
    let version = words.next();
    let is_whole = words.next().is_none() && METHODS.contains(&method);
    let is_visible = target.iter().all(|byte| byte.is_ascii_graphic() || !byte.is_ascii());
    if !is_whole || !is_visible {
        return None;
    }
    match version {
        Some(b"HTTP/1.1") => Some(HttpVersion::Http11),
        Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor])
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Some(HttpVersion::Http10)
        }
        Some(_) => None,
        None => Some(HttpVersion::Http10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_lines_are_told_apart() {
        let http = |version| Read::Http(version);
        for (bytes, wanted) in [
            (&b"GET / HTTP/1.1\r\n"[..], http(HttpVersion::Http11)),
            (b"OPTIONS * HTTP/1.1\r", http(HttpVersion::Http11)),
            (b"GET / HTTP/1.0\n", http(HttpVersion::Http10)),
            (b"GET /\r\n", http(HttpVersion::Http10)),
            (PREFACE, http(HttpVersion::Http2)),
            (b"", Read::NeedMore),
            (b"PRI * HTT", Read::NeedMore),
            (b"PR", Read::NeedMore),
            (b"GE", Read::NeedMore),
            (b"GET /a/long/path", Read::NeedMore),
            (b"SSH-2.0-OpenSSH\r\n", Read::NotHttp),
            (b"SSH", Read::NotHttp),
            (b"EHLO there\r\n", Read::NotHttp),
            (b"\r\nGET / HTTP/1.1\r\n", Read::NotHttp),
            (b"get / HTTP/1.1\r\n", Read::NotHttp),
            (b"GET / HTTP/1.1 x\r\n", Read::NotHttp),
            (b"GET / SIP/2.0\r\n", Read::NotHttp),
            (b"\x16\x03\x01", Read::NotHttp),
        ] {
            assert_eq!(read(bytes), wanted, "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    /// What has been said is never taken back when more bytes come.
    #[test]
    fn the_answer_never_changes() {
        for whole in [&b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"[..], PREFACE, b"QUIT\r\n", b"PRI * HTTP/1.0\r\n"]
        {
            let answers: Vec<_> = (0..=whole.len()).map(|end| read(&whole[..end])).collect();
            let first = answers.iter().position(|answer| *answer != Read::NeedMore).unwrap();
            assert!(answers[first..].iter().all(|answer| *answer == answers[first]), "{answers:?}");
        }
    }
}
