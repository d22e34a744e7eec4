//! Conditions on headers.

use envoy_types::pb::envoy::config::route::v3::HeaderMatcher;
use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use http::HeaderValue;

use crate::{Headers, Refusal, Request, RequestField, TextMatcher};

/// A condition on one header.
#[derive(Clone, Debug)]
pub struct HeaderCondition {
    field: RequestField,
    inverted: bool,
    missing_is_empty: bool,
    condition: Condition,
}

#[derive(Clone, Debug)]
enum Condition {
    Present(bool),
    Value(TextMatcher),
    /// First number, and the one after the last.
    Range(i64, i64),
}

impl HeaderCondition {
    pub(crate) fn compile(proto: &HeaderMatcher) -> Result<HeaderCondition, Refusal> {
        let HeaderMatcher { name, invert_match, treat_missing_header_as_empty, header_match_specifier } =
            proto;
        if name.is_empty() {
            return Err(Refusal::invalid("a header matcher without a name"));
        }
        #[allow(
            deprecated,
            reason = "older control planes still write the deprecated forms, and Envoy takes them"
        )]
        let condition = match header_match_specifier {
            None => Condition::Present(true),
            Some(HeaderMatchSpecifier::PresentMatch(wanted)) => Condition::Present(*wanted),
            Some(HeaderMatchSpecifier::RangeMatch(range)) => Condition::Range(range.start, range.end),
            Some(HeaderMatchSpecifier::StringMatch(text)) => Condition::Value(TextMatcher::compile(text)?),
            Some(HeaderMatchSpecifier::ExactMatch(text)) => Condition::Value(TextMatcher::exact(text, false)),
            Some(HeaderMatchSpecifier::SafeRegexMatch(pattern)) => {
                Condition::Value(TextMatcher::regex(pattern)?)
            }
            Some(HeaderMatchSpecifier::PrefixMatch(text)) => {
                Condition::Value(TextMatcher::prefix(text, false))
            }
            Some(HeaderMatchSpecifier::SuffixMatch(text)) => Condition::Value(TextMatcher::suffix(text)),
            Some(HeaderMatchSpecifier::ContainsMatch(text)) => Condition::Value(TextMatcher::contains(text)),
        };
        Ok(HeaderCondition {
            field: RequestField::parse(name),
            inverted: *invert_match,
            missing_is_empty: *treat_missing_header_as_empty,
            condition,
        })
    }

    /// A header of this name is there; `None` if no header can have the name.
    pub(crate) fn present(name: &str) -> Option<HeaderCondition> {
        let field = RequestField::parse(name);
        let condition = Condition::Present(true);
        let is_name = field != RequestField::Nothing;
        is_name.then_some(HeaderCondition { field, inverted: false, missing_is_empty: false, condition })
    }

    /// Whether a request meets it.
    pub fn holds(&self, request: &Request) -> bool {
        self.holds_for(request.values(&self.field))
    }

    /// Whether headers meet it, of a response for example.
    pub fn holds_for_headers(&self, headers: &Headers) -> bool {
        let name = match &self.field {
            RequestField::Header(name) => Some(name),
            _ => None,
        };
        self.holds_for(name.into_iter().flat_map(|name| headers.get_all(name)).map(HeaderValue::as_bytes))
    }

    /// Of several values of the header any may meet the condition: Envoy looks at each, not at all of them joined.
    fn holds_for<'a>(&self, values: impl Iterator<Item = &'a [u8]>) -> bool {
        let mut values = values.peekable();
        let is_there = values.peek().is_some();
        if let Condition::Present(wanted) = self.condition {
            return ((is_there || self.missing_is_empty) == wanted) != self.inverted;
        }
        // A missing header fails the condition, inverted or not, unless it counts as empty.
        if !is_there && !self.missing_is_empty {
            return false;
        }
        let empty = (!is_there).then_some(&[][..]);
        values.chain(empty).any(|value| self.condition.holds(value)) != self.inverted
    }
}

impl Condition {
    fn holds(&self, value: &[u8]) -> bool {
        match self {
            Condition::Present(wanted) => *wanted,
            Condition::Value(text) => text.matches(value),
            Condition::Range(first, end) => {
                let number = std::str::from_utf8(value).ok().and_then(|v| v.trim().parse::<i64>().ok());
                number.is_some_and(|n| (*first..*end).contains(&n))
            }
        }
    }
}
