//! Floor 2: the model. An immutable [`Snapshot`] of services, workloads, endpoints and policies, and the
//! [`Changes`] between two.
//!
//! What it is not: it does not translate (that is `translate`), does not know who is connected (`discovery`), and has no
//! clock and no socket.
//!
//! Invariants:
//! - every readable value has a [`Key`], and `Changes` names exactly the keys whose values differ;
//! - work per change is proportional to the change, not to the mesh;
//! - the same accepted set of objects gives the same snapshot, whatever the order of arrival.

mod addresses;
mod attr;
mod candidates;
mod changes;
mod endpoints;
mod gateways;
mod key;
mod mesh;
pub mod model;
mod objects;
pub mod protocol;
mod proxy;
mod routes;
mod rules;
mod scope;
mod selection;
mod services;
mod sets;
mod settings;
mod snapshot;
mod view;
pub mod vip;
mod workloads;

#[cfg(test)]
mod testing;

pub use addresses::automatic_addresses;
pub use attr::{answer, matching_hosts};
pub use changes::Changes;
pub use key::{Key, KeyId};
pub use mesh::{Change, Mesh};
pub use proxy::{Answer, Attr, Proxy, ProxyKind};
pub use routes::gateway_name;
pub use scope::{resolve_host, service_host};
pub use settings::Settings;
pub use snapshot::{Hosts, List, Snapshot};
pub use view::{Reads, View};
