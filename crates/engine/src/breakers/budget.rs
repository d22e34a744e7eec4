//! Requests that have ended, but count towards a retry budget for a while still (`budget_interval`).
//!
//! Time is cut into parts of an eighth of the interval; a request counts until the interval since the part in which it
//! began is over, at most an eighth too long.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Parts of an interval.
const PARTS: u64 = 8;
/// Parts that are remembered: those of an interval, the running one, and room for the reader to be late.
const SLOTS: usize = 16;

/// How many requests that began in recent parts of time have ended.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// The part in the upper half, the count in the lower: changed as one.
    slots: [AtomicU64; SLOTS],
}

/// The number of the part of time in which `now` is; never 0, which is what empty slots have.
pub(super) fn part_of(interval: Duration, now: Duration) -> u64 {
    let part = (interval / PARTS as u32).as_nanos().max(1);
    // Wraps after 2^32 parts: half a year of parts of 5 ms. What is miscounted then is forgotten after an interval.
    ((now.as_nanos() / part) % (u128::from(u32::MAX) - 1)) as u64 + 1
}

impl Recent {
    fn slot(&self, part: u64) -> Option<&AtomicU64> {
        self.slots.get((part % SLOTS as u64) as usize)
    }

    /// A request that began in this part has ended.
    pub(super) fn ended(&self, began: u64) {
        let Some(slot) = self.slot(began) else { return };
        let add = |value: u64| match (value >> 32).cmp(&began) {
            std::cmp::Ordering::Less => Some(began << 32 | 1),
            std::cmp::Ordering::Equal => Some(value + 1),
            // The slot is a later part's: this one is long over.
            std::cmp::Ordering::Greater => None,
        };
        let _ = slot.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// How many count in this part.
    pub(super) fn count(&self, now: u64) -> u64 {
        let counts = self.slots.iter().map(|slot| slot.load(Ordering::Relaxed));
        let counts =
            counts.filter(|value| value >> 32 <= now && value >> 32 != 0 && (value >> 32) + PARTS >= now);
        counts.map(|value| value & u64::from(u32::MAX)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_ended_counts_for_an_interval() {
        let interval = Duration::from_millis(800);
        let at = |millis| part_of(interval, Duration::from_millis(millis));
        let recent = Recent::default();
        recent.ended(at(0));
        recent.ended(at(50));
        recent.ended(at(400));
        assert_eq!(recent.count(at(700)), 3);
        assert_eq!(recent.count(at(800)), 3);
        assert_eq!(recent.count(at(900)), 1);
        assert_eq!(recent.count(at(1_300)), 0);
        // Of a slot that has been taken over since, nothing is known.
        recent.ended(at(1_600));
        recent.ended(at(0));
        assert_eq!(recent.count(at(1_600)), 1);
    }
}
