//! What is known of a stream (a request, or a connection carried as bytes) when it has ended: for access logs, headers
//! and metrics.
//!
//! Times are arguments, like everywhere in this crate: moments since the epoch, and durations since the stream began.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use crate::{Headers, Request, ResponseFlags};

/// What a stream speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2.
    Http2,
}

impl Protocol {
    /// As Envoy's logs have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Http10 => "HTTP/1.0",
            Protocol::Http11 => "HTTP/1.1",
            Protocol::Http2 => "HTTP/2",
        }
    }
}

/// The client's connection.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    /// Number of the connection, unique in the process.
    pub id: u64,
    /// Where the client connected to: the original destination, if the listener restores it.
    pub local: SocketAddr,
    /// Who the client is, after PROXY protocol.
    pub remote: SocketAddr,
    /// The other end of the socket.
    pub direct_remote: SocketAddr,
    /// Server name of the ClientHello, if there was one.
    pub server_name: Option<Box<str>>,
    /// Is `local` where the client was going before something redirected it, as far as the listener looks?
    pub is_restored: bool,
}

impl ConnectionInfo {
    /// Where the client was going before something redirected it.
    pub fn original_destination(&self) -> Option<SocketAddr> {
        self.is_restored.then_some(self.local)
    }
}

/// What is known of a stream.
#[derive(Clone, Debug)]
pub struct StreamInfo {
    /// The client's connection.
    pub connection: Arc<ConnectionInfo>,
    /// Who the client is, by `x-forwarded-for` if that is trusted; the connection's own, if not set.
    pub remote: Option<SocketAddr>,
    /// When it began, since the epoch.
    pub started: Duration,
    /// When the last byte of the request had come.
    pub request_ended: Option<Duration>,
    /// When the first byte went to the upstream.
    pub upstream_began: Option<Duration>,
    /// When the first byte of the response came from the upstream.
    pub response_began: Option<Duration>,
    /// When it was over.
    pub ended: Option<Duration>,
    /// What it speaks; `None` for bytes.
    pub protocol: Option<Protocol>,
    /// Status of the response, once there is one.
    pub status: Option<StatusCode>,
    /// Why the response is what it is (`via_upstream`, `route_not_found`).
    pub details: Option<Cow<'static, str>>,
    /// What happened besides.
    pub flags: ResponseFlags,
    /// Why the connection was ended, if the proxy ended it.
    pub termination: Option<Cow<'static, str>>,
    /// Bytes of the body, or of the connection, that came from the client.
    pub bytes_received: u64,
    /// Bytes of the body, or of the connection, that went to the client.
    pub bytes_sent: u64,
    /// Bytes of the head that came from the client.
    pub header_bytes_received: u64,
    /// Bytes of the head that went to the client.
    pub header_bytes_sent: u64,
    /// The cluster chosen.
    pub cluster: Option<Arc<str>>,
    /// The host chosen, of the last attempt.
    pub upstream_host: Option<Arc<str>>,
    /// What it was spoken to in.
    pub upstream_protocol: Option<Protocol>,
    /// The proxy's end of the connection to it.
    pub upstream_local: Option<SocketAddr>,
    /// Why the connection to it failed.
    pub transport_failure: Option<Arc<str>>,
    /// Name of the route, or of the filter chain for bytes.
    pub route: Option<Arc<str>>,
    /// Attempts to reach an upstream.
    pub attempts: u32,
}

impl StreamInfo {
    /// A stream that begins at `started` (since the epoch).
    pub fn new(connection: Arc<ConnectionInfo>, started: Duration, protocol: Option<Protocol>) -> StreamInfo {
        StreamInfo {
            connection,
            remote: None,
            started,
            request_ended: None,
            upstream_began: None,
            response_began: None,
            ended: None,
            protocol,
            status: None,
            details: None,
            flags: ResponseFlags::default(),
            termination: None,
            bytes_received: 0,
            bytes_sent: 0,
            header_bytes_received: 0,
            header_bytes_sent: 0,
            cluster: None,
            upstream_host: None,
            upstream_protocol: None,
            upstream_local: None,
            transport_failure: None,
            route: None,
            attempts: 0,
        }
    }
}

/// A stream with its messages, as far as there are any.
#[derive(Clone, Copy)]
pub struct StreamView<'a> {
    /// What is known of it.
    pub info: &'a StreamInfo,
    /// The request as it goes upstream.
    pub request: Option<&'a Request>,
    /// Headers of the response as they go to the client.
    pub response: Option<&'a Headers>,
    /// Trailers of the response.
    pub trailers: Option<&'a Headers>,
}
