//! A world just rich enough: hosts with a cluster, endpoints and a listener each, subsets by namespace, one route
//! that joins the virtual hosts of all routed hosts, which differ by namespace where a rule is heavy.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use ostro_mesh::{Answer, Attr, Hosts, Key, KeyId, Proxy, ProxyKind, Reads};
use ostro_names::{Host, Name, Namespace};
use ostro_translate::{EncodedVirtualHost, Part, ResourceType, Roster};
use prost::Message;

use crate::generator::{Generator, VirtualHosts};

/// One service.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Service {
    /// Content of its cluster and listener.
    pub version: u32,
    /// Content of its load assignment.
    pub endpoints: u32,
}

/// The values.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct World {
    pub services: BTreeMap<String, Service>,
    /// Hosts that the route leads to; only those that exist count.
    pub routed: BTreeSet<String>,
    /// (client namespace, host): content of a rule, which changes the cluster and adds a subset. One above
    /// [`HEAVY`] changes the virtual host too.
    pub rules: BTreeMap<(String, String), u32>,
}

/// Virtual hosts read every rule and differ by those that are heavier.
pub const HEAVY: u32 = 1;

/// With more hosts, the route asks for the namespace itself, and questions about it become keys, as in `mesh`.
const NARROW_HOSTS: usize = 2;

impl World {
    fn hosts(&self) -> Hosts {
        self.services.keys().map(|host| Host::new(host)).collect()
    }

    fn ruled(&self, namespace: &str) -> Vec<&str> {
        self.rules.keys().filter(|(ns, _)| ns == namespace).map(|(_, host)| host.as_str()).collect()
    }

    /// The keys whose values differ.
    pub fn differing(&self, other: &World) -> Vec<KeyId> {
        let mut keys = BTreeSet::new();
        let mut note = |differs: bool, key: Key| {
            if differs {
                keys.insert(key.id());
            }
        };
        note(self.hosts() != other.hosts(), Key::PublicHosts);
        note(self.routed != other.routed, Key::PublicRouteHosts);
        let hosts: BTreeSet<&String> = self.services.keys().chain(other.services.keys()).collect();
        for host in hosts {
            let of = |world: &World| world.services.get(host).map(|s| (s.version, s.endpoints)).unzip();
            let ((v1, e1), (v2, e2)) = (of(self), of(other));
            note(v1 != v2, Key::Services(Host::new(host)));
            note(e1 != e2, Key::Endpoints(Host::new(host)));
        }
        let rules: BTreeSet<&(String, String)> = self.rules.keys().chain(other.rules.keys()).collect();
        for rule @ (namespace, host) in rules {
            let key = Key::Rules(Namespace::new(namespace), Host::new(host));
            note(self.rules.get(rule) != other.rules.get(rule), key);
            note(self.ruled(namespace) != other.ruled(namespace), Key::RuleHosts(Namespace::new(namespace)));
        }
        keys.into_iter().collect()
    }
}

/// Name of a host's cluster (and load assignment), or of its subset's.
pub fn cluster(host: &str, subset: bool) -> Name {
    Name::new(&format!("{}|{host}", if subset { "subset" } else { "whole" }))
}

/// The hosts of the clusters that a route or listener of these bytes leads to.
pub fn leads_to(bytes: &[u8]) -> Vec<Name> {
    let text = std::str::from_utf8(bytes).unwrap();
    let hosts = text.split_once(':').unwrap().1.split(',').filter(|host| !host.is_empty());
    hosts.map(|host| cluster(host.split('=').next().unwrap(), false)).collect()
}

/// The proxy `id` in `namespace`.
pub fn proxy(id: u32, namespace: &str) -> Arc<Proxy> {
    Arc::new(Proxy {
        kind: ProxyKind::Sidecar,
        id: format!("sidecar~10.0.0.{id}~p{id}.{namespace}~{namespace}.svc.cluster.local"),
        addresses: vec![],
        namespace: Namespace::new(namespace),
        dns_domain: String::new(),
        labels: Default::default(),
        locality: Default::default(),
        service_account: None,
        cluster_id: None,
        extensions: Default::default(),
        metadata: Default::default(),
    })
}

/// Reads the world and notes what it reads, as `translate` does.
#[derive(Debug, Default)]
pub struct Toy;

struct Look<'a> {
    world: &'a World,
    proxy: &'a Proxy,
    reads: Reads,
}

impl<'a> Look<'a> {
    fn note(&mut self, key: Key) {
        self.reads.keys.push(key.id());
    }

    fn service(&mut self, host: &str) -> Option<&'a Service> {
        self.note(Key::Services(Host::new(host)));
        self.world.services.get(host)
    }

    fn ask(&mut self, question: &Attr) -> Answer {
        let keys = &mut self.reads.keys;
        let mut read = Vec::new();
        let answer =
            Toy.answer(&Arc::new(self.world.clone()), self.proxy, question, &mut |key| read.push(key));
        let attrs = &mut self.reads.attrs;
        if question.is_of_namespace() && attrs.iter().any(|(asked, _)| *asked == Attr::Namespace) {
            keys.extend(read);
        } else if attrs.iter().all(|(asked, _)| asked != question) {
            attrs.push((question.clone(), answer));
        }
        answer
    }

    /// The rule of the proxy's namespace.
    fn rule(&mut self, host: &str) -> Option<u32> {
        let scope = self.ask(&Attr::RuleScope(Host::new(host)));
        if scope.is_empty() {
            return None;
        }
        let namespace = Namespace::new(scope.as_str());
        self.note(Key::Rules(namespace, Host::new(host)));
        self.world.rules.get(&(scope.as_str().to_owned(), host.to_owned())).copied()
    }

    fn done<T>(mut self, value: T) -> (T, Reads) {
        self.reads.keys.sort_unstable();
        self.reads.keys.dedup();
        (value, self.reads)
    }
}

impl Generator for Toy {
    type World = Arc<World>;

    fn answer(
        &self,
        world: &Arc<World>,
        proxy: &Proxy,
        question: &Attr,
        note: &mut dyn FnMut(KeyId),
    ) -> Answer {
        let host = match question {
            Attr::Namespace => return Name::new(proxy.namespace.as_str()),
            Attr::RuleScope(host) => host,
            other => panic!("the toy does not ask {other:?}"),
        };
        note(Key::RuleHosts(proxy.namespace).id());
        let has = world.ruled(proxy.namespace.as_str()).contains(&host.as_str());
        Name::new(if has { proxy.namespace.as_str() } else { "" })
    }

    fn content(
        &self,
        world: &Arc<World>,
        proxy: &Proxy,
        virtual_hosts: &mut dyn VirtualHosts,
        kind: ResourceType,
        name: Name,
    ) -> (Option<Bytes>, Reads) {
        let mut look = Look { world, proxy, reads: Reads::default() };
        let bytes = match kind {
            ResourceType::Cluster => cluster_bytes(&mut look, name),
            ResourceType::Endpoint => {
                let host = name.as_str().split_once('|').unwrap_or_default().1;
                look.note(Key::Endpoints(Host::new(host)));
                let subset_gone = name.as_str().starts_with("subset") && look.rule(host).is_none();
                let count = world.services.get(host).filter(|_| !subset_gone).map(|s| s.endpoints);
                Some(format!("{name}:{count:?}").into_bytes())
            }
            ResourceType::Listener => {
                look.service(name.as_str()).map(|service| format!("{}:{name}", service.version).into_bytes())
            }
            ResourceType::Route => Some(route_bytes(&mut look, virtual_hosts)),
        };
        look.done(bytes.map(Bytes::from))
    }

    fn virtual_host(
        &self,
        world: &Arc<World>,
        proxy: &Proxy,
        host: Host,
        port: u16,
    ) -> (Option<EncodedVirtualHost>, Reads) {
        let mut look = Look { world, proxy, reads: Reads::default() };
        if look.service(host.as_str()).is_none() {
            return look.done(None);
        }
        let heavy = look.rule(host.as_str()).filter(|rule| *rule > HEAVY);
        let body = format!("{host}={heavy:?}").into_bytes();
        let virtual_host = EncodedVirtualHost::new((host, port), body, &[], (false, None), Vec::new());
        look.done(Some(virtual_host))
    }

    fn roster(&self, world: &Arc<World>, proxy: &Proxy, kind: ResourceType) -> (Roster, Reads) {
        let mut look = Look { world, proxy, reads: Reads::default() };
        if !kind.is_wildcard() {
            return look.done(Roster::default());
        }
        look.note(Key::PublicHosts);
        look.done(Roster { public: world.hosts(), ..Roster::default() })
    }

    fn part_names(
        &self,
        world: &Arc<World>,
        proxy: &Proxy,
        kind: ResourceType,
        part: Part,
    ) -> (Vec<Name>, Reads) {
        let mut look = Look { world, proxy, reads: Reads::default() };
        let Part::Host(host) = part else { return look.done(Vec::new()) };
        let host = host.as_str();
        let mut names = Vec::new();
        if look.service(host).is_some() {
            if kind == ResourceType::Listener {
                names.push(Name::new(host));
            } else {
                names.push(cluster(host, false));
                names.extend(look.rule(host).map(|_| cluster(host, true)));
            }
        }
        names.sort_unstable();
        look.done(names)
    }
}

fn route_bytes(look: &mut Look<'_>, virtual_hosts: &mut dyn VirtualHosts) -> Vec<u8> {
    look.note(Key::PublicRouteHosts);
    if look.world.routed.len() > NARROW_HOSTS {
        look.ask(&Attr::Namespace);
    }
    let mut bytes = b"route:".to_vec();
    for host in &look.world.routed {
        let virtual_host = virtual_hosts.get(Host::new(host), 80, &mut |question| {
            look.ask(question);
        });
        if let Some(virtual_host) = virtual_host {
            bytes.extend_from_slice(virtual_host.message());
            bytes.push(b',');
        }
    }
    bytes
}

fn cluster_bytes(look: &mut Look<'_>, name: Name) -> Option<Vec<u8>> {
    let (kind, host) = name.as_str().split_once('|')?;
    let version = look.service(host)?.version;
    let rule = look.rule(host);
    if kind == "subset" && rule.is_none() {
        return None;
    }
    let cluster = Cluster {
        name: name.as_str().to_owned(),
        alt_stat_name: format!("{version} {rule:?}"),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds as i32)),
        ..Cluster::default()
    };
    Some(cluster.encode_to_vec())
}
