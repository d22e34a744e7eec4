//! Which requests a route is for: path, headers, query, and a share of what is left.

use envoy_types::pb::envoy::config::route::v3::query_parameter_matcher::QueryParameterMatchSpecifier;
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::config::route::v3::{QueryParameterMatcher, RouteMatch as Proto};

use http::Method;

use crate::header_condition::HeaderCondition;
use crate::refusal::Within;
use crate::{Fraction, Refusal, Request, TextMatcher};

/// Conditions of a route, all of which must hold.
#[derive(Clone, Debug)]
pub struct RouteMatch {
    path: Path,
    headers: Vec<HeaderCondition>,
    query: Vec<(Box<[u8]>, Query)>,
    is_grpc: bool,
    share: Option<Fraction>,
}

#[derive(Clone, Debug)]
enum Path {
    /// Prefix, whole path or pattern, against the path without query.
    Text(TextMatcher),
    /// `/a` matches `/a` and `/a/b`, not `/ab`. The literal's length goes with it.
    Segments(TextMatcher, usize),
    /// The method `CONNECT`.
    Connect,
}

#[derive(Clone, Debug)]
enum Query {
    Present(bool),
    Value(TextMatcher),
}

impl RouteMatch {
    pub(super) fn compile(proto: &Proto) -> Result<RouteMatch, Refusal> {
        let Proto {
            case_sensitive,
            runtime_fraction,
            headers,
            query_parameters,
            cookies,
            grpc,
            tls_context,
            dynamic_metadata,
            filter_state,
            path_specifier,
        } = proto;
        refuse_if_set!(cookies, tls_context, dynamic_metadata, filter_state);
        let ignores_case = case_sensitive.as_ref().is_some_and(|c| !c.value);
        let path = path_specifier.as_ref().ok_or_else(|| Refusal::invalid("no path"))?;
        let headers = headers
            .iter()
            .map(|h| HeaderCondition::compile(h).within(|| format!("header {}", h.name)))
            .collect::<Result<_, _>>()?;
        Ok(RouteMatch {
            path: Path::compile(path, ignores_case)?,
            headers,
            query: query_parameters.iter().map(query).collect::<Result<_, _>>()?,
            is_grpc: grpc.is_some(),
            share: runtime_fraction.as_ref().map(Fraction::of_runtime).transpose()?,
        })
    }

    /// Do the conditions hold for a request with this random number?
    pub fn hold(&self, request: &Request, random: u64) -> bool {
        self.path.holds(request)
            && self.share.is_none_or(|share| share.holds(random))
            && (!self.is_grpc || request.is_grpc())
            && self.headers.iter().all(|h| h.holds(request))
            && self.query.iter().all(|(name, condition)| condition.holds(request.query(name)))
    }
}

impl RouteMatch {
    /// How many bytes of a request's path are what the route matches; the rest stays when a prefix is rewritten.
    pub fn matched(&self, request: &Request) -> usize {
        match &self.path {
            Path::Text(text) => text.prefix_len().unwrap_or(request.bare_path().len()),
            Path::Segments(_, length) => *length,
            Path::Connect => request.bare_path().len(),
        }
    }
}

impl Path {
    fn compile(specifier: &PathSpecifier, ignores_case: bool) -> Result<Path, Refusal> {
        Ok(match specifier {
            PathSpecifier::Prefix(text) => Path::Text(TextMatcher::prefix(text, ignores_case)),
            PathSpecifier::Path(text) => Path::Text(TextMatcher::exact(text, ignores_case)),
            // Case sensitivity is the pattern's own affair.
            PathSpecifier::SafeRegex(pattern) => {
                Path::Text(TextMatcher::regex(pattern).within(|| "safe_regex".to_owned())?)
            }
            PathSpecifier::PathSeparatedPrefix(text) => {
                if text.len() < 2 || text.contains(['?', '#']) || text.ends_with('/') {
                    return Err(Refusal::invalid(format!("path_separated_prefix {text:?}")));
                }
                Path::Segments(TextMatcher::prefix(text, ignores_case), text.len())
            }
            PathSpecifier::ConnectMatcher(_) => Path::Connect,
            PathSpecifier::PathMatchPolicy(_) => return Err(Refusal::unsupported("path_match_policy")),
        })
    }

    fn holds(&self, request: &Request) -> bool {
        let path = request.bare_path();
        match self {
            // A CONNECT without a path is for connect matchers only.
            Path::Text(_) | Path::Segments(..) if request.path.is_empty() => false,
            Path::Text(text) => text.matches(path),
            Path::Segments(text, length) => {
                text.matches(path) && matches!(path.get(*length), None | Some(b'/'))
            }
            Path::Connect => request.method == Method::CONNECT,
        }
    }
}

impl Query {
    fn holds(&self, value: Option<&[u8]>) -> bool {
        match self {
            Query::Present(wanted) => value.is_some() == *wanted,
            Query::Value(text) => value.is_some_and(|v| text.matches(v)),
        }
    }
}

fn query(proto: &QueryParameterMatcher) -> Result<(Box<[u8]>, Query), Refusal> {
    let QueryParameterMatcher { name, query_parameter_match_specifier } = proto;
    let condition = match query_parameter_match_specifier {
        Some(QueryParameterMatchSpecifier::StringMatch(text)) => {
            Query::Value(TextMatcher::compile(text).within(|| format!("query parameter {name}"))?)
        }
        Some(QueryParameterMatchSpecifier::PresentMatch(wanted)) => Query::Present(*wanted),
        None => Query::Present(true),
    };
    Ok((name.as_bytes().into(), condition))
}
