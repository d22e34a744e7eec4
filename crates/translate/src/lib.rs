//! Floor 2: (snapshot, proxy) to Envoy xDS resources, with Istio's names and shapes.
//!
//! Two functions of the mesh, both pure and both run through a recording [`View`](ostro_mesh::View):
//! - *content*: the bytes of one resource, from its type and name alone;
//! - *membership*: which names a wildcard subscriber has, as a roster of parts and the names that each part contributes.
//!
//! What route configurations have in common, virtual hosts, is a function of its own too ([`virtual_host`]), so that
//! somebody can keep each and have them joined ([`content_with`]).
//!
//! What it is not: it does not know who is connected, what was sent, or what changed (that is `discovery`), and it has
//! no opinion of its own about which object applies to whom (that is `mesh`).
//!
//! Invariants:
//! - equal reads give equal bytes: maps are encoded in sorted order, lists in an order that the model fixes;
//! - content and membership agree: a name that a part contributes has content for the same proxy, and the
//!   other way round for wildcard types;
//! - nothing is generated that the proxy cannot take (its extensions are asked for through the view).

pub mod abilities;
pub mod access_log;
mod balancing;
mod chain_set;
mod cluster;
pub mod encode;
mod endpoint;
pub mod filters;
mod gateway;
mod http_options;
mod http_proxy;
mod inbound;
mod listener;
mod locality;
pub mod names;
mod outbound;
mod policy;
pub mod routes;
pub mod service;
mod tcp_routes;
mod telemetry;
mod upstream_tls;

use bytes::Bytes;
use ostro_mesh::{Hosts, ProxyKind, View};
use ostro_names::{Host, Name};

pub use routes::encoded::{EncodedVirtualHost, OnTheSpot, VirtualHosts};
pub use routes::virtual_host::encoded as virtual_host;

/// The resource types that are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResourceType {
    Cluster,
    Endpoint,
    Listener,
    Route,
}

impl ResourceType {
    /// All types, in the order in which additions are pushed.
    pub const ALL: [ResourceType; 4] =
        [ResourceType::Cluster, ResourceType::Endpoint, ResourceType::Listener, ResourceType::Route];

    /// The type URL on the wire.
    pub fn type_url(self) -> &'static str {
        match self {
            ResourceType::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            ResourceType::Endpoint => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            ResourceType::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            ResourceType::Route => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        }
    }

    /// The type with this URL.
    pub fn from_type_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.type_url() == url)
    }

    /// Whether an empty subscription means everything (LDS, CDS).
    pub fn is_wildcard(self) -> bool {
        matches!(self, ResourceType::Cluster | ResourceType::Listener)
    }

    /// Lower-case abbreviation used in metrics and logs.
    pub fn short(self) -> &'static str {
        match self {
            ResourceType::Cluster => "cds",
            ResourceType::Endpoint => "eds",
            ResourceType::Listener => "lds",
            ResourceType::Route => "rds",
        }
    }
}

/// A contributor of names to a wildcard type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// What every proxy of the kind has: capture listeners, BlackHoleCluster and the like.
    Fixed,
    /// What follows from the proxy's own workload.
    Inbound,
    /// What the Gateways that select the proxy ask for.
    Gateways,
    /// What one visible host contributes.
    Host(Host),
}

/// The parts of a wildcard type for one proxy.
#[derive(Debug, Clone, Default)]
pub struct Roster {
    /// Parts that are not hosts.
    pub fixed: Vec<Part>,
    /// Hosts that everybody sees; shared with the snapshot, so that two rosters compare in time proportional to
    /// their difference.
    pub public: Hosts,
    /// Hosts that only the proxy's namespace sees.
    pub own: Hosts,
}

/// The bytes of the resource `name`, or `None` if there is no such resource for this proxy.
pub fn content(view: &View<'_>, kind: ResourceType, name: Name) -> Option<Bytes> {
    content_with(view, &mut OnTheSpot, kind, name)
}

/// As [`content`], with virtual hosts of sidecars from somewhere else.
pub fn content_with(
    view: &View<'_>,
    virtual_hosts: &mut dyn VirtualHosts,
    kind: ResourceType,
    name: Name,
) -> Option<Bytes> {
    match kind {
        ResourceType::Cluster => cluster::content(view, name),
        ResourceType::Endpoint => Some(endpoint::content(view, name)),
        ResourceType::Listener => listener::content(view, name),
        ResourceType::Route => Some(match view.kind() {
            ProxyKind::Sidecar => routes::sidecar::content(view, virtual_hosts, name),
            ProxyKind::Router => encode::bytes(&gateway::route_configuration(view, name)),
        }),
    }
}

/// The parts of `kind` for this proxy; empty for types that are subscribed by name.
pub fn roster(view: &View<'_>, kind: ResourceType) -> Roster {
    let sidecar = view.kind() == ProxyKind::Sidecar;
    let fixed = match (kind, sidecar) {
        (ResourceType::Cluster, true) => vec![Part::Fixed, Part::Inbound],
        (ResourceType::Cluster, false) | (ResourceType::Listener, true) => vec![Part::Fixed],
        // A gateway listens to what Gateways say and to nothing else.
        (ResourceType::Listener, false) => {
            return Roster { fixed: vec![Part::Gateways], ..Roster::default() };
        }
        (ResourceType::Endpoint | ResourceType::Route, _) => return Roster::default(),
    };
    let (public, own) = view.visible_hosts();
    Roster { fixed, public, own }
}

/// The names that `part` contributes to `kind`, sorted, distinct. Different parts may contribute the same name.
pub fn part_names(view: &View<'_>, kind: ResourceType, part: Part) -> Vec<Name> {
    match kind {
        ResourceType::Cluster => cluster::part_names(view, part),
        ResourceType::Listener => listener::part_names(view, part),
        ResourceType::Endpoint | ResourceType::Route => Vec::new(),
    }
}
