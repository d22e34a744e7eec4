//! HTTP/2's frames, as far as load and backend need them (RFC 9113 section 4).

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::READ_BYTES;

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
pub(super) const ACK: u8 = 1;

const HEAD_BYTES: usize = 9;
/// Most bytes of a frame that anybody may send us: the default (RFC 9113 section 4.2).
const FRAME_BYTES_MAX: usize = 16 * 1024;
/// Bytes of bodies that a peer may send before it hears that there is room for more.
const WINDOW: u32 = 1 << 30;
/// SETTINGS_INITIAL_WINDOW_SIZE.
const STREAM_WINDOW: [u8; 6] = [0, 4, 0, 0x10, 0, 0];

/// A frame's head.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
}

/// A connection with what is read and what is to be written.
pub(super) struct Framed {
    stream: TcpStream,
    input: Vec<u8>,
    /// What of `input` has been used.
    used: usize,
    pub output: Vec<u8>,
    /// What may still be sent of bodies.
    pub window: i64,
    received: u32,
}

impl Framed {
    /// A connection that begins with `preface` and our settings.
    pub fn new(stream: TcpStream, preface: &[u8]) -> Framed {
        let mut output = preface.to_vec();
        put(&mut output, SETTINGS, 0, 0, &STREAM_WINDOW);
        put(&mut output, WINDOW_UPDATE, 0, 0, &(WINDOW - 65_535).to_be_bytes());
        Framed { stream, input: Vec::new(), used: 0, output, window: 65_535, received: 0 }
    }

    /// Writes what is to be written.
    pub async fn flush(&mut self) -> Result<(), String> {
        if !self.output.is_empty() {
            self.stream.write_all(&self.output).await.map_err(|error| format!("write: {error}"))?;
            self.output.clear();
        }
        Ok(())
    }

    /// Reads what there is; `false` at the end.
    pub async fn fill(&mut self) -> Result<bool, String> {
        self.input.drain(..self.used);
        self.used = 0;
        self.input.reserve(READ_BYTES);
        let read = self.stream.read_buf(&mut self.input).await;
        read.map(|read| read > 0).map_err(|error| format!("read: {error}"))
    }

    /// Takes the client's preface off what has been read; `false` if it has not come as a whole.
    pub fn take_preface(&mut self) -> Result<bool, String> {
        let Some(begin) = self.input.get(..PREFACE.len()) else { return Ok(false) };
        if begin != PREFACE {
            return Err("no preface".to_owned());
        }
        self.used = PREFACE.len();
        Ok(true)
    }

    /// The next frame that has come as a whole, and its payload. What concerns the connection as a whole is answered.
    pub fn next(&mut self) -> Result<Option<(Frame, &[u8])>, String> {
        let rest = self.input.get(self.used..).unwrap_or_default();
        let Some(&[a, b, c, kind, flags, s0, s1, s2, s3]) = rest.first_chunk::<HEAD_BYTES>() else {
            return Ok(None);
        };
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        if length > FRAME_BYTES_MAX {
            return Err(format!("a frame of {length} bytes"));
        }
        if rest.len() < HEAD_BYTES + length {
            return Ok(None);
        }
        let begin = self.used + HEAD_BYTES;
        self.used = begin + length;
        let payload = self.input.get(begin..self.used).unwrap_or_default();
        let frame = Frame { kind, flags, stream: u32::from_be_bytes([s0, s1, s2, s3]) };
        match kind {
            SETTINGS if flags & ACK == 0 => put(&mut self.output, SETTINGS, ACK, 0, &[]),
            PING if flags & ACK == 0 => put(&mut self.output, PING, ACK, 0, payload),
            WINDOW_UPDATE if frame.stream == 0 => {
                let more = payload.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
                self.window += i64::from(more);
            }
            DATA => {
                self.received += u32::try_from(length).unwrap_or(u32::MAX);
                if self.received > WINDOW / 2 {
                    put(&mut self.output, WINDOW_UPDATE, 0, 0, &self.received.to_be_bytes());
                    self.received = 0;
                }
            }
            GOAWAY => return Err("GOAWAY".to_owned()),
            _ => {}
        }
        Ok(Some((frame, payload)))
    }
}

/// Writes a frame.
pub(super) fn put(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let [_, a, b, c] = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    out.extend_from_slice(&[a, b, c, kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// A field that no table remembers (RFC 7541 section 6.2.2): its name by number in the static table, or as it is.
pub(super) fn field(out: &mut Vec<u8>, name: Result<u8, &str>, value: &str) {
    match name {
        Ok(index @ 0..15) => out.push(index),
        Ok(index) => out.extend_from_slice(&[15, index - 15]),
        Err(name) => {
            out.push(0);
            string(out, name);
        }
    }
    string(out, value);
}

fn string(out: &mut Vec<u8>, text: &str) {
    let length = u8::try_from(text.len()).unwrap_or(u8::MAX);
    assert!(length < 127, "a text this long has a length of several bytes");
    out.push(length);
    out.extend_from_slice(text.as_bytes());
}

/// Whether a header block begins with `:status: 200`, after a change of the table's size.
pub(super) fn begins_with_200(block: &[u8]) -> bool {
    let mut bytes = block.iter().copied();
    let mut next = bytes.next();
    while let Some(byte) = next.filter(|byte| byte & 0xe0 == 0x20) {
        if byte & 0x1f == 0x1f {
            while bytes.next().is_some_and(|byte| byte & 0x80 != 0) {}
        }
        next = bytes.next();
    }
    next == Some(0x88)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_seen_behind_a_change_of_the_table() {
        assert!(begins_with_200(&[0x88]) && begins_with_200(&[0x3f, 0xe1, 0x1f, 0x88]));
        assert!(begins_with_200(&[0x20, 0x88]) && !begins_with_200(&[0x8d]) && !begins_with_200(&[]));
    }
}
