//! A request on its way to a cluster: tries, retries, and what the client hears of them.

use std::future::{Future as _, poll_fn};
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use http::StatusCode;
use http::header::{HeaderName, HeaderValue};
use ostro_engine::outlier::Outcome;
use ostro_engine::retry::{Denied, Reset, Retries, Verdict};
use ostro_engine::{Choice, Chosen, Discovery, Forward, Host, ResponseFlags, RetryPolicy};
use std::sync::Arc;
use tokio::time::Instant;

use super::deadlines::Limit;
use super::passing::{Event, Messages, Passing, Progress, Replay};
use super::reply::Local;
use super::upgrade::{Onward, Tunnel};
use super::{End, Stream};
use crate::downstream::client::{Client, ClientError, Follows};
use crate::timers::Timer;
use crate::upstream::{AcquireError, Carrier, Lease, Plan, ResponseHead, UpstreamError, WorkerCluster};

const SERVICE_TIME: HeaderName = HeaderName::from_static("x-envoy-upstream-service-time");
const ATTEMPT_COUNT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");
const IS_TIMEOUT_RETRY: HeaderName = HeaderName::from_static("x-envoy-is-timeout-retry");
const IMMEDIATE_FAIL: HeaderName = HeaderName::from_static("x-envoy-immediate-health-check-fail");
const OVERLOADED: HeaderName = HeaderName::from_static("x-envoy-overloaded");
const RESET_BEFORE: &str = "upstream connect error or disconnect/reset before headers. ";

/// Where a request goes, and by which rules.
pub(super) struct Way<'w> {
    cluster: Rc<WorkerCluster>,
    pub(super) chosen: Chosen<'w>,
    forward: &'w Forward,
    pub(super) tunnel: Option<Tunnel>,
    onward: Onward,
    hash: Option<u64>,
    set_cookies: Vec<HeaderValue>,
    per_try: Option<Duration>,
    per_try_idle: Option<Duration>,
    max_stream: Option<Duration>,
    suppresses: bool,
}

/// How a try ended.
enum Tried {
    /// The response has been passed on, or there is nobody to pass it to.
    Over(End),
    /// Another try is due.
    Again { after: Duration, has_timed_out: bool },
}

impl Stream<'_> {
    pub(super) async fn forward<C: Client>(
        &mut self,
        client: &mut C,
        timer: &mut Timer,
        chosen: Chosen<'_>,
        forward: &Forward,
        tunnel: Option<Tunnel>,
    ) -> End {
        let worker = Rc::clone(&self.scope.worker);
        let cluster = chosen.cluster(&self.request).and_then(|name| worker.cluster(name));
        let Some(cluster) = cluster else {
            self.scope.stats.no_cluster.inc();
            return End::Reply(Local::no_cluster(forward.cluster_not_found));
        };
        self.info.cluster = Some(Arc::clone(&cluster.upstream.cluster.name));
        self.meet_cluster(&cluster);
        if cluster.upstream.drops(worker.random()) {
            let flags = ResponseFlags::DROP_OVERLOAD;
            let status = StatusCode::SERVICE_UNAVAILABLE;
            return End::Reply(Local::new(status, "unconditional drop overload", "drop_overload", flags));
        }
        let router = self.scope.manager.router();
        let hashed = chosen.hash(&self.request, &self.info);
        let timeouts = chosen.timeouts(&mut self.request, router);
        let max_stream = chosen.max_stream(&mut self.request, self.scope.manager.engine.timeouts.max_stream);
        let policy = RetryPolicy::for_request(chosen.retry(), &mut self.request);
        let policy = policy.filter(|_| tunnel.is_none());
        chosen.finish_request(&mut self.request, &self.info, router, self.stripped_port);
        let is_tried_again = policy.is_some();
        let retries = Retries::new(policy, Arc::clone(&cluster.upstream), forward.priority);
        let onward = Onward::of(tunnel.as_ref(), forward, &self.request);
        let way = Way {
            cluster,
            chosen,
            forward,
            tunnel,
            onward,
            hash: hashed.hash,
            set_cookies: hashed.set_cookies,
            per_try: timeouts.per_try,
            per_try_idle: timeouts.per_try_idle,
            max_stream,
            suppresses: router.suppresses_envoy_headers,
        };
        self.copies = self.mirrors(&way);
        let mut replay = Replay::new(self.replay_bytes(&way));
        if !is_tried_again && self.copies.is_empty() {
            replay.give_up();
        }
        let mut passing = Passing::new(client, timer, replay);
        passing.messages = self.counts_messages().then(Messages::default);
        passing.holds_request = way.tunnel.is_some();
        self.set_deadlines(&mut passing, &way, timeouts.response);
        let end = self.tries(&mut passing, &way, retries).await;
        self.info.bytes_received = passing.counts.received;
        self.info.bytes_sent += passing.counts.sent;
        self.trailers = passing.trailers.take();
        self.info.request_ended = passing.counts.request_ended.map(|at| at - self.began);
        self.send_copies(&passing);
        end
    }

    /// Sends copies elsewhere as soon as the request has come as a whole.
    fn send_copies<C: Client>(&mut self, passing: &Passing<'_, C>) {
        if !self.copies.is_empty() && passing.is_request_read() && passing.replay.is_whole() {
            let copies = std::mem::take(&mut self.copies);
            let (parts, trailers) = passing.replay.parts();
            super::mirror::send(&self.scope.worker, copies, parts, trailers);
        }
    }

    fn replay_bytes(&self, way: &Way<'_>) -> usize {
        let most = way.chosen.replay_bytes().unwrap_or(u64::from(way.cluster.upstream.cluster.buffer_limit));
        usize::try_from(most).unwrap_or(usize::MAX)
    }

    fn set_deadlines<C: Client>(
        &self,
        passing: &mut Passing<'_, C>,
        way: &Way<'_>,
        response: Option<Duration>,
    ) {
        let manager = &self.scope.manager.engine;
        let after = |duration: Option<Duration>| duration.map(|duration| self.began + duration);
        passing.deadlines.set(Limit::Stream, after(way.max_stream));
        if !passing.is_request_read() {
            passing.deadlines.set(Limit::Request, after(manager.timeouts.request));
        }
        let idle = way.forward.timeouts.idle.unwrap_or(manager.timeouts.stream_idle);
        passing.deadlines.set_idle(Limit::Idle, idle, self.began);
        passing.set_response_timeout(response);
    }

    async fn tries<C: Client>(
        &mut self,
        passing: &mut Passing<'_, C>,
        way: &Way<'_>,
        mut retries: Retries<'_>,
    ) -> End {
        loop {
            match self.attempt(passing, way, &mut retries).await {
                Tried::Over(end) => return end,
                Tried::Again { after, has_timed_out } => {
                    passing.deadlines.end_try();
                    way.cluster.stats.upstream_rq_retry.inc();
                    if let Err(event) = self.pause(passing, after).await {
                        return self.interrupted(passing, way, event);
                    }
                    if way.chosen.host.tells_timeout_retry {
                        let value = HeaderValue::from_static(if has_timed_out { "true" } else { "false" });
                        self.request.headers.set(IS_TIMEOUT_RETRY, value);
                    }
                }
            }
        }
    }

    async fn pause<C: Client>(&mut self, passing: &mut Passing<'_, C>, after: Duration) -> Result<(), Event> {
        let mut sleep = std::pin::pin!(tokio::time::sleep(after));
        poll_fn(|cx| match sleep.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Ok(())),
            Poll::Pending => passing.poll_interrupted(cx).map(Err),
        })
        .await
    }

    /// One try.
    async fn attempt<C: Client>(
        &mut self,
        passing: &mut Passing<'_, C>,
        way: &Way<'_>,
        retries: &mut Retries<'_>,
    ) -> Tried {
        let worker = &self.scope.worker;
        let choice = Choice {
            hash: way.hash,
            destination: self.info.connection.original_destination(),
            override_host: self.stated_destination(way),
            tried: Some(retries.tried()),
        };
        let Some(host) = way.cluster.choose(worker, &choice) else {
            way.cluster.stats.upstream_cx_none_healthy.inc();
            let flags = ResponseFlags::NO_HEALTHY_UPSTREAM;
            let status = StatusCode::SERVICE_UNAVAILABLE;
            let local = Local::new(status, "no healthy upstream", "no_healthy_upstream", flags);
            return Tried::Over(End::Reply(local));
        };
        retries.attempting(&host);
        self.info.attempts += 1;
        self.has_begun_try = false;
        self.info.upstream_host = Some(Arc::clone(&host.name));
        self.meet_host(&host);
        if way.chosen.host.tells_attempt {
            self.request.headers.set(ATTEMPT_COUNT, HeaderValue::from(self.info.attempts));
        }
        way.chosen.rewrite_host(&mut self.request, &host.hostname, self.scope.manager.router());
        let Ok(_request) = way.cluster.upstream.request(&host, way.forward.priority, worker.monotonic())
        else {
            return self.reset(passing, way, retries, &host, Failed::Overflow);
        };
        passing.begin_try(
            way.per_try,
            way.per_try_idle,
            way.cluster.upstream.cluster.http.max_stream_duration,
        );
        let lease = match self.lease(passing, way, &host).await {
            Ok(Ok(lease)) => lease,
            Ok(Err(AcquireError::Overflow)) => {
                return self.reset(passing, way, retries, &host, Failed::Overflow);
            }
            Ok(Err(AcquireError::Upstream(error))) => {
                self.report(way, &host, Outcome::ConnectFailed);
                return self.reset(passing, way, retries, &host, Failed::Upstream(error));
            }
            Err(event) => return self.event(passing, way, retries, &host, event),
        };
        self.carry(passing, way, retries, &host, lease).await
    }

    /// Where the request itself says that it goes, if its cluster listens to that.
    fn stated_destination(&self, way: &Way<'_>) -> Option<SocketAddr> {
        let Discovery::OriginalDestination(settings) = &way.cluster.upstream.cluster.discovery else {
            return None;
        };
        let value = self.request.headers.get(settings.header.as_ref()?)?;
        let address = value.to_str().ok().and_then(|text| text.parse().ok());
        if address.is_none() {
            way.cluster.stats.original_dst_host_invalid.inc();
        }
        address
    }

    /// A connection, or a stream of one, for this try; `Err` if something else happens first.
    async fn lease<C: Client>(
        &mut self,
        passing: &mut Passing<'_, C>,
        way: &Way<'_>,
        host: &Arc<Host>,
    ) -> Result<Result<Lease, AcquireError>, Event> {
        let plan = Plan {
            priority: way.forward.priority,
            protocol: self.info.protocol,
            is_raw: way.onward == Onward::Terminated,
        };
        if let Some(lease) = way.cluster.take_idle(host, plan) {
            return Ok(Ok(lease));
        }
        let mut acquire = std::pin::pin!(way.cluster.acquire(host, plan));
        poll_fn(|cx| match acquire.as_mut().poll(cx) {
            Poll::Ready(lease) => Poll::Ready(Ok(lease)),
            Poll::Pending => {
                // Interim responses of our own must not wait for the upstream.
                let _ = passing.client.poll_flush(cx);
                passing.poll_interrupted(cx).map(Err)
            }
        })
        .await
    }

    /// Sends the request and waits for the response's head.
    async fn carry<C: Client>(
        &mut self,
        passing: &mut Passing<'_, C>,
        way: &Way<'_>,
        retries: &mut Retries<'_>,
        host: &Arc<Host>,
        mut lease: Lease,
    ) -> Tried {
        let now = Instant::now();
        self.info.upstream_began = Some(now - self.began);
        self.info.upstream_local = lease.local_address();
        self.info.upstream_protocol = lease.carrier.protocol();
        let stats = &way.cluster.stats;
        stats.upstream_rq_total.inc();
        let _active = stats.upstream_rq_active.enter();
        let mut progress = passing.begin();
        let ends = passing.is_bodiless() && way.tunnel.is_none();
        if let Err(error) = lease.carrier.send_head(&self.request, ends, way.tunnel.is_some()) {
            return self.event(passing, way, retries, host, Event::Upstream(error));
        }
        progress.is_request_sent = ends;
        self.has_begun_try = true;
        loop {
            let event = poll_fn(|cx| {
                let event = passing.poll_head(&mut lease.carrier, &mut progress, cx);
                self.send_copies(passing);
                self.note_messages(passing);
                event
            });
            match event.await {
                Event::Head(head) if self.is_interim(&head) => self.pass_interim(passing, &head),
                Event::Head(head) => {
                    return self.answered(passing, way, retries, host, lease, progress, head).await;
                }
                event => return self.event(passing, way, retries, host, event),
            }
        }
    }

    fn note_messages<C: Client>(&self, passing: &Passing<'_, C>) {
        if let Some(messages) = &passing.messages {
            self.pass_messages(messages.received.count(), messages.sent.count());
        }
    }

    fn is_interim(&self, head: &ResponseHead) -> bool {
        head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS
    }

    fn pass_interim<C: Client>(&mut self, passing: &mut Passing<'_, C>, head: &ResponseHead) {
        let is_continue = head.status == StatusCode::CONTINUE;
        if !is_continue || self.scope.manager.engine.passes_100_continue {
            passing.client.send_interim(head.status, &head.headers);
        }
    }

    /// A response's head has come: it is passed on, or the request is tried again.
    #[allow(clippy::too_many_arguments, reason = "a try's whole state, used up here")]
    async fn answered<C: Client>(
        &mut self,
        passing: &mut Passing<'_, C>,
        way: &Way<'_>,
        retries: &mut Retries<'_>,
        host: &Arc<Host>,
        mut lease: Lease,
        mut progress: Progress,
        mut head: ResponseHead,
    ) -> Tried {
        let now = Instant::now();
        let worker = &self.scope.worker;
        self.info.response_began = Some(now - self.began);
        if lease.carrier.is_http2() && way.tunnel.is_some() {
            head.status = Tunnel::granted_by_http2(&self.request, head.status, &mut head.headers);
        }
        self.report(way, host, Outcome::Status(head.status.as_u16()));
        if head.headers.contains(&IMMEDIATE_FAIL) && way.cluster.upstream.health_failed(host) {
            worker.shared.health_changed.notify_one();
        }
        let verdict = match passing.replay.is_whole() {
            true => {
                let unix = worker.since_epoch(now);
                retries.on_response(head.status, &head.headers, worker.monotonic(), unix, worker.random())
            }
            false => {
                // It cannot be sent again, whatever comes.
                retries.give_up();
                Verdict::No(Denied::NotRetriable)
            }
        };
        match verdict {
            Verdict::Retry { after, .. } => {
                self.count(way, head.status, now);
                if head.ends {
                    lease.give_back(&way.cluster, host, progress.is_request_sent);
                }
                return Tried::Again { after, has_timed_out: false };
            }
            Verdict::No(denied) => self.denied(way, denied),
        }
        let is_tunnel = way.tunnel.as_ref().is_some_and(|tunnel| tunnel.is_granted(head.status));
        let follows = match head.ends {
            _ if is_tunnel => Follows::Tunnel,
            true => Follows::Nothing,
            false => Follows::Body,
        };
        self.count(way, head.status, now);
        self.detail("via_upstream");
        self.info.status = Some(head.status);
        if way.tunnel.is_some() && !is_tunnel {
            passing.client.close_after();
        }
        self.decorate_response(way, &mut head, now);
        if is_tunnel {
            passing.become_tunnel();
            progress.is_request_sent = false;
        }
        self.respond(passing.client, head.status, head.headers, follows);
        let is_upgrade = is_tunnel && matches!(lease.carrier, Carrier::Http1(_));
        if follows != Follows::Nothing {
            let event = poll_fn(|cx| {
                let event = passing.poll_rest(&mut lease.carrier, &mut progress, cx);
                self.note_messages(passing);
                event
            });
            let event = event.await;
            if !matches!(event, Event::Done) {
                self.cut(passing, way, event);
                return Tried::Over(End::Over);
            }
            if is_upgrade {
                // The upstream's end is how such a connection ends; Envoy calls it that.
                self.info.flags.set(ResponseFlags::UPSTREAM_CONNECTION_TERMINATION);
                self.detail("upstream_reset_after_response_started{connection_termination}");
            }
        }
        lease.give_back(&way.cluster, host, progress.is_request_sent);
        Tried::Over(End::Over)
    }

    fn count(&self, way: &Way<'_>, status: StatusCode, now: Instant) {
        let took = self.info.upstream_began.map_or(Duration::ZERO, |at| now - self.began - at);
        let took = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        way.cluster.answered(status, took, self.request.is_internal);
    }

    fn decorate_response(&mut self, way: &Way<'_>, head: &mut ResponseHead, now: Instant) {
        if way.chosen.host.answers_attempts {
            head.headers.set(ATTEMPT_COUNT, HeaderValue::from(self.info.attempts));
        }
        if !way.suppresses {
            let took = self.info.request_ended.unwrap_or_default();
            let took = (now - self.began).saturating_sub(took).as_millis();
            head.headers.set(SERVICE_TIME, HeaderValue::from(u64::try_from(took).unwrap_or(u64::MAX)));
        }
        way.chosen.finish_response(&mut head.headers, &self.info, &self.request);
        self.filter_response(&mut head.headers);
        for cookie in &way.set_cookies {
            head.headers.append(http::header::SET_COOKIE, cookie.clone());
        }
    }

    /// The response has begun and cannot be completed.
    fn cut<C: Client>(&mut self, passing: &mut Passing<'_, C>, way: &Way<'_>, event: Event) {
        let is_violation = matches!(event, Event::Upstream(UpstreamError::Protocol(_)));
        match event {
            Event::Head(_) | Event::Done => return,
            Event::Client(error) => {
                self.client_failed(error);
            }
            Event::Upstream(error) => {
                self.info.flags.set(error.flag());
                let reason = error.reason().replace(' ', "_");
                self.detail(format!("upstream_reset_after_response_started{{{reason}}}"));
                way.cluster.stats.upstream_rq_rx_reset.inc();
            }
            Event::Passed(limit) => {
                let local = self.too_late(limit, way, passing.is_request_read());
                self.detail(local.details);
                self.info.flags.set(local.flags);
                way.cluster.stats.upstream_rq_tx_reset.inc();
            }
        }
        self.is_cut = true;
        passing.client.abort(is_violation);
    }

    /// Something other than a head came of a try.
    fn event<C: Client>(
        &mut self,
        passing: &mut Passing<'_, C>,
        way: &Way<'_>,
        retries: &mut Retries<'_>,
        host: &Arc<Host>,
        event: Event,
    ) -> Tried {
        match event {
            Event::Upstream(error) => {
                self.report(way, host, Outcome::RequestFailed);
                self.reset(passing, way, retries, host, Failed::Upstream(error))
            }
            Event::Passed(Limit::Try | Limit::TryIdle) => {
                host.state.rq_timeout.inc();
                way.cluster.stats.upstream_rq_per_try_timeout.inc();
                self.report(way, host, Outcome::Timeout);
                match self.tried(passing, retries, Reset::Local) {
                    Verdict::Retry { after, .. } => return Tried::Again { after, has_timed_out: true },
                    Verdict::No(denied) => self.denied(way, denied),
                }
                Tried::Over(End::Reply(self.too_late(Limit::Try, way, true)))
            }
            Event::Passed(limit) => {
                if limit == Limit::Route {
                    host.state.rq_timeout.inc();
                    self.report(way, host, Outcome::Timeout);
                }
                Tried::Over(self.interrupted(passing, way, Event::Passed(limit)))
            }
            event => Tried::Over(self.interrupted(passing, way, event)),
        }
    }

    /// No response will come of this try.
    fn reset<C: Client>(
        &mut self,
        passing: &mut Passing<'_, C>,
        way: &Way<'_>,
        retries: &mut Retries<'_>,
        host: &Arc<Host>,
        failed: Failed,
    ) -> Tried {
        match self.tried(passing, retries, failed.kind()) {
            Verdict::Retry { after, .. } => return Tried::Again { after, has_timed_out: false },
            Verdict::No(denied) => self.denied(way, denied),
        }
        host.state.rq_error.inc();
        if let Failed::Upstream(error) = &failed
            && let Some(why) = error.transport_failure()
        {
            self.info.transport_failure = Some(why.into());
        }
        Tried::Over(End::Reply(failed.local()))
    }

    /// Whether a try that brought no response is followed by another.
    fn tried<C: Client>(&self, passing: &Passing<'_, C>, retries: &mut Retries<'_>, reset: Reset) -> Verdict {
        if !passing.replay.is_whole() {
            return Verdict::No(Denied::NotRetriable);
        }
        let worker = &self.scope.worker;
        retries.on_reset(reset, self.has_begun_try, worker.monotonic(), worker.random())
    }

    /// The client has gone, or it is too late, before there is a response.
    fn interrupted<C: Client>(&mut self, passing: &Passing<'_, C>, way: &Way<'_>, event: Event) -> End {
        match event {
            Event::Client(error) => {
                if error != ClientError::Gone {
                    way.cluster.stats.upstream_rq_cancelled.inc();
                }
                self.client_failed(error)
            }
            Event::Passed(limit) => End::Reply(self.too_late(limit, way, passing.is_request_read())),
            Event::Upstream(error) => End::Reply(Failed::Upstream(error).local()),
            Event::Head(_) | Event::Done => End::Over,
        }
    }

    fn denied(&mut self, way: &Way<'_>, denied: Denied) {
        self.info.flags.set(denied.flags());
        match denied {
            Denied::NotRetriable => {}
            Denied::LimitReached => way.cluster.stats.upstream_rq_retry_limit_exceeded.inc(),
            Denied::Overflow => way.cluster.stats.upstream_rq_retry_overflow.inc(),
        }
    }

    fn report(&self, way: &Way<'_>, host: &Arc<Host>, outcome: Outcome) {
        way.cluster.report(&self.scope.worker, host, outcome);
    }

    /// What the client is told when a deadline has passed.
    fn too_late(&self, limit: Limit, way: &Way<'_>, is_complete: bool) -> Local {
        let stats = &way.cluster.stats;
        let late = if is_complete { StatusCode::GATEWAY_TIMEOUT } else { StatusCode::REQUEST_TIMEOUT };
        let none = ResponseFlags::default();
        match limit {
            Limit::Request => {
                self.scope.stats.downstream_rq_timeout.inc();
                Local::new(StatusCode::REQUEST_TIMEOUT, "request timeout", "request_overall_timeout", none)
            }
            Limit::Stream => {
                self.scope.stats.downstream_rq_max_duration_reached.inc();
                let mut local = Local::new(late, "downstream duration timeout", "max_duration_timeout", none);
                local.grpc = Some(4);
                local
            }
            Limit::Idle => {
                self.scope.stats.downstream_rq_idle_timeout.inc();
                let flags = ResponseFlags::STREAM_IDLE_TIMEOUT;
                Local::new(late, "stream timeout", "stream_idle_timeout", flags)
            }
            Limit::Upstream => {
                stats.upstream_rq_max_duration_reached.inc();
                let flags = ResponseFlags::UPSTREAM_MAX_STREAM_DURATION_REACHED;
                let details = "upstream_max_stream_duration_reached";
                Local::new(late, "upstream max stream duration reached", details, flags)
            }
            Limit::Route | Limit::Try | Limit::TryIdle => {
                if limit == Limit::Route {
                    stats.upstream_rq_timeout.inc();
                }
                let details =
                    if limit == Limit::Route { "response_timeout" } else { "upstream_per_try_timeout" };
                let flags = ResponseFlags::UPSTREAM_REQUEST_TIMEOUT;
                Local::new(StatusCode::GATEWAY_TIMEOUT, "upstream request timeout", details, flags)
            }
        }
    }
}

/// Why no response comes of a try.
enum Failed {
    Overflow,
    Upstream(UpstreamError),
}

impl Failed {
    fn kind(&self) -> Reset {
        match self {
            Failed::Overflow => Reset::Overflow,
            Failed::Upstream(error) => match error {
                UpstreamError::Connect(_) => Reset::ConnectFailure,
                UpstreamError::ConnectTimeout => Reset::ConnectTimeout,
                UpstreamError::Terminated => Reset::Termination,
                UpstreamError::Protocol(_) => Reset::ProtocolError,
                UpstreamError::Reset => Reset::Remote,
                UpstreamError::RefusedStream => Reset::RefusedStream,
            },
        }
    }

    fn local(&self) -> Local {
        let (status, reason, flag) = match self {
            Failed::Overflow => {
                (StatusCode::SERVICE_UNAVAILABLE, "overflow", ResponseFlags::UPSTREAM_OVERFLOW)
            }
            Failed::Upstream(error @ UpstreamError::Protocol(_)) => {
                (StatusCode::BAD_GATEWAY, error.reason(), error.flag())
            }
            Failed::Upstream(error) => (StatusCode::SERVICE_UNAVAILABLE, error.reason(), error.flag()),
        };
        let body = format!("{RESET_BEFORE}reset reason: {reason}");
        let details = format!("upstream_reset_before_response_started{{{}}}", reason.replace(' ', "_"));
        let mut local = Local::new(status, body, details, flag);
        if matches!(self, Failed::Overflow) {
            local.headers.append(OVERLOADED, HeaderValue::from_static("true"));
        }
        local
    }
}
