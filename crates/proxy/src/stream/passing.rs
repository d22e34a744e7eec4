//! Bodies passed between a client and an upstream, both ways at once, each held up by the other's pace.

use std::collections::VecDeque;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use ostro_engine::Headers;
use ostro_engine::grpc::MessageCounter;
use tokio::time::Instant;

use super::deadlines::{Deadlines, Limit};
use crate::Piece;
use crate::downstream::client::{Client, ClientError};
use crate::timers::Timer;
use crate::upstream::{Carrier, ResponseHead, UpstreamError};

/// Parts of a request that have been sent, kept for another try or for a mirror.
#[derive(Debug)]
pub(crate) struct Replay {
    parts: Vec<Bytes>,
    trailers: Option<Headers>,
    is_complete: bool,
    bytes: usize,
    /// Most bytes that are kept.
    most: usize,
    /// More has come than is kept: there is no other try.
    is_lost: bool,
}

impl Replay {
    /// Keeps at most so many bytes.
    pub fn new(most: usize) -> Replay {
        Replay { parts: Vec::new(), trailers: None, is_complete: false, bytes: 0, most, is_lost: false }
    }

    /// Keeps nothing from now on.
    pub fn give_up(&mut self) {
        self.is_lost = true;
        self.parts = Vec::new();
    }

    /// Whether what has been sent can be sent again.
    pub fn is_whole(&self) -> bool {
        !self.is_lost
    }

    /// What was kept.
    pub fn parts(&self) -> (Vec<Bytes>, Option<Headers>) {
        (self.parts.clone(), self.trailers.clone())
    }

    fn keep(&mut self, data: &Bytes) {
        if self.is_lost {
            return;
        }
        self.bytes += data.len();
        if self.bytes > self.most {
            self.give_up();
        } else {
            self.parts.push(data.clone());
        }
    }
}

/// What came of passing.
#[derive(Debug)]
pub(crate) enum Event {
    /// A head came from the upstream, interim ones too.
    Head(ResponseHead),
    /// All is passed that will be.
    Done,
    /// The client cannot go on.
    Client(ClientError),
    /// The upstream cannot go on.
    Upstream(UpstreamError),
    /// A deadline has passed.
    Passed(Limit),
}

/// How far the bodies of one try are.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Parts that are to be sent once more.
    again: VecDeque<Bytes>,
    /// Whether the request's end has been sent.
    pub is_request_sent: bool,
    /// Sending failed: the upstream may have answered all the same.
    write_failed: bool,
}

/// What a stream counts.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// Bytes of the request's body.
    pub received: u64,
    /// Bytes of the response's body.
    pub sent: u64,
    /// When the request was complete.
    pub request_ended: Option<Instant>,
}

/// Messages of gRPC that have passed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Messages {
    /// From the client.
    pub received: MessageCounter,
    /// To the client.
    pub sent: MessageCounter,
}

/// The client's side with all that passing needs beside the upstream.
#[derive(Debug)]
pub(crate) struct Passing<'a, C> {
    /// The client.
    pub client: &'a mut C,
    /// When it is too late.
    pub deadlines: Deadlines,
    /// What waits for that.
    pub timer: &'a mut Timer,
    /// What has been sent of the request.
    pub replay: Replay,
    /// What has passed.
    pub counts: Counts,
    /// Messages among it, if they are counted.
    pub messages: Option<Messages>,
    /// Trailers of the response, once they have passed.
    pub trailers: Option<Headers>,
    /// Whether bytes flow both ways, each until its own end.
    pub is_tunnel: bool,
    /// Whether what the client sends has to wait: for a tunnel to be granted.
    pub holds_request: bool,
    /// Whether the request's end has come from the client.
    is_request_read: bool,
    /// How long the response, and each try, may take once the request is complete.
    response_timeout: Option<Duration>,
    try_timeout: Option<Duration>,
}

impl<'a, C: Client> Passing<'a, C> {
    /// Nothing has passed yet.
    pub fn new(client: &'a mut C, timer: &'a mut Timer, replay: Replay) -> Passing<'a, C> {
        let is_request_read = client.is_body_done();
        let mut counts = Counts::default();
        if is_request_read {
            counts.request_ended = Some(Instant::now());
        }
        Passing {
            client,
            deadlines: Deadlines::default(),
            timer,
            replay,
            counts,
            messages: None,
            trailers: None,
            is_tunnel: false,
            holds_request: false,
            is_request_read,
            response_timeout: None,
            try_timeout: None,
        }
    }

    /// How long the response may take once the request is complete.
    pub fn set_response_timeout(&mut self, timeout: Option<Duration>) {
        self.response_timeout = timeout;
        if let Some(at) = self.counts.request_ended {
            self.deadlines.set(Limit::Route, timeout.map(|timeout| at + timeout));
        }
    }

    /// The deadlines of a try that begins.
    pub fn begin_try(&mut self, timeout: Option<Duration>, idle: Option<Duration>, most: Option<Duration>) {
        self.try_timeout = timeout;
        if timeout.is_none() && idle.is_none() && most.is_none() {
            return;
        }
        let now = Instant::now();
        self.deadlines.set_idle(Limit::TryIdle, idle, now);
        self.deadlines.set(Limit::Upstream, most.map(|most| now + most));
        if self.is_request_read {
            self.deadlines.set(Limit::Try, timeout.map(|timeout| now + timeout));
        }
    }

    /// A try begins: what has been kept of the request is sent first.
    pub fn begin(&self) -> Progress {
        let again = self.replay.parts.iter().cloned().collect();
        Progress { again, is_request_sent: false, write_failed: false }
    }

    /// Whether the request has no body.
    pub fn is_bodiless(&self) -> bool {
        self.is_request_read
            && self.replay.parts.is_empty()
            && self.replay.trailers.is_none()
            && self.counts.received == 0
    }

    /// Whether the whole request has come.
    pub fn is_request_read(&self) -> bool {
        self.is_request_read
    }

    /// From now on bytes flow both ways.
    pub fn become_tunnel(&mut self) {
        self.is_tunnel = true;
        self.holds_request = false;
        self.is_request_read = false;
        self.replay.give_up();
        for limit in [Limit::Route, Limit::Try, Limit::Request] {
            self.deadlines.set(limit, None);
        }
    }

    /// Passes the request until the upstream's next head has come.
    pub fn poll_head(
        &mut self,
        carrier: &mut Carrier,
        progress: &mut Progress,
        cx: &mut Context<'_>,
    ) -> Poll<Event> {
        if let Err(event) = self.pass_request(carrier, progress, cx) {
            return Poll::Ready(event);
        }
        // A client that has gone hears no answer, even one that is there.
        if !self.is_tunnel
            && let Poll::Ready(error) = self.client.poll_gone(cx)
        {
            return Poll::Ready(Event::Client(error));
        }
        match carrier.poll_head(cx) {
            Poll::Ready(Ok(head)) => return Poll::Ready(Event::Head(head)),
            Poll::Ready(Err(error)) => return Poll::Ready(Event::Upstream(error)),
            Poll::Pending => {}
        }
        // Interim responses do not wait for the final one.
        if let Poll::Ready(Err(error)) = self.client.poll_flush(cx) {
            return Poll::Ready(Event::Client(error));
        }
        self.poll_interrupted(cx)
    }

    /// Passes both bodies until the response, or the tunnel, is complete.
    pub fn poll_rest(
        &mut self,
        carrier: &mut Carrier,
        progress: &mut Progress,
        cx: &mut Context<'_>,
    ) -> Poll<Event> {
        if let Err(event) = self.pass_request(carrier, progress, cx) {
            return Poll::Ready(event);
        }
        let has_left = self.is_tunnel && progress.is_request_sent && self.client.ends_with_request();
        if has_left && carrier.poll_flush(cx).is_ready() {
            return Poll::Ready(Event::Client(ClientError::Gone));
        }
        match self.pass_response(carrier, cx) {
            Err(event) => return Poll::Ready(event),
            // The upstream's end is that of a tunnel, too.
            Ok(true) => return Poll::Ready(Event::Done),
            Ok(false) => {}
        }
        self.poll_interrupted(cx)
    }

    /// Ready when the client has gone or a deadline has passed.
    pub fn poll_interrupted(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if !self.is_tunnel
            && let Poll::Ready(error) = self.client.poll_gone(cx)
        {
            return Poll::Ready(Event::Client(error));
        }
        if self.timer.poll(cx, self.deadlines.next()).is_ready()
            && let Some(limit) = self.deadlines.passed(Instant::now())
        {
            return Poll::Ready(Event::Passed(limit));
        }
        Poll::Pending
    }

    fn pass_request(
        &mut self,
        carrier: &mut Carrier,
        progress: &mut Progress,
        cx: &mut Context<'_>,
    ) -> Result<(), Event> {
        let mut has_moved = false;
        while !progress.is_request_sent && !progress.write_failed && !self.holds_request {
            match carrier.poll_writable(cx) {
                Poll::Pending => break,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => {
                    progress.write_failed = true;
                    break;
                }
            }
            if let Some(part) = progress.again.pop_front() {
                carrier.send_data(part);
            } else if self.replay.is_complete {
                carrier.send_end(self.replay.trailers.as_ref());
                progress.is_request_sent = true;
            } else if !self.pass_piece(carrier, progress, cx)? {
                break;
            }
            has_moved = true;
        }
        if let Poll::Ready(Err(_)) = carrier.poll_flush(cx) {
            progress.write_failed = true;
        }
        if has_moved {
            self.deadlines.moved(Instant::now());
        }
        Ok(())
    }

    /// Passes one piece of the request; `false` if none has come.
    fn pass_piece(
        &mut self,
        carrier: &mut Carrier,
        progress: &mut Progress,
        cx: &mut Context<'_>,
    ) -> Result<bool, Event> {
        let piece = if self.is_request_read {
            Piece::End
        } else {
            match self.client.poll_body(cx) {
                Poll::Pending => return Ok(false),
                Poll::Ready(Ok(piece)) => piece,
                Poll::Ready(Err(error)) => return Err(Event::Client(error)),
            }
        };
        let trailers = match piece {
            Piece::Data(data) => {
                self.counts.received += data.len() as u64;
                if let Some(messages) = &mut self.messages {
                    messages.received.push(&data);
                }
                self.replay.keep(&data);
                carrier.send_data(data);
                if !self.client.is_body_done() || self.is_tunnel {
                    return Ok(true);
                }
                None
            }
            Piece::Trailers(trailers) => Some(trailers),
            Piece::End => None,
        };
        carrier.send_end(trailers.as_ref());
        progress.is_request_sent = true;
        self.is_request_read = true;
        self.replay.is_complete = true;
        self.replay.trailers = trailers;
        if self.counts.request_ended.is_none() {
            let now = Instant::now();
            self.counts.request_ended = Some(now);
            self.deadlines.set(Limit::Request, None);
            self.deadlines.set(Limit::Route, self.response_timeout.map(|timeout| now + timeout));
            self.deadlines.set(Limit::Try, self.try_timeout.map(|timeout| now + timeout));
        }
        Ok(true)
    }

    /// Passes what there is of the response; `true` once all of it is with the client's side.
    fn pass_response(&mut self, carrier: &mut Carrier, cx: &mut Context<'_>) -> Result<bool, Event> {
        let mut has_moved = false;
        let mut is_done = carrier.is_response_done();
        while !is_done {
            match self.client.poll_writable(cx) {
                Poll::Pending => break,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Err(Event::Client(error)),
            }
            match carrier.poll_body(cx) {
                Poll::Pending => break,
                Poll::Ready(Err(error)) => return Err(Event::Upstream(error)),
                Poll::Ready(Ok(Piece::Data(data))) => {
                    self.counts.sent += data.len() as u64;
                    if let Some(messages) = &mut self.messages {
                        messages.sent.push(&data);
                    }
                    self.client.send_data(data);
                    is_done = carrier.is_response_done();
                    if is_done {
                        self.client.send_end(None);
                    }
                }
                Poll::Ready(Ok(Piece::Trailers(trailers))) => {
                    self.client.send_end(Some(&trailers));
                    self.trailers = Some(trailers);
                    is_done = true;
                }
                Poll::Ready(Ok(Piece::End)) => {
                    self.client.send_end(None);
                    is_done = true;
                }
            }
            has_moved = true;
        }
        if has_moved {
            self.deadlines.moved(Instant::now());
        }
        match self.client.poll_flush(cx) {
            Poll::Ready(Err(error)) => Err(Event::Client(error)),
            _ => Ok(is_done),
        }
    }
}
