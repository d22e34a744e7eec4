//! The state machine of one connection, for either role.
//!
//! Bytes go in by [`Connection::receive`], which says what they mean; calls say what is to be sent; what is to be
//! written comes out of [`Connection::output`]. Faults of the peer become RST_STREAM or GOAWAY here, with the codes of
//! RFC 9113; whoever drives the connection learns of them and has nothing to decide.

mod control;
mod heads;
mod receive;
mod send;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crate::config::{Config, WINDOW_DEFAULT};
use crate::error::{ConnectionError, ErrorCode};
use crate::event::Event;
use crate::flood::Flood;
use crate::flow::{Receive, Send};
use crate::frame::{PREFACE, kind};
use crate::hpack::{Decoder, Encoder};
use crate::output::Output;
use crate::settings::{self, PeerSettings};
use crate::streams::{Closed, Receiving, Sending, Stream, StreamId, Streams};

/// The highest stream there can be; a GOAWAY with it refuses nothing.
const STREAM_MAX: u32 = (1 << 31) - 1;

/// Which side of the connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Client,
    Server,
}

/// How far the connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// A client's preface comes first.
    Preface,
    /// Then SETTINGS.
    Settings,
    Open,
    Failed(ConnectionError),
}

/// A header block that is not whole yet.
#[derive(Debug)]
struct Partial {
    stream: u32,
    is_end: bool,
    depends_on_itself: bool,
    block: Vec<u8>,
}

/// What was counted on a connection, beside its errors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages that broke HTTP's rules.
    pub malformed: u64,
    /// Heads and trailers beyond the limits.
    pub too_large: u64,
    /// Streams refused because too many were open.
    pub refused: u64,
    /// Frames received.
    pub frames: u64,
}

/// One HTTP/2 connection, without its socket.
#[derive(Debug)]
pub struct Connection {
    role: Role,
    config: Arc<Config>,
    stage: Stage,
    now: Instant,
    decoder: Decoder,
    encoder: Encoder,
    partial: Option<Partial>,
    streams: Streams,
    peer: PeerSettings,
    /// What all streams together may send, and receive.
    send: Send,
    receive: Receive,
    /// The client's next stream.
    next_stream: u32,
    /// The highest stream that the peer opened, whatever became of it.
    last_stream: u32,
    /// The highest that was handed out.
    last_accepted: u32,
    /// Our final GOAWAY: streams beyond are ignored.
    refuses_beyond: Option<u32>,
    /// We have asked the peer to open no more.
    is_draining: bool,
    /// The peer's GOAWAY.
    peer_last_stream: Option<u32>,
    output: Output,
    /// Streams with data that may be sent, in turn.
    ready: VecDeque<StreamId>,
    /// Streams of which somebody waits to hear that something was sent.
    writable: VecDeque<StreamId>,
    /// Events beyond the first of a frame.
    events: VecDeque<Event>,
    flood: Flood,
    counts: Counts,
}

impl Connection {
    /// The server's side.
    pub fn server(config: Arc<Config>, now: Instant) -> Connection {
        Connection::new(Role::Server, config, now)
    }

    /// The client's side.
    pub fn client(config: Arc<Config>, now: Instant) -> Connection {
        Connection::new(Role::Client, config, now)
    }

    fn new(role: Role, config: Arc<Config>, now: Instant) -> Connection {
        let mut output = Output::default();
        if role == Role::Client {
            output.raw(PREFACE);
        }
        let payload = settings::announce(&config, role == Role::Client);
        output.frame(kind::SETTINGS, 0, 0, &payload);
        let window = config.connection_window();
        if let Some(more @ 1..) = window.checked_sub(WINDOW_DEFAULT) {
            output.frame(kind::WINDOW_UPDATE, 0, 0, &more.to_be_bytes());
        }
        let table_bytes = config.table_bytes() as usize;
        Connection {
            role,
            stage: if role == Role::Client { Stage::Settings } else { Stage::Preface },
            now,
            decoder: Decoder::new(table_bytes),
            encoder: Encoder::new(table_bytes, config.huffman),
            config,
            partial: None,
            streams: Streams::default(),
            peer: PeerSettings::default(),
            send: Send::new(WINDOW_DEFAULT),
            receive: Receive::new(window),
            next_stream: 1,
            last_stream: 0,
            last_accepted: 0,
            refuses_beyond: None,
            is_draining: false,
            peer_last_stream: None,
            output,
            ready: VecDeque::new(),
            writable: VecDeque::new(),
            events: VecDeque::new(),
            flood: Flood::default(),
            counts: Counts::default(),
        }
    }

    /// Says what time it is: once before each batch of input will do.
    pub fn set_now(&mut self, now: Instant) {
        self.now = now;
    }

    /// Streams that are open.
    pub fn active_streams(&self) -> usize {
        self.streams.len()
    }

    /// Whether a stream is open: neither reset nor ended, with everything sent, in both directions.
    pub fn is_open(&mut self, stream: StreamId) -> bool {
        self.streams.get(stream).is_some()
    }

    /// Streams that a client may have open at once: the server's limit or its own, whichever is lower.
    pub fn max_streams(&self) -> u32 {
        self.peer.max_concurrent_streams.min(self.config.max_concurrent_streams)
    }

    /// How many more streams a client may open now.
    pub fn open_slots(&self) -> usize {
        if !self.takes_streams() {
            return 0;
        }
        (self.max_streams() as usize).saturating_sub(self.streams.len())
    }

    /// Whether new streams may begin at all, now or when others have ended.
    pub fn takes_streams(&self) -> bool {
        self.role == Role::Client
            && self.peer_last_stream.is_none()
            && !self.is_draining
            && self.next_stream <= STREAM_MAX
            && !matches!(self.stage, Stage::Failed(_))
    }

    /// Whether the peer takes extended CONNECT (RFC 8441). Known once its SETTINGS came.
    pub fn peer_takes_protocol(&self) -> bool {
        self.peer.takes_protocol
    }

    /// Whether no stream can begin any more and none is left: what is in the output is the last of it.
    pub fn is_over(&self) -> bool {
        let is_last = match self.role {
            Role::Server => self.refuses_beyond.is_some(),
            Role::Client => self.refuses_beyond.is_some() || self.peer_last_stream.is_some(),
        };
        matches!(self.stage, Stage::Failed(_)) || is_last && self.streams.len() == 0
    }

    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Sends a PING, which the peer answers with the same payload.
    pub fn ping(&mut self, payload: [u8; 8]) {
        self.output.frame(kind::PING, 0, 0, &payload);
    }

    /// Asks the peer to open no more streams, and takes those that it opens before it hears of it (RFC 9113 section
    /// 6.8). [`go_away`](Self::go_away) is to follow when it must have heard.
    pub fn announce_drain(&mut self) {
        if !self.is_draining && self.refuses_beyond.is_none() {
            self.is_draining = true;
            self.write_go_away(STREAM_MAX, ErrorCode::NO_ERROR, "");
        }
    }

    /// Takes no more streams. Those that were taken go on, unless the code says that something is wrong.
    pub fn go_away(&mut self, code: ErrorCode) {
        self.is_draining = true;
        if self.refuses_beyond.is_none() || code != ErrorCode::NO_ERROR {
            self.refuses_beyond = Some(self.last_accepted);
            self.write_go_away(self.last_accepted, code, "");
        }
    }

    fn write_go_away(&mut self, last: u32, code: ErrorCode, reason: &str) {
        let mut payload = Vec::with_capacity(8 + reason.len());
        payload.extend_from_slice(&last.to_be_bytes());
        payload.extend_from_slice(&code.0.to_be_bytes());
        payload.extend_from_slice(reason.as_bytes());
        self.output.frame(kind::GOAWAY, 0, 0, &payload);
    }

    /// So many bytes of a stream's [`Data`](Event::Data) are consumed: the peer may send as many more. To be called for
    /// data of streams that are over, too.
    pub fn consumed(&mut self, stream: StreamId, bytes: usize) {
        self.credit_connection(bytes);
        if let Some(stream) = self.streams.get(stream)
            && stream.receiving != Receiving::Ended
            && let Some(update) = stream.receive.consumed(bytes)
        {
            let number = stream.id.number();
            self.output.frame(kind::WINDOW_UPDATE, 0, number, &update.to_be_bytes());
        }
    }

    fn credit_connection(&mut self, bytes: usize) {
        if let Some(update) = self.receive.consumed(bytes) {
            self.output.frame(kind::WINDOW_UPDATE, 0, 0, &update.to_be_bytes());
        }
    }

    /// Resets a stream. With NO_ERROR, and after everything was sent on it, what waits is sent first.
    pub fn reset(&mut self, stream: StreamId, code: ErrorCode) {
        let Some(found) = self.streams.get(stream) else { return };
        if code == ErrorCode::NO_ERROR && matches!(found.sending, Sending::Ending(_)) {
            found.reset_after = Some(code);
            return;
        }
        self.write_reset(stream.number(), code);
        self.remove(stream, Closed::ByUs);
    }

    fn write_reset(&mut self, number: u32, code: ErrorCode) {
        self.output.frame(kind::RST_STREAM, 0, number, &code.0.to_be_bytes());
    }

    fn remove(&mut self, id: StreamId, how: Closed) -> Option<Stream> {
        let stream = self.streams.remove(id, how)?;
        self.flood.closed();
        if stream.awaits_capacity || stream.awaits_flush {
            self.writable.push_back(id);
        }
        Some(stream)
    }

    /// Removes a stream on which both sides have ended.
    fn settle(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get(id)
            && stream.sending == Sending::Ended
        {
            if stream.receiving == Receiving::Ended {
                self.remove(id, Closed::Ended);
            } else if let Some(code) = stream.reset_after {
                self.write_reset(id.number(), code);
                self.remove(id, Closed::ByUs);
            }
        }
    }
}
