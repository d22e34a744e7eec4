//! The server's side.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use ostro_http2::{Config, Connection, RequestHead};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::fault::ConnectionFault;
use super::handle::Handle;
use super::io::{Io, Progress};
use super::shared::Shared;
use super::stream::Stream;

/// A connection on which requests come. It is to be polled for the next one as long as it lives: that is what drives
/// its streams.
#[derive(Debug)]
pub struct Server<S> {
    io: Io<S>,
}

/// Serves HTTP/2 on a socket; `read` is what was read of it already.
pub fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    socket: S,
    read: BytesMut,
    config: Arc<Config>,
) -> (Server<S>, Handle) {
    let connection = Connection::server(config, Instant::now().into_std());
    let shared = Rc::new(RefCell::new(Shared::new(connection, false)));
    let handle = Handle::new(shared.clone());
    (Server { io: Io::new(socket, read, shared) }, handle)
}

impl<S: AsyncRead + AsyncWrite + Unpin> Server<S> {
    /// The next request. `None`: the connection has ended as it should. To be called again after each request, until
    /// it is pending: what was read and is to be written waits for that.
    ///
    /// # Errors
    /// The connection has ended otherwise.
    pub fn poll_accept(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<(RequestHead, Stream)>, ConnectionFault>> {
        Poll::Ready(match ready!(self.io.poll(cx)) {
            Progress::Request(head, stream) => Ok(Some((*head, stream))),
            Progress::Over(result) => result.map(|()| None),
        })
    }

    /// As [`poll_accept`](Self::poll_accept).
    ///
    /// # Errors
    /// The connection has ended otherwise than it should.
    pub async fn accept(&mut self) -> Result<Option<(RequestHead, Stream)>, ConnectionFault> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }
}
