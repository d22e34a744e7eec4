//! One response, from wherever: each resource is offered, what is gone is taken away, and the answer is worked out.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Store;
use crate::consumer::{Accepted, Consumer, Moment, Need, Offered, Origin, Source};
use crate::delivery::{Delivery, Fault, Item};
use crate::kind::{Kind, Role, Scope};
use crate::limits;
use crate::records::{Failure, Held, Status};
use crate::warming::Key;

/// What a resource needs, and how long each is waited for.
pub(super) type Needs = Vec<(Key, Option<Duration>)>;

/// What the source is to be told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What was refused and why, in the response's order; empty: all is well.
    pub refused: Vec<Fault>,
    /// Names that nobody had asked for.
    pub passed_over: usize,
}

impl Outcome {
    /// The reason of a NACK, in Envoy's words; none: an ACK.
    pub fn reason(&self, kind: Kind) -> Option<String> {
        let refused = self.refused.iter().map(|fault| (fault.name.as_deref().unwrap_or("?"), &*fault.reason));
        (!self.refused.is_empty()).then(|| limits::cut(kind.refusal(refused)))
    }
}

impl<C: Consumer> Store<C> {
    /// Takes a response. `whose`: only these names are from this source (a file with resources by name); none:
    /// whatever is wanted.
    pub fn deliver(
        &mut self,
        kind: Kind,
        origin: Origin,
        delivery: Delivery,
        whose: Option<&HashSet<Arc<str>>>,
        now: Moment,
    ) -> Outcome {
        let Delivery { version, whole, items, removed, faults, .. } = delivery;
        let mut outcome = Outcome { refused: faults, passed_over: 0 };
        self.touched = false;
        let gone = if whole { self.missing(kind, origin, &items, &outcome.refused) } else { Vec::new() };
        let mut gone: Vec<Arc<str>> = removed.into_iter().map(Arc::from).chain(gone).collect();
        self.warming.response_begins();
        if kind == Kind::LISTENER {
            // As in Envoy: the one that comes may have the address of the one that goes.
            for name in gone.drain(..) {
                self.take_away(&(kind, name), now);
            }
        }
        for item in items {
            let key = (kind, item.name.clone());
            if whose.is_some_and(|names| !names.contains(&key.1)) || !self.is_wanted(&key) {
                outcome.passed_over += 1;
            } else if let Err(reason) = self.take(&key, origin, item, now) {
                outcome.refused.push(Fault { name: Some(key.1), reason });
            }
        }
        for name in gone {
            self.take_away(&(kind, name), now);
        }
        self.warming.whole_answered(kind, now.monotonic);
        self.warming.response_ends(now.monotonic);
        let counters = self.records.counters(kind);
        match outcome.reason(kind) {
            None => counters.accepted(&version, self.touched, now.wall),
            Some(reason) => {
                counters.rejected();
                tracing::warn!(kind = kind.short(), %version, %reason, "refused");
            }
        }
        self.settle(now);
        outcome
    }

    /// A source that fails has answered nothing, which is counted.
    pub fn source_failed(&self, kind: Kind) {
        self.records.counters(kind).failed();
    }

    /// Names of a kind from this source that the state of the world lacks. A resource without a name might be any.
    fn missing(&self, kind: Kind, origin: Origin, items: &[Item], faults: &[Fault]) -> Vec<Arc<str>> {
        if kind.spec().scope == Scope::Named || faults.iter().any(|fault| fault.name.is_none()) {
            return Vec::new();
        }
        let refused = faults.iter().filter_map(|fault| fault.name.as_ref());
        let present: HashSet<&Arc<str>> = items.iter().map(|item| &item.name).chain(refused).collect();
        let records = self.records.locked();
        let held = records.of_kind(kind).filter(|record| record.origin == origin);
        held.map(|record| record.name.clone()).filter(|name| !present.contains(name)).collect()
    }

    /// One resource of a response.
    fn take(&mut self, key: &Key, origin: Origin, item: Item, now: Moment) -> Result<(), String> {
        if self.is_static(key) {
            tracing::debug!(kind = key.0.short(), name = %key.1, "a static resource is not replaced");
            return Ok(());
        }
        let Item { name: _, version, bytes, ttl } = item;
        match bytes {
            Some(bytes) => self.offer(key, origin, version, bytes, now)?,
            None if self.is_held_as(key, &version) => {}
            None => {
                return Err(
                    "lives on, as the control plane has it, but is not held in this version".to_owned()
                );
            }
        }
        self.set_expiry(key, ttl.and_then(|ttl| now.monotonic.checked_add(ttl)));
        Ok(())
    }

    fn is_static(&self, key: &Key) -> bool {
        self.records.locked().get(key).is_some_and(|record| record.origin == Origin::Static)
    }

    fn is_held_as(&self, key: &Key, version: &Arc<str>) -> bool {
        let records = self.records.locked();
        records.get(key).and_then(|record| record.accepted()).is_some_and(|held| held.version == *version)
    }

    /// Has a resource compiled, unless these bytes were, and puts it in force or lets it wait.
    pub(super) fn offer(
        &mut self,
        key: &Key,
        origin: Origin,
        version: Arc<str>,
        bytes: Bytes,
        now: Moment,
    ) -> Result<(), String> {
        if self.is_unchanged(key, &version, &bytes, now) {
            return Ok(());
        }
        let offered = Offered { kind: key.0, name: &key.1, version: &version, bytes: &bytes, origin };
        let understood = match self.room(key) {
            true => self.consumer.compile(&offered).and_then(|accepted| self.with_sources(accepted)),
            false => Err(format!("more than {} are not held", limits::RESOURCES)),
        };
        match understood {
            Ok((compiled, needs)) => {
                let held = Held { version, bytes, updated: now.wall };
                self.accept(key, origin, held, compiled, needs, now);
                Ok(())
            }
            Err(reason) => {
                self.refuse(key, origin, version, bytes, &reason, now);
                Err(reason)
            }
        }
    }

    fn room(&self, key: &Key) -> bool {
        let records = self.records.locked();
        records.get(key).is_some() || records.count(key.0) < limits::RESOURCES
    }

    /// Are these the bytes that were accepted last? Then only the version is new. If they are those in force, while
    /// others wait, the others need not.
    fn is_unchanged(&mut self, key: &Key, version: &Arc<str>, bytes: &Bytes, now: Moment) -> bool {
        let mut records = self.records.locked();
        let Some(record) = records.get(key) else { return false };
        let (origin, was_warming) = (record.origin, record.warming.is_some());
        let same = |held: &Option<Held>| held.as_ref().is_some_and(|held| held.bytes == *bytes);
        let is_next = same(&record.warming);
        if !is_next && !same(&record.active) {
            return false;
        }
        records.change(key, origin, |record| {
            if !is_next {
                record.warming = None;
            }
            let held = if is_next { &mut record.warming } else { &mut record.active };
            if let Some(held) = held {
                held.version = version.clone();
            }
            record.failure = None;
            record.status = Status::Acked;
        });
        drop(records);
        if was_warming && !is_next {
            self.waiting.remove(key);
            self.warming.withdraw(key, now.monotonic);
        }
        true
    }

    /// Needs as keys, each from one source only.
    pub(super) fn with_sources(
        &mut self,
        accepted: Accepted<C::Compiled>,
    ) -> Result<(C::Compiled, Needs), String> {
        let Accepted { compiled, needs } = accepted;
        let mut paths = BTreeMap::new();
        for Need { kind, name, source, .. } in &needs {
            let key = (*kind, name.clone());
            let used = self.warming.is_wanted(&key) || paths.contains_key(&key);
            let known = paths.get(&key).cloned().unwrap_or_else(|| self.source_of(&key));
            if used && known != *source {
                let short = kind.short();
                return Err(format!(
                    "{short} {name:?} is to be had from another source, as something else has it"
                ));
            }
            paths.insert(key, source.clone());
        }
        for (key, source) in paths {
            if let Source::Path(path) = source {
                self.from_files.insert(key, path);
            }
        }
        let keys = needs.into_iter().map(|need| ((need.kind, need.name), need.fetch_timeout));
        Ok((compiled, keys.collect()))
    }

    fn accept(
        &mut self,
        key: &Key,
        origin: Origin,
        held: Held,
        compiled: C::Compiled,
        needs: Needs,
        now: Moment,
    ) {
        let is_leaf = key.0.spec().role == Role::Leaf;
        self.touched = true;
        self.records.locked().change(key, origin, |record| {
            record.origin = origin;
            record.failure = None;
            record.status = Status::Acked;
            record.needs = needs.iter().map(|(need, _)| need.clone()).collect();
            let place = if is_leaf { &mut record.active } else { &mut record.warming };
            *place = Some(held);
        });
        if is_leaf {
            self.uncommitted = true;
            self.consumer.set(key.0, &key.1, compiled);
            match origin {
                Origin::Static => self.warming.given(key, now.monotonic),
                Origin::Ads | Origin::File => self.warming.answered(key, now.monotonic),
            }
        } else {
            self.waiting.insert(key.clone(), compiled);
            self.warming.offer(key, needs, now.monotonic);
        }
    }

    fn refuse(
        &mut self,
        key: &Key,
        origin: Origin,
        version: Arc<str>,
        bytes: Bytes,
        reason: &str,
        now: Moment,
    ) {
        let details = limits::cut(reason.to_owned());
        let failure = Failure { version, bytes, details, at: now.wall };
        // Past the bound not even the refusal is kept.
        if origin != Origin::Static && self.room(key) {
            self.records.locked().change(key, origin, |record| {
                record.failure = Some(Arc::new(failure));
                record.status = Status::Nacked;
            });
        }
        if key.0.spec().role == Role::Leaf {
            // As in Envoy: what waits goes on without.
            self.warming.answered(key, now.monotonic);
        }
    }
}
