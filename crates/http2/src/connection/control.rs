//! Frames that are about the connection or a stream, and carry nothing of a message.

use bytes::Bytes;

use super::{Connection, Role, Stage};
use crate::error::{ErrorCode, Fault, fault, protocol};
use crate::event::{Event, Origin};
use crate::frame::{FrameHeader, flag, kind, number};
use crate::streams::{Closed, Sending, StreamId};

/// Most bytes of a GOAWAY's debug data that are kept.
const DEBUG_BYTES_MAX: usize = 256;

type Outcome = Result<Option<Event>, Fault>;

fn size_error(reason: &'static str) -> Fault {
    fault(ErrorCode::FRAME_SIZE_ERROR, reason)
}

impl Connection {
    pub(super) fn settings(&mut self, header: FrameHeader, payload: &[u8]) -> Outcome {
        if header.stream != 0 {
            return Err(protocol("SETTINGS for a stream"));
        }
        if header.has(flag::ACK) {
            if header.length != 0 {
                return Err(size_error("an acknowledgement with SETTINGS"));
            }
            self.decoder.acknowledged();
            return Ok(None);
        }
        if !header.length.is_multiple_of(6) {
            return Err(size_error("SETTINGS"));
        }
        self.flood.answer(self.now, &self.config.limits)?;
        let before = self.peer;
        self.peer.read(payload, self.role == Role::Client)?;
        self.stage = Stage::Open;
        self.encoder.allow(self.peer.table_bytes as usize);
        let by = i64::from(self.peer.stream_window) - i64::from(before.stream_window);
        if by != 0 {
            self.change_windows(by)?;
        }
        self.output.frame(kind::SETTINGS, flag::ACK, 0, &[]);
        Ok(Some(Event::Settings))
    }

    /// RFC 9113 section 6.9.2: a new initial window changes those of all streams.
    fn change_windows(&mut self, by: i64) -> Result<(), Fault> {
        let mut widened = Vec::new();
        for stream in self.streams.iter_mut() {
            if !stream.send.change(by) {
                return Err(fault(ErrorCode::FLOW_CONTROL_ERROR, "SETTINGS widen a window too far"));
            }
            widened.push(stream.id);
        }
        if by > 0 {
            widened.into_iter().for_each(|stream| self.widened(stream));
        }
        Ok(())
    }

    pub(super) fn window_update(&mut self, header: FrameHeader, payload: &[u8]) -> Outcome {
        let (4, Some(increment)) = (header.length, number(payload)) else {
            return Err(size_error("WINDOW_UPDATE"));
        };
        self.flood.window_update(&self.config.limits)?;
        if header.stream == 0 {
            if increment == 0 {
                return Err(protocol("a WINDOW_UPDATE of nothing"));
            }
            if !self.send.change(i64::from(increment)) {
                return Err(fault(ErrorCode::FLOW_CONTROL_ERROR, "the connection's window is too wide"));
            }
            return Ok(None);
        }
        let Some(stream) = self.streams.by_number(header.stream) else {
            return self.of_no_stream(header);
        };
        let id = stream.id;
        if increment == 0 {
            return self.stream_fault(id, protocol("a WINDOW_UPDATE of nothing"));
        }
        if !stream.send.change(i64::from(increment)) {
            return self.stream_fault(id, fault(ErrorCode::FLOW_CONTROL_ERROR, "the window is too wide"));
        }
        self.widened(id);
        Ok(None)
    }

    pub(super) fn rst_stream(&mut self, header: FrameHeader, payload: &[u8]) -> Outcome {
        if header.stream == 0 {
            return Err(protocol("RST_STREAM for stream 0"));
        }
        let (4, Some(code)) = (header.length, payload.first_chunk::<4>()) else {
            return Err(size_error("RST_STREAM"));
        };
        let code = ErrorCode(u32::from_be_bytes(*code));
        let Some(stream) = self.streams.by_number(header.stream).map(|stream| stream.id) else {
            return self.of_no_stream(header);
        };
        let removed = self.remove(stream, Closed::ByPeer);
        if self.role == Role::Server
            && let Some(removed) = removed
            && removed.sending == Sending::Head
        {
            self.flood.reset(removed.opened, self.now, &self.config.limits)?;
        }
        let unprocessed = self.role == Role::Client && code == ErrorCode::REFUSED_STREAM;
        Ok(Some(Event::Reset { stream, code, origin: Origin::Peer, unprocessed }))
    }

    /// A frame that may come late, for a stream that is over.
    fn of_no_stream(&self, header: FrameHeader) -> Outcome {
        if self.is_idle(header.stream) { Err(protocol("a frame for an idle stream")) } else { Ok(None) }
    }

    /// What it says is ignored (RFC 9113 section 5.3.2); that it says it often is not.
    pub(super) fn priority(&mut self, header: FrameHeader, payload: &[u8]) -> Outcome {
        if header.stream == 0 {
            return Err(protocol("PRIORITY for stream 0"));
        }
        self.flood.priority(&self.config.limits)?;
        let wrong = match (header.length, number(payload)) {
            (5, Some(parent)) if parent != header.stream => return Ok(None),
            (5, _) => protocol("a stream that depends on itself"),
            _ => size_error("PRIORITY"),
        };
        match self.streams.by_number(header.stream).map(|stream| stream.id) {
            Some(stream) => self.stream_fault(stream, wrong),
            // There is no stream to reset, or none any more.
            None if self.is_idle(header.stream) => Err(wrong),
            None => Ok(None),
        }
    }

    pub(super) fn pong(&mut self, header: FrameHeader, payload: &[u8]) -> Outcome {
        if header.stream != 0 {
            return Err(protocol("PING for a stream"));
        }
        let (8, Some(content)) = (header.length, payload.first_chunk::<8>()) else {
            return Err(size_error("PING"));
        };
        if header.has(flag::ACK) {
            return Ok(Some(Event::Pong(*content)));
        }
        self.flood.answer(self.now, &self.config.limits)?;
        self.output.frame(kind::PING, flag::ACK, 0, content);
        Ok(None)
    }

    pub(super) fn peer_goes_away(&mut self, header: FrameHeader, payload: &[u8]) -> Outcome {
        if header.stream != 0 {
            return Err(protocol("GOAWAY for a stream"));
        }
        let (Some(last), Some((head, debug))) = (number(payload), payload.split_at_checked(8)) else {
            return Err(size_error("GOAWAY"));
        };
        let code = head.last_chunk::<4>().map_or(0, |code| u32::from_be_bytes(*code));
        // It may be lowered, never raised.
        let last = self.peer_last_stream.map_or(last, |before| before.min(last));
        self.peer_last_stream = Some(last);
        if self.role == Role::Client {
            self.refused_by_peer(last);
        }
        let debug = Bytes::copy_from_slice(debug.get(..DEBUG_BYTES_MAX).unwrap_or(debug));
        Ok(Some(Event::GoAway { last, code: ErrorCode(code), debug }))
    }

    /// Streams that the server will not look at.
    fn refused_by_peer(&mut self, last: u32) {
        let all = self.streams.iter_mut().map(|stream| stream.id);
        let beyond: Vec<StreamId> = all.filter(|stream| stream.number() > last).collect();
        for stream in beyond {
            self.remove(stream, Closed::ByUs);
            let code = ErrorCode::REFUSED_STREAM;
            self.events.push_back(Event::Reset { stream, code, origin: Origin::Peer, unprocessed: true });
        }
    }
}
