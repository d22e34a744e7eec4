//! The way to ask a running mesh and to tell it what to do: HTTP/1.1 over a Unix socket in its state
//! directory, for the commands of `ostro` and for whoever scripts it (`curl --unix-socket`).
//!
//! [`server`] answers, on the side of the mesh; [`client`] asks. What goes between them is in [`view`] (JSON)
//! and, for a program run in a pod, in [`exec`]: descriptors over the socket itself, after an HTTP upgrade.
//! [`applied`] keeps the objects that the mesh was given this way; [`terminal`] lends the caller's terminal.
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

pub mod applied;
pub mod client;
pub mod exec;
pub mod server;
pub mod terminal;
pub mod view;

mod body;

/// What the paths begin with, and [`view::Mesh::api`] says.
pub const VERSION: u32 = 1;
/// Where in the state directory the objects of `ostro apply` are.
pub const APPLIED: &str = "applied";
/// Where in the state directory the pods' own directories are.
pub const PODS: &str = "pods";
