//! How long to wait before the control plane is tried again: exponentially longer, and at random below that, so that
//! proxies which lost it together do not come back together.

use std::time::Duration;

/// The bounds; `Default` are Envoy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackOff {
    /// The bound of the first wait.
    pub base: Duration,
    /// The bound of any.
    pub max: Duration,
}

impl Default for BackOff {
    fn default() -> Self {
        BackOff { base: Duration::from_millis(500), max: Duration::from_secs(30) }
    }
}

/// How often it was tried in vain.
#[derive(Clone, Debug)]
pub struct Attempts {
    bounds: BackOff,
    bound: Duration,
    /// Of a xorshift generator: jitter is no secret.
    random: u64,
}

impl Attempts {
    /// None yet. `seed` should differ between processes.
    pub fn new(bounds: BackOff, seed: u64) -> Attempts {
        Attempts { bounds, bound: bounds.base, random: seed | 1 }
    }

    /// How long to wait now: up to the bound, which doubles.
    pub fn next_wait(&mut self) -> Duration {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        // 53 bits are what a float holds.
        let share = (self.random >> 11) as f64 / (1u64 << 53) as f64;
        let wait = self.bound.mul_f64(share);
        self.bound = (self.bound * 2).min(self.bounds.max);
        wait
    }

    /// It worked: the next wait is a first one.
    pub fn succeeded(&mut self) {
        self.bound = self.bounds.base;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_bound_and_differ() {
        let bounds = BackOff::default();
        let waits = |seed| {
            let mut attempts = Attempts::new(bounds, seed);
            [(); 12].map(|()| attempts.next_wait())
        };
        for seed in 0..100 {
            let mut bound = bounds.base;
            for wait in waits(seed) {
                assert!(wait < bound, "{wait:?} of {bound:?}");
                bound = (bound * 2).min(bounds.max);
            }
        }
        let last: Vec<Duration> = (0..1_000).map(|seed| waits(seed * 977)[11]).collect();
        let mean = last.iter().sum::<Duration>() / 1_000;
        assert!((13.0..17.0).contains(&mean.as_secs_f64()), "half of 30 s, roughly: {mean:?}");
        let mut attempts = Attempts::new(bounds, 7);
        while attempts.next_wait() < bounds.base {}
        attempts.succeeded();
        assert!(attempts.next_wait() < bounds.base);
    }
}
