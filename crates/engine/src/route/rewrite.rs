//! How the path and the host of a request are rewritten on its way upstream.

use envoy_types::pb::envoy::config::route::v3::RouteAction;
use envoy_types::pb::envoy::config::route::v3::route_action::HostRewriteSpecifier;
use envoy_types::pb::envoy::r#type::matcher::v3::RegexMatchAndSubstitute;
use http::HeaderValue;

use crate::format::{Format, Missing};
use crate::names::{X_ENVOY_ORIGINAL_HOST, X_ENVOY_ORIGINAL_PATH, X_FORWARDED_HOST};
use crate::proto::header_value;
use crate::refusal::{Reason, Within};
use crate::regex::{RewriteError, Rewriter};
use crate::{Refusal, Request, RequestField, StreamInfo, StreamView};

/// How a path is rewritten; the query stays.
#[derive(Clone, Debug, Default)]
pub(super) enum PathRewrite {
    /// Not at all.
    #[default]
    None,
    /// What the route matched becomes this.
    Prefix(Box<str>),
    /// Every match of a pattern is replaced.
    Regex(Box<Rewriter>),
    /// The whole path becomes this.
    Whole(Box<Format>),
}

/// How a host is rewritten.
#[derive(Clone, Debug, Default)]
pub(super) enum HostRewrite {
    /// Not at all.
    #[default]
    None,
    /// It becomes this.
    Literal(HeaderValue),
    /// It becomes the name of the host that is chosen.
    Auto,
    /// It becomes the first value of a header.
    Header(RequestField),
    /// It becomes the path with every match of a pattern replaced.
    PathRegex(Box<Rewriter>),
    /// It becomes this.
    Format(Box<Format>),
}

/// Compiles a pattern with its substitution.
pub(super) fn rewriter(proto: &RegexMatchAndSubstitute) -> Result<Rewriter, Refusal> {
    let RegexMatchAndSubstitute { pattern, substitution } = proto;
    let pattern = pattern.as_ref().ok_or_else(|| Refusal::invalid("no pattern"))?;
    Rewriter::compile(&pattern.regex, substitution).map_err(|error| match error {
        RewriteError::Pattern(error) => Reason::Pattern { pattern: pattern.regex.clone(), error }.into(),
        other => Refusal::invalid(format!("substitution {substitution:?}: {other}")),
    })
}

impl PathRewrite {
    pub(super) fn compile(proto: &RouteAction) -> Result<PathRewrite, Refusal> {
        let RouteAction { prefix_rewrite, regex_rewrite, path_rewrite, .. } = proto;
        let regex = regex_rewrite.as_ref().map(rewriter).transpose().within(|| "regex_rewrite".to_owned())?;
        match (prefix_rewrite.as_str(), regex, path_rewrite.as_str()) {
            ("", None, "") => Ok(PathRewrite::None),
            (prefix, None, "") => PathRewrite::prefix(prefix),
            ("", Some(regex), "") => Ok(PathRewrite::Regex(Box::new(regex))),
            ("", None, path) => PathRewrite::whole(path),
            _ => Err(Refusal::invalid("more than one of prefix_rewrite, regex_rewrite and path_rewrite")),
        }
    }

    pub(super) fn prefix(text: &str) -> Result<PathRewrite, Refusal> {
        header_value(text, "prefix_rewrite")?;
        Ok(PathRewrite::Prefix(text.into()))
    }

    pub(super) fn whole(text: &str) -> Result<PathRewrite, Refusal> {
        let format = Format::compile(text).within(|| "path_rewrite".to_owned())?;
        Ok(PathRewrite::Whole(Box::new(format)))
    }

    /// The path with its query after the rewrite, if there is any. The route matched so many bytes of the path.
    pub(super) fn of(&self, request: &Request, matched: usize, info: &StreamInfo) -> Option<Vec<u8>> {
        let whole = request.path.as_bytes();
        let path = request.bare_path();
        let rest = |from: usize| whole.get(from..).unwrap_or_default();
        let (mut rewritten, rest) = match self {
            PathRewrite::None => return None,
            PathRewrite::Prefix(text) => (text.as_bytes().to_vec(), rest(matched)),
            PathRewrite::Regex(rewriter) => (rewriter.replace_all(path), rest(path.len())),
            PathRewrite::Whole(format) => (filled(format, request, info, Missing::Empty), rest(path.len())),
        };
        if rewritten.is_empty() {
            return None;
        }
        rewritten.extend_from_slice(rest);
        Some(rewritten)
    }

    /// Rewrites a request's path.
    pub(super) fn apply(&self, request: &mut Request, matched: usize, info: &StreamInfo, tells: bool) {
        let Some(path) = self.of(request, matched, info) else { return };
        let Ok(path) = HeaderValue::from_maybe_shared(bytes::Bytes::from(path)) else { return };
        let original = std::mem::replace(&mut request.path, path);
        if tells {
            request.headers.set(X_ENVOY_ORIGINAL_PATH, original);
        }
    }
}

impl HostRewrite {
    pub(super) fn compile(specifier: Option<&HostRewriteSpecifier>) -> Result<HostRewrite, Refusal> {
        Ok(match specifier {
            None => HostRewrite::None,
            Some(HostRewriteSpecifier::HostRewriteLiteral(host)) if host.is_empty() => HostRewrite::None,
            Some(HostRewriteSpecifier::HostRewriteLiteral(host)) => {
                HostRewrite::Literal(header_value(host, "host_rewrite_literal")?)
            }
            Some(HostRewriteSpecifier::AutoHostRewrite(auto)) if auto.value => HostRewrite::Auto,
            Some(HostRewriteSpecifier::AutoHostRewrite(_)) => HostRewrite::None,
            Some(HostRewriteSpecifier::HostRewriteHeader(name)) => {
                HostRewrite::Header(RequestField::parse(name))
            }
            Some(HostRewriteSpecifier::HostRewritePathRegex(regex)) => {
                let regex = rewriter(regex).within(|| "host_rewrite_path_regex".to_owned())?;
                HostRewrite::PathRegex(Box::new(regex))
            }
            Some(HostRewriteSpecifier::HostRewrite(text)) => {
                let format = Format::compile(text).within(|| "host_rewrite".to_owned())?;
                HostRewrite::Format(Box::new(format))
            }
        })
    }

    /// Rewrites a request's host, unless that has to wait for the upstream's name.
    pub(super) fn apply(&self, request: &mut Request, info: &StreamInfo, appends: bool, tells: bool) {
        let host = match self {
            HostRewrite::None | HostRewrite::Auto => None,
            HostRewrite::Literal(host) => Some(host.clone()),
            HostRewrite::Header(field) => {
                request.values(field).next().and_then(|value| HeaderValue::from_bytes(value).ok())
            }
            HostRewrite::PathRegex(rewriter) => value(rewriter.replace_all(request.bare_path())),
            // Unlike in a path, what is missing is a dash: Envoy 1.40's difference, not its documentation's.
            HostRewrite::Format(format) => value(filled(format, request, info, Missing::Dash)),
        };
        if let Some(host) = host.filter(|host| !host.is_empty()) {
            set_host(request, host, appends, tells);
        }
    }
}

/// Gives a request another host; the one it had is added to `x-forwarded-host` if it `appends`, and told upstream if it
/// `tells`.
pub(super) fn set_host(request: &mut Request, host: HeaderValue, appends: bool, tells: bool) {
    let original = std::mem::replace(&mut request.authority, host);
    if original.is_empty() {
        return;
    }
    if appends {
        append_forwarded_host(request, &original);
    }
    if tells {
        request.headers.set(X_ENVOY_ORIGINAL_HOST, original);
    }
}

/// Adds a host to `x-forwarded-host`, unless it is the last there.
fn append_forwarded_host(request: &mut Request, host: &HeaderValue) {
    let name = X_FORWARDED_HOST;
    let mut list = Vec::new();
    for before in request.headers.get_all(&name) {
        list.extend_from_slice(before.as_bytes());
        list.push(b',');
    }
    let last = list.split(|byte| *byte == b',').rfind(|entry| !entry.is_empty());
    if last == Some(host.as_bytes()) {
        return;
    }
    list.extend_from_slice(host.as_bytes());
    if let Some(list) = value(list) {
        request.headers.set(name, list);
    }
}

fn filled(format: &Format, request: &Request, info: &StreamInfo, missing: Missing) -> Vec<u8> {
    let mut text = Vec::new();
    let stream = StreamView { info, request: Some(request), response: None, trailers: None };
    format.write(stream, missing, &mut text);
    text
}

fn value(bytes: Vec<u8>) -> Option<HeaderValue> {
    HeaderValue::from_maybe_shared(bytes::Bytes::from(bytes)).ok()
}
