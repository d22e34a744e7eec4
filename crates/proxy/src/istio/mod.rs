//! Istio's filters carried out: who is at the other end, and the standard metrics.
//!
//! What it is: a worker's memory of peers and label sets ([`Seen`]), and what of it a chain or a connection manager uses
//! ([`HttpFilters`], [`TcpFilters`]). What labels say, the engine decides.
//!
//! Invariants: for a label set that was seen before, counting neither locks, nor formats, nor allocates; every memory has a bound, and forgets
//! everything when it is reached: what is counted is kept elsewhere ([`crate::stats`]).

#[cfg(test)]
mod allocations;
mod cells;
mod filters;
mod hash;
mod identity;
mod live;
mod peers;
mod seen;

pub(crate) use filters::{HttpFilters, StatsFilter, TcpFilters};
pub(crate) use identity::Identity;
pub(crate) use live::LiveId;
pub(crate) use seen::{Finished, Seen, Sides};
