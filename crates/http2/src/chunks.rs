//! A queue of bytes that come and go in pieces.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Pieces shorter than this are copied together: a peer that sends one byte at a time costs as much as it sent, not an
/// entry and a shared buffer a byte.
const COPY_BELOW: usize = 1024;
/// Most bytes that are copied into one piece.
const TOGETHER_BYTES: usize = 16 << 10;

/// Bytes in pieces, first in, first out.
#[derive(Debug, Default)]
pub struct Chunks {
    /// The next piece; the others follow only if it is not empty.
    first: Bytes,
    rest: VecDeque<Bytes>,
    /// Short pieces that came last.
    last: BytesMut,
    /// Of all of them.
    len: usize,
}

impl Chunks {
    /// Bytes in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a piece at the end.
    pub fn push(&mut self, piece: Bytes) {
        let size = piece.len();
        if size == 0 {
            return;
        }
        if self.len == 0 {
            self.first = piece;
        } else if size < COPY_BELOW {
            if self.last.len() + size > TOGETHER_BYTES {
                self.rest.push_back(self.last.split().freeze());
            }
            self.last.extend_from_slice(&piece);
        } else {
            if !self.last.is_empty() {
                self.rest.push_back(self.last.split().freeze());
            }
            self.rest.push_back(piece);
        }
        self.len += size;
    }

    /// Takes the next piece, at most so many bytes of it; empty if there is none.
    pub fn pop(&mut self, most: usize) -> Bytes {
        if self.first.len() > most {
            self.len -= most;
            return self.first.split_to(most);
        }
        let piece = std::mem::take(&mut self.first);
        self.len -= piece.len();
        if self.len > 0 {
            self.first = match self.rest.pop_front() {
                Some(next) => next,
                None => self.last.split().freeze(),
            };
        }
        piece
    }

    /// Drops all of it; tells how many bytes that were.
    pub fn clear(&mut self) -> usize {
        let len = self.len;
        *self = Chunks::default();
        len
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn single_bytes_are_put_together() {
        let mut chunks = Chunks::default();
        for byte in 0..40_000_u32 {
            chunks.push(Bytes::copy_from_slice(&[byte as u8]));
        }
        assert_eq!(chunks.rest.len(), 2);
        let (mut all, mut pieces) = (Vec::new(), 0);
        while !chunks.is_empty() {
            all.extend_from_slice(&chunks.pop(usize::MAX));
            pieces += 1;
        }
        assert_eq!((all.len(), pieces), (40_000, 4));
        assert!(all.iter().enumerate().all(|(place, byte)| *byte == place as u8));
        assert!(chunks.pop(1).is_empty());
    }

    proptest! {
        #[test]
        fn bytes_come_out_as_they_went_in(
            steps in prop::collection::vec(prop_oneof![
                (0_usize..3000).prop_map(Ok),
                (0_usize..4000).prop_map(Err),
            ], 0..60),
        ) {
            let (mut chunks, mut went_in, mut came_out) = (Chunks::default(), Vec::new(), Vec::new());
            for step in steps {
                match step {
                    Ok(size) => {
                        let piece: Vec<u8> = (0..size).map(|place| (went_in.len() + place) as u8).collect();
                        went_in.extend_from_slice(&piece);
                        chunks.push(piece.into());
                    }
                    Err(most) => {
                        let piece = chunks.pop(most);
                        prop_assert!(piece.len() <= most);
                        prop_assert!(most == 0 || !piece.is_empty() || chunks.is_empty());
                        came_out.extend_from_slice(&piece);
                    }
                }
                prop_assert_eq!(chunks.len(), went_in.len() - came_out.len());
            }
            let left = chunks.len();
            let mut rest = 0;
            while !chunks.is_empty() {
                let piece = chunks.pop(usize::MAX);
                rest += piece.len();
                came_out.extend_from_slice(&piece);
            }
            prop_assert_eq!((left, came_out), (rest, went_in));
        }
    }
}
