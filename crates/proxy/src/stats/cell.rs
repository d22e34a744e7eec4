//! The cells that are counted in. Each is written by one thread.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};

/// A number that grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn inc(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, count: u64) {
        // One thread writes: this needs no read-modify-write.
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    /// How many there have been.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// From here on it counts from nothing.
    pub fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// A number that grows and shrinks. A thread's own may be negative: what one thread began another may end.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicI64);

impl Gauge {
    /// One more.
    pub fn inc(&self) {
        self.add(1);
    }

    /// One less.
    pub fn dec(&self) {
        self.add(-1);
    }

    /// So many more.
    pub fn add(&self, count: i64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    /// Exactly so many.
    pub fn set(&self, count: u64) {
        self.0.store(i64::try_from(count).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// How many there are.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    /// One more, until what is returned is dropped.
    pub fn enter(&self) -> GaugeGuard<'_> {
        self.inc();
        GaugeGuard(self)
    }
}

/// One of what a gauge counts.
#[derive(Debug)]
pub(crate) struct GaugeGuard<'g>(&'g Gauge);

impl Drop for GaugeGuard<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Counts by HTTP status.
#[derive(Debug, Default)]
pub(crate) struct Codes(OnceLock<Box<[Counter; Codes::COUNT]>>);

impl Codes {
    const FIRST: u16 = 100;
    const COUNT: usize = 500;

    /// One more of a status.
    pub fn inc(&self, status: u16) {
        let counters = self.0.get_or_init(|| Box::new(std::array::from_fn(|_| Counter::default())));
        let place = status.checked_sub(Codes::FIRST).map(usize::from);
        if let Some(counter) = place.and_then(|place| counters.get(place)) {
            counter.inc();
        }
    }

    /// Statuses that have been seen, with how often.
    pub fn seen(&self) -> impl Iterator<Item = (u16, u64)> {
        let counters = self.0.get().into_iter().flat_map(|counters| counters.iter());
        (Codes::FIRST..).zip(counters).map(|(status, counter)| (status, counter.get())).filter(|(_, n)| *n > 0)
    }
}

/// How often which values came. Values are kept to two significant digits.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: OnceLock<Box<[AtomicU32; Histogram::BUCKETS]>>,
    sum: Counter,
}

impl Histogram {
    /// Zero; 1 to 9; then 90 for each power of ten up to 10^11.
    const BUCKETS: usize = 10 + 90 * 10;

    /// One value.
    pub fn record(&self, value: u64) {
        let buckets = self.buckets.get_or_init(|| Box::new(std::array::from_fn(|_| AtomicU32::new(0))));
        if let Some(bucket) = buckets.get(Histogram::place(value)) {
            bucket.store(bucket.load(Ordering::Relaxed).saturating_add(1), Ordering::Relaxed);
        }
        self.sum.add(value);
    }

    /// Sum of all values.
    pub fn sum(&self) -> u64 {
        self.sum.get()
    }

    /// Values that have come (the least of each bucket), with how often.
    pub fn seen(&self) -> impl Iterator<Item = (u64, u64)> {
        let buckets = self.buckets.get().into_iter().flat_map(|buckets| buckets.iter());
        let counts = buckets.map(|bucket| u64::from(bucket.load(Ordering::Relaxed))).enumerate();
        counts.filter(|(_, count)| *count > 0).map(|(place, count)| (Histogram::least(place), count))
    }

    fn place(value: u64) -> usize {
        if value < 10 {
            return usize::try_from(value).unwrap_or_default();
        }
        let power = value.ilog10();
        let digits = value / 10_u64.pow(power - 1);
        let place = u64::from(power - 1) * 90 + digits;
        usize::try_from(place).unwrap_or(usize::MAX).min(Histogram::BUCKETS - 1)
    }

    /// The least value of a bucket.
    pub fn least(place: usize) -> u64 {
        if place < 10 {
            return place as u64;
        }
        let power = (place - 10) / 90;
        let digits = (place - 10) % 90 + 10;
        digits as u64 * 10_u64.pow(u32::try_from(power).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_again_to_two_digits() {
        for value in [0, 1, 9, 10, 11, 99, 100, 101, 999, 1_000, 12_345, 99_999_999] {
            let least = Histogram::least(Histogram::place(value));
            assert!(least <= value && value - least <= value / 10, "{value}: {least}");
        }
        for place in 0..Histogram::BUCKETS {
            assert_eq!(Histogram::place(Histogram::least(place)), place);
        }
    }

    #[test]
    fn cells_count() {
        let codes = Codes::default();
        codes.inc(503);
        codes.inc(503);
        codes.inc(99);
        codes.inc(700);
        assert_eq!(codes.seen().collect::<Vec<_>>(), [(503, 2)]);
        let gauge = Gauge::default();
        drop(gauge.enter());
        assert_eq!(gauge.get(), 0);
        let histogram = Histogram::default();
        histogram.record(7);
        histogram.record(123);
        assert_eq!(histogram.seen().collect::<Vec<_>>(), [(7, 1), (120, 1)]);
        assert_eq!(histogram.sum(), 130);
    }
}
