//! What the model knows: services, endpoints, instances and the policies bound to them, in our own words.
//!
//! Values are immutable and shared; a snapshot holds them behind `Arc`. Two values that mean the same compare equal, and
//! that is what decides whether a change is a change: fields that nothing reads (annotations, managed fields,
//! resource versions) have no place here.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use ostro_api::destination_rule::DestinationRule;
use ostro_api::gateway::Gateway;
use ostro_api::virtual_service::VirtualService;
use ostro_api::{Kind, Meta, ObjectKey};
use ostro_names::{Host, Name, Namespace};

/// When and under which name an object was written: the order in which Istio settles conflicts (older first, then by
/// name, then by namespace). Objects without a creation time come last, by namespace, then name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Age {
    /// Seconds since the epoch.
    pub created: Option<i64>,
    /// Namespace of the object.
    pub namespace: Namespace,
    /// Name of the object.
    pub name: Name,
}

impl Age {
    /// The age of an object.
    pub fn of(meta: &Meta) -> Age {
        Age {
            created: meta.creation_timestamp.map(|time| time.0),
            namespace: meta.namespace,
            name: meta.name,
        }
    }
}

impl Ord for Age {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.created, other.created) {
            (Some(mine), Some(theirs)) => {
                (mine, self.name, self.namespace).cmp(&(theirs, other.name, other.namespace))
            }
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => (self.namespace, self.name).cmp(&(other.namespace, other.name)),
        }
    }
}

impl PartialOrd for Age {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Labels of a workload or selector.
pub type Labels = BTreeMap<String, String>;

/// Who may see an object (`exportTo`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Visibility {
    /// Every namespace (`*`).
    Public,
    /// Only these namespaces, sorted. Empty: nobody (`~`).
    Namespaces(Vec<Namespace>),
}

impl Visibility {
    /// Whether a client in `namespace` sees the object.
    pub fn admits(&self, namespace: Namespace) -> bool {
        match self {
            Visibility::Public => true,
            Visibility::Namespaces(list) => list.contains(&namespace),
        }
    }

    /// Whether the object is its namespace's own matter.
    pub fn is_only(&self, namespace: Namespace) -> bool {
        matches!(self, Visibility::Namespaces(list) if *list == [namespace])
    }
}

/// Application protocol of a port, as Istio selects it: by `appProtocol`, or by the port's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    Http,
    Http2,
    HttpProxy,
    Grpc,
    GrpcWeb,
    Https,
    Tls,
    Tcp,
    Mongo,
    Redis,
    Mysql,
    Udp,
    /// Not declared: to be detected on the wire.
    Auto,
}

/// How a port is treated by listeners.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ListenerClass {
    Http,
    Tcp,
    Auto,
}

impl Protocol {
    /// The listener class; `None` for UDP, which has no listener.
    pub fn class(self) -> Option<ListenerClass> {
        match self {
            Protocol::Http | Protocol::Http2 | Protocol::HttpProxy | Protocol::Grpc | Protocol::GrpcWeb => {
                Some(ListenerClass::Http)
            }
            Protocol::Https
            | Protocol::Tls
            | Protocol::Tcp
            | Protocol::Mongo
            | Protocol::Redis
            | Protocol::Mysql => Some(ListenerClass::Tcp),
            Protocol::Auto => Some(ListenerClass::Auto),
            Protocol::Udp => None,
        }
    }

    /// Whether upstreams of this protocol are spoken to in HTTP/2.
    pub fn is_http2(self) -> bool {
        matches!(self, Protocol::Http2 | Protocol::Grpc | Protocol::GrpcWeb)
    }

    /// Whether the bytes are TLS of the application (so that SNI can be seen).
    pub fn is_tls(self) -> bool {
        matches!(self, Protocol::Https | Protocol::Tls)
    }
}

/// How the endpoints of a service are found: ServiceEntry `resolution`, and what a Kubernetes Service amounts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Resolution {
    /// Endpoints are known to the control plane: Kubernetes ClusterIP, ServiceEntry STATIC.
    ClientSide,
    /// The proxy resolves names (ServiceEntry DNS).
    Dns,
    /// The proxy resolves one name, using one address at a time (ServiceEntry DNS_ROUND_ROBIN).
    DnsRoundRobin,
    /// The original destination is kept (ServiceEntry NONE, Kubernetes headless).
    Passthrough,
    /// Another name of a service (Kubernetes ExternalName).
    Alias(Host),
    /// Wildcard hosts resolved by the proxy as requests name them (ServiceEntry DYNAMIC_DNS).
    DynamicDns,
}

/// What declared a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Registry {
    Kubernetes,
    ServiceEntry,
}

/// One service under one hostname.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    pub host: Host,
    pub namespace: Namespace,
    /// Short name: of the Kubernetes Service, or of the ServiceEntry's host.
    pub name: Name,
    /// Name of the declaring object.
    pub object: Name,
    pub registry: Registry,
    pub age: Age,
    /// VIPs and prefixes; empty when the service has none (headless, or an entry without addresses).
    pub addresses: Vec<IpNet>,
    /// An address that stands in for missing ones where the proxy answers DNS itself and asks for it (metadata
    /// `DNS_CAPTURE` and `DNS_AUTO_ALLOCATE`). [`View::addresses`](crate::View::addresses) tells which apply.
    pub auto_address: Option<IpAddr>,
    /// As written, UDP included.
    pub ports: Vec<ServicePort>,
    pub resolution: Resolution,
    /// A Kubernetes Service with `clusterIP: None`.
    pub headless: bool,
    /// Outside the mesh (ServiceEntry MESH_EXTERNAL).
    pub external: bool,
    pub visibility: Visibility,
    /// SANs that servers may present (ServiceEntry subjectAltNames).
    pub subject_alt_names: Vec<String>,
    /// Unready endpoints are served too (`publishNotReadyAddresses`).
    pub publish_not_ready: bool,
}

impl Service {
    /// The port with this number. UDP ports, which share the numbers of TCP ports, are left aside: nothing proxies
    /// them.
    pub fn port(&self, number: u16) -> Option<&ServicePort> {
        self.ports.iter().find(|port| port.number == number && port.protocol != Protocol::Udp)
    }

    /// The object that declares the service.
    pub fn key(&self) -> ObjectKey {
        let kind = match self.registry {
            Registry::Kubernetes => Kind::Service,
            Registry::ServiceEntry => Kind::ServiceEntry,
        };
        ObjectKey { kind, namespace: self.namespace, name: self.object }
    }
}

/// One port of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    pub number: u16,
    pub name: Name,
    pub protocol: Protocol,
}

/// Whether an endpoint takes traffic (Envoy's health status).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Health {
    Healthy,
    Unhealthy,
    Draining,
}

/// Region, zone and subzone; empty strings where unknown.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Locality {
    pub region: String,
    pub zone: String,
    pub subzone: String,
}

/// Where an endpoint is reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EndpointAddress {
    Ip(IpAddr),
    /// A name that the proxy resolves.
    Dns(String),
    /// A Unix domain socket.
    Unix(String),
}

/// One endpoint of one service port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Namespace of the service that it belongs to (several services can share a hostname).
    pub service_namespace: Namespace,
    /// Declaring object of the service that it belongs to.
    pub service_object: Name,
    /// What declared the service that it belongs to.
    pub service_registry: Registry,
    /// Name of the service port.
    pub port_name: Name,
    pub address: EndpointAddress,
    /// Port at the endpoint.
    pub port: u16,
    pub labels: Arc<Labels>,
    pub locality: Arc<Locality>,
    pub health: Health,
    /// Load-balancing weight, at least 1.
    pub weight: u32,
    pub service_account: Option<Name>,
    /// The workload: name, namespace, canonical name and revision, for telemetry.
    pub workload: Arc<WorkloadRef>,
    /// The workload's proxy takes Istio mTLS (label `security.istio.io/tlsMode=istio`).
    pub mtls: bool,
}

/// Who a workload is, in telemetry's words.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WorkloadRef {
    pub name: String,
    pub namespace: String,
    pub canonical_name: String,
    pub canonical_revision: String,
}

/// A service port served at a workload's address: the proxy's inbound side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    pub host: Host,
    pub service_name: Name,
    pub namespace: Namespace,
    pub age: Age,
    pub port: ServicePort,
    /// Port at the workload.
    pub target_port: u16,
}

/// A VirtualService with its hosts resolved to full names.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteRules {
    pub age: Age,
    /// `hosts`, short names resolved against the namespace.
    pub hosts: Vec<Host>,
    /// `gateways`: `mesh`, or `namespace/name`.
    pub gateways: Vec<Name>,
    pub visibility: Visibility,
    pub spec: Arc<VirtualService>,
}

/// The DestinationRules of one namespace for one host, merged as Istio merges them: subsets add up, and the traffic
/// policy is that of the oldest which has one.
#[derive(Debug, Clone, PartialEq)]
pub struct TrafficRule {
    /// The rule that came first; names the merged rule.
    pub age: Age,
    pub host: Host,
    pub visibility: Visibility,
    /// Pods to which it is limited (`workloadSelector`); `None` for all.
    pub selector: Option<Labels>,
    pub spec: Arc<DestinationRule>,
}

/// A Gateway.
#[derive(Debug, Clone, PartialEq)]
pub struct GatewayRules {
    pub age: Age,
    pub spec: Arc<Gateway>,
}
