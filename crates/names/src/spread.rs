//! A hasher for names and other small dense numbers.

use std::hash::{BuildHasherDefault, Hasher};

/// Builds [`Spread`].
pub type Spreading = BuildHasherDefault<Spread>;

/// Spreads small dense numbers over a table. They come from us (numbers of interned names, slots), so nobody can choose
/// them to collide. Not for strings, which somebody can.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    fn write_u16(&mut self, value: u16) {
        self.write_u64(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    // Discriminants of enums.
    fn write_isize(&mut self, value: isize) {
        self.write_u64(value as u64);
    }
}
