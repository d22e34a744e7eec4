//! Interest in resources beyond what other resources need: a secret of the bootstrap, a destination that a request met.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::kind::Kind;
use crate::limits;
use crate::warming::Key;

/// Says from any thread what is wanted; interests in the same resource are counted. Clones are one handle.
#[derive(Clone, Debug, Default)]
pub struct Handle(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    counts: BTreeMap<Key, usize>,
    /// Wanted or not, of those whose first interest came or last one went. Bounded by the names ever wanted at a time.
    changes: BTreeMap<Key, bool>,
}

/// There are as many interests as are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {} resources are not asked for", limits::RESOURCES)]
pub struct Full;

impl Handle {
    /// Nothing is wanted.
    pub fn new() -> Handle {
        Handle::default()
    }

    /// One more wants it.
    pub fn subscribe(&self, kind: Kind, name: &str) -> Result<(), Full> {
        let key = (kind, Arc::from(name));
        let mut state = self.locked();
        if state.counts.len() >= limits::RESOURCES && !state.counts.contains_key(&key) {
            return Err(Full);
        }
        let count = state.counts.entry(key.clone()).or_default();
        *count += 1;
        if *count == 1 {
            state.changes.insert(key, true);
            drop(state);
            self.0.changed.notify_one();
        }
        Ok(())
    }

    /// One less wants it.
    pub fn unsubscribe(&self, kind: Kind, name: &str) {
        let key = (kind, Arc::from(name));
        let mut state = self.locked();
        let Some(count) = state.counts.get_mut(&key) else { return };
        *count -= 1;
        if *count == 0 {
            state.counts.remove(&key);
            state.changes.insert(key, false);
            drop(state);
            self.0.changed.notify_one();
        }
    }

    pub(crate) fn take_changes(&self) -> BTreeMap<Key, bool> {
        std::mem::take(&mut self.locked().changes)
    }

    /// Resolves when there are changes to take; perhaps once too often.
    pub(crate) async fn changed(&self) {
        self.0.changed.notified().await;
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_first_and_last_interests_are_heard_of() {
        let handle = Handle::new();
        let key = |name: &str| (Kind::SECRET, Arc::from(name));
        handle.subscribe(Kind::SECRET, "a").unwrap();
        handle.clone().subscribe(Kind::SECRET, "a").unwrap();
        handle.unsubscribe(Kind::SECRET, "never");
        assert_eq!(handle.take_changes(), BTreeMap::from([(key("a"), true)]));
        handle.unsubscribe(Kind::SECRET, "a");
        assert!(handle.take_changes().is_empty());
        handle.unsubscribe(Kind::SECRET, "a");
        handle.unsubscribe(Kind::SECRET, "a");
        assert_eq!(handle.take_changes(), BTreeMap::from([(key("a"), false)]));
    }
}
