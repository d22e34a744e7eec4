//! What may fill a hole.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::{HeaderName, HeaderValue, header};

use super::digits;
use super::time::TimeFormat;
use crate::{Headers, Request, RequestField, StreamInfo, StreamView, is_grpc};

/// What fills a hole.
#[derive(Clone, Debug)]
pub(super) enum Operator {
    /// The first of these fields that the request has, at most so many bytes of it.
    Request {
        names: Box<[RequestField]>,
        length: Option<usize>,
        without_query: bool,
    },
    Response {
        names: Box<[HeaderName]>,
        length: Option<usize>,
    },
    Trailer {
        names: Box<[HeaderName]>,
        length: Option<usize>,
    },
    StartTime(TimeFormat),
    /// The body of a reply that the proxy makes itself.
    LocalReplyBody,
    /// Never anything.
    Absent,
    Simple(Simple),
}

/// Declares every operator without an argument once: the variant, its names, whether it is a number.
macro_rules! simple {
    ($($variant:ident = $($name:literal)|+, $is_number:literal;)*) => {
        /// Operators without an argument.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Simple { $($variant,)* }

        impl Operator {
            /// The operator of this name that takes no argument.
            pub(super) fn simple(name: &str) -> Option<Operator> {
                match name {
                    $($($name)|+ => Some(Operator::Simple(Simple::$variant)),)*
                    _ => None,
                }
            }
        }

        impl Simple {
            fn is_number(self) -> bool {
                match self { $(Simple::$variant => $is_number,)* }
            }
        }
    };
}

simple! {
    Protocol = "PROTOCOL", false;
    ResponseCode = "RESPONSE_CODE", true;
    ResponseCodeDetails = "RESPONSE_CODE_DETAILS", false;
    ConnectionTerminationDetails = "CONNECTION_TERMINATION_DETAILS" | "DOWNSTREAM_LOCAL_CLOSE_REASON", false;
    ResponseFlags = "RESPONSE_FLAGS", false;
    ResponseFlagsLong = "RESPONSE_FLAGS_LONG", false;
    UpstreamTransportFailureReason = "UPSTREAM_TRANSPORT_FAILURE_REASON", false;
    BytesReceived = "BYTES_RECEIVED", true;
    BytesSent = "BYTES_SENT", true;
    HeaderBytesReceived = "DOWNSTREAM_HEADER_BYTES_RECEIVED", true;
    HeaderBytesSent = "DOWNSTREAM_HEADER_BYTES_SENT", true;
    WireBytesReceived = "DOWNSTREAM_WIRE_BYTES_RECEIVED", true;
    WireBytesSent = "DOWNSTREAM_WIRE_BYTES_SENT", true;
    RequestHeadersBytes = "REQUEST_HEADERS_BYTES", true;
    ResponseHeadersBytes = "RESPONSE_HEADERS_BYTES", true;
    ResponseTrailersBytes = "RESPONSE_TRAILERS_BYTES", true;
    UpstreamHeaderBytesSent = "UPSTREAM_HEADER_BYTES_SENT", true;
    UpstreamHeaderBytesReceived = "UPSTREAM_HEADER_BYTES_RECEIVED", true;
    UpstreamWireBytesSent = "UPSTREAM_WIRE_BYTES_SENT", true;
    UpstreamWireBytesReceived = "UPSTREAM_WIRE_BYTES_RECEIVED", true;
    Duration = "DURATION", true;
    RequestDuration = "REQUEST_DURATION", true;
    RequestTxDuration = "REQUEST_TX_DURATION", true;
    ResponseDuration = "RESPONSE_DURATION", true;
    ResponseTxDuration = "RESPONSE_TX_DURATION", true;
    UpstreamHost = "UPSTREAM_HOST" | "UPSTREAM_REMOTE_ADDRESS", false;
    UpstreamCluster = "UPSTREAM_CLUSTER" | "UPSTREAM_CLUSTER_RAW", false;
    UpstreamProtocol = "UPSTREAM_PROTOCOL", false;
    UpstreamLocal = "UPSTREAM_LOCAL_ADDRESS", false;
    UpstreamLocalIp = "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", false;
    UpstreamLocalPort = "UPSTREAM_LOCAL_PORT", true;
    Local = "DOWNSTREAM_LOCAL_ADDRESS", false;
    LocalIp = "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", false;
    LocalPort = "DOWNSTREAM_LOCAL_PORT", true;
    Remote = "DOWNSTREAM_REMOTE_ADDRESS", false;
    RemoteIp = "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", false;
    RemotePort = "DOWNSTREAM_REMOTE_PORT", true;
    DirectRemote = "DOWNSTREAM_DIRECT_REMOTE_ADDRESS", false;
    DirectRemoteIp = "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT", false;
    DirectRemotePort = "DOWNSTREAM_DIRECT_REMOTE_PORT", true;
    ConnectionId = "CONNECTION_ID", true;
    RequestedServerName = "REQUESTED_SERVER_NAME", false;
    RouteName = "ROUTE_NAME", false;
    FilterChainName = "FILTER_CHAIN_NAME", false;
    Attempts = "UPSTREAM_REQUEST_ATTEMPT_COUNT", true;
    GrpcStatus = "GRPC_STATUS", false;
    GrpcStatusNumber = "GRPC_STATUS_NUMBER", true;
    StreamId = "STREAM_ID", false;
    Hostname = "HOSTNAME", false;
    VirtualClusterName = "VIRTUAL_CLUSTER_NAME", false;
    TlsVersion = "DOWNSTREAM_TLS_VERSION", false;
    TlsCipher = "DOWNSTREAM_TLS_CIPHER", false;
    PeerUriSan = "DOWNSTREAM_PEER_URI_SAN", false;
    LocalUriSan = "DOWNSTREAM_LOCAL_URI_SAN", false;
    PeerSubject = "DOWNSTREAM_PEER_SUBJECT", false;
    LocalSubject = "DOWNSTREAM_LOCAL_SUBJECT", false;
    PeerIssuer = "DOWNSTREAM_PEER_ISSUER", false;
    PeerSerial = "DOWNSTREAM_PEER_SERIAL", false;
    PeerFingerprint = "DOWNSTREAM_PEER_FINGERPRINT_256", false;
    DownstreamTransportFailure = "DOWNSTREAM_TRANSPORT_FAILURE_REASON", false;
}

impl Operator {
    /// Whether what it writes is a number.
    pub(super) fn is_number(&self) -> bool {
        matches!(self, Operator::Simple(simple) if simple.is_number())
    }

    /// Adds the value to `out`; `false` if the stream has none.
    pub(super) fn write(&self, stream: StreamView<'_>, body: Option<&[u8]>, out: &mut Vec<u8>) -> bool {
        match self {
            Operator::Request { names, length, without_query } => {
                let Some(request) = stream.request else { return false };
                let value = names.iter().find_map(|name| request.value(name));
                value.is_some_and(|value| {
                    let end = match without_query {
                        true => memchr::memchr(b'?', value).unwrap_or(value.len()),
                        false => value.len(),
                    };
                    cut(value.get(..end).unwrap_or(value), *length, out)
                })
            }
            Operator::Response { names, length } => header(stream.response, names, *length, out),
            Operator::Trailer { names, length } => header(stream.trailers, names, *length, out),
            Operator::StartTime(format) => {
                format.write(stream.info.started, out);
                true
            }
            Operator::LocalReplyBody => {
                out.extend_from_slice(body.unwrap_or_default());
                body.is_some()
            }
            Operator::Absent => false,
            Operator::Simple(simple) => simple.write(stream, out),
        }
    }
}

impl Simple {
    fn write(self, stream: StreamView<'_>, out: &mut Vec<u8>) -> bool {
        let info = stream.info;
        let connection = &info.connection;
        let remote = info.remote.unwrap_or(connection.remote);
        match self {
            Simple::Protocol => text(info.protocol.map(|protocol| protocol.as_str()), out),
            Simple::ResponseCode => number(Some(info.status.map_or(0, |status| status.as_u16())), out),
            Simple::ResponseCodeDetails => text(info.details.as_deref(), out),
            Simple::ConnectionTerminationDetails => text(info.termination.as_deref(), out),
            Simple::ResponseFlags | Simple::ResponseFlagsLong if info.flags.is_empty() => {
                text(Some("-"), out)
            }
            Simple::ResponseFlags => display(Some(info.flags.short()), out),
            Simple::ResponseFlagsLong => display(Some(info.flags.long()), out),
            Simple::UpstreamTransportFailureReason => text(info.transport_failure.as_deref(), out),
            Simple::BytesReceived => number(Some(info.bytes_received), out),
            Simple::BytesSent => number(Some(info.bytes_sent), out),
            Simple::HeaderBytesReceived => number(Some(info.header_bytes_received), out),
            Simple::HeaderBytesSent => number(Some(info.header_bytes_sent), out),
            Simple::WireBytesReceived => number(Some(info.bytes_received + info.header_bytes_received), out),
            Simple::WireBytesSent => number(Some(info.bytes_sent + info.header_bytes_sent), out),
            Simple::RequestHeadersBytes => number(Some(request_bytes(stream)), out),
            Simple::ResponseHeadersBytes => number(Some(header_bytes(stream.response)), out),
            Simple::ResponseTrailersBytes => number(Some(header_bytes(stream.trailers)), out),
            Simple::UpstreamHeaderBytesSent => number(Some(sent_upstream(stream, 0)), out),
            Simple::UpstreamHeaderBytesReceived => number(Some(received_upstream(stream, 0)), out),
            Simple::UpstreamWireBytesSent => number(Some(sent_upstream(stream, info.bytes_received)), out),
            Simple::UpstreamWireBytesReceived => {
                number(Some(received_upstream(stream, info.bytes_sent)), out)
            }
            Simple::Duration => millis(info.ended, out),
            Simple::RequestDuration => millis(info.request_ended, out),
            Simple::RequestTxDuration => millis(info.upstream_began, out),
            Simple::ResponseDuration => millis(info.response_began, out),
            Simple::ResponseTxDuration => {
                millis(info.ended.zip(info.response_began).map(|(end, begin)| end.saturating_sub(begin)), out)
            }
            Simple::UpstreamHost => text(info.upstream_host.as_deref(), out),
            Simple::UpstreamCluster => text(info.cluster.as_deref(), out),
            Simple::UpstreamProtocol => text(info.upstream_protocol.map(|protocol| protocol.as_str()), out),
            Simple::UpstreamLocal => socket(info.upstream_local, out),
            Simple::UpstreamLocalIp => address(info.upstream_local.map(ip), out),
            Simple::UpstreamLocalPort => number(info.upstream_local.map(|at| at.port()), out),
            Simple::Local => socket(Some(connection.local), out),
            Simple::LocalIp => address(Some(ip(connection.local)), out),
            Simple::LocalPort => number(Some(connection.local.port()), out),
            Simple::Remote => socket(Some(remote), out),
            Simple::RemoteIp => address(Some(ip(remote)), out),
            Simple::RemotePort => number(Some(remote.port()), out),
            Simple::DirectRemote => socket(Some(connection.direct_remote), out),
            Simple::DirectRemoteIp => address(Some(ip(connection.direct_remote)), out),
            Simple::DirectRemotePort => number(Some(connection.direct_remote.port()), out),
            Simple::ConnectionId => number(Some(connection.id), out),
            Simple::RequestedServerName => text(connection.server_name.as_deref(), out),
            Simple::RouteName | Simple::FilterChainName => text(info.route.as_deref(), out),
            Simple::Attempts => number(Some(info.attempts), out),
            Simple::GrpcStatus => grpc_status(stream, info, out, true),
            Simple::GrpcStatusNumber => grpc_status(stream, info, out, false),
            Simple::StreamId
            | Simple::Hostname
            | Simple::VirtualClusterName
            | Simple::TlsVersion
            | Simple::TlsCipher
            | Simple::PeerUriSan
            | Simple::LocalUriSan
            | Simple::PeerSubject
            | Simple::LocalSubject
            | Simple::PeerIssuer
            | Simple::PeerSerial
            | Simple::PeerFingerprint
            | Simple::DownstreamTransportFailure => false,
        }
    }
}

fn header_bytes(headers: Option<&Headers>) -> u64 {
    headers.map_or(0, |headers| headers.wire_bytes() as u64)
}

/// Of a request's head, without what is between its parts.
fn request_bytes(stream: StreamView<'_>) -> u64 {
    let line = |request: &Request| {
        (request.method.as_str().len() + request.path.len() + request.authority.len()) as u64
    };
    stream.request.map_or(0, |request| line(request) + header_bytes(Some(&request.headers)))
}

/// What the upstream got: the head, if it got any, and the body.
fn sent_upstream(stream: StreamView<'_>, body: u64) -> u64 {
    if stream.info.upstream_protocol.is_some() { request_bytes(stream) + body } else { 0 }
}

/// What came from the upstream, alike.
fn received_upstream(stream: StreamView<'_>, body: u64) -> u64 {
    let has_answered = stream.info.upstream_protocol.is_some() && stream.info.response_began.is_some();
    if has_answered { header_bytes(stream.response) + body } else { 0 }
}

/// The number that a gRPC response says of itself, in its trailers or, if it has none, in its headers.
fn grpc_status(stream: StreamView<'_>, info: &StreamInfo, out: &mut Vec<u8>, by_name: bool) -> bool {
    let is_grpc =
        stream.request.is_some_and(|request| request.headers.get(&header::CONTENT_TYPE).is_some_and(is_grpc));
    if !is_grpc || info.status.is_none() {
        return false;
    }
    let name = HeaderName::from_static("grpc-status");
    let said =
        [stream.trailers, stream.response].into_iter().flatten().find_map(|headers| headers.get(&name));
    let Some(status) = said else { return false };
    let number = status.to_str().ok().and_then(|text| text.parse::<usize>().ok());
    match number.and_then(|number| GRPC_STATUSES.get(number)).filter(|_| by_name) {
        Some(name) => text(Some(name), out),
        None => cut(status.as_bytes(), None, out),
    }
}

/// Names by number, as Envoy writes them.
const GRPC_STATUSES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

fn ip(at: SocketAddr) -> IpAddr {
    at.ip()
}

fn header(headers: Option<&Headers>, names: &[HeaderName], length: Option<usize>, out: &mut Vec<u8>) -> bool {
    let Some(headers) = headers else { return false };
    let value = names.iter().find_map(|name| headers.get(name));
    value.map(HeaderValue::as_bytes).is_some_and(|value| cut(value, length, out))
}

fn cut(value: &[u8], length: Option<usize>, out: &mut Vec<u8>) -> bool {
    let end = length.map_or(value.len(), |length| length.min(value.len()));
    out.extend_from_slice(value.get(..end).unwrap_or(value));
    true
}

fn text(value: Option<&str>, out: &mut Vec<u8>) -> bool {
    let Some(value) = value.filter(|value| !value.is_empty()) else { return false };
    out.extend_from_slice(value.as_bytes());
    true
}

fn number(value: Option<impl Into<u64>>, out: &mut Vec<u8>) -> bool {
    let Some(value) = value else { return false };
    digits::number(value.into(), 1, out);
    true
}

fn socket(value: Option<SocketAddr>, out: &mut Vec<u8>) -> bool {
    let Some(value) = value else { return false };
    digits::socket(value, out);
    true
}

fn address(value: Option<IpAddr>, out: &mut Vec<u8>) -> bool {
    let Some(value) = value else { return false };
    digits::ip(value, out);
    true
}

fn millis(value: Option<Duration>, out: &mut Vec<u8>) -> bool {
    // So many milliseconds are more than there have been.
    number(value.map(|duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)), out)
}

fn display(value: Option<impl std::fmt::Display>, out: &mut Vec<u8>) -> bool {
    let Some(value) = value else { return false };
    // Writing to memory does not fail.
    let _ = write!(out, "{value}");
    true
}
