//! Floor 3: the ADS server: who subscribes to what, what changed for whom, and in which order it is told.
//!
//! A change's way through this crate: [`push`] takes the changed keys, [`cache`] says which encoded resources read them,
//! `resolve` finds or builds the successor for each connection that holds one, `ledger` compares it with what that
//! connection was told, `order` says what may be sent now, and [`ads`] puts it on the wire.
//!
//! What it is not: it builds no resource itself (that is a [`Generator`]), has no opinion about configuration, and keeps
//! nothing over a restart: a proxy that comes back says what it has.
//!
//! Invariants:
//! - a resource is encoded once for all proxies that agree on what its generator asked them;
//! - equal bytes have equal versions, over restarts too, and are not sent again (except endpoints after their cluster);
//! - what a connection is still to be told is a set, bounded by its subscription, never a queue of messages;
//! - nothing refers to what the peer has not acknowledged, and nothing is taken away that something still refers to,
//!   within the bounded waits of [`Timing`].

#![forbid(unsafe_code)]

pub mod ads;
mod answers;
mod cache;
mod connection;
mod distributor;
mod generator;
mod item;
mod ledger;
pub mod limits;
pub mod node;
mod order;
mod push;
mod readers;
mod resolve;
mod resource;
pub mod status;
mod store;
mod subscriptions;
mod table;
#[cfg(test)]
mod tests;

pub use distributor::{Change, Handle, start};
pub use generator::{Generator, Translator, VirtualHosts};
pub use order::Timing;
pub use resource::Version;
