//! Replacing what a pattern matches, as RE2's `GlobalReplace`: every match, from the left, none twice.

use regex::bytes::{Captures, Regex};

use crate::{PatternError, build, parsed};

/// Why a pattern with its substitution was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RewriteError {
    /// The pattern is none.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// In a substitution `\` is followed by a digit or another `\`.
    #[error("invalid escape in the substitution")]
    Escape,
    /// The substitution names a group that the pattern does not have.
    #[error("the substitution names group {0}, which the pattern does not have")]
    Group(u32),
}

/// A pattern with what takes the place of its matches.
#[derive(Clone, Debug)]
pub struct Rewriter {
    automaton: Regex,
    parts: Box<[Part]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Vec<u8>),
    /// What a group matched; 0 is the whole match.
    Group(u32),
}

impl Rewriter {
    /// Compiles both: `\0` to `\9` stand for groups in the substitution.
    pub fn compile(pattern: &str, substitution: &str) -> Result<Rewriter, RewriteError> {
        let parsed = parsed(pattern, true)?;
        let parts = parts(substitution)?;
        let unknown = parts.iter().find_map(|part| match part {
            Part::Group(group) if *group > parsed.groups => Some(*group),
            _ => None,
        });
        if let Some(group) = unknown {
            return Err(RewriteError::Group(group));
        }
        Ok(Rewriter { automaton: build(&parsed.text)?, parts: parts.into() })
    }

    /// The text with every match replaced.
    pub fn replace_all(&self, text: &[u8]) -> Vec<u8> {
        let replaced = self.automaton.replace_all(text, |found: &Captures<'_>| self.replacement(found));
        replaced.into_owned()
    }

    fn replacement(&self, found: &Captures<'_>) -> Vec<u8> {
        let part = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Group(group) => {
                found.get(*group as usize).map(|group| group.as_bytes().to_vec()).unwrap_or_default()
            }
        };
        self.parts.iter().flat_map(part).collect()
    }
}

fn parts(substitution: &str) -> Result<Vec<Part>, RewriteError> {
    let mut parts = Vec::new();
    let mut text = Vec::new();
    let mut bytes = substitution.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            text.push(byte);
            continue;
        }
        match bytes.next() {
            Some(b'\\') => text.push(b'\\'),
            Some(digit @ b'0'..=b'9') => {
                if !text.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut text)));
                }
                parts.push(Part::Group(u32::from(digit - b'0')));
            }
            _ => return Err(RewriteError::Escape),
        }
    }
    if !text.is_empty() {
        parts.push(Part::Text(text));
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(pattern: &str, substitution: &str, text: &str) -> String {
        let rewriter = Rewriter::compile(pattern, substitution).unwrap();
        String::from_utf8(rewriter.replace_all(text.as_bytes())).unwrap()
    }

    /// The first four are the examples of Envoy's documentation.
    #[test]
    fn matches_are_replaced() {
        for (pattern, substitution, text, wanted) in [
            ("^/service/([^/]+)(/.*)$", r"\2/instance/\1", "/service/foo/v1/api", "/v1/api/instance/foo"),
            ("one", "two", "/xxx/one/yyy/one/zzz", "/xxx/two/yyy/two/zzz"),
            ("^(.*?)one(.*)$", r"\1two\2", "/xxx/one/yyy/one/zzz", "/xxx/two/yyy/one/zzz"),
            ("(?i)/xxx/", "/yyy/", "/aaa/XxX/bbb", "/aaa/yyy/bbb"),
            ("^(.*)one(.*)$", r"\1two\2", "/xxx/one/yyy/one/zzz", "/xxx/one/yyy/two/zzz"),
            ("(?U)a(.*)b", r"<\1>", "axbyb", "<x>yb"),
            ("(?U)a(.*?)b", r"<\1>", "axbyb", "<xby>"),
            ("b*", "-", "abc", "-a-c-"),
            ("(?P<n>a)|(b)", r"[\1|\2]", "ab", "[a|][|b]"),
            ("a", r"\0\\\0", "a", r"a\a"),
            ("nothing", "x", "/a", "/a"),
            ("(a|b)+", r"\1", "abab", "b"),
        ] {
            assert_eq!(rewritten(pattern, substitution, text), wanted, "{pattern} {substitution}");
        }
    }

    #[test]
    fn wrong_substitutions_are_refused() {
        assert_eq!(Rewriter::compile("(a)", r"\2").unwrap_err(), RewriteError::Group(2));
        assert_eq!(Rewriter::compile("a", r"\n").unwrap_err(), RewriteError::Escape);
        assert_eq!(Rewriter::compile("a", r"x\").unwrap_err(), RewriteError::Escape);
        assert_eq!(Rewriter::compile("", "x").unwrap_err(), RewriteError::Pattern(PatternError::Empty));
    }

    proptest::proptest! {
        /// Whatever a pattern matches as a whole is replaced as a whole, if the pattern says where it begins and ends.
        #[test]
        fn both_readings_agree(pattern in r"[-a-c0-3|()\[\]{},^$.*+?:sU]{1,20}", text in "[abc01]{0,6}") {
            let whole = format!(r"\A(?:{pattern})\z");
            if let (Ok(matcher), Ok(rewriter)) = (crate::compile(&whole), Rewriter::compile(&whole, "!")) {
                let replaced = rewriter.replace_all(text.as_bytes());
                proptest::prop_assert_eq!(matcher.matches(text.as_bytes()), replaced == b"!", "{}", pattern);
            }
        }
    }
}
