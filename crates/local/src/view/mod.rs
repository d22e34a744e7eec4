//! What a mesh shows of itself: progress while it comes up, then pods and the traffic between them.
//!
//! Three faces, one source ([`crate::status::Status`] and the proxies' own statistics):
//! * [`live`]: a terminal, redrawn in place: first progress, then two tables;
//! * plain lines, for a pipe: one line for each change, in a form that scripts may rely on
//!   (docs/local.md has it);
//! * JSON lines: the same changes, one object each.
//!
//! What this deliberately is not: a metrics store (a window of some seconds is all that is kept), or a
//! terminal library. What is drawn is a handful of text lines, so [`terminal`] writes the few control
//! sequences every terminal has, through `rustix`, which is here anyway; a widget library would bring
//! two dozen crates for it.
//!
//! Invariants:
//! * [`model`] and [`render`] are pure: time is an argument, the same model and size give the same text.
//! * However the process ends (a signal, a panic), the terminal is as it was before.
//! * Everything that a proxy's answer can grow has a bound: edges, samples of an edge, lines of a screen.

pub mod envoy_stats;
pub mod events;
pub mod live;
pub mod log;
pub mod model;
pub mod render;
mod rows;
pub mod screen;
pub mod terminal;
