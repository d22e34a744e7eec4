//! HTTP/2 frames and literal header blocks, as bytes that need not be right.

use super::wire::{Done, Wire, trouble};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 0x1;
pub const ACK: u8 = 0x1;
pub const END_HEADERS: u8 = 0x4;
pub const PADDED: u8 = 0x8;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// SETTINGS identifiers.
pub const HEADER_TABLE_SIZE: u16 = 1;
pub const ENABLE_PUSH: u16 = 2;
pub const MAX_CONCURRENT_STREAMS: u16 = 3;
pub const INITIAL_WINDOW_SIZE: u16 = 4;
pub const MAX_FRAME_SIZE: u16 = 5;
pub const MAX_HEADER_LIST_SIZE: u16 = 6;
pub const ENABLE_CONNECT_PROTOCOL: u16 = 8;

/// A frame as it came.
#[derive(Clone, Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// A frame's bytes, with the length its payload has.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    frame_of_length(payload.len(), kind, flags, stream, payload)
}

/// A frame's bytes, with a length of the caller's choosing.
pub fn frame_of_length(length: usize, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(length).expect("a frame's length").to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// The payload of a SETTINGS frame.
pub fn settings(pairs: &[(u16, u32)]) -> Vec<u8> {
    pairs.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()[..]].concat()).collect()
}

/// A header block of literals without indexing, names and values as they are.
pub fn block<N: AsRef<[u8]>, V: AsRef<[u8]>>(fields: &[(N, V)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        string(name.as_ref(), &mut bytes);
        string(value.as_ref(), &mut bytes);
    }
    bytes
}

fn string(text: &[u8], into: &mut Vec<u8>) {
    let length = text.len();
    if length < 127 {
        into.push(u8::try_from(length).expect("below 127"));
    } else {
        into.push(127);
        let mut rest = length - 127;
        while rest >= 128 {
            into.push(u8::try_from(rest % 128).expect("below 128") | 0x80);
            rest /= 128;
        }
        into.push(u8::try_from(rest).expect("below 128"));
    }
    into.extend_from_slice(text);
}

impl Wire {
    /// The next frame, or `None` once the other side has ended between two.
    pub fn frame(&mut self) -> Done<Option<Frame>> {
        while self.buffer.len() < 9 {
            if !self.fill()? {
                if self.buffer.is_empty() {
                    return Ok(None);
                }
                return trouble(format!("{} inside a frame's head", self.how()));
            }
        }
        let head: Vec<u8> = self.buffer.drain(..9).collect();
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
        let payload = self.take(length)?;
        Ok(Some(Frame { kind: head[3], flags: head[4], stream, payload }))
    }
}

/// The name of an error code, as RFC 9113 has it.
pub fn error(code: u32) -> String {
    const NAMES: [&str; 14] = [
        "NO_ERROR",
        "PROTOCOL_ERROR",
        "INTERNAL_ERROR",
        "FLOW_CONTROL_ERROR",
        "SETTINGS_TIMEOUT",
        "STREAM_CLOSED",
        "FRAME_SIZE_ERROR",
        "REFUSED_STREAM",
        "CANCEL",
        "COMPRESSION_ERROR",
        "CONNECT_ERROR",
        "ENHANCE_YOUR_CALM",
        "INADEQUATE_SECURITY",
        "HTTP_1_1_REQUIRED",
    ];
    usize::try_from(code)
        .ok()
        .and_then(|i| NAMES.get(i))
        .map_or_else(|| code.to_string(), |n| (*n).to_owned())
}
