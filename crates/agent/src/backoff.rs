//! How long to wait before the next start of something that keeps ending.

use std::time::Duration;

/// Doubling delays, from `first` up to `max`; a run that lasted `healthy` or longer starts over.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    healthy: Duration,
    next: Duration,
}

impl Backoff {
    /// 100 ms, 200 ms, ... 5 s; forgotten after a run of 10 s.
    pub fn new() -> Self {
        let first = Duration::from_millis(100);
        Self { first, max: Duration::from_secs(5), healthy: Duration::from_secs(10), next: first }
    }

    /// The delay before the next start, given how long the last run lasted.
    pub fn after(&mut self, ran: Duration) -> Duration {
        if ran >= self.healthy {
            self.next = self.first;
        }
        let delay = self.next;
        self.next = (delay * 2).min(self.max);
        delay
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_to_a_bound_and_forgets_after_a_healthy_run() {
        let mut backoff = Backoff::new();
        let delays: Vec<u128> = (0..8).map(|_| backoff.after(Duration::ZERO).as_millis()).collect();
        assert_eq!(delays, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(backoff.after(Duration::from_secs(11)).as_millis(), 100);
    }
}
