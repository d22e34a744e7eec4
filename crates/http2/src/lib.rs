//! Floor 3: HTTP/2 (RFC 9113, 7541, 8441) for both roles, as a state machine.
//!
//! What it is: frames, header compression, streams, windows, and the rules that messages keep, between bytes and
//! [`Event`]s. What it deliberately is not: a socket, a task, a clock or a policy; server push and priorities, which
//! nobody uses, are refused and ignored.
//!
//! Invariants:
//! * Whatever the peer sends, nothing panics, and what is kept of it is bounded by [`Config`]: heads by their limits,
//!   bodies by the windows, answers by [`FloodLimits`].
//! * A window is given back as data is consumed, never before.
//! * What leaves as a message's head can be written as HTTP/1 without meaning anything else there.
//! * The same bytes yield the same events, however they are cut.

mod chunks;
mod config;
mod connection;
mod error;
mod event;
mod flood;
mod flow;
mod frame;
mod hpack;
mod message;
mod output;
mod settings;
mod streams;

pub use chunks::Chunks;
pub use config::{Config, FRAME_BYTES_MAX, FloodLimits, OnMalformed, TABLE_BYTES_MAX};
pub use connection::{Connection, Counts};
pub use error::{ConnectionError, ErrorCode, OpenError, StreamClosed};
pub use event::{Event, Origin, RequestHead, ResponseHead};
pub use frame::PREFACE;
pub use output::Output;
pub use streams::StreamId;
