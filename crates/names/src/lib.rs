//! Floor 0: the mesh's vocabulary of names, interned, and the limits every table is bound by.
//!
//! A name is a `u32` that stands for a string in one process-wide, append-only table: copying,
//! comparing for equality and hashing cost nothing, and a map of a million edges stays small.
//! Names of different meaning are different types ([`Host`], [`Namespace`]) and do not convert
//! into each other, so swapping two arguments does not compile.
//!
//! What this deliberately is not: a cache. Nothing is ever removed, so only strings that come from
//! accepted configuration belong here, never what a peer sends per request: look those up with
//! `lookup`, which does not intern.
//!
//! Invariants:
//! * one string has one number for the life of the process, and the other way round;
//! * order (`Ord`) is the order of the strings, so sorted output does not depend on arrival;
//! * the empty string is number 0, which is also `Default`.

pub mod limits;
mod spread;
mod table;

pub use spread::{Spread, Spreading};
pub use table::{NameError, interned};

/// Declares newtypes over the intern table. Each is `Copy`, four bytes, ordered by string.
#[macro_export]
macro_rules! name_types {
    ($($(#[$meta:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
        pub struct $name(u32);

        impl $name {
            /// Interns a string whose length and number something else already bounds. Strings from
            /// outside go through [`Self::try_new`].
            pub fn new(text: &str) -> Self {
                Self($crate::__intern(text))
            }

            /// Interns a string from outside: refuses one that is too long, and refuses to grow the
            /// table past its limit (`limits::NAMES`).
            pub fn try_new(text: &str) -> Result<Self, $crate::NameError> {
                $crate::__try_intern(text).map(Self)
            }

            /// The name, if anything has interned this string; never grows the table.
            pub fn lookup(text: &str) -> Option<Self> {
                $crate::__lookup(text).map(Self)
            }

            /// The string; lives as long as the process.
            pub fn as_str(self) -> &'static str {
                $crate::__text(self.0)
            }

            /// Whether this is the empty string, which is also `Default`.
            pub fn is_empty(self) -> bool {
                self.0 == 0
            }

            /// The number in the table: dense, different in every process, never written anywhere.
            pub fn index(self) -> u32 {
                self.0
            }
        }

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }

        impl Ord for $name {
            fn cmp(&self, other: &Self) -> std::cmp::Ordering {
                if self.0 == other.0 {
                    return std::cmp::Ordering::Equal;
                }
                self.as_str().cmp(other.as_str())
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{:?}", self.as_str())
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self::new(text)
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                self.as_str() == other
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                self.as_str() == *other
            }
        }
    )+};
}

name_types! {
    /// A name with no narrower meaning: an object's name, a resource's name, a label.
    Name,
    /// A fully qualified host of the mesh, in lower case, possibly with a leading `*`.
    Host,
    /// A Kubernetes namespace; the empty one is that of cluster-scoped objects.
    Namespace,
}

#[doc(hidden)]
pub use table::{intern as __intern, lookup as __lookup, text as __text, try_intern as __try_intern};

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn one_string_is_one_name() {
        let a = Name::new("reviews");
        assert_eq!(a, Name::new("reviews"));
        assert_ne!(a, Name::new("ratings"));
        assert_eq!(a.as_str(), "reviews");
        assert_eq!(format!("{a} {a:?} [{a:>9}]"), "reviews \"reviews\" [  reviews]");
    }

    #[test]
    fn order_is_by_string_not_by_arrival() {
        let set: BTreeSet<Host> = ["zz.order", "aa.order", "mm.order"].map(Host::new).into();
        let got: Vec<_> = set.iter().map(|h| h.as_str()).collect();
        assert_eq!(got, ["aa.order", "mm.order", "zz.order"]);
    }

    #[test]
    fn default_is_the_empty_string() {
        assert_eq!(Namespace::default(), Namespace::new(""));
        assert!(Namespace::new("").is_empty());
        assert!(!Namespace::new("default").is_empty());
    }

    #[test]
    fn lookup_never_grows_the_table() {
        assert_eq!(Name::lookup("nobody has ever said this"), None);
        let said = Name::new("somebody has said this");
        assert_eq!(Name::lookup("somebody has said this"), Some(said));
    }

    #[test]
    fn a_string_from_outside_that_is_too_long_is_refused() {
        let long = "x".repeat(limits::NAME_BYTES + 1);
        assert_eq!(Name::try_new(&long), Err(NameError::TooLong { bytes: long.len() }));
        assert!(Name::try_new(&long[1..]).is_ok());
    }

    #[test]
    fn threads_agree_on_every_name() {
        let all: Vec<Vec<Name>> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| (0..5_000).map(|i| Name::new(&format!("thread-name-{i}"))).collect()))
                .collect();
            workers.into_iter().map(|w| w.join().unwrap()).collect()
        });
        for names in &all {
            assert_eq!(names, &all[0]);
        }
        for (i, name) in all[0].iter().enumerate() {
            assert_eq!(name.as_str(), format!("thread-name-{i}"));
        }
    }
}
