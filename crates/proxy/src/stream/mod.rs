//! One HTTP request and its response, from the head's arrival to the access log.
//!
//! [`serve`] walks the way: the head is admitted (`HttpManager::admit`), the route is found, the filters speak, and the
//! request is answered here ([`reply`]) or forwarded ([`forward`]). What is decided, the engine decides; this carries
//! it out.

mod deadlines;
mod forward;
mod mirror;
mod passing;
mod reply;
mod telemetry;
mod upgrade;

use std::borrow::Cow;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use http::StatusCode;
use ostro_engine::{
    Action, Admission, Arrival, CorsAllowed, CorsDecision, Headers, HttpFilterKind, Protocol, Request,
    ResponseFlags, RouteFilter, RouteId, RouteTable, Selection, StreamInfo, StreamView, Underscores, grpc,
};
use tokio::time::Instant;

use crate::downstream::HttpScope;
use crate::downstream::client::{Client, ClientError, Follows};
use crate::timers::Timer;
use reply::Local;
use upgrade::Tunnel;

/// An HTTP/2 client's extended `CONNECT` becomes the upgrade that it stands for.
pub(crate) fn extended_connect(request: &mut Request, protocol: &http::HeaderValue, key: [u8; 16]) {
    Tunnel::from_extended(request, protocol, key);
}

/// The extended `CONNECT` that stands for an upgrade.
pub(crate) fn extended_from(request: &Request) -> Option<(Request, http::HeaderValue)> {
    Tunnel::to_extended(request)
}

/// A stream under way. When it is dropped it is over, and logged.
pub(crate) struct Stream<'s> {
    scope: &'s HttpScope,
    began: Instant,
    info: StreamInfo,
    request: Request,
    response: Option<Headers>,
    trailers: Option<Headers>,
    cors: Option<CorsAllowed>,
    /// The route that was found.
    route: Option<(Arc<RouteTable>, RouteId)>,
    /// The port that the request's host had.
    stripped_port: Option<u16>,
    /// Copies of the request that are still to be sent elsewhere.
    copies: Vec<mirror::Copy>,
    /// Was the response cut off?
    is_cut: bool,
    /// Has the upstream's connection taken the head of the try under way?
    has_begun_try: bool,
    /// Drawn once: what is random about it.
    random: u64,
    /// What Istio's filters note of it.
    noted: telemetry::Noted,
}

/// How a stream's response ended, as far as nobody has been told yet.
enum End {
    /// It was answered, or there is nobody left to answer.
    Over,
    /// It is to be answered by the proxy itself.
    Reply(Local),
}

/// What is known of a request besides its head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    /// Bytes of the head.
    pub head_bytes: u64,
    /// Does the client wait for a 100 before it sends the body?
    pub waits_for_continue: bool,
}

/// Serves a request. On return the response has been handed to the client's side, but not necessarily flushed.
pub(crate) async fn serve<C: Client>(
    scope: &HttpScope,
    request: Request,
    facts: Facts,
    client: &mut C,
    timer: &mut Timer,
) {
    let mut stream = Stream::new(scope, request, client.protocol(), facts);
    let table = scope.manager.routes.load();
    let end = stream.run(client, timer, facts, table.as_ref()).await;
    if let End::Reply(local) = end {
        stream.reply(client, local);
    }
    let flush = scope.manager.engine.timeouts.stream_flush;
    let late = flush.map(|flush| Instant::now() + flush);
    let finished = poll_fn(|cx| match client.poll_flush(cx) {
        Poll::Pending => timer.poll(cx, late).map(|()| Err(ClientError::Gone)),
        flushed => flushed,
    });
    if let Err(error) = finished.await
        && !stream.is_cut
    {
        stream.client_failed(error);
    }
    stream.info.header_bytes_sent = client.head_bytes_sent();
}

impl<'s> Stream<'s> {
    fn new(scope: &'s HttpScope, request: Request, protocol: Protocol, facts: Facts) -> Stream<'s> {
        let began = Instant::now();
        let started = scope.worker.since_epoch(began);
        let mut info = StreamInfo::new(Arc::clone(&scope.connection), started, Some(protocol));
        info.header_bytes_received = facts.head_bytes;
        scope.stats.downstream_rq_total.inc();
        scope.stats.downstream_rq_active.inc();
        match protocol {
            Protocol::Http2 => scope.stats.downstream_rq_http2_total.inc(),
            _ => scope.stats.downstream_rq_http1_total.inc(),
        }
        let random = scope.worker.random();
        Stream {
            scope,
            began,
            info,
            request,
            response: None,
            trailers: None,
            cors: None,
            route: None,
            stripped_port: None,
            copies: Vec::new(),
            is_cut: false,
            has_begun_try: false,
            random,
            noted: telemetry::Noted::default(),
        }
    }

    fn view(&self) -> StreamView<'_> {
        StreamView {
            info: &self.info,
            request: Some(&self.request),
            response: self.response.as_ref(),
            trailers: self.trailers.as_ref(),
        }
    }

    async fn run<C: Client>(
        &mut self,
        client: &mut C,
        timer: &mut Timer,
        facts: Facts,
        table: Option<&Arc<RouteTable>>,
    ) -> End {
        let scope = self.scope;
        if let Some(local) = self.check_underscores() {
            return End::Reply(local);
        }
        let tunnel = Tunnel::asked(&mut self.request);
        if self.request.authority.is_empty() && client.protocol() == Protocol::Http2 {
            return End::Reply(Local::protocol(StatusCode::BAD_REQUEST, "missing_host_header"));
        }
        let arrival = Arrival {
            connection: &scope.connection,
            tls: None,
            own_ip: scope.worker.shared.own_ip,
            random: scope.worker.random_bytes(),
        };
        match scope.manager.engine.admit(&mut self.request, arrival, table.map(Arc::as_ref)) {
            Admission::Taken(admitted) => {
                self.info.remote = Some(admitted.client);
                self.stripped_port = admitted.stripped_port;
            }
            Admission::Answered(answer) => return End::Reply(Local::answer(answer)),
        }
        if facts.waits_for_continue && !scope.manager.engine.passes_100_continue {
            self.request.headers.remove(&http::header::EXPECT);
            client.send_interim(StatusCode::CONTINUE, &Headers::default());
        }
        let Some(table) = table else { return End::Reply(Local::no_route()) };
        let selection = table.select(&self.request, self.random);
        self.meet_client(match selection {
            Selection::Route(id) => table.chosen(id),
            _ => None,
        });
        let id = match selection {
            Selection::NoVirtualHost | Selection::NoRoute => return End::Reply(Local::no_route()),
            Selection::RedirectToTls => return End::Reply(Local::to_tls(&self.request)),
            Selection::Route(id) => id,
        };
        self.route = Some((Arc::clone(table), id));
        match self.filter(client, timer, table, id).await {
            Some(end) => end,
            None => self.act(client, timer, table, id, tunnel).await,
        }
    }

    /// Names with underscores, as the manager has it: some readers take them for hyphens.
    fn check_underscores(&mut self) -> Option<Local> {
        let has_one = |name: &http::HeaderName| name.as_str().contains('_');
        match self.scope.manager.engine.limits.underscores {
            Underscores::Allow => None,
            Underscores::Drop => {
                self.request.headers.retain(|name, _| !has_one(name));
                None
            }
            Underscores::Reject if self.request.headers.iter().any(|(name, _)| has_one(name)) => {
                self.info.flags.set(ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR);
                Some(Local::protocol(StatusCode::BAD_REQUEST, "http1.unexpected_underscore"))
            }
            Underscores::Reject => None,
        }
    }

    /// Lets the filters before the router speak; what they answer, if they do.
    async fn filter<C: Client>(
        &mut self,
        client: &mut C,
        timer: &mut Timer,
        table: &RouteTable,
        id: RouteId,
    ) -> Option<End> {
        let scope = self.scope;
        let chosen = table.chosen(id)?;
        for filter in &scope.manager.engine.filters {
            if matches!(filter.kind, HttpFilterKind::Router(_)) || !chosen.runs(filter) {
                continue;
            }
            match &filter.kind {
                HttpFilterKind::Cors => {
                    let Some(RouteFilter::Cors(policy)) = chosen.filter(&filter.name) else { continue };
                    match policy.decide(&self.request, self.random) {
                        CorsDecision::None => {}
                        CorsDecision::Preflight(headers) => {
                            return Some(End::Reply(Local::preflight(headers)));
                        }
                        CorsDecision::Allowed(allowed) => self.cors = Some(allowed),
                    }
                }
                HttpFilterKind::Fault(own) => {
                    let fault = match chosen.filter(&filter.name) {
                        Some(RouteFilter::Fault(fault)) => fault,
                        _ => own,
                    };
                    let cluster = chosen.cluster(&self.request).map(str::to_owned);
                    let end = self.fault(client, timer, fault, cluster.as_deref()).await;
                    if end.is_some() {
                        return end;
                    }
                }
                HttpFilterKind::GrpcWeb => {
                    if grpc::is_web(&self.request.headers) {
                        return Some(End::Reply(Local::no_grpc_web()));
                    }
                }
                HttpFilterKind::HeaderMutation(own) => {
                    own.apply_to_request(&mut self.request, &self.info);
                    for mutation in chosen.header_mutations(&filter.name, own) {
                        mutation.apply_to_request(&mut self.request, &self.info);
                    }
                }
                // Nobody reads what these note or count, or it is done elsewhere; others are refused when the listener is
                // taken.
                HttpFilterKind::SetFilterState(_)
                | HttpFilterKind::GrpcStats(_)
                | HttpFilterKind::IstioStats(_)
                | HttpFilterKind::PeerMetadata(_)
                | HttpFilterKind::Alpn(_)
                | HttpFilterKind::OnDemand { .. }
                | HttpFilterKind::Router(_) => {}
            }
        }
        None
    }

    /// Lets the filters see the headers of the response, the last one first.
    fn filter_response(&self, headers: &mut Headers) {
        let chosen = self.route.as_ref().and_then(|(table, id)| table.chosen(*id));
        for filter in self.scope.manager.engine.filters.iter().rev() {
            if !chosen.map_or(!filter.disabled, |chosen| chosen.runs(filter)) {
                continue;
            }
            match &filter.kind {
                HttpFilterKind::Cors => self.cors.iter().for_each(|cors| cors.apply(headers)),
                HttpFilterKind::HeaderMutation(own) => {
                    own.apply_to_response(headers, &self.info, Some(&self.request));
                    let of_route = chosen.map(|chosen| chosen.header_mutations(&filter.name, own));
                    for mutation in of_route.into_iter().flatten() {
                        mutation.apply_to_response(headers, &self.info, Some(&self.request));
                    }
                }
                _ => {}
            }
        }
    }

    /// Delays and aborts the request, if a fault says so.
    async fn fault<C: Client>(
        &mut self,
        client: &mut C,
        timer: &mut Timer,
        fault: &ostro_engine::Fault,
        cluster: Option<&str>,
    ) -> Option<End> {
        let worker = &self.scope.worker;
        let active = worker.shared.active_faults.now();
        let decision = fault.decide(&self.request, cluster, active, [worker.random(), worker.random()]);
        if decision.delay.is_none() && decision.abort.is_none() {
            return None;
        }
        let _active = worker.shared.active_faults.enter();
        if let Some(delay) = decision.delay {
            self.info.flags.set(ResponseFlags::DELAY_INJECTED);
            let until = Instant::now() + delay;
            let waited = poll_fn(|cx| {
                if let Poll::Ready(error) = client.poll_gone(cx) {
                    return Poll::Ready(Err(error));
                }
                let _ = client.poll_flush(cx);
                timer.poll(cx, Some(until)).map(Ok)
            });
            if let Err(error) = waited.await {
                return Some(self.client_failed(error));
            }
        }
        let abort = decision.abort?;
        self.info.flags.set(ResponseFlags::FAULT_INJECTED);
        Some(End::Reply(Local::abort(abort, fault.abort_body.clone())))
    }

    /// Does what the route says.
    async fn act<C: Client>(
        &mut self,
        client: &mut C,
        timer: &mut Timer,
        table: &RouteTable,
        id: RouteId,
        tunnel: Option<Tunnel>,
    ) -> End {
        let Some(chosen) = table.chosen(id) else { return End::Reply(Local::no_route()) };
        if !chosen.route.name.is_empty() {
            self.info.route = Some(chosen.route.name.as_str().into());
        }
        match &chosen.route.action {
            Action::Redirect(_) => {
                self.scope.stats.rq_redirect.inc();
                let local = Local::redirect(chosen.redirect(&self.request, &self.info));
                self.reply_of_route(client, local, chosen)
            }
            Action::Direct(direct) => {
                self.scope.stats.rq_direct_response.inc();
                let local = Local::direct(direct, self.view());
                self.reply_of_route(client, local, chosen)
            }
            Action::Forward(forward) => {
                let allowed = |tunnel: &Tunnel| tunnel.is_allowed(&self.scope.manager.engine, forward);
                if tunnel.as_ref().is_some_and(|tunnel| !allowed(tunnel)) {
                    return End::Reply(Local::upgrade_failed());
                }
                self.forward(client, timer, chosen, forward, tunnel).await
            }
        }
    }

    /// The client cannot go on: what is noted, and what it is told if it can hear.
    fn client_failed(&mut self, error: ClientError) -> End {
        match error {
            ClientError::Gone => {
                self.info.flags.set(ResponseFlags::DOWNSTREAM_CONNECTION_TERMINATION);
                self.detail("downstream_remote_disconnect");
                self.scope.stats.downstream_rq_rx_reset.inc();
                End::Over
            }
            ClientError::Reset => {
                self.info.flags.set(ResponseFlags::DOWNSTREAM_REMOTE_RESET);
                self.detail("http2.remote_reset");
                self.scope.stats.downstream_rq_rx_reset.inc();
                End::Over
            }
            ClientError::Broken => {
                self.info.flags.set(ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR);
                self.detail("http2.violation.of.messaging.rule");
                self.scope.stats.downstream_rq_rx_reset.inc();
                End::Over
            }
            ClientError::Protocol(status, details) => {
                self.info.flags.set(ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR);
                End::Reply(Local::protocol(status, details))
            }
        }
    }

    fn detail(&mut self, details: impl Into<Cow<'static, str>>) {
        self.info.details = Some(details.into());
    }

    /// Sends the head of a response that came from an upstream or was made here.
    fn respond<C: Client>(
        &mut self,
        client: &mut C,
        status: StatusCode,
        mut headers: Headers,
        follows: Follows,
    ) {
        let is_tunnel = follows == Follows::Tunnel;
        if status == StatusCode::NO_CONTENT {
            // RFC 9110 section 8.6.
            headers.remove(&http::header::CONTENT_LENGTH);
        }
        self.meet_server(&mut headers);
        let date = self.scope.worker.date();
        self.scope.manager.engine.finish_response(&mut headers, &self.request, &date, is_tunnel);
        client.send_head(status, &headers, follows);
        self.info.status = Some(status);
        self.response = Some(headers);
    }
}

impl Drop for Stream<'_> {
    fn drop(&mut self) {
        let now = Instant::now();
        let scope = self.scope;
        self.info.ended = Some(now - self.began);
        scope.stats.downstream_rq_active.dec();
        scope.stats.downstream_rq_completed.inc();
        if let Some(status) = self.info.status {
            scope.stats.answered(status.as_u16());
        }
        let took = u64::try_from((now - self.began).as_millis()).unwrap_or(u64::MAX);
        scope.stats.downstream_rq_time.record(took);
        let random = self.random;
        scope.manager.log(&scope.worker, self.view(), random);
        self.report_telemetry(took);
    }
}
