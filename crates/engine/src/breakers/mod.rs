//! Circuit breakers: how much of a cluster may be open or waiting at once, exact over all workers.
//!
//! What it is: counters that all workers share and permits that give back what they took when they are dropped. What it
//! deliberately is not: a queue; who waits for what is the caller's, except that connections have [`Wait`].
//!
//! Invariant: there are never more permits of a kind than its limit was when they were taken. Envoy lets every worker
//! have one connection in spite of `max_connections`; here `max_connections: 1` means one.

mod budget;
mod waiting;

use std::sync::Arc;
use std::time::Duration;

use crate::balance::{Counter, HostState};
use crate::cluster::{BreakerThresholds, Thresholds};
use crate::{Priority, ResponseFlags};
use budget::Recent;
pub use waiting::Wait;
use waiting::Waiting;

/// A limit was reached: which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Overflow {
    /// Connections of the cluster.
    Connections,
    /// Connections of the host.
    HostConnections,
    /// Requests that wait for a connection.
    Pending,
    /// Requests.
    Requests,
    /// Retries.
    Retries,
    /// Connection pools.
    Pools,
}

impl Overflow {
    /// What access logs say of it.
    pub fn flags(self) -> ResponseFlags {
        ResponseFlags::UPSTREAM_OVERFLOW
    }
}

/// The breakers of a cluster.
#[derive(Debug)]
pub struct Breakers {
    limits: Thresholds,
    counts: Arc<Counts>,
}

/// What is open or waiting; outlives versions of its cluster.
#[derive(Debug, Default)]
struct Counts {
    default: PriorityCounts,
    high: PriorityCounts,
}

#[derive(Debug, Default)]
struct PriorityCounts {
    connections: Counter,
    pending: Counter,
    requests: Counter,
    retries: Counter,
    pools: Counter,
    recent: Recent,
    waiting: Waiting,
}

/// What statistics say of a priority's breakers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// No connection may be added.
    pub cx_open: bool,
    /// No pool may be added.
    pub cx_pool_open: bool,
    /// No request may be added.
    pub rq_open: bool,
    /// No waiting request may be added.
    pub rq_pending_open: bool,
    /// No retry may be added.
    pub rq_retry_open: bool,
    /// Connections.
    pub connections: u64,
    /// Waiting requests.
    pub pending: u64,
    /// Requests.
    pub requests: u64,
    /// Retries.
    pub retries: u64,
    /// What is left of each, if that is tracked.
    pub remaining: Option<Remaining>,
}

/// What is left of limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remaining {
    /// Connections.
    pub cx: u64,
    /// Pools.
    pub cx_pools: u64,
    /// Waiting requests.
    pub pending: u64,
    /// Requests.
    pub rq: u64,
    /// Retries; 0 under a budget, as in Envoy.
    pub retries: u64,
}

impl Counts {
    fn of(&self, priority: Priority) -> &PriorityCounts {
        match priority {
            Priority::Default => &self.default,
            Priority::High => &self.high,
        }
    }
}

impl Breakers {
    pub(crate) fn new(limits: Thresholds) -> Breakers {
        Breakers { limits, counts: Arc::default() }
    }

    /// Other limits for what is open already.
    pub(crate) fn with_limits(&self, limits: Thresholds) -> Breakers {
        // Who waits for the old limit may find room within the new one.
        self.counts.default.waiting.wake_all();
        self.counts.high.waiting.wake_all();
        Breakers { limits, counts: Arc::clone(&self.counts) }
    }

    fn part(&self, priority: Priority) -> (&BreakerThresholds, &PriorityCounts) {
        (self.limits.of(priority), self.counts.of(priority))
    }

    /// A connection to a host, if neither the cluster nor the host has all it may.
    pub fn connect(&self, host: &Arc<HostState>, priority: Priority) -> Result<ConnectionPermit, Overflow> {
        let (limits, counts) = self.part(priority);
        let [default, high] = self.limits.host_connections;
        let host_limit = if priority == Priority::High { high } else { default };
        if !host.cx_active.inc_below(host_limit.map_or(u64::MAX, u64::from)) {
            return Err(Overflow::HostConnections);
        }
        if !counts.connections.inc_below(limits.connections.into()) {
            host.cx_active.dec();
            return Err(Overflow::Connections);
        }
        host.cx_total.inc();
        Ok(ConnectionPermit { counts: Arc::clone(&self.counts), host: Arc::clone(host), priority })
    }

    /// A place for a request to wait for a connection.
    pub fn pend(&self, priority: Priority) -> Result<PendingPermit, Overflow> {
        let (limits, counts) = self.part(priority);
        match counts.pending.inc_below(limits.pending.into()) {
            true => Ok(PendingPermit { counts: Arc::clone(&self.counts), priority }),
            false => Err(Overflow::Pending),
        }
    }

    /// A request to a host.
    pub fn request(
        &self,
        host: &Arc<HostState>,
        priority: Priority,
        now: Duration,
    ) -> Result<RequestPermit, Overflow> {
        let (limits, counts) = self.part(priority);
        if !counts.requests.inc_below(limits.requests.into()) {
            return Err(Overflow::Requests);
        }
        host.rq_active.inc();
        host.rq_total.inc();
        let recent = limits.budget.map(|budget| budget.interval).filter(|interval| !interval.is_zero());
        let began = recent.map(|interval| budget::part_of(interval, now));
        Ok(RequestPermit { counts: Arc::clone(&self.counts), host: Arc::clone(host), priority, began })
    }

    /// A retry.
    pub fn retry(&self, priority: Priority, now: Duration) -> Result<RetryPermit, Overflow> {
        let (_, counts) = self.part(priority);
        match counts.retries.inc_below(self.retry_limit(priority, now)) {
            true => Ok(RetryPermit { counts: Arc::clone(&self.counts), priority }),
            false => Err(Overflow::Retries),
        }
    }

    /// A connection pool of a worker.
    pub fn pool(&self, priority: Priority) -> Result<PoolPermit, Overflow> {
        let (limits, counts) = self.part(priority);
        match counts.pools.inc_below(limits.pools.into()) {
            true => Ok(PoolPermit { counts: Arc::clone(&self.counts), priority }),
            false => Err(Overflow::Pools),
        }
    }

    /// How many retries there may be now.
    fn retry_limit(&self, priority: Priority, now: Duration) -> u64 {
        let (limits, counts) = self.part(priority);
        let Some(budget) = limits.budget else { return limits.retries.into() };
        let mut in_flight = counts.requests.get() + counts.pending.get();
        if !budget.interval.is_zero() {
            in_flight += counts.recent.count(budget::part_of(budget.interval, now));
        }
        // A share of a count: not negative, and far below what fits.
        let share = (budget.percent / 100.0 * in_flight as f64) as u64;
        share.max(budget.least.into())
    }

    /// Requests of both priorities in flight.
    pub fn requests_in_flight(&self) -> u64 {
        self.counts.default.requests.get() + self.counts.high.requests.get()
    }

    /// Waits for a connection of this priority to end: `waker` is woken when one has, or at once if there is room
    /// already. Then [`Breakers::connect`] is worth another try; it may fail again, and the wait goes on as long as what
    /// is returned is kept.
    pub fn wait_for_connection(&self, priority: Priority, waker: &std::task::Waker) -> Wait {
        let (limits, counts) = self.part(priority);
        let wait = Wait::new(Arc::clone(&self.counts), priority, waker);
        if counts.connections.get() < limits.connections.into() {
            counts.waiting.wake_one();
        }
        wait
    }

    /// Whether somebody waits for a connection: whoever has an idle one is to close it.
    pub fn is_connection_wanted(&self, priority: Priority) -> bool {
        self.counts.of(priority).waiting.is_any()
    }

    /// What statistics say.
    pub fn gauges(&self, priority: Priority, now: Duration) -> Gauges {
        let (limits, counts) = self.part(priority);
        let retry_limit = self.retry_limit(priority, now);
        let (connections, pending) = (counts.connections.get(), counts.pending.get());
        let (requests, retries) = (counts.requests.get(), counts.retries.get());
        let left = |limit: u32, used: u64| u64::from(limit).saturating_sub(used);
        let remaining = limits.tracks_remaining.then(|| Remaining {
            cx: left(limits.connections, connections),
            cx_pools: left(limits.pools, counts.pools.get()),
            pending: left(limits.pending, pending),
            rq: left(limits.requests, requests),
            retries: if limits.budget.is_some() { 0 } else { left(limits.retries, retries) },
        });
        Gauges {
            cx_open: connections >= limits.connections.into(),
            cx_pool_open: counts.pools.get() >= limits.pools.into(),
            rq_open: requests >= limits.requests.into(),
            rq_pending_open: pending >= limits.pending.into(),
            rq_retry_open: retries >= retry_limit,
            connections,
            pending,
            requests,
            retries,
            remaining,
        }
    }

    /// The limits of a priority.
    pub fn limits(&self, priority: Priority) -> &BreakerThresholds {
        self.limits.of(priority)
    }
}

/// A connection that counts; it no longer does when this is dropped.
#[derive(Debug)]
#[must_use = "a permit that is dropped is given back"]
pub struct ConnectionPermit {
    counts: Arc<Counts>,
    host: Arc<HostState>,
    priority: Priority,
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.host.cx_active.dec();
        let counts = self.counts.of(self.priority);
        counts.connections.dec();
        counts.waiting.wake_one();
    }
}

/// A request that waits for a connection.
#[derive(Debug)]
#[must_use = "a permit that is dropped is given back"]
pub struct PendingPermit {
    counts: Arc<Counts>,
    priority: Priority,
}

impl Drop for PendingPermit {
    fn drop(&mut self) {
        self.counts.of(self.priority).pending.dec();
    }
}

/// A request in flight.
#[derive(Debug)]
#[must_use = "a permit that is dropped is given back"]
pub struct RequestPermit {
    counts: Arc<Counts>,
    host: Arc<HostState>,
    priority: Priority,
    /// Part of time in which it began, where a retry budget wants to know.
    began: Option<u64>,
}

impl Drop for RequestPermit {
    fn drop(&mut self) {
        self.host.rq_active.dec();
        let counts = self.counts.of(self.priority);
        if let Some(began) = self.began {
            counts.recent.ended(began);
        }
        counts.requests.dec();
    }
}

/// A retry: from the decision to retry until the try is over.
#[derive(Debug)]
#[must_use = "a permit that is dropped is given back"]
pub struct RetryPermit {
    counts: Arc<Counts>,
    priority: Priority,
}

impl Drop for RetryPermit {
    fn drop(&mut self) {
        self.counts.of(self.priority).retries.dec();
    }
}

/// A connection pool.
#[derive(Debug)]
#[must_use = "a permit that is dropped is given back"]
pub struct PoolPermit {
    counts: Arc<Counts>,
    priority: Priority,
}

impl Drop for PoolPermit {
    fn drop(&mut self) {
        self.counts.of(self.priority).pools.dec();
    }
}
