//! Families: which cells a kind of scope has, by Envoy's names.

use super::cell::{Codes, Counter, Gauge, Histogram};

/// A cell as it is scraped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// A number that grows.
    Counter(u64),
    /// A number that grows and shrinks.
    Gauge(i64),
    /// Values with how often they came, and their sum.
    Histogram(Vec<(u64, u64)>, u64),
}

/// The cells of a kind of scope.
pub(crate) trait Family: Default + Send + Sync + 'static {
    /// Tells every cell by its name.
    fn visit(&self, tell: &mut dyn FnMut(&str, Value));

    /// Sets what grows back to nothing. What is counted meanwhile may be lost.
    fn reset(&self);

    /// Cells that are also told for each thread.
    const PER_THREAD: &'static [&'static str] = &[];
}

/// A cell that tells itself.
pub(crate) trait Cell {
    /// Tells what it holds; most cells have the name of their field.
    fn tell(&self, name: &str, tell: &mut dyn FnMut(&str, Value));

    /// Sets what grows back to nothing.
    fn reset(&self) {}
}

impl Cell for Counter {
    fn tell(&self, name: &str, tell: &mut dyn FnMut(&str, Value)) {
        tell(name, Value::Counter(self.get()));
    }

    fn reset(&self) {
        Counter::reset(self);
    }
}

impl Cell for Gauge {
    fn tell(&self, name: &str, tell: &mut dyn FnMut(&str, Value)) {
        tell(name, Value::Gauge(self.get()));
    }
}

impl Cell for Histogram {
    fn tell(&self, name: &str, tell: &mut dyn FnMut(&str, Value)) {
        tell(name, Value::Histogram(self.seen().collect(), self.sum()));
    }
}

impl Cell for Codes {
    /// The name ends where the status goes: `upstream_rq_`. Classes and their sum are told of those that have a prefix of their own
    /// (`external.`): the others are counted.
    fn tell(&self, name: &str, tell: &mut dyn FnMut(&str, Value)) {
        let seen = self.seen();
        let mut classes = [0; 6];
        for (status, count) in &seen {
            tell(&format!("{name}{status}"), Value::Counter(*count));
            if let Some(class) = classes.get_mut(usize::from(status / 100)) {
                *class += count;
            }
        }
        if seen.is_empty() || !name.contains('.') {
            return;
        }
        for (class, count) in (0..).zip(classes).filter(|(_, count)| *count > 0) {
            tell(&format!("{name}{class}xx"), Value::Counter(count));
        }
        tell(&format!("{name}completed"), Value::Counter(classes.iter().sum()));
    }

    fn reset(&self) {
        Codes::reset(self);
    }
}

/// A counter that never counts: of what this proxy does not do. It is told, so that who looks for it finds it.
#[derive(Debug, Default)]
pub(crate) struct Zero;

impl Cell for Zero {
    fn tell(&self, name: &str, tell: &mut dyn FnMut(&str, Value)) {
        tell(name, Value::Counter(0));
    }
}

/// Declares a family: a struct whose fields are cells, told by the names of the fields, or by another name; some for each thread.
macro_rules! family {
    ($(#[$doc:meta])* $family:ident $(per thread [$($each:literal),*])? { $($field:ident: $cell:ident $(= $name:literal)?,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub(crate) struct $family {
            $(pub $field: $crate::stats::$cell,)*
        }

        impl $crate::stats::Family for $family {
            fn visit(&self, tell: &mut dyn FnMut(&str, $crate::stats::Value)) {
                $($crate::stats::family::Cell::tell(&self.$field, family!(@name $field $($name)?), tell);)*
            }

            fn reset(&self) {
                $($crate::stats::family::Cell::reset(&self.$field);)*
            }

            $(const PER_THREAD: &'static [&'static str] = &[$($each),*];)?
        }
    };
    (@name $field:ident) => { stringify!($field) };
    (@name $field:ident $name:literal) => { $name };
}
pub(crate) use family;
