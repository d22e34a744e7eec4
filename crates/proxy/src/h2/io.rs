//! The socket's side of a connection: what its task does when it runs.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use ostro_http2::RequestHead;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep};
use tokio_util::io::poll_read_buf;

use super::fault::ConnectionFault;
use super::shared::SharedRef;
use super::stream::Stream;

/// What is read at once, at first and at most.
const READ_BYTES: usize = 16 << 10;
const READ_BYTES_MAX: usize = 64 << 10;
/// A server with so much unwritten output does not read on. Clients always do: otherwise two proxies could wait for
/// each other.
const UNWRITTEN_BYTES_MAX: usize = 256 << 10;
/// Slices that are written at once.
const SLICES: usize = 32;
/// How long a closed connection waits for the peer to read what is left and to close, too (Envoy's
/// `delayed_close_timeout`).
const CLOSING_TIME: Duration = Duration::from_secs(1);
/// What is read and dropped at once of a closed connection.
const DISCARD_BYTES: usize = 4 << 10;

/// A connection's socket, and what was read of it.
#[derive(Debug)]
pub(super) struct Io<S> {
    socket: S,
    pub(super) shared: SharedRef,
    input: BytesMut,
    read_bytes: usize,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Open,
    Closing(Closing),
    Closed,
}

/// A connection that is over.
#[derive(Debug)]
struct Closing {
    result: Result<(), ConnectionFault>,
    deadline: Pin<Box<Sleep>>,
    is_shut_down: bool,
}

/// What a task's run has come to.
pub(super) enum Progress {
    /// A request. There may be more.
    Request(Box<RequestHead>, Stream),
    /// The end.
    Over(Result<(), ConnectionFault>),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Io<S> {
    pub(super) fn new(socket: S, input: BytesMut, shared: SharedRef) -> Io<S> {
        Io { socket, shared, input, read_bytes: READ_BYTES, stage: Stage::Open }
    }

    /// Does all there is to do now.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Progress> {
        let open = match &self.stage {
            Stage::Open => self.poll_open(cx),
            Stage::Closing(_) => Poll::Ready(None),
            Stage::Closed => return Poll::Ready(Progress::Over(Ok(()))),
        };
        match ready!(open) {
            Some(progress) => Poll::Ready(progress),
            None => self.poll_closing(cx).map(Progress::Over),
        }
    }

    /// `None`: the connection is closing now.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Option<Progress>> {
        self.shared.borrow_mut().runs(cx);
        loop {
            match self.next_request() {
                Ok(None) => {}
                Ok(Some(progress)) => return Poll::Ready(Some(progress)),
                Err(fault) => return self.close(Err(fault)),
            }
            if let Poll::Ready(Err(error)) = self.poll_write(cx) {
                return self.close(Err(ConnectionFault::Io(error.kind())));
            }
            if let Some(result) = self.is_over() {
                return self.close(result);
            }
            let is_held_up = {
                let mut shared = self.shared.borrow_mut();
                shared.note_streams();
                !shared.is_client && shared.connection.output_len() > UNWRITTEN_BYTES_MAX
            };
            if is_held_up {
                // Writing is what is waited for.
                return Poll::Pending;
            }
            match self.poll_read(cx) {
                Poll::Pending => {
                    self.rest();
                    return Poll::Pending;
                }
                Poll::Ready(Ok(0)) => return self.close(self.closed_by_peer()),
                Poll::Ready(Ok(_)) => {
                    self.shared.borrow_mut().connection.set_now(Instant::now().into_std());
                }
                Poll::Ready(Err(error)) => return self.close(Err(ConnectionFault::Io(error.kind()))),
            }
        }
    }

    /// Hands out what was read, up to the next request.
    fn next_request(&mut self) -> Result<Option<Progress>, ConnectionFault> {
        let mut shared = self.shared.borrow_mut();
        while let Some(event) = shared.connection.receive(&mut self.input)? {
            if let Some((head, place)) = shared.take(event) {
                shared.runs_on();
                let stream = Stream::new(self.shared.clone(), place);
                return Ok(Some(Progress::Request(head, stream)));
            }
        }
        Ok(None)
    }

    /// Writes what there is. Pending: the socket takes no more now.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = self.shared.borrow_mut();
        loop {
            let output = shared.connection.output();
            if output.is_empty() {
                shared.wake_writers();
                return Pin::new(&mut self.socket).poll_flush(cx);
            }
            let socket = Pin::new(&mut self.socket);
            let written = if socket.is_write_vectored() {
                let mut slices = [io::IoSlice::new(&[]); SLICES];
                let filled = output.chunks_vectored(&mut slices);
                socket.poll_write_vectored(cx, slices.get(..filled).unwrap_or_default())
            } else {
                socket.poll_write(cx, output.chunk())
            };
            match written {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => output.advance(written),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    shared.wake_writers();
                    return Poll::Pending;
                }
            }
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.input.capacity() - self.input.len() < self.read_bytes / 2 {
            self.input.reserve(self.read_bytes);
        }
        let room = self.input.capacity() - self.input.len();
        let read = ready!(poll_read_buf(Pin::new(&mut self.socket), cx, &mut self.input))?;
        if read == room {
            self.read_bytes = (2 * self.read_bytes).min(READ_BYTES_MAX);
        }
        Poll::Ready(Ok(read))
    }

    /// Nothing is there to be read: an idle connection needs no memory for it.
    fn rest(&mut self) {
        if self.input.is_empty() && self.shared.borrow().connection.active_streams() == 0 {
            self.input = BytesMut::new();
            self.read_bytes = READ_BYTES;
        }
    }

    /// Whether the connection is to be closed, and how that went.
    fn is_over(&self) -> Option<Result<(), ConnectionFault>> {
        let mut shared = self.shared.borrow_mut();
        if let Some(code) = shared.wants_close {
            return Some(Err(ConnectionFault::Local(code)));
        }
        let is_over = shared.connection.is_over() && shared.connection.output().is_empty();
        is_over.then_some(Ok(()))
    }

    fn closed_by_peer(&self) -> Result<(), ConnectionFault> {
        let is_idle = self.shared.borrow().connection.active_streams() == 0;
        if is_idle { Ok(()) } else { Err(ConnectionFault::Closed) }
    }

    fn close(&mut self, result: Result<(), ConnectionFault>) -> Poll<Option<Progress>> {
        self.shared.borrow_mut().fail(result.err().unwrap_or(ConnectionFault::Closed));
        let deadline = Box::pin(tokio::time::sleep(CLOSING_TIME));
        self.stage = Stage::Closing(Closing { result, deadline, is_shut_down: false });
        Poll::Ready(None)
    }

    /// Brings the last bytes to the peer: they are lost if the socket is closed while there is input.
    fn poll_closing(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectionFault>> {
        let Stage::Closing(closing) = &mut self.stage else { return Poll::Ready(Ok(())) };
        let result = closing.result;
        if closing.deadline.as_mut().poll(cx).is_pending() {
            let is_hopeless = matches!(result, Err(ConnectionFault::Io(_)));
            if !is_hopeless {
                ready!(self.poll_last(cx));
            }
        }
        self.stage = Stage::Closed;
        Poll::Ready(result)
    }

    /// Ready: there is nothing more to be done for the peer.
    fn poll_last(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Stage::Closing(Closing { is_shut_down, .. }) = &self.stage else { return Poll::Ready(()) };
        if !is_shut_down {
            if ready!(self.poll_write(cx)).is_err()
                || ready!(Pin::new(&mut self.socket).poll_shutdown(cx)).is_err()
            {
                return Poll::Ready(());
            }
            if let Stage::Closing(closing) = &mut self.stage {
                closing.is_shut_down = true;
            }
        }
        loop {
            self.input.clear();
            self.input.reserve(DISCARD_BYTES);
            match ready!(poll_read_buf(Pin::new(&mut self.socket), cx, &mut self.input)) {
                Ok(0) | Err(_) => return Poll::Ready(()),
                Ok(_) => {}
            }
        }
    }
}

impl<S> Drop for Io<S> {
    fn drop(&mut self) {
        self.shared.borrow_mut().fail(ConnectionFault::Closed);
    }
}
