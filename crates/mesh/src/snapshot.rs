//! The mesh at one moment: persistent collections, cheap to clone, never changed once handed out.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use imbl::{HashMap, OrdSet};
use ostro_api::mesh_config::MeshConfig;
use ostro_names::{Host, Name, Namespace};

use crate::key::Key;
use crate::model::{Endpoint, GatewayRules, Instance, RouteRules, Service, TrafficRule};

/// A persistent, ordered set of hosts.
pub type Hosts = OrdSet<Host>;

/// A list that is replaced, never edited.
pub type List<T> = Arc<[T]>;

/// The mesh at one moment. Fields correspond to [`Key`](crate::Key)s one to one; a missing entry means empty.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Domain of Kubernetes Services: a setting, the same in every snapshot, and so no key.
    domain: Name,
    pub(crate) mesh_config: Arc<MeshConfig>,
    pub(crate) services: HashMap<Host, List<Arc<Service>>>,
    pub(crate) public_hosts: Hosts,
    pub(crate) namespace_hosts: HashMap<Namespace, Hosts>,
    pub(crate) hosts_on_port: HashMap<u16, Hosts>,
    pub(crate) hosts_at: HashMap<IpAddr, Hosts>,
    pub(crate) alias_targets: Hosts,
    pub(crate) aliases: HashMap<Host, Hosts>,
    pub(crate) endpoints: HashMap<Host, List<Endpoint>>,
    pub(crate) instances_at: HashMap<IpAddr, List<Instance>>,
    pub(crate) mesh_routes: HashMap<Host, List<Arc<RouteRules>>>,
    pub(crate) public_route_hosts: Hosts,
    pub(crate) namespace_route_hosts: HashMap<Namespace, Hosts>,
    pub(crate) gateway_routes: HashMap<Name, List<Arc<RouteRules>>>,
    pub(crate) virtual_services: HashMap<(Namespace, Name), Arc<RouteRules>>,
    pub(crate) rule_hosts: HashMap<Namespace, Hosts>,
    pub(crate) rules: HashMap<(Namespace, Host), List<Arc<TrafficRule>>>,
    pub(crate) gateways: List<Arc<GatewayRules>>,
}

fn listed<K: std::hash::Hash + Eq, T: Clone>(map: &HashMap<K, List<T>>, key: &K) -> List<T> {
    map.get(key).cloned().unwrap_or_else(|| Arc::from(Vec::new()))
}

impl Snapshot {
    /// The snapshot of a mesh without objects.
    pub(crate) fn empty(domain: &str) -> Self {
        Snapshot { domain: Name::new(domain), ..Snapshot::default() }
    }

    /// Domain of Kubernetes Services (`cluster.local`).
    pub fn domain(&self) -> &'static str {
        self.domain.as_str()
    }

    /// Whether the value under `key` is the same in both snapshots.
    pub fn agrees(&self, other: &Snapshot, key: Key) -> bool {
        match key {
            Key::MeshConfig => self.mesh_config == other.mesh_config,
            Key::Services(host) => self.services.get(&host) == other.services.get(&host),
            Key::PublicHosts => self.public_hosts == other.public_hosts,
            Key::NamespaceHosts(name) => self.namespace_hosts.get(&name) == other.namespace_hosts.get(&name),
            Key::HostsOnPort(port) => self.hosts_on_port.get(&port) == other.hosts_on_port.get(&port),
            Key::HostsAt(address) => self.hosts_at.get(&address) == other.hosts_at.get(&address),
            Key::AliasTargets => self.alias_targets == other.alias_targets,
            Key::Aliases(host) => self.aliases.get(&host) == other.aliases.get(&host),
            Key::Endpoints(host) => self.endpoints.get(&host) == other.endpoints.get(&host),
            Key::InstancesAt(address) => self.instances_at.get(&address) == other.instances_at.get(&address),
            Key::MeshRoutes(host) => self.mesh_routes.get(&host) == other.mesh_routes.get(&host),
            Key::PublicRouteHosts => self.public_route_hosts == other.public_route_hosts,
            Key::NamespaceRouteHosts(name) => {
                self.namespace_route_hosts.get(&name) == other.namespace_route_hosts.get(&name)
            }
            Key::GatewayRoutes(gateway) => {
                self.gateway_routes.get(&gateway) == other.gateway_routes.get(&gateway)
            }
            Key::VirtualService(namespace, name) => {
                self.virtual_services.get(&(namespace, name))
                    == other.virtual_services.get(&(namespace, name))
            }
            Key::RuleHosts(name) => self.rule_hosts.get(&name) == other.rule_hosts.get(&name),
            Key::Rules(namespace, host) => {
                self.rules.get(&(namespace, host)) == other.rules.get(&(namespace, host))
            }
            Key::Gateways => self.gateways == other.gateways,
        }
    }

    /// Every key that has a value here, sorted; all other keys stand for absences.
    pub fn keys(&self) -> BTreeSet<Key> {
        let mut keys = BTreeSet::from([
            Key::MeshConfig,
            Key::PublicHosts,
            Key::AliasTargets,
            Key::PublicRouteHosts,
            Key::Gateways,
        ]);
        keys.extend(self.services.keys().copied().map(Key::Services));
        keys.extend(self.namespace_hosts.keys().copied().map(Key::NamespaceHosts));
        keys.extend(self.hosts_on_port.keys().copied().map(Key::HostsOnPort));
        keys.extend(self.hosts_at.keys().copied().map(Key::HostsAt));
        keys.extend(self.aliases.keys().copied().map(Key::Aliases));
        keys.extend(self.endpoints.keys().copied().map(Key::Endpoints));
        keys.extend(self.instances_at.keys().copied().map(Key::InstancesAt));
        keys.extend(self.mesh_routes.keys().copied().map(Key::MeshRoutes));
        keys.extend(self.namespace_route_hosts.keys().copied().map(Key::NamespaceRouteHosts));
        keys.extend(self.gateway_routes.keys().copied().map(Key::GatewayRoutes));
        let named = self.virtual_services.keys().copied();
        keys.extend(named.map(|(namespace, name)| Key::VirtualService(namespace, name)));
        keys.extend(self.rule_hosts.keys().copied().map(Key::RuleHosts));
        keys.extend(self.rules.keys().copied().map(|(namespace, host)| Key::Rules(namespace, host)));
        keys
    }

    pub(crate) fn services(&self, host: Host) -> List<Arc<Service>> {
        listed(&self.services, &host)
    }

    pub(crate) fn namespace_hosts(&self, namespace: Namespace) -> Hosts {
        self.namespace_hosts.get(&namespace).cloned().unwrap_or_default()
    }

    pub(crate) fn hosts_on_port(&self, port: u16) -> Hosts {
        self.hosts_on_port.get(&port).cloned().unwrap_or_default()
    }

    pub(crate) fn hosts_at(&self, address: IpAddr) -> Hosts {
        self.hosts_at.get(&address).cloned().unwrap_or_default()
    }

    pub(crate) fn aliases(&self, host: Host) -> Hosts {
        self.aliases.get(&host).cloned().unwrap_or_default()
    }

    pub(crate) fn endpoints(&self, host: Host) -> List<Endpoint> {
        listed(&self.endpoints, &host)
    }

    pub(crate) fn instances_at(&self, address: IpAddr) -> List<Instance> {
        listed(&self.instances_at, &address)
    }

    pub(crate) fn mesh_routes(&self, host: Host) -> List<Arc<RouteRules>> {
        listed(&self.mesh_routes, &host)
    }

    pub(crate) fn namespace_route_hosts(&self, namespace: Namespace) -> Hosts {
        self.namespace_route_hosts.get(&namespace).cloned().unwrap_or_default()
    }

    pub(crate) fn gateway_routes(&self, gateway: Name) -> List<Arc<RouteRules>> {
        listed(&self.gateway_routes, &gateway)
    }

    pub(crate) fn virtual_service(&self, namespace: Namespace, name: Name) -> Option<Arc<RouteRules>> {
        self.virtual_services.get(&(namespace, name)).cloned()
    }

    pub(crate) fn rule_hosts(&self, namespace: Namespace) -> Hosts {
        self.rule_hosts.get(&namespace).cloned().unwrap_or_default()
    }

    pub(crate) fn rules(&self, namespace: Namespace, host: Host) -> List<Arc<TrafficRule>> {
        listed(&self.rules, &(namespace, host))
    }

    /// The namespace whose policies hold mesh-wide (`istio-system` unless MeshConfig says otherwise).
    pub fn root_namespace(&self) -> &str {
        &self.mesh_config.root_namespace
    }
}
