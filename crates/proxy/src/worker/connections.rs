//! The clients' connections of one worker, and what is in store for them.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use ostro_engine::balance::HealthFlags;
use ostro_engine::{Direction, Host};

use crate::config::LiveChain;

/// What is in store for a connection.
pub(crate) struct Fate {
    chain: Arc<LiveChain>,
    direction: Direction,
    is_draining: Cell<bool>,
    is_failing: Rc<Cell<bool>>,
    is_cut: Cell<bool>,
    /// The host it is carried to, where it is not to outlive that host's health.
    host: RefCell<Option<Arc<Host>>>,
    waker: Cell<Option<Waker>>,
}

impl Fate {
    /// Whether the connection is to end after what it is doing.
    pub fn is_draining(&self) -> bool {
        self.is_draining.get() || self.is_failing.get()
    }

    /// Ready when the connection is to end now.
    pub fn poll_cut(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_cut.get() {
            return Poll::Ready(());
        }
        let waker = self.waker.take().filter(|waker| waker.will_wake(cx.waker()));
        self.waker.set(Some(waker.unwrap_or_else(|| cx.waker().clone())));
        Poll::Pending
    }

    /// It is carried to this host, and is to end when the host fails its health checks.
    pub fn depend_on(&self, host: &Arc<Host>) {
        *self.host.borrow_mut() = Some(Arc::clone(host));
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// The connections of one worker.
#[derive(Default)]
pub(crate) struct Connections {
    all: RefCell<Vec<Weak<Fate>>>,
    is_draining: Cell<Option<Scope>>,
    /// Health checks are answered as if this proxy was failing: connections are to end as long as that is so.
    is_failing: Rc<Cell<bool>>,
}

/// Whose connections are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All of them.
    All,
    /// Those that came to inbound listeners.
    Inbound,
}

impl Scope {
    fn includes(self, direction: Direction) -> bool {
        self == Scope::All || direction == Direction::Inbound
    }
}

impl Connections {
    /// A connection that has begun.
    pub fn enter(&self, chain: &Arc<LiveChain>, direction: Direction) -> Rc<Fate> {
        let is_draining = self.is_draining.get().is_some_and(|scope| scope.includes(direction));
        let fate = Rc::new(Fate {
            chain: Arc::clone(chain),
            direction,
            is_draining: Cell::new(is_draining),
            is_failing: Rc::clone(&self.is_failing),
            is_cut: Cell::new(false),
            host: RefCell::new(None),
            waker: Cell::new(None),
        });
        let mut all = self.all.borrow_mut();
        if all.len() == all.capacity() {
            all.retain(|fate| fate.strong_count() > 0);
        }
        all.push(Rc::downgrade(&fate));
        fate
    }

    /// Lets connections end after what they are doing, new ones too.
    pub fn drain(&self, scope: Scope) {
        if self.is_draining.get() != Some(Scope::All) {
            self.is_draining.set(Some(scope));
        }
        self.each(|fate| {
            if scope.includes(fate.direction) {
                fate.is_draining.set(true);
                fate.wake();
            }
        });
    }

    /// Lets connections end after what they are doing, until it is taken back.
    pub fn fail(&self, is_failing: bool) {
        self.is_failing.set(is_failing);
        self.each(Fate::wake);
    }

    /// Lets the connections of chains that `is_gone` names end after what they are doing.
    pub fn drain_chains(&self, is_gone: impl Fn(&Arc<LiveChain>) -> bool) {
        self.each(|fate| {
            if is_gone(&fate.chain) {
                fate.is_draining.set(true);
                fate.wake();
            }
        });
    }

    /// Ends connections of chains that `is_gone` names, now.
    pub fn cut(&self, is_gone: impl Fn(&Arc<LiveChain>) -> bool) {
        self.each(|fate| {
            if is_gone(&fate.chain) {
                fate.is_cut.set(true);
                fate.wake();
            }
        });
    }

    /// Ends connections that depend on a host which fails its health checks.
    pub fn cut_unhealthy(&self) {
        self.each(|fate| {
            let failed = |host: &Arc<Host>| host.flags().any(HealthFlags::FAILED_ACTIVE);
            if fate.host.borrow().as_ref().is_some_and(failed) {
                fate.is_cut.set(true);
                fate.wake();
            }
        });
    }

    fn each(&self, mut visit: impl FnMut(&Fate)) {
        self.all.borrow_mut().retain(|fate| {
            let Some(fate) = fate.upgrade() else { return false };
            visit(&fate);
            true
        });
    }
}
