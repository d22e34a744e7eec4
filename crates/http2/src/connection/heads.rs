//! Header blocks: heads, interim heads, trailers.

use super::{Connection, Partial};
use crate::chunks::Chunks;
use crate::error::{ErrorCode, Fault, fault, protocol};
use crate::event::{Event, RequestHead};
use crate::flow::{Receive, Send};
use crate::frame::{FrameHeader, flag, kind, number, unpadded};
use crate::message::Section;
use crate::streams::{Closed, NO_LENGTH, Receiving, Sending, Stream, StreamId};

/// Interim responses to one request.
const INTERIMS_MAX: u32 = 100;
/// Bytes of the priority that HEADERS may begin with.
const PRIORITY_BYTES: usize = 5;

type Outcome = Result<Option<Event>, Fault>;

/// What is known of a block before it is decoded.
#[derive(Clone, Copy)]
struct About {
    stream: u32,
    is_end: bool,
    depends_on_itself: bool,
}

impl Connection {
    pub(super) fn headers(&mut self, header: FrameHeader, payload: &[u8]) -> Outcome {
        if header.stream == 0 {
            return Err(protocol("HEADERS for stream 0"));
        }
        let is_end = header.has(flag::END_STREAM);
        self.flood.frame(header.length == 0 && !is_end, &self.config.limits)?;
        let mut block = unpadded(header, payload).ok_or(protocol("more padding than payload"))?;
        let mut depends_on_itself = false;
        if header.has(flag::PRIORITY) {
            depends_on_itself = number(block) == Some(header.stream);
            block = block.get(PRIORITY_BYTES..).ok_or(fault(ErrorCode::FRAME_SIZE_ERROR, "HEADERS"))?;
        }
        if header.has(flag::END_HEADERS) {
            return self.block(About { stream: header.stream, is_end, depends_on_itself }, block);
        }
        let block = block.to_vec();
        self.partial = Some(Partial { stream: header.stream, is_end, depends_on_itself, block });
        Ok(None)
    }

    pub(super) fn continuation(&mut self, header: FrameHeader, payload: &[u8]) -> Outcome {
        self.flood.frame(header.length == 0, &self.config.limits)?;
        let Some(mut partial) = self.partial.take() else { return Err(protocol("CONTINUATION of nothing")) };
        if partial.block.len() + payload.len() > self.config.block_bytes_max() {
            return Err(fault(ErrorCode::ENHANCE_YOUR_CALM, "a header block without end"));
        }
        partial.block.extend_from_slice(payload);
        if header.has(flag::END_HEADERS) {
            let Partial { stream, is_end, depends_on_itself, block } = partial;
            return self.block(About { stream, is_end, depends_on_itself }, &block);
        }
        self.partial = Some(partial);
        Ok(None)
    }

    /// A whole block. It is decoded whatever becomes of its stream: the table must stay as the peer has it.
    fn block(&mut self, about: About, block: &[u8]) -> Outcome {
        let mut section = Section::new(self.config.head_bytes, self.config.head_fields);
        let decoded = self.decoder.decode(block, &mut section);
        decoded.map_err(|_| fault(ErrorCode::COMPRESSION_ERROR, "a header block that cannot be decoded"))?;
        let Some(stream) = self.streams.by_number(about.stream) else {
            return self.first(about, section);
        };
        let (id, receiving) = (stream.id, stream.receiving);
        if about.depends_on_itself {
            return self.stream_fault(id, protocol("a stream that depends on itself"));
        }
        match receiving {
            Receiving::Ended => {
                self.stream_fault(id, fault(ErrorCode::STREAM_CLOSED, "HEADERS behind the end"))
            }
            _ if section.is_too_large() => {
                self.counts.too_large += 1;
                self.stream_fault(id, fault(ErrorCode::ENHANCE_YOUR_CALM, "a head larger than allowed"))
            }
            Receiving::Head => self.response(id, about.is_end, section),
            Receiving::Body => self.trailers(id, about.is_end, section),
        }
    }

    /// A block for a stream that does not live: a request, or a mistake.
    fn first(&mut self, about: About, section: Section) -> Outcome {
        let is_new = self.is_peers(about.stream) && about.stream > self.last_stream;
        if !is_new {
            let header = FrameHeader { length: 0, kind: kind::HEADERS, flags: 0, stream: about.stream };
            return self.stray(header);
        }
        self.last_stream = about.stream;
        if self.refuses_beyond.is_some() {
            return Ok(None);
        }
        if about.depends_on_itself {
            return self.refuse(about.stream, ErrorCode::PROTOCOL_ERROR);
        }
        if self.streams.len() >= self.config.max_concurrent_streams as usize {
            self.counts.refused += 1;
            return self.refuse(about.stream, ErrorCode::REFUSED_STREAM);
        }
        if section.is_too_large() {
            self.counts.too_large += 1;
            let stream = self.open(about.stream, about.is_end, NO_LENGTH);
            return Ok(Some(Event::TooLarge { stream, end: about.is_end }));
        }
        match section.request(self.config.allow_connect) {
            Err(reason) => self.malformed(about.stream, None, reason),
            Ok((_, length)) if about.is_end && length != NO_LENGTH && length > 0 => {
                self.malformed(about.stream, None, "less data than announced")
            }
            Ok((head, length)) => Ok(Some(self.request(about, head, length))),
        }
    }

    fn request(&mut self, about: About, head: RequestHead, length: u64) -> Event {
        let stream = self.open(about.stream, about.is_end, length);
        Event::Request { stream, head: Box::new(head), end: about.is_end }
    }

    /// Resets a stream that has not begun.
    fn refuse(&mut self, number: u32, code: ErrorCode) -> Outcome {
        self.write_reset(number, code);
        self.streams.remember(number, Closed::ByUs);
        Ok(None)
    }

    /// A stream that the client has opened.
    fn open(&mut self, number: u32, is_end: bool, length: u64) -> StreamId {
        self.last_accepted = number;
        self.flood.opened();
        let receiving = if is_end { Receiving::Ended } else { Receiving::Body };
        let stream = self.add(number, receiving, Sending::Head, length);
        self.settle(stream);
        stream
    }

    pub(super) fn add(
        &mut self,
        number: u32,
        receiving: Receiving,
        sending: Sending,
        length: u64,
    ) -> StreamId {
        let (receive, send) = (self.config.stream_window(), self.peer.stream_window);
        let opened = self.now;
        self.streams.insert(number, |id| Stream {
            id,
            receiving,
            sending,
            receive: Receive::new(receive),
            send: Send::new(send),
            queue: Chunks::default(),
            is_scheduled: false,
            awaits_capacity: false,
            awaits_flush: false,
            length_left: length,
            is_head_request: false,
            interims: 0,
            reset_after: None,
            opened,
        })
    }

    fn response(&mut self, id: StreamId, is_end: bool, section: Section) -> Outcome {
        let (head, length) = match section.response() {
            Ok(found) => found,
            Err(reason) => return self.malformed(id.number(), Some(id), reason),
        };
        let Some(stream) = self.streams.get(id) else { return Ok(None) };
        if head.status.is_informational() {
            if is_end {
                return self.malformed(id.number(), Some(id), "an interim response that ends the stream");
            }
            stream.interims += 1;
            if stream.interims > INTERIMS_MAX {
                let many = fault(ErrorCode::ENHANCE_YOUR_CALM, "too many interim responses");
                return self.stream_fault(id, many);
            }
            return Ok(Some(Event::Interim { stream: id, head }));
        }
        let is_bodiless = stream.is_head_request || matches!(head.status.as_u16(), 204 | 304);
        // RFC 9110 section 8.6: there, a length is that of the body that would have come.
        stream.length_left = if is_bodiless { 0 } else { length };
        if is_end && !matches!(stream.length_left, 0 | NO_LENGTH) {
            return self.malformed(id.number(), Some(id), "less data than announced");
        }
        stream.receiving = if is_end { Receiving::Ended } else { Receiving::Body };
        if is_end {
            self.settle(id);
        }
        Ok(Some(Event::Response { stream: id, head, end: is_end }))
    }

    fn trailers(&mut self, id: StreamId, is_end: bool, section: Section) -> Outcome {
        if !is_end {
            return self.malformed(id.number(), Some(id), "trailers that do not end the stream");
        }
        let Some(stream) = self.streams.get(id) else { return Ok(None) };
        if !matches!(stream.length_left, 0 | NO_LENGTH) {
            return self.malformed(id.number(), Some(id), "less data than announced");
        }
        stream.receiving = Receiving::Ended;
        match section.trailers() {
            Ok(trailers) => {
                self.settle(id);
                Ok(Some(Event::Trailers { stream: id, trailers }))
            }
            Err(reason) => self.malformed(id.number(), Some(id), reason),
        }
    }
}
