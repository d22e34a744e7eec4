//! One request on an HTTP/1 connection: its body, and the response to it.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use ostro_engine::{Headers, Protocol};

use super::client::{Client, ClientError, Follows};
use crate::Piece;
use crate::http1::{
    self, BodyDecoder, BodyEncoder, BodyError, Decoded, Expect, Framing, HeadLimits, Names, Version,
};
use crate::wire::Wire;
use crate::worker::Fate;

/// Most bytes that are read ahead of what is being served, in bytes: pipelined requests.
const AHEAD_MAX: usize = 64 * 1024;

/// What an exchange needs to know of its connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// Most bytes that wait to be written.
    pub buffer_bytes: usize,
    /// Are trailers passed?
    pub trailers: bool,
    /// How names of headers are written.
    pub names: Names,
    /// What trailers may be.
    pub limits: HeadLimits,
}

/// One request and its response.
pub(crate) struct Exchange<'c> {
    wire: &'c mut Wire,
    fate: &'c Fate,
    terms: Terms,
    version: Version,
    is_head: bool,
    decoder: BodyDecoder,
    is_body_done: bool,
    encoder: Option<BodyEncoder>,
    is_response_done: bool,
    /// May another request follow?
    keeps_alive: bool,
    /// Does the client wait for a 100 before it sends the body?
    waits: bool,
    is_aborted: bool,
    head_bytes: u64,
}

impl<'c> Exchange<'c> {
    /// The exchange that begins with a request's head. `keeps_alive`: may another follow, as far as the proxy goes?
    pub fn new(
        wire: &'c mut Wire,
        head: &http1::Request,
        keeps_alive: bool,
        terms: Terms,
        fate: &'c Fate,
    ) -> Exchange<'c> {
        let decoder = BodyDecoder::new(head.framing, terms.limits);
        Exchange {
            wire,
            fate,
            terms,
            version: head.version,
            is_head: head.method == Method::HEAD,
            is_body_done: decoder.is_done(),
            decoder,
            encoder: None,
            is_response_done: false,
            keeps_alive: keeps_alive && head.keeps_alive,
            waits: head.expect == Expect::Continue,
            is_aborted: false,
            head_bytes: 0,
        }
    }

    /// Whether another request may be read: both messages are complete, and nothing ended the connection.
    pub fn goes_on(&self) -> bool {
        self.is_response_done && self.is_body_done && self.keeps_alive && !self.is_aborted
    }

    /// Whether the response was cut off.
    pub fn is_aborted(&self) -> bool {
        self.is_aborted
    }

    /// Framing of a response, and what its head says of it besides.
    fn framing(
        &self,
        status: StatusCode,
        headers: &Headers,
        follows: Follows,
    ) -> (Framing, Option<(HeaderName, HeaderValue)>) {
        if follows == Follows::Tunnel {
            return (Framing::UntilClose, None);
        }
        let is_bodiless = status.is_informational()
            || status == StatusCode::NO_CONTENT
            || status == StatusCode::NOT_MODIFIED;
        let length = headers.get(&header::CONTENT_LENGTH).and_then(length);
        let is_http11 = self.version == Version::Http11;
        match length {
            _ if is_bodiless => (Framing::Empty, None),
            None if self.is_head && is_http11 => (Framing::Empty, Some((header::TRANSFER_ENCODING, CHUNKED))),
            _ if self.is_head => (Framing::Empty, None),
            Some(length) => (Framing::Length(length), None),
            None if follows == Follows::Nothing => {
                (Framing::Length(0), Some((header::CONTENT_LENGTH, HeaderValue::from_static("0"))))
            }
            None if is_http11 => (Framing::Chunked, None),
            None => (Framing::UntilClose, None),
        }
    }
}

fn gone(error: &std::io::Error) -> ClientError {
    tracing::debug!(%error, "client");
    ClientError::Gone
}

fn length(value: &HeaderValue) -> Option<u64> {
    value.to_str().ok()?.parse().ok()
}

const KEEP_ALIVE: HeaderValue = HeaderValue::from_static("keep-alive");
const CHUNKED: HeaderValue = HeaderValue::from_static("chunked");
const CLOSE: HeaderValue = HeaderValue::from_static("close");

impl Client for Exchange<'_> {
    fn protocol(&self) -> Protocol {
        match self.version {
            Version::Http10 => Protocol::Http10,
            Version::Http11 => Protocol::Http11,
        }
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, ClientError>> {
        loop {
            let is_closed = self.wire.is_input_closed();
            let decoded = self.decoder.decode(&mut self.wire.input, is_closed);
            let piece = match decoded {
                Ok(Decoded::Data(data)) => {
                    self.is_body_done = self.decoder.is_done();
                    return Poll::Ready(Ok(Piece::Data(data)));
                }
                Ok(Decoded::Trailers(trailers)) if self.terms.trailers => Piece::Trailers(trailers),
                Ok(Decoded::Trailers(_) | Decoded::End) => Piece::End,
                Ok(Decoded::More) => {
                    ready!(self.wire.poll_fill(cx)).map_err(|error| gone(&error))?;
                    continue;
                }
                Err(error) => return Poll::Ready(Err(broken(error))),
            };
            self.is_body_done = true;
            return Poll::Ready(Ok(piece));
        }
    }

    fn is_body_done(&self) -> bool {
        self.is_body_done
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<ClientError> {
        loop {
            if self.wire.input.len() >= AHEAD_MAX || !self.is_body_done {
                return Poll::Pending;
            }
            match ready!(self.wire.poll_fill(cx)) {
                Ok(true) => {}
                Ok(false) => return Poll::Ready(ClientError::Gone),
                Err(error) => return Poll::Ready(gone(&error)),
            }
        }
    }

    fn send_interim(&mut self, status: StatusCode, headers: &Headers) {
        // HTTP/1.0 has no interim responses (RFC 9110 section 15.2).
        if self.version == Version::Http11 {
            self.waits &= status != StatusCode::CONTINUE;
            http1::response_head(
                self.wire.out(),
                false,
                status,
                headers,
                &[],
                Framing::Empty,
                self.terms.names,
            );
        }
    }

    fn send_head(&mut self, status: StatusCode, headers: &Headers, follows: Follows) {
        let (framing, own_framing) = self.framing(status, headers, follows);
        if follows == Follows::Tunnel {
            self.decoder = BodyDecoder::new(Framing::UntilClose, self.terms.limits);
            self.is_body_done = false;
            self.keeps_alive = false;
        } else if framing == Framing::UntilClose || self.waits {
            // A client that waits for a 100 may or may not send its body now.
            self.keeps_alive = false;
        }
        self.keeps_alive &= !self.fate.is_draining();
        let is_http10 = self.version == Version::Http10;
        let mut own = [own_framing, None];
        if follows != Follows::Tunnel {
            own[1] = match (self.keeps_alive, is_http10) {
                (false, _) => Some((header::CONNECTION, CLOSE)),
                (true, true) => Some((header::CONNECTION, KEEP_ALIVE)),
                (true, false) => None,
            };
        }
        let own: &[Option<(HeaderName, HeaderValue)>] = &own;
        let before = self.wire.unwritten();
        http1::response_head(self.wire.out(), is_http10, status, headers, own, framing, self.terms.names);
        self.head_bytes += (self.wire.unwritten() - before) as u64;
        self.encoder = Some(BodyEncoder::new(framing));
        if follows == Follows::Nothing {
            self.is_response_done = true;
        }
    }

    fn send_data(&mut self, data: Bytes) {
        let Some(encoder) = self.encoder else { return };
        if encoder.is_empty() {
            return;
        }
        let size = data.len();
        encoder.before(self.wire.out(), size);
        self.wire.put(data);
        encoder.after(self.wire.out(), size);
    }

    fn send_end(&mut self, trailers: Option<&Headers>) {
        if let Some(encoder) = self.encoder {
            encoder.end(self.wire.out(), trailers.filter(|_| self.terms.trailers));
            if encoder.is_until_close() {
                self.wire.end();
            }
        }
        self.is_response_done = true;
    }

    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        let below = self.wire.poll_below(cx, self.terms.buffer_bytes);
        below.map_err(|error| gone(&error))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        let flushed = self.wire.poll_flush(cx);
        flushed.map_err(|error| gone(&error))
    }

    fn close_after(&mut self) {
        self.keeps_alive = false;
    }

    fn ends_with_request(&self) -> bool {
        true
    }

    fn abort(&mut self, _is_violation: bool) {
        self.is_aborted = true;
        if self.encoder.is_some_and(|encoder| encoder.is_until_close()) {
            // An end would look like the body's.
            self.wire.reset_on_close();
        }
    }

    fn head_bytes_sent(&self) -> u64 {
        self.head_bytes
    }
}

fn broken(error: BodyError) -> ClientError {
    match error {
        BodyError::CutOff => ClientError::Gone,
        BodyError::TrailersTooLarge => {
            ClientError::Protocol(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "http1.trailers_too_large")
        }
        BodyError::Chunk | BodyError::Trailers => {
            ClientError::Protocol(StatusCode::BAD_REQUEST, "http1.codec_error")
        }
    }
}
