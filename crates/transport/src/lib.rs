//! Floor 3: sockets as a proxy needs them.
//!
//! What it is: listening with the options that Envoy's listeners have ([`listen()`]), connecting with a source address
//! and a mark ([`connect()`]), where a captured connection was going ([`original_destination`]), the PROXY protocol as
//! bytes ([`proxy_protocol`]), and names to addresses with their times to live ([`dns`]).
//!
//! What it deliberately is not: policy. It knows no xDS message, no cluster and no time-out of a request; whoever calls
//! brings those. TLS is not here yet.
//!
//! Invariants:
//! * Nothing a peer sends can panic, or make anything here grow beyond its named bound.
//! * An option that is asked for is set, or the error names it; none is dropped silently.
//! * Dropping a future closes what it had opened.

#![forbid(unsafe_code)]

mod connect;
pub mod dns;
mod listen;
mod option;
mod original;
pub mod proxy_protocol;

pub use connect::{ConnectOptions, connect, connect_unix, set_accepted};
pub use listen::{ListenError, ListenOptions, listen, listen_shared, listen_unix};
pub use option::{Keepalive, SocketOption, UnknownOption};
pub use original::{canonical, original_destination};
