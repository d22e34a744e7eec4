//! What is sent: heads at once, data by turns as the windows allow, trailers behind it.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use ostro_engine::{Headers, Request, Scheme};

use super::{Connection, STREAM_MAX};
use crate::error::{OpenError, StreamClosed};
use crate::hpack::{Class, Encoder};
use crate::output::Output;
use crate::streams::{NO_LENGTH, Receiving, Sending, StreamId};

/// Data that is put into the output at once: as much as a socket may take.
const OUTPUT_BYTES: usize = 64 << 10;
/// Most data of one stream until it is another's turn.
const QUANTUM_BYTES: usize = 16 << 10;
/// What a stream may have waiting while its window is closed.
const BLOCKED_BYTES: usize = 16 << 10;

/// Indexes of the static table.
mod index {
    pub const METHOD_GET: u8 = 2;
    pub const METHOD_POST: u8 = 3;
    pub const PATH_ROOT: u8 = 4;
    pub const SCHEME_HTTP: u8 = 6;
    pub const SCHEME_HTTPS: u8 = 7;
}

impl Connection {
    /// Opens a stream with a request (client). `protocol` makes it an extended CONNECT; `is_end`: there is no body.
    ///
    /// # Errors
    /// No stream can be opened, now or ever.
    pub fn send_request(
        &mut self,
        request: &Request,
        protocol: Option<&HeaderValue>,
        is_end: bool,
    ) -> Result<StreamId, OpenError> {
        if !self.takes_streams() {
            return Err(OpenError::GoingAway);
        }
        if self.open_slots() == 0 {
            return Err(OpenError::Full);
        }
        let number = self.next_stream;
        debug_assert!(number <= STREAM_MAX, "looked at above");
        self.next_stream += 2;
        let sending = if is_end { Sending::Ended } else { Sending::Body };
        let id = self.add(number, Receiving::Head, sending, NO_LENGTH);
        if let Some(stream) = self.streams.get(id) {
            stream.is_head_request = request.method == Method::HEAD;
        }
        self.flood.opened();
        let encoder = &mut self.encoder;
        self.output.headers(number, is_end, self.peer.max_frame_bytes as usize, |out| {
            encoder.begin(out);
            request_pseudo(encoder, request, protocol, out);
            fields(encoder, &request.headers, out);
        });
        Ok(id)
    }

    /// Sends the response's head (server). `is_end`: there is no body.
    ///
    /// # Errors
    /// The stream is over, or has its head already.
    pub fn send_response(
        &mut self,
        stream: StreamId,
        status: StatusCode,
        headers: &Headers,
        is_end: bool,
    ) -> Result<(), StreamClosed> {
        let found = self.streams.get(stream).filter(|stream| stream.sending == Sending::Head);
        found.ok_or(StreamClosed)?.sending = if is_end { Sending::Ended } else { Sending::Body };
        self.response_head(stream, status, headers, is_end);
        if is_end {
            self.settle(stream);
        }
        Ok(())
    }

    /// Sends an interim response's head (server).
    ///
    /// # Errors
    /// The stream is over, or has its final head already.
    pub fn send_interim(
        &mut self,
        stream: StreamId,
        status: StatusCode,
        headers: &Headers,
    ) -> Result<(), StreamClosed> {
        let found = self.streams.get(stream).filter(|stream| stream.sending == Sending::Head);
        found.ok_or(StreamClosed)?;
        self.response_head(stream, status, headers, false);
        Ok(())
    }

    fn response_head(&mut self, stream: StreamId, status: StatusCode, headers: &Headers, is_end: bool) {
        let encoder = &mut self.encoder;
        self.output.headers(stream.number(), is_end, self.peer.max_frame_bytes as usize, |out| {
            encoder.begin(out);
            response_pseudo(encoder, status, out);
            fields(encoder, headers, out);
        });
    }

    /// How many bytes of data the stream takes now. If none, it is among the [`writable`](Self::take_writable) once it
    /// takes some, or is over. A stream whose window is closed takes little.
    pub fn capacity(&mut self, stream: StreamId) -> usize {
        let (limit, connection) = (self.config.send_buffer, self.send.available());
        let Some(found) = self.streams.get(stream) else { return 0 };
        let window = found.send.available().min(connection);
        let capacity = limit.min(window.max(BLOCKED_BYTES)).saturating_sub(found.queue.len());
        found.awaits_capacity |= capacity == 0;
        capacity
    }

    /// Whether all that was sent on a stream is in the output, or never will be. If not, the stream is among the
    /// [`writable`](Self::take_writable) once it is so.
    pub fn is_flushed(&mut self, stream: StreamId) -> bool {
        let Some(found) = self.streams.get(stream) else { return true };
        let is_flushed = found.queue.is_empty();
        found.awaits_flush |= !is_flushed;
        is_flushed
    }

    /// Sends data. It may be a piece of any size as long as there was [`capacity`](Self::capacity); whoever asks first
    /// bounds what waits here. `is_end`: it is the last.
    ///
    /// # Errors
    /// The stream is over, or its sending side is, or its head was not sent.
    pub fn send_data(&mut self, stream: StreamId, data: Bytes, is_end: bool) -> Result<(), StreamClosed> {
        let connection = self.send.available();
        let found = self.streams.get(stream).filter(|stream| stream.sending == Sending::Body);
        let found = found.ok_or(StreamClosed)?;
        let size = data.len();
        let window = found.send.available().min(connection);
        let at_once = window.min(QUANTUM_BYTES).min(self.peer.max_frame_bytes as usize);
        let nobody_waits = self.ready.is_empty() && self.output.len() < OUTPUT_BYTES;
        if found.queue.is_empty() && (size == 0 || size <= at_once && nobody_waits) {
            if is_end {
                found.sending = Sending::Ended;
            } else if size == 0 {
                return Ok(());
            }
            found.send.sent(size);
            self.send.sent(size);
            self.flood.sent_data();
            self.output.data(stream.number(), data, is_end);
            if is_end {
                self.settle(stream);
            }
            return Ok(());
        }
        found.queue.push(data);
        if is_end {
            found.sending = Sending::Ending(None);
        }
        self.schedule(stream);
        Ok(())
    }

    /// Sends the end, with trailers. Empty ones are a plain end.
    ///
    /// # Errors
    /// As of [`send_data`](Self::send_data).
    pub fn send_trailers(&mut self, stream: StreamId, trailers: &Headers) -> Result<(), StreamClosed> {
        if trailers.is_empty() {
            return self.send_data(stream, Bytes::new(), true);
        }
        let found = self.streams.get(stream).filter(|stream| stream.sending == Sending::Body);
        let found = found.ok_or(StreamClosed)?;
        if !found.queue.is_empty() {
            found.sending = Sending::Ending(Some(trailers.clone()));
            return Ok(());
        }
        found.sending = Sending::Ended;
        self.write_trailers(stream, trailers);
        self.settle(stream);
        Ok(())
    }

    fn write_trailers(&mut self, stream: StreamId, trailers: &Headers) {
        let encoder = &mut self.encoder;
        self.output.headers(stream.number(), true, self.peer.max_frame_bytes as usize, |out| {
            encoder.begin(out);
            fields(encoder, trailers, out);
        });
    }

    /// A stream's window is wider.
    pub(super) fn widened(&mut self, stream: StreamId) {
        self.schedule(stream);
        let Some(found) = self.streams.get(stream) else { return };
        if found.awaits_capacity && found.queue.len() < BLOCKED_BYTES {
            self.notify(stream);
        }
    }

    /// It will be the stream's turn, if it has anything to send and may.
    fn schedule(&mut self, stream: StreamId) {
        if let Some(found) = self.streams.get(stream)
            && !found.is_scheduled
            && !found.queue.is_empty()
            && found.send.available() > 0
        {
            found.is_scheduled = true;
            self.ready.push_back(stream);
        }
    }

    fn notify(&mut self, stream: StreamId) {
        if let Some(found) = self.streams.get(stream) {
            (found.awaits_capacity, found.awaits_flush) = (false, false);
            self.writable.push_back(stream);
        }
    }

    /// A stream of which somebody has asked for [`capacity`](Self::capacity) or
    /// [`is_flushed`](Self::is_flushed), and should ask again. To be taken after each [`output`](Self::output).
    pub fn take_writable(&mut self) -> Option<StreamId> {
        self.writable.pop_front()
    }

    /// What is to be written to the socket now. When it is empty, data whose turn it is is put into it.
    pub fn output(&mut self) -> &mut Output {
        if self.output.is_empty() {
            self.generate();
        }
        &mut self.output
    }

    /// Bytes that wait to be written to the socket, whatever data may follow them.
    pub fn output_len(&self) -> usize {
        self.output.len()
    }

    fn generate(&mut self) {
        while self.output.len() < OUTPUT_BYTES && self.send.available() > 0 {
            let Some(stream) = self.ready.pop_front() else { return };
            self.take_turn(stream);
        }
    }

    /// One frame of a stream's data, and what follows if it was the last.
    fn take_turn(&mut self, id: StreamId) {
        let connection = self.send.available();
        let frame = QUANTUM_BYTES.min(self.peer.max_frame_bytes as usize);
        let Some(stream) = self.streams.get(id) else { return };
        stream.is_scheduled = false;
        let most = frame.min(connection).min(stream.send.available());
        if most == 0 {
            return;
        }
        let data = stream.queue.pop(most);
        let is_last = stream.queue.is_empty();
        let ends = is_last && stream.sending == Sending::Ending(None);
        stream.send.sent(data.len());
        self.send.sent(data.len());
        self.flood.sent_data();
        self.output.data(id.number(), data, ends);
        let is_awaited = stream.awaits_capacity && stream.queue.len() <= self.config.send_buffer / 2
            || stream.awaits_flush && is_last;
        if is_awaited {
            (stream.awaits_capacity, stream.awaits_flush) = (false, false);
            self.writable.push_back(id);
        }
        if !is_last {
            self.schedule(id);
        } else if let Sending::Ending(trailers) = &mut stream.sending {
            let trailers = trailers.take();
            stream.sending = Sending::Ended;
            if let Some(trailers) = trailers {
                self.write_trailers(id, &trailers);
            }
            self.settle(id);
        }
    }
}

fn request_pseudo(
    encoder: &mut Encoder,
    request: &Request,
    protocol: Option<&HeaderValue>,
    out: &mut Vec<u8>,
) {
    match request.method {
        Method::GET => encoder.indexed(index::METHOD_GET, out),
        Method::POST => encoder.indexed(index::METHOD_POST, out),
        _ => encoder.pseudo(":method", request.method.as_str().as_bytes(), out),
    }
    let is_tunnel = request.method == Method::CONNECT && protocol.is_none();
    if !is_tunnel {
        encoder.indexed(
            match request.scheme {
                Scheme::Http => index::SCHEME_HTTP,
                Scheme::Https => index::SCHEME_HTTPS,
            },
            out,
        );
    }
    if !request.authority.is_empty() {
        encoder.pseudo(":authority", request.authority.as_bytes(), out);
    }
    if !is_tunnel {
        match request.path.as_bytes() {
            b"/" => encoder.indexed(index::PATH_ROOT, out),
            path => encoder.pseudo(":path", path, out),
        }
    }
    if let Some(protocol) = protocol {
        encoder.pseudo(":protocol", protocol.as_bytes(), out);
    }
}

fn response_pseudo(encoder: &mut Encoder, status: StatusCode, out: &mut Vec<u8>) {
    let index = match status.as_u16() {
        200 => 8,
        204 => 9,
        206 => 10,
        304 => 11,
        400 => 12,
        404 => 13,
        500 => 14,
        _ => return encoder.pseudo(":status", status.as_str().as_bytes(), out),
    };
    encoder.indexed(index, out);
}

/// All fields but those that HTTP/2 does not have.
fn fields(encoder: &mut Encoder, headers: &Headers, out: &mut Vec<u8>) {
    for (name, value) in headers.iter() {
        if is_sent(name, value) {
            encoder.field(name, value, out);
        }
    }
}

fn is_sent(name: &HeaderName, value: &HeaderValue) -> bool {
    /// Bit by length of the names that are looked at: `te`, `host`, `upgrade`, `connection` and `keep-alive`,
    /// `proxy-connection`, `transfer-encoding`.
    const LENGTHS: u32 = 1 << 2 | 1 << 4 | 1 << 7 | 1 << 10 | 1 << 16 | 1 << 17;
    let name = name.as_str().as_bytes();
    if name.len() > 17 || LENGTHS >> name.len() & 1 == 0 {
        return true;
    }
    match Class::of(name) {
        Class::Connection | Class::Host => false,
        Class::Te => value.as_bytes().eq_ignore_ascii_case(b"trailers"),
        Class::Plain | Class::ContentLength | Class::Cookie => true,
    }
}
