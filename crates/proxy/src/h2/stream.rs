//! One stream: a request and its response.

use std::task::{Context, Poll};

use bytes::Bytes;
use http::StatusCode;
use ostro_engine::Headers;
use ostro_http2::{Connection, ErrorCode, ResponseHead, StreamClosed, StreamId};

use super::fault::StreamError;
use super::shared::{End, Entry, SharedRef};
use crate::Piece;

/// A response's head as it comes: some interim ones, then the final one.
#[derive(Debug)]
pub enum Head {
    /// 1xx.
    Interim(ResponseHead),
    /// The response.
    Final(ResponseHead),
}

/// A stream. Dropping it resets it if it is not over: with CANCEL, or NO_ERROR behind a server's whole response.
#[derive(Debug)]
pub struct Stream {
    shared: SharedRef,
    place: usize,
}

impl Stream {
    pub(super) fn new(shared: SharedRef, place: usize) -> Stream {
        Stream { shared, place }
    }

    /// Its number on the wire.
    pub fn id(&self) -> u32 {
        self.shared.borrow_mut().entry(self.place).map_or(0, |entry| entry.id.number())
    }

    /// Of a client's: the response's next head.
    ///
    /// # Errors
    /// The stream is over without one.
    pub fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Head, StreamError>> {
        let mut shared = self.shared.borrow_mut();
        let Some(entry) = shared.entry(self.place) else { return Poll::Pending };
        if let Some(head) = entry.interims.pop_front() {
            return Poll::Ready(Ok(Head::Interim(head)));
        }
        if let Some(head) = entry.head.take() {
            return Poll::Ready(Ok(Head::Final(head)));
        }
        if let Some(error) = entry.error {
            return Poll::Ready(Err(error));
        }
        entry.reader.register(cx);
        Poll::Pending
    }

    /// What comes next of the body. As data is handed out, the peer may send as much more.
    ///
    /// # Errors
    /// The stream is over before its end.
    pub fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, StreamError>> {
        let mut shared = self.shared.borrow_mut();
        let Some((connection, entry)) = shared.split(self.place) else { return Poll::Pending };
        if !entry.body.is_empty() {
            let data = entry.body.pop(usize::MAX);
            connection.consumed(entry.id, data.len());
            if connection.output_len() > 0 {
                shared.wake_task();
            }
            return Poll::Ready(Ok(Piece::Data(data)));
        }
        if let End::Ended(trailers) = &mut entry.end {
            return Poll::Ready(Ok(trailers.take().map_or(Piece::End, Piece::Trailers)));
        }
        if let Some(error) = entry.error {
            return Poll::Ready(Err(error));
        }
        entry.reader.register(cx);
        Poll::Pending
    }

    /// Whether the body has ended, all of it was handed out, and there are no trailers.
    pub fn is_body_done(&self) -> bool {
        let mut shared = self.shared.borrow_mut();
        let Some(entry) = shared.entry(self.place) else { return true };
        entry.body.is_empty() && matches!(entry.end, End::Ended(None))
    }

    /// How many bytes of data the stream takes now: ready once it takes any. One piece may be larger.
    ///
    /// # Errors
    /// The stream takes none any more.
    pub fn poll_capacity(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, StreamError>> {
        let mut shared = self.shared.borrow_mut();
        let Some((connection, entry)) = shared.split(self.place) else { return Poll::Pending };
        if let Some(error) = entry.error {
            return Poll::Ready(Err(error));
        }
        if entry.has_sent_end {
            return Poll::Ready(Err(StreamError::OutOfOrder));
        }
        match connection.capacity(entry.id) {
            0 => {
                entry.writer.register(cx);
                Poll::Pending
            }
            bytes => Poll::Ready(Ok(bytes)),
        }
    }

    /// Ready when nothing that was sent waits for the peer's windows any more.
    ///
    /// # Errors
    /// The stream was reset, or its connection is over.
    pub fn poll_flushed(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        let mut shared = self.shared.borrow_mut();
        let Some((connection, entry)) = shared.split(self.place) else { return Poll::Pending };
        if let Some(error) = entry.error {
            return Poll::Ready(Err(error));
        }
        if connection.is_flushed(entry.id) {
            return Poll::Ready(Ok(()));
        }
        entry.writer.register(cx);
        Poll::Pending
    }

    /// Ready when the peer has reset the stream, or its connection is over. It may have ended well in one direction:
    /// what was received can be read still.
    pub fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        let mut shared = self.shared.borrow_mut();
        let Some(entry) = shared.entry(self.place) else { return Poll::Pending };
        if let Some(error) = entry.error {
            return Poll::Ready(error);
        }
        entry.watcher.register(cx);
        Poll::Pending
    }

    /// Of a server's: sends the response's head. `is_end`: it has no body.
    ///
    /// # Errors
    /// The stream is over, or has its head already.
    pub fn send_response(
        &mut self,
        status: StatusCode,
        headers: &Headers,
        is_end: bool,
    ) -> Result<(), StreamError> {
        self.send(is_end, |connection, id| connection.send_response(id, status, headers, is_end))
    }

    /// Of a server's: sends an interim response's head.
    ///
    /// # Errors
    /// The stream is over, or has its head already.
    pub fn send_interim(&mut self, status: StatusCode, headers: &Headers) -> Result<(), StreamError> {
        self.send(false, |connection, id| connection.send_interim(id, status, headers))
    }

    /// Sends data. `is_end`: it is the last. Whoever has a lot of it waits for [`poll_capacity`](Self::poll_capacity)
    /// before each piece.
    ///
    /// # Errors
    /// The stream takes none.
    pub fn send_data(&mut self, data: Bytes, is_end: bool) -> Result<(), StreamError> {
        self.send(is_end, |connection, id| connection.send_data(id, data, is_end))
    }

    /// Sends the end, with trailers.
    ///
    /// # Errors
    /// The stream takes none.
    pub fn send_trailers(&mut self, trailers: &Headers) -> Result<(), StreamError> {
        self.send(true, |connection, id| connection.send_trailers(id, trailers))
    }

    fn send(
        &mut self,
        is_end: bool,
        send: impl FnOnce(&mut Connection, StreamId) -> Result<(), StreamClosed>,
    ) -> Result<(), StreamError> {
        let mut shared = self.shared.borrow_mut();
        let Some((connection, entry)) = shared.split(self.place) else {
            return Err(StreamError::OutOfOrder);
        };
        if let Some(error) = entry.error {
            return Err(error);
        }
        send(connection, entry.id).map_err(|StreamClosed| StreamError::OutOfOrder)?;
        entry.has_sent_end |= is_end;
        shared.wake_task();
        Ok(())
    }

    /// Resets the stream, unless it is over.
    pub fn reset(&mut self, code: ErrorCode) {
        let mut shared = self.shared.borrow_mut();
        let Some((connection, entry)) = shared.split(self.place) else { return };
        let Entry { id, error, .. } = entry;
        if error.is_none() {
            *error = Some(StreamError::OutOfOrder);
            connection.reset(*id, code);
            shared.note_streams();
            shared.wake_task();
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.borrow_mut().remove(self.place);
    }
}
