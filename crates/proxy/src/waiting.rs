//! Tasks of one thread that wait for something of which there is not enough for all.
//!
//! Invariants:
//! * Whoever came first is woken first.
//! * A task that goes away leaves nothing behind, and what it was woken for goes to the next.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::task::{Context, Waker};

/// Those who wait.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    wakers: RefCell<VecDeque<(u64, Waker)>>,
    next: Cell<u64>,
}

impl Waiting {
    /// A place among them, which is taken when it is registered.
    pub fn place(&self) -> Place<'_> {
        Place { waiting: self, number: None }
    }

    /// Wakes the first; whether there is one.
    pub fn wake_one(&self) -> bool {
        let first = self.wakers.borrow_mut().pop_front();
        first.map(|(_, waker)| waker.wake()).is_some()
    }

    /// Wakes all.
    pub fn wake_all(&self) {
        self.wakers.take().into_iter().for_each(|(_, waker)| waker.wake());
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.wakers.borrow().is_empty()
    }
}

/// A place among those who wait.
#[derive(Debug)]
pub(crate) struct Place<'w> {
    waiting: &'w Waiting,
    number: Option<u64>,
}

impl Place<'_> {
    /// Wakes this task when its turn comes.
    pub fn register(&mut self, cx: &Context<'_>) {
        let mut wakers = self.waiting.wakers.borrow_mut();
        if let Some((_, waker)) = wakers.iter_mut().find(|(number, _)| Some(*number) == self.number) {
            waker.clone_from(cx.waker());
            return;
        }
        let number = self.waiting.next.get();
        self.waiting.next.set(number + 1);
        self.number = Some(number);
        wakers.push_back((number, cx.waker().clone()));
    }

    /// The task goes on: it takes what it may have been woken for.
    pub fn leave(mut self) {
        self.remove();
        self.number = None;
    }

    /// Whether it was still there.
    fn remove(&mut self) -> bool {
        let Some(own) = self.number else { return true };
        let mut wakers = self.waiting.wakers.borrow_mut();
        let place = wakers.iter().position(|(number, _)| *number == own);
        place.and_then(|place| wakers.remove(place)).is_some()
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if !self.remove() {
            self.waiting.wake_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn task() -> (Arc<Woken>, Waker) {
        let woken = Arc::new(Woken::default());
        (Arc::clone(&woken), Waker::from(woken))
    }

    fn count(woken: &Woken) -> usize {
        woken.0.load(Ordering::Relaxed)
    }

    #[test]
    fn the_first_is_woken_first_and_a_place_is_taken_once() {
        let waiting = Waiting::default();
        let ((first, one), (second, two)) = (task(), task());
        let (mut place, mut other) = (waiting.place(), waiting.place());
        for _ in 0..3 {
            place.register(&Context::from_waker(&one));
            other.register(&Context::from_waker(&two));
        }
        assert!(waiting.wake_one());
        assert_eq!((count(&first), count(&second)), (1, 0));
        place.leave();
        assert_eq!(count(&second), 0);
        waiting.wake_all();
        assert_eq!(count(&second), 1);
        other.leave();
        assert!(waiting.is_empty() && !waiting.wake_one());
    }

    #[test]
    fn whoever_goes_away_leaves_nothing_and_hands_on_what_it_was_woken_for() {
        let waiting = Waiting::default();
        let ((_, one), (second, two)) = (task(), task());
        let mut gone = waiting.place();
        gone.register(&Context::from_waker(&one));
        drop(gone);
        assert!(waiting.is_empty());
        let (mut place, mut other) = (waiting.place(), waiting.place());
        place.register(&Context::from_waker(&one));
        other.register(&Context::from_waker(&two));
        waiting.wake_one();
        drop(place);
        assert_eq!(count(&second), 1);
        other.leave();
    }
}
