//! HTTP/2 over sockets: `ostro-http2`'s connections, driven by one task each.
//!
//! A connection's task ([`Server`], [`Client`]) owns the socket and is all that reads and writes it; [`Stream`]s and
//! [`Handle`]s reach the connection's state behind a shared cell and wake the task when there is something to write. All
//! of it lives on one thread: nothing here is `Send`, nothing locks.
//!
//! What it deliberately is not: a pool, a policy, or a clock. How long a connection may be idle or live, when it is
//! probed and when it is drained is said through the [`Handle`]. The one timer of a connection bounds how long it waits,
//! once it is closed, for its last bytes to be read; [`Alive`] has another, for whoever wants its peer to be probed.
//!
//! Invariants:
//! * What a stream has received and nobody has read is bounded by its window: room is given back as
//!   [`poll_body`](Stream::poll_body) hands data out.
//! * What a stream has to send and the socket does not take is bounded by `send_buffer`, if senders ask for
//!   [`poll_capacity`](Stream::poll_capacity).
//! * A server whose answers nobody reads stops reading.
//! * A stream that is dropped is over for the peer, too.

mod alive;
mod client;
mod fault;
mod handle;
mod io;
mod server;
mod shared;
mod stream;

pub use alive::Alive;
pub use client::{Client, connect};
pub use fault::{ConnectionFault, StreamError};
pub use handle::{Change, Handle};
pub use ostro_http2::{
    Config, ErrorCode, FloodLimits, OnMalformed, OpenError, Origin, RequestHead, ResponseHead,
};
pub use server::{Server, serve};
pub use stream::{Head, Stream};
