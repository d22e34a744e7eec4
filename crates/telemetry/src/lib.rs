//! Floor 3: what the control plane tells about itself: metrics under the names that Istio's dashboards query.
//!
//! What it is not: it decides nothing, has no socket (the process that assembles the control plane serves
//! [`Metrics::encode`]), and sets up no log.
//!
//! Invariants:
//! - a metric that Istio has keeps Istio's name to the letter, so counters carry no `_total` unless Istio's do;
//! - every label's values are bounded by this program, never by what a peer sends.

#![forbid(unsafe_code)]

mod metrics;
mod plain;

pub use metrics::{ConfigEvent, Metrics, Trigger, Typed};
pub use plain::Plain;
