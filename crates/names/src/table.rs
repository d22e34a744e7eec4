//! The intern table: string to number through sharded maps, number to string without any lock.
//!
//! Slots live in segments of doubling size that are allocated once and never move, so reading a
//! name's string is two loads. A slot is filled before its number is published by the shard's map.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, OnceLock, PoisonError, RwLock};

use crate::limits;

/// Why a string from outside was not interned. The string's author is at fault in the first case;
/// in the second the process has met more names than it was sized for: retrying does not help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NameError {
    /// Longer than [`limits::NAME_BYTES`].
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// The table holds [`limits::NAMES`] strings already.
    TableFull,
}

impl std::fmt::Display for NameError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooLong { bytes } => {
                write!(f, "a name of {bytes} bytes is longer than the limit of {}", limits::NAME_BYTES)
            }
            Self::TableFull => write!(f, "more than {} different names in one process", limits::NAMES),
        }
    }
}

impl std::error::Error for NameError {}

/// How many strings are interned, for the metric.
pub fn interned() -> u32 {
    TABLE.len.load(Ordering::Relaxed)
}

#[doc(hidden)]
pub fn intern(text: &str) -> u32 {
    TABLE.lookup(text).unwrap_or_else(|| TABLE.insert(text))
}

#[doc(hidden)]
pub fn try_intern(text: &str) -> Result<u32, NameError> {
    if text.len() > limits::NAME_BYTES {
        return Err(NameError::TooLong { bytes: text.len() });
    }
    if let Some(found) = TABLE.lookup(text) {
        return Ok(found);
    }
    if interned() >= limits::NAMES {
        return Err(NameError::TableFull);
    }
    Ok(TABLE.insert(text))
}

#[doc(hidden)]
pub fn lookup(text: &str) -> Option<u32> {
    TABLE.lookup(text)
}

#[doc(hidden)]
pub fn text(number: u32) -> &'static str {
    TABLE.text(number)
}

const SHARDS: usize = 64;
/// Segment `s` holds `FIRST_SEGMENT << s` slots; 24 of them hold every u32.
const FIRST_SEGMENT: u64 = 1 << 9;
const SEGMENTS: usize = 24;

type Slot = OnceLock<&'static str>;

struct Table {
    hasher: RandomState,
    shards: [RwLock<HashMap<&'static str, u32>>; SHARDS],
    segments: [OnceLock<Box<[Slot]>>; SEGMENTS],
    len: AtomicU32,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let table = Table {
        hasher: RandomState::new(),
        shards: std::array::from_fn(|_| RwLock::default()),
        segments: std::array::from_fn(|_| OnceLock::new()),
        len: AtomicU32::new(0),
    };
    // Number 0 is the empty string, by invariant.
    table.insert("");
    table
});

impl Table {
    fn shard(&self, text: &str) -> &RwLock<HashMap<&'static str, u32>> {
        &self.shards[self.hasher.hash_one(text) as usize % SHARDS]
    }

    fn lookup(&self, text: &str) -> Option<u32> {
        // A poisoned shard is whole: the map is only ever touched by one `insert` call.
        self.shard(text).read().unwrap_or_else(PoisonError::into_inner).get(text).copied()
    }

    fn insert(&self, text: &str) -> u32 {
        let mut shard = self.shard(text).write().unwrap_or_else(PoisonError::into_inner);
        if let Some(&number) = shard.get(text) {
            return number;
        }
        // The slots alone of 2^32 names take 100 GiB: memory ends long before the numbers do.
        let number = self.len.fetch_add(1, Ordering::Relaxed);
        let kept: &'static str = Box::leak(Box::from(text));
        let (segment, offset) = locate(number);
        let slots = self.segments[segment]
            .get_or_init(|| (0..FIRST_SEGMENT << segment).map(|_| OnceLock::new()).collect());
        slots[offset].get_or_init(|| kept);
        shard.insert(kept, number);
        number
    }

    fn text(&self, number: u32) -> &'static str {
        let (segment, offset) = locate(number);
        let slot = self.segments[segment].get().and_then(|slots| slots[offset].get());
        // A number exists only if `insert` returned it, after it filled the slot.
        slot.copied().unwrap_or_default()
    }
}

/// Segment and offset of a number.
fn locate(number: u32) -> (usize, usize) {
    let shifted = u64::from(number) + FIRST_SEGMENT;
    let segment = (shifted / FIRST_SEGMENT).ilog2();
    (segment as usize, (shifted - (FIRST_SEGMENT << segment)) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_its_own_slot() {
        assert_eq!(locate(0), (0, 0));
        assert_eq!(locate(511), (0, 511));
        assert_eq!(locate(512), (1, 0));
        assert_eq!(locate(1535), (1, 1023));
        assert_eq!(locate(1536), (2, 0));
        let (segment, offset) = locate(u32::MAX);
        assert!(segment < SEGMENTS && (offset as u64) < FIRST_SEGMENT << segment);
    }
}
