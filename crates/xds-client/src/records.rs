//! What is known of each resource, for whoever wants to see it: the encoded messages in force and waiting, versions, times
//! and refusals.
//!
//! Shared between the thread that drives the store and any that looks. A record that changes is replaced, so that who looks
//! holds no lock while it works on what it saw.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;

use crate::consumer::{Origin, Phase};
use crate::counters::{ControlPlaneCounters, SubscriptionCounters};
use crate::kind::Kind;
use crate::warming::Key;

/// All records; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Records(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    inner: Mutex<Inner>,
    control_plane: ControlPlaneCounters,
}

#[derive(Debug)]
pub(crate) struct Inner {
    kinds: HashMap<Kind, OfKind>,
    pub(crate) phase: Phase,
}

#[derive(Debug, Default)]
struct OfKind {
    by_name: BTreeMap<Arc<str>, Arc<Record>>,
    counters: Arc<SubscriptionCounters>,
}

/// What is known of one resource.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: Arc<str>,
    /// Where it is from, or is to be had.
    pub origin: Origin,
    /// What is in force.
    pub active: Option<Held>,
    /// What waits.
    pub warming: Option<Held>,
    /// What the one that waits needs.
    pub needs: Arc<[Key]>,
    /// The last refusal, until something is accepted.
    pub failure: Option<Arc<Failure>>,
    /// As Envoy's `ClientResourceStatus`.
    pub status: Status,
}

/// A version of a resource that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// As its source calls it.
    pub version: Arc<str>,
    /// The encoded message.
    pub bytes: Bytes,
    /// When these bytes came.
    pub updated: SystemTime,
}

/// A version of a resource that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// As its source calls it.
    pub version: Arc<str>,
    /// What was refused.
    pub bytes: Bytes,
    /// Why.
    pub details: String,
    /// When.
    pub at: SystemTime,
}

/// How it stands with a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// It was asked for, and has not come.
    Requested,
    /// Its source says that there is none.
    DoesNotExist,
    /// The last that came was accepted.
    Acked,
    /// The last that came was refused.
    Nacked,
    /// It has not come in its time.
    TimedOut,
}

impl Record {
    pub(crate) fn new(kind: Kind, name: Arc<str>, origin: Origin) -> Record {
        Record {
            kind,
            name,
            origin,
            active: None,
            warming: None,
            needs: Arc::new([]),
            failure: None,
            status: Status::Requested,
        }
    }

    /// The version accepted last.
    pub fn accepted(&self) -> Option<&Held> {
        self.warming.as_ref().or(self.active.as_ref())
    }
}

impl Default for Inner {
    fn default() -> Self {
        Inner { kinds: HashMap::new(), phase: Phase::Clusters }
    }
}

impl Records {
    /// Every record of a kind, in order of names.
    pub fn each(&self, kind: Kind, f: &mut dyn FnMut(&Record)) {
        let records: Vec<Arc<Record>> = match self.locked().kinds.get(&kind) {
            Some(of_kind) => of_kind.by_name.values().cloned().collect(),
            None => return,
        };
        records.iter().for_each(|record| f(record));
    }

    /// One record.
    pub fn get(&self, kind: Kind, name: &str) -> Option<Arc<Record>> {
        self.locked().kinds.get(&kind)?.by_name.get(name).cloned()
    }

    /// How many records of a kind there are.
    pub fn count(&self, kind: Kind) -> usize {
        self.locked().kinds.get(&kind).map_or(0, |of_kind| of_kind.by_name.len())
    }

    /// The version of the whole that was accepted last.
    pub fn version(&self, kind: Kind) -> String {
        self.counters(kind).version_text()
    }

    /// What is counted of a kind.
    pub fn counters(&self, kind: Kind) -> Arc<SubscriptionCounters> {
        self.locked().kinds.entry(kind).or_default().counters.clone()
    }

    /// What is counted of the stream.
    pub fn control_plane(&self) -> &ControlPlaneCounters {
        &self.0.control_plane
    }

    /// How far the start has come.
    pub fn phase(&self) -> Phase {
        self.locked().phase
    }

    /// What waits, and for what.
    pub fn unready(&self) -> Vec<(Key, Vec<Key>)> {
        let inner = self.locked();
        let missing = |key: &&Key| {
            inner.get(key).is_none_or(|record| record.status == Status::Requested && record.active.is_none())
        };
        let records = inner.kinds.values().flat_map(|of_kind| of_kind.by_name.values());
        let waiting = records.filter(|record| record.warming.is_some());
        let mut found: Vec<(Key, Vec<Key>)> = waiting
            .map(|record| {
                let key = (record.kind, record.name.clone());
                (key, record.needs.iter().filter(missing).cloned().collect())
            })
            .collect();
        found.sort();
        found
    }

    pub(crate) fn locked(&self) -> MutexGuard<'_, Inner> {
        // Records are replaced whole: a panic elsewhere leaves them sound.
        self.0.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    pub(crate) fn get(&self, (kind, name): &Key) -> Option<&Arc<Record>> {
        self.kinds.get(kind)?.by_name.get(name)
    }

    pub(crate) fn count(&self, kind: Kind) -> usize {
        self.kinds.get(&kind).map_or(0, |of_kind| of_kind.by_name.len())
    }

    /// Changes a record, which is made if there is none.
    pub(crate) fn change(&mut self, key: &Key, origin: Origin, f: impl FnOnce(&mut Record)) {
        let by_name = &mut self.kinds.entry(key.0).or_default().by_name;
        let record = by_name
            .entry(key.1.clone())
            .or_insert_with(|| Arc::new(Record::new(key.0, key.1.clone(), origin)));
        f(Arc::make_mut(record));
    }

    pub(crate) fn forget(&mut self, (kind, name): &Key) -> Option<Arc<Record>> {
        self.kinds.get_mut(kind)?.by_name.remove(name)
    }

    pub(crate) fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Arc<Record>> {
        self.kinds.get(&kind).into_iter().flat_map(|of_kind| of_kind.by_name.values())
    }
}
