//! From an accepted socket to the filter chain that it belongs to.
//!
//! A client that says nothing is not waited for in vain: if nothing has come within [`SILENCE`], and the chain of a
//! silent connection carries bytes, that chain's cluster is connected to, and whoever speaks first decides. A server's
//! words mean that the connection carries bytes, the client's are inspected as if they had come at once: a connection
//! that a pool of HTTP connections holds ready is silent for long, and has to be routed when it is used.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use ostro_engine::inspect::{Look, ProxyProtocol, Seen};
use ostro_engine::{ConnectionInfo, Ends, ResponseFlags, StreamInfo, StreamView};
use ostro_transport::proxy_protocol::{Progress, Version, parse};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::tcp::{self, Reached, Who};
use super::{HttpScope, http1};
use crate::config::{LiveChain, LiveListener, LiveTerminal};
use crate::socket::Socket;
use crate::stats::{ListenerStats, Local};
use crate::wire::Wire;
use crate::worker::Worker;

/// How long a client that has said nothing is waited for where the server may be the one to speak.
const SILENCE: Duration = Duration::from_millis(50);

/// A connection that has been accepted, on its way to its chain.
struct Arriving {
    worker: Rc<Worker>,
    listener: Arc<LiveListener>,
    stats: Local<ListenerStats>,
    stream: TcpStream,
    /// What has been read of it.
    read: BytesMut,
    ends: Ends,
    /// Is the destination another than the socket's own?
    is_restored: bool,
    began: Instant,
    /// Its number.
    id: u64,
}

/// What came of inspection.
enum Heard {
    /// What there was to see.
    Seen(Seen),
    /// Nothing was said, and a server may be the one to speak.
    Silence,
}

/// What was reached for a silent connection, by which chain.
type Early = Option<(Arc<LiveChain>, Reached)>;

/// Serves a connection to its end.
pub(crate) async fn serve(
    worker: Rc<Worker>,
    bound: Arc<LiveListener>,
    stream: TcpStream,
    remote: SocketAddr,
) {
    let shared = Arc::clone(&worker.shared);
    let most = shared.max_connections.filter(|_| !bound.engine.ignores_global_limit);
    let Some(_open) = shared.connections.enter_below(most.unwrap_or(u64::MAX)) else {
        return bound.stats.on(&worker.writer).downstream_global_cx_overflow.inc();
    };
    let Some(arriving) = Arriving::new(&worker, &bound, stream, remote) else { return };
    let stats = arriving.stats.clone();
    stats.downstream_cx_total.inc();
    let _active = stats.downstream_cx_active.enter();
    arriving.proceed().await;
    stats.downstream_cx_destroy.inc();
}

impl Arriving {
    fn new(
        worker: &Rc<Worker>,
        bound: &Arc<LiveListener>,
        stream: TcpStream,
        remote: SocketAddr,
    ) -> Option<Arriving> {
        if let Err(error) = ostro_transport::set_accepted(&stream) {
            tracing::debug!(%error, "an accepted connection is gone");
            return None;
        }
        let remote = ostro_transport::canonical(remote);
        let local = ostro_transport::canonical(stream.local_addr().ok()?);
        let (mut destination, mut is_restored) = (local, false);
        if bound.engine.restores_destination() {
            let transparent = bound.engine.socket.transparent.unwrap_or_default();
            if let Ok(Some(original)) = ostro_transport::original_destination(&stream, transparent) {
                (destination, is_restored) = (ostro_transport::canonical(original), true);
            }
        }
        let listener = worker.listeners.borrow().accept(bound, destination);
        Some(Arriving {
            stats: listener.stats.on(&worker.writer),
            worker: Rc::clone(worker),
            listener,
            stream,
            read: BytesMut::new(),
            ends: Ends { destination, source: remote, direct_source: remote.ip() },
            is_restored,
            began: Instant::now(),
            id: worker.shared.number_connection(),
        })
    }

    async fn proceed(mut self) {
        let direct = self.ends.source;
        let (seen, early) = match self.inspect().await {
            Some(Heard::Seen(seen)) => (Some(seen), None),
            Some(Heard::Silence) => self.wait(direct).await,
            None => return,
        };
        let Some(seen) = seen else { return };
        let info = self.info(direct, &seen);
        let Some(chain) = self.listener.chain(self.ends, &seen).cloned() else {
            self.stats.no_filter_chain_match.inc();
            return self.log(info, Some(ResponseFlags::NO_ROUTE_FOUND));
        };
        let early = early.filter(|(of, _)| Arc::ptr_eq(of, &chain)).map(|(_, reached)| reached);
        self.hand_over(&chain, Arc::clone(&info), early).await;
    }

    fn info(&self, direct: SocketAddr, seen: &Seen) -> Arc<ConnectionInfo> {
        Arc::new(ConnectionInfo {
            id: self.id,
            local: self.ends.destination,
            remote: self.ends.source,
            direct_remote: direct,
            is_restored: self.is_restored,
            server_name: Some(seen.server_name.clone()).filter(|name| !name.is_empty()),
        })
    }

    /// Lets whoever speaks first say what a silent connection is; no [`Seen`] if it is to be closed.
    async fn wait(&mut self, direct: SocketAddr) -> (Option<Seen>, Early) {
        let silence = Seen::default();
        let Some(chain) = self.listener.chain(self.ends, &silence).cloned() else { return (None, None) };
        let LiveTerminal::Tcp(proxy) = &chain.terminal else { return (None, None) };
        let fate = self.worker.connections.enter(&chain, self.listener.engine.direction);
        let info = self.info(direct, &silence);
        let first = tcp::first(&self.worker, proxy, &fate, info, &self.stream, self.deadline()).await;
        let seen = match first.who {
            Who::Server => Some(silence),
            Who::Client => match self.look(false).await {
                Some(Heard::Seen(seen)) => Some(seen),
                Some(Heard::Silence) | None => None,
            },
            Who::Late => {
                self.stats.downstream_pre_cx_timeout.inc();
                Some(silence).filter(|_| self.listener.engine.continues_on_timeout)
            }
            Who::Nobody => None,
        };
        let reached = first.reached;
        (seen, reached.map(|reached| (Arc::clone(&chain), reached)))
    }

    /// When inspection has to be over.
    fn deadline(&self) -> Option<Instant> {
        self.listener.engine.inspect_timeout.map(|timeout| self.began + timeout)
    }

    async fn hand_over(self, chain: &Arc<LiveChain>, info: Arc<ConnectionInfo>, early: Option<Reached>) {
        let Arriving { worker, listener, stream, read, .. } = self;
        let fate = worker.connections.enter(chain, listener.engine.direction);
        let wire = Wire::new(Socket::Plain(stream), read);
        match &chain.terminal {
            LiveTerminal::Close => {}
            LiveTerminal::Tcp(proxy) => {
                tcp::serve(&worker, proxy, &fate, info, &chain.name, (wire, early)).await
            }
            LiveTerminal::Http(manager) => {
                let scope = HttpScope {
                    stats: manager.stats.on(&worker.writer),
                    worker,
                    manager: Arc::clone(manager),
                    connection: info,
                    fate,
                };
                let limit = usize::try_from(listener.engine.buffer_limit).unwrap_or(usize::MAX);
                http1::serve_either(scope, wire, limit).await;
            }
        }
    }

    fn log(&self, info: Arc<ConnectionInfo>, flags: Option<ResponseFlags>) {
        let mut stream = StreamInfo::new(info, self.worker.since_epoch(self.began), None);
        stream.flags.set(flags.unwrap_or_default());
        stream.ended = Some(self.began.elapsed());
        let view = StreamView { info: &stream, request: None, response: None, trailers: None };
        self.listener.log(&self.worker, view, self.worker.random());
    }

    /// What the listener's inspectors make of it; `None` if the connection is to be closed.
    async fn inspect(&mut self) -> Option<Heard> {
        let listener = Arc::clone(&self.listener);
        let inspectors = &listener.engine.inspectors;
        if let Some(rules) = inspectors.proxy_protocol()
            && !self.read_proxy_header(*rules, self.deadline()).await
        {
            return None;
        }
        match inspectors.wants_bytes(self.ends.destination.port()) {
            true => self.look(true).await,
            false => Some(Heard::Seen(Seen::default())),
        }
    }

    /// Reads a PROXY header; `false` if the connection is to be closed.
    async fn read_proxy_header(&mut self, rules: ProxyProtocol, deadline: Option<Instant>) -> bool {
        loop {
            match parse(&self.read) {
                Ok(Progress::NeedMore) => {}
                Ok(Progress::Absent) => return self.has_no_proxy_header(rules),
                Ok(Progress::Done { header, length }) => {
                    let is_allowed = match header.version {
                        Version::V1 => rules.allows_v1,
                        Version::V2 => rules.allows_v2,
                    };
                    if !is_allowed {
                        return self.has_no_proxy_header(rules);
                    }
                    if let Some(addresses) = header.addresses {
                        self.ends.source = addresses.source;
                        self.ends.destination = addresses.destination;
                        self.is_restored = true;
                    }
                    self.read.advance(length);
                    return true;
                }
                Err(error) => {
                    tracing::debug!(%error, "PROXY protocol");
                    self.stats.downstream_listener_filter_error.inc();
                    return false;
                }
            }
            if !matches!(self.more(deadline).await, More::Bytes) {
                self.stats.downstream_listener_filter_remote_close.inc();
                return false;
            }
        }
    }

    fn has_no_proxy_header(&self, rules: ProxyProtocol) -> bool {
        if !rules.may_be_absent {
            self.stats.downstream_listener_filter_error.inc();
        }
        rules.may_be_absent
    }

    /// Looks at what comes. `may_be_silent`: if nothing does within [`SILENCE`], that is an answer too.
    async fn look(&mut self, may_be_silent: bool) -> Option<Heard> {
        let listener = Arc::clone(&self.listener);
        let inspectors = &listener.engine.inspectors;
        let (port, deadline) = (self.ends.destination.port(), self.deadline());
        let silence = self.began + SILENCE;
        let mut is_over = false;
        loop {
            match inspectors.look_at(port, &self.read, is_over) {
                Look::Done(seen) => return Some(Heard::Seen(seen)),
                Look::Close(why) => {
                    tracing::debug!(why, "inspection");
                    self.stats.downstream_listener_filter_error.inc();
                    return None;
                }
                Look::NeedMore if is_over => return Some(Heard::Seen(Seen::default())),
                Look::NeedMore => {}
            }
            let until = match may_be_silent && self.read.is_empty() && self.serves_silence() {
                true => Some(deadline.map_or(silence, |deadline| deadline.min(silence))),
                false => deadline,
            };
            match self.more(until).await {
                More::Bytes => {}
                More::Nothing if self.read.is_empty() => {
                    self.stats.downstream_listener_filter_remote_close.inc();
                    return None;
                }
                More::Nothing => is_over = true,
                More::TooLate if until != deadline => return Some(Heard::Silence),
                More::TooLate => {
                    self.stats.downstream_pre_cx_timeout.inc();
                    if !self.listener.engine.continues_on_timeout {
                        return None;
                    }
                    is_over = true;
                }
            }
        }
    }

    /// Whether the chain of a connection of which nothing is known carries bytes.
    fn serves_silence(&self) -> bool {
        let chain = self.listener.chain(self.ends, &Seen::default());
        chain.is_some_and(|chain| matches!(chain.terminal, LiveTerminal::Tcp(_)))
    }

    async fn more(&mut self, deadline: Option<Instant>) -> More {
        let read = self.stream.read_buf(&mut self.read);
        let read = match deadline {
            Some(deadline) => match timeout_at(deadline, read).await {
                Ok(read) => read,
                Err(_) => return More::TooLate,
            },
            None => read.await,
        };
        match read {
            Ok(0) | Err(_) => More::Nothing,
            Ok(_) => More::Bytes,
        }
    }
}

/// What came of waiting for more.
enum More {
    Bytes,
    Nothing,
    TooLate,
}
