//! The streams of a connection: those that live, and what is remembered of those that do not.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::time::Instant;

use ostro_engine::Headers;

use crate::ErrorCode;
use crate::chunks::Chunks;
use crate::flow::{Receive, Send};

/// Streams that are over of which it is remembered how they ended.
const CLOSED_REMEMBERED: usize = 128;
/// In place of a `content-length` that there is not.
pub const NO_LENGTH: u64 = u64::MAX;

/// A stream of one connection. It stays valid, and means no other stream, when the stream is over.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct StreamId {
    number: u32,
    slot: u32,
}

impl StreamId {
    /// Its identifier on the wire.
    pub fn number(self) -> u32 {
        self.number
    }

    /// A small number that no other living stream of the connection has: a place in tables beside.
    pub fn slot(self) -> usize {
        self.slot as usize
    }
}

/// What the peer may send next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receiving {
    /// A response's head.
    Head,
    /// Data or trailers.
    Body,
    /// Nothing.
    Ended,
}

/// What we may send next.
#[derive(Debug, PartialEq, Eq)]
pub enum Sending {
    /// A response's head.
    Head,
    /// Data or trailers.
    Body,
    /// Nothing: this is sent behind the data that waits.
    Ending(Option<Headers>),
    /// Nothing, and nothing waits.
    Ended,
}

/// A living stream.
#[derive(Debug)]
pub struct Stream {
    pub id: StreamId,
    pub receiving: Receiving,
    pub sending: Sending,
    pub receive: Receive,
    pub send: Send,
    /// Data that waits for its turn or for a window.
    pub queue: Chunks,
    /// It is among those whose turn will come.
    pub is_scheduled: bool,
    /// Somebody wants to know of capacity.
    pub awaits_capacity: bool,
    /// Somebody wants to know when nothing waits any more.
    pub awaits_flush: bool,
    /// What is left of the announced length, or [`NO_LENGTH`].
    pub length_left: u64,
    /// The response has no body, whatever its head says.
    pub is_head_request: bool,
    /// Interim responses so far.
    pub interims: u32,
    /// With this it is reset once all is sent.
    pub reset_after: Option<ErrorCode>,
    pub opened: Instant,
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// Both sides said so.
    Ended,
    /// The peer reset it.
    ByPeer,
    /// We reset it: the peer may not know yet.
    ByUs,
    /// It was not remembered.
    Forgotten,
    /// There never was one: it was passed over.
    Never,
}

/// Streams by number and by slot.
#[derive(Debug, Default)]
pub struct Streams {
    slots: Vec<Option<Stream>>,
    free: Vec<u32>,
    numbers: HashMap<u32, u32, BuildHasherDefault<NumberHasher>>,
    closed: VecDeque<(u32, Closed)>,
    /// The highest number that was forgotten.
    forgotten: u32,
}

impl Streams {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Adds the stream that `make` makes of its id.
    pub fn insert(&mut self, number: u32, make: impl FnOnce(StreamId) -> Stream) -> StreamId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        let id = StreamId { number, slot };
        self.numbers.insert(number, slot);
        if let Some(place) = self.slots.get_mut(slot as usize) {
            *place = Some(make(id));
        }
        id
    }

    /// By its number on the wire.
    pub fn by_number(&mut self, number: u32) -> Option<&mut Stream> {
        let slot = *self.numbers.get(&number)?;
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    /// By its id.
    pub fn get(&mut self, id: StreamId) -> Option<&mut Stream> {
        self.slots.get_mut(id.slot())?.as_mut().filter(|stream| stream.id == id)
    }

    /// All of them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.slots.iter_mut().flatten()
    }

    /// Removes one, and remembers how it ended.
    pub fn remove(&mut self, id: StreamId, how: Closed) -> Option<Stream> {
        let stream = self.slots.get_mut(id.slot())?.take_if(|stream| stream.id == id)?;
        self.free.push(id.slot);
        self.numbers.remove(&id.number);
        self.remember(id.number, how);
        Some(stream)
    }

    /// Remembers how a stream ended, or one that never began.
    pub fn remember(&mut self, number: u32, how: Closed) {
        if self.closed.len() == CLOSED_REMEMBERED
            && let Some((number, _)) = self.closed.pop_front()
        {
            self.forgotten = self.forgotten.max(number);
        }
        self.closed.push_back((number, how));
    }

    /// How a stream ended whose number is not beyond the highest so far.
    pub fn closed(&self, number: u32) -> Closed {
        match self.closed.iter().rev().find(|(other, _)| *other == number) {
            Some((_, how)) => *how,
            None if number <= self.forgotten => Closed::Forgotten,
            None => Closed::Never,
        }
    }
}

/// Spreads stream numbers, which only the peer's patience lets it choose: they rise.
#[derive(Default)]
pub struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte) ^ self.0 as u32);
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(26);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(id: StreamId) -> Stream {
        Stream {
            id,
            receiving: Receiving::Body,
            sending: Sending::Head,
            receive: Receive::new(1),
            send: Send::new(1),
            queue: Chunks::default(),
            is_scheduled: false,
            awaits_capacity: false,
            awaits_flush: false,
            length_left: NO_LENGTH,
            is_head_request: false,
            interims: 0,
            reset_after: None,
            opened: Instant::now(),
        }
    }

    #[test]
    fn an_id_means_one_stream_for_ever() {
        let mut streams = Streams::default();
        let first = streams.insert(1, stream);
        assert!(streams.remove(first, Closed::Ended).is_some());
        let second = streams.insert(3, stream);
        assert_eq!(first.slot(), second.slot());
        assert!(streams.get(first).is_none() && streams.get(second).is_some());
        assert!(streams.remove(first, Closed::ByUs).is_none());
        assert_eq!((streams.len(), streams.closed(1)), (1, Closed::Ended));
    }

    #[test]
    fn how_streams_ended_is_remembered_for_a_while() {
        let mut streams = Streams::default();
        for number in 0..=CLOSED_REMEMBERED as u32 {
            streams.remember(2 * number + 1, Closed::ByUs);
        }
        assert_eq!(streams.closed(1), Closed::Forgotten);
        assert_eq!(streams.closed(3), Closed::ByUs);
        assert_eq!(streams.closed(1001), Closed::Never);
    }
}
