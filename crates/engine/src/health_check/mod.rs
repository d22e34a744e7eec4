//! Active health checks: what to ask a host, when, and what the answer changes.
//!
//! What it is: Envoy's rules as a state machine; one [`Checker`] for each host that is checked. What it deliberately is
//! not: a client. Whoever has the sockets asks [`Checker::next`] when to probe, sends what [`probe`] says, and tells
//! [`Checker::finish`] how it went.
//!
//! Invariant: a host is not chosen before it has passed its first check; from then on it changes sides only as the
//! thresholds say, or at once where the host itself says that it is unwell.

pub mod probe;

use std::sync::Arc;
use std::time::Duration;

use crate::balance::{Counter, HealthFlags, Host, HostAddress, Upstream};
use crate::cluster::{HealthCheck, Intervals};

/// How a probe went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeResult {
    /// The host is well.
    Healthy,
    /// The host is well enough (`x-envoy-degraded`).
    Degraded,
    /// The host says that it is not: this counts at once.
    Unhealthy,
    /// It says so in a way that counts towards the threshold only.
    Retriable,
    /// It says so, and that it is to be left out of everything (`x-envoy-immediate-health-check-fail`).
    ImmediateFail,
    /// It could not be reached, or broke the connection.
    Network,
    /// It did not answer in time.
    Timeout,
}

/// What a probe has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// Nothing.
    Unchanged,
    /// Nothing yet: a threshold is being counted towards.
    Pending,
    /// The host's health: [`Upstream::refresh`] is to be called, and connections closed if the cluster says so.
    Changed,
}

/// Counters of a cluster's health checks (`cluster.<name>.health_check.`).
#[derive(Debug, Default)]
#[allow(missing_docs, reason = "the names are Envoy's, and Envoy's documentation is theirs")]
pub struct HealthCheckCounters {
    pub attempt: Counter,
    pub success: Counter,
    pub failure: Counter,
    pub passive_failure: Counter,
    pub network_failure: Counter,
    pub verify_cluster: Counter,
    /// Hosts that pass: a gauge.
    pub healthy: Counter,
    /// Hosts that pass, degraded: a gauge.
    pub degraded: Counter,
}

/// The checks of one host.
#[derive(Debug)]
pub struct Checker {
    upstream: Arc<Upstream>,
    settings: Arc<[HealthCheck]>,
    host: Arc<Host>,
    next: Duration,
    is_first: bool,
    successes: u32,
    failures: u32,
    /// What of the host is in the gauges.
    counted: (bool, bool),
}

impl Checker {
    /// A checker for a host of the cluster; `None` if it is not to be checked.
    pub fn new(upstream: &Arc<Upstream>, host: Arc<Host>, now: Duration, random: u64) -> Option<Checker> {
        let settings = Arc::clone(&upstream.cluster.health_checks);
        let check = settings.first()?;
        if host.health_check.disabled {
            return None;
        }
        let next = now + within(check.intervals.initial_jitter, random);
        let mut checker = Checker {
            upstream: Arc::clone(upstream),
            host,
            next,
            is_first: true,
            successes: 0,
            failures: 0,
            counted: (false, false),
            settings,
        };
        checker.count();
        Some(checker)
    }

    /// The host, and what is asked of it, go on in another version of the cluster or its endpoints.
    pub fn replace(&mut self, upstream: &Arc<Upstream>, host: Arc<Host>) {
        if !upstream.cluster.health_checks.is_empty() {
            self.settings = Arc::clone(&upstream.cluster.health_checks);
        }
        self.upstream = Arc::clone(upstream);
        self.host = host;
    }

    /// The host.
    pub fn host(&self) -> &Arc<Host> {
        &self.host
    }

    /// How it is checked.
    pub fn settings(&self) -> &HealthCheck {
        // There is one, or there would be no checker.
        #[allow(clippy::indexing_slicing, reason = "`new` and `replace` keep this non-empty")]
        &self.settings[0]
    }

    /// When the next probe is due.
    pub fn next(&self) -> Duration {
        self.next
    }

    /// Where the probe goes: the endpoint's address for health checks, or its own, at the port for health checks.
    pub fn target(&self) -> HostAddress {
        let own = &self.host.health_check;
        let mut address = match (&own.address, &self.host.address) {
            (Some(address), _) => *address,
            (None, HostAddress::Socket(address)) => *address,
            (None, pipe) => return pipe.clone(),
        };
        if let Some(port) = own.port.or(self.settings().port) {
            address.set_port(port);
        }
        HostAddress::Socket(address)
    }

    /// A probe begins; the moment by which an answer must be there. The next one is not due before [`Checker::finish`].
    pub fn begin(&mut self, now: Duration) -> Duration {
        self.upstream.health_stats.attempt.inc();
        self.next = Duration::MAX;
        now + self.settings().timeout
    }

    /// A probe is over.
    pub fn finish(&mut self, result: ProbeResult, now: Duration, random: u64) -> Transition {
        let transition = match result {
            ProbeResult::Healthy => self.succeeded(false, now),
            ProbeResult::Degraded => self.succeeded(true, now),
            ProbeResult::Unhealthy
            | ProbeResult::Retriable
            | ProbeResult::ImmediateFail
            | ProbeResult::Network
            | ProbeResult::Timeout => self.failed(result),
        };
        self.is_first = false;
        let healthy = matches!(result, ProbeResult::Healthy | ProbeResult::Degraded);
        let intervals = self.settings().intervals;
        let base = base_interval(&intervals, healthy, transition, self.upstream.was_connected());
        self.next = now + jittered(&intervals, base, random);
        self.count();
        if transition == Transition::Changed {
            self.upstream.health_changed();
        }
        transition
    }

    fn succeeded(&mut self, degraded: bool, now: Duration) -> Transition {
        let state = &self.host.state;
        self.upstream.health_stats.success.inc();
        self.failures = 0;
        let mut transition = Transition::Unchanged;
        if state.flags().any(HealthFlags::FAILED_ACTIVE) {
            self.successes += 1;
            // The first check of all decides by itself: a proxy that starts has to get going.
            if self.is_first || self.successes >= self.settings().healthy_threshold {
                self.successes = 0;
                state.clear(HealthFlags::FAILED_ACTIVE | HealthFlags::EXCLUDED);
                state.became_healthy(now);
                transition = Transition::Changed;
            } else {
                transition = Transition::Pending;
            }
        }
        if state.clear(HealthFlags::PENDING_ACTIVE) {
            transition = Transition::Changed;
        }
        let turned = match degraded {
            true => state.set(HealthFlags::DEGRADED_ACTIVE),
            false => state.clear(HealthFlags::DEGRADED_ACTIVE),
        };
        if turned && transition == Transition::Unchanged {
            transition = Transition::Changed;
        }
        if self.uneject() { Transition::Changed } else { transition }
    }

    /// Who passes health checks need not stay out for what outlier detection found.
    fn uneject(&self) -> bool {
        let flags = self.host.state.flags();
        let is_out = flags.any(HealthFlags::FAILED_OUTLIER) && !flags.any(HealthFlags::FAILED_ACTIVE);
        let outlier =
            self.upstream.outlier.as_ref().filter(|outlier| outlier.settings().health_check_unejects);
        is_out && outlier.is_some_and(|outlier| outlier.uneject(&self.host))
    }

    fn failed(&mut self, result: ProbeResult) -> Transition {
        let state = &self.host.state;
        let stats = &self.upstream.health_stats;
        stats.failure.inc();
        let network = matches!(result, ProbeResult::Network | ProbeResult::Timeout);
        if network {
            stats.network_failure.inc();
        }
        self.successes = 0;
        if result == ProbeResult::ImmediateFail {
            state.set(HealthFlags::EXCLUDED);
        }
        let mut transition = Transition::Unchanged;
        if !state.flags().any(HealthFlags::FAILED_ACTIVE) {
            self.failures += 1;
            let at_once = !network && result != ProbeResult::Retriable;
            if at_once || self.failures >= self.settings().unhealthy_threshold {
                state.set(HealthFlags::FAILED_ACTIVE);
                transition = Transition::Changed;
            } else {
                transition = Transition::Pending;
            }
        }
        if state.clear(HealthFlags::PENDING_ACTIVE) {
            transition = Transition::Changed;
        }
        transition
    }

    /// Keeps the gauges.
    fn count(&mut self) {
        let flags = self.host.state.flags();
        let healthy = !flags.any(HealthFlags::FAILED_ACTIVE);
        self.show(healthy, flags.any(HealthFlags::DEGRADED_ACTIVE));
    }

    fn show(&mut self, healthy: bool, degraded: bool) {
        let stats = &self.upstream.health_stats;
        let gauges = [(healthy, self.counted.0, &stats.healthy), (degraded, self.counted.1, &stats.degraded)];
        for (is, was, gauge) in gauges {
            match (is, was) {
                (true, false) => gauge.inc(),
                (false, true) => gauge.dec(),
                _ => {}
            }
        }
        self.counted = (healthy, degraded);
    }
}

impl Drop for Checker {
    fn drop(&mut self) {
        self.show(false, false);
    }
}

fn base_interval(intervals: &Intervals, healthy: bool, transition: Transition, connected: bool) -> Duration {
    match (connected, healthy, transition) {
        (false, true, _) => intervals.no_traffic_healthy,
        (false, false, _) => intervals.no_traffic,
        (true, true, Transition::Pending) => intervals.healthy_edge,
        (true, true, _) => intervals.healthy,
        (true, false, Transition::Pending) => intervals.unhealthy_edge,
        (true, false, _) => intervals.unhealthy,
    }
}

fn jittered(intervals: &Intervals, base: Duration, random: u64) -> Duration {
    let share = base.saturating_mul(intervals.jitter_percent) / 100;
    // Two numbers of one: the halves of its digits.
    base + within(share, random & u64::from(u32::MAX)) + within(intervals.jitter, random >> 32)
}

/// A time from zero up to, but not including, `limit`, in whole milliseconds.
fn within(limit: Duration, random: u64) -> Duration {
    let millis = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(random.checked_rem(millis).unwrap_or(0))
}
