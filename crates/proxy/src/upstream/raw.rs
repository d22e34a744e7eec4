//! The upstream's side of a `CONNECT` that ends here: the request's body is bytes on a connection, and so is the
//! response's.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::StatusCode;
use ostro_engine::Headers;

use super::error::UpstreamError;
use super::http1::ResponseHead;
use crate::Piece;
use crate::wire::Wire;

/// A connection that carries bytes.
#[derive(Debug)]
pub(crate) struct Raw {
    wire: Wire,
    /// Most bytes that wait to be written.
    buffer_bytes: usize,
    is_done: bool,
}

impl Raw {
    /// A connection that has just come about.
    pub fn new(wire: Wire, buffer_bytes: usize) -> Raw {
        Raw { wire, buffer_bytes, is_done: false }
    }

    /// Writes bytes.
    pub fn send_data(&mut self, data: Bytes) {
        self.wire.put(data);
    }

    /// Tells the upstream that nothing follows.
    pub fn send_end(&mut self, _trailers: Option<&Headers>) {
        self.wire.end();
    }

    /// Ready when there is room for more to send.
    pub fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), UpstreamError>> {
        self.wire.poll_below(cx, self.buffer_bytes).map_err(|_| UpstreamError::Terminated)
    }

    /// Ready when all that was sent is with the kernel.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), UpstreamError>> {
        self.wire.poll_flush(cx).map_err(|_| UpstreamError::Terminated)
    }

    /// The connection is there: the request is granted.
    pub fn poll_head(&mut self, _cx: &mut Context<'_>) -> Poll<Result<ResponseHead, UpstreamError>> {
        Poll::Ready(Ok(ResponseHead { status: StatusCode::OK, headers: Headers::default(), ends: false }))
    }

    /// The bytes that come.
    pub fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, UpstreamError>> {
        if self.wire.input.is_empty()
            && !ready!(self.wire.poll_fill(cx)).map_err(|_| UpstreamError::Terminated)?
        {
            self.is_done = true;
            return Poll::Ready(Ok(Piece::End));
        }
        Poll::Ready(Ok(Piece::Data(self.wire.input.split().freeze())))
    }

    /// Whether the upstream has said that nothing follows.
    pub fn is_response_done(&self) -> bool {
        self.is_done
    }
}
