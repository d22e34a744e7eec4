//! What a reader can depend on. Every value that a generator can read from a snapshot is reached by a [`Key`];
//! two snapshots differ exactly in the values of the keys in their [`Changes`](crate::Changes).
//!
//! Keys are interned to a [`KeyId`] of four bytes, so that an edge "this resource read that key" costs four bytes in
//! each direction.
//!
//! Invariant: a key names the coarsest thing that is still exact. Lists and indexes are things of their own, and so are
//! absences: reading [`Key::RuleHosts`] of a namespace that has no DestinationRule is one edge, not one per host.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{OnceLock, RwLock};

use ostro_names::{Host, Name, Namespace};

/// One readable thing of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// The mesh-wide settings (the `istio` ConfigMap).
    MeshConfig,
    /// Every service declared under this hostname, in any namespace, oldest first.
    Services(Host),
    /// The hosts that are visible to every namespace.
    PublicHosts,
    /// The hosts that are visible to this namespace and not to all (exportTo `.` or a list).
    NamespaceHosts(Namespace),
    /// The hosts with a service port of this number.
    HostsOnPort(u16),
    /// The hosts with this address among their addresses (exact addresses only, no prefixes).
    HostsAt(IpAddr),
    /// The hosts that other names stand for (Kubernetes ExternalName).
    AliasTargets,
    /// The other names of this host.
    Aliases(Host),
    /// The endpoints behind a hostname, all namespaces, all ports.
    Endpoints(Host),
    /// What listens at a workload address: the service ports whose endpoint it is.
    InstancesAt(IpAddr),
    /// The VirtualServices bound to the mesh for exactly this host (wildcards count as themselves).
    MeshRoutes(Host),
    /// The hosts of VirtualServices bound to the mesh and visible to everyone.
    PublicRouteHosts,
    /// The hosts of VirtualServices bound to the mesh and visible to this namespace but not to all.
    NamespaceRouteHosts(Namespace),
    /// The VirtualServices bound to a gateway, named `namespace/name`.
    GatewayRoutes(Name),
    /// One VirtualService by namespace and name (delegates).
    VirtualService(Namespace, Name),
    /// The hosts (and wildcards) for which a namespace has DestinationRules.
    RuleHosts(Namespace),
    /// The merged DestinationRules of a namespace for one host, or wildcard, as written.
    Rules(Namespace, Host),
    /// All Gateways.
    Gateways,
}

/// An interned [`Key`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(u32);

#[derive(Default)]
struct Table {
    ids: HashMap<Key, u32>,
    keys: Vec<Key>,
}

fn table() -> &'static RwLock<Table> {
    static TABLE: OnceLock<RwLock<Table>> = OnceLock::new();
    TABLE.get_or_init(RwLock::default)
}

impl Key {
    /// The id of this key; the same for equal keys, for the life of the process.
    ///
    /// The table grows with the distinct names that valid configuration has ever used; those are bounded by
    /// [`ostro_names`]' own limit.
    pub fn id(self) -> KeyId {
        let read = table().read().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(id) = read.ids.get(&self) {
            return KeyId(*id);
        }
        drop(read);
        let mut write = table().write().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(id) = write.ids.get(&self) {
            return KeyId(*id);
        }
        let id = write.keys.len() as u32;
        write.keys.push(self);
        write.ids.insert(self, id);
        KeyId(id)
    }
}

impl KeyId {
    /// The key behind the id.
    pub fn key(self) -> Key {
        table().read().unwrap_or_else(|poisoned| poisoned.into_inner()).keys[self.0 as usize]
    }

    /// The id as an index, dense from zero.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}
