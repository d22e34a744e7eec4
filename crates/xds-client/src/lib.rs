//! Floor 3: the ADS client of our data planes.
//!
//! What it is: the other end of Envoy's aggregated discovery service, in both dialects, and what a proxy does with what it
//! is told before anything of it is used: each resource is offered to a [`Consumer`], refused by name or kept, and comes
//! into force in order, clusters with their endpoints before listeners with their routes. Static resources and files go
//! the same way.
//!
//! What it deliberately is not: it compiles nothing and knows no field of a resource but its name; it has no opinion about
//! what is to be asked for beyond what resources need. TLS is behind the seam [`Dial`].
//!
//! A response's way: [`wire`] reads it, [`delivery`] takes it apart, [`store`] offers each resource and lets [`warming`]
//! say what comes into force, [`mux`] makes the answer. [`run`] is the loop around these; [`records`] and [`counters`] are
//! what others see.
//!
//! Invariants:
//! * What is held stays in force whatever happens to the control plane.
//! * A resource that is refused does not disturb another, and the control plane is told which, and why.
//! * Nothing that a control plane sends can panic here, or make anything grow beyond [`limits`].

#![forbid(unsafe_code)]

mod backoff;
mod consumer;
pub mod counters;
pub mod delivery;
mod dial;
mod files;
mod handle;
mod kind;
pub mod limits;
pub mod mux;
pub mod records;
mod run;
pub mod store;
pub mod warming;
pub mod wire;

pub use backoff::{Attempts, BackOff};
pub use consumer::{Accepted, Consumer, Moment, Need, Offered, Origin, PathSource, Phase, Source, Wildcard};
pub use counters::{ControlPlaneCounters, SubscriptionCounters};
pub use dial::{Dial, Dialing, Io, PlainDial, Target};
pub use files::Decode;
pub use handle::{Full, Handle};
pub use kind::{Absence, Kind, Role, Scope, Spec, Wording};
pub use records::{Failure, Held, Record, Records, Status};
pub use run::run;
pub use store::{Outcome, Store};
pub use wire::{Ads, Dialects};
