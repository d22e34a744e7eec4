//! The proxy that a resource is built for, and how it is read.
//!
//! A resource's variant is exactly the proxy attributes its generator asked for, with the answers. So a generator never
//! sees a [`Proxy`]: it asks the [`View`](crate::View), which notes an [`Attr`] and its [`Answer`]. Questions
//! are as narrow as the generator's need ("do the labels contain these?", not "what are the labels?"), because
//! proxies that answer alike share one encoded resource.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ostro_names::{Host, Name, Namespace};

use crate::model::{Labels, Locality};

/// What a proxy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProxyKind {
    Sidecar,
    Router,
}

/// A connected proxy, read from its xDS node: an id `type~ip~pod.namespace~domain`, and metadata by Istio's keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    pub kind: ProxyKind,
    /// The node id, whole.
    pub id: String,
    /// The addresses of its workload, the primary one first.
    pub addresses: Vec<IpAddr>,
    /// Configuration namespace.
    pub namespace: Namespace,
    /// DNS domain of its namespace (`default.svc.cluster.local`).
    pub dns_domain: String,
    pub labels: Labels,
    pub locality: Locality,
    pub service_account: Option<Name>,
    pub cluster_id: Option<Name>,
    /// Names of the extensions compiled into it (`node.extensions`).
    pub extensions: BTreeSet<String>,
    /// Node metadata keys whose values are strings, as sent.
    pub metadata: std::collections::BTreeMap<String, String>,
}

/// A question about the proxy. Interned by equality; the answer is a [`Name`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Attr {
    Kind,
    Namespace,
    DnsDomain,
    /// Its addresses, comma-joined.
    Addresses,
    /// Which IP families it has: `4`, `6`, `46` (first is preferred).
    Families,
    /// `region/zone/subzone`.
    Locality,
    /// Do its labels contain all of these?
    LabelsContain(Labels),
    /// Does it carry this extension?
    Extension(&'static str),
    /// The value of one of its labels, empty when absent.
    Label(String),
    /// Did it name its extensions, without this one among them?
    Lacks(&'static str),
    /// A metadata value, empty when absent.
    Metadata(&'static str),
    /// Its namespace if that namespace sees hosts of its own, else empty.
    HostScope,
    /// Its namespace if that namespace sees VirtualService hosts of its own, else empty.
    RouteScope,
    /// Does its namespace admit what is visible to these namespaces only?
    In(Vec<Namespace>),
    /// Its namespace if that namespace has a DestinationRule for this host, else empty.
    RuleScope(Host),
    /// Which ports of services it listens for, and where: `80=8080`, sorted, comma-joined.
    ServedPorts,
    /// Those of its addresses that are endpoints of this host, comma-joined.
    Behind(Host),
    /// Its namespace if several services share this host and the namespace decides which is meant, else empty.
    ServiceScope(Host),
}

impl Attr {
    /// Whether the answer depends on the proxy's namespace and on nothing else of the proxy.
    pub fn is_of_namespace(&self) -> bool {
        matches!(
            self,
            Attr::HostScope | Attr::RouteScope | Attr::In(_) | Attr::RuleScope(_) | Attr::ServiceScope(_)
        )
    }
}

/// An answer to an [`Attr`].
pub type Answer = Name;
