//! A worker's view of one cluster: who is chosen, and the connections it keeps.
//!
//! Invariants:
//! * The number of connections is bounded by the cluster's breakers, exactly and over all workers: a connection holds
//!   its permit as long as it is open, and a pool gives one up when another worker waits for it.
//! * A connection that is kept holds no buffers, and is not given out once its peer has closed it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use bytes::BytesMut;
use ostro_engine::balance::{HealthFlags, HostId};
use ostro_engine::breakers::ConnectionPermit;
use ostro_engine::cluster::UpstreamProtocol;
use ostro_engine::outlier::Outcome;
use ostro_engine::{Choice, Cluster, Host, Picker, Priority, Protocol, Upstream};
use tokio::time::Instant;

use super::carrier::Carrier;
use super::error::UpstreamError;
use super::http1::{Call, Terms};
use super::http2;
use super::multiplexed::Multiplexed;
use super::raw::Raw;
use crate::config::LiveCluster;
use crate::http1::{HeadLimits, Names};
use crate::socket::Socket;
use crate::stats::{ClusterStats, Local, Origin};
use crate::waiting::Waiting;
use crate::wire::Wire;
use crate::worker::Worker;

/// How many times in a row a pool serves its own worker's waiting requests before another worker's turn comes.
const OWN_TURNS_MAX: u32 = 16;

/// A worker's view of one cluster.
pub(crate) struct WorkerCluster {
    /// What all workers share.
    pub upstream: Arc<Upstream>,
    /// What it counts.
    pub stats: Local<ClusterStats>,
    live: Arc<LiveCluster>,
    picker: RefCell<Picker>,
    pools: RefCell<HashMap<HostId, Vec<Idle>>>,
    /// HTTP/2 connections.
    pub(super) multiplexed: Multiplexed,
    http2: Arc<ostro_http2::Config>,
    /// Requests of this worker that wait for a connection.
    waiting: Waiting,
    turns: Cell<u32>,
}

/// What connections of HTTP/1 to a cluster may do.
pub(super) fn terms(cluster: &Cluster) -> Terms {
    Terms {
        limits: HeadLimits {
            bytes: cluster.http.max_response_headers_bytes,
            headers: usize::try_from(cluster.http.max_headers_count).unwrap_or(usize::MAX),
            http10: true,
        },
        buffer_bytes: usize::try_from(cluster.buffer_limit).unwrap_or(usize::MAX),
        trailers: cluster.http.http1.sends_trailers,
        names: if cluster.http.http1.proper_case { Names::Proper } else { Names::Lower },
        sends_absolute_url: cluster.http.http1.sends_absolute_url,
    }
}

/// A connection that is kept.
struct Idle {
    call: Box<Call>,
    held: Held,
    since: Instant,
}

/// What a connection holds while it is open.
pub(crate) struct Held {
    _permit: ConnectionPermit,
    priority: Priority,
    opened: Instant,
    requests: u32,
    stats: Local<ClusterStats>,
    /// The proxy's end.
    local: Option<SocketAddr>,
}

/// What a request needs of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// By which limits.
    pub priority: Priority,
    /// What the client speaks.
    pub protocol: Option<Protocol>,
    /// Are its bytes to be carried as they are?
    pub is_raw: bool,
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum AcquireError {
    /// A breaker is open.
    Overflow,
    /// The upstream did not take it.
    Upstream(UpstreamError),
}

/// A connection, or a stream of one, for one request.
pub(crate) struct Lease {
    /// What carries the request.
    pub carrier: Carrier,
    /// What the connection holds, if it is this request's alone.
    held: Option<Held>,
}

impl WorkerCluster {
    /// A view of a cluster of which nothing is known yet.
    pub fn new(live: &Arc<LiveCluster>, worker: &Worker) -> WorkerCluster {
        WorkerCluster {
            upstream: Arc::clone(&live.upstream),
            stats: live.stats.on(&worker.writer),
            live: Arc::clone(live),
            picker: RefCell::new(Picker::new(Arc::clone(&live.upstream), worker.random())),
            pools: RefCell::default(),
            multiplexed: Multiplexed::default(),
            http2: Arc::new(crate::config::http2_client(&live.upstream.cluster)),
            waiting: Waiting::default(),
            turns: Cell::new(0),
        }
    }

    /// What it is a view of.
    pub fn live(&self) -> &Arc<LiveCluster> {
        &self.live
    }

    /// Whether it is a view of this.
    pub fn is_of(&self, live: &Arc<LiveCluster>) -> bool {
        Arc::ptr_eq(&self.live, live)
    }

    /// The host for a request.
    pub fn choose(&self, worker: &Worker, choice: &Choice<'_>) -> Option<Arc<Host>> {
        let now = worker.monotonic();
        self.picker.borrow_mut().choose(choice, now, &mut || worker.random())
    }

    /// Tells outlier detection how a host did.
    pub fn report(&self, worker: &Worker, host: &Host, outcome: Outcome) {
        let now = worker.monotonic();
        if self.upstream.report(host, outcome, now, worker.random()) {
            worker.shared.health_changed.notify_one();
        }
    }

    /// Counts a response.
    pub fn answered(&self, status: http::StatusCode, ms: u64, is_internal: bool) {
        let origin = if is_internal { Origin::Internal } else { Origin::External };
        self.stats.answered(status.as_u16(), ms, origin);
    }

    fn terms(&self) -> Terms {
        terms(&self.upstream.cluster)
    }

    fn is_http2(&self, plan: Plan) -> bool {
        match self.upstream.cluster.http.protocol {
            UpstreamProtocol::Http2 => true,
            UpstreamProtocol::Downstream => plan.protocol == Some(Protocol::Http2),
            _ => false,
        }
    }

    /// A connection that is kept and is still good.
    pub fn take_idle(&self, host: &Host, plan: Plan) -> Option<Lease> {
        if plan.is_raw {
            return None;
        }
        if self.is_http2(plan) {
            let handle =
                self.multiplexed.take(host, self.upstream.cluster.http.max_requests_per_connection)?;
            return Some(Lease { carrier: Carrier::Http2(http2::Call::new(handle)), held: None });
        }
        let mut pools = self.pools.borrow_mut();
        let pool = pools.get_mut(&host.id())?;
        while let Some(mut idle) = pool.pop() {
            if idle.call.is_quiet() {
                return Some(Lease { carrier: Carrier::Http1(idle.call), held: Some(idle.held) });
            }
            self.stats.upstream_cx_destroy_remote.inc();
        }
        None
    }

    /// A connection for a request: one that is kept, or a new one, as soon as there may be one.
    ///
    /// # Errors
    /// [`AcquireError`].
    pub async fn acquire(self: &Rc<Self>, host: &Arc<Host>, plan: Plan) -> Result<Lease, AcquireError> {
        let _pending = self.upstream.pend(plan.priority).map_err(|_| {
            self.stats.upstream_rq_pending_overflow.inc();
            AcquireError::Overflow
        })?;
        self.stats.upstream_rq_pending_total.inc();
        let _gauge = self.stats.upstream_rq_pending_active.enter();
        loop {
            if let Some(lease) = self.take_idle(host, plan) {
                return Ok(lease);
            }
            if self.is_http2(plan)
                && !plan.is_raw
                && let Some(opened) = self.multiplexed.wait(host).await
            {
                opened.map_err(AcquireError::Upstream)?;
                continue;
            }
            let Ok(permit) = self.upstream.connect(host, plan.priority) else {
                self.stats.upstream_cx_overflow.inc();
                self.wait(host, plan).await;
                continue;
            };
            let held = self.hold(permit, plan.priority);
            if !self.is_http2(plan) || plan.is_raw {
                return self.open(host, plan, held).await.map_err(AcquireError::Upstream);
            }
            self.multiplexed.open(self, host, held);
        }
    }

    fn hold(&self, permit: ConnectionPermit, priority: Priority) -> Held {
        self.stats.upstream_cx_total.inc();
        self.stats.upstream_cx_active.inc();
        let stats = self.stats.clone();
        Held { _permit: permit, priority, opened: Instant::now(), requests: 0, stats, local: None }
    }

    /// What HTTP/2 connections may do.
    pub(super) fn http2_config(&self) -> &Arc<ostro_http2::Config> {
        &self.http2
    }

    /// Waits until it is worth trying again.
    async fn wait(&self, host: &Arc<Host>, plan: Plan) {
        let mut place = self.waiting.place();
        let mut wait = None;
        poll_fn(|cx| {
            if wait.is_some() {
                return Poll::Ready(());
            }
            place.register(cx);
            wait = Some(self.upstream.breakers.wait_for_connection(plan.priority, cx.waker()));
            // What was given back between the attempt and the registration.
            if let Ok(permit) = self.upstream.connect(host, plan.priority) {
                drop(permit);
                return Poll::Ready(());
            }
            Poll::Pending
        })
        .await;
        place.leave();
    }

    /// Connects to a host.
    pub async fn connect(&self, host: &Host) -> Result<Socket, UpstreamError> {
        let began = Instant::now();
        let socket = super::connect::connect(&self.upstream.cluster, &self.live.bind, host)
            .await
            .inspect_err(|error| {
                host.state.cx_connect_fail.inc();
                self.stats.upstream_cx_connect_fail.inc();
                if *error == UpstreamError::ConnectTimeout {
                    self.stats.upstream_cx_connect_timeout.inc();
                }
            })?;
        self.stats
            .upstream_cx_connect_ms
            .record(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX));
        Ok(socket)
    }

    /// A new connection for one request at a time.
    async fn open(&self, host: &Arc<Host>, plan: Plan, mut held: Held) -> Result<Lease, UpstreamError> {
        let socket = self.connect(host).await?;
        held.opened = Instant::now();
        held.local = socket.tcp().local_addr().ok();
        let wire = Wire::new(socket, BytesMut::new());
        let carrier = match plan.is_raw {
            true => Carrier::Raw(Raw::new(wire, self.terms().buffer_bytes)),
            false => {
                self.stats.upstream_cx_http1_total.inc();
                Carrier::Http1(Call::new(wire, self.terms()))
            }
        };
        Ok(Lease { carrier, held: Some(held) })
    }

    fn keep(&self, host: &Arc<Host>, mut call: Box<Call>, held: Held) {
        let http = &self.upstream.cluster.http;
        let is_used_up = http.max_requests_per_connection.is_some_and(|most| held.requests >= most)
            || http.max_connection_duration.is_some_and(|most| held.opened.elapsed() >= most)
            || host.is_gone();
        if is_used_up {
            self.stats.upstream_cx_max_requests.inc();
            drop(call);
            drop(held);
            return self.waiting.wake_all();
        }
        if self.upstream.breakers.is_connection_wanted(held.priority) {
            let turns = self.turns.get() + 1;
            self.turns.set(turns);
            if self.waiting.is_empty() || turns >= OWN_TURNS_MAX {
                self.turns.set(0);
                // In this order: who waits may connect only once this connection is closed.
                drop(call);
                drop(held);
                self.waiting.wake_one();
                return;
            }
        }
        call.release();
        let idle = Idle { call, held, since: Instant::now() };
        self.pools.borrow_mut().entry(host.id()).or_default().push(idle);
        self.waiting.wake_one();
    }

    /// Closes what has been idle for too long, what its peer has closed, and what another worker waits for. Called
    /// from time to time; whether anything is left.
    pub fn tick(&self, now: Instant) -> bool {
        let idle_timeout = self.upstream.cluster.http.idle_timeout;
        let mut pools = self.pools.borrow_mut();
        let alive = self.upstream.snapshot();
        let keeps = |host: &Host| !host.flags().any(HealthFlags::FAILED_ACTIVE);
        let is_gone = |id: HostId| !alive.hosts().any(|host| host.id() == id && keeps(host));
        let has_http2 = self.multiplexed.tick(now, idle_timeout, is_gone);
        pools.retain(|id, pool| {
            let is_gone = is_gone(*id);
            pool.retain_mut(|idle| {
                if idle_timeout.is_some_and(|timeout| now.duration_since(idle.since) >= timeout) {
                    self.stats.upstream_cx_idle_timeout.inc();
                    return false;
                }
                let is_wanted = self.upstream.breakers.is_connection_wanted(idle.held.priority);
                // Of the last response parts may have been in use when it was given back.
                idle.call.release();
                !is_gone && !is_wanted && idle.call.is_quiet()
            });
            !pool.is_empty()
        });
        has_http2 || !pools.is_empty()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.stats.upstream_cx_active.dec();
        self.stats.upstream_cx_destroy.inc();
        let took = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.stats.upstream_cx_length_ms.record(took);
    }
}

impl Lease {
    /// The proxy's end of the connection.
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.held.as_ref()?.local
    }

    /// The request is over: the connection is kept, if it may be.
    pub fn give_back(self, cluster: &WorkerCluster, host: &Arc<Host>, is_request_sent: bool) {
        let Lease { carrier, held } = self;
        let Some(mut held) = held else { return };
        held.requests += 1;
        let call = match carrier {
            Carrier::Http1(mut call) => (is_request_sent && call.renew()).then_some(call),
            Carrier::Http2(_) | Carrier::Raw(_) => None,
        };
        // What is not kept is closed by now: who waits may connect only once it is.
        match call {
            Some(call) => cluster.keep(host, call, held),
            None => drop(held),
        }
    }
}
