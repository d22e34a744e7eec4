//! Slow start: a host that has just become healthy begins with part of its weight.

use std::time::Duration;

use super::host::Host;
use crate::cluster::{Policy, SlowStart};

/// The setting of a policy that has one.
pub(crate) fn of(policy: &Policy) -> Option<&SlowStart> {
    match policy {
        Policy::RoundRobin(slow) => slow.as_ref(),
        Policy::LeastRequest(least) => least.slow_start.as_ref(),
        Policy::Random | Policy::RingHash { .. } | Policy::Maglev { .. } | Policy::OriginalDestination => {
            None
        }
    }
}

/// When a host has its whole weight, if it has not now.
pub(crate) fn end(slow: &SlowStart, host: &Host, now: Duration) -> Option<Duration> {
    let end = host.state.healthy_since()?.saturating_add(slow.window);
    (end > now).then_some(end)
}

/// What part of its weight a host has now: more than 0, up to 1.
pub(crate) fn factor(slow: &SlowStart, host: &Host, now: Duration) -> f64 {
    let Some(since) = host.state.healthy_since() else { return 1.0 };
    let gone = now.saturating_sub(since).max(Duration::from_millis(1));
    if gone >= slow.window {
        return 1.0;
    }
    let time = gone.as_secs_f64() / slow.window.as_secs_f64();
    let part = if slow.aggression == 1.0 { time } else { time.powf(1.0 / slow.aggression) };
    part.max(slow.least)
}
