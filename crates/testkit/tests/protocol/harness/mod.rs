//! The harness: families of cases, run against a proxy as a foreign process.
//!
//! What it deliberately is not: knowledge of any protocol rule. It moves bytes, waits with a bound, and compares what
//! was seen with what was expected, as text.
//!
//! Invariants: a case shares nothing with another but the process under test; nothing sleeps; every wait ends.

#![allow(dead_code, reason = "instruments that families still to come use")]

pub mod bodies;
pub mod case;
pub mod frames;
pub mod h2;
pub mod http1;
pub mod logs;
pub mod process;
pub mod site;
pub mod stage;
pub mod wire;

pub use bodies::Check;
pub use case::{Case, Family, case, listed, run};
pub use h2::{Event, H2};
pub use process::Subject;
pub use site::Site;
pub use stage::Stage;
pub use wire::{Done, Trouble, Wire};
