//! Copies of requests that are sent to other clusters, whose answers nobody hears.

use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::StatusCode;
use ostro_engine::{Choice, Headers, Mirror, Priority, Protocol, Request};
use tokio::time::Instant;

use super::Stream;
use super::deadlines::Limit;
use super::forward::Way;
use super::passing::{Event, Passing, Replay};
use crate::Piece;
use crate::downstream::client::{Client, ClientError, Follows};
use crate::timers::Timer;
use crate::upstream::{Plan, WorkerCluster};
use crate::worker::Worker;

/// How long a copy may take.
const MIRROR_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(15);

/// A copy that is to be sent.
pub(crate) struct Copy {
    cluster: Rc<WorkerCluster>,
    request: Request,
}

impl Stream<'_> {
    /// The copies that are to be sent of this request, as it goes upstream.
    pub(super) fn mirrors(&self, way: &Way<'_>) -> Vec<Copy> {
        let worker = &self.scope.worker;
        if way.tunnel.is_some() {
            return Vec::new();
        }
        let due = |mirror: &&Mirror| mirror.fraction.holds(worker.random());
        let copy = |mirror: &Mirror| {
            let cluster = mirror.cluster(&self.request).and_then(|name| worker.cluster(name))?;
            let mut request = self.request.clone();
            mirror.prepare(&mut request, &self.info);
            Some(Copy { cluster, request })
        };
        way.chosen.mirrors().iter().filter(due).filter_map(copy).collect()
    }
}

/// Sends the copies; nobody waits for them.
pub(super) fn send(worker: &Rc<Worker>, copies: Vec<Copy>, parts: Vec<Bytes>, trailers: Option<Headers>) {
    for copy in copies {
        let body = Body { parts: parts.clone().into_iter(), trailers: trailers.clone(), is_done: false };
        tokio::task::spawn_local(carry(Rc::clone(worker), copy, body));
    }
}

async fn carry(worker: Rc<Worker>, copy: Copy, mut body: Body) {
    let Copy { cluster, request } = copy;
    let plan = Plan { priority: Priority::Default, protocol: None, is_raw: false };
    let Some(host) = cluster.choose(&worker, &Choice::default()) else { return };
    let Ok(_request) = cluster.upstream.request(&host, plan.priority, worker.monotonic()) else { return };
    let Ok(mut lease) = cluster.acquire(&host, plan).await else { return };
    cluster.stats.upstream_rq_total.inc();
    let _active = cluster.stats.upstream_rq_active.enter();
    let began = Instant::now();
    let mut timer = Timer::default();
    body.is_done = body.parts.len() == 0 && body.trailers.is_none();
    let mut passing = Passing::new(&mut body, &mut timer, Replay::new(0));
    passing.deadlines.set(Limit::Route, Some(began + MIRROR_TIMEOUT));
    let mut progress = passing.begin();
    let ends = passing.is_bodiless();
    if lease.carrier.send_head(&request, ends, false).is_err() {
        return;
    }
    progress.is_request_sent = ends;
    loop {
        let event = std::future::poll_fn(|cx| passing.poll_head(&mut lease.carrier, &mut progress, cx)).await;
        let Event::Head(head) = event else { return };
        if head.status.is_informational() {
            continue;
        }
        let took = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        cluster.answered(head.status, took, request.is_internal);
        if !head.ends {
            let rest = std::future::poll_fn(|cx| passing.poll_rest(&mut lease.carrier, &mut progress, cx));
            if !matches!(rest.await, Event::Done) {
                return;
            }
        }
        return lease.give_back(&cluster, &host, progress.is_request_sent);
    }
}

/// A client that only asks.
struct Body {
    parts: std::vec::IntoIter<Bytes>,
    trailers: Option<Headers>,
    is_done: bool,
}

impl Client for Body {
    fn protocol(&self) -> Protocol {
        Protocol::Http11
    }

    fn poll_body(&mut self, _cx: &mut Context<'_>) -> Poll<Result<Piece, ClientError>> {
        let piece = match (self.parts.next(), self.trailers.take()) {
            (Some(part), trailers) => {
                self.trailers = trailers;
                self.is_done = self.parts.len() == 0 && self.trailers.is_none();
                Piece::Data(part)
            }
            (None, Some(trailers)) => Piece::Trailers(trailers),
            (None, None) => Piece::End,
        };
        Poll::Ready(Ok(piece))
    }

    fn is_body_done(&self) -> bool {
        self.is_done
    }

    fn poll_gone(&mut self, _cx: &mut Context<'_>) -> Poll<ClientError> {
        Poll::Pending
    }

    fn send_interim(&mut self, _status: StatusCode, _headers: &Headers) {}

    fn send_head(&mut self, _status: StatusCode, _headers: &Headers, _follows: Follows) {}

    fn send_data(&mut self, _data: Bytes) {}

    fn send_end(&mut self, _trailers: Option<&Headers>) {}

    fn poll_writable(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        Poll::Ready(Ok(()))
    }

    fn close_after(&mut self) {}

    fn abort(&mut self, _is_violation: bool) {}

    fn ends_with_request(&self) -> bool {
        false
    }

    fn head_bytes_sent(&self) -> u64 {
        0
    }
}
