//! A worker: one thread with its connections, its pools and its clock.
//!
//! Invariants: everything here belongs to one thread; what other threads want of it they send ([`Order`]).

mod connections;
mod run;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use tokio::time::Instant;

use crate::access_log::{Sink, SinkId, SinkWriter};
use crate::config::{Clock, LiveListeners, Shared};
use crate::istio::Seen;
use crate::stats::Writer;
use crate::upstream::WorkerCluster;

pub(crate) use connections::{Connections, Fate, Scope};
pub(crate) use run::{Handle, Order, Port, start};

/// Bytes that a worker reads at once when it passes bytes on as they are.
const SCRATCH_BYTES: usize = 64 * 1024;

/// A view of a cluster, and the version of all clusters in which it was last found to be current.
type Known = (u64, Rc<WorkerCluster>);

/// A worker's state.
pub(crate) struct Worker {
    /// What all workers share.
    pub shared: Arc<Shared>,
    /// What this thread counts with.
    pub writer: Writer,
    /// Connections of clients.
    pub connections: Connections,
    /// Listeners, as this worker has heard of them.
    pub listeners: RefCell<Arc<LiveListeners>>,
    /// What Istio's filters have seen.
    pub seen: Seen,
    clusters: RefCell<HashMap<Box<str>, Known>>,
    logs: RefCell<HashMap<SinkId, SinkWriter>>,
    line: RefCell<Vec<u8>>,
    scratch: RefCell<Box<[u8]>>,
    random: RefCell<fastrand::Rng>,
    date: RefCell<(u64, HeaderValue)>,
    clock: Clock,
}

impl Worker {
    /// A worker of this thread.
    pub fn new(shared: Arc<Shared>, writer: Writer) -> Worker {
        Worker {
            clock: shared.clock(),
            seen: Seen::new(Arc::clone(&shared.identity)),
            shared,
            writer,
            connections: Connections::default(),
            listeners: RefCell::default(),
            clusters: RefCell::default(),
            logs: RefCell::default(),
            line: RefCell::default(),
            scratch: RefCell::new(vec![0; SCRATCH_BYTES].into_boxed_slice()),
            random: RefCell::new(fastrand::Rng::new()),
            date: RefCell::new((0, HeaderValue::from_static(""))),
        }
    }

    /// This worker's view of a cluster.
    pub fn cluster(&self, name: &str) -> Option<Rc<WorkerCluster>> {
        let version = self.shared.clusters.version();
        let mut clusters = self.clusters.borrow_mut();
        if let Some((seen, cluster)) = clusters.get_mut(name) {
            if *seen == version {
                return Some(Rc::clone(cluster));
            }
            if self.shared.clusters.get(name).is_some_and(|live| cluster.is_of(&live)) {
                *seen = version;
                return Some(Rc::clone(cluster));
            }
        }
        let Some(live) = self.shared.clusters.get(name) else {
            clusters.remove(name);
            return None;
        };
        let cluster = Rc::new(WorkerCluster::new(&live, self));
        clusters.insert(name.into(), (version, Rc::clone(&cluster)));
        Some(cluster)
    }

    /// A random number.
    pub fn random(&self) -> u64 {
        self.random.borrow_mut().u64(..)
    }

    /// Random bytes.
    pub fn random_bytes(&self) -> [u8; 16] {
        self.random.borrow_mut().u128(..).to_ne_bytes()
    }

    /// A moment since the epoch.
    pub fn since_epoch(&self, at: Instant) -> Duration {
        self.clock.since_epoch(at)
    }

    /// Now, since the process began.
    pub fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }

    /// Now, as a `date` header has it (RFC 9110 section 6.6.1).
    pub fn date(&self) -> HeaderValue {
        let now = self.since_epoch(Instant::now());
        let mut date = self.date.borrow_mut();
        if date.0 != now.as_secs() {
            let text = httpdate::fmt_http_date(std::time::UNIX_EPOCH + now);
            *date = (now.as_secs(), HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("")));
        }
        date.1.clone()
    }

    /// Writes a line to an access log; `write` says whether there is one.
    pub fn log(&self, sink: &Sink, write: impl FnOnce(&mut Vec<u8>) -> bool) {
        let mut line = self.line.borrow_mut();
        line.clear();
        if write(&mut line) {
            let mut logs = self.logs.borrow_mut();
            logs.entry(sink.id()).or_insert_with(|| sink.writer()).line(&line);
        }
    }

    /// Bytes to read into, for as long as `use_it` runs.
    pub fn with_scratch<T>(&self, use_it: impl FnOnce(&mut [u8]) -> T) -> T {
        use_it(&mut self.scratch.borrow_mut())
    }

    /// Logs go out.
    fn flush_logs(&self) {
        self.logs.borrow_mut().values_mut().for_each(SinkWriter::tick);
    }

    /// What is due from time to time: idle connections are closed, and what is under way is told.
    fn tick(&self) {
        self.seen.tick();
        self.connections.cut_unhealthy();
        let now = Instant::now();
        let version = self.shared.clusters.version();
        let mut clusters = self.clusters.borrow_mut();
        clusters.retain(|name, (seen, cluster)| {
            let is_current =
                *seen == version || self.shared.clusters.get(name).is_some_and(|live| cluster.is_of(&live));
            if is_current {
                *seen = version;
            }
            let has_pools = cluster.tick(now);
            is_current || has_pools && Rc::strong_count(cluster) > 1
        });
    }
}
