//! Compact sets of small numbers, and the inverted index from keys to what read them.
//!
//! The index is the price of exactness: one edge per resource and key it read. An edge is four bytes at the resource
//! (its key) and at most twelve here, so at most sixteen.

use std::collections::HashSet;

use ostro_mesh::KeyId;
use ostro_names::Spreading;

/// Sets no larger than this are a plain list: no table, no slack.
const LISTED: usize = 16;

/// A set of u32.
#[derive(Debug, Clone, Default)]
pub(crate) enum Ids {
    #[default]
    Empty,
    List(Vec<u32>),
    Table(HashSet<u32, Spreading>),
}

impl Ids {
    /// Adds; whether it was new.
    pub fn insert(&mut self, id: u32) -> bool {
        match self {
            Ids::Empty => *self = Ids::List(vec![id]),
            Ids::List(list) if list.contains(&id) => return false,
            Ids::List(list) if list.len() < LISTED => list.push(id),
            Ids::List(list) => {
                let mut table: HashSet<u32, _> = list.iter().copied().collect();
                table.insert(id);
                *self = Ids::Table(table);
            }
            Ids::Table(table) => return table.insert(id),
        }
        true
    }

    /// Takes out; whether it was there.
    pub fn remove(&mut self, id: u32) -> bool {
        match self {
            Ids::Empty => false,
            Ids::List(list) => {
                let Some(position) = list.iter().position(|found| *found == id) else { return false };
                list.swap_remove(position);
                if list.is_empty() {
                    *self = Ids::Empty;
                }
                true
            }
            Ids::Table(table) => {
                let found = table.remove(&id);
                if table.len() <= LISTED / 2 {
                    *self = Ids::List(table.iter().copied().collect());
                }
                found
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        matches!(self, Ids::Empty)
    }

    /// One of the members, no matter which.
    pub fn any(&self) -> Option<u32> {
        match self {
            Ids::Empty => None,
            Ids::List(list) => list.first().copied(),
            Ids::Table(table) => table.iter().next().copied(),
        }
    }

    /// The members in ascending order: what is derived from them must not depend on the table's layout.
    pub fn sorted(&self) -> Vec<u32> {
        let mut all = match self {
            Ids::Empty => Vec::new(),
            Ids::List(list) => list.clone(),
            Ids::Table(table) => table.iter().copied().collect(),
        };
        all.sort_unstable();
        all
    }
}

/// Key to readers.
#[derive(Debug, Default)]
pub(crate) struct Readers {
    /// By [`KeyId::index`], which is dense.
    keys: Vec<Ids>,
}

impl Readers {
    /// Bytes of one edge in this direction, at worst: a table entry and its control byte at the least load.
    pub const EDGE_BYTES: usize = 12;

    pub fn insert(&mut self, key: KeyId, reader: u32) -> bool {
        if self.keys.len() <= key.index() {
            self.keys.resize_with(key.index() + 1, Ids::default);
        }
        self.keys.get_mut(key.index()).is_some_and(|ids| ids.insert(reader))
    }

    pub fn remove(&mut self, key: KeyId, reader: u32) -> bool {
        self.keys.get_mut(key.index()).is_some_and(|ids| ids.remove(reader))
    }

    /// Who read any of `keys`, ascending, each once.
    pub fn of(&self, keys: &[KeyId]) -> Vec<u32> {
        let mut all: Vec<u32> =
            keys.iter().filter_map(|key| self.keys.get(key.index())).flat_map(Ids::sorted).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_a_set_in_each_of_its_forms() {
        let mut ids = Ids::default();
        for id in (0..100).rev() {
            assert!(ids.insert(id));
            assert!(!ids.insert(id));
        }
        assert_eq!(ids.sorted(), (0..100).collect::<Vec<_>>());
        for id in 0..100 {
            assert!(ids.remove(id));
            assert!(!ids.remove(id));
            assert_eq!(ids.sorted(), (id + 1..100).collect::<Vec<_>>());
        }
        assert!(ids.is_empty());
    }
}
