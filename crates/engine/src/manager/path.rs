//! How paths are normalised before anything matches them: RFC 3986's dot segments, escaped slashes, double slashes.
//!
//! As Envoy, which has Chromium's canonical form of paths, with parameters of dot segments (`..;x`) dropped first. What does
//! not change is not copied.

use std::borrow::Cow;

use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager as Proto;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::PathWithEscapedSlashesAction;
use http::HeaderValue;

use crate::Refusal;
use crate::proto::{enumeration, flag};

/// How paths are normalised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathRules {
    /// Dot segments are resolved, and characters are escaped alike.
    pub normalizes: bool,
    /// Slashes beside each other become one.
    pub merges_slashes: bool,
    /// What becomes of escaped slashes, before both.
    pub escaped_slashes: EscapedSlashes,
}

/// What becomes of `%2F` and `%5C`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EscapedSlashes {
    /// They stay.
    Keep,
    /// The request is refused.
    Reject,
    /// The client is sent to the path with slashes.
    Redirect,
    /// They become slashes.
    Unescape,
}

/// What becomes of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Normalized {
    /// It stays.
    Same,
    /// The request goes on with this one.
    Changed(HeaderValue),
    /// The client is sent to this one.
    Redirect(HeaderValue),
    /// The request is refused.
    Rejected,
}

impl PathRules {
    pub(super) fn compile(proto: &Proto) -> Result<PathRules, Refusal> {
        let action = proto.path_with_escaped_slashes_action;
        Ok(PathRules {
            normalizes: flag(proto.normalize_path.as_ref(), false),
            merges_slashes: proto.merge_slashes,
            escaped_slashes: match enumeration(action, "path_with_escaped_slashes_action")? {
                PathWithEscapedSlashesAction::ImplementationSpecificDefault
                | PathWithEscapedSlashesAction::KeepUnchanged => EscapedSlashes::Keep,
                PathWithEscapedSlashesAction::RejectRequest => EscapedSlashes::Reject,
                PathWithEscapedSlashesAction::UnescapeAndRedirect => EscapedSlashes::Redirect,
                PathWithEscapedSlashesAction::UnescapeAndForward => EscapedSlashes::Unescape,
            },
        })
    }

    /// What becomes of a path with its query.
    pub(super) fn apply(self, path_and_query: &HeaderValue) -> Normalized {
        let whole = path_and_query.as_bytes();
        if memchr::memchr(b'#', whole).is_some() {
            return Normalized::Rejected;
        }
        let (path, query) = whole.split_at(memchr::memchr(b'?', whole).unwrap_or(whole.len()));
        let mut result = Cow::Borrowed(path);
        let mut redirects = false;
        if self.escaped_slashes != EscapedSlashes::Keep
            && let Some(unescaped) = unescape_slashes(path)
        {
            match self.escaped_slashes {
                EscapedSlashes::Reject => return Normalized::Rejected,
                EscapedSlashes::Redirect => redirects = true,
                EscapedSlashes::Keep | EscapedSlashes::Unescape => {}
            }
            result = Cow::Owned(unescaped);
        }
        if self.normalizes {
            match canonical(&result) {
                Canonical::Same => {}
                Canonical::Changed(path) => result = Cow::Owned(path),
                Canonical::Invalid => return Normalized::Rejected,
            }
        }
        if self.merges_slashes
            && let Some(merged) = merge_slashes(&result)
        {
            result = Cow::Owned(merged);
        }
        let Cow::Owned(mut changed) = result else { return Normalized::Same };
        changed.extend_from_slice(query);
        match HeaderValue::from_maybe_shared(bytes::Bytes::from(changed)) {
            Ok(value) if redirects => Normalized::Redirect(value),
            Ok(value) => Normalized::Changed(value),
            Err(_) => Normalized::Rejected,
        }
    }
}

/// The path with slashes in place of their escapes, if there are any.
fn unescape_slashes(path: &[u8]) -> Option<Vec<u8>> {
    let mut unescaped = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((byte, after)) = rest.split_first() {
        let (byte, after) = match rest {
            [b'%', b'2', b'F' | b'f', after @ ..] => (b'/', after),
            [b'%', b'5', b'C' | b'c', after @ ..] => (b'\\', after),
            _ => (*byte, after),
        };
        unescaped.push(byte);
        rest = after;
    }
    (unescaped.len() < path.len()).then_some(unescaped)
}

/// The path with one slash for each row of them, if there are rows.
fn merge_slashes(path: &[u8]) -> Option<Vec<u8>> {
    memchr::memmem::find(path, b"//")?;
    let mut merged = Vec::with_capacity(path.len());
    for byte in path {
        if *byte != b'/' || merged.last() != Some(&b'/') {
            merged.push(*byte);
        }
    }
    Some(merged)
}

enum Canonical {
    Same,
    Changed(Vec<u8>),
    Invalid,
}

/// The canonical form of a path.
fn canonical(path: &[u8]) -> Canonical {
    let without_parameters = dots_without_parameters(path);
    let input = without_parameters.as_deref().unwrap_or(path);
    let is_slash = |byte: &u8| matches!(byte, b'/' | b'\\');
    let mut canonical = Canonicalizer { input, output: Vec::with_capacity(path.len()), stray_percent: None };
    if !input.first().is_some_and(is_slash) {
        canonical.output.push(b'/');
    }
    let mut place = 0;
    while place < input.len() {
        match canonical.step(place) {
            Some(next) => place = next,
            None => return Canonical::Invalid,
        }
    }
    if canonical.output == path { Canonical::Same } else { Canonical::Changed(canonical.output) }
}

/// `/..;x/` becomes `/../`, if there is such a thing.
fn dots_without_parameters(path: &[u8]) -> Option<Vec<u8>> {
    memchr::memmem::find(path, b".;")?;
    let segments = path.split(|byte| *byte == b'/').map(|segment| match segment {
        [b'.', b'.', b';', ..] => &b".."[..],
        [b'.', b';', ..] => b".",
        other => other,
    });
    Some(segments.collect::<Vec<_>>().join(&b'/'))
}

struct Canonicalizer<'a> {
    input: &'a [u8],
    output: Vec<u8>,
    /// Where in the output there is a `%` that begins no escape.
    stray_percent: Option<usize>,
}

impl Canonicalizer<'_> {
    /// Takes what begins at `place`, and says where the next begins; `None` if the path is invalid.
    fn step(&mut self, place: usize) -> Option<usize> {
        let byte = *self.input.get(place)?;
        if let Some(after) = self.dot(place) {
            return Some(self.dots(after));
        }
        match byte {
            b'\\' => self.output.push(b'/'),
            b'%' => return self.escape(place),
            // NUL has no place in a path, nor has what is no ASCII.
            0 | 0x80.. => return None,
            b' ' | b'"' | b'#' | b'<' | b'>' | b'?' | b'^' | b'`' | b'{' | b'|' | b'}' | 1..=0x1f | 0x7f => {
                self.output.extend_from_slice(&[b'%', hex(byte >> 4), hex(byte & 0xf)]);
            }
            other => self.output.push(other),
        }
        Some(place + 1)
    }

    /// The place behind the dot at `place`, if there is one, escaped or not.
    fn dot(&self, place: usize) -> Option<usize> {
        match self.input.get(place..)? {
            [b'.', ..] => Some(place + 1),
            [b'%', b'2', b'e' | b'E', ..] => Some(place + 3),
            _ => None,
        }
    }

    /// Takes a dot, which ends before `after`, with what belongs to its segment.
    fn dots(&mut self, after: usize) -> usize {
        let ends = |place: usize| match self.input.get(place) {
            None => Some(place),
            Some(b'/' | b'\\') => Some(place + 1),
            Some(_) => None,
        };
        if self.output.last() == Some(&b'/') {
            if let Some(next) = ends(after) {
                return next;
            }
            if let Some(next) = self.dot(after).and_then(ends) {
                self.up();
                return next;
            }
        }
        self.output.push(b'.');
        after
    }

    /// Drops the last segment of the output, which ends in a slash.
    fn up(&mut self) {
        self.output.pop();
        let slash = self.output.iter().rposition(|byte| *byte == b'/');
        self.output.truncate(slash.map_or(0, |slash| slash + 1));
        if self.output.is_empty() {
            self.output.push(b'/');
        }
        self.stray_percent = self.stray_percent.filter(|place| *place < self.output.len());
    }

    fn escape(&mut self, place: usize) -> Option<usize> {
        let digits = self.input.get(place + 1..place + 3);
        let Some(value) = digits.and_then(unhex) else {
            self.stray_percent = Some(self.output.len());
            self.output.push(b'%');
            return Some(place + 1);
        };
        if value == 0 {
            return None;
        }
        let next = place + 3;
        if value.is_ascii_alphanumeric() || matches!(value, b'-' | b'.' | b'_' | b'~') {
            self.output.push(value);
            self.guard_nested(next);
        } else {
            self.output.extend_from_slice(self.input.get(place..next)?);
        }
        Some(next)
    }

    /// What has been unescaped must not make a new escape together with a stray `%` before it: `%%30%30` is no NUL.
    fn guard_nested(&mut self, next: usize) {
        let Some(stray) = self.stray_percent else { return };
        let behind = self.output.get(stray + 1..).unwrap_or_default();
        let digits = match (behind, self.input.get(next)) {
            ([one], Some(two)) => [*one, *two],
            ([one, two], _) => [*one, *two],
            _ => return,
        };
        if unhex(&digits).is_some() {
            self.output.splice(stray + 1..stray + 1, *b"25");
            self.stray_percent = None;
        }
    }
}

fn hex(digit: u8) -> u8 {
    b"0123456789ABCDEF".get(usize::from(digit)).copied().unwrap_or(b'0')
}

/// The value of two hexadecimal digits.
fn unhex(digits: &[u8]) -> Option<u8> {
    let [high, low] = digits else { return None };
    let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(*high)? << 4 | digit(*low)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: PathRules =
        PathRules { normalizes: true, merges_slashes: true, escaped_slashes: EscapedSlashes::Unescape };
    const NONE: PathRules =
        PathRules { normalizes: false, merges_slashes: false, escaped_slashes: EscapedSlashes::Keep };
    const NORMALIZES: PathRules = PathRules { normalizes: true, ..NONE };

    fn applied(rules: PathRules, path: &str) -> String {
        match rules.apply(&HeaderValue::from_str(path).unwrap()) {
            Normalized::Same => path.to_owned(),
            Normalized::Changed(path) => path.to_str().unwrap().to_owned(),
            Normalized::Redirect(path) => format!("to {}", path.to_str().unwrap()),
            Normalized::Rejected => "no".to_owned(),
        }
    }

    /// What Envoy 1.40 makes of them with `normalize_path`.
    #[test]
    fn paths_are_canonical() {
        for (path, wanted) in [
            ("/a/../b", "/b"),
            ("/..", "/"),
            ("/../..", "/"),
            ("/a/.", "/a/"),
            ("/a/..", "/"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/..\\b", "/b"),
            ("/a//../b", "/a/b"),
            ("/a/b/../../../c", "/c"),
            ("/a/...", "/a/..."),
            ("/a/..b/.a", "/a/..b/.a"),
            ("/%", "/%"),
            ("/%zz", "/%zz"),
            ("/%%30%30", "/%2500"),
            ("/%%0000", "no"),
            ("/%00", "no"),
            ("/a/..;x/b", "/b"),
            ("/a/.;x/b", "/a/b"),
            ("/a/..;/b?x=/../", "/b?x=/../"),
            ("/a;b=c/../d", "/d"),
            ("/a?b/../c", "/a?b/../c"),
            ("/%7Ea%41%2d%5f%20%2f%5C", "/~aA-_%20%2f%5C"),
            ("/a\"<>^`{|}b", "/a%22%3C%3E%5E%60%7B%7C%7Db"),
            ("/!$&'()*+,:;=@[]", "/!$&'()*+,:;=@[]"),
            ("/a#b", "no"),
        ] {
            assert_eq!(applied(NORMALIZES, path), wanted, "{path}");
        }
    }

    #[test]
    fn slashes_are_merged_and_unescaped() {
        let merges = PathRules { merges_slashes: true, ..NONE };
        assert_eq!(applied(merges, "//a///b//?x=//"), "/a/b/?x=//");
        assert_eq!(applied(merges, "/a//../b"), "/a/../b");
        let escaped = |escaped_slashes| PathRules { escaped_slashes, ..NONE };
        assert_eq!(applied(escaped(EscapedSlashes::Unescape), "/a%2Fb%2fc%5Cd?%2F"), "/a/b/c\\d?%2F");
        assert_eq!(applied(escaped(EscapedSlashes::Redirect), "/a%2Fb"), "to /a/b");
        assert_eq!(applied(escaped(EscapedSlashes::Reject), "/a%5cb"), "no");
        assert_eq!(applied(escaped(EscapedSlashes::Reject), "/a%2b"), "/a%2b");
        assert_eq!(applied(ALL, "/a%2F%2e%2e%2F/b"), "/b");
    }

    proptest! {
        /// Normalising twice is normalising once, but for escapes of escapes.
        #[test]
        fn once_is_enough(path in "/[a-c./%2eE;\\\\]{0,30}") {
            if let Normalized::Changed(once) = NORMALIZES.apply(&HeaderValue::from_str(&path).unwrap()) {
                let text = once.to_str().unwrap();
                prop_assert!(text.starts_with('/') && !text.contains("/../") && !text.contains("/./"), "{text}");
                prop_assert!(!text.ends_with("/..") && !text.ends_with("/."), "{text}");
            }
        }

        #[test]
        fn no_bytes_panic(path in proptest::collection::vec(any::<u8>(), 0..50)) {
            if let Ok(path) = HeaderValue::from_bytes(&path) {
                ALL.apply(&path);
            }
        }
    }
}
