//! Statistics with labels of their own (`istio_requests_total{..}`): which there are, is known only when they are counted.
//!
//! A *series* is a metric with one set of labels. Its cells are, like those of scopes, one for each thread. A series
//! stays for as long as the process; how many there may be is bounded, and what finds no room is counted.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::cell::{Counter, Gauge, Histogram};
use super::family::Value;
use super::reading::{Reading, Sum};
use super::registry::{Thread, Writer};

/// Most series. A process with 500 peers, each with a handful of statuses and flags, has a quarter of them.
pub(crate) const SERIES_MAX: usize = 16_384;

/// A label's name and its value.
pub(crate) type Label = (Box<str>, Box<str>);

/// A metric with one set of labels; labels are told in this order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SeriesName {
    /// Name of the metric.
    pub metric: &'static str,
    /// Names and values.
    pub labels: Vec<Label>,
}

impl SeriesName {
    /// Everything in one name, as Envoy's plain statistics have it.
    pub fn flat(&self, prefix: &str) -> String {
        let mut name = format!("{prefix}{}", self.metric);
        for (label, value) in &self.labels {
            name.push('.');
            name.push_str(label);
            name.push('.');
            name.push_str(value);
        }
        name
    }
}

/// A cell of any kind.
pub(crate) trait Kind: Default + Send + Sync + 'static {
    /// As the table has it.
    fn any(cell: Arc<Self>) -> Any;
    /// The cell, if the table has it as one of this kind.
    fn of(any: &Any) -> Option<Arc<Self>>;
}

/// A cell as the table has it.
#[derive(Clone)]
pub(crate) enum Any {
    Counter(Arc<Counter>),
    Gauge(Arc<Gauge>),
    Histogram(Arc<Histogram>),
}

macro_rules! kinds {
    ($($kind:ident),*) => {
        $(impl Kind for $kind {
            fn any(cell: Arc<Self>) -> Any {
                Any::$kind(cell)
            }

            fn of(any: &Any) -> Option<Arc<Self>> {
                match any {
                    Any::$kind(cell) => Some(Arc::clone(cell)),
                    _ => None,
                }
            }
        })*
    };
}
kinds!(Counter, Gauge, Histogram);

impl Any {
    fn value(&self) -> Value {
        match self {
            Any::Counter(cell) => Value::Counter(cell.get()),
            Any::Gauge(cell) => Value::Gauge(cell.get()),
            Any::Histogram(cell) => Value::Histogram(cell.seen().collect(), cell.sum()),
        }
    }

    fn reset(&self) {
        match self {
            Any::Counter(cell) => cell.reset(),
            Any::Histogram(cell) => super::family::Cell::reset(&**cell),
            Any::Gauge(_) => {}
        }
    }
}

/// A series' cell of this thread.
pub(crate) struct Labelled<K> {
    cell: Arc<K>,
    _of_this_thread: PhantomData<Rc<()>>,
}

impl<K> Deref for Labelled<K> {
    type Target = K;

    fn deref(&self) -> &K {
        &self.cell
    }
}

/// A series' cells, by thread.
type Cells = Vec<(Thread, Any)>;

/// All series.
#[derive(Default)]
pub(crate) struct Table {
    series: Mutex<BTreeMap<Arc<SeriesName>, Cells>>,
    overflow: AtomicU64,
}

impl Table {
    /// This thread's cell of a series, made on first use; nothing if there is no room. Takes a lock: keep what is returned.
    pub fn on<K: Kind>(&self, writer: &Writer, name: SeriesName) -> Option<Labelled<K>> {
        let thread = writer.thread();
        let mut series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = series.len() >= SERIES_MAX;
        let cells = match series.get_mut(&name) {
            Some(cells) => cells,
            None if is_full => {
                self.overflow.fetch_add(1, Ordering::Relaxed);
                return None;
            }
            None => series.entry(Arc::new(name)).or_default(),
        };
        let known = cells.iter().find(|(of, _)| *of == thread);
        let cell = match known {
            Some((_, any)) => K::of(any)?,
            None => {
                let cell = Arc::new(K::default());
                cells.push((thread, K::any(Arc::clone(&cell))));
                cell
            }
        };
        Some(Labelled { cell, _of_this_thread: PhantomData })
    }

    /// How often there was no room for a series.
    pub fn overflow(&self) -> u64 {
        self.overflow.load(Ordering::Relaxed)
    }

    /// Tells every series, in order, over all threads.
    pub fn read(&self, tell: &mut dyn FnMut(&SeriesName, Reading)) {
        // Telling may take long; counting must not wait for it.
        let all: Vec<(Arc<SeriesName>, Cells)> = {
            let series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
            series.iter().map(|(name, cells)| (Arc::clone(name), cells.clone())).collect()
        };
        for (name, cells) in all {
            let mut values = cells.iter().map(|(_, cell)| Sum::from(cell.value()));
            let Some(mut sum) = values.next() else { continue };
            values.for_each(|value| sum.add(value));
            tell(&name, sum.finish());
        }
    }

    /// Sets all that grows back to nothing.
    pub fn reset(&self) {
        let series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        series.values().flatten().for_each(|(_, cell)| cell.reset());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test's helpers fail the test by panicking")]

    use super::*;
    use crate::stats::Stats;

    fn name(value: &str) -> SeriesName {
        SeriesName { metric: "istio_requests_total", labels: vec![("reporter".into(), value.into())] }
    }

    fn all(table: &Table) -> Vec<(String, Reading)> {
        let mut all = Vec::new();
        table.read(&mut |name, reading| all.push((name.flat("p."), reading)));
        all
    }

    #[test]
    fn a_series_is_counted_by_threads_and_read_over_them() {
        let (stats, table) = (Stats::default(), Table::default());
        let writers = [Thread::Worker(0), Thread::Worker(1)].map(|thread| stats.writer(thread));
        for writer in &writers {
            table.on::<Counter>(writer, name("source")).unwrap().add(2);
            table.on::<Counter>(writer, name("source")).unwrap().inc();
        }
        table.on::<Histogram>(&writers[0], name("destination")).unwrap().record(7);
        assert!(table.on::<Gauge>(&writers[0], name("source")).is_none(), "it is a counter");
        let told = all(&table);
        assert_eq!(told[1], ("p.istio_requests_total.reporter.source".to_owned(), Reading::Counter(6)));
        assert!(matches!(&told[0].1, Reading::Histogram(seen) if seen.count() == 1));
        table.reset();
        assert_eq!(all(&table)[1].1, Reading::Counter(0));
    }

    #[test]
    fn there_is_room_for_so_many_and_what_finds_none_is_counted() {
        let (stats, table) = (Stats::default(), Table::default());
        let writer = stats.writer(Thread::Main);
        for number in 0..SERIES_MAX {
            assert!(table.on::<Counter>(&writer, name(&number.to_string())).is_some());
        }
        assert!(table.on::<Counter>(&writer, name("one more")).is_none());
        assert!(table.on::<Counter>(&writer, name("7")).is_some());
        assert_eq!(table.overflow(), 1);
    }
}
