//! What follows once something has changed: resources come into force, others are wanted or not, the start goes on.

use std::sync::Arc;

use super::{Ask, Store};
use crate::consumer::{Consumer, Moment, Origin, Source};
use crate::records::Status;
use crate::warming::{Effect, Key};

impl<C: Consumer> Store<C> {
    /// Carries out what warming says follows, and lets it be seen.
    pub(super) fn settle(&mut self, now: Moment) {
        loop {
            let effects = self.warming.take_effects();
            if effects.is_empty() {
                break;
            }
            effects.into_iter().for_each(|effect| self.carry_out(effect, now));
        }
        self.commit();
    }

    fn commit(&mut self) {
        if std::mem::take(&mut self.uncommitted) {
            self.consumer.commit();
        }
    }

    fn carry_out(&mut self, effect: Effect, now: Moment) {
        match effect {
            Effect::Activate(key) => self.activate(&key),
            Effect::Want(key) => self.want(key, now),
            Effect::Unwant(key) => self.unwant(key),
            Effect::TimedOut(key) => {
                self.records.counters(key.0).timed_out();
                tracing::warn!(kind = key.0.short(), name = %key.1, "has not come in its time; what waits goes on without");
                let origin = self.origin_of(&key);
                self.records.locked().change(&key, origin, |record| record.status = Status::TimedOut);
            }
            Effect::Late(kind) => {
                self.records.counters(kind).timed_out();
                tracing::warn!(kind = kind.short(), "no answer in its time; the start goes on without");
            }
            Effect::Begin(kind) => {
                self.records.counters(kind).started();
                let wildcard = self.wildcards.iter().find(|wildcard| wildcard.kind == kind);
                let source = wildcard.map_or(Source::Ads, |wildcard| wildcard.source.clone());
                self.asks.push(Ask::All(kind, source));
            }
            Effect::Phase(phase) => {
                self.commit();
                self.records.locked().phase = phase;
                self.consumer.phase(phase);
            }
        }
    }

    fn activate(&mut self, key: &Key) {
        let Some(compiled) = self.waiting.remove(key) else { return };
        let origin = self.origin_of(key);
        self.records.locked().change(key, origin, |record| {
            record.active = record.warming.take();
            record.needs = Arc::new([]);
        });
        self.uncommitted = true;
        self.consumer.set(key.0, &key.1, compiled);
    }

    fn want(&mut self, key: Key, now: Moment) {
        let known = self.records.locked().get(&key).cloned();
        match known {
            // It was there before anybody wanted it: given, or one of all.
            Some(record) if record.origin == Origin::Static => self.warming.given(&key, now.monotonic),
            Some(record) if record.active.is_some() => self.warming.answered(&key, now.monotonic),
            _ => {
                let origin = self.origin_of(&key);
                self.records.locked().change(&key, origin, |_| {});
            }
        }
        if !self.is_from_bootstrap(&key) {
            let source = self.source_of(&key);
            self.asks.push(Ask::Want(key, source));
        }
    }

    fn unwant(&mut self, key: Key) {
        self.asks.push(Ask::Unwant(key.clone(), self.source_of(&key)));
        self.from_files.remove(&key);
        self.set_expiry(&key, None);
        if self.is_wanted(&key) {
            return;
        }
        let forgotten = self.records.locked().forget(&key);
        if forgotten.is_some_and(|record| record.active.is_some()) {
            self.unset(&key);
        }
    }

    fn is_from_bootstrap(&self, key: &Key) -> bool {
        self.records.locked().get(key).is_some_and(|record| record.origin == Origin::Static)
    }

    fn origin_of(&self, key: &Key) -> Origin {
        let known = self.records.locked().get(key).map(|record| record.origin);
        let source = if self.from_files.contains_key(key) { Origin::File } else { Origin::Ads };
        known.unwrap_or(source)
    }
}
