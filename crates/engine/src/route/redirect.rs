//! Where a client is sent instead.

use envoy_types::pb::envoy::config::route::v3::RedirectAction as Proto;
use envoy_types::pb::envoy::config::route::v3::redirect_action::{
    PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier,
};
use http::StatusCode;

use super::rewrite::{PathRewrite, rewriter};
use crate::proto::{enumeration, header_value};
use crate::refusal::Within;
use crate::{Refusal, Request, StreamInfo};

/// A request is answered with a redirect.
#[derive(Clone, Debug)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
    scheme: Option<Box<str>>,
    host: Option<Box<str>>,
    port: Option<u16>,
    path: Path,
    strips_query: bool,
}

#[derive(Clone, Debug)]
enum Path {
    /// It becomes this; its query, if it has one, too.
    Literal(Box<str>),
    Rewritten(PathRewrite),
}

impl Redirect {
    pub(super) fn compile(proto: &Proto) -> Result<Redirect, Refusal> {
        let Proto {
            host_redirect,
            port_redirect,
            response_code,
            strip_query,
            scheme_rewrite_specifier,
            path_rewrite_specifier,
        } = proto;
        let status = match enumeration(*response_code, "response_code")? {
            RedirectResponseCode::MovedPermanently => StatusCode::MOVED_PERMANENTLY,
            RedirectResponseCode::Found => StatusCode::FOUND,
            RedirectResponseCode::SeeOther => StatusCode::SEE_OTHER,
            RedirectResponseCode::TemporaryRedirect => StatusCode::TEMPORARY_REDIRECT,
            RedirectResponseCode::PermanentRedirect => StatusCode::PERMANENT_REDIRECT,
        };
        let scheme = match scheme_rewrite_specifier {
            Some(SchemeRewriteSpecifier::HttpsRedirect(true)) => "https",
            Some(SchemeRewriteSpecifier::SchemeRedirect(scheme)) => scheme,
            Some(SchemeRewriteSpecifier::HttpsRedirect(false)) | None => "",
        };
        let port = u16::try_from(*port_redirect).map_err(|_| Refusal::invalid("port_redirect"))?;
        header_value(scheme, "scheme_redirect")?;
        header_value(host_redirect, "host_redirect")?;
        let text = |text: &str| Some(text).filter(|text| !text.is_empty()).map(Box::from);
        Ok(Redirect {
            status,
            scheme: text(scheme),
            host: text(host_redirect),
            port: Some(port).filter(|port| *port != 0),
            path: Path::compile(path_rewrite_specifier.as_ref())?,
            strips_query: *strip_query,
        })
    }

    /// Where a request is sent; its route matched so many bytes of its path.
    pub fn location(&self, request: &Request, matched: usize, info: &StreamInfo) -> Vec<u8> {
        let scheme = self.scheme.as_deref().unwrap_or_else(|| request.scheme.as_str());
        let host = self.host.as_ref().map(|host| host.as_bytes());
        let host = host.unwrap_or_else(|| self.host_of(request, scheme));
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        let mut location = [scheme.as_bytes(), b"://", host, port.as_bytes()].concat();
        let path = self.path_of(request, matched, info);
        if !path.starts_with(b"/") {
            location.push(b'/');
        }
        location.extend_from_slice(&path);
        location
    }

    /// The request's host: without its port if another takes its place, or if it goes without saying for the scheme left.
    fn host_of<'a>(&self, request: &'a Request, scheme: &str) -> &'a [u8] {
        let host = request.authority.as_bytes();
        let colon = memchr::memrchr(b':', host);
        let is_port = |colon: &usize| memchr::memrchr(b']', host).is_none_or(|bracket| bracket < *colon);
        let Some(colon) = colon.filter(is_port) else { return host };
        let (name, port) = host.split_at(colon);
        let left = request.scheme.as_str();
        let goes_without_saying =
            left != scheme && matches!((left, port), ("https", b":443") | ("http", b":80"));
        if self.port.is_some() || goes_without_saying { name } else { host }
    }

    fn path_of(&self, request: &Request, matched: usize, info: &StreamInfo) -> Vec<u8> {
        let whole = request.path.as_bytes();
        let query = |path: &[u8]| memchr::memchr(b'?', path).unwrap_or(path.len());
        let mut path = match &self.path {
            Path::Literal(text) if text.contains('?') => return text.as_bytes().to_vec(),
            Path::Literal(text) => [text.as_bytes(), whole.get(query(whole)..).unwrap_or_default()].concat(),
            Path::Rewritten(rewrite) => rewrite.of(request, matched, info).unwrap_or_else(|| whole.to_vec()),
        };
        if self.strips_query {
            path.truncate(query(&path));
        }
        path
    }
}

impl Path {
    fn compile(specifier: Option<&PathRewriteSpecifier>) -> Result<Path, Refusal> {
        Ok(match specifier {
            Some(PathRewriteSpecifier::PathRedirect(path)) if !path.is_empty() => {
                header_value(path, "path_redirect")?;
                Path::Literal(path.as_str().into())
            }
            Some(PathRewriteSpecifier::PrefixRewrite(prefix)) if !prefix.is_empty() => {
                Path::Rewritten(PathRewrite::prefix(prefix)?)
            }
            Some(PathRewriteSpecifier::RegexRewrite(regex)) => {
                let regex = rewriter(regex).within(|| "regex_rewrite".to_owned())?;
                Path::Rewritten(PathRewrite::Regex(Box::new(regex)))
            }
            Some(PathRewriteSpecifier::PathRewrite(path)) if !path.is_empty() => {
                Path::Rewritten(PathRewrite::whole(path)?)
            }
            _ => Path::Rewritten(PathRewrite::None),
        })
    }
}
