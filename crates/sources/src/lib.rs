//! Floor 3: files followed as one stream of changes.
//!
//! [`Follower`] watches files and directories of YAML and JSON and yields [`Update`]s: objects to put in force,
//! keys to take out, and complaints about what was refused. The first update is the whole of what is there.
//!
//! What this deliberately is not: a parser (`api` reads documents), a model (`mesh` folds updates), or a
//! judge of whether objects fit together.
//!
//! The parts, pure ones first:
//! * [`tree`]: which files count, below the paths a user named;
//! * [`schedule`]: what events say about paths, and when each is worth reading; time is an argument;
//! * [`ledger`]: what every file claims, and which claim is in force;
//! * [`store`]: the state directory, so that a restart accepts what was accepted before;
//! * [`notice`]: what is said about kinds that are not acted upon;
//! * [`read`], [`watch`] and [`follow`]: the I/O around them; [`check`] does the same once.
//!
//! Invariants:
//! * what does not parse or validate never takes anything out of force: an object leaves when a readable file
//!   no longer holds it, or when its file is gone;
//! * of two objects of one name the first by path, then line, is in force, whatever arrived first, so a fresh
//!   start on the same files comes to the same result;
//! * every queue and table is bounded by the number of files followed, which is itself bounded
//!   ([`tree::MAX_PATHS`]), and by `api`'s limits per file.

#![forbid(unsafe_code)]

pub mod check;
pub mod follow;
pub mod ledger;
pub mod notice;
pub mod read;
pub mod schedule;
pub mod store;
pub mod tree;
pub mod watch;

use ostro_api::{Complaint, Object, ObjectKey};
use std::sync::Arc;

pub use follow::{Follower, Options};

/// One step from what was in force to what is now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Update {
    /// True for the first update only: after it, everything that was on disk at the start is known.
    pub initial: bool,
    /// Objects new or changed (their place counts), sorted by key.
    pub upserts: Vec<Arc<Object>>,
    /// Objects no longer in force, sorted.
    pub deletes: Vec<ObjectKey>,
    /// What is wrong now and was not before, by file and line. Already logged.
    pub complaints: Vec<Complaint>,
}

impl Update {
    /// True if nobody needs to hear of it.
    pub fn is_empty(&self) -> bool {
        !self.initial && self.upserts.is_empty() && self.deletes.is_empty() && self.complaints.is_empty()
    }
}
