//! Input: the preface, frames, and DATA.

use bytes::{Buf as _, Bytes, BytesMut};

use super::{Connection, Role, Stage};
use crate::config::OnMalformed;
use crate::error::{ConnectionError, ErrorCode, Fault, fault, protocol};
use crate::event::{Event, Origin};
use crate::flood::Flood;
use crate::frame::{FrameHeader, HEADER_BYTES, PREFACE, flag, kind};
use crate::streams::{Closed, NO_LENGTH, Receiving, StreamId};

/// Payloads shorter than this are copied, so that a little data does not keep a read's whole buffer alive.
const COPY_BELOW: usize = 1024;

/// What became of one frame.
type Outcome = Result<Option<Event>, Fault>;

impl Connection {
    /// Takes what it can off the front of `input`, up to the next event. To be called again until it says `None`: then
    /// more input is needed.
    ///
    /// # Errors
    /// The peer broke a rule of the connection. A GOAWAY is in the output; the connection is to be closed behind it.
    /// Every later call fails alike.
    pub fn receive(&mut self, input: &mut BytesMut) -> Result<Option<Event>, ConnectionError> {
        if let Some(event) = self.events.pop_front() {
            return Ok(Some(event));
        }
        loop {
            match self.step(input) {
                Ok(Some(None)) => {}
                Ok(Some(event)) => return Ok(event),
                Ok(None) => return Ok(None),
                Err(fault) => return Err(self.fail(fault)),
            }
        }
    }

    /// One frame, if there is one.
    fn step(&mut self, input: &mut BytesMut) -> Result<Option<Option<Event>>, Fault> {
        match self.stage {
            Stage::Failed(error) => return Err(Fault { code: error.code, reason: error.reason }),
            Stage::Preface => {
                let seen = input.len().min(PREFACE.len());
                if input.get(..seen) != PREFACE.get(..seen) {
                    return Err(protocol("no preface"));
                }
                if seen < PREFACE.len() {
                    return Ok(None);
                }
                input.advance(seen);
                self.stage = Stage::Settings;
            }
            Stage::Settings | Stage::Open => {}
        }
        let Some(header) = FrameHeader::read(input) else { return Ok(None) };
        self.check(header)?;
        let size = HEADER_BYTES + header.length;
        if input.len() < size {
            return Ok(None);
        }
        self.counts.frames += 1;
        let event = if header.kind == kind::DATA {
            self.data(header, input)?
        } else {
            let event = self.frame(header, input.get(HEADER_BYTES..size).unwrap_or_default())?;
            input.advance(size);
            event
        };
        Flood::outbound(self.output.frames(), self.output.control_frames(), &self.config.limits)?;
        Ok(Some(event))
    }

    /// What can be said of a frame before its payload is there.
    fn check(&mut self, header: FrameHeader) -> Result<(), Fault> {
        if header.length > self.config.max_frame_bytes() as usize {
            return Err(fault(ErrorCode::FRAME_SIZE_ERROR, "a frame larger than announced"));
        }
        if let Some(partial) = &self.partial {
            if header.kind != kind::CONTINUATION || header.stream != partial.stream {
                return Err(protocol("a frame within a header block"));
            }
        } else if header.kind == kind::CONTINUATION {
            return Err(protocol("CONTINUATION of nothing"));
        }
        if self.stage == Stage::Settings && (header.kind != kind::SETTINGS || header.has(flag::ACK)) {
            return Err(protocol("something before SETTINGS"));
        }
        Ok(())
    }

    fn frame(&mut self, header: FrameHeader, payload: &[u8]) -> Outcome {
        match header.kind {
            kind::HEADERS => self.headers(header, payload),
            kind::CONTINUATION => self.continuation(header, payload),
            kind::WINDOW_UPDATE => self.window_update(header, payload),
            kind::RST_STREAM => self.rst_stream(header, payload),
            kind::SETTINGS => self.settings(header, payload),
            kind::PING => self.pong(header, payload),
            kind::GOAWAY => self.peer_goes_away(header, payload),
            kind::PRIORITY => self.priority(header, payload),
            // Servers never get any, and clients have said that they take none.
            kind::PUSH_PROMISE => Err(protocol("PUSH_PROMISE")),
            _ => Ok(None),
        }
    }

    fn data(&mut self, header: FrameHeader, input: &mut BytesMut) -> Outcome {
        let is_end = header.has(flag::END_STREAM);
        self.flood.frame(header.length == 0 && !is_end, &self.config.limits)?;
        if header.stream == 0 {
            return Err(protocol("DATA for stream 0"));
        }
        let padding = padding(header, input)?;
        if !self.receive.take(header.length as u32) {
            return Err(fault(ErrorCode::FLOW_CONTROL_ERROR, "more than the connection's window"));
        }
        let (id, outcome) = match self.streams.by_number(header.stream) {
            None => (None, Ok(())),
            Some(stream) => {
                let length = (header.length - padding) as u64;
                let outcome = match stream.receiving {
                    Receiving::Head => Err(protocol("DATA before a head")),
                    Receiving::Ended => Err(fault(ErrorCode::STREAM_CLOSED, "DATA behind the end")),
                    Receiving::Body if !stream.receive.take(header.length as u32) => {
                        Err(fault(ErrorCode::FLOW_CONTROL_ERROR, "more than the stream's window"))
                    }
                    Receiving::Body => take_length(&mut stream.length_left, length, is_end),
                };
                (Some(stream.id), outcome)
            }
        };
        let event = match (id, outcome) {
            (Some(id), Ok(())) => Ok(self.taken(id, take_payload(header, padding, input), padding, is_end)),
            (id, outcome) => {
                input.advance(HEADER_BYTES + header.length);
                self.credit_connection(header.length);
                match (id, outcome) {
                    (Some(id), Err(fault)) => self.stream_fault(id, fault),
                    _ => self.stray(header),
                }
            }
        }?;
        Ok(event)
    }

    /// Data that is as it should be.
    fn taken(&mut self, stream: StreamId, data: Bytes, padding: usize, is_end: bool) -> Option<Event> {
        if padding > 0 {
            self.consumed(stream, padding);
        }
        if is_end {
            if let Some(stream) = self.streams.get(stream) {
                stream.receiving = Receiving::Ended;
            }
            self.settle(stream);
        }
        (is_end || !data.is_empty()).then_some(Event::Data { stream, data, end: is_end })
    }

    /// DATA or HEADERS for a stream that does not live (RFC 9113 section 5.1).
    pub(super) fn stray(&mut self, header: FrameHeader) -> Outcome {
        if self.is_idle(header.stream) {
            return Err(protocol("a frame for an idle stream"));
        }
        if self.refuses_beyond.is_some_and(|last| self.is_peers(header.stream) && header.stream > last) {
            return Ok(None);
        }
        match self.streams.closed(header.stream) {
            Closed::Ended => Err(fault(ErrorCode::STREAM_CLOSED, "a frame for a stream that has ended")),
            Closed::ByPeer => {
                self.write_reset(header.stream, ErrorCode::STREAM_CLOSED);
                Ok(None)
            }
            Closed::ByUs | Closed::Forgotten => Ok(None),
            Closed::Never => Err(protocol("a frame for a stream that was passed over")),
        }
    }

    /// Whether the peer opens streams of such numbers.
    pub(super) fn is_peers(&self, number: u32) -> bool {
        self.role == Role::Server && number % 2 == 1
    }

    /// Whether no such stream has begun yet.
    pub(super) fn is_idle(&self, number: u32) -> bool {
        match self.role {
            Role::Server => number.is_multiple_of(2) || number > self.last_stream,
            Role::Client => number.is_multiple_of(2) || number >= self.next_stream,
        }
    }

    /// A fault on one stream: it is reset.
    pub(super) fn stream_fault(&mut self, stream: StreamId, fault: Fault) -> Outcome {
        self.write_reset(stream.number(), fault.code);
        self.remove(stream, Closed::ByUs);
        let event = Event::Reset { stream, code: fault.code, origin: Origin::Us, unprocessed: false };
        Ok(Some(event))
    }

    /// A message that is none. `stream`: whose, if it lives.
    pub(super) fn malformed(
        &mut self,
        number: u32,
        stream: Option<StreamId>,
        reason: &'static str,
    ) -> Outcome {
        self.counts.malformed += 1;
        if self.config.on_malformed == OnMalformed::CloseConnection {
            return Err(protocol(reason));
        }
        match stream {
            Some(stream) => self.stream_fault(stream, protocol(reason)),
            None => {
                self.write_reset(number, ErrorCode::PROTOCOL_ERROR);
                self.streams.remember(number, Closed::ByUs);
                Ok(None)
            }
        }
    }

    /// The connection cannot go on.
    fn fail(&mut self, fault: Fault) -> ConnectionError {
        let error = ConnectionError { code: fault.code, reason: fault.reason };
        if !matches!(self.stage, Stage::Failed(_)) {
            self.stage = Stage::Failed(error);
            self.write_go_away(self.last_accepted, error.code, error.reason);
        }
        error
    }
}

/// Bytes of a DATA frame that are no data: the padding, and the byte that tells its length.
fn padding(header: FrameHeader, input: &[u8]) -> Result<usize, Fault> {
    if !header.has(flag::PADDED) {
        return Ok(0);
    }
    let padding =
        input.get(HEADER_BYTES).filter(|_| header.length > 0).map(|length| usize::from(*length) + 1);
    padding.filter(|padding| *padding <= header.length).ok_or(protocol("more padding than payload"))
}

/// Takes a DATA frame off the front; its data is left.
fn take_payload(header: FrameHeader, padding: usize, input: &mut BytesMut) -> Bytes {
    let size = header.length - padding;
    input.advance(HEADER_BYTES + usize::from(padding > 0));
    let data = match input.get(..size) {
        Some(data) if size < COPY_BELOW => {
            let data = Bytes::copy_from_slice(data);
            input.advance(size);
            data
        }
        _ => input.split_to(size).freeze(),
    };
    input.advance(padding.saturating_sub(1));
    data
}

/// Holds a body to the length that its head announced.
fn take_length(left: &mut u64, bytes: u64, is_end: bool) -> Result<(), Fault> {
    if *left != NO_LENGTH {
        *left = left.checked_sub(bytes).ok_or(protocol("more data than announced"))?;
        if is_end && *left > 0 {
            return Err(protocol("less data than announced"));
        }
    }
    Ok(())
}
