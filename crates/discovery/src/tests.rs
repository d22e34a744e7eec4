//! Tests of the whole state without I/O: a toy world, peers that behave as Envoy does, and time as an argument.

mod histories;
mod peer;
mod pushes;
mod tables;
pub mod toy;
