//! The client's side.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use ostro_http2::{Config, Connection};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::fault::ConnectionFault;
use super::handle::Handle;
use super::io::{Io, Progress};
use super::shared::Shared;

/// A connection on which requests are sent: a future that drives it, and is done when it is over. Dropped, it takes its
/// streams with it.
#[derive(Debug)]
#[must_use = "nothing moves unless it is polled"]
pub struct Client<S> {
    io: Io<S>,
}

/// Speaks HTTP/2 on a socket. Requests may be sent at once.
pub fn connect<S: AsyncRead + AsyncWrite + Unpin>(socket: S, config: Arc<Config>) -> (Client<S>, Handle) {
    let connection = Connection::client(config, Instant::now().into_std());
    let shared = Rc::new(RefCell::new(Shared::new(connection, true)));
    let handle = Handle::new(shared.clone());
    (Client { io: Io::new(socket, BytesMut::new(), shared) }, handle)
}

impl<S: AsyncRead + AsyncWrite + Unpin> Future for Client<S> {
    type Output = Result<(), ConnectionFault>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match ready!(self.io.poll(cx)) {
                Progress::Over(result) => return Poll::Ready(result),
                // No server sends any: its connection would have failed.
                Progress::Request(..) => {}
            }
        }
    }
}
