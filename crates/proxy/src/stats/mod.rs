//! Statistics: Envoy's names, counted without locks.
//!
//! A *scope* is a named group of cells (`cluster.<name>.`). Its cells live in *blocks*, one for each thread that has used
//! it; a block is written by its thread alone, with plain loads and stores, and read by whoever scrapes. A scope that
//! nobody has used has no block. Names are strings only when they are scraped.
//!
//! Invariants: counting neither locks nor hashes nor allocates, but for a scope's first use by a thread and a
//! histogram's first value.

mod cell;
mod families;
mod family;
mod labelled;
mod quantiles;
mod reading;
mod registry;
mod tags;

pub(crate) use cell::{Codes, Counter, Gauge, Histogram};
pub(crate) use families::{ClusterStats, HttpStats, ListenerStats, MetadataExchangeStats, Origin, TcpStats};
pub(crate) use family::{Family, Value, Zero};
pub(crate) use labelled::{Kind, Labelled, SeriesName};
pub(crate) use quantiles::{BOUNDS, QUANTILES, Seen};
pub(crate) use reading::Reading;
pub(crate) use registry::{Local, Scope, Stats, Thread, Writer};
pub(crate) use tags::{Tag, Tags};
