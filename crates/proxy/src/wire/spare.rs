//! Buffers that connections of this thread have given back: the next that has something to read or to say takes one, so that a
//! busy thread need not ask the allocator, and an idle connection has none.

use std::cell::RefCell;

use bytes::BytesMut;

/// Buffers of each kind that are kept.
const KEPT_MAX: usize = 64;
/// Larger ones are not: few connections need them.
const BYTES_MAX: usize = 16 * 1024;

thread_local! {
    static INPUTS: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
    static OUTPUTS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer to read into; it may have no memory yet.
pub(super) fn input() -> BytesMut {
    INPUTS.with_borrow_mut(Vec::pop).unwrap_or_default()
}

/// Keeps a buffer that was read into, and of which nobody has a part.
pub(super) fn keep_input(buffer: BytesMut) {
    keep(&INPUTS, buffer.capacity(), buffer);
}

/// A buffer to write into; it may have no memory yet.
pub(super) fn output() -> Vec<u8> {
    OUTPUTS.with_borrow_mut(Vec::pop).unwrap_or_default()
}

/// Keeps a buffer that was written from.
pub(super) fn keep_output(mut buffer: Vec<u8>) {
    buffer.clear();
    keep(&OUTPUTS, buffer.capacity(), buffer);
}

fn keep<B>(kept: &'static std::thread::LocalKey<RefCell<Vec<B>>>, bytes: usize, buffer: B) {
    if (1..=BYTES_MAX).contains(&bytes) {
        kept.with_borrow_mut(|kept| {
            if kept.len() < KEPT_MAX {
                kept.push(buffer);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_is_given_out_again_within_bounds() {
        keep_input(BytesMut::with_capacity(100));
        assert!(input().capacity() >= 100 && input().capacity() == 0);
        keep_output(b"abc".to_vec());
        let again = output();
        assert!(again.is_empty() && again.capacity() >= 3);
        keep_output(Vec::with_capacity(BYTES_MAX + 1));
        (0..2 * KEPT_MAX).for_each(|_| keep_output(Vec::with_capacity(1)));
        assert_eq!(OUTPUTS.with_borrow(Vec::len), KEPT_MAX);
        assert!(OUTPUTS.with_borrow(|kept| kept.iter().all(|buffer| buffer.capacity() < BYTES_MAX)));
    }
}
