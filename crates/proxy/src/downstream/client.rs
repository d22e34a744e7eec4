//! The client's side of one request, of either HTTP, as the stream that serves it sees it.

use std::task::{Context, Poll};

use bytes::Bytes;
use http::StatusCode;
use ostro_engine::{Headers, Protocol};

use crate::Piece;

/// Why a client's request cannot go on. The client is at fault, or went away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientError {
    /// It closed its connection, or the connection broke.
    Gone,
    /// It reset this request.
    Reset,
    /// It broke its protocol in a way that has ended the request already.
    Broken,
    /// It broke its protocol; with which status it is told so, if that is still possible, and why (as Envoy's details).
    Protocol(StatusCode, &'static str),
}

/// What a response head is besides status and headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Follows {
    /// A body of the length that the headers say, or of one that is not known.
    Body,
    /// Nothing: the head is all.
    Nothing,
    /// Bytes in both directions: an upgrade or a `CONNECT` was granted.
    Tunnel,
}

/// The client's side of one request. What is sent is buffered: whoever sends asks [`poll_writable`](Self::poll_writable)
/// first, and flushes.
pub(crate) trait Client {
    /// What it speaks.
    fn protocol(&self) -> Protocol;

    /// What comes next of the request's body.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, ClientError>>;

    /// Whether the request is complete.
    fn is_body_done(&self) -> bool;

    /// Ready when the client has gone, asked while nobody reads its body.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<ClientError>;

    /// Sends an interim response (1xx, not 101).
    fn send_interim(&mut self, status: StatusCode, headers: &Headers);

    /// Sends the head of the response.
    fn send_head(&mut self, status: StatusCode, headers: &Headers, follows: Follows);

    /// Sends part of the response's body.
    fn send_data(&mut self, data: Bytes);

    /// Ends the response.
    fn send_end(&mut self, trailers: Option<&Headers>);

    /// Ready when there is room for more to send.
    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ClientError>>;

    /// Ready when all that was sent is with the kernel.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ClientError>>;

    /// The connection is to carry no other request, if this client's carries one at a time.
    fn close_after(&mut self);

    /// Whether a client that has ended its side of a tunnel has left altogether.
    fn ends_with_request(&self) -> bool;

    /// Cuts the response off so that the client sees that it is not complete. `is_violation`: because the upstream broke
    /// its protocol.
    fn abort(&mut self, is_violation: bool);

    /// Bytes of heads sent so far, as far as the protocol tells.
    fn head_bytes_sent(&self) -> u64;
}
