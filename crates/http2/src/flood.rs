//! What a peer did that costs us more than it, counted, and held against Envoy's limits.

use std::time::{Duration, Instant};

use crate::config::FloodLimits;
use crate::error::{ErrorCode, Fault, fault};

/// Counts of one connection, over all its life.
#[derive(Debug, Default)]
pub struct Flood {
    /// Streams of which a request's head came, or went.
    opened_streams: u64,
    priority_frames: u64,
    window_updates: u64,
    data_frames_sent: u64,
    empty_frames_in_a_row: u32,
    closed_streams: u64,
    premature_resets: u64,
    /// PING and SETTINGS that were answered and not yet made up for.
    answered: u32,
    answers_since: Option<Instant>,
}

fn flood(reason: &'static str) -> Fault {
    fault(ErrorCode::ENHANCE_YOUR_CALM, reason)
}

impl Flood {
    /// A request's head came, or went.
    pub fn opened(&mut self) {
        self.opened_streams += 1;
    }

    /// A DATA frame was sent.
    pub fn sent_data(&mut self) {
        self.data_frames_sent += 1;
    }

    /// A stream is over.
    pub fn closed(&mut self) {
        self.closed_streams += 1;
    }

    /// PRIORITY came.
    pub fn priority(&mut self, limits: &FloodLimits) -> Result<(), Fault> {
        self.priority_frames += 1;
        let most = u64::from(limits.priority_frames_per_stream) * (1 + self.opened_streams);
        if self.priority_frames > most { Err(flood("too many PRIORITY frames")) } else { Ok(()) }
    }

    /// PING or SETTINGS came, which have to be answered. Those who send messages may ask as often; beyond that, time has
    /// to pass: a peer that reads every answer never has many of them waiting ([`outbound`](Self::outbound)).
    pub fn answer(&mut self, now: Instant, limits: &FloodLimits) -> Result<(), Fault> {
        if self.answered == 0 {
            self.answers_since = Some(now);
        }
        self.answered += 1;
        if self.answered <= limits.answers {
            return Ok(());
        }
        let passed = self.answers_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        let forgiven = passed.as_millis() * u128::from(limits.answers_per_second) / 1000;
        self.answered = self.answered.saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX));
        self.answers_since = Some(now);
        if self.answered > limits.answers {
            Err(flood("too many frames that ask for an answer"))
        } else {
            Ok(())
        }
    }

    /// A frame of a message came.
    fn forgive(&mut self) {
        self.answered = self.answered.saturating_sub(1);
    }

    /// WINDOW_UPDATE came.
    pub fn window_update(&mut self, limits: &FloodLimits) -> Result<(), Fault> {
        self.window_updates += 1;
        let of_data = u64::from(limits.window_updates_per_data_frame) * self.data_frames_sent;
        let most = 5 + 2 * (self.opened_streams + of_data);
        if self.window_updates > most { Err(flood("too many WINDOW_UPDATE frames")) } else { Ok(()) }
    }

    /// HEADERS, CONTINUATION or DATA came; `is_empty`: it neither holds nor ends anything.
    pub fn frame(&mut self, is_empty: bool, limits: &FloodLimits) -> Result<(), Fault> {
        if !is_empty {
            self.forgive();
            self.empty_frames_in_a_row = 0;
            return Ok(());
        }
        self.empty_frames_in_a_row += 1;
        if self.empty_frames_in_a_row > limits.consecutive_empty_frames {
            return Err(flood("too many empty frames"));
        }
        Ok(())
    }

    /// A client reset a stream that had no response yet. As Envoy does it: half of the streams may end so, and those
    /// that will have ended when there were `premature_resets` of them are taken to be good.
    pub fn reset(&mut self, opened: Instant, now: Instant, limits: &FloodLimits) -> Result<(), Fault> {
        let lifetime: Duration = now.saturating_duration_since(opened);
        if lifetime >= limits.premature_reset_lifetime {
            return Ok(());
        }
        self.premature_resets += 1;
        let streams = self.closed_streams.max(u64::from(limits.premature_resets));
        if self.premature_resets * 2 >= streams {
            Err(flood("too many streams reset at once"))
        } else {
            Ok(())
        }
    }

    /// Frames wait for the socket.
    pub fn outbound(frames: u32, control_frames: u32, limits: &FloodLimits) -> Result<(), Fault> {
        if control_frames > limits.outbound_control_frames {
            return Err(flood("too many control frames wait to be sent"));
        }
        if frames > limits.outbound_frames {
            return Err(flood("too many frames wait to be sent"));
        }
        Ok(())
    }
}
