//! A socket with what has been read from it and what is to be written to it.
//!
//! What it is: buffers with bounds around a byte stream, for protocols that are read and written in place. What it
//! deliberately is not: a protocol.
//!
//! Invariants:
//! * Nothing is read beyond the bound that the caller names, so that a peer is held up by TCP's own window.
//! * A connection that holds no bytes holds no buffers: they go back to the thread, which keeps a few.

mod spare;

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::AsyncWrite;

use crate::socket::Socket;

/// Room that is made for a read, in bytes: most heads fit.
const READ_MIN: usize = 4 * 1024;
/// Room that is made for a read of a body that keeps coming.
const READ_MAX: usize = 64 * 1024;
/// A part of up to so many bytes is copied behind what is written already; a larger one is written from where it is.
const COPY_MAX: usize = 4 * 1024;
/// So many bytes may wait for more to be written with them: a head goes out with the body behind it.
const GATHER_MAX: usize = 16 * 1024;
/// Most parts that are written at once.
const SLICES_MAX: usize = 32;

/// A socket and its buffers.
#[derive(Debug)]
pub(crate) struct Wire {
    socket: Socket,
    /// What has been read and not been used.
    pub input: BytesMut,
    output: Output,
    /// Room for the next read.
    room: usize,
    is_input_closed: bool,
    /// After what is written the socket is to be shut down for writing.
    ends: bool,
    is_shut_down: bool,
    /// Bytes read, ever.
    pub received: u64,
    /// Bytes written, ever.
    pub sent: u64,
}

#[derive(Debug, Default)]
struct Output {
    parts: VecDeque<Bytes>,
    /// What comes behind them; its first `begin` bytes are written.
    tail: Vec<u8>,
    begin: usize,
    /// Bytes in `parts`.
    bytes: usize,
}

impl Wire {
    /// A socket, of which `input` has been read already.
    pub fn new(socket: Socket, input: BytesMut) -> Wire {
        Wire {
            socket,
            input,
            output: Output::default(),
            room: READ_MIN,
            is_input_closed: false,
            ends: false,
            is_shut_down: false,
            received: 0,
            sent: 0,
        }
    }

    /// Whether the peer has closed its side.
    pub fn is_input_closed(&self) -> bool {
        self.is_input_closed
    }

    /// Reads what there is behind [`input`](Self::input). Ready with `false` at the end of the stream.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.is_input_closed {
            return Poll::Ready(Ok(false));
        }
        // Asked first: most of the time there is nothing, and room for it would be made in vain.
        let Poll::Ready(readable) = self.socket.poll_readable(cx) else {
            self.release_input();
            return Poll::Pending;
        };
        readable?;
        if self.input.capacity() == 0 {
            self.input = spare::input();
        }
        self.input.reserve(self.room);
        let had = self.input.len();
        let read = tokio_util::io::poll_read_buf(Pin::new(&mut self.socket), cx, &mut self.input);
        let Poll::Ready(read) = read else {
            self.release_input();
            return Poll::Pending;
        };
        let read = read?;
        self.received += read as u64;
        self.is_input_closed = read == 0;
        if self.input.len() - had >= self.room {
            self.room = (self.room * 4).min(READ_MAX);
        }
        Poll::Ready(Ok(read > 0))
    }

    /// Where to write heads and what frames bodies.
    pub fn out(&mut self) -> &mut Vec<u8> {
        self.output.tail()
    }

    /// Writes a part of a body.
    pub fn put(&mut self, part: Bytes) {
        let output = &mut self.output;
        if part.len() <= COPY_MAX {
            return output.tail().extend_from_slice(&part);
        }
        if !output.tail.is_empty() {
            let mut head = Bytes::from(std::mem::take(&mut output.tail));
            head.advance(std::mem::take(&mut output.begin));
            output.bytes += head.len();
            output.parts.push_back(head);
        }
        output.bytes += part.len();
        output.parts.push_back(part);
    }

    /// Bytes that are still to be written.
    pub fn unwritten(&self) -> usize {
        self.output.bytes + self.output.tail.len() - self.output.begin
    }

    /// After what is written so far the peer is told that nothing follows.
    pub fn end(&mut self) {
        self.ends = true;
    }

    /// Writes what there is; ready when nothing is left.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.unwritten() > 0 {
            let written = ready!(self.poll_write_some(cx))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += written as u64;
            self.output.advance(written);
        }
        if self.ends && !self.is_shut_down {
            ready!(Pin::new(&mut self.socket).poll_shutdown(cx))?;
            self.is_shut_down = true;
        }
        Poll::Ready(Ok(()))
    }

    /// Ready when at most `most` bytes are still to be written. A little is left for [`poll_flush`](Self::poll_flush): more
    /// may follow at once, and each write is a system call.
    pub fn poll_below(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<io::Result<()>> {
        if self.unwritten() <= most.min(GATHER_MAX) {
            return Poll::Ready(Ok(()));
        }
        match self.poll_flush(cx) {
            Poll::Pending if self.unwritten() <= most => Poll::Ready(Ok(())),
            other => other,
        }
    }

    fn poll_write_some(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Output { parts, tail, begin, .. } = &self.output;
        let tail = tail.get(*begin..).unwrap_or_default();
        let socket = Pin::new(&mut self.socket);
        if parts.is_empty() {
            return socket.poll_write(cx, tail);
        }
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let mut count = 0;
        let all = parts.iter().map(|part| &part[..]).chain(std::iter::once(tail));
        for (slot, part) in slices.iter_mut().zip(all) {
            *slot = IoSlice::new(part);
            count += 1;
        }
        socket.poll_write_vectored(cx, slices.get(..count).unwrap_or_default())
    }

    /// Gives the memory of empty buffers back, as far as nobody has parts of it still.
    pub fn release(&mut self) {
        self.release_input();
        if self.unwritten() == 0 {
            self.output.parts = VecDeque::new();
            spare::keep_output(std::mem::take(&mut self.output.tail));
        }
    }

    fn release_input(&mut self) {
        if self.input.is_empty() && self.input.try_reclaim(READ_MIN) {
            spare::keep_input(std::mem::take(&mut self.input));
            self.room = READ_MIN;
        }
    }

    /// The socket, what was read, and what was not written.
    pub fn into_parts(self) -> (Socket, BytesMut) {
        (self.socket, self.input)
    }

    /// Makes closing tell the peer that something went wrong: a reset in place of an end.
    pub fn reset_on_close(&self) {
        self.socket.reset_on_close();
    }
}

impl Output {
    fn tail(&mut self) -> &mut Vec<u8> {
        if self.tail.capacity() == 0 {
            self.tail = spare::output();
        }
        &mut self.tail
    }

    fn advance(&mut self, mut written: usize) {
        while let Some(first) = self.parts.front_mut() {
            let taken = written.min(first.len());
            first.advance(taken);
            written -= taken;
            self.bytes -= taken;
            if !first.is_empty() {
                return;
            }
            self.parts.pop_front();
        }
        self.begin += written;
        if self.begin >= self.tail.len() {
            self.tail.clear();
            self.begin = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test's helpers fail the test by panicking")]

    use super::*;
    use std::future::poll_fn;
    use tokio::io::AsyncReadExt as _;
    use tokio::net::{TcpListener, TcpStream};

    async fn pair() -> (Wire, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        (Wire::new(Socket::Plain(socket), BytesMut::new()), peer)
    }

    #[tokio::test]
    async fn small_and_large_parts_arrive_in_order_and_then_the_end() {
        let (mut wire, mut peer) = pair().await;
        let reader = tokio::spawn(async move {
            let mut all = Vec::new();
            peer.read_to_end(&mut all).await.unwrap();
            all
        });
        let mut expected = Vec::new();
        for size in [1, 100, 5_000, 3, 300_000, 4_096, 0, 70_000] {
            let part = Bytes::from(vec![u8::try_from(size % 251).unwrap(); size]);
            expected.extend_from_slice(&part);
            wire.put(part);
        }
        assert_eq!(wire.unwritten(), expected.len());
        wire.end();
        poll_fn(|cx| wire.poll_flush(cx)).await.unwrap();
        assert_eq!(wire.unwritten(), 0);
        assert!(reader.await.unwrap() == expected);
    }

    #[tokio::test]
    async fn the_end_of_the_stream_is_told_each_time() {
        let (mut wire, peer) = pair().await;
        drop(peer);
        for _ in 0..2 {
            assert!(!poll_fn(|cx| wire.poll_fill(cx)).await.unwrap());
        }
        assert!(wire.is_input_closed());
    }
}
