//! The way to ask a running mesh and to tell it what to do: HTTP/1.1 over a Unix socket in its state
//! directory, for the commands of `ostro` and for whoever scripts it (`curl --unix-socket`).
//!
//! [`server`] answers, on the side of the mesh; [`client`] asks; what goes between them is in [`view`] (JSON).
//!
//! What this deliberately is not: a Kubernetes API. Paths begin with `/v1`; within a version, fields are only
//! ever added.
//!
//! Invariants:
//! * Only the user who runs the mesh is answered: the socket is his alone (0600), and the kernel is asked who
//!   calls.
//! * Nothing that a caller does, or leaves undone, grows without a named bound or holds the mesh up: requests
//!   are limited in size, in number and in time; streams have a number of their own, so that stalled readers
//!   cannot keep `ostro down` out.

pub mod client;
pub mod server;
pub mod view;

mod body;

/// What the paths begin with, and [`view::Mesh::api`] says.
pub const VERSION: u32 = 1;
