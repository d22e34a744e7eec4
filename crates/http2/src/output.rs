//! Bytes on their way to the socket: frames' headers and small payloads in one buffer, large payloads as they came.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

use crate::frame::{FrameHeader, HEADER_BYTES, flag, kind};

/// Payloads shorter than this are copied: one slice more for the socket costs about as much.
const COPY_BELOW: usize = 2048;
/// Memory that is kept for the next frames when all are gone.
const KEPT_BYTES: usize = 16 << 10;

/// What is to be written to the socket, in order. Read it as a [`Buf`], best with vectored writes.
#[derive(Debug, Default)]
pub struct Output {
    /// Everything that was copied; the first `begin` bytes of it are gone.
    copied: Vec<u8>,
    begin: usize,
    /// Payloads that were not, each behind so many copied bytes.
    shared: VecDeque<(usize, Bytes)>,
    /// Copied bytes behind the last of them.
    behind: usize,
    /// Of all of it.
    len: usize,
    /// Frames since it was empty.
    frames: u32,
    /// PING, SETTINGS and RST_STREAM among them.
    control_frames: u32,
}

impl Output {
    /// Bytes in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Frames that were added since it was last empty.
    pub(crate) fn frames(&self) -> u32 {
        self.frames
    }

    /// Those among them that a peer can make us send.
    pub(crate) fn control_frames(&self) -> u32 {
        self.control_frames
    }

    /// Adds bytes that are no frame.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.copied.extend_from_slice(bytes);
        self.added(bytes.len());
    }

    /// Adds a frame.
    pub(crate) fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let header = FrameHeader { length: payload.len(), kind, flags, stream };
        self.copied.extend_from_slice(&header.bytes());
        self.copied.extend_from_slice(payload);
        self.added(HEADER_BYTES + payload.len());
        self.frames += 1;
        self.control_frames += u32::from(matches!(kind, kind::PING | kind::SETTINGS | kind::RST_STREAM));
    }

    /// Adds a DATA frame.
    pub(crate) fn data(&mut self, stream: u32, payload: Bytes, is_end: bool) {
        let flags = if is_end { flag::END_STREAM } else { 0 };
        if payload.len() < COPY_BELOW {
            return self.frame(kind::DATA, flags, stream, &payload);
        }
        let header = FrameHeader { length: payload.len(), kind: kind::DATA, flags, stream };
        self.copied.extend_from_slice(&header.bytes());
        self.added(HEADER_BYTES);
        self.frames += 1;
        self.len += payload.len();
        self.shared.push_back((std::mem::take(&mut self.behind), payload));
    }

    /// Adds HEADERS, and CONTINUATION if the block that `encode` appends is longer than a frame may be.
    pub(crate) fn headers(
        &mut self,
        stream: u32,
        is_end: bool,
        frame_bytes_max: usize,
        encode: impl FnOnce(&mut Vec<u8>),
    ) {
        let begin = self.copied.len();
        self.copied.extend_from_slice(&[0; HEADER_BYTES]);
        encode(&mut self.copied);
        let length = self.copied.len() - begin - HEADER_BYTES;
        let end_stream = if is_end { flag::END_STREAM } else { 0 };
        if length <= frame_bytes_max {
            let flags = flag::END_HEADERS | end_stream;
            self.patch(begin, FrameHeader { length, kind: kind::HEADERS, flags, stream });
            self.added(HEADER_BYTES + length);
            self.frames += 1;
            return;
        }
        let block = self.copied.split_off(begin + HEADER_BYTES);
        self.copied.truncate(begin);
        let (mut kind, mut flags) = (kind::HEADERS, end_stream);
        let mut fragments = block.chunks(frame_bytes_max).peekable();
        while let Some(fragment) = fragments.next() {
            if fragments.peek().is_none() {
                flags |= flag::END_HEADERS;
            }
            self.frame(kind, flags, stream, fragment);
            (kind, flags) = (kind::CONTINUATION, 0);
        }
    }

    fn patch(&mut self, begin: usize, header: FrameHeader) {
        if let Some(place) = self.copied.get_mut(begin..begin + HEADER_BYTES) {
            place.copy_from_slice(&header.bytes());
        }
    }

    fn added(&mut self, bytes: usize) {
        self.behind += bytes;
        self.len += bytes;
    }

    /// Nothing is left: as if it were new.
    fn emptied(&mut self) {
        self.copied.clear();
        if self.copied.capacity() > KEPT_BYTES {
            self.copied.shrink_to(KEPT_BYTES);
        }
        self.begin = 0;
        self.frames = 0;
        self.control_frames = 0;
    }

    fn copied(&self, from: usize, bytes: usize) -> &[u8] {
        self.copied.get(from..from + bytes).unwrap_or_default()
    }
}

impl Buf for Output {
    fn remaining(&self) -> usize {
        self.len
    }

    fn chunk(&self) -> &[u8] {
        match self.shared.front() {
            Some((0, payload)) => payload,
            Some((before, _)) => self.copied(self.begin, *before),
            None => self.copied(self.begin, self.behind),
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let (mut from, mut filled) = (self.begin, 0);
        let mut add = |part: &'a [u8]| {
            if !part.is_empty()
                && let Some(slice) = slices.get_mut(filled)
            {
                *slice = IoSlice::new(part);
                filled += 1;
            }
        };
        for (before, payload) in &self.shared {
            add(self.copied(from, *before));
            add(payload);
            from += before;
        }
        add(self.copied(from, self.behind));
        filled
    }

    /// Panics never: what is beyond the end is ignored.
    fn advance(&mut self, bytes: usize) {
        let mut left = bytes.min(self.len);
        self.len -= left;
        while left > 0 {
            let Some((before, payload)) = self.shared.front_mut() else {
                self.begin += left;
                self.behind -= left;
                break;
            };
            let copied = left.min(*before);
            *before -= copied;
            self.begin += copied;
            left -= copied;
            if left >= payload.len() && *before == 0 {
                left -= payload.len();
                self.shared.pop_front();
            } else if left > 0 {
                payload.advance(left);
                left = 0;
            }
        }
        if self.len == 0 {
            self.emptied();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_block_longer_than_a_frame_is_continued() {
        let mut output = Output::default();
        output.headers(3, true, 4, |out| out.extend_from_slice(b"abcdefghij"));
        let all = output.copy_to_bytes(output.remaining());
        let expected = [
            b"\0\0\x04\x01\x01\0\0\0\x03abcd".as_slice(),
            b"\0\0\x04\x09\x00\0\0\0\x03efgh",
            b"\0\0\x02\x09\x04\0\0\0\x03ij",
        ];
        assert_eq!(all, expected.concat());
        output.headers(3, false, 10, |out| out.extend_from_slice(b"abcdefghij"));
        assert_eq!(output.chunk()[..9], [0, 0, 10, 1, 4, 0, 0, 0, 3]);
        assert_eq!((output.frames(), output.control_frames()), (1, 0));
    }

    proptest! {
        #[test]
        fn whatever_is_written_in_whatever_steps(
            sizes in prop::collection::vec(prop_oneof![0_usize..40, 2040_usize..2060, 5000_usize..6000], 0..20),
            steps in prop::collection::vec(1_usize..9000, 1..40),
        ) {
            let mut output = Output::default();
            let mut expected = Vec::new();
            let mut came_out = Vec::new();
            let mut steps = steps.into_iter().cycle();
            for (number, size) in sizes.into_iter().enumerate() {
                let payload = Bytes::from(vec![number as u8; size]);
                let header = FrameHeader { length: size, kind: kind::DATA, flags: 0, stream: 1 };
                expected.extend_from_slice(&header.bytes());
                expected.extend_from_slice(&payload);
                output.data(1, payload, false);
                if number % 3 == 0 {
                    take(&mut output, steps.next().unwrap(), &mut came_out);
                }
            }
            while output.has_remaining() {
                take(&mut output, steps.next().unwrap(), &mut came_out);
            }
            prop_assert_eq!(came_out, expected);
            prop_assert_eq!((output.frames(), output.begin, output.behind, output.shared.len()), (0, 0, 0, 0));
        }
    }

    /// Takes bytes as a vectored write of this many bytes does.
    fn take(output: &mut Output, bytes: usize, into: &mut Vec<u8>) {
        let mut slices = [IoSlice::new(&[]); 5];
        let filled = output.chunks_vectored(&mut slices);
        let before = into.len();
        for slice in &slices[..filled] {
            let left = bytes - (into.len() - before);
            into.extend_from_slice(&slice[..left.min(slice.len())]);
        }
        let taken = into.len() - before;
        assert!(taken > 0 || output.is_empty());
        output.advance(taken);
    }
}
