//! Conditions of a VirtualService's http match, in Envoy's words.
//!
//! What it is not: it does not decide whether a match applies to a proxy at all (port, labels, gateways: that is
//! `http`), only what the proxy compares at run time.

use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use envoy_types::pb::envoy::config::route::v3::query_parameter_matcher::QueryParameterMatchSpecifier;
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::config::route::v3::{HeaderMatcher, QueryParameterMatcher, RouteMatch};
use envoy_types::pb::envoy::r#type::matcher::v3::metadata_matcher::{PathSegment, path_segment};
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::value_matcher;
use envoy_types::pb::envoy::r#type::matcher::v3::{
    ListMatcher, MetadataMatcher, OrMatcher, RegexMatcher, StringMatcher, ValueMatcher, list_matcher,
};
use ostro_api::virtual_service::{HttpMatchRequest, StringMatch};

use crate::encode::wrapped;

/// The filter whose metadata holds the claims of a token.
const JWT_FILTER: &str = "envoy.filters.http.jwt_authn";
/// Header names that mean a claim instead: `@request.auth.claims.a.b` or `@request.auth.claims[a][b]`.
const CLAIMS: &str = "@request.auth.claims";

/// The run-time conditions of one match; every request if there is none.
pub fn route_match(conditions: Option<&HttpMatchRequest>) -> RouteMatch {
    let Some(conditions) = conditions else {
        return RouteMatch { path_specifier: Some(everything()), ..Default::default() };
    };
    let mut out = RouteMatch {
        path_specifier: Some(path(conditions.uri.as_ref())),
        case_sensitive: if conditions.ignore_uri_case { wrapped(false) } else { None },
        query_parameters: conditions.query_params.iter().map(|(name, rule)| query(name, rule)).collect(),
        ..Default::default()
    };
    let with = conditions.headers.iter().map(|(name, rule)| (name, rule, false));
    let without = conditions.without_headers.iter().map(|(name, rule)| (name, rule, true));
    for (name, rule, inverted) in with.chain(without) {
        match claim_path(name) {
            Some(path) => out.dynamic_metadata.push(claim(&path, rule, inverted)),
            None => out.headers.push(header(name, rule, inverted)),
        }
    }
    out.headers.sort_by(|a, b| a.name.cmp(&b.name));
    let pseudo = [
        (":method", &conditions.method),
        (":authority", &conditions.authority),
        (":scheme", &conditions.scheme),
    ];
    for (name, rule) in pseudo {
        out.headers.extend(rule.as_ref().map(|rule| header(name, rule, false)));
    }
    out
}

/// Whether a match takes every request, so that nothing after it is ever tried.
pub fn is_catch_all(conditions: &RouteMatch) -> bool {
    let path = match &conditions.path_specifier {
        Some(PathSpecifier::Prefix(prefix)) => prefix == "/",
        Some(PathSpecifier::PathSeparatedPrefix(prefix)) => prefix == "/",
        Some(PathSpecifier::SafeRegex(regex)) => regex.regex == ".*",
        _ => false,
    };
    path && conditions.headers.is_empty()
        && conditions.query_parameters.is_empty()
        && conditions.dynamic_metadata.is_empty()
}

/// A string comparison; `None` where anything will do. Envoy refuses empty prefixes and expressions.
pub fn string_matcher(rule: &StringMatch) -> Option<StringMatcher> {
    let pattern = match rule {
        StringMatch::Any => return None,
        StringMatch::Prefix(text) if text.is_empty() => return None,
        // `*` is no expression; Istio takes it for "whatever it is".
        StringMatch::Regex(text) if text == ".*" || text == "*" => return None,
        StringMatch::Regex(text) if text.is_empty() => MatchPattern::Exact(String::new()),
        StringMatch::Exact(text) => MatchPattern::Exact(text.clone()),
        StringMatch::Prefix(text) => MatchPattern::Prefix(text.clone()),
        StringMatch::Regex(text) => MatchPattern::SafeRegex(regex(text)),
    };
    Some(StringMatcher { match_pattern: Some(pattern), ..Default::default() })
}

/// An RE2 expression, matched whole.
pub fn regex(text: &str) -> RegexMatcher {
    RegexMatcher { regex: text.to_owned(), ..Default::default() }
}

fn everything() -> PathSpecifier {
    PathSpecifier::Prefix("/".to_owned())
}

fn path(uri: Option<&StringMatch>) -> PathSpecifier {
    match uri {
        None | Some(StringMatch::Any) => everything(),
        Some(StringMatch::Exact(text)) => PathSpecifier::Path(text.clone()),
        Some(StringMatch::Prefix(text)) => PathSpecifier::Prefix(text.clone()),
        Some(StringMatch::Regex(text)) => PathSpecifier::SafeRegex(regex(text)),
    }
}

/// A header's condition. Inverted, it also holds where the header is missing, which Envoy grants only if a missing
/// header counts as an empty one.
fn header(name: &str, rule: &StringMatch, inverted: bool) -> HeaderMatcher {
    let (specifier, present) = match string_matcher(rule) {
        Some(matcher) => (HeaderMatchSpecifier::StringMatch(matcher), false),
        None => (HeaderMatchSpecifier::PresentMatch(true), true),
    };
    HeaderMatcher {
        name: name.to_ascii_lowercase(),
        invert_match: inverted,
        treat_missing_header_as_empty: inverted && !present,
        header_match_specifier: Some(specifier),
    }
}

fn query(name: &str, rule: &StringMatch) -> QueryParameterMatcher {
    let specifier = match string_matcher(rule) {
        Some(matcher) => QueryParameterMatchSpecifier::StringMatch(matcher),
        None => QueryParameterMatchSpecifier::PresentMatch(true),
    };
    QueryParameterMatcher { name: name.to_owned(), query_parameter_match_specifier: Some(specifier) }
}

/// Where a claim is found in the token, if the header's name means one.
fn claim_path(name: &str) -> Option<Vec<String>> {
    let rest = name.strip_prefix(CLAIMS)?;
    let parts: Vec<String> = match rest.strip_prefix('.') {
        Some(dotted) => dotted.split('.').map(str::to_owned).collect(),
        None => rest.strip_prefix('[')?.strip_suffix(']')?.split("][").map(str::to_owned).collect(),
    };
    parts.iter().all(|part| !part.is_empty()).then_some(parts)
}

/// A claim that equals the value, or is a list with the value in it.
fn claim(path: &[String], rule: &StringMatch, inverted: bool) -> MetadataMatcher {
    let value = match string_matcher(rule) {
        None => ValueMatcher { match_pattern: Some(value_matcher::MatchPattern::PresentMatch(true)) },
        Some(matcher) => {
            let one = ValueMatcher { match_pattern: Some(value_matcher::MatchPattern::StringMatch(matcher)) };
            let listed =
                ListMatcher { match_pattern: Some(list_matcher::MatchPattern::OneOf(Box::new(one.clone()))) };
            let listed = ValueMatcher {
                match_pattern: Some(value_matcher::MatchPattern::ListMatch(Box::new(listed))),
            };
            let either = OrMatcher { value_matchers: vec![one, listed] };
            ValueMatcher { match_pattern: Some(value_matcher::MatchPattern::OrMatch(either)) }
        }
    };
    let segment = |key: &str| PathSegment { segment: Some(path_segment::Segment::Key(key.to_owned())) };
    MetadataMatcher {
        filter: JWT_FILTER.to_owned(),
        path: std::iter::once("payload").chain(path.iter().map(String::as_str)).map(segment).collect(),
        value: Some(value),
        invert: inverted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(text: &str) -> StringMatch {
        StringMatch::Exact(text.into())
    }

    #[test]
    fn no_conditions_match_everything() {
        assert!(is_catch_all(&route_match(None)));
        assert!(is_catch_all(&route_match(Some(&HttpMatchRequest::default()))));
    }

    #[test]
    fn any_condition_beside_the_path_ends_a_catch_all() {
        let slash = HttpMatchRequest { uri: Some(StringMatch::Prefix("/".into())), ..Default::default() };
        assert!(is_catch_all(&route_match(Some(&slash))));
        let method = HttpMatchRequest { method: Some(exact("GET")), ..slash.clone() };
        assert!(!is_catch_all(&route_match(Some(&method))));
        let mut query = slash.clone();
        query.query_params.insert("q".into(), StringMatch::Any);
        assert!(!is_catch_all(&route_match(Some(&query))));
        let mut claim = slash;
        claim.headers.insert("@request.auth.claims.group".into(), exact("admin"));
        assert!(!is_catch_all(&route_match(Some(&claim))));
    }

    #[test]
    fn headers_come_by_name_then_pseudo_headers() {
        let mut conditions = HttpMatchRequest {
            method: Some(exact("GET")),
            scheme: Some(exact("https")),
            authority: Some(StringMatch::Prefix("shop".into())),
            ..Default::default()
        };
        conditions.headers.insert("Z-Last".into(), exact("1"));
        conditions.without_headers.insert("a-first".into(), exact("2"));
        let names: Vec<String> = route_match(Some(&conditions)).headers.into_iter().map(|h| h.name).collect();
        assert_eq!(names, ["a-first", "z-last", ":method", ":authority", ":scheme"]);
    }

    #[test]
    fn without_a_header_includes_that_it_is_missing() {
        let compared = header("end-user", &exact("jason"), true);
        assert!(compared.invert_match && compared.treat_missing_header_as_empty);
        // "Without any x" is the plain absence of x; as an empty one it would be present.
        let present = header("x", &StringMatch::Any, true);
        assert!(present.invert_match && !present.treat_missing_header_as_empty);
        assert_eq!(present.header_match_specifier, Some(HeaderMatchSpecifier::PresentMatch(true)));
    }

    #[test]
    fn conditions_that_envoy_refuses_are_said_otherwise() {
        assert_eq!(string_matcher(&StringMatch::Prefix(String::new())), None);
        for anything in [".*", "*"] {
            assert_eq!(string_matcher(&StringMatch::Regex(anything.into())), None, "{anything}");
        }
        let empty = string_matcher(&StringMatch::Regex(String::new())).unwrap();
        assert_eq!(empty.match_pattern, Some(MatchPattern::Exact(String::new())));
    }

    #[test]
    fn claims_are_found_by_both_spellings() {
        let both = ["@request.auth.claims.realm.group", "@request.auth.claims[realm][group]"];
        for name in both {
            assert_eq!(claim_path(name).unwrap(), ["realm", "group"], "{name}");
        }
        assert_eq!(claim_path("@request.auth.claims[a.b]").unwrap(), ["a.b"]);
        for name in ["x-user", "@request.auth.claims", "@request.auth.claims.", "@request.auth.claims[a"] {
            assert_eq!(claim_path(name), None, "{name}");
        }
    }
}
