//! The request target in its four forms (RFC 9112 section 3.2).

use http::Method;

use super::head::HeadError;

/// A target, taken apart. Ranges are offsets into its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// Of the absolute form: `https`?
    pub is_https: Option<bool>,
    /// Of the absolute and the authority form.
    pub authority: Option<&'a [u8]>,
    /// Path with query; empty for the authority form. `/` where the absolute form has none.
    pub path: &'a [u8],
}

/// Takes a target apart.
pub fn parse<'a>(method: &Method, target: &'a [u8]) -> Result<Target<'a>, HeadError> {
    let wrong = HeadError::Malformed("request target");
    // Anything but visible ASCII would have to be quoted; what stands behind a `#` is for the client alone.
    if target.iter().any(|byte| !byte.is_ascii_graphic() || *byte == b'#') {
        return Err(wrong);
    }
    if *method == Method::CONNECT {
        let is_authority =
            !target.is_empty() && !target.iter().any(|byte| matches!(byte, b'/' | b'?' | b'@'));
        return if is_authority {
            Ok(Target { is_https: None, authority: Some(target), path: b"" })
        } else {
            Err(wrong)
        };
    }
    match target {
        [b'/', ..] => Ok(Target { is_https: None, authority: None, path: target }),
        b"*" if *method == Method::OPTIONS => Ok(Target { is_https: None, authority: None, path: target }),
        _ => absolute(target).ok_or(wrong),
    }
}

fn absolute(target: &[u8]) -> Option<Target<'_>> {
    let (is_https, rest) = match scheme(target, b"http://") {
        Some(rest) => (false, rest),
        None => (true, scheme(target, b"https://")?),
    };
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end)?;
    // User names and passwords have no business here (RFC 9110 section 4.2.4).
    if authority.is_empty() || authority.contains(&b'@') {
        return None;
    }
    let path = match path.first() {
        None => b"/",
        Some(b'/') => path,
        // `http://host?query`: nobody sends this, and there is no text to point at that says `/?query`.
        Some(_) => return None,
    };
    Some(Target { is_https: Some(is_https), authority: Some(authority), path })
}

fn scheme<'a>(target: &'a [u8], scheme: &[u8]) -> Option<&'a [u8]> {
    let (begin, rest) = target.split_at_checked(scheme.len())?;
    begin.eq_ignore_ascii_case(scheme).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_forms() {
        let get = |target| parse(&Method::GET, target);
        let plain = |path| Ok(Target { is_https: None, authority: None, path });
        assert_eq!(get(b"/a?b"), plain(b"/a?b"));
        assert_eq!(parse(&Method::OPTIONS, b"*"), plain(b"*"));
        let absolute = |is_https, authority, path| {
            Ok(Target { is_https: Some(is_https), authority: Some(authority), path })
        };
        assert_eq!(get(b"http://a:80/b"), absolute(false, b"a:80", b"/b"));
        assert_eq!(get(b"HTTPS://a"), absolute(true, b"a", b"/"));
        let authority = Ok(Target { is_https: None, authority: Some(&b"a:443"[..]), path: b"" });
        assert_eq!(parse(&Method::CONNECT, b"a:443"), authority);
    }

    #[test]
    fn nothing_else() {
        for target in [
            &b""[..],
            b"*",
            b"a",
            b"http:///",
            b"ftp://a/",
            b"http://u@a/",
            b"/a#b",
            b"/\x80",
            b"/\x7f",
            b"http://a?b",
        ] {
            assert!(parse(&Method::GET, target).is_err(), "{target:?}");
        }
        assert!(parse(&Method::CONNECT, b"/a").is_err());
        assert!(parse(&Method::CONNECT, b"").is_err());
    }
}
