//! An HTTP/2 peer of frames, client or server: it answers SETTINGS and PING, keeps windows open, and hands over the rest.

use std::collections::{HashMap, VecDeque};

use super::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, INITIAL_WINDOW_SIZE, PADDED,
    PING, PREFACE, PRIORITY, PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE, block, error, frame,
    settings,
};
use super::wire::{Done, Trouble, Wire, trouble};

pub type Fields = Vec<(String, String)>;

/// What the other side said, other than housekeeping.
#[derive(Clone, Debug)]
pub enum Event {
    Headers {
        stream: u32,
        fields: Fields,
        end: bool,
    },
    Data {
        stream: u32,
        bytes: Vec<u8>,
        end: bool,
    },
    Reset {
        stream: u32,
        code: u32,
    },
    GoAway {
        last: u32,
        code: u32,
        debug: String,
    },
    Settings(Vec<(u16, u32)>),
    Pong(Vec<u8>),
    /// The connection ended.
    End(&'static str),
}

/// A whole message of one stream.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    pub stream: u32,
    /// Interim responses that came before.
    pub interim: Vec<Fields>,
    pub fields: Fields,
    pub body: Vec<u8>,
    pub trailers: Fields,
    /// The code of the reset that ended it.
    pub reset: Option<u32>,
    /// What ended the connection before the message was whole.
    pub cut: Option<String>,
}

fn find<'a>(fields: &'a Fields, name: &str) -> &'a str {
    fields.iter().find(|(known, _)| known == name).map_or("-", |(_, value)| value.as_str())
}

impl Reply {
    pub fn get(&self, name: &str) -> &str {
        find(&self.fields, name)
    }

    pub fn all(&self, name: &str) -> String {
        let values: Vec<&str> =
            self.fields.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect();
        if values.is_empty() { "-".to_owned() } else { values.join("; ") }
    }

    pub fn trailer(&self, name: &str) -> &str {
        find(&self.trailers, name)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// `200 hello`, `reset CANCEL`, `cut: GOAWAY PROTOCOL_ERROR`.
    pub fn brief(&self) -> String {
        let mut parts = Vec::new();
        if !self.fields.is_empty() {
            parts.push(self.get(":status").to_owned());
        }
        if !self.body.is_empty() {
            parts.push(self.text());
        }
        if let Some(code) = self.reset {
            parts.push(format!("reset {}", error(code)));
        }
        if let Some(cut) = &self.cut {
            parts.push(format!("cut: {cut}"));
        }
        parts.join(" ")
    }
}

/// One HTTP/2 connection.
pub struct H2 {
    pub wire: Wire,
    decoder: httlib_hpack::Decoder<'static>,
    /// Events that were read while another stream's were waited for.
    waiting: VecDeque<Event>,
    next_stream: u32,
    /// Whether DATA is answered with WINDOW_UPDATE at once.
    pub generous: bool,
    window: i64,
    windows: HashMap<u32, i64>,
    initial_window: i64,
    /// The other side's settings.
    pub peer: HashMap<u16, u32>,
    told: bool,
}

impl H2 {
    /// A client: sends preface and settings.
    pub fn client(mut wire: Wire, pairs: &[(u16, u32)]) -> Done<H2> {
        let mut bytes = PREFACE.to_vec();
        bytes.extend(frame(SETTINGS, 0, 0, &settings(pairs)));
        wire.send(bytes)?;
        Ok(H2::new(wire, 1))
    }

    /// A client whose preface, settings and first request have been sent on this connection.
    pub fn resume(wire: Wire) -> H2 {
        H2::new(wire, 3)
    }

    /// A server: reads the preface, sends settings.
    pub fn server(mut wire: Wire, pairs: &[(u16, u32)]) -> Done<H2> {
        let preface = wire.take(PREFACE.len())?;
        if preface != PREFACE {
            return trouble(format!("no preface but {:?}", String::from_utf8_lossy(&preface)));
        }
        wire.send(frame(SETTINGS, 0, 0, &settings(pairs)))?;
        Ok(H2::new(wire, 2))
    }

    fn new(wire: Wire, next_stream: u32) -> H2 {
        let decoder = httlib_hpack::Decoder::with_dynamic_size(4096);
        H2 {
            wire,
            decoder,
            waiting: VecDeque::new(),
            next_stream,
            generous: true,
            window: 65_535,
            windows: HashMap::new(),
            initial_window: 65_535,
            peer: HashMap::new(),
            told: false,
        }
    }

    pub fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Done {
        self.wire.send(frame(kind, flags, stream, payload))
    }

    /// The number of our next stream.
    pub fn stream(&mut self) -> u32 {
        let stream = self.next_stream;
        self.next_stream += 2;
        stream
    }

    /// HEADERS with these fields, whole in one frame.
    pub fn headers<N: AsRef<[u8]>, V: AsRef<[u8]>>(
        &mut self,
        stream: u32,
        fields: &[(N, V)],
        end: bool,
    ) -> Done {
        let flags = END_HEADERS | if end { END_STREAM } else { 0 };
        self.send(HEADERS, flags, stream, &block(fields))
    }

    /// A request of this method; its stream. `more` follows the pseudo-headers.
    pub fn request(&mut self, method: &str, path: &str, more: &[(&str, &str)], end: bool) -> Done<u32> {
        let stream = self.stream();
        let mut fields =
            vec![(":method", method), (":scheme", "http"), (":path", path), (":authority", "a.test")];
        fields.extend_from_slice(more);
        self.headers(stream, &fields, end)?;
        Ok(stream)
    }

    /// A `GET` without a body.
    pub fn get(&mut self, path: &str) -> Done<u32> {
        self.request("GET", path, &[], true)
    }

    /// A plain response.
    pub fn answer(&mut self, stream: u32, body: &str) -> Done {
        self.headers(stream, &[(":status", "200")], body.is_empty())?;
        if body.is_empty() { Ok(()) } else { self.send(DATA, END_STREAM, stream, body.as_bytes()) }
    }

    /// Sends a body under flow control, and waits for windows.
    pub fn data(&mut self, stream: u32, mut bytes: &[u8], end: bool) -> Done {
        if bytes.is_empty() {
            return self.send(DATA, if end { END_STREAM } else { 0 }, stream, &[]);
        }
        while !bytes.is_empty() {
            let room = self.room(stream);
            if room == 0 {
                // The next frame may open a window, which is no event.
                let Some(event) = self.step()? else { continue };
                let over = matches!(&event, Event::End(_));
                self.waiting.push_back(event);
                if over {
                    return trouble("the connection ended before the body was sent");
                }
                continue;
            }
            let (now, later) = bytes.split_at(room.min(bytes.len()).min(16_384));
            let last = end && later.is_empty();
            self.send(DATA, if last { END_STREAM } else { 0 }, stream, now)?;
            let sent = i64::try_from(now.len()).expect("small");
            self.window -= sent;
            *self.windows.entry(stream).or_insert(self.initial_window) -= sent;
            bytes = later;
        }
        Ok(())
    }

    /// How many bytes may be sent on this stream now.
    pub fn room(&self, stream: u32) -> usize {
        let own = self.windows.get(&stream).copied().unwrap_or(self.initial_window);
        usize::try_from(own.min(self.window)).unwrap_or(0)
    }

    pub fn reset(&mut self, stream: u32, code: u32) -> Done {
        self.send(RST_STREAM, 0, stream, &code.to_be_bytes())
    }

    /// The next event.
    pub fn next(&mut self) -> Done<Event> {
        if let Some(event) = self.waiting.pop_front() {
            return Ok(event);
        }
        self.read()
    }

    /// The next event of this kind, with others left for later.
    pub fn wait<T>(&mut self, mut wanted: impl FnMut(&Event) -> Option<T>) -> Done<T> {
        if let Some(at) = self.waiting.iter().position(|event| wanted(event).is_some()) {
            let event = self.waiting.remove(at).expect("found");
            return Ok(wanted(&event).expect("found"));
        }
        loop {
            let event = self.read()?;
            if let Some(found) = wanted(&event) {
                return Ok(found);
            }
            if let Event::End(how) = event {
                return trouble(format!("{how} before what was waited for"));
            }
            self.waiting.push_back(event);
        }
    }

    /// The head of the next message that the other side begins: its stream, fields and whether it ends there.
    pub fn begun(&mut self) -> Done<(u32, Fields, bool)> {
        self.wait(|event| match event {
            Event::Headers { stream, fields, end } => Some((*stream, fields.clone(), *end)),
            _ => None,
        })
    }

    /// The next whole request that comes.
    pub fn whole(&mut self) -> Done<Reply> {
        let (stream, fields, end) = self.begun()?;
        let mut reply = Reply { stream, fields, ..Reply::default() };
        if !end {
            self.finish(&mut reply)?;
        }
        Ok(reply)
    }

    /// The message of this stream, until it ends, or is reset, or the connection ends.
    pub fn reply(&mut self, stream: u32) -> Done<Reply> {
        let mut reply = Reply { stream, ..Reply::default() };
        self.finish(&mut reply)?;
        Ok(reply)
    }

    fn finish(&mut self, reply: &mut Reply) -> Done {
        let mine = reply.stream;
        loop {
            let goaway = self.waiting.iter().chain(&[]).find_map(|e| match e {
                Event::GoAway { code, .. } => Some(format!("GOAWAY {} ", error(*code))),
                _ => None,
            });
            let event = match self.waiting.iter().position(|e| concerns(e, mine)) {
                Some(at) => self.waiting.remove(at).expect("found"),
                None => self.read()?,
            };
            match event {
                Event::Headers { stream, fields, end } if stream == mine => {
                    let status = find(&fields, ":status");
                    if status.len() == 3 && status.starts_with('1') {
                        reply.interim.push(fields);
                    } else if reply.fields.is_empty() {
                        reply.fields = fields;
                    } else {
                        reply.trailers = fields;
                    }
                    if end {
                        return Ok(());
                    }
                }
                Event::Data { stream, bytes, end } if stream == mine => {
                    reply.body.extend(bytes);
                    if end {
                        return Ok(());
                    }
                }
                Event::Reset { stream, code } if stream == mine => {
                    reply.reset = Some(code);
                    return Ok(());
                }
                Event::End(how) => {
                    reply.cut = Some(format!("{}{how}", goaway.unwrap_or_default()));
                    self.waiting.push_back(Event::End(how));
                    return Ok(());
                }
                other => self.waiting.push_back(other),
            }
        }
    }

    /// What becomes of the connection: `GOAWAY code, fin`; streams' ends are left out.
    pub fn fate(&mut self) -> Done<String> {
        let mut told = Vec::new();
        loop {
            match self.next()? {
                Event::GoAway { code, .. } => told.push(format!("GOAWAY {}", error(code))),
                Event::End(_) => {
                    told.push("closed".to_owned());
                    return Ok(told.join(" "));
                }
                _ => {}
            }
        }
    }

    /// A PING and its answer: all that was sent before has been read.
    pub fn fence(&mut self) -> Done {
        self.send(PING, 0, 0, b"8 bytes!")?;
        self.wait(|event| matches!(event, Event::Pong(_)).then_some(()))
    }

    /// Whether a whole frame has been read and not been looked at.
    pub fn has_frame(&self) -> bool {
        let Some(length) = self.wire.buffer.first_chunk::<3>() else { return false };
        let length = usize::from(length[0]) << 16 | usize::from(length[1]) << 8 | usize::from(length[2]);
        self.wire.buffer.len() >= 9 + length
    }

    /// What has come, as far as it is an event; reads at most once, and waits for no whole frame.
    pub fn pump(&mut self) -> Done<Option<Event>> {
        if !self.has_frame() {
            self.wire.fill()?;
        }
        while self.has_frame() {
            let Some(frame) = self.wire.frame()? else { break };
            if let Some(event) = self.take(frame)? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// Leaves an event for later.
    pub fn put_back(&mut self, event: Event) {
        self.waiting.push_back(event);
    }

    fn read(&mut self) -> Done<Event> {
        loop {
            if let Some(event) = self.step()? {
                return Ok(event);
            }
        }
    }

    /// The next frame, as far as it is an event.
    fn step(&mut self) -> Done<Option<Event>> {
        if self.told {
            return Ok(Some(Event::End(self.wire.how())));
        }
        let Some(frame) = self.wire.frame()? else {
            self.told = true;
            return Ok(Some(Event::End(self.wire.how())));
        };
        self.take(frame)
    }

    fn take(&mut self, frame: Frame) -> Done<Option<Event>> {
        let stream = frame.stream;
        let end = frame.flags & END_STREAM != 0;
        Ok(match frame.kind {
            HEADERS => {
                let fields = self.fields(frame)?;
                Some(Event::Headers { stream, fields, end })
            }
            DATA => {
                let bytes = unpadded(&frame).to_vec();
                if self.generous && !frame.payload.is_empty() {
                    self.widen(stream, u32::try_from(frame.payload.len()).expect("a frame"), end);
                }
                Some(Event::Data { stream, bytes, end })
            }
            RST_STREAM => Some(Event::Reset { stream, code: number(&frame.payload)? }),
            GOAWAY => Some(Event::GoAway {
                last: number(&frame.payload)? & 0x7fff_ffff,
                code: number(frame.payload.get(4..).unwrap_or_default())?,
                debug: String::from_utf8_lossy(frame.payload.get(8..).unwrap_or_default()).into_owned(),
            }),
            SETTINGS if frame.flags & ACK == 0 => Some(self.adopt(&frame.payload)),
            PING if frame.flags & ACK == 0 => {
                self.wire.offer(super::frames::frame(PING, ACK, 0, &frame.payload));
                None
            }
            PING => Some(Event::Pong(frame.payload)),
            WINDOW_UPDATE => {
                let more = i64::from(number(&frame.payload)?);
                match stream {
                    0 => self.window += more,
                    _ => *self.windows.entry(stream).or_insert(self.initial_window) += more,
                }
                None
            }
            PUSH_PROMISE => return trouble("PUSH_PROMISE"),
            SETTINGS | PRIORITY => None,
            other => return trouble(format!("a frame of type {other}")),
        })
    }

    /// Opens the windows by what a DATA frame took; the peer may be gone.
    fn widen(&mut self, stream: u32, by: u32, end: bool) {
        let mut bytes = super::frames::frame(WINDOW_UPDATE, 0, 0, &by.to_be_bytes());
        if !end {
            bytes.extend(super::frames::frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes()));
        }
        self.wire.offer(bytes);
    }

    fn adopt(&mut self, payload: &[u8]) -> Event {
        let mut pairs = Vec::new();
        for pair in payload.chunks_exact(6) {
            let id = u16::from_be_bytes([pair[0], pair[1]]);
            let value = u32::from_be_bytes([pair[2], pair[3], pair[4], pair[5]]);
            if id == INITIAL_WINDOW_SIZE {
                let change = i64::from(value) - self.initial_window;
                self.initial_window = i64::from(value);
                self.windows.values_mut().for_each(|window| *window += change);
            }
            self.peer.insert(id, value);
            pairs.push((id, value));
        }
        self.wire.offer(frame(SETTINGS, ACK, 0, &[]));
        Event::Settings(pairs)
    }

    fn fields(&mut self, first: Frame) -> Done<Fields> {
        let mut payload = unpadded(&first).to_vec();
        if first.flags & 0x20 != 0 {
            payload.drain(..5.min(payload.len()));
        }
        let mut ended = first.flags & END_HEADERS != 0;
        while !ended {
            match self.wire.frame()? {
                Some(next) if next.kind == CONTINUATION => {
                    payload.extend_from_slice(&next.payload);
                    ended = next.flags & END_HEADERS != 0;
                }
                _ => return trouble("no CONTINUATION"),
            }
        }
        let mut list = Vec::new();
        self.decoder.decode(&mut payload, &mut list).map_err(|e| Trouble(format!("HPACK: {e:?}")))?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(list.into_iter().map(|(name, value, _)| (text(name), text(value))).collect())
    }
}

fn concerns(event: &Event, mine: u32) -> bool {
    match event {
        Event::Headers { stream, .. } | Event::Data { stream, .. } | Event::Reset { stream, .. } => {
            *stream == mine
        }
        Event::End(_) => true,
        _ => false,
    }
}

fn unpadded(frame: &Frame) -> &[u8] {
    if frame.flags & PADDED == 0 {
        return &frame.payload;
    }
    let padding = frame.payload.first().map_or(0, |length| usize::from(*length));
    frame.payload.get(1..frame.payload.len().saturating_sub(padding)).unwrap_or_default()
}

fn number(bytes: &[u8]) -> Done<u32> {
    match bytes.first_chunk::<4>() {
        Some(four) => Ok(u32::from_be_bytes(*four)),
        None => trouble("a frame is too short"),
    }
}
