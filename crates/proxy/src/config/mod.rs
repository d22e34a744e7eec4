//! What all workers share: configuration that is in force, behind atomic pointers, and what counts over all of them.

mod cluster;
mod convert;
mod http2;
mod listener;
mod manager;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use ostro_engine::cluster::Bind;
use tokio::time::Instant;

use crate::access_log::Logs;
use crate::istio::Identity;
use crate::stats::Stats;

pub(crate) use cluster::{Clusters, LiveCluster};
pub(crate) use convert::{connect_options, family, listen_options, mark, socket_option};
pub(crate) use http2::{http2_client, http2_server};
pub(crate) use listener::{LiveChain, LiveListener, LiveListeners, LiveTcp, LiveTerminal};
pub(crate) use manager::{Manager, RouteSlot, RouteSlots};

/// What all workers share.
pub(crate) struct Shared {
    /// Clusters that are in force.
    pub clusters: Clusters,
    /// Statistics.
    pub stats: Stats,
    /// Access logs.
    pub logs: Logs,
    /// Faults that are being injected.
    pub active_faults: Count,
    /// Connections of clients that are open.
    pub connections: Count,
    /// Numbers for connections.
    next_connection: AtomicU64,
    clock: Clock,
    /// The proxy's own address, as it is told to others.
    pub own_ip: IpAddr,
    /// Where connections of clusters come from that do not say it themselves.
    pub bind: Bind,
    /// The proxy as Istio's filters tell it.
    pub identity: Arc<Identity>,
}

impl Shared {
    /// Nothing is configured yet.
    pub fn new(stats: Stats, logs: Logs, own_ip: IpAddr, bind: Bind, identity: Identity) -> Shared {
        Shared {
            clusters: Clusters::default(),
            stats,
            logs,
            active_faults: Count::default(),
            connections: Count::default(),
            next_connection: AtomicU64::new(1),
            clock: Clock::now(),
            own_ip,
            bind,
            identity: Arc::new(identity),
        }
    }

    /// A number for a connection, unique in the process.
    pub fn number_connection(&self) -> u64 {
        self.next_connection.fetch_add(1, Ordering::Relaxed)
    }

    /// The process's clock.
    pub fn clock(&self) -> Clock {
        self.clock
    }
}

/// Relates the moments of timers to those of the world.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    began: Instant,
    since_epoch: Duration,
}

impl Clock {
    /// A clock of which this is the beginning.
    pub fn now() -> Clock {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock { began: Instant::now(), since_epoch }
    }

    /// A moment since the epoch.
    pub fn since_epoch(&self, at: Instant) -> Duration {
        self.since_epoch + at.saturating_duration_since(self.began)
    }

    /// Now, since the clock began.
    pub fn monotonic(&self) -> Duration {
        self.began.elapsed()
    }
}

/// How many of something there are now, in the process.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    /// How many there are.
    pub fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// One more, until what is returned is dropped.
    pub fn enter(&self) -> Counted<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Counted(&self.0)
    }
}

/// One of what is counted.
#[derive(Debug)]
pub(crate) struct Counted<'c>(&'c AtomicU64);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A value that is replaced as a whole, with a number that changes when it is.
pub(crate) struct Versioned<T> {
    value: ArcSwap<T>,
    version: AtomicU64,
}

impl<T: Default> Default for Versioned<T> {
    fn default() -> Self {
        Versioned { value: ArcSwap::from_pointee(T::default()), version: AtomicU64::new(1) }
    }
}

impl<T> Versioned<T> {
    /// The value.
    pub fn load(&self) -> Arc<T> {
        self.value.load_full()
    }

    /// The number of the value that [`load`](Self::load) gives from now on, or of an earlier one.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Puts another value in its place. One thread does.
    pub fn store(&self, value: T) {
        self.value.store(Arc::new(value));
        self.version.fetch_add(1, Ordering::Release);
    }
}
