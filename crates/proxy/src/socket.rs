//! The byte streams that a proxy reads and writes. Plain TCP only so far: TLS will be a variant of its own.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A connected socket.
#[derive(Debug)]
pub(crate) enum Socket {
    /// TCP in clear.
    Plain(TcpStream),
}

impl Socket {
    /// Closing will send a reset. Best effort: a socket that refuses is closed all the same.
    pub fn reset_on_close(&self) {
        let Socket::Plain(stream) = self;
        let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
    }

    /// Ready when reading may bring something; costs no system call.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Socket::Plain(stream) = self;
        stream.poll_read_ready(cx)
    }

    /// The TCP socket beneath.
    pub fn tcp(&self) -> &TcpStream {
        let Socket::Plain(stream) = self;
        stream
    }

    fn plain(self: Pin<&mut Self>) -> Pin<&mut TcpStream> {
        let Socket::Plain(stream) = self.get_mut();
        Pin::new(stream)
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.plain().poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.plain().poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.plain().poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.plain().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.plain().poll_shutdown(cx)
    }
}
