//! A connection, as those see it who decide over it.

use std::task::{Context, Poll};

use http::HeaderValue;
use ostro_engine::Request;
use ostro_http2::{Counts, ErrorCode, OpenError};

use super::fault::ConnectionFault;
use super::shared::{End, SharedRef};
use super::stream::Stream;

/// Something that a pool wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Streams can be opened again, or how many can has changed.
    Slots,
    /// The last stream has ended.
    Idle,
    /// The peer takes no new streams.
    GoingAway,
    /// The connection is over.
    Closed,
}

/// A connection beside its task. Clones mean the same connection.
#[derive(Clone, Debug)]
pub struct Handle {
    shared: SharedRef,
}

impl Handle {
    pub(super) fn new(shared: SharedRef) -> Handle {
        Handle { shared }
    }

    /// Sends a request (client). `protocol` makes it an extended CONNECT; `is_end`: it has no body.
    ///
    /// # Errors
    /// No stream can be opened, now or ever.
    pub fn open(
        &self,
        request: &Request,
        protocol: Option<&HeaderValue>,
        is_end: bool,
    ) -> Result<Stream, OpenError> {
        let mut shared = self.shared.borrow_mut();
        if shared.fault.is_some() || shared.wants_close.is_some() {
            return Err(OpenError::GoingAway);
        }
        let id = shared.connection.send_request(request, protocol, is_end)?;
        let place = shared.add(id, End::Open);
        if let Some(entry) = shared.entry(place) {
            entry.has_sent_end = is_end;
        }
        shared.wake_task();
        Ok(Stream::new(self.shared.clone(), place))
    }

    /// How many streams can be opened now (client).
    pub fn open_slots(&self) -> usize {
        let shared = self.shared.borrow();
        if shared.fault.is_some() { 0 } else { shared.connection.open_slots() }
    }

    /// How many streams may be open at once (client): 100 until the server has said what it takes.
    pub fn max_streams(&self) -> u32 {
        self.shared.borrow().connection.max_streams()
    }

    /// Whether streams can be opened at all (client), now or when others have ended.
    pub fn can_open(&self) -> bool {
        let shared = self.shared.borrow();
        shared.fault.is_none() && shared.wants_close.is_none() && shared.connection.takes_streams()
    }

    /// Whether the server takes extended CONNECT (RFC 8441); known once its SETTINGS came.
    pub fn takes_protocol(&self) -> bool {
        self.shared.borrow().connection.peer_takes_protocol()
    }

    /// How many streams are open.
    pub fn active_streams(&self) -> usize {
        self.shared.borrow().connection.active_streams()
    }

    /// Whether no stream is open.
    pub fn is_idle(&self) -> bool {
        self.active_streams() == 0
    }

    /// Whether the connection is over.
    pub fn is_closed(&self) -> bool {
        self.fault().is_some()
    }

    /// Why the connection is over, if it is.
    pub fn fault(&self) -> Option<ConnectionFault> {
        self.shared.borrow().fault
    }

    /// Ends the connection when its streams have ended. A server says so first, takes what comes until the client has
    /// heard of it (told by a PING), and then nothing more (RFC 9113 section 6.8).
    pub fn graceful_shutdown(&self) {
        self.shared.borrow_mut().drain();
    }

    /// Ends the connection and its streams now; the peer is told why.
    pub fn close(&self, code: ErrorCode) {
        let mut shared = self.shared.borrow_mut();
        if shared.fault.is_none() && shared.wants_close.is_none() {
            shared.connection.go_away(code);
            shared.wants_close = Some(code);
            shared.wake_task();
        }
    }

    /// Sends a PING, unless one waits for its answer already.
    pub fn ping(&self) {
        self.shared.borrow_mut().ping();
    }

    /// Ready when no PING waits for its answer, or the connection is over.
    pub fn poll_pong(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut shared = self.shared.borrow_mut();
        if shared.is_answered() || shared.fault.is_some() {
            return Poll::Ready(());
        }
        shared.pong.register(cx);
        Poll::Pending
    }

    /// What has changed: for one watcher. `Closed` is told last and again and again.
    pub fn poll_change(&self, cx: &mut Context<'_>) -> Poll<Change> {
        let mut shared = self.shared.borrow_mut();
        let changes = &mut shared.changes;
        for (flag, change) in [
            (&mut changes.going_away, Change::GoingAway),
            (&mut changes.slots, Change::Slots),
            (&mut changes.idle, Change::Idle),
        ] {
            if std::mem::take(flag) {
                return Poll::Ready(change);
            }
        }
        if changes.closed {
            return Poll::Ready(Change::Closed);
        }
        shared.watcher.register(cx);
        Poll::Pending
    }

    /// Frames received so far: where this does not move, nothing comes.
    pub fn frames_received(&self) -> u64 {
        self.counts().frames
    }

    /// What was counted on the connection.
    pub fn counts(&self) -> Counts {
        self.shared.borrow().connection.counts()
    }

    /// Requests that were answered with 431 because their heads were too large (server).
    pub fn refused_heads(&self) -> u64 {
        self.shared.borrow().refused_heads
    }
}
