//! What every file claims, and which claim is in force. Pure: it is told what reading a file came to and
//! answers with the difference that makes.
//!
//! Invariants:
//! * a file claims at most one version of each object: the accepted one of its present text, or the last
//!   accepted one while its present text holds the object but not validly;
//! * of several files claiming one object the first by path is in force;
//! * the result depends on each file's history alone, not on the order in which files were read.

use crate::Update;
use ostro_api::{Complaint, Object, ObjectKey, Severity};
use ostro_names::limits::FILE_COMPLAINTS;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What reading a file came to.
#[derive(Clone, Debug)]
pub enum Reading {
    /// It was read: the accepted objects in order of appearance, and what is wrong with the others.
    Text {
        /// Objects that validate.
        objects: Vec<Object>,
        /// Everything wrong with the file.
        complaints: Vec<Complaint>,
    },
    /// It is there and cannot be read.
    Unreadable(Complaint),
    /// It is not there any more.
    Gone,
}

/// How a file's claims came about after [`Ledger::fold`]: what the state directory has to remember.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// Claimed by the text just read.
    pub accepted: Vec<ObjectKey>,
    /// Claimed by an earlier text: what the present one says of them is not valid.
    pub kept: Vec<ObjectKey>,
}

/// Every file's claims, and what is in force because of them.
#[derive(Debug, Default)]
pub struct Ledger {
    files: BTreeMap<Arc<str>, File>,
    /// Which files claim an object, first path first.
    claimants: BTreeMap<ObjectKey, BTreeSet<Arc<str>>>,
    in_force: BTreeMap<ObjectKey, Arc<Object>>,
    /// What is said about objects claimed more than once.
    duplicates: BTreeMap<ObjectKey, Vec<Complaint>>,
    /// Objects whose claims changed since the last [`Ledger::settle`].
    touched: BTreeSet<ObjectKey>,
    /// Complaints new since then.
    news: Vec<Complaint>,
}

#[derive(Debug, Default)]
struct File {
    objects: BTreeMap<ObjectKey, Arc<Object>>,
    complaints: Vec<Complaint>,
}

impl Ledger {
    /// Gives a file the objects that an earlier process had accepted from it. They come into force only if
    /// the next [`Ledger::fold`] of the file finds that they are to be kept.
    pub fn recall(&mut self, file: &Arc<str>, objects: Vec<Object>) {
        let known = self.files.entry(file.clone()).or_default();
        for object in objects {
            known.objects.entry(object.key()).or_insert_with(|| Arc::new(object));
        }
    }

    /// True if this reading would take a claim away from the file. A file caught between being emptied and
    /// being written again looks just like that.
    pub fn would_lose(&self, file: &Arc<str>, objects: &[Object], complaints: &[Complaint]) -> bool {
        let Some(known) = self.files.get(file) else { return false };
        let present: BTreeSet<ObjectKey> = objects.iter().map(Object::key).collect();
        let refused = Refused::of(complaints);
        known.objects.keys().any(|key| !present.contains(key) && !refused.may_hold(key))
    }

    /// Takes in what reading a file came to.
    pub fn fold(&mut self, file: &Arc<str>, reading: Reading) -> Claims {
        let before = self.files.remove(file).unwrap_or_default();
        let (after, claims) = match reading {
            Reading::Gone => (None, Claims::default()),
            Reading::Unreadable(complaint) => {
                let kept = before.objects.keys().copied().collect();
                let after = File { objects: before.objects.clone(), complaints: vec![complaint] };
                (Some(after), Claims { accepted: Vec::new(), kept })
            }
            Reading::Text { objects, complaints } => {
                let (after, claims) = replace(&before, objects, complaints);
                (Some(after), claims)
            }
        };
        let after = after.unwrap_or_default();
        self.news.extend(after.complaints.iter().filter(|one| !before.complaints.contains(one)).cloned());
        self.claim(file, &before, &after);
        if !(after.objects.is_empty() && after.complaints.is_empty()) {
            self.files.insert(file.clone(), after);
        }
        claims
    }

    /// Takes in a complaint that belongs to no file that is followed (a directory that cannot be listed).
    pub fn complain(&mut self, complaint: Complaint) {
        self.news.push(complaint);
    }

    /// The difference since the last call.
    pub fn settle(&mut self) -> Update {
        let mut update = Update { complaints: std::mem::take(&mut self.news), ..Update::default() };
        for key in std::mem::take(&mut self.touched) {
            self.settle_key(key, &mut update);
        }
        update.complaints.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
        update
    }

    /// How many objects are in force.
    pub fn len(&self) -> usize {
        self.in_force.len()
    }

    /// True if nothing is in force.
    pub fn is_empty(&self) -> bool {
        self.in_force.is_empty()
    }

    fn claim(&mut self, file: &Arc<str>, before: &File, after: &File) {
        for key in before.objects.keys().filter(|key| !after.objects.contains_key(key)) {
            if let Some(files) = self.claimants.get_mut(key) {
                files.remove(file);
            }
            self.touched.insert(*key);
        }
        for (key, object) in &after.objects {
            self.claimants.entry(*key).or_default().insert(file.clone());
            let in_force = self.in_force.get(key);
            if in_force != Some(object) || self.duplicates.contains_key(key) {
                self.touched.insert(*key);
            }
        }
    }

    fn settle_key(&mut self, key: ObjectKey, update: &mut Update) {
        let claims: Vec<Arc<Object>> = self.claims_of(&key);
        let duplicates = second_claims(&claims);
        let said = self.duplicates.remove(&key).unwrap_or_default();
        update.complaints.extend(duplicates.iter().filter(|one| !said.contains(one)).cloned());
        if !duplicates.is_empty() {
            self.duplicates.insert(key, duplicates);
        }
        match claims.into_iter().next() {
            None => {
                self.claimants.remove(&key);
                if self.in_force.remove(&key).is_some() {
                    update.deletes.push(key);
                }
            }
            Some(object) => {
                if self.in_force.get(&key) != Some(&object) {
                    self.in_force.insert(key, object.clone());
                    update.upserts.push(object);
                }
            }
        }
    }

    fn claims_of(&self, key: &ObjectKey) -> Vec<Arc<Object>> {
        let files = self.claimants.get(key).into_iter().flatten();
        files.filter_map(|file| self.files.get(file)?.objects.get(key).cloned()).collect()
    }
}

/// A file's claims after a new text.
fn replace(before: &File, objects: Vec<Object>, complaints: Vec<Complaint>) -> (File, Claims) {
    let mut after: BTreeMap<ObjectKey, Arc<Object>> = BTreeMap::new();
    for object in objects {
        // `api` complains of a second object of one name in one file, and does not hand it out.
        after.entry(object.key()).or_insert_with(|| Arc::new(object));
    }
    let accepted: Vec<ObjectKey> = after.keys().copied().collect();
    let refused = Refused::of(&complaints);
    let mut kept = Vec::new();
    for (key, object) in &before.objects {
        if !after.contains_key(key) && refused.may_hold(key) {
            kept.push(*key);
            after.insert(*key, object.clone());
        }
    }
    (File { objects: after, complaints }, Claims { accepted, kept })
}

/// Which objects a text holds without holding them validly.
enum Refused {
    /// Exactly these.
    Known(BTreeSet<ObjectKey>),
    /// Part of the text could not be made out, so it may hold any.
    Any,
}

impl Refused {
    fn of(complaints: &[Complaint]) -> Refused {
        // A list that may have been cut short does not tell which objects it left out.
        if complaints.len() >= FILE_COMPLAINTS {
            return Refused::Any;
        }
        let mut known = BTreeSet::new();
        for complaint in complaints.iter().filter(|complaint| complaint.severity == Severity::Error) {
            match complaint.object {
                Some(key) => known.insert(key),
                None => return Refused::Any,
            };
        }
        Refused::Known(known)
    }

    fn may_hold(&self, key: &ObjectKey) -> bool {
        match self {
            Refused::Known(keys) => keys.contains(key),
            Refused::Any => true,
        }
    }
}

fn second_claims(claims: &[Arc<Object>]) -> Vec<Complaint> {
    match claims.split_first() {
        Some((first, others)) => others.iter().map(|other| second_claim(first, other)).collect(),
        None => Vec::new(),
    }
}

fn second_claim(first: &Object, second: &Object) -> Complaint {
    Complaint {
        file: second.origin.file.clone(),
        line: second.origin.line,
        column: 0,
        object: Some(second.key()),
        path: String::new(),
        found: format!("a second object of this name; the first, at {}, is in force", first.origin),
        allowed: "one object of each name".into(),
        severity: Severity::Error,
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
