//! SETTINGS (RFC 9113 section 6.5, RFC 8441 section 3).

use crate::config::{Config, FRAME_BYTES_DEFAULT, WINDOW_DEFAULT, WINDOW_MAX};
use crate::error::{ErrorCode, Fault, fault, protocol};
use crate::hpack::TABLE_BYTES_DEFAULT;

/// Bytes of one setting.
const ENTRY_BYTES: usize = 6;
/// Streams that a client opens until it knows what the server allows.
const STREAMS_UNTIL_KNOWN: u32 = 100;

mod id {
    pub const HEADER_TABLE_SIZE: u16 = 0x1;
    pub const ENABLE_PUSH: u16 = 0x2;
    pub const MAX_CONCURRENT_STREAMS: u16 = 0x3;
    pub const INITIAL_WINDOW_SIZE: u16 = 0x4;
    pub const MAX_FRAME_SIZE: u16 = 0x5;
    pub const ENABLE_CONNECT_PROTOCOL: u16 = 0x8;
}

/// The payload of our SETTINGS. What is the default is not said.
pub fn announce(config: &Config, is_client: bool) -> Vec<u8> {
    let mut payload = Vec::with_capacity(6 * ENTRY_BYTES);
    let mut say = |id: u16, value: u32, default: Option<u32>| {
        if default != Some(value) {
            payload.extend_from_slice(&id.to_be_bytes());
            payload.extend_from_slice(&value.to_be_bytes());
        }
    };
    say(id::HEADER_TABLE_SIZE, config.table_bytes(), Some(TABLE_BYTES_DEFAULT as u32));
    if is_client {
        say(id::ENABLE_PUSH, 0, None);
    } else {
        say(id::MAX_CONCURRENT_STREAMS, config.max_concurrent_streams, None);
        say(id::ENABLE_CONNECT_PROTOCOL, u32::from(config.allow_connect), Some(0));
    }
    say(id::INITIAL_WINDOW_SIZE, config.stream_window(), Some(WINDOW_DEFAULT));
    say(id::MAX_FRAME_SIZE, config.max_frame_bytes(), Some(FRAME_BYTES_DEFAULT));
    payload
}

/// What the peer wants to be kept to.
#[derive(Clone, Copy, Debug)]
pub struct PeerSettings {
    /// Bytes of the table of our header blocks.
    pub table_bytes: u32,
    /// Streams that we may have open.
    pub max_concurrent_streams: u32,
    /// Window of new streams.
    pub stream_window: u32,
    /// Bytes of a frame's payload.
    pub max_frame_bytes: u32,
    /// It takes extended CONNECT.
    pub takes_protocol: bool,
    is_known: bool,
}

impl Default for PeerSettings {
    fn default() -> Self {
        PeerSettings {
            table_bytes: TABLE_BYTES_DEFAULT as u32,
            max_concurrent_streams: STREAMS_UNTIL_KNOWN,
            stream_window: WINDOW_DEFAULT,
            max_frame_bytes: FRAME_BYTES_DEFAULT,
            takes_protocol: false,
            is_known: false,
        }
    }
}

impl PeerSettings {
    /// Takes the payload of a SETTINGS frame, whose length was looked at. Unknown settings are ignored.
    ///
    /// # Errors
    /// A value that the setting cannot have.
    pub fn read(&mut self, payload: &[u8], is_client: bool) -> Result<(), Fault> {
        if !std::mem::replace(&mut self.is_known, true) {
            self.max_concurrent_streams = u32::MAX;
        }
        for entry in payload.chunks_exact(ENTRY_BYTES) {
            if let [a, b, rest @ ..] = entry
                && let Some(value) = rest.first_chunk::<4>()
            {
                self.set(u16::from_be_bytes([*a, *b]), u32::from_be_bytes(*value), is_client)?;
            }
        }
        Ok(())
    }

    fn set(&mut self, id: u16, value: u32, is_client: bool) -> Result<(), Fault> {
        match id {
            id::HEADER_TABLE_SIZE => self.table_bytes = value,
            // A server may not even say that it would like pushes, and a client of ours has said that it does not.
            id::ENABLE_PUSH if value > 1 || (is_client && value != 0) => return Err(protocol("ENABLE_PUSH")),
            id::MAX_CONCURRENT_STREAMS => self.max_concurrent_streams = value,
            id::INITIAL_WINDOW_SIZE if value > WINDOW_MAX => {
                return Err(fault(ErrorCode::FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE"));
            }
            id::INITIAL_WINDOW_SIZE => self.stream_window = value,
            id::MAX_FRAME_SIZE if !(FRAME_BYTES_DEFAULT..1 << 24).contains(&value) => {
                return Err(protocol("MAX_FRAME_SIZE"));
            }
            id::MAX_FRAME_SIZE => self.max_frame_bytes = value,
            id::ENABLE_CONNECT_PROTOCOL if value > 1 || (value == 0 && self.takes_protocol) => {
                return Err(protocol("ENABLE_CONNECT_PROTOCOL"));
            }
            id::ENABLE_CONNECT_PROTOCOL => self.takes_protocol = value == 1,
            _ => {}
        }
        Ok(())
    }
}
