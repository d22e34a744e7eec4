//! How long to wait before the next start of something that keeps ending.

use std::time::Duration;

/// Doubling delays, up to `max`; a run that lasted `healthy` or longer starts over.
#[derive(Clone, Debug)]
pub struct Backoff {
    /// The delay to begin with; none means at once.
    begin: Duration,
    /// The first that is not none.
    first: Duration,
    max: Duration,
    healthy: Duration,
    next: Duration,
}

impl Backoff {
    /// 100 ms, 200 ms, ... 5 s; forgotten after a run of 10 s.
    pub fn new() -> Self {
        let first = Duration::from_millis(100);
        let (max, healthy) = (Duration::from_secs(5), Duration::from_secs(10));
        Self { begin: first, first, max, healthy, next: first }
    }

    /// At once, then 1 s, 2 s, ... 30 s; forgotten after a run of a minute. The kubelet's rule in a tenth of its
    /// times (10 s, ... 5 min; 10 min): here somebody sits and waits.
    pub fn crash_loop() -> Self {
        Self {
            begin: Duration::ZERO,
            first: Duration::from_secs(1),
            max: Duration::from_secs(30),
            healthy: Duration::from_secs(60),
            next: Duration::ZERO,
        }
    }

    /// The delay before the next start, given how long the last run lasted.
    pub fn after(&mut self, ran: Duration) -> Duration {
        if ran >= self.healthy {
            self.next = self.begin;
        }
        let delay = self.next;
        self.next = (delay * 2).clamp(self.first, self.max);
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

    #[test]
    fn a_program_that_crashes_is_started_at_once_and_then_ever_later() {
        let mut backoff = Backoff::crash_loop();
        let delays: Vec<u64> = (0..8).map(|_| backoff.after(Duration::ZERO).as_secs()).collect();
        assert_eq!(delays, [0, 1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(backoff.after(Duration::from_secs(61)), Duration::ZERO);
    }
}
