//! Who waits for a connection to end: off the request path, there is a lock here.
//!
//! A waiter is woken, and stays in line until it goes away itself; if it was woken and goes, the next is.
//! The line is as long as there are pools that want a connection: requests that wait are limited elsewhere.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

use super::Counts;
use crate::Priority;

/// A line of waiters.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    length: AtomicU64,
    line: Mutex<Line>,
}

#[derive(Debug, Default)]
struct Line {
    next: u64,
    waiters: VecDeque<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    number: u64,
    waker: Waker,
    woken: bool,
}

/// A place in the line; left when dropped.
#[derive(Debug)]
#[must_use = "who drops this no longer waits"]
pub struct Wait {
    counts: Arc<Counts>,
    priority: Priority,
    number: u64,
}

impl Waiting {
    /// Whether there are any. Sequentially consistent with whoever counts connections down: either they see the waiter, or
    /// it sees what they gave back.
    pub(super) fn is_any(&self) -> bool {
        self.length.load(Ordering::SeqCst) > 0
    }

    fn enter(&self, waker: &Waker) -> u64 {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        let number = line.next;
        line.next += 1;
        line.waiters.push_back(Waiter { number, waker: waker.clone(), woken: false });
        self.length.fetch_add(1, Ordering::SeqCst);
        number
    }

    /// Leaves the line; whether it had been woken.
    fn leave(&self, number: u64) -> bool {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        let place = line.waiters.iter().position(|waiter| waiter.number == number);
        let waiter = place.and_then(|place| line.waiters.remove(place));
        if waiter.is_some() {
            self.length.fetch_sub(1, Ordering::SeqCst);
        }
        waiter.is_some_and(|waiter| waiter.woken)
    }

    /// Wakes the first who has not been, or if all have, the first again.
    pub(super) fn wake_one(&self) {
        // Makes this and the decrement before it one order with `enter` and the look at the count behind it.
        std::sync::atomic::fence(Ordering::SeqCst);
        if !self.is_any() {
            return;
        }
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        let place = line.waiters.iter().position(|waiter| !waiter.woken).unwrap_or(0);
        let waker = line.waiters.get_mut(place).map(|waiter| {
            waiter.woken = true;
            waiter.waker.clone()
        });
        drop(line);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Waiting {
    /// Wakes all.
    pub(super) fn wake_all(&self) {
        let line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        let wakers: Vec<_> = line.waiters.iter().map(|waiter| waiter.waker.clone()).collect();
        drop(line);
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Wait {
    pub(super) fn new(counts: Arc<Counts>, priority: Priority, waker: &Waker) -> Wait {
        let number = counts.of(priority).waiting.enter(waker);
        std::sync::atomic::fence(Ordering::SeqCst);
        Wait { counts, priority, number }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let waiting = &self.counts.of(self.priority).waiting;
        if waiting.leave(self.number) {
            waiting.wake_one();
        }
    }
}
