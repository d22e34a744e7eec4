//! Cross-origin policies: HTTPRoute `corsPolicy`.

use envoy_types::pb::envoy::extensions::filters::http::cors::v3::CorsPolicy;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::{RegexMatcher, StringMatcher};
use ostro_api::virtual_service::{CorsPolicy as CorsRule, StringMatch, UnmatchedPreflights};

use super::{fraction, matching};
use crate::encode::wrapped;

/// The filter that carries the policy out; routes configure it by this name.
pub const FILTER: &str = "envoy.filters.http.cors";

/// The policy of a route.
pub fn policy(rule: &CorsRule) -> CorsPolicy {
    CorsPolicy {
        allow_origin_string_match: origins(rule),
        allow_methods: rule.allow_methods.join(","),
        allow_headers: rule.allow_headers.join(","),
        expose_headers: rule.expose_headers.join(","),
        max_age: rule.max_age.map(|age| age.as_secs().to_string()).unwrap_or_default(),
        allow_credentials: rule.allow_credentials.and_then(wrapped),
        filter_enabled: Some(fraction::runtime(None)),
        forward_not_matching_preflights: wrapped(rule.unmatched_preflights != UnmatchedPreflights::Ignore),
        ..Default::default()
    }
}

fn origins(rule: &CorsRule) -> Vec<StringMatcher> {
    if rule.allow_origins.is_empty() {
        let exact = |origin: &String| matching::string_matcher(&StringMatch::Exact(origin.clone()));
        return rule.allow_origin.iter().filter_map(exact).collect();
    }
    let any = || StringMatcher {
        match_pattern: Some(MatchPattern::SafeRegex(RegexMatcher {
            regex: ".*".into(),
            ..Default::default()
        })),
        ..Default::default()
    };
    rule.allow_origins.iter().map(|origin| matching::string_matcher(origin).unwrap_or_else(any)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn lists_are_joined_and_ages_are_seconds() {
        let rule = CorsRule {
            allow_methods: vec!["POST".into(), "GET".into()],
            allow_headers: vec!["x-a".into(), "x-b".into()],
            max_age: Some(Duration::from_secs(86_400)),
            allow_credentials: Some(false),
            ..Default::default()
        };
        let out = policy(&rule);
        assert_eq!((out.allow_methods.as_str(), out.allow_headers.as_str()), ("POST,GET", "x-a,x-b"));
        assert_eq!(out.max_age, "86400");
        assert_eq!(out.allow_credentials, wrapped(false));
    }

    #[test]
    fn preflights_that_match_nothing_are_forwarded_unless_said_otherwise() {
        assert_eq!(policy(&CorsRule::default()).forward_not_matching_preflights, wrapped(true));
        let rule = CorsRule { unmatched_preflights: UnmatchedPreflights::Ignore, ..Default::default() };
        assert_eq!(policy(&rule).forward_not_matching_preflights, wrapped(false));
    }

    #[test]
    fn origins_in_both_forms() {
        let old = CorsRule { allow_origin: vec!["cors.com".into()], ..Default::default() };
        assert_eq!(origins(&old)[0].match_pattern, Some(MatchPattern::Exact("cors.com".into())));
        let new = CorsRule {
            allow_origin: vec!["ignored".into()],
            allow_origins: vec![StringMatch::Prefix("https://".into()), StringMatch::Any],
            ..Default::default()
        };
        assert_eq!(origins(&new).len(), 2);
    }
}
