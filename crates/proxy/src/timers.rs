//! Deadlines of one connection: many, of which one timer waits for the nearest.
//!
//! Deadlines move with every request, timers are dear to move: a timer that was set for an earlier moment is left to
//! go off, and then set for what has become the nearest deadline.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep};

/// A timer that is kept.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    /// Ready once `deadline` has passed; `None`: never.
    pub fn poll(&mut self, cx: &mut Context<'_>, deadline: Option<Instant>) -> Poll<()> {
        let Some(deadline) = deadline else { return Poll::Pending };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if sleep.deadline() >= deadline || Instant::now() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

/// The nearer of two deadlines.
pub(crate) fn nearer(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::time::Duration;

    async fn wait(timer: &mut Timer, deadline: Instant) {
        poll_fn(|cx| timer.poll(cx, Some(deadline))).await;
    }

    fn is_pending(timer: &mut Timer, deadline: Option<Instant>) -> bool {
        timer.poll(&mut Context::from_waker(std::task::Waker::noop()), deadline).is_pending()
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_that_is_asked_for_last_counts() {
        let begin = Instant::now();
        let mut timer = Timer::default();
        assert!(is_pending(&mut timer, None));
        assert!(is_pending(&mut timer, Some(begin + Duration::from_secs(10))));
        wait(&mut timer, begin + Duration::from_secs(5)).await;
        assert_eq!(begin.elapsed().as_secs(), 5);
        assert!(is_pending(&mut timer, Some(begin + Duration::from_secs(8))));
        wait(&mut timer, begin + Duration::from_secs(20)).await;
        assert_eq!(begin.elapsed().as_secs(), 20);
        wait(&mut timer, begin).await;
        assert_eq!(begin.elapsed().as_secs(), 20);
    }
}
