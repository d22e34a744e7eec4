//! Outlier detection: hosts that answer badly, or cannot be reached, are taken out for a while.
//!
//! What it is: Envoy's detectors (errors in a row, success rates, failure percentages), told of every outcome by the
//! workers and swept at intervals by one thread. What it deliberately is not: a timer; the clock is an argument.
//!
//! Invariant: never more hosts are out at once than `max_ejection_percent` of those there are (one, if so configured),
//! however many workers see errors at the same moment.

mod record;
mod stats;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::balance::{HealthFlags, Host};
use crate::cluster::OutlierSettings;
pub(crate) use record::HostRecord;
use record::RateRecord;
pub use stats::OutlierCounters;

/// How a request, or an attempt to reach a host, went (Envoy's `Outlier::Result`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The host answered with this status; for gRPC, Envoy's HTTP status for it.
    Status(u16),
    /// A connection to it came about; its request is still to be judged.
    Connected,
    /// A connection to it came about, and that is all there is to judge (TCP).
    ConnectedFinal,
    /// No connection came about.
    ConnectFailed,
    /// It did not answer, or could not be reached, in time.
    Timeout,
    /// It broke the connection or the protocol during a request.
    RequestFailed,
    /// The request was well, in a protocol without statuses.
    RequestSucceeded,
}

/// What was detected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detection {
    /// Responses of 5xx in a row.
    Consecutive5xx,
    /// Responses of 502, 503 and 504 in a row.
    ConsecutiveGatewayFailure,
    /// Failures to reach it in a row.
    ConsecutiveLocalOriginFailure,
    /// Fewer good responses than others have.
    SuccessRate,
    /// Fewer successful attempts to reach it than others have.
    SuccessRateLocalOrigin,
    /// Too few good responses.
    FailurePercentage,
    /// Too few successful attempts to reach it.
    FailurePercentageLocalOrigin,
}

/// The detector of a cluster.
#[derive(Debug)]
pub struct OutlierDetector {
    settings: OutlierSettings,
    /// Hosts of the cluster.
    hosts: AtomicU64,
    stats: Arc<OutlierCounters>,
    /// When the next sweep is due, in milliseconds.
    next_sweep: AtomicU64,
}

impl OutlierDetector {
    pub(crate) fn new(settings: OutlierSettings, stats: Arc<OutlierCounters>) -> OutlierDetector {
        OutlierDetector { settings, hosts: AtomicU64::new(0), stats, next_sweep: AtomicU64::new(0) }
    }

    /// Its settings.
    pub fn settings(&self) -> &OutlierSettings {
        &self.settings
    }

    /// Its counters.
    pub fn stats(&self) -> &Arc<OutlierCounters> {
        &self.stats
    }

    pub(crate) fn set_hosts(&self, count: usize) {
        self.hosts.store(count as u64, Ordering::Relaxed);
    }

    /// Hears of an outcome; whether the host is ejected for it. `random` decides what is enforced in part only, and
    /// how long beyond its time the host stays out.
    pub(crate) fn report(&self, host: &Host, outcome: Outcome, now: Duration, random: u64) -> bool {
        let detected = if self.settings.splits_local_origin {
            self.split(host, outcome)
        } else {
            let status = match outcome {
                Outcome::Status(status) => status,
                Outcome::Connected => return false,
                Outcome::ConnectedFinal | Outcome::RequestSucceeded => 200,
                Outcome::ConnectFailed => 503,
                Outcome::Timeout => 504,
                Outcome::RequestFailed => 500,
            };
            self.status(host, status)
        };
        let mut ejected = false;
        for detection in detected.into_iter().flatten() {
            ejected |= self.detected(host, detection, now, random);
        }
        ejected
    }

    fn split(&self, host: &Host, outcome: Outcome) -> [Option<Detection>; 2] {
        let record = &host.state.outlier;
        match outcome {
            Outcome::Status(status) => self.status(host, status),
            Outcome::RequestFailed => self.status(host, 500),
            Outcome::RequestSucceeded => self.status(host, 200),
            Outcome::Connected | Outcome::ConnectedFinal => {
                record.local.add(true);
                record.consecutive_local.set(0);
                [None, None]
            }
            Outcome::ConnectFailed | Outcome::Timeout => {
                record.local.add(false);
                let limit = self.settings.consecutive_local_origin_failure;
                [
                    record
                        .reaches(&record.consecutive_local, limit)
                        .then_some(Detection::ConsecutiveLocalOriginFailure),
                    None,
                ]
            }
        }
    }

    fn status(&self, host: &Host, status: u16) -> [Option<Detection>; 2] {
        let record = &host.state.outlier;
        let good = !(500..600).contains(&status);
        record.external.add(good);
        if good {
            record.consecutive_5xx.set(0);
            record.consecutive_gateway.set(0);
            return [None, None];
        }
        let gateway = if (502..=504).contains(&status) {
            record.reaches(&record.consecutive_gateway, self.settings.consecutive_gateway_failure)
        } else {
            record.consecutive_gateway.set(0);
            false
        };
        let errors = record.reaches(&record.consecutive_5xx, self.settings.consecutive_5xx);
        [gateway.then_some(Detection::ConsecutiveGatewayFailure), errors.then_some(Detection::Consecutive5xx)]
    }

    /// Acts upon what was detected; whether the host is ejected for it.
    fn detected(&self, host: &Host, detection: Detection, now: Duration, random: u64) -> bool {
        let record = &host.state.outlier;
        // The row begins anew, whatever becomes of this one.
        match detection {
            Detection::Consecutive5xx => record.consecutive_5xx.set(0),
            Detection::ConsecutiveGatewayFailure => record.consecutive_gateway.set(0),
            Detection::ConsecutiveLocalOriginFailure => record.consecutive_local.set(0),
            _ => {}
        }
        if host.state.flags().any(HealthFlags::FAILED_OUTLIER) || host.is_gone() {
            return false;
        }
        self.stats.detected(detection).inc();
        if !self.reserve() {
            self.stats.ejections_overflow.inc();
            return false;
        }
        if matches!(detection, Detection::Consecutive5xx | Detection::SuccessRate) {
            self.stats.ejections_total.inc();
        }
        // 32 bits decide whether, the others how long.
        let enforced = random % 100 < u64::from(self.enforced_percent(detection));
        if !enforced || !host.state.set(HealthFlags::FAILED_OUTLIER) {
            self.stats.ejections_active.dec();
            return false;
        }
        self.stats.enforced(detection).inc();
        self.stats.ejections_enforced_total.inc();
        record.eject(&self.settings, now, random >> 32);
        true
    }

    /// A place among those that may be out, if there is one.
    fn reserve(&self) -> bool {
        let hosts = self.hosts.load(Ordering::Relaxed);
        let may = |out: u64| {
            let first = self.settings.always_ejects_one && out == 0;
            let within = (out + 1) * 100 <= u64::from(self.settings.max_ejection_percent.min(100)) * hosts;
            first || within
        };
        self.stats.ejections_active.inc_if(may)
    }

    fn enforced_percent(&self, detection: Detection) -> u32 {
        let enforcing = &self.settings.enforcing;
        match detection {
            Detection::Consecutive5xx => enforcing.consecutive_5xx,
            Detection::ConsecutiveGatewayFailure => enforcing.consecutive_gateway_failure,
            Detection::ConsecutiveLocalOriginFailure => enforcing.consecutive_local_origin_failure,
            Detection::SuccessRate => enforcing.success_rate,
            Detection::SuccessRateLocalOrigin => enforcing.local_origin_success_rate,
            Detection::FailurePercentage => enforcing.failure_percentage,
            Detection::FailurePercentageLocalOrigin => enforcing.failure_percentage_local_origin,
        }
    }

    /// Sweeps if it is time to; whether a host was ejected or came back.
    pub(crate) fn sweep<'a>(
        &self,
        hosts: impl Iterator<Item = &'a Arc<Host>>,
        now: Duration,
        random: u64,
    ) -> bool {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let due = self.next_sweep.load(Ordering::Relaxed);
        if due == 0 {
            // The first interval begins now.
            self.next_sweep.store(millis(now + self.settings.interval), Ordering::Relaxed);
            return false;
        }
        if millis(now) < due {
            return false;
        }
        self.next_sweep.store(millis(now + self.settings.interval), Ordering::Relaxed);
        let hosts: Vec<_> = hosts.collect();
        let mut changed = false;
        for host in &hosts {
            changed |= self.uneject_if_over(host, now);
        }
        for monitor in [Monitor::External, Monitor::Local] {
            changed |= self.compare(&hosts, monitor, now, random);
        }
        changed
    }

    fn uneject_if_over(&self, host: &Host, now: Duration) -> bool {
        let record = &host.state.outlier;
        if !host.state.flags().any(HealthFlags::FAILED_OUTLIER) {
            record.was_well();
            return false;
        }
        record.is_over(&self.settings, now) && self.uneject(host)
    }

    /// Lets a host back in; whether it was out.
    pub(crate) fn uneject(&self, host: &Host) -> bool {
        let record = &host.state.outlier;
        for count in [&record.consecutive_5xx, &record.consecutive_gateway, &record.consecutive_local] {
            count.set(0);
        }
        let was_out = host.state.clear(HealthFlags::FAILED_OUTLIER);
        if was_out {
            self.stats.ejections_active.dec();
        }
        was_out
    }

    /// Compares the success rates of the interval that has ended.
    fn compare(&self, hosts: &[&Arc<Host>], monitor: Monitor, now: Duration, random: u64) -> bool {
        let settings = &self.settings;
        let (mut for_rate, mut for_percentage) = (Vec::new(), Vec::new());
        let least = settings.success_rate_volume.min(settings.failure_percentage_volume);
        for host in hosts {
            let rates = monitor.of(&host.state.outlier);
            let (good, all) = rates.take();
            rates.set_rate(None);
            if all == 0 || host.state.flags().any(HealthFlags::FAILED_OUTLIER) {
                continue;
            }
            let rate = good as f64 * 100.0 / all as f64;
            if all >= u64::from(least) {
                rates.set_rate(Some(rate));
            }
            if all >= u64::from(settings.success_rate_volume) {
                for_rate.push((*host, rate));
            }
            if all >= u64::from(settings.failure_percentage_volume) {
                for_percentage.push((*host, rate));
            }
        }
        let mut changed = false;
        if !for_rate.is_empty() && for_rate.len() >= settings.success_rate_hosts as usize {
            let threshold = ejection_threshold(&for_rate, settings.success_rate_stdev_factor);
            for (host, _) in for_rate.iter().filter(|(_, rate)| *rate < threshold) {
                self.stats.ejections_success_rate.inc();
                changed |= self.detected(host, monitor.success_rate(), now, spread(random, host));
            }
        }
        if !for_percentage.is_empty() && for_percentage.len() >= settings.failure_percentage_hosts as usize {
            let threshold = f64::from(settings.failure_percentage_threshold);
            for (host, _) in for_percentage.iter().filter(|(_, rate)| 100.0 - rate >= threshold) {
                changed |= self.detected(host, monitor.failure_percentage(), now, spread(random, host));
            }
        }
        changed
    }
}

/// A random number of each host's own from one for all.
fn spread(random: u64, host: &Host) -> u64 {
    xxhash_rust::xxh64::xxh64(host.name.as_bytes(), random)
}

/// Success rates below this are outliers: so many standard deviations below the mean.
fn ejection_threshold(rates: &[(&Arc<Host>, f64)], factor: u32) -> f64 {
    let count = rates.len() as f64;
    let mean = rates.iter().map(|(_, rate)| rate).sum::<f64>() / count;
    let variance = rates.iter().map(|(_, rate)| (rate - mean).powi(2)).sum::<f64>() / count;
    mean - variance.sqrt() * f64::from(factor) / 1_000.0
}

/// Which success rates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Monitor {
    External,
    Local,
}

impl Monitor {
    fn of(self, record: &HostRecord) -> &RateRecord {
        match self {
            Monitor::External => &record.external,
            Monitor::Local => &record.local,
        }
    }

    fn success_rate(self) -> Detection {
        match self {
            Monitor::External => Detection::SuccessRate,
            Monitor::Local => Detection::SuccessRateLocalOrigin,
        }
    }

    fn failure_percentage(self) -> Detection {
        match self {
            Monitor::External => Detection::FailurePercentage,
            Monitor::Local => Detection::FailurePercentageLocalOrigin,
        }
    }
}
