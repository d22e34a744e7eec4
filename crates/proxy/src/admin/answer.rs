//! Answers: short ones whole, long ones written while they are sent.

use std::io;

use http::StatusCode;
use ostro_envoy_json::{Style, write_value};
use serde_json::Value;

/// Bytes that are sent at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// An answer to a request.
pub(crate) struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its content type.
    pub content_type: &'static str,
    /// Its body.
    pub body: Body,
}

/// A body.
pub(crate) enum Body {
    /// All of it.
    Whole(Vec<u8>),
    /// Who writes it.
    Written(Box<dyn FnOnce(&mut Out) + Send>),
}

const TEXT: &str = "text/plain; charset=UTF-8";
const JSON: &str = "application/json";

impl Answer {
    /// Text.
    pub fn text(text: impl Into<String>) -> Answer {
        Answer::failure(StatusCode::OK, text)
    }

    /// `OK`, a line of its own, as Envoy answers orders.
    pub fn ok() -> Answer {
        Answer::text("OK\n")
    }

    /// Text with a status.
    pub fn failure(status: StatusCode, text: impl Into<String>) -> Answer {
        Answer { status, content_type: TEXT, body: Body::Whole(text.into().into_bytes()) }
    }

    /// What was asked makes no sense.
    pub fn bad(text: impl Into<String>) -> Answer {
        Answer::failure(StatusCode::BAD_REQUEST, text)
    }

    /// A JSON tree, laid out as Envoy does.
    pub fn json(tree: &Value) -> Answer {
        let mut body = Vec::new();
        write_value(&mut body, tree, Style::Pretty, 0);
        body.push(b'\n');
        Answer { status: StatusCode::OK, content_type: JSON, body: Body::Whole(body) }
    }

    /// Text that is written while it is sent.
    pub fn written_text(write: impl FnOnce(&mut Out) + Send + 'static) -> Answer {
        Answer { status: StatusCode::OK, content_type: TEXT, body: Body::Written(Box::new(write)) }
    }

    /// JSON that is written while it is sent.
    pub fn written_json(write: impl FnOnce(&mut Out) + Send + 'static) -> Answer {
        Answer { status: StatusCode::OK, content_type: JSON, body: Body::Written(Box::new(write)) }
    }
}

/// Takes a body, piece by piece. Writing never fails; once nobody reads any more, it does nothing.
pub(crate) struct Out {
    buffer: Vec<u8>,
    send: Box<dyn FnMut(Vec<u8>) -> bool>,
    is_closed: bool,
}

impl Out {
    /// `send` takes a chunk, and says whether anybody still reads.
    pub fn new(send: impl FnMut(Vec<u8>) -> bool + 'static) -> Out {
        Out { buffer: Vec::new(), send: Box::new(send), is_closed: false }
    }

    /// Nobody reads any more.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Adds text.
    pub fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// Adds bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        self.send_full();
    }

    /// Adds what `write` appends.
    pub fn with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.buffer);
        self.send_full();
    }

    fn send_full(&mut self) {
        if self.buffer.len() >= CHUNK_BYTES {
            self.send_all();
        }
    }

    fn send_all(&mut self) {
        let chunk = std::mem::take(&mut self.buffer);
        if !self.is_closed && !chunk.is_empty() {
            self.is_closed = !(self.send)(chunk);
        }
    }
}

impl io::Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        self.send_all();
    }
}
