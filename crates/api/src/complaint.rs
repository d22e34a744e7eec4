//! What is wrong with a document: where, what was found, what is allowed.

use std::fmt;
use std::sync::Arc;

use crate::object::ObjectKey;

/// Whether the object is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// The object is accepted.
    Warning,
    /// The object is refused; its last good version stays in force.
    Error,
}

/// How [`Complaint::allowed`] begins where it asks instead.
pub(crate) const DID_YOU_MEAN: &str = "did you mean ";

/// One thing that is wrong. Its `Display` is one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// The file, as the caller named it.
    pub file: Arc<str>,
    /// From 1; 0 where the file as a whole is meant.
    pub line: u32,
    /// From 1; 0 where the line or the file as a whole is meant.
    pub column: u32,
    /// The object it is in, if its key could be read.
    pub object: Option<ObjectKey>,
    /// `spec.http[0].route[1].weight`; empty where the document as a whole is meant.
    pub path: String,
    /// What is there.
    pub found: String,
    /// What could be there instead.
    pub allowed: String,
    /// Whether the object is refused.
    pub severity: Severity,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if self.column > 0 {
            write!(f, ":{}", self.column)?;
        }
        f.write_str(": ")?;
        if let Some(object) = &self.object {
            write!(f, "{object}: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        write!(f, "{}", self.found)?;
        // A question is no list of what is allowed.
        match self.allowed.starts_with(DID_YOU_MEAN) {
            _ if self.allowed.is_empty() => {}
            true => write!(f, "; {}", self.allowed)?,
            false => write!(f, "; allowed: {}", self.allowed)?,
        }
        Ok(())
    }
}
