//! A peer that sends whatever it is told, byte by byte if need be.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test by panicking")]
#![allow(dead_code, reason = "not every test uses all of it")]

use std::sync::Arc;
use std::time::Instant;

use bytes::{Buf as _, BytesMut};
use ostro_http2::{Config, Connection, ConnectionError, Event, PREFACE};

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

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;
pub const WITH_PRIORITY: u8 = 0x20;

/// A frame as it is on the wire.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A header block of literals that enter no table.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            if text.len() < 127 {
                bytes.push(text.len() as u8);
            } else {
                let mut left = text.len() - 127;
                bytes.push(127);
                while left >= 128 {
                    bytes.push(left as u8 | 128);
                    left >>= 7;
                }
                bytes.push(left as u8);
            }
            bytes.extend_from_slice(text.as_bytes());
        }
    }
    bytes
}

pub const GET: &[(&str, &str)] =
    &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")];
pub const POST: &[(&str, &str)] =
    &[(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a")];
pub const OK: &[(&str, &str)] = &[(":status", "200")];

/// A request without body.
pub fn get(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, block(GET))
}

/// A request whose body follows.
pub fn post(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, block(POST))
}

/// A request of these fields behind the usual ones.
pub fn get_with(stream: u32, more: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, block(&[GET, more].concat()))
}

pub fn ping(number: u64) -> Vec<u8> {
    frame(PING, 0, 0, number.to_be_bytes())
}

pub fn window_update(stream: u32, by: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, by.to_be_bytes())
}

pub fn rst(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, code.to_be_bytes())
}

pub fn settings(entries: &[(u16, u32)]) -> Vec<u8> {
    let entries = entries.iter().map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat());
    frame(SETTINGS, 0, 0, entries.collect::<Vec<_>>().concat())
}

/// A frame that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The number that begins at this byte of the payload.
    pub fn number(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

/// Takes frames apart.
pub fn frames(mut bytes: &[u8]) -> Vec<Frame> {
    if let Some(rest) = bytes.strip_prefix(PREFACE) {
        bytes = rest;
    }
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let length = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]) as usize;
        let stream = u32::from_be_bytes(bytes[5..9].try_into().unwrap());
        frames.push(Frame {
            kind: bytes[3],
            flags: bytes[4],
            stream,
            payload: bytes[9..9 + length].to_vec(),
        });
        bytes = &bytes[9 + length..];
    }
    frames
}

/// A connection, and what was not taken of its input yet.
pub struct Side {
    pub connection: Connection,
    pub input: BytesMut,
}

impl Side {
    /// A server whose client has said hello, and has acknowledged its settings.
    pub fn server(config: Config) -> Side {
        let mut side = Side::raw_server(config);
        side.feed(PREFACE).unwrap();
        side.feed(settings(&[])).unwrap();
        side.feed(frame(SETTINGS, ACK, 0, [])).unwrap();
        side.sent();
        side
    }

    /// A server that has heard nothing yet.
    pub fn raw_server(config: Config) -> Side {
        Side { connection: Connection::server(Arc::new(config), Instant::now()), input: BytesMut::new() }
    }

    /// A client whose server has said hello.
    pub fn client(config: Config) -> Side {
        let connection = Connection::client(Arc::new(config), Instant::now());
        let mut side = Side { connection, input: BytesMut::new() };
        side.feed(settings(&[])).unwrap();
        side.feed(frame(SETTINGS, ACK, 0, [])).unwrap();
        side.sent();
        side
    }

    /// Gives it bytes; all that it makes of them.
    pub fn feed(&mut self, bytes: impl AsRef<[u8]>) -> Result<Vec<Event>, ConnectionError> {
        self.input.extend_from_slice(bytes.as_ref());
        let mut events = Vec::new();
        while let Some(event) = self.connection.receive(&mut self.input)? {
            events.push(event);
        }
        Ok(events)
    }

    /// All bytes that it sends.
    pub fn bytes(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            let output = self.connection.output();
            if !output.has_remaining() {
                return bytes;
            }
            bytes.extend_from_slice(&output.copy_to_bytes(output.remaining()));
        }
    }

    /// All frames that it sends.
    pub fn sent(&mut self) -> Vec<Frame> {
        frames(&self.bytes())
    }
}
