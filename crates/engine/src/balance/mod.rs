//! Hosts and the choice between them: what decides which host gets a request.
//!
//! What it is: the state of clusters that all workers share ([`Upstream`]), each worker's own choice ([`Picker`]), and
//! Envoy's algorithms: round robin and least requests by earliest deadline, random, hash ring, Maglev, original
//! destination; priorities, localities, panic, slow start. What it deliberately is not: connections, timers, sockets.
//!
//! Invariants:
//! * A choice reads an immutable [`Snapshot`]; no lock is taken, except once per new original destination.
//! * What is counted of a host is counted once for all workers ([`HostState`]).
//! * The same address stays the same host over updates of endpoints and of the cluster.

mod edf;
mod endpoints;
mod hashing;
mod host;
mod load;
mod picker;
mod slow_start;
mod snapshot;
mod upstream;

pub use endpoints::{Endpoints, Membership, NothingResolved, Resolved};
pub use host::{Counter, Health, HealthFlags, Host, HostAddress, HostId, HostState};
pub use load::{Availability, Loads, Standing};
pub use picker::{Choice, Picker};
pub use snapshot::{Counts, PriorityView, Snapshot, TableSize};
pub use upstream::{BalanceStats, Upstream};
