//! The cells that are counted in. Each is written by one thread.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, AtomicU16, AtomicU64, Ordering};

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

/// Counts by HTTP status. A scope sees a few of them: they are kept in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Codes {
    slots: [Slot; Codes::SLOTS],
    /// When these are full.
    more: OnceLock<Box<Codes>>,
}

/// Count of one status; 0: none yet.
#[derive(Debug, Default)]
struct Slot {
    status: AtomicU16,
    count: Counter,
}

impl Codes {
    const SLOTS: usize = 6;

    /// One more of a status. Numbers that are no statuses are passed over; that bounds how many there are.
    pub fn inc(&self, status: u16) {
        if !(100..600).contains(&status) {
            return;
        }
        for slot in &self.slots {
            match slot.status.load(Ordering::Relaxed) {
                0 => {
                    slot.count.inc();
                    // Who reads the status reads the count.
                    return slot.status.store(status, Ordering::Release);
                }
                known if known == status => return slot.count.inc(),
                _ => {}
            }
        }
        self.more.get_or_init(Box::default).inc(status);
    }

    /// Statuses that have been seen, with how often; in order.
    pub fn seen(&self) -> Vec<(u16, u64)> {
        let mut all = Vec::new();
        self.each(&mut |slot| {
            let status = slot.status.load(Ordering::Acquire);
            if status > 0 {
                all.push((status, slot.count.get()));
            }
        });
        all.sort_unstable();
        all
    }

    /// From here on it counts from nothing.
    pub fn reset(&self) {
        self.each(&mut |slot| slot.count.reset());
    }

    fn each(&self, tell: &mut dyn FnMut(&Slot)) {
        self.slots.iter().for_each(&mut *tell);
        if let Some(more) = self.more.get() {
            more.each(tell);
        }
    }
}

/// Counts of values with one power of ten.
type Decade = [Counter; 90];

/// How often which values came. Values are kept to two significant digits. What no value has needed takes no memory.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    /// 0 to 9.
    small: OnceLock<Box<[Counter; 10]>>,
    /// 10 to 99, and each further power of ten; the last holds what is larger, too.
    decades: [OnceLock<Box<Decade>>; Histogram::DECADES],
    sum: Counter,
}

impl Histogram {
    const DECADES: usize = 9;
    const BUCKETS: usize = 10 + 90 * Histogram::DECADES;

    /// One value.
    pub fn record(&self, value: u64) {
        let place = Histogram::place(value);
        let counter = match place.checked_sub(10) {
            None => {
                self.small.get_or_init(|| Box::new(std::array::from_fn(|_| Counter::default()))).get(place)
            }
            Some(place) => self
                .decades
                .get(place / 90)
                .map(|decade| decade.get_or_init(|| Box::new(std::array::from_fn(|_| Counter::default()))))
                .and_then(|decade| decade.get(place % 90)),
        };
        if let Some(counter) = counter {
            counter.inc();
        }
        self.sum.add(value);
    }

    /// Sum of all values.
    pub fn sum(&self) -> u64 {
        self.sum.get()
    }

    /// Values that have come (the least of each bucket), with how often; in order.
    pub fn seen(&self) -> impl Iterator<Item = (u64, u64)> {
        let small = self.small.get().into_iter().flat_map(|counters| counters.iter().enumerate());
        let decades = self.decades.iter().enumerate().filter_map(|(at, decade)| Some((at, decade.get()?)));
        let large = decades.flat_map(|(at, counters)| {
            counters.iter().enumerate().map(move |(place, counter)| (10 + at * 90 + place, counter))
        });
        let counts = small.chain(large).map(|(place, counter)| (Histogram::least(place), counter.get()));
        counts.filter(|(_, count)| *count > 0)
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
        assert_eq!(codes.seen(), [(503, 2)]);
        (100..600).for_each(|status| codes.inc(status));
        assert_eq!((codes.seen().len(), codes.seen()[403]), (500, (503, 3)));
        codes.reset();
        assert!(codes.seen().iter().all(|(_, count)| *count == 0));
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
