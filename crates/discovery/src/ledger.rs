//! One connection's account of one resource type: what it should have, what it was told, and the difference.
//!
//! Invariant: `upserts` and `removals` are exactly the names whose wanted version differs from the told one (checked by
//! [`Ledger::settle`], through which every change goes), so what is pending is bounded by what is subscribed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use ostro_names::Name;

use crate::resource::{Resource, Version};

/// How the peer is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Telling {
    /// Differences by name, removals included.
    Delta,
    /// State of the world, by name: what is left out stays as it was.
    Named,
    /// State of the world, whole: what is left out is removed.
    Whole,
}

/// Resources to tell, and names to tell gone, each sorted by name.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub resources: Vec<(Name, Arc<Resource>)>,
    pub removed: Vec<Name>,
    /// What is taken away, said or unsaid.
    pub gone: Vec<Name>,
    /// The endpoints that new and changed clusters among them wait for.
    pub endpoints: Vec<Name>,
}

/// What becomes of a pending name when a response is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It is told.
    Tell,
    /// It waits.
    Wait,
    /// The peer is told once more what it has, and what is pending goes on waiting.
    Repeat,
}

#[derive(Debug, Default)]
struct Entry {
    /// What it should have; `None`: nothing, as far as membership goes.
    wanted: Option<Arc<Resource>>,
    told: Version,
    /// What the peer has, kept while something else is to be told.
    last: Option<Arc<Resource>>,
    /// How many parts contribute the name, plus one if it is subscribed to by name.
    references: u32,
}

impl Entry {
    fn wanted_version(&self) -> Version {
        self.wanted.as_ref().map_or(Version::ABSENT, |resource| resource.version)
    }
}

/// The account.
#[derive(Debug)]
pub(crate) struct Ledger {
    telling: Telling,
    /// Membership decides what exists: what goes away is removed, and removals wait for their turn.
    wildcard_type: bool,
    entries: HashMap<Name, Entry>,
    upserts: HashSet<Name>,
    removals: HashSet<Name>,
    /// What the peer has, kept only for [`Telling::Whole`], which must repeat what it does not yet take away.
    has: HashMap<Name, Arc<Resource>>,
    /// An answer is due even if there is nothing to say.
    pub answer_due: bool,
}

impl Ledger {
    pub fn new(telling: Telling, wildcard_type: bool) -> Self {
        Ledger {
            telling,
            wildcard_type,
            entries: HashMap::new(),
            upserts: HashSet::new(),
            removals: HashSet::new(),
            has: HashMap::new(),
            answer_due: false,
        }
    }

    /// One more reason to have `name`; whether it is the first.
    pub fn refer(&mut self, name: Name) -> bool {
        let entry = self.entries.entry(name).or_default();
        entry.references += 1;
        entry.references == 1
    }

    /// One reason fewer to have `name`. If it was the last, the resource to be released.
    pub fn unrefer(&mut self, name: Name) -> Option<Arc<Resource>> {
        let entry = self.entries.get_mut(&name)?;
        entry.references = entry.references.saturating_sub(1);
        if entry.references > 0 {
            return None;
        }
        let released = entry.wanted.take();
        self.settle(name);
        released
    }

    /// The peer has forgotten `name`, which it had by name.
    pub fn forget(&mut self, name: Name) -> Option<Arc<Resource>> {
        let released = self.unrefer(name);
        if self.entries.get(&name).is_some_and(|entry| entry.references == 0) {
            self.entries.remove(&name);
            self.has.remove(&name);
            self.settle(name);
        }
        released
    }

    /// Sets what the peer should have under a name that is referred to; gives back what it was to have before.
    pub fn want(&mut self, name: Name, resource: Arc<Resource>) -> Option<Arc<Resource>> {
        let entry = self.entries.entry(name).or_default();
        let before = entry.wanted.replace(resource);
        if let Some(before) = before.as_ref().filter(|before| before.version == entry.told) {
            entry.last = Some(before.clone());
        }
        self.settle(name);
        before
    }

    /// The peer has `version` from an earlier stream.
    pub fn tell_known(&mut self, name: Name, version: Version) {
        self.entries.entry(name).or_default().told = version;
        self.settle(name);
    }

    /// The peer has everything that is wanted now.
    pub fn tell_all_known(&mut self) {
        let names: Vec<Name> = self.entries.keys().copied().collect();
        for name in names {
            if let Some(entry) = self.entries.get_mut(&name) {
                entry.told = entry.wanted_version();
                if let (Telling::Whole, Some(resource)) = (self.telling, &entry.wanted) {
                    self.has.insert(name, resource.clone());
                }
            }
            self.settle(name);
        }
    }

    /// Tells `name` again, changed or not. Whether it is subscribed to.
    pub fn tell_again(&mut self, name: Name) -> bool {
        let Some(entry) = self.entries.get_mut(&name).filter(|entry| entry.references > 0) else {
            return false;
        };
        if entry.wanted_version() == entry.told {
            entry.last.clone_from(&entry.wanted);
        }
        entry.told = Version::NOTHING;
        self.settle(name);
        true
    }

    /// Puts `name` into the set it belongs to.
    fn settle(&mut self, name: Name) {
        self.upserts.remove(&name);
        self.removals.remove(&name);
        let Some(entry) = self.entries.get(&name) else { return };
        let wanted = entry.wanted_version();
        let unreferred = entry.references == 0;
        if wanted == entry.told || (unreferred && !entry.told.is_content()) {
            if unreferred {
                self.entries.remove(&name);
            }
        } else if self.wildcard_type && wanted == Version::ABSENT && entry.told.is_content() {
            self.removals.insert(name);
        } else {
            self.upserts.insert(name);
        }
    }

    /// Whether there is something to add or change, or an answer due.
    pub fn has_upserts(&self) -> bool {
        self.answer_due || !self.upserts.is_empty()
    }

    pub fn has_removals(&self) -> bool {
        !self.removals.is_empty()
    }

    pub fn will_upsert(&self, name: Name) -> bool {
        self.upserts.contains(&name)
    }

    pub fn will_remove(&self, name: Name) -> bool {
        self.removals.contains(&name)
    }

    /// Names to be told of which this stream has not told anything yet that still holds.
    pub fn untold(&self) -> impl Iterator<Item = Name> + '_ {
        let nothing =
            |name: &&Name| self.entries.get(*name).is_some_and(|entry| entry.told == Version::NOTHING);
        self.upserts.iter().filter(nothing).copied()
    }

    /// What the peer should have under `name`.
    pub fn wanted(&self, name: Name) -> Option<&Arc<Resource>> {
        self.entries.get(&name)?.wanted.as_ref()
    }

    /// Names with a wanted resource, sorted.
    pub fn names(&self) -> Vec<Name> {
        let wanted = self.entries.iter().filter(|(_, entry)| entry.wanted.is_some());
        let mut names: Vec<Name> = wanted.map(|(name, _)| *name).collect();
        names.sort_unstable();
        names
    }

    /// How many names are tracked, and how many are to be told.
    pub fn counts(&self) -> (usize, usize) {
        (self.entries.len(), self.upserts.len() + self.removals.len())
    }

    /// The version of everything wanted.
    pub fn set_version(&self) -> Version {
        let wanted = self.entries.iter().filter_map(|(name, entry)| {
            entry
                .wanted
                .as_ref()
                .filter(|resource| resource.bytes.is_some())
                .map(|resource| (*name, resource.version))
        });
        Version::of_set(wanted)
    }

    /// The version of everything told: what a peer that has taken it all repeats when it comes back.
    pub fn told_version(&self) -> Version {
        let told = self.entries.iter().filter(|(_, entry)| entry.told.is_content());
        Version::of_set(told.map(|(name, entry)| (*name, entry.told)))
    }

    /// Takes what is to be added or changed, as `turn` has it; it counts as told. `None` if there is nothing to say.
    pub fn take_upserts(&mut self, turn: impl Fn(Name) -> Turn) -> Option<Batch> {
        let names: Vec<Name> =
            self.upserts.iter().copied().filter(|name| turn(*name) != Turn::Wait).collect();
        if names.is_empty() && !self.answer_due {
            return None;
        }
        self.answer_due = false;
        let (again, names): (Vec<Name>, Vec<Name>) =
            names.into_iter().partition(|name| turn(*name) == Turn::Repeat);
        let repeated: Vec<(Name, Arc<Resource>)> =
            again.into_iter().filter_map(|name| Some((name, self.repeat(name)?))).collect();
        let mut batch = self.tell(names);
        batch.resources.extend(repeated);
        batch.resources.sort_unstable_by_key(|(name, _)| *name);
        Some(batch)
    }

    /// What the peer has under `name`, to be told again; if it has nothing, what is wanted.
    fn repeat(&mut self, name: Name) -> Option<Arc<Resource>> {
        let entry = self.entries.get_mut(&name)?;
        let resource = entry.last.clone().or_else(|| entry.wanted.clone())?;
        entry.told = resource.version;
        self.settle(name);
        Some(resource)
    }

    /// Takes what is to be removed.
    pub fn take_removals(&mut self) -> Option<Batch> {
        if self.removals.is_empty() {
            return None;
        }
        let names: Vec<Name> = self.removals.iter().copied().collect();
        for name in &names {
            self.has.remove(name);
        }
        Some(self.tell(names))
    }

    fn tell(&mut self, mut names: Vec<Name>) -> Batch {
        names.sort_unstable();
        let mut batch = Batch::default();
        for name in names {
            let Some(entry) = self.entries.get_mut(&name) else { continue };
            entry.told = entry.wanted_version();
            entry.last = None;
            match entry.wanted.as_ref().filter(|resource| resource.bytes.is_some()) {
                Some(resource) => batch.resources.push((name, resource.clone())),
                None => batch.gone.push(name),
            }
            self.settle(name);
        }
        batch.endpoints = batch.resources.iter().filter_map(|(_, resource)| resource.endpoints).collect();
        match self.telling {
            Telling::Delta => batch.removed.clone_from(&batch.gone),
            Telling::Named => {}
            Telling::Whole => {
                self.has.extend(batch.resources.drain(..));
                batch.resources = self.has.iter().map(|(name, resource)| (*name, resource.clone())).collect();
                batch.resources.sort_unstable_by_key(|(name, _)| *name);
            }
        }
        batch
    }
}
