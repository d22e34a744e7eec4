//! What is cached: the names of things and their values.

use std::collections::HashMap;
use std::sync::Arc;

use ostro_names::{Host, Name};
use ostro_translate::{EncodedVirtualHost, Part, ResourceType, Roster};

use crate::resource::Resource;

/// What is cached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Item {
    Roster(ResourceType),
    Names(ResourceType, Part),
    /// Held by tables only, so never stale for a connection.
    VirtualHost(Host, u16),
    Content(ResourceType, Name),
}

impl Item {
    /// Under which type it is counted in the metrics.
    pub fn counted_as(self) -> &'static str {
        match self {
            Item::Roster(kind) | Item::Names(kind, _) | Item::Content(kind, _) => kind.short(),
            Item::VirtualHost(..) => VIRTUAL_HOSTS,
        }
    }

    /// What is looked at before what: what decides over others first, then endpoints, which overtake the rest.
    pub fn rank(self) -> u8 {
        match self {
            Item::Roster(_) => 0,
            Item::Names(..) => 1,
            Item::Content(ResourceType::Endpoint, _) => 2,
            Item::VirtualHost(..) | Item::Content(..) => Item::LAST_RANK,
        }
    }

    /// The rank of what endpoints overtake.
    pub const LAST_RANK: u8 = 3;
}

/// The type under which virtual hosts are counted: that of the service that would carry them alone.
const VIRTUAL_HOSTS: &str = "vhds";

/// Where a variant is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Slot(pub u32);

/// A roster, and where it is kept.
#[derive(Debug)]
pub(crate) struct Rostered {
    pub slot: Slot,
    pub roster: Roster,
}

/// The names of a part, and where they are kept.
#[derive(Debug)]
pub(crate) struct Named {
    pub slot: Slot,
    pub names: Vec<Name>,
}

/// A cached value.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Roster(Arc<Rostered>),
    Names(Arc<Named>),
    /// `None`: there is none for this host and port, which is knowledge too.
    VirtualHost(Option<Arc<EncodedVirtualHost>>),
    Content(Arc<Resource>),
}

impl Value {
    /// Whether both are the same virtual host.
    pub fn is_virtual_host(&self, other: &Value) -> bool {
        matches!((self, other), (Value::VirtualHost(one), Value::VirtualHost(other)) if one == other)
    }
}

/// Values that are no longer true, and which connections are to resolve them again.
pub(crate) type Stale = HashMap<Item, Vec<u32>>;
