//! What outlier detection knows of a host.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::balance::Counter;
use crate::cluster::OutlierSettings;

/// What outlier detection knows of a host. All workers add to it.
#[derive(Debug, Default)]
pub(crate) struct HostRecord {
    pub consecutive_5xx: Counter,
    pub consecutive_gateway: Counter,
    pub consecutive_local: Counter,
    /// What it answered.
    pub external: RateRecord,
    /// Whether it could be reached.
    pub local: RateRecord,
    /// Ejections that its next one is longer for.
    backoff: Counter,
    /// When it was ejected last, in milliseconds.
    ejected: Counter,
    /// How much longer than its time it stays out, in milliseconds.
    jitter: Counter,
}

/// Outcomes of the running interval, and the rate of the last one.
#[derive(Debug, Default)]
pub(crate) struct RateRecord {
    good: Counter,
    all: Counter,
    /// Bits of the rate's complement to 100: 0, what everything begins with, is no rate.
    rate: AtomicU64,
}

impl RateRecord {
    pub(super) fn add(&self, good: bool) {
        self.all.inc();
        if good {
            self.good.inc();
        }
    }

    /// Good outcomes and all, from which the next interval begins anew.
    pub(super) fn take(&self) -> (u64, u64) {
        let all = self.all.take();
        // Others may have come between the two.
        (self.good.take().min(all), all)
    }

    pub(super) fn set_rate(&self, rate: Option<f64>) {
        // 1 to 101, so that no rate has all bits 0.
        self.rate.store(rate.map_or(0, |rate| (rate + 1.0).to_bits()), Ordering::Relaxed);
    }

    pub(crate) fn rate(&self) -> Option<f64> {
        match self.rate.load(Ordering::Relaxed) {
            0 => None,
            bits => Some(f64::from_bits(bits) - 1.0),
        }
    }
}

impl HostRecord {
    /// Counts one more in a row; whether that makes `limit`.
    pub(super) fn reaches(&self, row: &Counter, limit: u32) -> bool {
        row.inc_and_get() == u64::from(limit)
    }

    pub(super) fn eject(&self, settings: &OutlierSettings, now: Duration, random: u64) {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.ejected.set(millis(now));
        self.jitter.set(match millis(settings.max_jitter) {
            0 => 0,
            most => random % (most + 1),
        });
        let base = millis(settings.base_ejection_time);
        if self.backoff.get().saturating_mul(base) < millis(settings.max_ejection_time) + base {
            self.backoff.inc();
        }
    }

    /// Whether its time out is over.
    pub(super) fn is_over(&self, settings: &OutlierSettings, now: Duration) -> bool {
        let times = u32::try_from(self.backoff.get()).unwrap_or(u32::MAX);
        let out = settings.base_ejection_time.saturating_mul(times).min(settings.max_ejection_time);
        let until = Duration::from_millis(self.ejected.get() + self.jitter.get()).saturating_add(out);
        until <= now
    }

    /// An interval without an ejection makes the next one shorter.
    pub(super) fn was_well(&self) {
        self.backoff.dec_above_zero();
    }
}
