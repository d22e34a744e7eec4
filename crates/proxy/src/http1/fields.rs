//! Header fields, read line by line (RFC 9112 section 5).

use bytes::Bytes;
use http::HeaderValue;
use http::header::{self, HeaderName};
use ostro_engine::Headers;

use super::head::HeadError;
use super::names;

/// Fields that most sections have at most, with those that are added on the way.
const FIELDS_USUAL: usize = 14;

/// Fields of a section.
#[derive(Debug)]
pub(super) struct Fields {
    /// In order.
    pub headers: Headers,
    /// Which of the fields that frame a message, or say how the connection goes on, are among them.
    pub has: Has,
}

/// Fields that are looked for once here, rather than by everybody who asks for them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Has {
    pub host: bool,
    pub connection: bool,
    pub content_length: bool,
    pub transfer_encoding: bool,
    pub expect: bool,
}

/// Reads the fields of `section` from `from` to the empty line that ends it. Every line ends in LF.
///
/// # Errors
/// What is wrong, or that there are more than `most`.
pub(super) fn read(section: &Bytes, from: usize, most: usize) -> Result<Fields, HeadError> {
    let mut headers = Headers::with_capacity(FIELDS_USUAL);
    let mut has = Has::default();
    let mut at = from;
    loop {
        let line = section.get(at..).unwrap_or_default();
        if let [b'\r', b'\n', ..] = line {
            return Ok(Fields { headers, has });
        }
        let (name, length) = names::read(line).ok_or(HeadError::Malformed("header name"))?;
        let rest = line.get(length + 1..).unwrap_or_default();
        let end = memchr::memchr(b'\r', rest).ok_or(HeadError::Malformed("line end"))?;
        if rest.get(end + 1) != Some(&b'\n') {
            return Err(HeadError::Malformed("header value"));
        }
        if headers.len() == most {
            return Err(HeadError::TooLarge);
        }
        let text = trim(rest.get(..end).unwrap_or_default());
        has.note(&name);
        headers.append(name, value(section, text)?);
        at += length + 1 + end + 2;
    }
}

impl Has {
    fn note(&mut self, name: &HeaderName) {
        match *name {
            header::HOST => self.host = true,
            header::CONNECTION => self.connection = true,
            header::CONTENT_LENGTH => self.content_length = true,
            header::TRANSFER_ENCODING => self.transfer_encoding = true,
            header::EXPECT => self.expect = true,
            _ => {}
        }
    }
}

/// Without the blanks around it.
fn trim(text: &[u8]) -> &[u8] {
    let is_blank = |byte: &&u8| matches!(byte, b' ' | b'\t');
    let front = text.iter().take_while(is_blank).count();
    let text = text.get(front..).unwrap_or_default();
    let back = text.iter().rev().take_while(is_blank).count();
    text.get(..text.len() - back).unwrap_or_default()
}

/// A part of a section as a value that shares its memory.
pub(super) fn value(section: &Bytes, part: &[u8]) -> Result<HeaderValue, HeadError> {
    if part.is_empty() {
        return Ok(HeaderValue::from_static(""));
    }
    HeaderValue::from_maybe_shared(section.slice_ref(part)).map_err(|_| HeadError::Malformed("header value"))
}
