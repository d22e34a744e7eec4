//! Active health checks: one task for each host that is checked, for the whole process, beside the workers.
//!
//! What it is: the sockets and the clock for the engine's [`Checker`]s. What it deliberately is not: an opinion of what an
//! answer means, or when a host is well.
//!
//! Invariants:
//! * At most [`PROBES_MAX`] probes are under way at once.
//! * A probe ends with its `timeout`, whatever its host does; what is read of an answer is bounded.

mod probe;

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use ostro_engine::balance::HostId;
use ostro_engine::health_check::{Checker, ProbeResult, Transition};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::{sleep_until, timeout_at};

use crate::config::{LiveCluster, Shared};
use probe::Kept;

/// Probes that are under way at once.
const PROBES_MAX: usize = 1024;

/// What all checks share.
#[derive(Clone)]
pub(crate) struct Checking {
    shared: Arc<Shared>,
    permits: Rc<Semaphore>,
}

/// The checks of one cluster; dropped, they end.
pub(crate) struct Checks {
    current: Current,
    task: AbortHandle,
}

/// The cluster as it is in force now.
type Current = Rc<RefCell<Arc<LiveCluster>>>;

/// The checks of one host.
struct Checked {
    checker: Rc<RefCell<Checker>>,
    task: AbortHandle,
}

impl Checking {
    /// No checks yet.
    pub fn new(shared: Arc<Shared>) -> Checking {
        Checking { shared, permits: Rc::new(Semaphore::new(PROBES_MAX)) }
    }

    /// Checks the hosts of a cluster from now on.
    pub fn start(&self, live: Arc<LiveCluster>) -> Checks {
        let current = Rc::new(RefCell::new(live));
        let task = tokio::task::spawn_local(self.clone().run(Rc::clone(&current)));
        Checks { current, task: task.abort_handle() }
    }

    async fn run(self, current: Current) {
        let mut hosts = HashMap::new();
        loop {
            let live = Arc::clone(&current.borrow());
            self.follow(&current, &live, &mut hosts);
            live.hosts_changed.notified().await;
        }
    }

    /// Hosts that have come are checked, those that have gone are no longer.
    fn follow(&self, current: &Current, live: &Arc<LiveCluster>, hosts: &mut HashMap<HostId, Checked>) {
        let snapshot = live.upstream.snapshot();
        let alive: HashSet<HostId> = snapshot.hosts().map(|host| host.id()).collect();
        hosts.retain(|id, _| alive.contains(id));
        for host in snapshot.hosts() {
            if host.health_check.disabled {
                hosts.remove(&host.id());
                continue;
            }
            if let Some(checked) = hosts.get(&host.id()) {
                checked.checker.borrow_mut().replace(&live.upstream, Arc::clone(host));
                continue;
            }
            let now = self.shared.clock().monotonic();
            let checker = Checker::new(&live.upstream, Arc::clone(host), now, fastrand::u64(..));
            let Some(checker) = checker else { continue };
            let checker = Rc::new(RefCell::new(checker));
            let task = self.clone().check(Rc::clone(current), Rc::clone(&checker));
            let task = tokio::task::spawn_local(task).abort_handle();
            hosts.insert(host.id(), Checked { checker, task });
        }
    }

    /// Asks a host again and again.
    async fn check(self, current: Current, checker: Rc<RefCell<Checker>>) {
        let clock = self.shared.clock();
        let mut kept = Kept::default();
        loop {
            let due = checker.borrow().next();
            sleep_until(clock.at(due)).await;
            // Never closed.
            let Ok(_permit) = self.permits.acquire().await else { return };
            let live = Arc::clone(&current.borrow());
            let deadline = checker.borrow_mut().begin(clock.monotonic());
            let asked = timeout_at(clock.at(deadline), probe::ask(&live, &checker, &mut kept)).await;
            let result = asked.unwrap_or_else(|_| {
                kept.close();
                ProbeResult::Timeout
            });
            let transition = checker.borrow_mut().finish(result, clock.monotonic(), fastrand::u64(..));
            if transition == Transition::Changed {
                tracing::debug!(cluster = %live.upstream.cluster.name, host = %checker.borrow().host().name, ?result, "health");
                live.upstream.refresh(clock.monotonic());
                // One that was kept only because it was well may be gone now.
                live.hosts_changed.notify_one();
            }
        }
    }
}

impl Checks {
    /// The cluster goes on in another version.
    pub fn replace(&self, live: Arc<LiveCluster>) {
        let before = self.current.replace(live);
        before.hosts_changed.notify_one();
    }
}

impl Drop for Checks {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Drop for Checked {
    fn drop(&mut self) {
        self.task.abort();
    }
}
