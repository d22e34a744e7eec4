//! Test support: real Envoys, xDS clients, meshes in one process. Never a dependency of the product.
//!
//! What it is: the instruments that the suites of several crates share. What it deliberately is not: a place
//! for assertions about the product; those stand in the test that makes them.
//!
//! Invariant: nothing here opens a fixed port, and whatever it started it ends when dropped, by process id.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test instrument that cannot work must stop the test, loudly and where it stands"
)]

pub mod ads;
pub mod bookinfo;
pub mod call;
pub mod census;
pub mod conformance;
pub mod dump;
pub mod envoy;
pub mod envoy_log;
pub mod fields;
pub mod fire;
pub mod footprint;
pub mod load;
pub mod loaded;
pub mod meshgen;
pub mod mix;
pub mod netns;
pub mod ordinary;
pub mod ours;
pub mod own_proxy;
pub mod pair;
pub mod pinned;
pub mod prometheus;
pub mod room;
pub mod running;
pub mod second;
pub mod served;
pub mod terminal;
pub mod traffic;
pub mod transcript;
pub mod universe;
