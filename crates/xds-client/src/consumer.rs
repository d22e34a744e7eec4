//! What whoever uses resources has to do, and what it is told.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;

use crate::Kind;

/// Whoever makes something of resources. All calls come from the thread that drives the [`crate::Store`].
pub trait Consumer {
    /// What a resource is once it is understood. The store keeps it only while it waits for what it needs.
    type Compiled;

    /// Understands one resource, without putting it in force. An error is the reason that the control plane, the log
    /// and the admin interface are told; the same bytes will be refused again.
    fn compile(&mut self, offered: &Offered<'_>) -> Result<Accepted<Self::Compiled>, String>;

    /// It is in force from now on, new or in place of the one of that name. What it needs was set before, or is
    /// known not to come: it does not exist, was refused, or took too long.
    fn set(&mut self, kind: Kind, name: &Arc<str>, compiled: Self::Compiled);

    /// It is no longer in force: the control plane took it away, or nothing needs it any more.
    fn remove(&mut self, kind: Kind, name: &Arc<str>);

    /// What was set and removed since the last time belongs together and may be seen now.
    fn commit(&mut self);

    /// The start has come so far.
    fn phase(&mut self, phase: Phase);
}

/// A resource as it came.
#[derive(Debug)]
pub struct Offered<'a> {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: &'a Arc<str>,
    /// As whoever offers it calls it; empty for static ones.
    pub version: &'a str,
    /// The encoded message, of the type that the kind's URL says.
    pub bytes: &'a Bytes,
    /// Where it is from.
    pub origin: Origin,
}

/// A resource that is understood.
#[derive(Debug)]
pub struct Accepted<C> {
    /// What became of it.
    pub compiled: C,
    /// What must be there before it can be in force. Only for kinds that are no leaves.
    pub needs: Vec<Need>,
}

/// A resource that another needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: Arc<str>,
    /// Where it is to be had.
    pub source: Source,
    /// `initial_fetch_timeout` of its configuration source; none is for ever (Envoy's zero).
    pub fetch_timeout: Option<Duration>,
}

/// Where resources are to be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The aggregated stream.
    Ads,
    /// A file (`path_config_source`).
    Path(PathSource),
}

/// A file with resources.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PathSource {
    /// Which file.
    pub path: PathBuf,
    /// If given, the file is read again when something is moved into this directory, and only then.
    pub watched_directory: Option<PathBuf>,
}

/// Where a resource is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The bootstrap; for good.
    Static,
    /// The control plane.
    Ads,
    /// A file.
    File,
}

/// How far the start has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// The initial clusters are waited for.
    Clusters,
    /// They are all ready; listeners are asked for, and waited for.
    Listeners,
    /// So are they.
    Live,
}

/// A kind that is subscribed to as a whole (`dynamic_resources`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wildcard {
    /// Which.
    pub kind: Kind,
    /// Where it is to be had.
    pub source: Source,
    /// `initial_fetch_timeout`: how long the start waits for a first answer; none is for ever.
    pub fetch_timeout: Option<Duration>,
}

/// A point in time, by both clocks: time is an argument here.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// For time-outs.
    pub monotonic: Instant,
    /// For what is shown.
    pub wall: SystemTime,
}

impl Moment {
    /// This one.
    pub fn now() -> Moment {
        Moment { monotonic: Instant::now(), wall: SystemTime::now() }
    }
}
