//! Bytes passed on as they are, both ways, each way until its own end.
//!
//! Bytes go through memory that all connections of a worker share; a connection keeps only what its receiver did not
//! take.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::socket::Socket;
use crate::worker::Worker;

/// One way.
#[derive(Debug, Default)]
pub(crate) struct Way {
    /// What has been read and not been taken.
    pending: BytesMut,
    has_ended: bool,
    is_over: bool,
    /// Bytes that have passed.
    pub passed: u64,
}

/// Which end failed.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The one that is read.
    Reading(io::Error),
    /// The one that is written.
    Writing(io::Error),
}

impl Way {
    /// A way on which some bytes have been read already.
    pub fn with(pending: BytesMut) -> Way {
        Way { pending, ..Way::default() }
    }

    /// Passes on what there is. Ready when the end has come and has been passed on.
    pub fn poll(
        &mut self,
        worker: &Worker,
        from: &mut Socket,
        to: &mut Socket,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Broken>> {
        worker.with_scratch(|scratch| self.pass(scratch, from, to, cx))
    }

    fn pass(
        &mut self,
        scratch: &mut [u8],
        from: &mut Socket,
        to: &mut Socket,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Broken>> {
        while !self.is_over {
            while !self.pending.is_empty() {
                let written = ready!(write(to, &self.pending, cx)).map_err(Broken::Writing)?;
                self.pending.advance(written);
                self.passed += written as u64;
            }
            if self.has_ended {
                ready!(Pin::new(&mut *to).poll_shutdown(cx)).map_err(Broken::Writing)?;
                self.is_over = true;
                break;
            }
            if self.pending.capacity() > 0 {
                self.pending = BytesMut::new();
            }
            let mut read = ReadBuf::new(scratch);
            ready!(Pin::new(&mut *from).poll_read(cx, &mut read)).map_err(Broken::Reading)?;
            let filled = read.filled();
            self.has_ended = filled.is_empty();
            if filled.is_empty() {
                continue;
            }
            let written = match write(to, filled, cx) {
                Poll::Ready(written) => written.map_err(Broken::Writing)?,
                Poll::Pending => 0,
            };
            self.passed += written as u64;
            self.pending.extend_from_slice(filled.get(written..).unwrap_or_default());
        }
        Poll::Ready(Ok(()))
    }
}

fn write(to: &mut Socket, bytes: &[u8], cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    match ready!(Pin::new(to).poll_write(cx, bytes)) {
        Ok(0) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
        other => Poll::Ready(other),
    }
}
