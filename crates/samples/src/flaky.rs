//! Failing on purpose, a given share of the time.

use std::sync::atomic::{AtomicU64, Ordering};

/// A stream of draws that is the same in every run: a sample that fails should fail reproducibly.
/// (SplitMix64: its successive values are independent enough for shares.)
#[derive(Debug, Default)]
pub struct Draws(AtomicU64);

impl Draws {
    /// True for the given share (0.0 to 1.0) of all calls.
    pub fn hit(&self, share: f64) -> bool {
        self.next() < share
    }

    /// A number in [0, 1).
    pub fn next(&self) -> f64 {
        const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
        let mut x = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^= x >> 31;
        // 53 bits: as many as an f64 holds exactly.
        (x >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hits_the_share_asked_for() {
        let draws = Draws::default();
        let hits = (0..10_000).filter(|_| draws.hit(0.3)).count();
        // 3 standard deviations of a binomial with n = 10,000, p = 0.3.
        assert!((2_862..=3_138).contains(&hits), "{hits}");
        assert!(!draws.hit(0.0) && draws.hit(1.0));
    }
}
