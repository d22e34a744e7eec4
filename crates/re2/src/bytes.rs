//! Sets of bytes, which is what every character class comes down to in Latin-1.

use std::fmt::Write as _;

/// A set of Latin-1 characters.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct ByteSet([bool; 256]);

impl ByteSet {
    pub(super) const EMPTY: ByteSet = ByteSet([false; 256]);
    pub(super) const ALL: ByteSet = ByteSet([true; 256]);

    pub(super) fn of(ranges: &[(u8, u8)]) -> ByteSet {
        let mut set = ByteSet::EMPTY;
        for &(low, high) in ranges {
            set.add(low, high);
        }
        set
    }

    pub(super) fn add(&mut self, low: u8, high: u8) {
        for byte in low..=high {
            self.0[usize::from(byte)] = true;
        }
    }

    pub(super) fn union(&mut self, other: &ByteSet) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine |= theirs;
        }
    }

    pub(super) fn negated(mut self) -> ByteSet {
        for member in &mut self.0 {
            *member = !*member;
        }
        self
    }

    /// With the other case of every member added.
    pub(super) fn folded(self) -> ByteSet {
        let mut folded = self;
        for byte in self.bytes() {
            let other = other_case(byte);
            folded.add(other, other);
        }
        folded
    }

    fn bytes(&self) -> impl Iterator<Item = u8> + '_ {
        (0..=u8::MAX).filter(|b| self.0[usize::from(*b)])
    }

    fn ranges(&self) -> Vec<(u8, u8)> {
        let mut ranges: Vec<(u8, u8)> = Vec::new();
        for byte in self.bytes() {
            match ranges.last_mut() {
                Some((_, high)) if *high + 1 == byte => *high = byte,
                _ => ranges.push((byte, byte)),
            }
        }
        ranges
    }

    /// RE2 instructions this class takes: one per range; a class that has both cases of every ASCII letter in it
    /// leaves out the upper-case ranges (they are folded while matching).
    pub(super) fn program_size(&self) -> u32 {
        let folds = (b'a'..=b'z').all(|b| self.0[usize::from(b)] == self.0[usize::from(b - 32)]);
        let spared = |&(low, high): &(u8, u8)| folds && b'A' <= low && high <= b'Z';
        u32::try_from(self.ranges().iter().filter(|r| !spared(r)).count()).unwrap_or(u32::MAX).max(1)
    }

    /// Writes the set as a bracketed class of the `regex` crate.
    pub(super) fn emit(&self, out: &mut String) {
        let ranges = self.ranges();
        if ranges.is_empty() {
            // The crate has no empty brackets; this is its idiom for "never".
            out.push_str(r"[^\x00-\xFF]");
            return;
        }
        out.push('[');
        for (low, high) in ranges {
            // Writing to a String cannot fail.
            let _ = if low == high {
                write!(out, "\\x{low:02X}")
            } else {
                write!(out, "\\x{low:02X}-\\x{high:02X}")
            };
        }
        out.push(']');
    }
}

/// The other case of a letter, the byte itself for everything else. Only ASCII folds (measured: in Envoy
/// `(?i)\xe5` does not match 0xC5), whatever Unicode says about the rest of Latin-1.
pub(super) fn other_case(byte: u8) -> u8 {
    if byte.is_ascii_alphabetic() { byte ^ 0x20 } else { byte }
}
