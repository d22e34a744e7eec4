//! Floor 4: what stands beside a proxy, ours or a stock Envoy: its bootstrap, its supervision, its readiness.
//!
//! [`Bootstrap`] describes one proxy and renders the JSON that it starts from; [`ProxyProgram`] runs that
//! proxy, by [`Process`], which keeps any program running; [`status`] answers on
//! the status port.
//!
//! What this crate deliberately is not: it makes no network namespace and loads no capture rules. All
//! its sockets and processes are made on the thread that calls it, so whoever runs it decides, by the
//! namespaces of that thread, whose proxy it is. It serves no secrets (mTLS is a later concern), and
//! it does not stand between a proxy and the control plane: the proxy dials that itself.
//!
//! Invariants:
//! * At most one process per [`ProxyProgram::run`] at any time; none is left when it returns.
//! * The same [`Bootstrap`] renders the same text.

mod admin;
mod backoff;
mod bootstrap;
mod bootstrap_static;
mod data_plane;
mod privileges;
mod process;
mod proxy;
mod stats_tags;
pub mod status;

pub use admin::{Admin, AdminError, Ready};
pub use backoff::Backoff;
pub use bootstrap::{Bootstrap, Kind, Locality};
pub use data_plane::{DataPlane, NoSuchDataPlane};
pub use privileges::Privileges;
pub use process::{Handed, Output, Process, Restart, SpawnError, Started, Surroundings};
pub use proxy::ProxyProgram;

/// The proxy's admin interface, on the pod's loopback only.
pub const ADMIN_PORT: u16 = 15000;
/// The agent's status port.
pub const STATUS_PORT: u16 = 15020;
/// The proxy's own listener for readiness probes; leads to the agent's status port.
pub const READINESS_PORT: u16 = 15021;
/// The proxy's own listener for Prometheus.
pub const METRICS_PORT: u16 = 15090;
