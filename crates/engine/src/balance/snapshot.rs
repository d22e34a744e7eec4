//! The hosts of a cluster sorted by health, with everything a choice needs, at one moment: immutable, shared by workers.

use std::sync::Arc;
use std::time::Duration;

use super::endpoints::{Endpoints, PriorityHosts};
use super::hashing::{HashTable, Shares};
use super::host::{Health, Host};
use super::load::{Availability, Loads, Percents, Standing};
use super::slow_start;
use crate::cluster::{Cluster, Locality, LocalityChoice, Policy};

/// Hosts by health at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// What of the hosts' health it knows: [`super::Upstream`] counts its changes.
    pub(crate) version: u64,
    pub(crate) endpoints: Arc<Endpoints>,
    pub(crate) priorities: Vec<PriorityView>,
    pub(crate) loads: Loads,
    /// Until then some host has less than its weight.
    pub(crate) slow_until: Option<Duration>,
}

/// Hosts of a priority.
#[derive(Debug)]
pub struct PriorityView {
    /// All.
    pub(crate) all: Group,
    pub(crate) healthy: Group,
    pub(crate) degraded: Group,
    /// Only where localities are weighted.
    pub(crate) healthy_localities: Vec<LocalityView>,
    pub(crate) degraded_localities: Vec<LocalityView>,
    pub(crate) availability: Availability,
    /// Only where the choice is by hash.
    pub(crate) table: Option<HashTable>,
}

/// Hosts among which one is chosen.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub hosts: Arc<[Arc<Host>]>,
    /// All weigh the same.
    pub uniform: bool,
}

/// Hosts of a locality that are well, or degraded.
#[derive(Debug)]
pub(crate) struct LocalityView {
    pub locality: Arc<Locality>,
    pub group: Group,
    /// The locality's weight, less what of it is not well.
    pub weight: f64,
}

/// How many hosts there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All.
    pub total: u64,
    /// Healthy ones.
    pub healthy: u64,
    /// Degraded ones.
    pub degraded: u64,
    /// Those that count neither as healthy nor as unhealthy.
    pub excluded: u64,
}

/// Size of a hash ring or table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableSize {
    /// Places.
    pub size: u64,
    /// Places of the host that has fewest.
    pub least_per_host: u64,
    /// Places of the host that has most.
    pub most_per_host: u64,
}

impl Group {
    fn new(hosts: Vec<Arc<Host>>) -> Group {
        let mut weights = hosts.iter().map(|host| host.weight);
        let first = weights.next();
        let uniform = weights.all(|weight| Some(weight) == first);
        Group { hosts: hosts.into(), uniform }
    }
}

impl Snapshot {
    pub(crate) fn build(
        cluster: &Cluster,
        endpoints: Arc<Endpoints>,
        version: u64,
        now: Duration,
    ) -> Snapshot {
        let sorted: Vec<_> = endpoints.priorities.iter().map(|hosts| sort(cluster, hosts)).collect();
        let availability: Vec<_> = sorted.iter().map(|view| view.availability).collect();
        let loads = Loads::calculate(
            &availability,
            endpoints.overprovisioning,
            endpoints.weighted_health,
            cluster.balancing.panic_threshold,
        );
        let mut priorities = sorted;
        for ((view, hosts), panicking) in priorities.iter_mut().zip(&endpoints.priorities).zip(&loads.panic) {
            if cluster.balancing.locality == LocalityChoice::Weighted {
                let factor = f64::from(endpoints.overprovisioning) / 100.0;
                view.healthy_localities = localities(cluster, hosts, Health::Healthy, factor);
                view.degraded_localities = localities(cluster, hosts, Health::Degraded, factor);
            }
            view.table = table(cluster, hosts, view, *panicking);
        }
        let healthy = priorities.iter().flat_map(|view| view.healthy.hosts.iter());
        let slow_until = slow_start::of(&cluster.balancing.policy)
            .and_then(|slow| healthy.filter_map(|host| slow_start::end(slow, host, now)).max());
        Snapshot { version, endpoints, priorities, loads, slow_until }
    }

    /// All hosts, priority by priority.
    pub fn hosts(&self) -> impl Iterator<Item = &Arc<Host>> {
        self.endpoints.hosts()
    }

    /// Whether anybody has said which hosts there are.
    pub fn is_known(&self) -> bool {
        self.endpoints.known
    }

    /// Priorities, in order.
    pub fn priorities(&self) -> &[PriorityView] {
        &self.priorities
    }

    /// Shares of the load by priority.
    pub fn loads(&self) -> &Loads {
        &self.loads
    }

    /// How many hosts there are.
    pub fn membership(&self) -> Counts {
        self.priorities.iter().fold(Counts::default(), |counts, view| Counts {
            total: counts.total + view.availability.hosts,
            healthy: counts.healthy + view.availability.healthy,
            degraded: counts.degraded + view.availability.degraded,
            excluded: counts.excluded + view.availability.excluded,
        })
    }

    /// Whether a priority uses all its hosts, well or not.
    pub fn is_panicking(&self, priority: usize) -> bool {
        self.loads.panic.get(priority).copied().unwrap_or(false)
    }

    /// Size of the first priority's hash ring or table, if there is one.
    pub fn table_size(&self) -> Option<TableSize> {
        let table = self.priorities.first()?.table.as_ref()?;
        let (least, most) = table.places_per_host();
        Some(TableSize {
            size: table.size() as u64,
            least_per_host: least as u64,
            most_per_host: most as u64,
        })
    }

    /// Shares of the load without priorities that were tried already; `None` if that leaves nothing.
    pub(crate) fn loads_without(&self, tried: impl Fn(usize) -> bool) -> Option<(Vec<u32>, Vec<u32>)> {
        let all: Vec<_> = self.priorities.iter().map(|view| view.availability).collect();
        let percents = Percents::new(&all, self.endpoints.overprovisioning, self.endpoints.weighted_health);
        let left = percents.without(tried);
        (!left.is_nothing()).then(|| left.distribute())
    }
}

impl PriorityView {
    /// How many hosts are how well.
    pub fn availability(&self) -> Availability {
        self.availability
    }

    /// All hosts.
    pub fn hosts(&self) -> &[Arc<Host>] {
        &self.all.hosts
    }

    /// Localities among whose healthy hosts one is chosen, with the weights that they have now. Empty where localities
    /// do not matter.
    pub fn locality_weights(&self) -> impl Iterator<Item = (&Locality, f64)> {
        self.healthy_localities.iter().map(|view| (&*view.locality, view.weight))
    }

    pub(crate) fn localities(&self, standing: Standing) -> &[LocalityView] {
        match standing {
            Standing::Healthy => &self.healthy_localities,
            Standing::Degraded => &self.degraded_localities,
        }
    }
}

fn sort(cluster: &Cluster, hosts: &PriorityHosts) -> PriorityView {
    let ignores_new = cluster.balancing.ignores_new_hosts;
    let mut availability = Availability::default();
    let (mut healthy, mut degraded) = (Vec::new(), Vec::new());
    for host in &hosts.hosts {
        let weight = u64::from(host.weight);
        availability.hosts += 1;
        if host.is_excluded(ignores_new) {
            availability.excluded += 1;
        } else {
            availability.weight += weight;
        }
        match host.health() {
            Health::Healthy => {
                availability.healthy += 1;
                availability.healthy_weight += weight;
                healthy.push(Arc::clone(host));
            }
            Health::Degraded => {
                availability.degraded += 1;
                availability.degraded_weight += weight;
                degraded.push(Arc::clone(host));
            }
            Health::Unhealthy => {}
        }
    }
    let all = Group::new(hosts.hosts.clone());
    // Most clusters have nothing but healthy hosts, most of the time: they are one list then.
    let healthy = if healthy.len() == all.hosts.len() { all.clone() } else { Group::new(healthy) };
    PriorityView {
        all,
        healthy,
        degraded: Group::new(degraded),
        healthy_localities: Vec::new(),
        degraded_localities: Vec::new(),
        availability,
        table: None,
    }
}

/// Localities that have hosts of this health, with their weights: what a locality lacks in health, after
/// overprovisioning, it loses in weight.
fn localities(cluster: &Cluster, hosts: &PriorityHosts, health: Health, factor: f64) -> Vec<LocalityView> {
    let ignores_new = cluster.balancing.ignores_new_hosts;
    let view = |(locality, hosts): (&super::endpoints::LocalityHosts, &[Arc<Host>])| {
        let counted = hosts.iter().filter(|host| !host.is_excluded(ignores_new)).count();
        let group: Vec<_> = hosts.iter().filter(|host| host.health() == health).cloned().collect();
        if counted == 0 || group.is_empty() || locality.weight == 0 {
            return None;
        }
        let available = (factor * group.len() as f64 / counted as f64).min(1.0);
        Some(LocalityView {
            locality: Arc::clone(&locality.locality),
            group: Group::new(group),
            weight: f64::from(locality.weight) * available,
        })
    };
    hosts.by_locality().filter_map(view).collect()
}

fn table(
    cluster: &Cluster,
    hosts: &PriorityHosts,
    view: &PriorityView,
    panicking: bool,
) -> Option<HashTable> {
    let shares = || shares(cluster, hosts, view, panicking);
    match &cluster.balancing.policy {
        Policy::RingHash { least, most, hash } => {
            Some(HashTable::ring(shares(), *least, *most, hash.by_hostname, hash.balance_factor))
        }
        Policy::Maglev { size, hash } => {
            Some(HashTable::maglev(shares(), *size, hash.by_hostname, hash.balance_factor))
        }
        Policy::RoundRobin(_) | Policy::LeastRequest(_) | Policy::Random | Policy::OriginalDestination => {
            None
        }
    }
}

/// Each host's share of the load: its weight, times its locality's where those are weighted.
fn shares(cluster: &Cluster, hosts: &PriorityHosts, view: &PriorityView, panicking: bool) -> Shares {
    let taken = |host: &&Arc<Host>| panicking || host.health() == Health::Healthy;
    let weighted = cluster.balancing.locality == LocalityChoice::Weighted;
    let by_locality: Vec<_> = hosts
        .by_locality()
        .map(|(locality, hosts)| (f64::from(locality.weight), hosts.iter().filter(taken).collect::<Vec<_>>()))
        .filter(|(_, hosts)| !hosts.is_empty())
        .collect();
    let all: f64 = by_locality.iter().map(|(weight, _)| weight).sum();
    if !weighted || all == 0.0 {
        let group = if panicking { &view.all } else { &view.healthy };
        return if weighted && all == 0.0 { Vec::new() } else { normal(group.hosts.iter(), 1.0) };
    }
    let weighted = by_locality.into_iter().filter(|(weight, _)| *weight > 0.0);
    weighted.flat_map(|(weight, hosts)| normal(hosts.into_iter(), weight / all)).collect()
}

fn normal<'a>(hosts: impl Iterator<Item = &'a Arc<Host>> + Clone, share: f64) -> Shares {
    let sum: u64 = hosts.clone().map(|host| u64::from(host.weight)).sum();
    hosts.map(|host| (Arc::clone(host), f64::from(host.weight) * share / sum as f64)).collect()
}
