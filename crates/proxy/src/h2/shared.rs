//! What a connection's task, its streams and its handles share.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Waker};

use http::StatusCode;
use ostro_engine::Headers;
use ostro_http2::{Chunks, Connection, ErrorCode, Event, RequestHead, ResponseHead, StreamId};

use super::fault::{ConnectionFault, StreamError};

/// The payload of the PING that follows the announcement of a drain. Others are small numbers.
const DRAIN_PING: [u8; 8] = *b"draining";

/// One thread's reference to it.
pub(super) type SharedRef = Rc<RefCell<Shared>>;

/// Whom to wake, if anybody.
#[derive(Debug, Default)]
pub(super) struct Wake(Option<Waker>);

impl Wake {
    /// Wakes this task the next time.
    pub(super) fn register(&mut self, cx: &Context<'_>) {
        match &mut self.0 {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }

    /// Wakes whoever is registered, until registered again.
    pub(super) fn wake(&mut self) {
        if let Some(waker) = self.0.take() {
            waker.wake();
        }
    }
}

/// How far a body has come.
#[derive(Debug)]
pub(super) enum End {
    /// More may come.
    Open,
    /// That was all; trailers, until they are handed out.
    Ended(Option<Headers>),
}

/// What is known of a stream that somebody holds.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: StreamId,
    pub(super) interims: VecDeque<ResponseHead>,
    pub(super) head: Option<ResponseHead>,
    /// Received, and not handed out yet.
    pub(super) body: Chunks,
    pub(super) end: End,
    pub(super) error: Option<StreamError>,
    /// The end was sent, or waits to be.
    pub(super) has_sent_end: bool,
    pub(super) reader: Wake,
    pub(super) writer: Wake,
    pub(super) watcher: Wake,
}

impl Entry {
    fn fail(&mut self, error: StreamError) {
        self.error.get_or_insert(error);
        self.reader.wake();
        self.writer.wake();
        self.watcher.wake();
    }
}

/// What has changed since somebody asked.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Changes {
    pub(super) slots: bool,
    pub(super) idle: bool,
    pub(super) going_away: bool,
    pub(super) closed: bool,
}

/// The state of a connection.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) connection: Connection,
    pub(super) is_client: bool,
    entries: Vec<Option<Entry>>,
    free: Vec<usize>,
    /// By the connection's slots: places in `entries`. An entry's id says whether it is still meant.
    by_slot: Vec<usize>,
    task: Option<Waker>,
    /// The task will run without being woken once more.
    is_awake: bool,
    /// The connection is over, or about to be.
    pub(super) fault: Option<ConnectionFault>,
    /// Somebody wants it closed.
    pub(super) wants_close: Option<ErrorCode>,
    pub(super) changes: Changes,
    pub(super) watcher: Wake,
    active_before: usize,
    pings_sent: u64,
    pings_answered: u64,
    pub(super) pong: Wake,
    pub(super) refused_heads: u64,
}

impl Shared {
    pub(super) fn new(connection: Connection, is_client: bool) -> Shared {
        Shared {
            connection,
            is_client,
            entries: Vec::new(),
            free: Vec::new(),
            by_slot: Vec::new(),
            task: None,
            is_awake: false,
            fault: None,
            wants_close: None,
            changes: Changes::default(),
            watcher: Wake::default(),
            active_before: 0,
            pings_sent: 0,
            pings_answered: 0,
            pong: Wake::default(),
            refused_heads: 0,
        }
    }

    /// The connection's task runs.
    pub(super) fn runs(&mut self, cx: &Context<'_>) {
        self.is_awake = false;
        match &mut self.task {
            Some(task) => task.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }

    /// The connection's task will run again without being woken.
    pub(super) fn runs_on(&mut self) {
        self.is_awake = true;
    }

    /// There is something for the connection's task to do.
    pub(super) fn wake_task(&mut self) {
        if !self.is_awake {
            self.is_awake = true;
            if let Some(task) = &self.task {
                task.wake_by_ref();
            }
        }
    }

    /// Adds what is known of a new stream.
    pub(super) fn add(&mut self, id: StreamId, end: End) -> usize {
        let entry = Entry {
            id,
            interims: VecDeque::new(),
            head: None,
            body: Chunks::default(),
            end,
            error: None,
            has_sent_end: false,
            reader: Wake::default(),
            writer: Wake::default(),
            watcher: Wake::default(),
        };
        let place = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            self.entries.len() - 1
        });
        if let Some(slot) = self.entries.get_mut(place) {
            *slot = Some(entry);
        }
        if self.by_slot.len() <= id.slot() {
            self.by_slot.resize(id.slot() + 1, usize::MAX);
        }
        if let Some(slot) = self.by_slot.get_mut(id.slot()) {
            *slot = place;
        }
        self.active_before = self.active_before.max(self.connection.active_streams());
        place
    }

    /// By its place.
    pub(super) fn entry(&mut self, place: usize) -> Option<&mut Entry> {
        self.entries.get_mut(place)?.as_mut()
    }

    /// What is known of a stream, beside the connection that knows the rest.
    pub(super) fn split(&mut self, place: usize) -> Option<(&mut Connection, &mut Entry)> {
        Some((&mut self.connection, self.entries.get_mut(place)?.as_mut()?))
    }

    fn by_id(&mut self, id: StreamId) -> Option<&mut Entry> {
        let place = *self.by_slot.get(id.slot())?;
        self.entries.get_mut(place)?.as_mut().filter(|entry| entry.id == id)
    }

    /// Nobody holds the stream any more.
    pub(super) fn remove(&mut self, place: usize) {
        let Some(entry) = self.entries.get_mut(place).and_then(Option::take) else { return };
        self.free.push(place);
        let unread = entry.body.len();
        if unread > 0 {
            self.connection.consumed(entry.id, unread);
        }
        let is_answered = entry.has_sent_end && !self.is_client;
        let code = if is_answered { ErrorCode::NO_ERROR } else { ErrorCode::CANCEL };
        self.connection.reset(entry.id, code);
        self.note_streams();
        if self.connection.output_len() > 0 {
            self.wake_task();
        }
    }

    /// What an event means to whoever waits for it. A request is left to the caller, with its place.
    pub(super) fn take(&mut self, event: Event) -> Option<(Box<RequestHead>, usize)> {
        match event {
            Event::Request { stream, head, end } => {
                let end = if end { End::Ended(None) } else { End::Open };
                return Some((head, self.add(stream, end)));
            }
            Event::Data { stream, data, end } => match self.by_id(stream) {
                Some(entry) => {
                    entry.body.push(data);
                    if end {
                        entry.end = End::Ended(None);
                    }
                    entry.reader.wake();
                }
                None => self.connection.consumed(stream, data.len()),
            },
            Event::Response { stream, head, end } => {
                if let Some(entry) = self.by_id(stream) {
                    entry.head = Some(head);
                    if end {
                        entry.end = End::Ended(None);
                    }
                    entry.reader.wake();
                }
            }
            Event::Interim { stream, head } => {
                if let Some(entry) = self.by_id(stream) {
                    entry.interims.push_back(head);
                    entry.reader.wake();
                }
            }
            Event::Trailers { stream, trailers } => {
                if let Some(entry) = self.by_id(stream) {
                    entry.end = End::Ended(Some(trailers));
                    entry.reader.wake();
                }
            }
            Event::Reset { stream, code, origin, unprocessed } => {
                if let Some(entry) = self.by_id(stream) {
                    entry.fail(StreamError::Reset { code, origin, unprocessed });
                }
            }
            Event::TooLarge { stream, .. } => self.refuse_head(stream),
            Event::Pong(payload) => self.answered(payload),
            Event::GoAway { .. } => self.changes.going_away = true,
            Event::Settings => self.changes.slots = true,
        }
        None
    }

    /// RFC 6585 section 5.
    fn refuse_head(&mut self, stream: StreamId) {
        self.refused_heads += 1;
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        // It has just begun: there is nothing in the way of an answer.
        let _ = self.connection.send_response(stream, status, &Headers::default(), true);
        self.connection.reset(stream, ErrorCode::NO_ERROR);
    }

    /// Sends a PING, unless one is on its way.
    pub(super) fn ping(&mut self) {
        if self.pings_sent == self.pings_answered {
            self.pings_sent += 1;
            self.connection.ping(self.pings_sent.to_be_bytes());
            self.wake_task();
        }
    }

    /// Whether no PING waits for its answer.
    pub(super) fn is_answered(&self) -> bool {
        self.pings_sent == self.pings_answered
    }

    fn answered(&mut self, payload: [u8; 8]) {
        if payload == DRAIN_PING {
            self.connection.go_away(ErrorCode::NO_ERROR);
        } else if payload == self.pings_sent.to_be_bytes() {
            self.pings_answered = self.pings_sent;
            self.pong.wake();
        }
    }

    /// Takes no new streams, and lets those that are there end.
    pub(super) fn drain(&mut self) {
        if self.is_client {
            self.connection.go_away(ErrorCode::NO_ERROR);
        } else {
            self.connection.announce_drain();
            self.connection.ping(DRAIN_PING);
        }
        self.wake_task();
    }

    /// Wakes those whose streams take data again, or have nothing left.
    pub(super) fn wake_writers(&mut self) {
        while let Some(stream) = self.connection.take_writable() {
            if let Some(entry) = self.by_id(stream) {
                entry.writer.wake();
            }
        }
    }

    /// Notes that streams have ended, and tells whoever watches.
    pub(super) fn note_streams(&mut self) {
        let active = self.connection.active_streams();
        if active < self.active_before {
            self.changes.slots = true;
            self.changes.idle |= active == 0;
        }
        self.active_before = active;
        let Changes { slots, idle, going_away, closed } = self.changes;
        if slots || idle || going_away || closed {
            self.watcher.wake();
        }
    }

    /// The connection is over: so are its streams.
    pub(super) fn fail(&mut self, fault: ConnectionFault) {
        if self.fault.is_some() {
            return;
        }
        self.fault = Some(fault);
        for entry in self.entries.iter_mut().flatten() {
            // Those that have ended well before have ended well.
            if self.connection.is_open(entry.id) {
                entry.fail(StreamError::Connection(fault));
            }
        }
        self.changes.closed = true;
        self.pong.wake();
        self.watcher.wake();
    }
}
