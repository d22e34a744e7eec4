//! Where access logs go: files and standard streams, each written by one thread of its own.
//!
//! Invariants:
//! * A worker never waits for a disk: it hands full buffers over; when too many are on their way, it drops lines and
//!   counts them.
//! * Lines are whole, and those of one worker are in order.

mod sink;
mod target;

pub(crate) use sink::{Logs, Sink, SinkId, SinkWriter};
