//! Floor 0: regular expressions as Envoy has them: RE2 with its Latin-1 option, full match.
//!
//! `api` asks whether a pattern may be written, `engine` what it matches; that both get one answer is why this
//! stands below them.
//!
//! What it is: the one place that decides whether a pattern is good and what it matches. RE2's syntax is read by
//! a parser of our own (`parse`), which emits byte classes, groups and repetitions in the small language that
//! RE2 and the `regex` crate share; that crate then does the matching, in time linear in the input. What it
//! deliberately is not: a search; Envoy asks whether a pattern matches *all* of a value, or replaces what it matches
//! ([`Rewriter`]).
//!
//! Envoy compiles with Latin-1 (measured: `.` is two instructions, `\x{100}` is refused): a byte is a character,
//! a two-byte UTF-8 letter needs two dots, `\pL` is the letters up to U+00FF. Invalid UTF-8 is nothing special.
//!
//! Invariants: no pattern makes this module panic or allocate beyond [`PATTERN_BYTES_MAX`] and
//! [`AUTOMATON_BYTES_MAX`]; accept, refuse and match agree with Envoy 1.40 (`testkit`'s test `regex_envoy`), except
//! that nesting is bounded by [`NESTING_MAX`] and that the size at which a pattern is too large is computed to within a
//! few percent of RE2's.

mod bytes;
mod groups;
mod parse;
mod rewrite;

pub use rewrite::{RewriteError, Rewriter};

use regex::bytes::{Regex, RegexBuilder};

/// Largest RE2 program Envoy takes: what our bootstraps set as runtime `re2.max_program_size.error_level`
/// (Envoy's own default of 100 refuses patterns that people use).
pub const PROGRAM_SIZE_MAX: u32 = 32_768;

/// Longest pattern, in bytes. Anything longer has a program beyond [`PROGRAM_SIZE_MAX`], comments aside.
pub const PATTERN_BYTES_MAX: usize = 64 * 1024;

/// Deepest nesting of groups. RE2 has no such bound; this one keeps the recursion of the compiler within a thread's stack.
pub const NESTING_MAX: usize = 64;

/// Memory a compiled automaton may take, in bytes.
pub const AUTOMATON_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Why a pattern was refused. The writer of the pattern is at fault; trying again does not help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// The pattern is empty, which Envoy's API does not allow.
    #[error("a pattern must not be empty")]
    Empty,
    /// `\` and what follows is no escape of RE2 (back references among them).
    #[error("invalid escape sequence: {0}")]
    Escape(String),
    /// The pattern ends in a single `\`.
    #[error("trailing \\")]
    TrailingBackslash,
    /// `[z-a]`, an unknown `[:name:]` or an unknown `\p{Name}`.
    #[error("invalid character class range: {0}")]
    ClassRange(String),
    /// `[` without `]`.
    #[error("missing ]")]
    MissingBracket,
    /// `(` without `)`.
    #[error("missing )")]
    MissingParen,
    /// `)` without `(`.
    #[error("unexpected )")]
    UnexpectedParen,
    /// `*`, `+`, `?` or `{n}` with nothing before it.
    #[error("no argument for repetition operator: {0}")]
    RepeatArgument(String),
    /// `a**` and its like.
    #[error("bad repetition operator: {0}")]
    RepeatOperator(String),
    /// A count above 1000, a range that runs backwards, or nested counts whose product is above 1000.
    #[error("invalid repetition size: {0}")]
    RepeatSize(String),
    /// `(?` and then nothing RE2 knows: look-around among them.
    #[error("invalid perl operator: {0}")]
    PerlOperator(String),
    /// `(?P<name>` with a name that is none.
    #[error("invalid named capture group: {0}")]
    GroupName(String),
    /// The compiled program would be larger than Envoy takes.
    #[error("pattern too large: about {size} instructions, at most {max} are allowed")]
    TooLarge {
        /// Estimated RE2 instructions.
        size: u32,
        /// [`PROGRAM_SIZE_MAX`].
        max: u32,
    },
    /// Groups nested deeper than [`NESTING_MAX`].
    #[error("groups nested deeper than {NESTING_MAX}")]
    TooDeep,
    /// Longer than [`PATTERN_BYTES_MAX`].
    #[error("pattern longer than {PATTERN_BYTES_MAX} bytes")]
    TooLong,
    /// The automaton would take more than [`AUTOMATON_BYTES_MAX`].
    #[error("pattern needs more than {AUTOMATON_BYTES_MAX} bytes of memory")]
    TooMuchMemory,
}

/// A compiled pattern.
#[derive(Clone, Debug)]
pub struct Matcher {
    automaton: Regex,
}

impl Matcher {
    /// Does the pattern match all of `text`?
    pub fn matches(&self, text: &[u8]) -> bool {
        self.automaton.is_match(text)
    }
}

/// Says whether Envoy would take a pattern, in time linear in its length: nothing is compiled.
pub fn check(pattern: &str) -> Result<(), PatternError> {
    parsed(pattern, false).map(drop)
}

fn parsed(pattern: &str, for_rewriting: bool) -> Result<parse::Parsed, PatternError> {
    let parsed = parse::parse(pattern, for_rewriting)?;
    if parsed.program_size > PROGRAM_SIZE_MAX {
        return Err(PatternError::TooLarge { size: parsed.program_size, max: PROGRAM_SIZE_MAX });
    }
    Ok(parsed)
}

/// Compiles a pattern as Envoy would, or says why Envoy would not.
pub fn compile(pattern: &str) -> Result<Matcher, PatternError> {
    let parsed = parsed(pattern, false)?;
    build(&format!(r"\A(?:{})\z", parsed.text)).map(|automaton| Matcher { automaton })
}

/// Builds what `parse` emits, which is well-formed by construction: size is the one thing left that can be wrong.
fn build(text: &str) -> Result<Regex, PatternError> {
    let mut builder = RegexBuilder::new(text);
    builder.unicode(false).size_limit(AUTOMATON_BYTES_MAX);
    // Every group of ours may carry a repetition, an alternation and a capture, which the crate counts as nesting too.
    builder.nest_limit(5 * NESTING_MAX as u32 + 8);
    builder.build().map_err(|_| PatternError::TooMuchMemory)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        compile(pattern).unwrap().matches(text.as_bytes())
    }

    #[test]
    fn the_whole_value_must_match() {
        assert!(matches("a|ab", "ab"));
        assert!(!matches("a", "ab"));
        assert!(!matches("b", "ab"));
        assert!(matches("^/api/v[0-9]+(/.*)?$", "/api/v12/x"));
    }

    #[test]
    fn a_byte_is_a_character() {
        assert!(!matches(".", "é"));
        assert!(matches("..", "é"));
        assert!(compile(".").unwrap().matches(b"\xff"));
        assert!(!matches(".", "\n"));
        assert!(matches("(?s).", "\n"));
        assert!(matches("[^a]", "\n"));
    }

    #[test]
    fn literal_stretches_and_stray_braces() {
        assert!(matches(r"\Qa.b\E+", "a.bb"));
        assert!(matches("a{,5}", "a{,5}"));
        assert!(matches("a{01}", "a{01}"));
        assert!(matches("x[]]y[^]]", "x]yz"));
        assert!(matches(r"[a\-z&&b]+", "-&z"));
    }

    #[test]
    fn flags_last_until_their_group_ends() {
        assert!(matches("(?:(?i)a)b", "Ab"));
        assert!(!matches("(?:(?i)a)b", "AB"));
        assert!(matches("(?i:ab)", "aB"));
        assert!(matches("(?i)[^a]", "b"));
        assert!(!matches("(?i)[^a]", "A"));
    }

    #[test]
    fn what_re2_refuses_is_refused_by_name() {
        use PatternError as E;
        let cases: &[(&str, E)] = &[
            ("", E::Empty),
            (r"(a)\1", E::Escape(r"\1".into())),
            ("a(?=b)", E::PerlOperator("(?=".into())),
            ("(?<!a)b", E::PerlOperator("(?<!".into())),
            ("a**", E::RepeatOperator("**".into())),
            ("*", E::RepeatArgument("*".into())),
            ("a{1001}", E::RepeatSize("{1001}".into())),
            ("(a{100}){11}", E::RepeatSize("{11}".into())),
            ("[a", E::MissingBracket),
            ("(a", E::MissingParen),
            ("a)", E::UnexpectedParen),
            ("a\\", E::TrailingBackslash),
            ("[z-a]", E::ClassRange("z-a".into())),
            (r"\p{Letter}", E::ClassRange(r"\p{Letter}".into())),
            (r"\x{100}", E::Escape(r"\x{100".into())),
            ("(?P<a-b>c)", E::GroupName("(?P<a-b>".into())),
        ];
        for (pattern, error) in cases {
            assert_eq!(compile(pattern).unwrap_err(), *error, "{pattern}");
        }
    }

    #[test]
    fn bounds_hold() {
        let deep = format!("{}a{}", "(".repeat(NESTING_MAX + 1), ")".repeat(NESTING_MAX + 1));
        assert_eq!(compile(&deep).unwrap_err(), PatternError::TooDeep);
        let nested = "(?:b|".repeat(NESTING_MAX) + "a" + &")*".repeat(NESTING_MAX);
        assert!(compile(&nested).unwrap().matches(b"aaa"));
        assert_eq!(compile(&"a".repeat(PATTERN_BYTES_MAX + 1)).unwrap_err(), PatternError::TooLong);
        assert!(matches!(
            compile(r"(?:\w{1000}){1}\w{1000}(?:[a-z0-9_-]{900}){1}".repeat(9).as_str()),
            Err(PatternError::TooLarge { .. })
        ));
    }

    proptest::proptest! {
        /// No pattern panics or hangs, and whatever is accepted compiles (`TooMuchMemory` excepted).
        #[test]
        fn any_text_is_accepted_or_refused(pattern in r"[-a-c0-3|()\[\]{},^$.*+?\\:pPQEdDwbx<>=!iéÿ]{1,40}", text in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..20)) {
            if let Ok(matcher) = compile(&pattern) {
                matcher.matches(&text);
            }
        }
    }
}
