//! An HTTP/2 connection of a client: many requests at once.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use ostro_engine::{Headers, Protocol, ResponseFlags, StreamInfo, StreamView};
use ostro_http2::{ErrorCode, RequestHead};
use tokio::time::Instant;

use super::HttpScope;
use super::client::{Client, ClientError, Follows};
use crate::Piece;
use crate::h2::{self, Alive, ConnectionFault, Handle, Origin, Server, StreamError};
use crate::socket::Socket;
use crate::stream::{self, Facts};
use crate::timers::{Timer, nearer};
use crate::wire::Wire;

/// What comes next on a connection.
enum Next {
    /// A request.
    Request(Box<RequestHead>, h2::Stream),
    /// The connection is over.
    Over,
    /// It is to take no more requests.
    Drain,
    /// It is to end now.
    Cut,
}

/// Serves a connection.
pub(super) async fn serve(scope: HttpScope, wire: Wire) {
    let stats = scope.stats.clone();
    stats.downstream_cx_total.inc();
    stats.downstream_cx_http2_total.inc();
    let _active = stats.downstream_cx_active.enter();
    let _http2 = stats.downstream_cx_http2_active.enter();
    let began = Instant::now();
    let (socket, read) = wire.into_parts();
    let (server, handle) = h2::serve(socket, read, scope.manager.http2_config());
    let keepalive = scope.manager.engine.http2.keepalive;
    let connection = Connection {
        scope: Rc::new(scope),
        alive: Alive::new(handle.clone(), keepalive),
        handle,
        began,
        idle_since: began,
        timer: Timer::default(),
        requests: 0,
        is_draining: false,
        refused: 0,
    };
    connection.run(server).await;
    stats.downstream_cx_destroy.inc();
    stats.downstream_cx_length_ms.record(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX));
}

struct Connection {
    scope: Rc<HttpScope>,
    handle: Handle,
    alive: Alive,
    began: Instant,
    /// When it last had a request, as far as has been noticed.
    idle_since: Instant,
    timer: Timer,
    requests: u32,
    is_draining: bool,
    /// Requests whose heads were too large, as far as they are logged.
    refused: u64,
}

impl Connection {
    async fn run(mut self, mut server: Server<Socket>) {
        loop {
            match poll_fn(|cx| self.poll_next(&mut server, cx)).await {
                Next::Over => return,
                Next::Cut => self.handle.close(ErrorCode::NO_ERROR),
                Next::Drain => {
                    self.is_draining = true;
                    self.handle.graceful_shutdown();
                }
                Next::Request(head, stream) => self.begin(*head, stream),
            }
        }
    }

    fn poll_next(&mut self, server: &mut Server<Socket>, cx: &mut Context<'_>) -> Poll<Next> {
        self.alive.poll(cx);
        let accepted = server.poll_accept(cx);
        while self.refused < self.handle.refused_heads() {
            self.refused += 1;
            self.log_refused();
        }
        match accepted {
            Poll::Ready(Ok(Some((head, stream)))) => {
                return Poll::Ready(Next::Request(Box::new(head), stream));
            }
            Poll::Ready(Ok(None)) => return Poll::Ready(Next::Over),
            Poll::Ready(Err(fault)) => {
                tracing::debug!(%fault, "client");
                self.scope.stats.downstream_cx_protocol_error.inc();
                return Poll::Ready(Next::Over);
            }
            Poll::Pending => {}
        }
        if self.scope.fate.poll_cut(cx).is_ready() {
            return Poll::Ready(Next::Cut);
        }
        if self.is_draining {
            return Poll::Pending;
        }
        if self.scope.fate.is_draining() {
            return Poll::Ready(Next::Drain);
        }
        self.poll_too_late(cx)
    }

    /// Logs a request whose head was too large, which the codec has answered.
    fn log_refused(&self) {
        let scope = &self.scope;
        let began = scope.worker.since_epoch(Instant::now());
        let mut info = StreamInfo::new(scope.connection.clone(), began, Some(Protocol::Http2));
        info.ended = Some(std::time::Duration::ZERO);
        info.status = Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        info.details = Some("http2.too_many_headers".into());
        info.flags = ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR;
        scope.stats.downstream_rq_total.inc();
        scope.stats.downstream_rq_too_large.inc();
        scope.stats.answered(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE.as_u16());
        let view = StreamView { info: &info, request: None, response: None, trailers: None };
        scope.manager.log(&scope.worker, view, scope.worker.random());
    }

    fn poll_too_late(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        let timeouts = &self.scope.manager.engine.timeouts;
        let most = timeouts.max_connection.map(|after| self.began + after);
        loop {
            if !self.handle.is_idle() {
                self.idle_since = Instant::now();
            }
            let idle = timeouts.connection_idle.map(|after| self.idle_since + after);
            ready!(self.timer.poll(cx, nearer(idle, most)));
            let now = Instant::now();
            if most.is_some_and(|most| most <= now) {
                self.scope.stats.downstream_cx_max_duration_reached.inc();
                return Poll::Ready(Next::Drain);
            }
            if self.handle.is_idle() && idle.is_some_and(|idle| idle <= now) {
                self.scope.stats.downstream_cx_idle_timeout.inc();
                return Poll::Ready(Next::Drain);
            }
        }
    }

    fn begin(&mut self, head: RequestHead, stream: h2::Stream) {
        self.requests += 1;
        let limits = &self.scope.manager.engine.limits;
        if limits.requests_per_connection.is_some_and(|most| self.requests >= most) && !self.is_draining {
            self.is_draining = true;
            self.handle.graceful_shutdown();
        }
        let scope = Rc::clone(&self.scope);
        tokio::task::spawn_local(async move {
            let RequestHead { mut request, protocol } = head;
            let mut client =
                Http2Client { stream, pending: None, is_extended: protocol.is_some(), head_bytes: 0 };
            if let Some(protocol) = protocol {
                stream::extended_connect(&mut request, &protocol, scope.worker.random_bytes());
            }
            let waits = request.headers.get(&http::header::EXPECT).is_some_and(is_continue);
            let facts = Facts { head_bytes: request.headers.wire_bytes() as u64, waits_for_continue: waits };
            let mut timer = Timer::default();
            stream::serve(&scope, request, facts, &mut client, &mut timer).await;
        });
    }
}

fn is_continue(value: &HeaderValue) -> bool {
    value.as_bytes().eq_ignore_ascii_case(b"100-continue")
}

/// One request and its response on an HTTP/2 connection.
struct Http2Client {
    stream: h2::Stream,
    /// Held back for a moment, so that the end can ride on it.
    pending: Option<Bytes>,
    /// Was it an extended `CONNECT`?
    is_extended: bool,
    head_bytes: u64,
}

impl Http2Client {
    fn send_pending(&mut self, is_end: bool) {
        if let Some(data) = self.pending.take().or(is_end.then(Bytes::new)) {
            // A stream that is gone says so when it is next asked.
            let _ = self.stream.send_data(data, is_end);
        }
    }
}

fn failed(error: StreamError) -> ClientError {
    match error {
        StreamError::Reset { origin: Origin::Peer, .. } => ClientError::Reset,
        StreamError::Reset { .. } | StreamError::Connection(ConnectionFault::Protocol(_)) => {
            ClientError::Broken
        }
        _ => ClientError::Gone,
    }
}

impl Client for Http2Client {
    fn protocol(&self) -> Protocol {
        Protocol::Http2
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, ClientError>> {
        self.stream.poll_body(cx).map_err(failed)
    }

    fn is_body_done(&self) -> bool {
        self.stream.is_body_done()
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<ClientError> {
        self.stream.poll_reset(cx).map(failed)
    }

    fn send_interim(&mut self, status: StatusCode, headers: &Headers) {
        let _ = self.stream.send_interim(status, headers);
    }

    fn send_head(&mut self, status: StatusCode, headers: &Headers, follows: Follows) {
        let is_switch = self.is_extended && status == StatusCode::SWITCHING_PROTOCOLS;
        let status = if is_switch { StatusCode::OK } else { status };
        self.head_bytes += headers.wire_bytes() as u64;
        let _ = self.stream.send_response(status, headers, follows == Follows::Nothing);
    }

    fn send_data(&mut self, data: Bytes) {
        self.send_pending(false);
        self.pending = Some(data);
    }

    fn send_end(&mut self, trailers: Option<&Headers>) {
        match trailers {
            Some(trailers) => {
                self.send_pending(false);
                let _ = self.stream.send_trailers(trailers);
            }
            None => self.send_pending(true),
        }
    }

    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        self.send_pending(false);
        self.stream.poll_capacity(cx).map(|capacity| capacity.map(|_| ()).map_err(failed))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        self.send_pending(false);
        self.stream.poll_flushed(cx).map_err(failed)
    }

    fn close_after(&mut self) {}

    fn ends_with_request(&self) -> bool {
        false
    }

    fn abort(&mut self, is_violation: bool) {
        // What has come goes before the reset.
        self.send_pending(false);
        self.stream.reset(if is_violation { ErrorCode::INTERNAL_ERROR } else { ErrorCode::CANCEL });
    }

    fn head_bytes_sent(&self) -> u64 {
        self.head_bytes
    }
}
