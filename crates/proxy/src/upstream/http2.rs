//! One request on an HTTP/2 connection to an upstream, and the response to it.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Method;
use ostro_engine::{Headers, Request};
use ostro_http2::ErrorCode;

use super::error::UpstreamError;
use super::http1::ResponseHead;
use crate::Piece;
use crate::h2::{ConnectionFault, Handle, Head, OpenError, Origin, Stream, StreamError};
use crate::stream::extended_from;

/// One request and its response.
pub(crate) struct Call {
    handle: Handle,
    stream: Option<Stream>,
    /// Held back for a moment, so that the end can ride on it.
    pending: Option<Bytes>,
    is_response_done: bool,
}

impl Call {
    /// A request that will be sent on this connection.
    pub fn new(handle: Handle) -> Call {
        Call { handle, stream: None, pending: None, is_response_done: false }
    }

    /// Opens the stream with the request's head.
    ///
    /// # Errors
    /// The connection takes no more streams.
    pub fn send_head(
        &mut self,
        request: &Request,
        ends: bool,
        asks_tunnel: bool,
    ) -> Result<(), UpstreamError> {
        let extended =
            if asks_tunnel && request.method != Method::CONNECT { extended_from(request) } else { None };
        let opened = match &extended {
            Some((request, protocol)) => self.handle.open(request, Some(protocol), ends),
            None => self.handle.open(request, None, ends),
        };
        self.stream = Some(opened.map_err(|error| match error {
            OpenError::Full => UpstreamError::RefusedStream,
            _ => UpstreamError::Terminated,
        })?);
        Ok(())
    }

    fn send_pending(&mut self, is_end: bool) {
        if let Some(stream) = &mut self.stream
            && let Some(data) = self.pending.take().or(is_end.then(Bytes::new))
        {
            // A stream that is gone says so when it is next asked.
            let _ = stream.send_data(data, is_end);
        }
    }

    /// Sends part of the body.
    pub fn send_data(&mut self, data: Bytes) {
        self.send_pending(false);
        self.pending = Some(data);
    }

    /// Ends the request.
    pub fn send_end(&mut self, trailers: Option<&Headers>) {
        match (trailers, &mut self.stream) {
            (Some(trailers), Some(_)) => {
                self.send_pending(false);
                if let Some(stream) = &mut self.stream {
                    let _ = stream.send_trailers(trailers);
                }
            }
            _ => self.send_pending(true),
        }
    }

    /// Ready when there is room for more to send.
    pub fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), UpstreamError>> {
        self.send_pending(false);
        let Some(stream) = &mut self.stream else { return Poll::Ready(Err(UpstreamError::Terminated)) };
        stream.poll_capacity(cx).map(|capacity| capacity.map(|_| ()).map_err(failed))
    }

    /// Ready when what was sent is on its way.
    pub fn poll_flush(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), UpstreamError>> {
        self.send_pending(false);
        Poll::Ready(Ok(()))
    }

    /// The next head, interim ones too.
    pub fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, UpstreamError>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(Err(UpstreamError::Terminated)) };
        let head = ready!(stream.poll_head(cx)).map_err(failed)?;
        Poll::Ready(Ok(match head {
            Head::Interim(head) => ResponseHead { status: head.status, headers: head.headers, ends: false },
            Head::Final(head) => {
                self.is_response_done = stream.is_body_done();
                ResponseHead { status: head.status, headers: head.headers, ends: self.is_response_done }
            }
        }))
    }

    /// What comes next of the response's body.
    pub fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, UpstreamError>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(Ok(Piece::End)) };
        let piece = ready!(stream.poll_body(cx)).map_err(failed)?;
        self.is_response_done = stream.is_body_done() || !matches!(piece, Piece::Data(_));
        Poll::Ready(Ok(piece))
    }

    /// Whether the response is complete.
    pub fn is_response_done(&self) -> bool {
        self.is_response_done
    }
}

fn failed(error: StreamError) -> UpstreamError {
    match error {
        StreamError::Reset { unprocessed: true, .. } => UpstreamError::RefusedStream,
        StreamError::Reset { origin: Origin::Us, .. } => UpstreamError::Protocol("http2.violation"),
        StreamError::Reset { code: ErrorCode::PROTOCOL_ERROR, .. } => {
            UpstreamError::Protocol("http2.remote_reset")
        }
        StreamError::Reset { .. } => UpstreamError::Reset,
        StreamError::Connection(fault) => broken(fault),
        StreamError::OutOfOrder => UpstreamError::Terminated,
    }
}

/// What it means to a request that the connection is over.
pub(super) fn broken(fault: ConnectionFault) -> UpstreamError {
    match fault {
        ConnectionFault::Protocol(_) => UpstreamError::Protocol("http2.violation"),
        _ => UpstreamError::Terminated,
    }
}
