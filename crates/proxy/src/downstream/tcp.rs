//! Connections carried as bytes to a cluster.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use ostro_engine::breakers::ConnectionPermit;
use ostro_engine::istio::Reporter;
use ostro_engine::outlier::Outcome;
use ostro_engine::{Choice, ConnectionInfo, Host, Priority, ResponseFlags, StreamInfo, StreamView};
use tokio::io::ReadBuf;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::relay::{Broken, Way};
use crate::config::LiveTcp;
use crate::istio::{LiveId, Sides, StatsFilter};
use crate::socket::Socket;
use crate::timers::{Timer, nearer};
use crate::upstream::{UpstreamError, WorkerCluster};
use crate::wire::Wire;
use crate::worker::{Fate, Worker};

/// A connection under way.
struct Tcp<'c> {
    worker: &'c Rc<Worker>,
    proxy: &'c LiveTcp,
    fate: &'c Fate,
    info: StreamInfo,
    began: Instant,
    /// Who is at its ends.
    sides: Sides,
    /// What Istio's filters count of it.
    lives: Vec<LiveId>,
}

/// A host that has been reached. Dropping it ends the connection.
pub(super) struct Reached {
    cluster: Rc<WorkerCluster>,
    host: Arc<Host>,
    socket: Socket,
    _permit: ConnectionPermit,
}

impl Drop for Reached {
    fn drop(&mut self) {
        self.cluster.stats.upstream_cx_active.dec();
        self.cluster.stats.upstream_cx_destroy.inc();
        self.host.state.rq_active.dec();
    }
}

/// Who speaks first on a connection that began in silence.
pub(super) enum Who {
    /// The server; or it has ended.
    Server,
    /// The client.
    Client,
    /// Nobody, for as long as inspection may take.
    Late,
    /// Nobody will.
    Nobody,
}

/// What came of waiting for words.
pub(super) struct First {
    /// Who spoke.
    pub who: Who,
    /// The host, if it was reached before.
    pub reached: Option<Reached>,
}

/// Connects a silent client's connection, and waits for whoever speaks first, until `deadline`. That the cluster cannot be
/// reached is no answer: a client that is to be routed elsewhere may still speak.
pub(super) async fn first(
    worker: &Rc<Worker>,
    proxy: &LiveTcp,
    fate: &Fate,
    info: Arc<ConnectionInfo>,
    client: &TcpStream,
    deadline: Option<Instant>,
) -> First {
    let mut tcp = Tcp::new(worker, proxy, fate, info);
    let idle = proxy.engine.idle_timeout.map(|idle| tcp.began + idle);
    let mut reaching = std::pin::pin!(tcp.reach());
    let (mut is_reaching, mut has_client_ended) = (true, false);
    let (mut reached, mut timer) = (None::<Reached>, Timer::default());
    let who = poll_fn(|cx| {
        if fate.poll_cut(cx).is_ready() {
            return Poll::Ready(Who::Nobody);
        }
        if is_reaching && let Poll::Ready(done) = reaching.as_mut().poll(cx) {
            (is_reaching, reached) = (false, done);
        }
        let speaks = |reached: &Reached, cx: &mut Context<'_>| poll_word(reached.socket.tcp(), cx).is_ready();
        if reached.as_ref().is_some_and(|reached| speaks(reached, cx)) {
            return Poll::Ready(Who::Server);
        }
        if !has_client_ended {
            match poll_word(client, cx) {
                Poll::Ready(Ok(true)) => return Poll::Ready(Who::Client),
                // Of one that only listens from now on.
                Poll::Ready(Ok(false)) => has_client_ended = true,
                Poll::Ready(Err(_)) => return Poll::Ready(Who::Nobody),
                Poll::Pending => {}
            }
        }
        if has_client_ended && !is_reaching {
            return Poll::Ready(if reached.is_some() { Who::Server } else { Who::Nobody });
        }
        let is_late = deadline.is_some_and(|deadline| idle.is_none_or(|idle| deadline < idle));
        timer.poll(cx, nearer(deadline, idle)).map(|()| if is_late { Who::Late } else { Who::Nobody })
    })
    .await;
    First { who, reached }
}

/// Ready when there is something to read: `false` if that is the end.
fn poll_word(of: &TcpStream, cx: &mut Context<'_>) -> Poll<std::io::Result<bool>> {
    let mut byte = [0];
    of.poll_peek(cx, &mut ReadBuf::new(&mut byte)).map_ok(|count| count > 0)
}

/// Carries a connection to its end, by what was reached already, if anything was.
pub(super) async fn serve(
    worker: &Rc<Worker>,
    proxy: &LiveTcp,
    fate: &Fate,
    info: Arc<ConnectionInfo>,
    chain: &str,
    (wire, early): (Wire, Option<Reached>),
) {
    let mut tcp = Tcp::new(worker, proxy, fate, info);
    tcp.info.route = Some(chain).filter(|name| !name.is_empty()).map(Into::into);
    let stats = proxy.stats.on(&worker.writer);
    stats.downstream_cx_total.inc();
    let begin = |filter: &StatsFilter| worker.seen.begin(filter.engine.report_interval);
    tcp.lives = proxy.istio.stats.iter().map(begin).collect();
    tcp.carry(wire, early).await;
    stats.downstream_cx_rx_bytes_total.add(tcp.info.bytes_received);
    stats.downstream_cx_tx_bytes_total.add(tcp.info.bytes_sent);
    tcp.info.ended = Some(tcp.began.elapsed());
    proxy.log(worker, tcp.view(), worker.random());
}

impl Drop for Tcp<'_> {
    fn drop(&mut self) {
        self.pass(self.info.bytes_received, self.info.bytes_sent);
        self.know(|_| true);
        self.lives.iter().for_each(|id| self.worker.seen.end(*id));
    }
}

impl<'c> Tcp<'c> {
    fn new(worker: &'c Rc<Worker>, proxy: &'c LiveTcp, fate: &'c Fate, info: Arc<ConnectionInfo>) -> Tcp<'c> {
        let began = Instant::now();
        let info = StreamInfo::new(info, worker.since_epoch(began), None);
        Tcp { worker, proxy, fate, info, began, sides: Sides::default(), lives: Vec::new() }
    }

    fn view(&self) -> StreamView<'_> {
        StreamView { info: &self.info, request: None, response: None, trailers: None }
    }

    /// So much has passed.
    fn pass(&self, received: u64, sent: u64) {
        self.lives.iter().for_each(|id| self.worker.seen.pass(*id, received, sent));
    }

    /// It is decided who is at the other end, for reports of which `is_decided` holds.
    fn know(&self, is_decided: impl Fn(Reporter) -> bool) {
        for (id, filter) in self.lives.iter().zip(&self.proxy.istio.stats) {
            if is_decided(filter.reporter) {
                let told = (&self.sides, self.view(), true);
                let worker = self.worker;
                worker.seen.know(*id, filter, &worker.shared.stats, &worker.writer, told);
            }
        }
    }

    /// A host has been reached. Where metadata is to be exchanged it is decided at once that there is none: that takes TLS.
    fn meet(&mut self, cluster: &WorkerCluster, host: &Host) {
        let exchanges = [&cluster.live().exchange, &self.proxy.istio.exchange];
        for exchange in exchanges.into_iter().flatten() {
            exchange.on(&self.worker.writer).alpn_protocol_not_found.inc();
        }
        if self.lives.is_empty() {
            return;
        }
        self.sides.endpoint = self.worker.seen.endpoint(host);
        let [of_cluster, of_chain] = exchanges.map(Option::is_some);
        self.know(|reporter| if reporter == Reporter::Source { of_cluster } else { of_chain });
    }

    async fn carry(&mut self, wire: Wire, early: Option<Reached>) {
        let (mut client, read) = wire.into_parts();
        let reached = match early {
            Some(reached) => Some(reached),
            None => self.reach().await,
        };
        let Some(mut reached) = reached else { return };
        self.note(&reached);
        let mut up = Way::with(read);
        let mut down = Way::default();
        self.relay(&mut client, &mut reached, &mut up, &mut down).await;
        self.info.bytes_received = up.passed;
        self.info.bytes_sent = down.passed;
        reached.cluster.stats.upstream_cx_tx_bytes_total.add(up.passed);
        reached.cluster.stats.upstream_cx_rx_bytes_total.add(down.passed);
    }

    /// Tells the log of the connection by which this one goes on.
    fn note(&mut self, reached: &Reached) {
        self.info.cluster = Some(Arc::clone(&reached.cluster.upstream.cluster.name));
        self.info.upstream_host = Some(Arc::clone(&reached.host.name));
        self.info.upstream_local = reached.socket.tcp().local_addr().ok();
        self.info.attempts = self.info.attempts.max(1);
        self.info.flags = ResponseFlags::default();
        self.sides.cluster = Some(Arc::clone(reached.cluster.live()));
        self.meet(&reached.cluster, &reached.host);
    }

    /// A connection to a host of the cluster that is chosen.
    async fn reach(&mut self) -> Option<Reached> {
        let name = self.proxy.engine.cluster(self.worker.random());
        let Some(cluster) = self.worker.cluster(name) else {
            self.proxy.stats.on(&self.worker.writer).downstream_cx_no_route.inc();
            self.info.flags.set(ResponseFlags::NO_CLUSTER_FOUND);
            return None;
        };
        self.info.cluster = Some(Arc::clone(&cluster.upstream.cluster.name));
        self.sides.cluster = Some(Arc::clone(cluster.live()));
        self.try_hosts(&cluster).await
    }

    /// A connection to a host, tried as often as configured.
    async fn try_hosts(&mut self, cluster: &Rc<WorkerCluster>) -> Option<Reached> {
        let hash = self.proxy.engine.hash(self.info.connection.remote.ip());
        let destination = Some(self.info.connection.local);
        for attempt in 1..=self.proxy.engine.connect_attempts.max(1) {
            let choice = Choice { hash, destination, ..Choice::default() };
            let Some(host) = cluster.choose(self.worker, &choice) else {
                cluster.stats.upstream_cx_none_healthy.inc();
                self.info.flags.set(ResponseFlags::NO_HEALTHY_UPSTREAM);
                return None;
            };
            self.info.attempts = attempt;
            let Ok(permit) = cluster.upstream.connect(&host, Priority::Default) else {
                cluster.stats.upstream_cx_overflow.inc();
                self.info.flags.set(ResponseFlags::UPSTREAM_OVERFLOW);
                return None;
            };
            self.info.upstream_host = Some(Arc::clone(&host.name));
            cluster.stats.upstream_cx_total.inc();
            match self.cut_short(cluster.connect(&host)).await? {
                Ok(socket) => {
                    cluster.report(self.worker, &host, Outcome::ConnectedFinal);
                    cluster.stats.upstream_cx_active.inc();
                    host.state.rq_active.inc();
                    host.state.rq_total.inc();
                    return Some(Reached { cluster: Rc::clone(cluster), host, socket, _permit: permit });
                }
                Err(error) => self.failed(cluster, &host, &error),
            }
            if let Some(back_off) = &self.proxy.engine.back_off {
                let shift = attempt.saturating_sub(1).min(16);
                let most = back_off.base.saturating_mul(1 << shift).min(back_off.max);
                let part = u32::try_from(self.worker.random() % 1000).unwrap_or_default();
                self.cut_short(tokio::time::sleep(most * part / 1000)).await?;
            }
        }
        self.info.flags.set(ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED);
        cluster.stats.upstream_cx_connect_attempts_exceeded.inc();
        None
    }

    fn failed(&mut self, cluster: &WorkerCluster, host: &Host, error: &UpstreamError) {
        self.info.flags.set(error.flag());
        self.info.transport_failure = error.transport_failure().map(Into::into);
        cluster.report(self.worker, host, Outcome::ConnectFailed);
    }

    /// What a future comes to, unless the connection is to end first.
    async fn cut_short<F: Future>(&self, future: F) -> Option<F::Output> {
        let mut future = std::pin::pin!(future);
        poll_fn(|cx| match self.fate.poll_cut(cx) {
            Poll::Ready(()) => Poll::Ready(None),
            Poll::Pending => future.as_mut().poll(cx).map(Some),
        })
        .await
    }

    async fn relay(&mut self, client: &mut Socket, reached: &mut Reached, up: &mut Way, down: &mut Way) {
        let engine = &self.proxy.engine;
        let mut timer = Timer::default();
        let most = engine.max_duration.map(|most| self.began + most);
        let mut moved = (0, Instant::now());
        let end = poll_fn(|cx| {
            let upward = up.poll(self.worker, client, &mut reached.socket, cx);
            let downward = down.poll(self.worker, &mut reached.socket, client, cx);
            match (upward, downward) {
                (Poll::Ready(Err(broken)), _) => return Poll::Ready(End::of(broken, true)),
                (_, Poll::Ready(Err(broken))) => return Poll::Ready(End::of(broken, false)),
                (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(End::Both),
                _ => {}
            }
            if self.fate.poll_cut(cx).is_ready() {
                return Poll::Ready(End::Cut);
            }
            let passed = up.passed + down.passed;
            if passed != moved.0 {
                self.pass(up.passed, down.passed);
                moved = (passed, Instant::now());
            }
            let idle = engine.idle_timeout.map(|idle| moved.1 + idle);
            match timer.poll(cx, nearer(idle, most)) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(()) if most.is_some_and(|most| most <= Instant::now()) => {
                    Poll::Ready(End::TooLong)
                }
                Poll::Ready(()) => Poll::Ready(End::Idle),
            }
        })
        .await;
        self.ended(&end, client, reached);
    }

    fn ended(&mut self, end: &End, client: &Socket, reached: &Reached) {
        let stats = self.proxy.stats.on(&self.worker.writer);
        match end {
            End::Both | End::Cut => {}
            End::Client => {
                reached.socket.reset_on_close();
            }
            End::Upstream(is_reset) => {
                client.reset_on_close();
                self.info.flags.set(match is_reset {
                    true => ResponseFlags::UPSTREAM_REMOTE_RESET,
                    false => ResponseFlags::UPSTREAM_CONNECTION_TERMINATION,
                });
            }
            End::Idle => stats.idle_timeout.inc(),
            End::TooLong => {
                self.info.flags.set(ResponseFlags::DURATION_TIMEOUT);
                self.info.details = Some("max_downstream_connection_duration".into());
                stats.max_downstream_connection_duration.inc();
            }
        }
    }
}

/// Why a connection is over.
enum End {
    /// Both ways have ended.
    Both,
    /// The client's socket broke.
    Client,
    /// The upstream's socket broke; was it reset?
    Upstream(bool),
    /// Nothing passed for too long.
    Idle,
    /// It has been open for as long as it may.
    TooLong,
    /// The proxy ends it.
    Cut,
}

impl End {
    fn of(broken: Broken, is_upward: bool) -> End {
        let (is_client, error) = match broken {
            Broken::Reading(error) => (is_upward, error),
            Broken::Writing(error) => (!is_upward, error),
        };
        tracing::debug!(is_client, %error, "a connection broke");
        let is_reset = error.kind() == std::io::ErrorKind::ConnectionReset;
        if is_client { End::Client } else { End::Upstream(is_reset) }
    }
}
