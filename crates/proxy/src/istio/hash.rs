//! A hash for keys of a few numbers that we gave out ourselves; for what others choose it would be too weak.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map by such keys.
pub(super) type ByNumbers<K, V> = HashMap<K, V, BuildHasherDefault<Numbers>>;

/// Multiplies and mixes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Numbers(u64);

const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;

impl Numbers {
    fn mix(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(23) ^ number).wrapping_mul(FACTOR);
    }
}

impl Hasher for Numbers {
    fn finish(&self) -> u64 {
        // Maps look at the highest bits and the lowest.
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.mix((*byte).into()));
    }

    fn write_u8(&mut self, number: u8) {
        self.mix(number.into());
    }

    fn write_u16(&mut self, number: u16) {
        self.mix(number.into());
    }

    fn write_u32(&mut self, number: u32) {
        self.mix(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        self.mix(number);
    }

    fn write_isize(&mut self, number: isize) {
        // Discriminants of enumerations.
        self.mix(number as u64);
    }
}
