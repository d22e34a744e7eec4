//! The deadlines of one stream.

use std::time::Duration;

use tokio::time::Instant;

/// What a deadline is for, in the order in which they are told if several have passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// The client's request was to be complete (`request_timeout`).
    Request,
    /// The whole stream (`max_stream_duration`, or what a gRPC client asks for).
    Stream,
    /// The response was to be complete (`timeout` of the route).
    Route,
    /// One try (`per_try_timeout`).
    Try,
    /// One try that stands still (`per_try_idle_timeout`).
    TryIdle,
    /// One try, by the cluster's `max_stream_duration`.
    Upstream,
    /// The stream stands still (`stream_idle_timeout`, or the route's `idle_timeout`).
    Idle,
}

const COUNT: usize = 7;
const ALL: [Limit; COUNT] =
    [Limit::Request, Limit::Stream, Limit::Route, Limit::Try, Limit::TryIdle, Limit::Upstream, Limit::Idle];

/// When what passes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Deadlines {
    at: [Option<Instant>; COUNT],
    /// How long the stream, and the try, may stand still.
    idle: Option<Duration>,
    try_idle: Option<Duration>,
}

impl Deadlines {
    /// Sets a deadline; `None`: there is none.
    pub fn set(&mut self, limit: Limit, at: Option<Instant>) {
        if let Some(slot) = self.at.get_mut(limit as usize) {
            *slot = at;
        }
    }

    /// Sets how long the stream may stand still, from now on.
    pub fn set_idle(&mut self, limit: Limit, after: Option<Duration>, now: Instant) {
        match limit {
            Limit::TryIdle => self.try_idle = after,
            _ => self.idle = after,
        }
        self.set(limit, after.map(|after| now + after));
    }

    /// Something moved.
    pub fn moved(&mut self, now: Instant) {
        self.set(Limit::Idle, self.idle.map(|after| now + after));
        self.set(Limit::TryIdle, self.try_idle.map(|after| now + after));
    }

    /// The nearest.
    pub fn next(&self) -> Option<Instant> {
        self.at.iter().flatten().min().copied()
    }

    /// What has passed.
    pub fn passed(&self, now: Instant) -> Option<Limit> {
        ALL.into_iter()
            .find(|limit| self.at.get(*limit as usize).is_some_and(|at| at.is_some_and(|at| at <= now)))
    }

    /// The deadlines of a try are over.
    pub fn end_try(&mut self) {
        self.try_idle = None;
        for limit in [Limit::Try, Limit::TryIdle, Limit::Upstream] {
            self.set(limit, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_nearest_deadline_and_what_has_passed() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let mut deadlines = Deadlines::default();
        assert_eq!(deadlines.next(), None);
        deadlines.set_idle(Limit::Idle, Some(second), now);
        deadlines.set(Limit::Route, Some(now + second * 3));
        assert_eq!(deadlines.next(), Some(now + second));
        deadlines.moved(now + second);
        assert_eq!(deadlines.next(), Some(now + second * 2));
        assert_eq!(deadlines.passed(now + second), None);
        assert_eq!(deadlines.passed(now + second * 2), Some(Limit::Idle));
        assert_eq!(deadlines.passed(now + second * 3), Some(Limit::Route));
        deadlines.set_idle(Limit::TryIdle, Some(second), now);
        assert_eq!(deadlines.next(), Some(now + second));
        deadlines.end_try();
        assert_eq!(deadlines.next(), Some(now + second * 2));
    }
}
