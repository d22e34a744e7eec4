//! The admin interface: Envoy's paths and formats, on a thread of its own.
//!
//! What it is: the reading side of everything else, for people and for programs that read Envoys: statistics, configuration in force, clusters, listeners;
//! and the few orders Envoy takes there (drain, fail health checks, quit). What it deliberately is not: a place that knows how the proxy works. It sees
//! it through [`Subject`], and its statistics.
//!
//! Invariants:
//! * Nothing here waits for a worker, and no worker waits for it.
//! * An answer is written while it is sent: it takes as much memory as one resource of it, however many there are. Connections
//!   are bounded ([`server::CONNECTIONS_MAX`]), and so are requests.
//! * What changes something is a `POST`, as in Envoy.
//!
//! Unlike Envoy: there are no profilers, no heap dumps, no recent look-ups and no runtime overrides; their paths are not known.

mod answer;
mod clusters;
mod config_dump;
mod endpoints;
mod listeners;
mod log_levels;
mod logging;
mod mask;
mod memory;
mod orders;
mod paths;
mod query;
mod runtime;
mod server;
mod server_info;
mod stats;
mod subject;

use std::sync::Arc;
use std::time::Instant;

use ostro_engine::bootstrap::{AdminSettings, Runtime, StatsMatcher};

pub(crate) use log_levels::LogLevels;
pub use mask::Mask;
pub use query::Query;
pub(crate) use server::{AdminHandle, serve};
pub(crate) use server_info::command_line;
pub(crate) use stats::Buckets;
pub(crate) use subject::{
    Certificate, ClusterStatus, Drain, Failure, Held, HostAddress, HostStatus, ListenerStatus, Origin,
    Resource, ResourceKind, ServerState, Status, Subject, Thresholds,
};

use crate::access_log::Logs;
use crate::stats::{Stats, Tags};

/// What the admin interface shows and moves.
pub(crate) struct Admin {
    /// The proxy.
    pub subject: Arc<dyn Subject>,
    /// Its statistics.
    pub stats: Stats,
    /// How they are shown.
    pub tags: Tags,
    /// Which of them there are.
    pub matcher: StatsMatcher,
    /// Bounds of histograms.
    pub buckets: Buckets,
    /// Access logs, to be opened anew.
    pub logs: Logs,
    /// Levels of the program's log.
    pub levels: LogLevels,
    /// Runtime keys and values.
    pub runtime: Runtime,
    /// The command line, as `/server_info` shows it.
    pub command_line: serde_json::Value,
    /// When the process was started.
    pub started: Instant,
    /// Which paths are answered.
    pub settings: AdminSettings,
}

/// The tests' admin interface, and what they ask it.
#[cfg(test)]
mod fake;
