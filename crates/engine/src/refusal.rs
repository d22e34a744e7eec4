//! Why a resource was not taken: where in it, and what about it.

use envoy_types::pb::google::protobuf::Any;
use prost::{Message, Name};

use crate::regex::PatternError;

/// A resource that is not taken. Whoever built the resource is at fault; the same bytes will be refused again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Where, innermost first.
    path: Vec<String>,
    reason: Reason,
}

/// What is wrong with a resource.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// Valid Envoy configuration that this engine does not implement.
    #[error("not supported: {0}")]
    Unsupported(String),
    /// Envoy would refuse it too.
    #[error("invalid: {0}")]
    Invalid(String),
    /// A regular expression that is none.
    #[error("regular expression {pattern:?}: {error}")]
    Pattern {
        /// As configured.
        pattern: String,
        /// What is wrong with it.
        error: PatternError,
    },
    /// Two filter chains of one listener with the same match.
    #[error("filter chain {second:?} has the same match as {first:?}")]
    SameMatch {
        /// Name of the chain that came first.
        first: String,
        /// Name of the other.
        second: String,
    },
}

impl Refusal {
    /// Configuration this engine does not implement.
    pub(crate) fn unsupported(what: impl Into<String>) -> Refusal {
        Refusal::from(Reason::Unsupported(what.into()))
    }

    /// Configuration Envoy refuses too.
    pub(crate) fn invalid(what: impl Into<String>) -> Refusal {
        Refusal::from(Reason::Invalid(what.into()))
    }

    /// The same, seen from one level further out.
    pub(crate) fn within(mut self, outer: impl Into<String>) -> Refusal {
        self.path.push(outer.into());
        self
    }

    /// What is wrong.
    pub fn reason(&self) -> &Reason {
        &self.reason
    }
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Refusal {
        Refusal { path: Vec::new(), reason }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, segment) in self.path.iter().rev().enumerate() {
            if i > 0 {
                f.write_str(".")?;
            }
            f.write_str(segment)?;
        }
        let colon = if self.path.is_empty() { "" } else { ": " };
        write!(f, "{colon}{}", self.reason)
    }
}

impl std::error::Error for Refusal {}

/// Adds the place to whatever goes wrong inside.
pub(crate) trait Within<T> {
    fn within(self, outer: impl FnOnce() -> String) -> Result<T, Refusal>;
}

impl<T> Within<T> for Result<T, Refusal> {
    fn within(self, outer: impl FnOnce() -> String) -> Result<T, Refusal> {
        self.map_err(|refusal| refusal.within(outer()))
    }
}

/// Is the message of this type?
pub(crate) fn is<M: Name>(any: &Any) -> bool {
    any.type_url == M::type_url()
}

/// Decodes a packed message of a type that has been checked.
pub(crate) fn unpack<M: Message + Name + Default>(any: &Any) -> Result<M, Refusal> {
    M::decode(any.value.as_slice()).map_err(|error| Refusal::invalid(format!("{}: {error}", any.type_url)))
}

pub(crate) fn is_unset<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Refuses the fields named if any of them is set.
macro_rules! refuse_if_set {
    ($($field:ident),* $(,)?) => {
        $(if !$crate::refusal::is_unset($field) {
            return Err($crate::Refusal::unsupported(stringify!($field)));
        })*
    };
}

/// Says which field of a message meets which fate: compiled, carried along as it came, or refused if it is set. All
/// must be named, so that a field which Envoy gains does not compile until somebody decides.
macro_rules! fates {
    ($proto:ident: $message:ident $(:: $part:ident)* {
        compiled: $($compiled:ident),* $(,)?;
        refused: $($refused:ident),* $(,)?;
    }) => {
        fates!($proto: $message $(:: $part)* {
            compiled: $($compiled),*;
            carried: ;
            refused: $($refused),*;
        });
    };
    ($proto:ident: $message:ident $(:: $part:ident)* {
        compiled: $($compiled:ident),*;
        carried: $($carried:ident),*;
        refused: $($refused:ident),*;
    }) => {
        #[allow(deprecated, reason = "a deprecated field that is set must be seen to be refused")]
        let $message $(:: $part)* { $($compiled: _,)* $($carried: _,)* $($refused,)* } = $proto;
        refuse_if_set!($($refused),*);
    };
}
