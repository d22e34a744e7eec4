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

mod attr;
mod key;
pub mod model;
mod proxy;
mod snapshot;
pub mod vip;
mod view;

pub use attr::answer;
pub use key::{Key, KeyId};
pub use proxy::{Answer, Attr, Proxy, ProxyKind};
pub use snapshot::{Hosts, List, Snapshot};
pub use view::{Reads, View};
