//! Earliest deadline first: a schedule in which everybody comes as often as they weigh, evenly spread.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// A schedule of numbered entries. A turn costs `O(log n)`.
///
/// Within any number of turns an entry has its share of them, give or take one for each entry of the schedule times its
/// share, and one.
#[derive(Debug, Default)]
pub(crate) struct Edf {
    queue: BinaryHeap<Reverse<Turn>>,
    /// Turns taken: entries of one deadline come in the order in which they were put in.
    order: u64,
}

#[derive(Debug)]
struct Turn {
    deadline: f64,
    order: u64,
    entry: u32,
}

impl Edf {
    /// A schedule of entries of these weights (those that are not above zero are left out), begun at a random moment: each
    /// worker has its own, and they must not all begin with the same entry.
    pub(crate) fn new(weights: impl IntoIterator<Item = f64>, random: &mut dyn FnMut() -> u64) -> Edf {
        let mut edf = Edf::default();
        for (entry, weight) in (0_u32..).zip(weights) {
            if weight > 0.0 {
                edf.put(entry, unit(random()) / weight);
            }
        }
        edf
    }

    fn put(&mut self, entry: u32, deadline: f64) {
        self.order += 1;
        self.queue.push(Reverse(Turn { deadline, order: self.order, entry }));
    }

    /// The entry whose turn it is. `weight` says what it weighs now: its next turn comes accordingly.
    pub(crate) fn next(&mut self, weight: impl FnOnce(u32) -> f64) -> Option<u32> {
        let mut top = self.queue.peek_mut()?;
        let Turn { deadline, entry, .. } = top.0;
        let weight = weight(entry).max(f64::MIN_POSITIVE);
        self.order += 1;
        // Changing the top in place moves it down once, where popping and pushing would move twice.
        top.0 = Turn { deadline: deadline + 1.0 / weight, order: self.order, entry };
        Some(entry)
    }
}

/// A number above 0, up to 1.
fn unit(random: u64) -> f64 {
    // 53 bits are what a double has.
    ((random >> 11) + 1) as f64 / (1_u64 << 53) as f64
}

impl PartialEq for Turn {
    fn eq(&self, other: &Turn) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Turn {}

impl PartialOrd for Turn {
    fn partial_cmp(&self, other: &Turn) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Turn {
    fn cmp(&self, other: &Turn) -> Ordering {
        self.deadline.total_cmp(&other.deadline).then(self.order.cmp(&other.order))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_entry_has_its_share_at_all_times(
            weights in prop::collection::vec(1_u32..200, 1..12),
            seed in any::<u64>(),
        ) {
            let mut state = seed;
            let mut random = move || { state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1); state };
            let mut edf = Edf::new(weights.iter().map(|weight| f64::from(*weight)), &mut random);
            let total: u32 = weights.iter().sum();
            let mut counts = vec![0_u32; weights.len()];
            for turn in 1..=2 * total {
                let entry = edf.next(|entry| f64::from(weights[entry as usize])).unwrap();
                counts[entry as usize] += 1;
                for (count, weight) in counts.iter().zip(&weights) {
                    let share = f64::from(*weight) / f64::from(total);
                    let bound = 1.0 + weights.len() as f64 * share + 1e-6;
                    prop_assert!((f64::from(*count) - f64::from(turn) * share).abs() <= bound);
                }
            }
        }
    }

    #[test]
    fn what_weighs_nothing_never_has_a_turn() {
        let mut edf = Edf::new([0.0, 2.0, f64::NAN], &mut || 7);
        assert!((0..100).all(|_| edf.next(|_| 1.0) == Some(1)));
        assert_eq!(Edf::default().next(|_| 1.0), None);
    }
}
