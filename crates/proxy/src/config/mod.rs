//! What all workers share: configuration that is in force, behind atomic pointers, and what counts over all of them.

mod cluster;
mod convert;
mod http2;
mod listener;
mod manager;

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use ostro_engine::cluster::Bind;
use tokio::sync::Notify;
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
    /// Most of them, over all listeners that are not exempt.
    pub max_connections: Option<u64>,
    /// Hosts of a cluster have become healthy or not. Who is to be chosen is then worked out beside the workers: rings
    /// and tables are large.
    pub health_changed: Notify,
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
    pub fn new(own_ip: IpAddr, bind: Bind, identity: Identity, max_connections: Option<u64>) -> Shared {
        Shared {
            clusters: Clusters::default(),
            stats: Stats::default(),
            logs: Logs::default(),
            active_faults: Count::default(),
            connections: Count::default(),
            max_connections,
            health_changed: Notify::new(),
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

    /// A moment since the clock began. One that is too far off is a day away: whoever waits looks again then.
    pub fn at(&self, since: Duration) -> Instant {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        self.began.checked_add(since).unwrap_or_else(|| Instant::now() + DAY)
    }

    /// Now, since the clock began.
    pub fn monotonic(&self) -> Duration {
        self.began.elapsed()
    }
}

/// How many of something there are now, in the process.
#[derive(Debug, Default)]
pub(crate) struct Count {
    number: AtomicU64,
    none: Notify,
}

impl Count {
    /// How many there are.
    pub fn now(&self) -> u64 {
        self.number.load(Ordering::Relaxed)
    }

    /// One more, until what is returned is dropped.
    pub fn enter(&self) -> Counted<'_> {
        self.number.fetch_add(1, Ordering::Relaxed);
        Counted(self)
    }

    /// One more unless there are so many already; exact, however many try at once.
    pub fn enter_below(&self, most: u64) -> Option<Counted<'_>> {
        let add = |number| (number < most).then_some(number + 1);
        self.number.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).ok()?;
        Some(Counted(self))
    }

    /// Waits until there are none.
    pub async fn none(&self) {
        loop {
            let mut notified = pin!(self.none.notified());
            notified.as_mut().enable();
            if self.now() == 0 {
                return;
            }
            notified.await;
        }
    }
}

/// One of what is counted.
#[derive(Debug)]
pub(crate) struct Counted<'c>(&'c Count);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if self.0.number.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.none.notify_waiters();
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_counted_is_bounded_and_its_end_is_heard() {
        let count = Count::default();
        count.none().await;
        let (one, two) = (count.enter(), count.enter_below(2));
        assert!(two.is_some() && count.enter_below(2).is_none());
        drop(two);
        assert!(count.enter_below(2).is_some());
        let ended = async {
            tokio::task::yield_now().await;
            drop(one);
        };
        tokio::join!(count.none(), ended);
        assert_eq!(count.now(), 0);
    }
}
