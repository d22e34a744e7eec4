//! What is held of all resources, wherever they are from, and what is in force.
//!
//! One path for all: static resources of the bootstrap, files and the control plane hand over encoded messages; the
//! [`Consumer`] compiles each; [`crate::warming`] says when it comes into force; [`Records`] remembers the bytes. What it is
//! not: it reads no socket, file or clock; whoever drives it does, and passes the time.
//!
//! Invariants:
//! * A resource that is refused changes nothing but its record: the version before stays in force, and good resources of
//!   the same response are taken.
//! * The same bytes are not compiled again.
//! * Static resources are never replaced or removed.
//! * What nobody asked for is passed over.

mod deliver;
mod settle;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::consumer::{Consumer, Moment, Origin, PathSource, Source, Wildcard};
use crate::delivery::inner_name;
use crate::kind::{Absence, Kind, Role, Scope};
use crate::records::{Held, Records, Status};
use crate::warming::{Key, Warming};

pub use deliver::Outcome;

/// All resources of a process. See the module.
#[derive(Debug)]
pub struct Store<C: Consumer> {
    consumer: C,
    wildcards: Vec<Wildcard>,
    warming: Warming,
    /// Compiled next versions of roots, until they come into force.
    waiting: HashMap<Key, C::Compiled>,
    records: Records,
    /// Files that targets are to be had from; the others come from the control plane.
    from_files: HashMap<Key, PathSource>,
    /// Explicit interests, so that each counts once.
    interests: BTreeSet<Key>,
    /// When resources die that live for a time only.
    expiries: BTreeSet<(Instant, Key)>,
    expires: HashMap<Key, Instant>,
    asks: Vec<Ask>,
    /// Something was set or removed since the last commit.
    uncommitted: bool,
    /// The response at hand has changed what is held.
    touched: bool,
    unnamed: u32,
}

/// What a source is to be asked for from now on, or no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// All of a kind.
    All(Kind, Source),
    /// One by name.
    Want(Key, Source),
    /// That one no longer.
    Unwant(Key, Source),
}

impl<C: Consumer> Store<C> {
    /// Holds nothing; the wildcards are what is asked for as a whole once the start begins.
    pub fn new(consumer: C, wildcards: Vec<Wildcard>) -> Store<C> {
        Store {
            consumer,
            warming: Warming::new(wildcards.iter().map(|whole| (whole.kind, whole.fetch_timeout))),
            wildcards,
            waiting: HashMap::new(),
            records: Records::default(),
            from_files: HashMap::new(),
            interests: BTreeSet::new(),
            expiries: BTreeSet::new(),
            expires: HashMap::new(),
            asks: Vec::new(),
            uncommitted: false,
            touched: false,
            unnamed: 0,
        }
    }

    /// Takes a static resource, before the start. One without a name is given one. The error is the consumer's
    /// reason, or that the name is taken.
    pub fn add_static(&mut self, kind: Kind, bytes: Bytes, now: Moment) -> Result<(), String> {
        let name: Arc<str> = match inner_name(kind, &bytes)?.filter(|name| !name.is_empty()) {
            Some(name) => name.into(),
            None => {
                self.unnamed += 1;
                format!("static-{}-{}", kind.short(), self.unnamed).into()
            }
        };
        let key = (kind, name);
        if self.records.locked().get(&key).is_some_and(|record| record.status != Status::Requested) {
            return Err(format!(
                "there is another {} {:?}",
                kind.spec().plural.trim_end_matches("(s)"),
                key.1
            ));
        }
        self.offer(&key, Origin::Static, "".into(), bytes, now)
    }

    /// The static resources are there: the start begins.
    pub fn begin(&mut self, now: Moment) {
        self.warming.begin(now.monotonic);
        self.settle(now);
    }

    /// Somebody wants this one beyond what resources need, or does no longer. Each key counts once.
    pub fn interest(&mut self, key: &Key, on: bool, now: Moment) {
        if on && self.interests.insert(key.clone()) {
            self.warming.interest(key, now.monotonic);
        } else if !on && self.interests.remove(key) {
            self.warming.disinterest(key);
        }
        self.settle(now);
    }

    /// Time has come so far: what waited too long goes on without, what lived long enough dies.
    pub fn tick(&mut self, now: Moment) {
        self.warming.tick(now.monotonic);
        while let Some((at, key)) = self.expiries.first().cloned() {
            if at > now.monotonic {
                break;
            }
            self.set_expiry(&key, None);
            self.take_away(&key, now);
        }
        self.settle(now);
    }

    /// When [`Store::tick`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        let expiry = self.expiries.first().map(|(at, _)| *at);
        [expiry, self.warming.next_deadline()].into_iter().flatten().min()
    }

    /// What sources are to be asked for since the last time.
    pub fn take_asks(&mut self) -> Vec<Ask> {
        std::mem::take(&mut self.asks)
    }

    /// Should acknowledgements of this kind wait? See [`Warming::holds`].
    pub fn holds(&self, kind: Kind) -> bool {
        self.warming.holds(kind)
    }

    /// Names and versions of what the control plane has given of a kind.
    pub fn versions(&self, kind: Kind) -> BTreeMap<Arc<str>, Arc<str>> {
        let records = self.records.locked();
        let from_ads = records.of_kind(kind).filter(|record| record.origin == Origin::Ads);
        let version = |held: &Held| held.version.clone();
        from_ads.filter_map(|record| Some((record.name.clone(), record.accepted().map(version)?))).collect()
    }

    /// What is known of each resource, for others to see.
    pub fn records(&self) -> Records {
        self.records.clone()
    }

    /// Who uses the resources.
    pub fn consumer(&self) -> &C {
        &self.consumer
    }

    /// Who uses the resources.
    pub fn consumer_mut(&mut self) -> &mut C {
        &mut self.consumer
    }

    /// Does anybody want it, by name or as one of all?
    fn is_wanted(&self, key: &Key) -> bool {
        let as_one_of_all = key.0.spec().scope == Scope::All && self.warming.is_begun(key.0);
        as_one_of_all || self.warming.is_wanted(key)
    }

    fn source_of(&self, key: &Key) -> Source {
        self.from_files.get(key).map_or(Source::Ads, |path| Source::Path(path.clone()))
    }

    fn set_expiry(&mut self, key: &Key, at: Option<Instant>) {
        if let Some(before) = self.expires.remove(key) {
            self.expiries.remove(&(before, key.clone()));
        }
        if let Some(at) = at {
            self.expires.insert(key.clone(), at);
            self.expiries.insert((at, key.clone()));
        }
    }

    /// The source says that there is no such resource.
    fn take_away(&mut self, key: &Key, now: Moment) {
        let spec = key.0.spec();
        let known = self.records.locked().get(key).map(|record| record.origin);
        if known.is_none_or(|origin| origin == Origin::Static) {
            return;
        }
        self.touched = true;
        match (spec.absence, spec.role) {
            (Absence::PassedOver, _) => return,
            (Absence::KeepsLast, _) => {}
            (Absence::Removes, Role::Leaf) => self.drop_active(key),
            (Absence::Removes, Role::First | Role::Second) => {
                self.waiting.remove(key);
                self.records.locked().change(key, Origin::Ads, |record| {
                    (record.active, record.warming, record.failure) = (None, None, None);
                });
                if self.warming.remove(key, now.monotonic) {
                    self.unset(key);
                }
            }
        }
        self.set_expiry(key, None);
        if self.warming.is_wanted(key) {
            // Somebody asked for this one by name, and is to know.
            self.records.locked().change(key, Origin::Ads, |record| record.status = Status::DoesNotExist);
            self.warming.answered(key, now.monotonic);
        } else if spec.scope == Scope::All {
            self.records.locked().forget(key);
        }
        // One by name that nobody needs since this response goes when it is settled.
    }

    fn drop_active(&mut self, key: &Key) {
        let mut was_active = false;
        self.records.locked().change(key, Origin::Ads, |record| was_active = record.active.take().is_some());
        if was_active {
            self.unset(key);
        }
    }

    fn unset(&mut self, (kind, name): &Key) {
        self.uncommitted = true;
        self.consumer.remove(*kind, name);
    }
}
