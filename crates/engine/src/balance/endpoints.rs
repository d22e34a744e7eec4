//! The hosts of a cluster in one version of its endpoints, and how the next version takes over from it.
//!
//! Invariant: an address that stays keeps its [`HostState`]: counters, ejection, the identity that pools are kept by. A
//! host of which nothing has changed is kept as it is.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::host::{Health, HealthFlags, Host, HostAddress, HostState};
use crate::cluster::{
    Assignment, Cluster, Discovery, Endpoint, EndpointAddress, Locality, LocalityEndpoints,
};

/// What names resolve to, for clusters whose endpoints are names.
pub trait Resolved {
    /// Addresses of a name, in order; none if they are not known.
    fn addresses(&self, name: &str) -> &[IpAddr];
}

/// For clusters whose endpoints are addresses.
#[derive(Clone, Copy, Debug)]
pub struct NothingResolved;

impl Resolved for NothingResolved {
    fn addresses(&self, _: &str) -> &[IpAddr] {
        &[]
    }
}

/// Which hosts came and which went.
#[derive(Debug, Default)]
pub struct Membership {
    /// New addresses.
    pub added: Vec<Arc<Host>>,
    /// Addresses that are gone: their pools are to be drained.
    pub removed: Vec<Arc<Host>>,
}

/// The hosts of one version of a cluster's endpoints.
#[derive(Debug)]
pub struct Endpoints {
    /// By priority; there is at least one.
    pub(crate) priorities: Vec<PriorityHosts>,
    pub(crate) overprovisioning: u32,
    pub(crate) weighted_health: bool,
    /// Whether anybody has said which hosts there are.
    pub(crate) known: bool,
}

/// Hosts of a priority.
#[derive(Debug, Default)]
pub(crate) struct PriorityHosts {
    /// All, locality by locality.
    pub hosts: Vec<Arc<Host>>,
    /// The localities' weights, and how many hosts each has, in the same order.
    pub localities: Vec<LocalityHosts>,
}

/// Hosts of a locality in a priority.
#[derive(Debug)]
pub(crate) struct LocalityHosts {
    pub locality: Arc<Locality>,
    pub weight: u32,
    pub count: usize,
}

impl Endpoints {
    /// Nothing is known yet.
    pub(crate) fn unknown() -> Endpoints {
        Endpoints {
            priorities: vec![PriorityHosts::default()],
            overprovisioning: 140,
            weighted_health: false,
            known: false,
        }
    }

    /// All hosts, priority by priority.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = &Arc<Host>> {
        self.priorities.iter().flat_map(|priority| &priority.hosts)
    }

    /// The next version, after `old`.
    pub(crate) fn update(
        cluster: &Cluster,
        old: &Endpoints,
        assignment: &Assignment,
        resolved: &dyn Resolved,
        now: Duration,
    ) -> (Endpoints, Membership) {
        let mut next = Next {
            cluster,
            now,
            old: old.hosts().map(|host| (key(cluster, host), host)).collect(),
            seen: HashSet::new(),
            priorities: vec![Vec::new()],
            added: Vec::new(),
        };
        for locality in &assignment.localities {
            for endpoint in &locality.endpoints {
                next.endpoint(locality, endpoint, resolved);
            }
            next.locality(locality);
        }
        let removed = next.leftovers();
        let Next { priorities, added, .. } = next;
        let endpoints = Endpoints {
            priorities: priorities.into_iter().map(PriorityHosts::gather).collect(),
            overprovisioning: assignment.overprovisioning,
            weighted_health: assignment.weighted_priority_health,
            known: true,
        };
        (endpoints, Membership { added, removed })
    }
}

/// What makes two hosts of two versions the same: the address, or for LOGICAL_DNS the name.
fn key(cluster: &Cluster, host: &Host) -> String {
    match (&cluster.discovery, &host.address) {
        (Discovery::LogicalDns, HostAddress::Socket(address)) => {
            format!("{}:{}", host.hostname, address.port())
        }
        _ => host.name.to_string(),
    }
}

struct Group {
    locality: Arc<Locality>,
    weight: u32,
    hosts: Vec<Arc<Host>>,
}

struct Next<'a> {
    cluster: &'a Cluster,
    now: Duration,
    old: HashMap<String, &'a Arc<Host>>,
    seen: HashSet<String>,
    priorities: Vec<Vec<Group>>,
    added: Vec<Arc<Host>>,
}

impl Next<'_> {
    fn endpoint(&mut self, locality: &LocalityEndpoints, endpoint: &Endpoint, resolved: &dyn Resolved) {
        match &endpoint.address {
            EndpointAddress::Socket(address) => {
                self.host(locality, endpoint, HostAddress::Socket(*address), &endpoint.hostname);
            }
            EndpointAddress::Pipe(path) => {
                self.host(locality, endpoint, HostAddress::Pipe(path.clone()), &endpoint.hostname);
            }
            EndpointAddress::Name(name, port) => {
                let addresses = resolved.addresses(name);
                let hostname = if endpoint.hostname.is_empty() { name } else { &endpoint.hostname };
                let taken = match self.cluster.discovery {
                    Discovery::LogicalDns => addresses.get(..1).unwrap_or_default(),
                    _ => addresses,
                };
                for ip in taken {
                    let address = HostAddress::Socket(SocketAddr::new(*ip, *port));
                    self.host(locality, endpoint, address, hostname);
                }
            }
        }
    }

    /// Takes a host in, unless its address was there before: the first counts, as in Envoy.
    fn host(
        &mut self,
        locality: &LocalityEndpoints,
        endpoint: &Endpoint,
        address: HostAddress,
        hostname: &str,
    ) {
        let mut host = Host {
            name: address.text().into(),
            address,
            additional: endpoint.additional.clone(),
            hostname: hostname.into(),
            locality: Arc::clone(&locality.locality),
            locality_metadata: locality.metadata.clone(),
            priority: locality.priority,
            weight: endpoint.weight,
            transport: Arc::clone(self.cluster.transport.of(&endpoint.metadata)),
            metadata: endpoint.metadata.clone(),
            health_check: endpoint.health_check.clone(),
            stated: endpoint.health,
            state: Arc::new(HostState::new(HealthFlags::default())),
        };
        let key = key(self.cluster, &host);
        if !self.seen.insert(key.clone()) {
            return;
        }
        let host = match self.old.get(&key).copied() {
            Some(old) => {
                old.state.clear(HealthFlags::PENDING_REMOVAL);
                if is_same(old, &host) {
                    Arc::clone(old)
                } else {
                    host.state = Arc::clone(&old.state);
                    Arc::new(host)
                }
            }
            None => {
                let host = Arc::new(host);
                self.begin(&host);
                self.added.push(Arc::clone(&host));
                host
            }
        };
        self.group(&locality.locality, locality.priority).hosts.push(host);
    }

    /// A new host is not to be chosen until it has passed a health check, if there are any.
    fn begin(&self, host: &Host) {
        let checked = !self.cluster.health_checks.is_empty() && !host.health_check.disabled;
        if checked {
            host.state.set(HealthFlags::FAILED_ACTIVE | HealthFlags::PENDING_ACTIVE);
        }
        if host.health() == Health::Healthy {
            host.state.became_healthy(self.now);
        }
    }

    fn locality(&mut self, locality: &LocalityEndpoints) {
        self.group(&locality.locality, locality.priority).weight = locality.weight;
    }

    fn group(&mut self, locality: &Arc<Locality>, priority: u32) -> &mut Group {
        let priority = priority as usize;
        if self.priorities.len() <= priority {
            self.priorities.resize_with(priority + 1, Vec::new);
        }
        // The line above makes the place; indexing cannot fail.
        let groups = &mut self.priorities[priority];
        let place = groups.iter().position(|group| group.locality == *locality);
        let place = place.unwrap_or_else(|| {
            groups.push(Group { locality: Arc::clone(locality), weight: 0, hosts: Vec::new() });
            groups.len() - 1
        });
        &mut groups[place]
    }

    /// Hosts that are not there any more: gone, or kept as long as they pass their health checks.
    fn leftovers(&mut self) -> Vec<Arc<Host>> {
        let mut left: Vec<_> =
            self.old.iter().filter(|(key, _)| !self.seen.contains(*key)).map(|(_, host)| *host).collect();
        left.sort_by_key(|host| host.id());
        let keeps = !self.cluster.health_checks.is_empty() && !self.cluster.ignores_health_on_removal;
        let mut removed = Vec::new();
        for host in left {
            let passes = !host.health_check.disabled && !host.state.flags().any(HealthFlags::FAILED_ACTIVE);
            if keeps && passes {
                host.state.set(HealthFlags::PENDING_REMOVAL);
                self.group(&host.locality, host.priority).hosts.push(Arc::clone(host));
            } else {
                host.state.set(HealthFlags::GONE);
                removed.push(Arc::clone(host));
            }
        }
        removed
    }
}

/// Whether nothing of a host has changed, except perhaps how it does.
fn is_same(old: &Host, new: &Host) -> bool {
    old.address == new.address
        && old.additional == new.additional
        && old.hostname == new.hostname
        && old.locality == new.locality
        && old.priority == new.priority
        && old.weight == new.weight
        && old.stated == new.stated
        && old.health_check == new.health_check
        && Arc::ptr_eq(&old.transport, &new.transport)
        && old.metadata.namespaces().eq(new.metadata.namespaces())
        && old.locality_metadata.namespaces().eq(new.locality_metadata.namespaces())
}

impl PriorityHosts {
    fn gather(groups: Vec<Group>) -> PriorityHosts {
        let mut all = PriorityHosts::default();
        for Group { locality, weight, hosts } in groups {
            all.localities.push(LocalityHosts { locality, weight, count: hosts.len() });
            all.hosts.extend(hosts);
        }
        all
    }

    /// Hosts locality by locality.
    pub(crate) fn by_locality(&self) -> impl Iterator<Item = (&LocalityHosts, &[Arc<Host>])> {
        let mut begin = 0;
        self.localities.iter().map(move |locality| {
            let hosts = self.hosts.get(begin..begin + locality.count).unwrap_or_default();
            begin += locality.count;
            (locality, hosts)
        })
    }
}

impl Endpoints {
    /// The same without hosts that were removed and have now failed a health check; they are gone.
    pub(crate) fn without_failed_leftovers(&self) -> Option<(Endpoints, Vec<Arc<Host>>)> {
        let is_left = |host: &Arc<Host>| {
            let flags = host.state.flags();
            flags.any(HealthFlags::PENDING_REMOVAL) && flags.any(HealthFlags::FAILED_ACTIVE)
        };
        let removed: Vec<_> = self.hosts().filter(|host| is_left(host)).cloned().collect();
        if removed.is_empty() {
            return None;
        }
        let gone: HashSet<_> = removed.iter().map(|host| host.id()).collect();
        let keep = |priority: &PriorityHosts| {
            let groups = priority.by_locality().map(|(locality, hosts)| Group {
                locality: Arc::clone(&locality.locality),
                weight: locality.weight,
                hosts: hosts.iter().filter(|host| !gone.contains(&host.id())).cloned().collect(),
            });
            PriorityHosts::gather(groups.collect())
        };
        let endpoints = Endpoints {
            priorities: self.priorities.iter().map(keep).collect(),
            overprovisioning: self.overprovisioning,
            weighted_health: self.weighted_health,
            known: self.known,
        };
        Some((endpoints, removed))
    }
}
