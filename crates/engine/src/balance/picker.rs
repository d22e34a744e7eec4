//! A worker's choice of hosts of one cluster.
//!
//! What is shared is the [`Snapshot`]; what a worker has of its own is whose turn it is. A choice costs a constant, or
//! the logarithm of the number of hosts where they weigh differently.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::edf::Edf;
use super::host::Host;
use super::load::{self, Standing};
use super::slow_start;
use super::snapshot::{Group, Snapshot};
use super::upstream::Upstream;
use crate::cluster::{Discovery, LeastRequest, LocalityChoice, Policy, Selection};
use crate::retry::Tried;

/// Original destinations that a worker remembers, before it forgets them all and asks the cluster again.
const REMEMBERED_MAX: usize = 1_024;

/// What a choice depends on besides the hosts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Choice<'a> {
    /// Hash of the request, for policies that choose by hash; without one they choose at random.
    pub hash: Option<u64>,
    /// Where the connection was going, if that is known.
    pub destination: Option<SocketAddr>,
    /// Where a header says that the request is to go ([`crate::cluster::OriginalDestination::header`]).
    pub override_host: Option<SocketAddr>,
    /// What was tried before, for a retry.
    pub tried: Option<&'a Tried>,
}

/// A worker's choice of hosts of one cluster.
#[derive(Debug)]
pub struct Picker {
    upstream: Arc<Upstream>,
    snapshot: Arc<Snapshot>,
    turns: HashMap<(usize, Source), Turns>,
    localities: HashMap<(usize, bool), Edf>,
    remembered: HashMap<SocketAddr, Arc<Host>>,
    seed: u64,
}

/// Which hosts of a priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Source {
    All,
    Healthy,
    Degraded,
    HealthyLocality(usize),
    DegradedLocality(usize),
}

/// Whose turn it is among some hosts.
#[derive(Debug)]
struct Turns {
    /// In turn, where all weigh the same.
    next: u64,
    /// By weight, where they do not; valid for the snapshot, and until then.
    schedule: Option<(Edf, Option<Duration>)>,
}

type Random<'a> = &'a mut dyn FnMut() -> u64;

impl Picker {
    /// A choice that begins with a host of its own (`seed` is random), so that workers do not all begin with the same.
    pub fn new(upstream: Arc<Upstream>, seed: u64) -> Picker {
        Picker {
            snapshot: upstream.snapshot(),
            upstream,
            turns: HashMap::new(),
            localities: HashMap::new(),
            remembered: HashMap::new(),
            seed,
        }
    }

    /// The cluster.
    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    /// Puts the cluster's next version in the place of this one.
    pub fn replace(&mut self, upstream: Arc<Upstream>) {
        self.upstream = upstream;
        self.remembered.clear();
        self.catch_up();
    }

    /// Takes the newest snapshot. Whose turn it is stays, as far as it can.
    fn catch_up(&mut self) {
        if !self.upstream.is_newest(&self.snapshot) {
            self.snapshot = self.upstream.snapshot();
            self.localities.clear();
            self.turns.values_mut().for_each(|turns| turns.schedule = None);
        }
    }

    /// A host for a request or connection; `None`: there is no host to choose (UH).
    pub fn choose(&mut self, choice: &Choice<'_>, now: Duration, random: Random<'_>) -> Option<Arc<Host>> {
        self.catch_up();
        if let Discovery::OriginalDestination(_) = self.upstream.cluster.discovery {
            return self.original(choice);
        }
        let attempts = choice.tried.map_or(1, Tried::attempts_max);
        let loads = choice.tried.and_then(|tried| tried.adjusted_loads(&self.snapshot));
        let loads = loads.as_ref().map(|(healthy, degraded)| (healthy.as_slice(), degraded.as_slice()));
        // One hash for all attempts: they are to be different places, not different requests.
        let hash = choice.hash.unwrap_or_else(&mut *random);
        let mut host = None;
        for attempt in 0..attempts {
            host = self.once(loads, hash, attempt, now, random);
            match (&host, choice.tried) {
                (Some(found), Some(tried)) if tried.avoids(found) => {}
                _ => break,
            }
        }
        host
    }

    fn once(
        &mut self,
        loads: Option<(&[u32], &[u32])>,
        hash: u64,
        attempt: u32,
        now: Duration,
        random: Random<'_>,
    ) -> Option<Arc<Host>> {
        let snapshot = Arc::clone(&self.snapshot);
        let (healthy, degraded) =
            loads.unwrap_or((snapshot.loads.healthy.as_slice(), snapshot.loads.degraded.as_slice()));
        let upstream = Arc::clone(&self.upstream);
        let balancing = &upstream.cluster.balancing;
        let by_hash = matches!(balancing.policy, Policy::RingHash { .. } | Policy::Maglev { .. });
        let number = if by_hash { hash } else { random() };
        let (priority, standing) = load::choose(healthy, degraded, number);
        let view = snapshot.priorities.get(priority)?;
        let panicking = snapshot.is_panicking(priority);
        if panicking {
            upstream.stats.lb_healthy_panic.inc();
        }
        if let Some(table) = &view.table {
            let active = upstream.breakers.requests_in_flight();
            return table.choose(hash, attempt, active).cloned();
        }
        if panicking && balancing.fails_in_panic {
            return None;
        }
        let locality = match (panicking, balancing.locality) {
            (false, LocalityChoice::Weighted) => self.locality(&snapshot, priority, standing, random),
            _ => None,
        };
        let (source, group) = match (panicking, locality, standing) {
            (true, ..) => (Source::All, &view.all),
            (_, None, Standing::Healthy) => (Source::Healthy, &view.healthy),
            (_, None, Standing::Degraded) => (Source::Degraded, &view.degraded),
            (_, Some(place), Standing::Healthy) => {
                (Source::HealthyLocality(place), &view.healthy_localities.get(place)?.group)
            }
            (_, Some(place), Standing::Degraded) => {
                (Source::DegradedLocality(place), &view.degraded_localities.get(place)?.group)
            }
        };
        self.among(&balancing.policy, (priority, source), group, snapshot.slow_until, now, random)
    }

    /// The locality whose turn it is; `None` if none has any weight.
    fn locality(
        &mut self,
        snapshot: &Snapshot,
        priority: usize,
        standing: Standing,
        random: Random<'_>,
    ) -> Option<usize> {
        let localities = snapshot.priorities.get(priority)?.localities(standing);
        let weight = |place: u32| localities.get(place as usize).map_or(0.0, |view| view.weight);
        let edf = self
            .localities
            .entry((priority, standing == Standing::Healthy))
            .or_insert_with(|| Edf::new(localities.iter().map(|view| view.weight), random));
        edf.next(weight).map(|place| place as usize)
    }

    fn among(
        &mut self,
        policy: &Policy,
        key: (usize, Source),
        group: &Group,
        slow_until: Option<Duration>,
        now: Duration,
        random: Random<'_>,
    ) -> Option<Arc<Host>> {
        let hosts = &group.hosts;
        if hosts.is_empty() {
            return None;
        }
        let slow_until = slow_until.filter(|end| *end > now);
        let scheduled = !group.uniform || slow_until.is_some();
        match policy {
            Policy::RoundRobin(_) if !scheduled => {
                let turns = self.turns(key);
                let place = turns.next % hosts.len() as u64;
                turns.next = turns.next.wrapping_add(1);
                hosts.get(place as usize).cloned()
            }
            Policy::LeastRequest(least) if !scheduled => fewest(least, hosts, random).cloned(),
            Policy::RoundRobin(_) | Policy::LeastRequest(_) => {
                let weight =
                    |place: u32| hosts.get(place as usize).map_or(0.0, |host| weight(policy, host, now));
                let turns = self.turns(key);
                if turns.schedule.as_ref().is_some_and(|(_, until)| until.is_some_and(|end| end <= now)) {
                    turns.schedule = None;
                }
                let (edf, _) = turns.schedule.get_or_insert_with(|| {
                    (Edf::new((0..).map(weight).take(hosts.len()), random), slow_until)
                });
                edf.next(weight).and_then(|place| hosts.get(place as usize)).cloned()
            }
            _ => hosts.get((random() % hosts.len() as u64) as usize).cloned(),
        }
    }

    fn turns(&mut self, key: (usize, Source)) -> &mut Turns {
        let seed = self.seed;
        self.turns.entry(key).or_insert_with(|| Turns { next: seed, schedule: None })
    }

    /// The host that the connection was going to, whoever that is.
    fn original(&mut self, choice: &Choice<'_>) -> Option<Arc<Host>> {
        let destination = self.upstream.original_destination(choice)?;
        if let Some(host) = self.remembered.get(&destination).filter(|host| !host.is_gone()) {
            host.state.used.inc();
            return Some(Arc::clone(host));
        }
        let host = self.upstream.original_host(destination)?;
        if self.remembered.len() >= REMEMBERED_MAX {
            self.remembered.clear();
        }
        self.remembered.insert(destination, Arc::clone(&host));
        Some(host)
    }
}

/// What a host weighs now.
fn weight(policy: &Policy, host: &Host, now: Duration) -> f64 {
    let own = f64::from(host.weight);
    let own = match policy {
        Policy::LeastRequest(least) => {
            let active = host.state.rq_active.get() as f64 + 1.0;
            own / if least.bias == 1.0 { active } else { active.powf(least.bias) }
        }
        _ => own,
    };
    match slow_start::of(policy) {
        Some(slow) => own * slow_start::factor(slow, host, now),
        None => own,
    }
}

/// The host with fewest requests in flight, of some at random or of all.
fn fewest<'a>(least: &LeastRequest, hosts: &'a [Arc<Host>], random: Random<'_>) -> Option<&'a Arc<Host>> {
    let active = |host: &Arc<Host>| host.state.rq_active.get();
    match least.selection {
        Selection::Choices => {
            let mut any = || hosts.get((random() % hosts.len() as u64) as usize);
            let mut best = any()?;
            for _ in 1..least.choices {
                let other = any()?;
                if active(other) < active(best) {
                    best = other;
                }
            }
            Some(best)
        }
        Selection::All => {
            let fewest = hosts.iter().map(active).min()?;
            // Counts move while we look: if none has the fewest any more, any will do.
            let count = hosts.iter().filter(|host| active(host) <= fewest).count().max(1);
            let wanted = (random() % count as u64) as usize;
            hosts.iter().filter(|host| active(host) <= fewest).nth(wanted).or(hosts.first())
        }
    }
}
