//! Envoy's `StringMatcher`.

use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::{RegexMatcher, StringMatcher};

use crate::Refusal;
use crate::refusal::Reason;
use crate::regex::{self, Matcher};

/// A condition on a value.
#[derive(Clone, Debug)]
pub struct TextMatcher {
    ignores_case: bool,
    condition: Condition,
}

#[derive(Clone, Debug)]
enum Condition {
    Exact(Box<[u8]>),
    Prefix(Box<[u8]>),
    Suffix(Box<[u8]>),
    Contains(Box<[u8]>),
    Regex(Box<Matcher>),
}

impl TextMatcher {
    /// Compiles a matcher.
    pub(crate) fn compile(proto: &StringMatcher) -> Result<TextMatcher, Refusal> {
        let StringMatcher { ignore_case, match_pattern } = proto;
        let pattern =
            match_pattern.as_ref().ok_or_else(|| Refusal::invalid("a matcher without a pattern"))?;
        let condition = match pattern {
            MatchPattern::Exact(text) => Condition::Exact(literal(text, *ignore_case)),
            MatchPattern::Prefix(text) => Condition::Prefix(not_empty(text, "prefix", *ignore_case)?),
            MatchPattern::Suffix(text) => Condition::Suffix(not_empty(text, "suffix", *ignore_case)?),
            MatchPattern::Contains(text) => Condition::Contains(not_empty(text, "contains", *ignore_case)?),
            MatchPattern::SafeRegex(_) if *ignore_case => {
                return Err(Refusal::invalid("ignore_case has no effect for safe_regex"));
            }
            MatchPattern::SafeRegex(pattern) => Condition::Regex(Box::new(compile_regex(pattern)?)),
            MatchPattern::Custom(custom) => {
                return Err(Refusal::unsupported(format!("custom matcher {}", custom.name)));
            }
        };
        Ok(TextMatcher { ignores_case: *ignore_case, condition })
    }

    /// A value that is exactly this.
    pub(crate) fn exact(text: &str, ignores_case: bool) -> TextMatcher {
        TextMatcher { ignores_case, condition: Condition::Exact(literal(text, ignores_case)) }
    }

    /// A value that begins with this.
    pub(crate) fn prefix(text: &str, ignores_case: bool) -> TextMatcher {
        TextMatcher { ignores_case, condition: Condition::Prefix(literal(text, ignores_case)) }
    }

    /// A value that this pattern matches whole.
    pub(crate) fn regex(pattern: &RegexMatcher) -> Result<TextMatcher, Refusal> {
        Ok(TextMatcher {
            ignores_case: false,
            condition: Condition::Regex(Box::new(compile_regex(pattern)?)),
        })
    }

    /// A value that ends with this.
    pub(crate) fn suffix(text: &str) -> TextMatcher {
        TextMatcher { ignores_case: false, condition: Condition::Suffix(literal(text, false)) }
    }

    /// A value that has this somewhere.
    pub(crate) fn contains(text: &str) -> TextMatcher {
        TextMatcher { ignores_case: false, condition: Condition::Contains(literal(text, false)) }
    }

    /// How long the prefix is that it asks for, if it asks for one.
    pub(crate) fn prefix_len(&self) -> Option<usize> {
        match &self.condition {
            Condition::Prefix(text) => Some(text.len()),
            _ => None,
        }
    }

    /// Does the value meet the condition? Case is ASCII's.
    pub fn matches(&self, value: &[u8]) -> bool {
        match &self.condition {
            Condition::Exact(text) => self.equal(value, text),
            Condition::Prefix(text) => value.get(..text.len()).is_some_and(|v| self.equal(v, text)),
            Condition::Suffix(text) => {
                let begin = value.len().checked_sub(text.len());
                begin.and_then(|b| value.get(b..)).is_some_and(|v| self.equal(v, text))
            }
            Condition::Contains(text) => value.windows(text.len()).any(|v| self.equal(v, text)),
            Condition::Regex(pattern) => pattern.matches(value),
        }
    }

    fn equal(&self, value: &[u8], text: &[u8]) -> bool {
        if self.ignores_case { value.eq_ignore_ascii_case(text) } else { value == text }
    }
}

fn literal(text: &str, ignores_case: bool) -> Box<[u8]> {
    let text = if ignores_case { text.to_ascii_lowercase() } else { text.to_owned() };
    text.into_bytes().into_boxed_slice()
}

fn not_empty(text: &str, what: &str, ignores_case: bool) -> Result<Box<[u8]>, Refusal> {
    if text.is_empty() {
        Err(Refusal::invalid(format!("empty {what}")))
    } else {
        Ok(literal(text, ignores_case))
    }
}

/// The one way a pattern of xDS becomes a matcher. `engine_type` only ever says RE2.
fn compile_regex(pattern: &RegexMatcher) -> Result<Matcher, Refusal> {
    let RegexMatcher { regex, engine_type: _ } = pattern;
    regex::compile(regex).map_err(|error| Reason::Pattern { pattern: regex.clone(), error }.into())
}
