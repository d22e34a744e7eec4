//! All scopes by name, and the threads that count in them.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::families::{ClusterStats, HttpStats, ListenerStats, MetadataExchangeStats, TcpStats};
use super::family::{Family, Value};
use super::labelled::Table;

/// A thread that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Thread {
    /// The control side.
    Main,
    /// A worker.
    Worker(u32),
}

/// What a thread counts with; one for each thread.
#[derive(Debug)]
pub(crate) struct Writer {
    thread: Thread,
    _of_this_thread: PhantomData<Rc<()>>,
}

impl Writer {
    /// Whose it is.
    pub(super) fn thread(&self) -> Thread {
        self.thread
    }
}

/// The registry. Used when configuration comes and when somebody scrapes.
#[derive(Clone, Default)]
pub(crate) struct Stats {
    scopes: Arc<Mutex<BTreeMap<String, Weak<dyn Scrape>>>>,
    labelled: Arc<Table>,
}

/// A scope as the registry sees it.
trait Scrape: Send + Sync {
    fn visit(&self, tell: &mut dyn FnMut(Thread, &str, Value));
    fn is_used(&self) -> bool;
    fn reset(&self);
    fn per_thread(&self) -> &'static [&'static str];
    fn as_any(self: Arc<Self>) -> Arc<dyn std::any::Any + Send + Sync>;
}

struct Blocks<F> {
    /// By thread. A thread's block stays for as long as the scope.
    blocks: Mutex<Vec<(Thread, Arc<F>)>>,
}

impl<F: Family> Scrape for Blocks<F> {
    fn visit(&self, tell: &mut dyn FnMut(Thread, &str, Value)) {
        let blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        if blocks.is_empty() {
            F::default().visit(&mut |name, value| tell(Thread::Main, name, value));
        }
        for (thread, block) in blocks.iter() {
            block.visit(&mut |name, value| tell(*thread, name, value));
        }
    }

    fn is_used(&self) -> bool {
        !self.blocks.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    fn reset(&self) {
        let blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        blocks.iter().for_each(|(_, block)| block.reset());
    }

    fn per_thread(&self) -> &'static [&'static str] {
        F::PER_THREAD
    }

    fn as_any(self: Arc<Self>) -> Arc<dyn std::any::Any + Send + Sync> {
        self
    }
}

/// A named group of cells.
pub(crate) struct Scope<F>(Arc<Blocks<F>>);

impl<F> Clone for Scope<F> {
    fn clone(&self) -> Self {
        Scope(Arc::clone(&self.0))
    }
}

impl<F: Family> Scope<F> {
    /// This thread's block, made on first use. Takes a lock: keep what is returned.
    pub fn on(&self, writer: &Writer) -> Local<F> {
        let mut blocks = self.0.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        let known = blocks.iter().find(|(thread, _)| *thread == writer.thread);
        let block = match known {
            Some((_, block)) => Arc::clone(block),
            None => {
                let block = Arc::new(F::default());
                blocks.push((writer.thread, Arc::clone(&block)));
                block
            }
        };
        Local { block, _scope: Scope(Arc::clone(&self.0)), _of_this_thread: PhantomData }
    }
}

/// A scope's cells of this thread. The scope stays for as long as this.
pub(crate) struct Local<F> {
    block: Arc<F>,
    _scope: Scope<F>,
    _of_this_thread: PhantomData<Rc<()>>,
}

impl<F> Clone for Local<F> {
    fn clone(&self) -> Self {
        Local { block: Arc::clone(&self.block), _scope: self._scope.clone(), _of_this_thread: PhantomData }
    }
}

impl<F> Deref for Local<F> {
    type Target = F;

    fn deref(&self) -> &F {
        &self.block
    }
}

impl Stats {
    /// What a thread counts with.
    pub fn writer(&self, thread: Thread) -> Writer {
        Writer { thread, _of_this_thread: PhantomData }
    }

    /// The scope of a prefix. The same prefix is the same scope for as long as somebody has it; one that was of another
    /// family is begun anew.
    pub fn scope<F: Family>(&self, prefix: &str) -> Scope<F> {
        let mut scopes = self.scopes.lock().unwrap_or_else(PoisonError::into_inner);
        let known = scopes.get(prefix).and_then(Weak::upgrade);
        if let Some(Ok(blocks)) = known.map(|known| known.as_any().downcast::<Blocks<F>>()) {
            return Scope(blocks);
        }
        let blocks = Arc::new(Blocks::<F> { blocks: Mutex::default() });
        let weak: Weak<Blocks<F>> = Arc::downgrade(&blocks);
        scopes.insert(prefix.to_owned(), weak);
        Scope(blocks)
    }

    /// `cluster.<name>.`
    pub fn cluster(&self, name: &str) -> Scope<ClusterStats> {
        self.scope(&format!("cluster.{name}."))
    }

    /// `http.<prefix>.`
    pub fn http(&self, prefix: &str) -> Scope<HttpStats> {
        self.scope(&format!("http.{prefix}."))
    }

    /// `tcp.<prefix>.`
    pub fn tcp(&self, prefix: &str) -> Scope<TcpStats> {
        self.scope(&format!("tcp.{prefix}."))
    }

    /// `listener.<name>.`
    pub fn listener(&self, name: &str) -> Scope<ListenerStats> {
        self.scope(&format!("listener.{name}."))
    }

    /// `metadata_exchange.`
    pub fn metadata_exchange(&self) -> Scope<MetadataExchangeStats> {
        self.scope("metadata_exchange.")
    }

    /// Statistics with labels of their own.
    pub fn labelled(&self) -> &Table {
        &self.labelled
    }

    /// Tells every cell of every thread, scopes in order: prefix of the scope, name, value. Some cells are told by thread, too
    /// (`worker_0.`). `used`: only scopes that some thread has counted in.
    pub(super) fn scrape(&self, used: bool, tell: &mut dyn FnMut(&str, &str, Value)) {
        for (prefix, scope) in self.scopes().into_iter().filter(|(_, scope)| !used || scope.is_used()) {
            let per_thread = scope.per_thread();
            let is_used = scope.is_used();
            scope.visit(&mut |thread, name, value| {
                if is_used && per_thread.contains(&name) {
                    let of = match thread {
                        Thread::Main => "main_thread".to_owned(),
                        Thread::Worker(index) => format!("worker_{index}"),
                    };
                    tell(&prefix, &format!("{of}.{name}"), value.clone());
                }
                tell(&prefix, name, value);
            });
        }
    }

    /// Sets all that grows back to nothing. What is counted meanwhile may be lost.
    pub fn reset_counters(&self) {
        self.scopes().iter().for_each(|(_, scope)| scope.reset());
        self.labelled.reset();
    }

    /// All scopes, in order. Those that nobody has any more are forgotten.
    fn scopes(&self) -> Vec<(String, Arc<dyn Scrape>)> {
        let mut scopes = self.scopes.lock().unwrap_or_else(PoisonError::into_inner);
        scopes.retain(|_, scope| scope.strong_count() > 0);
        scopes.iter().filter_map(|(prefix, scope)| Some((prefix.clone(), scope.upgrade()?))).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test's helpers fail the test by panicking")]

    use super::*;
    use crate::stats::Reading;

    /// A counter over all threads, by its whole name.
    fn count(stats: &Stats, name: &str) -> Option<u64> {
        let mut found = None;
        stats.read(false, &mut |known, reading| {
            if let (true, Reading::Counter(value)) = (known == name, reading) {
                found = Some(value);
            }
        });
        found
    }

    #[test]
    fn threads_count_apart_and_are_read_together() {
        let stats = Stats::default();
        let scope = stats.cluster("a");
        assert_eq!(count(&stats, "cluster.a.upstream_rq_total"), Some(0));
        let threads = [Thread::Worker(0), Thread::Worker(1)].map(|thread| {
            let (stats, scope) = (stats.clone(), scope.clone());
            std::thread::spawn(move || {
                let local = scope.on(&stats.writer(thread));
                (0..1000).for_each(|_| local.upstream_rq_total.inc());
            })
        });
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(count(&stats, "cluster.a.upstream_rq_total"), Some(2000));
        assert_eq!(count(&stats, "cluster.b.upstream_rq_total"), None);
    }

    #[test]
    fn some_cells_are_told_by_thread_and_some_scopes_not_at_all() {
        let stats = Stats::default();
        let idle = stats.listener("idle");
        let local = stats.listener("127.0.0.1_80").on(&stats.writer(Thread::Worker(1)));
        local.downstream_cx_total.inc();
        assert_eq!(count(&stats, "listener.127.0.0.1_80.downstream_cx_total"), Some(1));
        assert_eq!(count(&stats, "listener.127.0.0.1_80.worker_1.downstream_cx_total"), Some(1));
        let mut names = Vec::new();
        stats.read(true, &mut |name, _| names.push(name.to_owned()));
        assert!(names.is_sorted() && !names.iter().any(|name| name.contains("idle")), "{names:?}");
        stats.reset_counters();
        assert_eq!(count(&stats, "listener.127.0.0.1_80.downstream_cx_total"), Some(0));
        drop(idle);
    }

    #[test]
    fn a_name_goes_on_counting_until_nobody_has_it() {
        let stats = Stats::default();
        let writer = stats.writer(Thread::Main);
        let local = stats.http("x").on(&writer);
        local.answered(204);
        stats.http("x").on(&writer).answered(200);
        assert_eq!(count(&stats, "http.x.downstream_rq_2xx"), Some(2));
        drop(local);
        assert_eq!(count(&stats, "http.x.downstream_rq_2xx"), None);
    }
}
