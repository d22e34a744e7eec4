//! What differs between two snapshots.

use std::collections::BTreeSet;

use crate::key::{Key, KeyId};
use crate::snapshot::Snapshot;

/// The keys whose values differ between one snapshot and the next, and no others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Sorted by id, without repetition.
    keys: Vec<KeyId>,
}

impl Changes {
    /// The keys, in the order of their ids.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = KeyId> + '_ {
        self.keys.iter().copied()
    }

    /// Whether the value under this key differs.
    pub fn contains(&self, key: KeyId) -> bool {
        self.keys.binary_search(&key).is_ok()
    }

    /// Whether no value differs.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// How many keys have changed.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// What changed first in one step, then in the next. A key that changed back is still listed: whoever saw
    /// the snapshot between the two has to look again.
    pub fn then(self, next: &Changes) -> Changes {
        self.iter().chain(next.iter()).collect()
    }
}

impl FromIterator<KeyId> for Changes {
    fn from_iter<I: IntoIterator<Item = KeyId>>(keys: I) -> Self {
        let mut keys: Vec<KeyId> = keys.into_iter().collect();
        keys.sort_unstable();
        keys.dedup();
        Changes { keys }
    }
}

/// Keys whose values may have been replaced while a snapshot is being made.
#[derive(Default)]
pub(crate) struct Touched(BTreeSet<Key>);

impl Touched {
    pub(crate) fn note(&mut self, key: Key) {
        self.0.insert(key);
    }

    /// Those that in fact differ.
    pub(crate) fn differing(self, before: &Snapshot, after: &Snapshot) -> Changes {
        self.0.into_iter().filter(|key| !before.agrees(after, *key)).map(Key::id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_sorted_and_listed_once() {
        let (a, b) = (Key::HostsOnPort(80).id(), Key::HostsOnPort(81).id());
        let changes: Changes = [b, a, b].into_iter().collect();
        assert_eq!(changes.len(), 2);
        assert!(changes.contains(a) && changes.contains(b) && !changes.contains(Key::HostsOnPort(82).id()));
        let mut listed: Vec<KeyId> = changes.iter().collect();
        assert!(listed.is_sorted());
        listed.dedup();
        assert_eq!(listed.len(), 2);
    }

    #[test]
    fn steps_add_up() {
        let (a, b) = (Key::HostsOnPort(90).id(), Key::HostsOnPort(91).id());
        let both = Changes::from_iter([a]).then(&Changes::from_iter([b, a]));
        assert_eq!(both, Changes::from_iter([a, b]));
    }
}
