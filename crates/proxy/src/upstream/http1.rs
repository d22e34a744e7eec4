//! One request on an HTTP/1 connection to an upstream, and the response to it.

use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use ostro_engine::{Headers, Request, Scheme};

use super::error::UpstreamError;
use crate::Piece;
use crate::http1::{self, BodyDecoder, BodyEncoder, Decoded, Framing, HeadError, HeadLimits, Names, Search};
use crate::wire::Wire;

/// What an upstream's connections may do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// What a response's head may be.
    pub limits: HeadLimits,
    /// Most bytes that wait to be written.
    pub buffer_bytes: usize,
    /// Are trailers passed?
    pub trailers: bool,
    /// How names of headers are written.
    pub names: Names,
    /// Do requests have their whole URL?
    pub sends_absolute_url: bool,
}

/// A response's head.
#[derive(Debug)]
pub(crate) struct ResponseHead {
    /// Status; of an interim response too.
    pub status: StatusCode,
    /// Headers.
    pub headers: Headers,
    /// Whether nothing follows.
    pub ends: bool,
}

/// One request and its response.
#[derive(Debug)]
pub(crate) struct Call {
    wire: Wire,
    terms: Terms,
    method: Method,
    /// Was an upgrade, or a `CONNECT`, asked for?
    asks_tunnel: bool,
    search: Search,
    decoder: Option<BodyDecoder>,
    encoder: BodyEncoder,
    is_request_done: bool,
    is_response_done: bool,
    keeps_alive: bool,
    /// Was an upgrade granted?
    is_tunnel: bool,
}

impl Call {
    /// A connection on which nothing is under way. In a box: it goes from hand to hand, and is large.
    pub fn new(wire: Wire, terms: Terms) -> Box<Call> {
        Box::new(Call {
            wire,
            terms,
            method: Method::GET,
            asks_tunnel: false,
            search: Search::default(),
            decoder: None,
            encoder: BodyEncoder::new(Framing::Empty),
            is_request_done: false,
            is_response_done: false,
            keeps_alive: true,
            is_tunnel: false,
        })
    }

    /// Makes the connection ready for another request; `false` if none may follow on it.
    pub fn renew(&mut self) -> bool {
        let is_whole = self.is_request_done && self.is_response_done && self.wire.unwritten() == 0;
        let may = is_whole && self.keeps_alive && self.wire.input.is_empty() && !self.wire.is_input_closed();
        self.search = Search::default();
        self.decoder = None;
        self.is_request_done = false;
        self.is_response_done = false;
        may
    }

    /// Gives the memory of empty buffers back.
    pub fn release(&mut self) {
        self.wire.release();
    }

    /// Whether the peer has neither closed the connection nor said anything since. Costs no system call as long as it has
    /// not.
    pub fn is_quiet(&mut self) -> bool {
        self.wire.poll_fill(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// Writes the request's head. `ends`: it has no body. `asks_tunnel`: bytes follow once it is granted.
    pub fn send_head(&mut self, request: &Request, ends: bool, asks_tunnel: bool) {
        self.method = request.method.clone();
        self.asks_tunnel = asks_tunnel;
        let length = request.headers.get(&header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
        let mut own: [Option<(HeaderName, HeaderValue)>; 1] = [None];
        let framing = match length {
            _ if asks_tunnel => Framing::UntilClose,
            Some(length) => Framing::Length(length),
            None if !ends => Framing::Chunked,
            None => {
                if !is_bodiless(&request.method) {
                    own[0] = Some((header::CONTENT_LENGTH, HeaderValue::from_static("0")));
                }
                Framing::Empty
            }
        };
        let absolute = self.terms.sends_absolute_url.then(|| absolute(request));
        let target = match &absolute {
            _ if request.method == Method::CONNECT => request.authority.as_bytes(),
            Some(absolute) => absolute,
            None => request.path.as_bytes(),
        };
        http1::request_head(
            self.wire.out(),
            &request.method,
            target,
            &request.authority,
            &request.headers,
            &own,
            framing,
            self.terms.names,
        );
        self.encoder = BodyEncoder::new(framing);
        self.is_request_done = ends && !asks_tunnel;
    }

    /// Writes part of the body.
    pub fn send_data(&mut self, data: Bytes) {
        let size = data.len();
        self.encoder.before(self.wire.out(), size);
        self.wire.put(data);
        self.encoder.after(self.wire.out(), size);
    }

    /// Ends the request.
    pub fn send_end(&mut self, trailers: Option<&Headers>) {
        self.encoder.end(self.wire.out(), trailers.filter(|_| self.terms.trailers));
        if self.encoder.is_until_close() {
            self.wire.end();
        }
        self.is_request_done = true;
    }

    /// Ready when there is room for more to send.
    pub fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), UpstreamError>> {
        self.wire.poll_below(cx, self.terms.buffer_bytes).map_err(terminated)
    }

    /// Ready when all that was sent is with the kernel.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), UpstreamError>> {
        self.wire.poll_flush(cx).map_err(terminated)
    }

    /// The next head, interim ones too.
    pub fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, UpstreamError>> {
        loop {
            let head =
                http1::response(&mut self.wire.input, &mut self.search, self.terms.limits, &self.method);
            if let Some(head) = head.map_err(malformed)? {
                return Poll::Ready(self.accept(head));
            }
            let had = !self.wire.input.is_empty();
            let filled = ready!(self.wire.poll_fill(cx)).map_err(|error| cut_off(&error, had))?;
            if !filled {
                return Poll::Ready(Err(match self.wire.input.is_empty() {
                    true => UpstreamError::Terminated,
                    false => UpstreamError::Protocol("http1.codec_error"),
                }));
            }
        }
    }

    fn accept(&mut self, head: http1::Response) -> Result<ResponseHead, UpstreamError> {
        let http1::Response { status, headers, mut framing, keeps_alive, .. } = head;
        if status == StatusCode::SWITCHING_PROTOCOLS {
            if !self.asks_tunnel || self.method == Method::CONNECT {
                return Err(UpstreamError::Protocol("101 unasked"));
            }
            framing = Framing::UntilClose;
            self.is_tunnel = true;
        } else if status.is_informational() {
            return Ok(ResponseHead { status, headers, ends: false });
        }
        self.keeps_alive &= keeps_alive;
        let decoder = BodyDecoder::new(framing, self.terms.limits);
        self.is_response_done = decoder.is_done();
        self.decoder = Some(decoder);
        Ok(ResponseHead { status, headers, ends: self.is_response_done })
    }

    /// What comes next of the response's body.
    pub fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, UpstreamError>> {
        loop {
            let Some(decoder) = &mut self.decoder else { return Poll::Ready(Ok(Piece::End)) };
            let is_closed = self.wire.is_input_closed();
            let piece = match decoder.decode(&mut self.wire.input, is_closed) {
                Ok(Decoded::Data(data)) => {
                    self.is_response_done = decoder.is_done();
                    return Poll::Ready(Ok(Piece::Data(data)));
                }
                Ok(Decoded::Trailers(trailers)) if self.terms.trailers => Piece::Trailers(trailers),
                Ok(Decoded::Trailers(_) | Decoded::End) => Piece::End,
                Ok(Decoded::More) => {
                    let is_amidst = !self.is_tunnel;
                    ready!(self.wire.poll_fill(cx)).map_err(|error| cut_off(&error, is_amidst))?;
                    continue;
                }
                Err(_) => return Poll::Ready(Err(UpstreamError::Protocol("http1.codec_error"))),
            };
            self.is_response_done = true;
            return Poll::Ready(Ok(piece));
        }
    }

    /// Whether the response is complete.
    pub fn is_response_done(&self) -> bool {
        self.is_response_done
    }
}

/// The connection broke; in the middle of a message that is as if the message were malformed, as Envoy sees it.
fn cut_off(error: &std::io::Error, is_amidst: bool) -> UpstreamError {
    tracing::debug!(%error, "upstream");
    if is_amidst { UpstreamError::Protocol("http1.codec_error") } else { UpstreamError::Terminated }
}

fn terminated(error: std::io::Error) -> UpstreamError {
    tracing::debug!(%error, "upstream");
    UpstreamError::Terminated
}

fn malformed(error: HeadError) -> UpstreamError {
    match error {
        HeadError::TooLarge => UpstreamError::Protocol("headers_too_large"),
        HeadError::Malformed(what) => UpstreamError::Protocol(what),
        HeadError::TransferCoding => UpstreamError::Protocol("unsupported transfer-encoding"),
        HeadError::Version | HeadError::OldVersion | HeadError::NoHost => {
            UpstreamError::Protocol("unsupported version")
        }
    }
}

/// The whole URL of a request (RFC 9112 section 3.2.2).
fn absolute(request: &Request) -> Vec<u8> {
    let scheme: &[u8] = if request.scheme == Scheme::Https { b"https://" } else { b"http://" };
    [scheme, request.authority.as_bytes(), request.path.as_bytes()].concat()
}

/// Methods whose requests say nothing of a body that they do not have.
fn is_bodiless(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::DELETE, Method::CONNECT, Method::OPTIONS, Method::TRACE]
        .contains(method)
}
