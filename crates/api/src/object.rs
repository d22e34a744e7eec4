//! What every object has, whatever its kind: a key, metadata, and the place it was written at.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use ostro_names::{Name, Namespace};

use crate::destination_rule::DestinationRule;
use crate::gateway::Gateway;
use crate::kubernetes::{EndpointSlice, Endpoints, Node, Service};
use crate::mesh_config::MeshConfig;
use crate::service_entry::{ServiceEntry, WorkloadEntry};
use crate::virtual_service::VirtualService;
use crate::volume::{ConfigMap, Secret};
use crate::workload::{Pod, Workload};

/// An accepted object: parsed, complete, valid.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// What it is called.
    pub meta: Meta,
    /// Where it was written.
    pub origin: Origin,
    /// What it says, by kind.
    pub spec: Spec,
}

impl Object {
    /// What no two objects share.
    pub fn key(&self) -> ObjectKey {
        self.meta.key()
    }
}

/// Metadata.
#[derive(Debug, Clone, PartialEq)]
pub struct Meta {
    /// Which kind of object.
    pub kind: Kind,
    /// Unique within kind and namespace.
    pub name: Name,
    /// Empty for kinds that have none (Namespace, Node); `default` where a document does not say.
    pub namespace: Namespace,
    /// For selectors.
    pub labels: BTreeMap<String, String>,
    /// For everything else.
    pub annotations: BTreeMap<String, String>,
    /// When a cluster created it; a file usually does not say. Objects without it are ordered by
    /// namespace, then name.
    pub creation_timestamp: Option<Timestamp>,
    /// Given by a cluster, empty in files.
    pub uid: String,
    /// Set by a cluster on an object that is going away.
    pub deletion_timestamp: Option<Timestamp>,
}

impl Meta {
    /// What no two objects share.
    pub fn key(&self) -> ObjectKey {
        ObjectKey { kind: self.kind, namespace: self.namespace, name: self.name }
    }
}

/// Seconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(pub i64);

/// Where an object was written.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    /// The file, as the caller named it.
    pub file: Arc<str>,
    /// Line of the document's first field, from 1.
    pub line: u32,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// What no two objects share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// Which kind of object.
    pub kind: Kind,
    /// Empty for kinds that have none.
    pub namespace: Namespace,
    /// Unique within kind and namespace.
    pub name: Name,
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{} {}", self.kind, self.name)
        } else {
            write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
        }
    }
}

macro_rules! kinds {
    ($( $(#[$meta:meta])* $kind:ident ),* $(,)?) => {
        /// Kinds of objects, whatever version they were written in.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Kind {
            $( $(#[$meta])* $kind, )*
            /// Not acted upon yet: `Kind`, or `Kind.group` outside Kubernetes' core.
            Other(Name),
        }

        impl Kind {
            /// As it is written in a document (for `Other` with its group).
            pub fn as_str(self) -> &'static str {
                match self {
                    $( Self::$kind => stringify!($kind), )*
                    Self::Other(name) => name.as_str(),
                }
            }
        }
    };
}

kinds! {
    /// v1
    Namespace,
    /// v1
    Node,
    /// v1
    Service,
    /// discovery.k8s.io
    EndpointSlice,
    /// v1
    Endpoints,
    /// v1
    Pod,
    /// v1
    ServiceAccount,
    /// apps
    Deployment,
    /// apps
    StatefulSet,
    /// apps
    DaemonSet,
    /// apps
    ReplicaSet,
    /// batch
    Job,
    /// v1; the mesh's settings, or data for pods
    ConfigMap,
    /// v1
    Secret,
    /// networking.istio.io
    VirtualService,
    /// networking.istio.io
    DestinationRule,
    /// networking.istio.io
    Gateway,
    /// networking.istio.io
    ServiceEntry,
    /// networking.istio.io
    WorkloadEntry,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What an object says, by kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Spec {
    /// Its labels say all.
    Namespace,
    /// A machine; its locality is in its labels.
    Node(Node),
    /// A service of Kubernetes.
    Service(Box<Service>),
    /// Endpoints of a service.
    EndpointSlice(EndpointSlice),
    /// Endpoints of a service, the older form.
    Endpoints(Endpoints),
    /// A workload's instance.
    Pod(Box<Pod>),
    /// Its name says all.
    ServiceAccount,
    /// Deployment, StatefulSet, DaemonSet, ReplicaSet, Job (see the object's kind).
    Workload(Box<Workload>),
    /// The ConfigMap `istio`.
    MeshConfig(Box<MeshConfig>),
    /// Any other ConfigMap.
    ConfigMap(Box<ConfigMap>),
    /// Bytes for pods.
    Secret(Box<Secret>),
    /// Routing.
    VirtualService(Box<VirtualService>),
    /// Policies of a host.
    DestinationRule(Box<DestinationRule>),
    /// Servers at the edge.
    Gateway(Gateway),
    /// A service beyond Kubernetes.
    ServiceEntry(Box<ServiceEntry>),
    /// A workload beyond Kubernetes.
    WorkloadEntry(Box<WorkloadEntry>),
    /// A kind, or an instance of it, that is not acted upon yet.
    Other(Other),
}

/// A kind that is not acted upon yet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Other {
    /// As written.
    pub api_version: String,
    /// As written.
    pub kind: String,
}
