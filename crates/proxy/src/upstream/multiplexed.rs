//! HTTP/2 connections to the hosts of one cluster, as one worker keeps them.
//!
//! A connection is opened when no other has room; requests that come while it is being opened wait for it, and fail
//! with it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::Poll;

use ostro_engine::Host;
use ostro_engine::balance::HostId;
use tokio::time::Instant;

use super::error::UpstreamError;
use super::pool::{Held, WorkerCluster};
use crate::h2::{self, Alive, Handle};
use crate::waiting::Waiting;

/// The connections to one host.
#[derive(Default)]
struct HostConnections {
    open: Vec<Open>,
    opening: Option<Rc<Opening>>,
}

/// A connection.
struct Open {
    handle: Handle,
    opened: u32,
    idle_since: Cell<Instant>,
}

/// A connection that is being opened.
#[derive(Default)]
struct Opening {
    result: RefCell<Option<Result<Handle, UpstreamError>>>,
    waiting: Waiting,
}

/// HTTP/2 connections by host.
#[derive(Default)]
pub(super) struct Multiplexed {
    hosts: RefCell<HashMap<HostId, HostConnections>>,
}

impl Multiplexed {
    /// A connection with room for a stream.
    pub fn take(&self, host: &Host, most: Option<u32>) -> Option<Handle> {
        let mut hosts = self.hosts.borrow_mut();
        let connections = hosts.get_mut(&host.id())?;
        connections.open.retain(|open| open.handle.can_open());
        let place = connections.open.iter().position(|open| open.handle.open_slots() > 0)?;
        let open = connections.open.get_mut(place)?;
        open.opened += 1;
        open.idle_since.set(Instant::now());
        let handle = open.handle.clone();
        if most.is_some_and(|most| open.opened >= most) {
            // It ends when its streams have, of which the one that begins now is the last.
            connections.open.swap_remove(place);
            let ending = handle.clone();
            tokio::task::spawn_local(async move { ending.graceful_shutdown() });
        }
        Some(handle)
    }

    /// Whether a connection is being opened; then waits until it is, or has failed. It may be over again by the time
    /// somebody is told.
    pub async fn wait(&self, host: &Host) -> Option<Result<(), UpstreamError>> {
        let opening = self.hosts.borrow().get(&host.id())?.opening.clone()?;
        let mut place = opening.waiting.place();
        let result = poll_fn(|cx| match &*opening.result.borrow() {
            Some(result) => Poll::Ready(result.clone()),
            None => {
                place.register(cx);
                Poll::Pending
            }
        });
        let result = result.await;
        place.leave();
        Some(result.and_then(|handle| match handle.fault() {
            Some(fault) if !self.is_open(host) => Err(super::http2::broken(fault)),
            _ => Ok(()),
        }))
    }

    /// Whether any connection to the host is open.
    fn is_open(&self, host: &Host) -> bool {
        let hosts = self.hosts.borrow();
        hosts
            .get(&host.id())
            .is_some_and(|connections| connections.open.iter().any(|open| !open.handle.is_closed()))
    }

    /// Begins to open a connection.
    pub fn open(&self, cluster: &Rc<WorkerCluster>, host: &Arc<Host>, held: Held) {
        let opening = Rc::new(Opening::default());
        self.hosts.borrow_mut().entry(host.id()).or_default().opening = Some(Rc::clone(&opening));
        tokio::task::spawn_local(run(Rc::downgrade(cluster), Arc::clone(host), held, opening));
    }

    fn opened(&self, host: &Host, handle: Option<Handle>) {
        let mut hosts = self.hosts.borrow_mut();
        let connections = hosts.entry(host.id()).or_default();
        connections.opening = None;
        connections.open.extend(handle.map(|handle| Open {
            handle,
            opened: 0,
            idle_since: Cell::new(Instant::now()),
        }));
    }

    /// Lets connections end that have been idle for too long, or whose host is gone; whether any is left.
    pub fn tick(
        &self,
        now: Instant,
        timeout: Option<std::time::Duration>,
        is_gone: impl Fn(HostId) -> bool,
    ) -> bool {
        let mut hosts = self.hosts.borrow_mut();
        hosts.retain(|id, connections| {
            let gone = is_gone(*id);
            connections.open.retain(|open| {
                if !open.handle.is_idle() {
                    open.idle_since.set(now);
                }
                let is_idle =
                    timeout.is_some_and(|timeout| now.duration_since(open.idle_since.get()) >= timeout);
                if gone || is_idle {
                    open.handle.graceful_shutdown();
                }
                !gone && !is_idle && open.handle.can_open()
            });
            !connections.open.is_empty() || connections.opening.is_some()
        });
        !hosts.is_empty()
    }
}

/// Opens a connection and drives it to its end.
async fn run(cluster: Weak<WorkerCluster>, host: Arc<Host>, held: Held, opening: Rc<Opening>) {
    let Some(owner) = cluster.upgrade() else { return };
    let connected = owner.connect(&host).await;
    let config = Arc::clone(owner.http2_config());
    let (result, driver) = match connected {
        Ok(socket) => {
            owner.stats.upstream_cx_http2_total.inc();
            let (driver, handle) = h2::connect(socket, config);
            let alive = Alive::new(handle.clone(), owner.upstream.cluster.http.http2.keepalive);
            owner.multiplexed.opened(&host, Some(handle.clone()));
            (Ok(handle), Some((driver, alive)))
        }
        Err(error) => {
            owner.multiplexed.opened(&host, None);
            (Err(error), None)
        }
    };
    drop(owner);
    *opening.result.borrow_mut() = Some(result);
    opening.waiting.wake_all();
    if let Some((driver, mut alive)) = driver {
        let mut driver = std::pin::pin!(driver);
        let ended = poll_fn(|cx| {
            alive.poll(cx);
            driver.as_mut().poll(cx)
        });
        if let Err(fault) = ended.await {
            tracing::debug!(%fault, host = %host.name, "an HTTP/2 connection ended");
        }
    }
    drop(held);
}
