//! What a label of people's own says: of the expressions that Istio takes (CEL), texts and paths of attributes.
//!
//! Whatever does more, an operator or a call, is refused by name. An attribute that is not there has the value `unknown`, as in Istio.

use std::fmt::Write as _;

use http::{HeaderName, HeaderValue};

use super::Peer;
use crate::{Headers, Refusal, RequestField, StreamView};

const UNKNOWN: &str = "unknown";
/// Longest value that is told, in bytes; the rest of a longer one is cut off.
const VALUE_BYTES_MAX: usize = 256;

/// An expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute(Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Text(Box<str>),
    Method,
    Host,
    Path,
    UrlPath,
    Scheme,
    Protocol,
    RequestHeader(RequestField),
    ResponseHeader(HeaderName),
    ResponseTrailer(HeaderName),
    Code,
    CodeDetails,
    GrpcStatus,
    Flags,
    RouteName,
    ClusterName,
    UpstreamAddress,
    SourceAddress,
    DestinationAddress,
    DestinationPort,
    ServerName,
    Peer { is_upstream: bool, field: PeerField },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum PeerField {
    Namespace,
    Cluster,
    Service,
    Revision,
    App,
    Version,
    Workload,
    Kind,
    Name,
    Identity,
    Region,
    Zone,
    Label(Box<str>),
}

/// What attributes are read from.
#[derive(Clone, Copy)]
pub struct AttributeSource<'a> {
    /// The stream.
    pub stream: StreamView<'a>,
    /// Its client.
    pub downstream: Option<&'a Peer>,
    /// Its server.
    pub upstream: Option<&'a Peer>,
}

impl Attribute {
    /// Reads an expression.
    pub(crate) fn parse(expression: &str) -> Result<Attribute, Refusal> {
        let trimmed = expression.trim();
        let refused = || Refusal::unsupported(format!("expression {expression:?}"));
        if let Some(text) = literal(trimmed) {
            return Ok(Attribute(Kind::Text(text.into())));
        }
        let (path, key) = match trimmed.split_once('[') {
            None => (trimmed, None),
            Some((path, rest)) => {
                let key = rest.strip_suffix(']').map(str::trim).and_then(literal).ok_or_else(refused)?;
                (path, Some(key))
            }
        };
        Kind::of(path, key).map(Attribute).ok_or_else(refused)
    }

    /// Appends the value.
    pub fn write(&self, from: AttributeSource<'_>, out: &mut String) {
        let begin = out.len();
        let found = self.0.write(from, out);
        if found.is_none() {
            out.truncate(begin);
            out.push_str(UNKNOWN);
        }
        if out.len() - begin > VALUE_BYTES_MAX {
            let mut end = begin + VALUE_BYTES_MAX;
            while !out.is_char_boundary(end) {
                end -= 1;
            }
            out.truncate(end);
        }
    }
}

/// The text between quotes; nothing with quotes or escapes within.
fn literal(text: &str) -> Option<&str> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let inner = text.get(1..)?.strip_suffix(quote)?;
    (!inner.contains([quote, '\\'])).then_some(inner)
}

impl Kind {
    fn of(path: &str, key: Option<&str>) -> Option<Kind> {
        let header = |key: Option<&str>| HeaderName::from_bytes(key?.to_ascii_lowercase().as_bytes()).ok();
        Some(match (path, key) {
            ("request.headers", Some(key)) => Kind::RequestHeader(RequestField::parse(key)),
            ("response.headers", key) => Kind::ResponseHeader(header(key)?),
            ("response.trailers", key) => Kind::ResponseTrailer(header(key)?),
            ("request.method", None) => Kind::Method,
            ("request.host", None) => Kind::Host,
            ("request.path", None) => Kind::Path,
            ("request.url_path", None) => Kind::UrlPath,
            ("request.scheme", None) => Kind::Scheme,
            ("request.protocol", None) => Kind::Protocol,
            ("request.useragent", None) => Kind::RequestHeader(RequestField::parse("user-agent")),
            ("request.referer", None) => Kind::RequestHeader(RequestField::parse("referer")),
            ("request.id", None) => Kind::RequestHeader(RequestField::parse("x-request-id")),
            ("response.code", None) => Kind::Code,
            ("response.code_details", None) => Kind::CodeDetails,
            ("response.grpc_status", None) => Kind::GrpcStatus,
            ("response.flags", None) => Kind::Flags,
            ("xds.route_name" | "route_name", None) => Kind::RouteName,
            ("xds.cluster_name" | "cluster_name", None) => Kind::ClusterName,
            ("upstream.address", None) => Kind::UpstreamAddress,
            ("source.address", None) => Kind::SourceAddress,
            ("destination.address", None) => Kind::DestinationAddress,
            ("destination.port", None) => Kind::DestinationPort,
            ("connection.requested_server_name", None) => Kind::ServerName,
            (path, key) => {
                let path = path.strip_prefix("filter_state.").unwrap_or(path);
                let (peer, field) = path.split_once('.')?;
                let is_upstream = match peer {
                    "upstream_peer" => true,
                    "downstream_peer" => false,
                    _ => return None,
                };
                Kind::Peer { is_upstream, field: PeerField::of(field, key)? }
            }
        })
    }

    fn write(&self, from: AttributeSource<'_>, out: &mut String) -> Option<()> {
        let AttributeSource { stream, downstream, upstream } = from;
        let info = stream.info;
        match self {
            Kind::Text(text) => out.push_str(text),
            Kind::Method => out.push_str(stream.request?.method.as_str()),
            Kind::Host => out.push_str(stream.request?.host()),
            Kind::Path => out.push_str(stream.request?.path.to_str().ok()?),
            Kind::UrlPath => out.push_str(std::str::from_utf8(stream.request?.bare_path()).ok()?),
            Kind::Scheme => out.push_str(stream.request?.scheme.as_str()),
            Kind::Protocol => out.push_str(info.protocol?.as_str()),
            Kind::RequestHeader(field) => {
                let value = stream.request?.values(field).next()?;
                out.push_str(std::str::from_utf8(value).ok()?);
            }
            Kind::ResponseHeader(name) => out.push_str(header(stream.response, name)?),
            Kind::ResponseTrailer(name) => out.push_str(header(stream.trailers, name)?),
            Kind::Code => number(info.status?.as_u16(), out),
            Kind::CodeDetails => out.push_str(info.details.as_deref()?),
            Kind::GrpcStatus => {
                let said = |headers: Option<&Headers>| headers.and_then(crate::grpc::status);
                let status = said(stream.trailers).or_else(|| said(stream.response));
                number(status.or_else(|| Some(crate::grpc::status_of_http(info.status?)))?, out);
            }
            Kind::Flags => number(info.flags.bits(), out),
            Kind::RouteName => out.push_str(info.route.as_deref()?),
            Kind::ClusterName => out.push_str(info.cluster.as_deref()?),
            Kind::UpstreamAddress => out.push_str(info.upstream_host.as_deref()?),
            Kind::SourceAddress => number(info.remote.unwrap_or(info.connection.remote), out),
            Kind::DestinationAddress => number(info.connection.local, out),
            Kind::DestinationPort => number(info.connection.local.port(), out),
            Kind::ServerName => out.push_str(info.connection.server_name.as_deref()?),
            Kind::Peer { is_upstream, field } => {
                let peer = if *is_upstream { upstream } else { downstream };
                out.push_str(field.of_peer(peer?).filter(|value| !value.is_empty())?);
            }
        }
        Some(())
    }
}

fn header<'h>(headers: Option<&'h Headers>, name: &HeaderName) -> Option<&'h str> {
    headers?.get(name).map(HeaderValue::as_bytes).and_then(|bytes| std::str::from_utf8(bytes).ok())
}

fn number(number: impl std::fmt::Display, out: &mut String) {
    // Writing to memory does not fail.
    let _ = write!(out, "{number}");
}

impl PeerField {
    fn of(name: &str, key: Option<&str>) -> Option<PeerField> {
        Some(match (name, key) {
            ("namespace", None) => PeerField::Namespace,
            ("cluster", None) => PeerField::Cluster,
            ("service", None) => PeerField::Service,
            ("revision", None) => PeerField::Revision,
            ("app", None) => PeerField::App,
            ("version", None) => PeerField::Version,
            ("workload", None) => PeerField::Workload,
            ("type", None) => PeerField::Kind,
            ("name", None) => PeerField::Name,
            ("identity", None) => PeerField::Identity,
            ("region", None) => PeerField::Region,
            ("availability_zone", None) => PeerField::Zone,
            ("labels", Some(key)) => PeerField::Label(key.into()),
            _ => return None,
        })
    }

    fn of_peer<'p>(&self, peer: &'p Peer) -> Option<&'p str> {
        Some(match self {
            PeerField::Namespace => &peer.namespace,
            PeerField::Cluster => &peer.cluster,
            PeerField::Service => &peer.canonical_name,
            PeerField::Revision => &peer.canonical_revision,
            PeerField::App => &peer.app,
            PeerField::Version => &peer.version,
            PeerField::Workload => &peer.workload,
            PeerField::Kind => peer.kind.as_str()?,
            PeerField::Name => &peer.name,
            PeerField::Identity => &peer.identity,
            PeerField::Region => &peer.region,
            PeerField::Zone => &peer.zone,
            PeerField::Label(key) => {
                peer.labels.iter().find(|(name, _)| name == key).map(|(_, value)| &**value)?
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ConnectionInfo, Request, StreamInfo};
    use std::sync::Arc;
    use std::time::Duration;

    fn info() -> StreamInfo {
        let address = "10.0.0.1:80".parse().unwrap();
        let connection = ConnectionInfo {
            id: 1,
            local: address,
            remote: address,
            direct_remote: address,
            server_name: None,
            is_restored: false,
        };
        let mut info = StreamInfo::new(Arc::new(connection), Duration::ZERO, None);
        info.status = Some(http::StatusCode::NOT_FOUND);
        info
    }

    fn value(expression: &str) -> String {
        let mut request = Request::new(
            http::Method::GET,
            HeaderValue::from_static("shop"),
            HeaderValue::from_static("/a/b?c=d"),
        );
        request.headers.append(HeaderName::from_static("x-team"), HeaderValue::from_static("red"));
        let info = info();
        let peer =
            Peer { workload: "w".into(), labels: vec![("role".into(), "front".into())], ..Peer::default() };
        let stream = StreamView { info: &info, request: Some(&request), response: None, trailers: None };
        let source = AttributeSource { stream, downstream: Some(&peer), upstream: None };
        let mut out = String::new();
        Attribute::parse(expression).unwrap().write(source, &mut out);
        out
    }

    #[test]
    fn attributes_have_values_and_what_is_not_there_is_unknown() {
        for (expression, wanted) in [
            ("'fixed'", "fixed"),
            ("\"fixed\"", "fixed"),
            ("request.host", "shop"),
            ("request.url_path", "/a/b"),
            ("request.path", "/a/b?c=d"),
            (" request.headers['X-Team'] ", "red"),
            ("request.headers[':method']", "GET"),
            ("request.headers['x-none']", "unknown"),
            ("response.headers['x-none']", "unknown"),
            ("response.code", "404"),
            ("destination.port", "80"),
            ("source.address", "10.0.0.1:80"),
            ("downstream_peer.workload", "w"),
            ("filter_state.downstream_peer.labels['role']", "front"),
            ("upstream_peer.workload", "unknown"),
        ] {
            assert_eq!(value(expression), wanted, "{expression}");
        }
    }

    #[test]
    fn expressions_that_do_more_are_refused_by_name() {
        for wrong in [
            "request.host + 'x'",
            "has(request.headers['a']) ? 'b' : 'c'",
            "string(response.code)",
            "request.headers['a'] | 'b'",
            "request.unheard",
            "request.headers",
            "'it\\'s'",
            "",
        ] {
            let refusal = Attribute::parse(wrong).unwrap_err().to_string();
            assert_eq!(refusal, format!("not supported: expression {wrong:?}"));
        }
    }
}
