//! An HTTP/1 connection of a client: requests one after the other.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderValue, Method, StatusCode};
use ostro_engine::{Codec, Headers, Protocol, Request, ResponseFlags, Scheme, StreamInfo, StreamView};
use tokio::time::Instant;

use super::HttpScope;
use super::exchange::{Exchange, Terms};
use crate::http1::{self, Expect, HeadError, HeadLimits, Names, Search};
use crate::stream::{self, Facts};
use crate::timers::{Timer, nearer};
use crate::wire::Wire;

/// Most bytes of a request that are read and thrown away after its response, so that the client reads it.
const LEFTOVER_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Methods that are taken where others are not (`allow_custom_methods`): those that Envoy knows.
const METHODS: &[&str] = &[
    "GET",
    "POST",
    "PUT",
    "DELETE",
    "HEAD",
    "OPTIONS",
    "PATCH",
    "CONNECT",
    "TRACE",
    "ACL",
    "BIND",
    "CHECKOUT",
    "COPY",
    "LINK",
    "LOCK",
    "MSEARCH",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MOVE",
    "NOTIFY",
    "PROPFIND",
    "PROPPATCH",
    "PURGE",
    "REBIND",
    "REPORT",
    "SEARCH",
    "SOURCE",
    "SUBSCRIBE",
    "UNBIND",
    "UNLINK",
    "UNLOCK",
    "UNSUBSCRIBE",
];

/// How long what was said before a connection is cut may take to leave.
const CUT_FLUSH: Duration = Duration::from_millis(100);

/// What becomes of a connection after a request.
enum After {
    /// Another request may follow.
    Next,
    /// It is closed once the client has read the response.
    Close,
    /// It is closed.
    Cut,
}

/// A connection.
struct Connection {
    scope: HttpScope,
    wire: Wire,
    timer: Timer,
    limits: HeadLimits,
    terms: Terms,
    began: Instant,
    requests: u32,
}

/// What came instead of a request, or with it.
enum Next {
    /// A request's head, and its bytes.
    Request(Box<http1::Request>, u64),
    /// Nothing more: the connection is to be closed.
    Closed,
    /// Something that is no request: how it is answered, with which body, and what is noted.
    Refused(StatusCode, &'static str, &'static str, ResponseFlags),
}

/// For what it is too late.
enum Late {
    /// A request was to begin.
    Idle,
    /// Its head was to be complete; by the limit for heads, or that for whole requests?
    Head { is_of_headers: bool },
}

/// The first bytes of HTTP/2 (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Serves a connection, whose first bytes tell which HTTP it speaks if the manager reads both.
pub(super) async fn serve_either(scope: HttpScope, mut wire: Wire, buffer_bytes: usize) {
    let is_http2 = match scope.manager.engine.codec {
        Codec::Http1 => false,
        Codec::Http2 => true,
        Codec::Auto => begins_http2(&scope, &mut wire).await,
    };
    match is_http2 {
        true => super::http2::serve(scope, wire).await,
        false => serve(scope, wire, buffer_bytes).await,
    }
}

/// Whether the connection begins as HTTP/2 does. One that is closed, or silent for too long, does not.
async fn begins_http2(scope: &HttpScope, wire: &mut Wire) -> bool {
    let timeouts = &scope.manager.engine.timeouts;
    let after = [timeouts.connection_idle, timeouts.max_connection].into_iter().flatten().min();
    let idle = after.map(|after| Instant::now() + after);
    let mut timer = Timer::default();
    poll_fn(|cx| {
        loop {
            let common = wire.input.len().min(PREFACE.len());
            if wire.input.get(..common) != PREFACE.get(..common) {
                return Poll::Ready(false);
            }
            if common == PREFACE.len() {
                return Poll::Ready(true);
            }
            match wire.poll_fill(cx) {
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Ok(false) | Err(_)) => return Poll::Ready(false),
                Poll::Pending => break,
            }
        }
        if scope.fate.poll_cut(cx).is_ready() {
            return Poll::Ready(false);
        }
        timer.poll(cx, idle).map(|()| false)
    })
    .await
}

async fn serve(scope: HttpScope, wire: Wire, buffer_bytes: usize) {
    let engine = &scope.manager.engine;
    let limits = HeadLimits {
        bytes: engine.limits.headers_bytes,
        headers: engine.limits.headers_count,
        http10: engine.http1.accepts_http_10,
    };
    let names = if engine.http1.proper_case { Names::Proper } else { Names::Lower };
    let terms = Terms { buffer_bytes, trailers: engine.http1.sends_trailers, names, limits };
    let stats = scope.stats.clone();
    stats.downstream_cx_total.inc();
    stats.downstream_cx_http1_total.inc();
    let _active = stats.downstream_cx_active.enter();
    let _http1 = stats.downstream_cx_http1_active.enter();
    let began = Instant::now();
    let mut connection =
        Connection { scope, wire, timer: Timer::default(), limits, terms, began, requests: 0 };
    connection.run().await;
    stats.downstream_cx_destroy.inc();
    stats.downstream_cx_length_ms.record(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX));
}

impl Connection {
    async fn run(&mut self) {
        loop {
            let next = self.next().await;
            let after = match next {
                Next::Closed => After::Cut,
                Next::Request(head, bytes) => self.exchange(*head, bytes).await,
                Next::Refused(status, said, details, flags) => {
                    self.refuse(status, said, details, flags);
                    After::Close
                }
            };
            match after {
                After::Next => {}
                After::Close => return self.close().await,
                After::Cut => return self.flush(CUT_FLUSH).await,
            }
        }
    }

    /// The next request, within its time.
    async fn next(&mut self) -> Next {
        let timeouts = &self.scope.manager.engine.timeouts;
        let now = Instant::now();
        let idle = timeouts.connection_idle.map(|after| now + after);
        let most = timeouts.max_connection.map(|after| self.began + after);
        let (headers, request) = (timeouts.request_headers, timeouts.request);
        let is_of_headers = headers.is_some_and(|headers| request.is_none_or(|request| headers <= request));
        let head_time = [headers, request].into_iter().flatten().min();
        let mut search = Search::default();
        let mut head_began = None;
        poll_fn(|cx| {
            loop {
                if let Some(next) = self.parse(&mut search) {
                    return Poll::Ready(next);
                }
                if !self.wire.input.is_empty() && head_began.is_none() {
                    head_began = Some(Instant::now());
                }
                match self.wire.poll_fill(cx) {
                    Poll::Ready(Ok(true)) => {}
                    Poll::Ready(Ok(false) | Err(_)) => return Poll::Ready(self.cut_off()),
                    Poll::Pending => break,
                }
            }
            let is_idle = head_began.is_none();
            let late = head_began.zip(head_time).map(|(began, after)| began + after);
            let deadline = if is_idle { nearer(idle, most) } else { late };
            let why = if is_idle { Late::Idle } else { Late::Head { is_of_headers } };
            self.poll_interrupted(cx, &why, deadline)
        })
        .await
    }

    fn poll_interrupted(
        &mut self,
        cx: &mut Context<'_>,
        why: &Late,
        deadline: Option<Instant>,
    ) -> Poll<Next> {
        if self.scope.fate.poll_cut(cx).is_ready() {
            return Poll::Ready(Next::Closed);
        }
        if self.timer.poll(cx, deadline).is_pending() {
            return Poll::Pending;
        }
        let refused = |said, details| {
            Next::Refused(StatusCode::REQUEST_TIMEOUT, said, details, ResponseFlags::default())
        };
        Poll::Ready(match why {
            Late::Idle => {
                self.scope.stats.downstream_cx_idle_timeout.inc();
                Next::Closed
            }
            Late::Head { is_of_headers: true } => {
                self.scope.stats.downstream_rq_header_timeout.inc();
                refused("request header timeout", "request_header_timeout")
            }
            Late::Head { is_of_headers: false } => {
                self.scope.stats.downstream_rq_timeout.inc();
                refused("request timeout", "request_overall_timeout")
            }
        })
    }

    /// The client closed, perhaps before a request was complete.
    fn cut_off(&self) -> Next {
        if !self.wire.input.is_empty() {
            let mut info = self.info();
            info.details = Some("downstream_remote_disconnect".into());
            info.flags = ResponseFlags::DOWNSTREAM_CONNECTION_TERMINATION;
            self.log(&info, None);
        }
        Next::Closed
    }

    /// What is known of a request that is none.
    fn info(&self) -> StreamInfo {
        let scope = &self.scope;
        let began = scope.worker.since_epoch(Instant::now());
        let mut info = StreamInfo::new(scope.connection.clone(), began, Some(Protocol::Http11));
        info.ended = Some(Duration::ZERO);
        info
    }

    fn log(&self, info: &StreamInfo, response: Option<&Headers>) {
        let scope = &self.scope;
        let view = StreamView { info, request: None, response, trailers: None };
        scope.manager.log(&scope.worker, view, scope.worker.random());
    }

    fn parse(&mut self, search: &mut Search) -> Option<Next> {
        let before = self.wire.input.len();
        if before == 0 {
            return None;
        }
        match http1::request(&mut self.wire.input, search, self.limits) {
            Ok(None) => None,
            Ok(Some(head)) if !self.takes(&head.method) => {
                self.scope.stats.downstream_cx_protocol_error.inc();
                let flags = ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR;
                Some(Next::Refused(StatusCode::BAD_REQUEST, "Bad Request", "http1.codec_error", flags))
            }
            Ok(Some(head)) => {
                let bytes = (before - self.wire.input.len()) as u64;
                Some(Next::Request(Box::new(head), bytes))
            }
            Err(error) => {
                self.scope.stats.downstream_cx_protocol_error.inc();
                let details = match error {
                    HeadError::TooLarge => "http1.headers_too_large",
                    HeadError::TransferCoding => "http1.invalid_transfer_encoding",
                    HeadError::NoHost => "missing_host_header",
                    HeadError::OldVersion => "low_version",
                    HeadError::Malformed(_) | HeadError::Version => "http1.codec_error",
                };
                let flags = match error {
                    HeadError::NoHost => ResponseFlags::default(),
                    _ => ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR,
                };
                let said = error.status().canonical_reason().unwrap_or_default();
                Some(Next::Refused(error.status(), said, details, flags))
            }
        }
    }

    fn takes(&self, method: &Method) -> bool {
        self.scope.manager.engine.http1.allows_custom_methods || METHODS.contains(&method.as_str())
    }

    /// Serves one request.
    async fn exchange(&mut self, head: http1::Request, head_bytes: u64) -> After {
        self.requests += 1;
        let keeps_alive = !self.is_last();
        let facts = Facts { head_bytes, waits_for_continue: head.expect == Expect::Continue };
        let mut exchange = Exchange::new(&mut self.wire, &head, keeps_alive, self.terms, &self.scope.fate);
        let request = admitted(head, self.scope.manager.engine.http1.default_host_for_http_10.as_ref());
        stream::serve(&self.scope, request, facts, &mut exchange, &mut self.timer).await;
        if exchange.is_aborted() {
            return After::Cut;
        }
        if !exchange.goes_on() {
            return After::Close;
        }
        self.wire.release();
        After::Next
    }

    fn is_last(&self) -> bool {
        let engine = &self.scope.manager.engine;
        engine.limits.requests_per_connection.is_some_and(|most| self.requests >= most)
            || engine.timeouts.max_connection.is_some_and(|most| self.began.elapsed() >= most)
    }

    /// Answers what is no request.
    fn refuse(
        &mut self,
        status: StatusCode,
        said: &'static str,
        details: &'static str,
        flags: ResponseFlags,
    ) {
        let mut info = self.info();
        let scope = &self.scope;
        info.status = Some(status);
        info.details = Some(details.into());
        info.flags = flags;
        let mut headers = Headers::default();
        headers.append(http::header::CONTENT_LENGTH, HeaderValue::from(said.len()));
        headers.append(http::header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        headers.append(http::header::DATE, scope.worker.date());
        headers.append(http::header::CONNECTION, HeaderValue::from_static("close"));
        http1::response_head(
            self.wire.out(),
            false,
            status,
            &headers,
            &[],
            http1::Framing::Length(said.len() as u64),
            self.terms.names,
        );
        self.wire.put(said.as_bytes().into());
        info.bytes_sent = said.len() as u64;
        scope.stats.downstream_rq_total.inc();
        scope.stats.answered(status.as_u16());
        self.log(&info, Some(&headers));
    }

    async fn flush(&mut self, within: Duration) {
        let deadline = Instant::now() + within;
        poll_fn(|cx| match self.wire.poll_flush(cx) {
            Poll::Ready(_) => Poll::Ready(()),
            Poll::Pending => self.timer.poll(cx, Some(deadline)),
        })
        .await;
    }

    /// Ends the connection so that the client can read what was said: writing is over, what still comes is read and
    /// thrown away for a while (RFC 9112 section 9.6).
    async fn close(&mut self) {
        let delay = self.scope.manager.engine.timeouts.delayed_close;
        let Some(delay) = delay else { return };
        self.wire.end();
        let deadline = Instant::now() + delay;
        let most = self.wire.received + LEFTOVER_BYTES_MAX;
        poll_fn(|cx| {
            let is_flushed = match self.wire.poll_flush(cx) {
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(())) => true,
                Poll::Pending => false,
            };
            loop {
                self.wire.input.clear();
                match self.wire.poll_fill(cx) {
                    Poll::Ready(Ok(true)) if self.wire.received < most => {}
                    Poll::Ready(_) if is_flushed => return Poll::Ready(()),
                    _ => break,
                }
            }
            self.timer.poll(cx, Some(deadline))
        })
        .await;
    }
}

/// A head as the engine has requests.
fn admitted(head: http1::Request, default_host: Option<&HeaderValue>) -> Request {
    let authority = head.authority.or_else(|| default_host.cloned());
    let authority = authority.unwrap_or_else(|| HeaderValue::from_static(""));
    let mut request = Request::new(head.method, authority, head.path);
    request.headers = head.headers;
    if head.is_https == Some(true) {
        request.scheme = Scheme::Https;
    }
    request
}
