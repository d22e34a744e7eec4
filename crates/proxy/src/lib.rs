//! Floor 4: the L7 data plane: sidecar and gateway, configured by nothing but Envoy's xDS.
//!
//! What it is: sockets, protocols and threads around `ostro-engine`, which decides. What it deliberately is not: an
//! opinion of any rule; where a connection or a request goes, and whether, is asked of the engine.
//!
//! Invariants:
//! * A worker owns its connections: nothing on the way of a request locks. What workers share is immutable behind an
//!   atomic pointer, or an atomic number.
//! * Whatever a peer sends, nothing panics, and nothing grows beyond a named bound.

mod body;
pub mod h2;
pub mod http1;

pub use body::Piece;
