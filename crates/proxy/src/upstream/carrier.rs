//! The upstream's side of one request, of either HTTP, or of bytes as they are.

use std::task::{Context, Poll};

use bytes::Bytes;
use ostro_engine::{Headers, Protocol, Request};

use super::error::UpstreamError;
use super::http1::{Call, ResponseHead};
use super::http2;
use super::raw::Raw;
use crate::Piece;

/// What carries a request to an upstream.
pub(crate) enum Carrier {
    /// An HTTP/1 connection.
    Http1(Box<Call>),
    /// A stream of an HTTP/2 connection.
    Http2(http2::Call),
    /// A connection whose bytes are those of a terminated `CONNECT`.
    Raw(Raw),
}

/// Calls the method of whatever carries.
macro_rules! each {
    ($carrier:expr, $inner:ident => $call:expr) => {
        match $carrier {
            Carrier::Http1($inner) => $call,
            Carrier::Http2($inner) => $call,
            Carrier::Raw($inner) => $call,
        }
    };
}

impl Carrier {
    /// Sends the request's head. `ends`: it has no body. `asks_tunnel`: bytes follow once it is granted.
    ///
    /// # Errors
    /// The connection cannot take it.
    pub fn send_head(
        &mut self,
        request: &Request,
        ends: bool,
        asks_tunnel: bool,
    ) -> Result<(), UpstreamError> {
        match self {
            Carrier::Http1(call) => call.send_head(request, ends, asks_tunnel),
            Carrier::Http2(call) => return call.send_head(request, ends, asks_tunnel),
            Carrier::Raw(_) => {}
        }
        Ok(())
    }

    /// What it speaks; `None` for bytes.
    pub fn protocol(&self) -> Option<Protocol> {
        match self {
            Carrier::Http1(_) => Some(Protocol::Http11),
            Carrier::Http2(_) => Some(Protocol::Http2),
            Carrier::Raw(_) => None,
        }
    }

    /// Whether it is HTTP/2.
    pub fn is_http2(&self) -> bool {
        matches!(self, Carrier::Http2(_))
    }

    /// Sends part of the body.
    pub fn send_data(&mut self, data: Bytes) {
        each!(self, inner => inner.send_data(data));
    }

    /// Ends the request.
    pub fn send_end(&mut self, trailers: Option<&Headers>) {
        each!(self, inner => inner.send_end(trailers));
    }

    /// Ready when there is room for more to send.
    pub fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), UpstreamError>> {
        each!(self, inner => inner.poll_writable(cx))
    }

    /// Ready when all that was sent is with the kernel.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), UpstreamError>> {
        each!(self, inner => inner.poll_flush(cx))
    }

    /// The next head, interim ones too.
    pub fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, UpstreamError>> {
        each!(self, inner => inner.poll_head(cx))
    }

    /// What comes next of the response's body.
    pub fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, UpstreamError>> {
        each!(self, inner => inner.poll_body(cx))
    }

    /// Whether the response is complete.
    pub fn is_response_done(&self) -> bool {
        each!(self, inner => inner.is_response_done())
    }
}
