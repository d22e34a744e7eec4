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
}

/// A cell that tells itself.
pub(crate) trait Cell {
    /// Tells what it holds; most cells have the name of their field.
    fn tell(&self, name: &str, tell: &mut dyn FnMut(&str, Value));
}

impl Cell for Counter {
    fn tell(&self, name: &str, tell: &mut dyn FnMut(&str, Value)) {
        tell(name, Value::Counter(self.get()));
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
    /// The name ends where the status goes: `upstream_rq_`.
    fn tell(&self, name: &str, tell: &mut dyn FnMut(&str, Value)) {
        for (status, count) in self.seen() {
            tell(&format!("{name}{status}"), Value::Counter(count));
        }
    }
}

/// Declares a family: a struct whose fields are cells, told by the names of the fields, or by another name.
macro_rules! family {
    ($(#[$doc:meta])* $family:ident { $($field:ident: $cell:ident $(= $name:literal)?,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub(crate) struct $family {
            $(pub $field: $crate::stats::$cell,)*
        }

        impl $crate::stats::Family for $family {
            fn visit(&self, tell: &mut dyn FnMut(&str, $crate::stats::Value)) {
                $($crate::stats::family::Cell::tell(&self.$field, family!(@name $field $($name)?), tell);)*
            }
        }
    };
    (@name $field:ident) => { stringify!($field) };
    (@name $field:ident $name:literal) => { $name };
}
pub(crate) use family;
