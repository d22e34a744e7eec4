//! Statistics as they are read: over all threads, scope by scope.

use super::{Seen, Stats, Value};

/// What a statistic says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// A number that grows.
    Counter(u64),
    /// A number that grows and shrinks.
    Gauge(u64),
    /// A text.
    Text(String),
    /// Values.
    Histogram(Seen),
}

impl Reading {
    /// Did anything ever happen to it, as far as can be told?
    pub fn is_used(&self) -> bool {
        match self {
            Reading::Counter(value) | Reading::Gauge(value) => *value > 0,
            Reading::Text(text) => !text.is_empty(),
            Reading::Histogram(seen) => !seen.is_empty(),
        }
    }
}

impl From<Value> for Sum {
    fn from(value: Value) -> Sum {
        match value {
            Value::Counter(value) => Sum::Counter(value),
            Value::Gauge(value) => Sum::Gauge(value),
            Value::Histogram(bins, sum) => Sum::Histogram(Seen::new(bins, sum)),
        }
    }
}

/// A reading to which threads are added. A thread's own gauge may be negative.
pub(super) enum Sum {
    Counter(u64),
    Gauge(i64),
    Histogram(Seen),
}

impl Sum {
    /// Adds another thread's.
    pub(super) fn add(&mut self, other: Sum) {
        match (self, other) {
            (Sum::Counter(sum), Sum::Counter(value)) => *sum = sum.wrapping_add(value),
            (Sum::Gauge(sum), Sum::Gauge(value)) => *sum = sum.wrapping_add(value),
            (Sum::Histogram(sum), Sum::Histogram(value)) => sum.add(&value),
            // One name is one kind of cell in every thread.
            _ => {}
        }
    }

    /// As it is told.
    pub(super) fn finish(self) -> Reading {
        match self {
            Sum::Counter(sum) => Reading::Counter(sum),
            Sum::Gauge(sum) => Reading::Gauge(u64::try_from(sum).unwrap_or_default()),
            Sum::Histogram(seen) => Reading::Histogram(seen),
        }
    }
}

impl Stats {
    /// Tells every statistic by its whole name, in order of scopes and, within a scope, of names. `used`: only scopes that some thread has counted in.
    pub fn read(&self, used: bool, tell: &mut dyn FnMut(&str, Reading)) {
        let mut current = String::new();
        let mut rows: Vec<(String, Sum)> = Vec::new();
        // Threads tell their rows in the same order: the next one is most likely the next.
        let mut next = 0;
        self.scrape(used, &mut |prefix, name, value| {
            if current != prefix {
                flush(&current, &mut rows, tell);
                prefix.clone_into(&mut current);
            }
            let is_next = rows.get(next).is_some_and(|(known, _)| known == name);
            let at = if is_next { Some(next) } else { rows.iter().position(|(known, _)| known == name) };
            match at.and_then(|at| rows.get_mut(at)) {
                Some((_, sum)) => sum.add(value.into()),
                None => rows.push((name.to_owned(), value.into())),
            }
            next = at.map_or(rows.len(), |at| at + 1);
        });
        flush(&current, &mut rows, tell);
    }
}

fn flush(prefix: &str, rows: &mut Vec<(String, Sum)>, tell: &mut dyn FnMut(&str, Reading)) {
    rows.sort_by(|(a, _), (b, _)| a.cmp(b));
    for (name, sum) in rows.drain(..) {
        tell(&format!("{prefix}{name}"), sum.finish());
    }
}
