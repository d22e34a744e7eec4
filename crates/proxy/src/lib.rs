//! Floor 4: the L7 data plane: sidecar and gateway, configured by nothing but Envoy's xDS.
//!
//! What it is: sockets, protocols and threads around `ostro-engine`, which decides. What it deliberately is not: an
//! opinion of any rule; where a connection or a request goes, and whether, is asked of the engine.
//!
//! A connection's way: `worker` accepts it, `downstream::accept` finds its filter chain, `downstream` reads what it speaks.
//! A request's way: `stream` admits it, finds its route and answers or forwards it; `upstream` has the connections that
//! carry it on. What is configured comes through `control` into `config`.
//!
//! Invariants:
//! * A worker owns its connections: nothing on the way of a request locks. What workers share is immutable behind an
//!   atomic pointer, or an atomic number.
//! * Whatever a peer sends, nothing panics, and nothing grows beyond a named bound.

mod access_log;
mod admin;
mod body;
mod checks;
mod config;
mod configuration;
mod control;
mod downstream;
pub mod h2;
pub mod http1;
mod istio;
mod options;
mod resources;
mod server;
mod socket;
mod stats;
mod stream;
mod subject;
mod timers;
mod unsupported;
mod upstream;
mod waiting;
mod wire;
mod worker;

/// What people and programs send to the admin interface: parameters, and the fields they want to see.
pub use admin::{Mask, Query};
pub use body::Piece;
pub use options::{Mode, Options};
pub use server::{StartError, run};
