//! Bodies, read (RFC 9112 section 7).

use bytes::{Bytes, BytesMut};
use http::header;
use http::header::HeaderName;
use ostro_engine::Headers;

use super::fields;
use super::framing::Framing;
use super::head::{HeadError, HeadLimits};
use super::lines::{Found, Search};

/// Most bytes of a chunk's size line; extensions are read past and dropped.
const CHUNK_LINE_BYTES_MAX: usize = 4096;

/// Why a body cannot be read on. The sender is at fault; the connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// A chunk's size is no hexadecimal number, or a chunk does not end where it should.
    #[error("malformed chunk")]
    Chunk,
    /// The trailer section is malformed.
    #[error("malformed trailers")]
    Trailers,
    /// The trailer section is too large.
    #[error("the trailers are too large")]
    TrailersTooLarge,
    /// The peer closed before the end.
    #[error("the body was cut off")]
    CutOff,
}

/// What a decoder has found at the front of the buffer.
#[derive(Debug)]
pub enum Decoded {
    /// Part of the body.
    Data(Bytes),
    /// The end of a chunked body, with its trailers.
    Trailers(Headers),
    /// The end. Said once more whenever asked.
    End,
    /// There is more to come.
    More,
}

/// Reads one body.
#[derive(Debug)]
pub struct BodyDecoder {
    state: State,
    /// What a trailer section may be.
    limits: HeadLimits,
}

#[derive(Debug)]
enum State {
    Done,
    /// So many bytes are left.
    Length(u64),
    UntilClose,
    ChunkSize,
    /// So many bytes of this chunk are left.
    Chunk(u64),
    /// After a chunk's data.
    ChunkEnd,
    Trailers(Search),
}

impl BodyDecoder {
    /// A decoder for what a head has announced; `limits`: of trailers.
    pub fn new(framing: Framing, limits: HeadLimits) -> Self {
        let state = match framing {
            Framing::Empty | Framing::Length(0) => State::Done,
            Framing::Length(left) => State::Length(left),
            Framing::Chunked => State::ChunkSize,
            Framing::UntilClose => State::UntilClose,
        };
        Self { state, limits }
    }

    /// Whether the end has been read.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Whether all that is left is in `buffer`, so that [`decode`](Self::decode) will reach the end with it. Only
    /// said of bodies that tell their length.
    pub fn ends_within(&self, buffer: &BytesMut) -> bool {
        match self.state {
            State::Done => true,
            State::Length(left) => left <= buffer.len() as u64,
            _ => false,
        }
    }

    /// Takes what it can off the front of `buffer`. `is_closed`: nothing will be added to it.
    ///
    /// # Errors
    /// What is wrong; asking again is pointless.
    pub fn decode(&mut self, buffer: &mut BytesMut, is_closed: bool) -> Result<Decoded, BodyError> {
        loop {
            match &mut self.state {
                State::Done => return Ok(Decoded::End),
                State::UntilClose if buffer.is_empty() && is_closed => self.state = State::Done,
                _ if buffer.is_empty() => {
                    return if is_closed { Err(BodyError::CutOff) } else { Ok(Decoded::More) };
                }
                State::UntilClose => return Ok(Decoded::Data(buffer.split().freeze())),
                State::Length(left) => {
                    let data = take(buffer, left);
                    if *left == 0 {
                        self.state = State::Done;
                    }
                    return Ok(Decoded::Data(data));
                }
                State::Chunk(left) => {
                    let data = take(buffer, left);
                    if *left == 0 {
                        self.state = State::ChunkEnd;
                    }
                    return Ok(Decoded::Data(data));
                }
                State::ChunkEnd => {
                    if !chunk_end(buffer)? {
                        return more(is_closed);
                    }
                    self.state = State::ChunkSize;
                }
                State::ChunkSize => match chunk_size(buffer)? {
                    None => return more(is_closed),
                    Some(0) => self.state = State::Trailers(Search::default()),
                    Some(size) => self.state = State::Chunk(size),
                },
                State::Trailers(search) => {
                    let Some(trailers) = trailers(buffer, search, self.limits)? else {
                        return more(is_closed);
                    };
                    self.state = State::Done;
                    return Ok(if trailers.is_empty() { Decoded::End } else { Decoded::Trailers(trailers) });
                }
            }
        }
    }
}

fn more(is_closed: bool) -> Result<Decoded, BodyError> {
    if is_closed { Err(BodyError::CutOff) } else { Ok(Decoded::More) }
}

fn take(buffer: &mut BytesMut, left: &mut u64) -> Bytes {
    let size = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
    *left -= size as u64;
    buffer.split_to(size).freeze()
}

/// Whether the CRLF after a chunk's data was there, and is gone.
fn chunk_end(buffer: &mut BytesMut) -> Result<bool, BodyError> {
    match &buffer[..] {
        [b'\r', b'\n', ..] => {
            let _ = buffer.split_to(2);
            Ok(true)
        }
        [b'\r'] => Ok(false),
        _ => Err(BodyError::Chunk),
    }
}

/// The size of the next chunk, its line gone from the buffer.
fn chunk_size(buffer: &mut BytesMut) -> Result<Option<u64>, BodyError> {
    let digits = buffer.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    if digits > 16 || (digits == 0 && !buffer.is_empty()) {
        return Err(BodyError::Chunk);
    }
    let Some(feed) = memchr::memchr(b'\n', buffer) else {
        let is_possible = buffer.len() <= CHUNK_LINE_BYTES_MAX
            && matches!(buffer.get(digits), None | Some(b'\r' | b';' | b' ' | b'\t'));
        return if is_possible { Ok(None) } else { Err(BodyError::Chunk) };
    };
    let line = buffer.split_to(feed + 1);
    let (size, extension) = line.split_at_checked(digits).ok_or(BodyError::Chunk)?;
    if line.len() > CHUNK_LINE_BYTES_MAX || !is_extension(extension) {
        return Err(BodyError::Chunk);
    }
    let text = std::str::from_utf8(size).map_err(|_| BodyError::Chunk)?;
    u64::from_str_radix(text, 16).map(Some).map_err(|_| BodyError::Chunk)
}

/// What may stand between a size and the line's end: nothing, or `;` with whatever may stand in a header's value.
fn is_extension(text: &[u8]) -> bool {
    let Some(text) = text.strip_suffix(b"\r\n") else { return false };
    let begins = matches!(text.trim_ascii_start().first(), Some(b';'));
    text.is_empty() || begins && text.iter().all(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f))
}

/// The trailer section, gone from the buffer.
fn trailers(
    buffer: &mut BytesMut,
    search: &mut Search,
    limits: HeadLimits,
) -> Result<Option<Headers>, BodyError> {
    let end = match search.go_on(buffer) {
        Found::End(end) if end <= limits.bytes => end,
        Found::More if buffer.len() <= limits.bytes => return Ok(None),
        Found::End(_) | Found::More => return Err(BodyError::TrailersTooLarge),
        Found::BareLineFeed => return Err(BodyError::Trailers),
    };
    let section = buffer.split_to(end).freeze();
    let mut trailers = match fields::read(&section, 0, limits.headers) {
        Ok(fields) => fields.headers,
        Err(HeadError::TooLarge) => return Err(BodyError::TrailersTooLarge),
        Err(_) => return Err(BodyError::Trailers),
    };
    trailers.retain(|name, _| !frames(name));
    Ok(Some(trailers))
}

/// Fields that say where a message goes or ends: too late for that, so they are dropped (RFC 9110 section 6.5.1).
fn frames(name: &HeaderName) -> bool {
    [header::TRANSFER_ENCODING, header::CONTENT_LENGTH, header::HOST].contains(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: HeadLimits = HeadLimits { bytes: 60 * 1024, headers: 100, http10: false };

    /// Everything a decoder makes of `text` that comes in pieces of `step` bytes: data, trailers, what is left.
    fn read(framing: Framing, text: &[u8], step: usize) -> Result<(Vec<u8>, Headers, Vec<u8>), BodyError> {
        let mut decoder = BodyDecoder::new(framing, LIMITS);
        let (mut buffer, mut data, mut trailers) = (BytesMut::new(), Vec::new(), Headers::default());
        let mut pieces = text.chunks(step.max(1));
        loop {
            let is_closed = pieces.len() == 0;
            match decoder.decode(&mut buffer, is_closed)? {
                Decoded::Data(part) => data.extend_from_slice(&part),
                Decoded::Trailers(found) => trailers = found,
                Decoded::End => break,
                Decoded::More => buffer.extend_from_slice(pieces.next().unwrap_or_default()),
            }
        }
        buffer.extend_from_slice(&pieces.flatten().copied().collect::<Vec<_>>());
        Ok((data, trailers, buffer.to_vec()))
    }

    #[test]
    fn bodies_end_where_they_say() {
        let left = |framing, text: &[u8]| {
            let (data, _, left) = read(framing, text, 3).unwrap();
            (data, left)
        };
        assert_eq!(left(Framing::Length(3), b"abcGET"), (b"abc".to_vec(), b"GET".to_vec()));
        assert_eq!(left(Framing::UntilClose, b"abc"), (b"abc".to_vec(), Vec::new()));
        assert_eq!(left(Framing::Chunked, b"3\r\nabc\r\n0\r\n\r\nGET"), (b"abc".to_vec(), b"GET".to_vec()));
    }

    #[test]
    fn trailers_and_extensions() {
        let text = b"3;a=\"b\" ;c\r\nabc\r\n0 ;d\r\nx: 1\r\ny: 2\r\n\r\n";
        for step in 1..text.len() {
            let (data, trailers, left) = read(Framing::Chunked, text, step).unwrap();
            assert_eq!((data, trailers.len(), left.len()), (b"abc".to_vec(), 2, 0), "{step}");
        }
    }

    #[test]
    fn refused_chunks() {
        for text in [
            &b"3\nabc\r\n0\r\n\r\n"[..],
            b"+3\r\nabc\r\n0\r\n\r\n",
            b"-3\r\nabc",
            b" 3\r\nabc\r\n",
            b"0x3\r\nabc\r\n",
            b"3 \r\nabc\r\n0\r\n\r\n",
            b"3\rabc\r\n",
            b"g\r\n",
            b"\r\nabc",
            b"11111111111111111\r\n",
            b"3\r\nabcd\r\n0\r\n\r\n",
            b"3\r\nabc\n0\r\n\r\n",
            b"3\r\nabc0\r\n\r\n",
            b"0\r\nx : 1\r\n\r\n",
            b"0\r\n\n",
            b"3\r\nab",
            b"3",
        ] {
            assert!(read(Framing::Chunked, text, usize::MAX).is_err(), "{:?}", String::from_utf8_lossy(text));
            assert!(read(Framing::Chunked, text, 1).is_err(), "{:?}", String::from_utf8_lossy(text));
        }
        let long =
            [b"3;".to_vec(), vec![b'a'; CHUNK_LINE_BYTES_MAX], b"\r\nabc\r\n0\r\n\r\n".to_vec()].concat();
        assert_eq!(read(Framing::Chunked, &long, 1).unwrap_err(), BodyError::Chunk);
        assert_eq!(read(Framing::Length(4), b"abc", 1).unwrap_err(), BodyError::CutOff);
    }

    proptest! {
        #[test]
        fn chunks_come_out_as_they_went_in(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..80), 0..8), step in 1_usize..40) {
            let mut text = Vec::new();
            for part in &parts {
                text.extend_from_slice(format!("{:X}\r\n", part.len()).as_bytes());
                text.extend_from_slice(part);
                text.extend_from_slice(b"\r\n");
            }
            text.extend_from_slice(b"0\r\n\r\nrest");
            let (data, _, left) = read(Framing::Chunked, &text, step).unwrap();
            prop_assert_eq!(data, parts.concat());
            prop_assert_eq!(left, b"rest");
        }
    }
}
