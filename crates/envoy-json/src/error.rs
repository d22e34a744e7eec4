//! What can be wrong with JSON, and with bytes.

/// JSON that is not taken. Whoever wrote it is at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonError {
    path: String,
    reason: JsonReason,
}

/// What is wrong with a piece of JSON.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonReason {
    /// It is no JSON at all.
    #[error("no JSON: {0}")]
    Syntax(String),
    /// It is longer than anything we read.
    #[error("{bytes} bytes of JSON, at most {max} are read")]
    Size {
        /// Length found.
        bytes: usize,
        /// Length allowed.
        max: usize,
    },
    /// Messages within messages beyond [`crate::DEPTH_MAX`].
    #[error("nested deeper than {}", crate::DEPTH_MAX)]
    Depth,
    /// Something else was expected here.
    #[error("expected {wanted}, found {found}")]
    Expected {
        /// What may stand here.
        wanted: &'static str,
        /// What does, shortened.
        found: String,
    },
    /// A number that the field cannot hold.
    #[error("{0} is out of range")]
    Range(String),
    /// The message has no such field.
    #[error("unknown field of {0}")]
    UnknownField(&'static str),
    /// The enumeration has no such name.
    #[error("unknown value {0:?}")]
    UnknownValue(String),
    /// `@type`, or the caller, names a message that Envoy's API does not have.
    #[error("unknown message type {0:?}")]
    UnknownType(String),
    /// Two fields of which one excludes the other.
    #[error("excludes {0:?}, which is set too")]
    Excludes(&'static str),
    /// The bytes this made cannot be decoded: a field that is text there holds none, or the program's types are not those of its table.
    #[error("cannot be decoded: {0}")]
    Decode(String),
}

impl JsonError {
    pub(crate) fn new(path: String, reason: JsonReason) -> JsonError {
        JsonError { path, reason }
    }

    /// Where, as `static_resources.clusters[0].name`; empty for all of it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What is wrong there.
    pub fn reason(&self) -> &JsonReason {
        &self.reason
    }
}

impl std::fmt::Display for JsonError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let colon = if self.path.is_empty() { "" } else { ": " };
        write!(f, "{}{colon}{}", self.path, self.reason)
    }
}

impl std::error::Error for JsonError {}

/// Bytes that are no such message. Whoever encoded them is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Envoy's API does not have this message.
    #[error("unknown message type {0:?}")]
    UnknownType(String),
    /// The bytes end early, or are of no or another type.
    #[error("malformed bytes in {0}")]
    Malformed(&'static str),
    /// Messages within messages beyond [`crate::DEPTH_MAX`].
    #[error("nested deeper than {}", crate::DEPTH_MAX)]
    Depth,
}
