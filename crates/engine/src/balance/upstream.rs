//! A cluster with everything that all workers share of it: hosts, limits, ejections.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::endpoints::{Endpoints, Membership, Resolved};
use super::host::{Counter, HealthFlags, Host, HostAddress, HostState};
use super::picker::Choice;
use super::slow_start;
use super::snapshot::Snapshot;
use crate::breakers::{Breakers, ConnectionPermit, Overflow, PendingPermit, RequestPermit, RetryPermit};
use crate::cluster::{Assignment, Cluster, Discovery, HealthCheckTarget, StatedHealth};
use crate::health_check::HealthCheckCounters;
use crate::outlier::{Outcome, OutlierDetector};
use crate::{Fraction, Metadata, Priority};

/// Hosts that an ORIGINAL_DST cluster knows at once; past it, no new ones are chosen.
pub const ORIGINAL_HOSTS_MAX: usize = 65_536;

/// While hosts are in slow start, weights are looked at again after this.
const SLOW_START_STEP: Duration = Duration::from_secs(1);

/// A cluster with everything that all workers share of it.
#[derive(Debug)]
pub struct Upstream {
    /// As configured.
    pub cluster: Arc<Cluster>,
    /// What is open or waiting.
    pub breakers: Arc<Breakers>,
    /// Outlier detection, if there is any.
    pub outlier: Option<OutlierDetector>,
    /// What happened in balancing.
    pub stats: Arc<BalanceStats>,
    /// What happened in health checking.
    pub health_stats: Arc<HealthCheckCounters>,
    snapshot: ArcSwap<Snapshot>,
    /// Counts changes of hosts' health.
    version: AtomicU64,
    /// Numerator and denominator of the share of requests that is dropped.
    drops: ArcSwap<Fraction>,
    original: Arc<Mutex<HashMap<SocketAddr, Arc<Host>>>>,
    next_cleanup: AtomicU64,
    /// Whether there ever was a connection to one of its hosts.
    connected: AtomicBool,
}

/// What happened in balancing, by Envoy's names.
#[derive(Debug, Default)]
pub struct BalanceStats {
    /// Choices among all hosts of a priority, because too few are healthy.
    pub lb_healthy_panic: Counter,
    /// Choices that failed because [`ORIGINAL_HOSTS_MAX`] was reached.
    pub original_hosts_overflow: Counter,
    /// Changes of which hosts there are.
    pub membership_change: Counter,
}

impl Upstream {
    /// A cluster of which no hosts are known yet.
    pub fn new(cluster: Arc<Cluster>) -> Upstream {
        let breakers = Breakers::new(cluster.thresholds.clone());
        Upstream::with(cluster, breakers, Arc::default(), Arc::default(), Arc::default())
    }

    fn with(
        cluster: Arc<Cluster>,
        breakers: Breakers,
        stats: Arc<BalanceStats>,
        outlier_stats: Arc<crate::outlier::OutlierCounters>,
        original: Arc<Mutex<HashMap<SocketAddr, Arc<Host>>>>,
    ) -> Upstream {
        let endpoints = Arc::new(Endpoints::unknown());
        let snapshot = Snapshot::build(&cluster, endpoints, 0, Duration::ZERO);
        let outlier = cluster.outlier.clone();
        Upstream {
            outlier: outlier.map(|settings| OutlierDetector::new(settings, outlier_stats)),
            breakers: Arc::new(breakers),
            stats,
            health_stats: Arc::default(),
            connected: AtomicBool::new(false),
            snapshot: ArcSwap::from_pointee(snapshot),
            version: AtomicU64::new(0),
            drops: ArcSwap::from_pointee(Fraction::NONE),
            original,
            next_cleanup: AtomicU64::new(0),
            cluster,
        }
    }

    /// The next version of a cluster: counts, limits in use and ejections go on; hosts of addresses that stay keep their
    /// state when [`Upstream::set_endpoints`] says which there are. Until then it has those of the old one.
    pub fn replacing(cluster: Arc<Cluster>, old: &Upstream, now: Duration) -> Upstream {
        let breakers = old.breakers.with_limits(cluster.thresholds.clone());
        let outlier_stats = old.outlier.as_ref().map(|outlier| Arc::clone(outlier.stats()));
        let mut next = Upstream::with(
            cluster,
            breakers,
            Arc::clone(&old.stats),
            outlier_stats.unwrap_or_default(),
            Arc::clone(&old.original),
        );
        let endpoints = Arc::clone(&old.snapshot().endpoints);
        if next.outlier.is_none() {
            for host in endpoints.hosts() {
                host.state.clear(HealthFlags::FAILED_OUTLIER);
            }
        }
        if next.cluster.health_checks.is_empty() {
            let flags = HealthFlags::FAILED_ACTIVE
                | HealthFlags::PENDING_ACTIVE
                | HealthFlags::DEGRADED_ACTIVE
                | HealthFlags::EXCLUDED;
            for host in endpoints.hosts() {
                host.state.clear(flags);
            }
        }
        next.health_stats = Arc::clone(&old.health_stats);
        next.connected = AtomicBool::new(old.was_connected());
        next.drops.store(old.drops.load_full());
        next.install(endpoints, now);
        next
    }

    fn install(&self, endpoints: Arc<Endpoints>, now: Duration) {
        if let Some(outlier) = &self.outlier {
            outlier.set_hosts(endpoints.hosts().count());
        }
        let version = self.version.load(Ordering::Acquire);
        let snapshot = Snapshot::build(&self.cluster, endpoints, version, now);
        self.snapshot.store(Arc::new(snapshot));
        // Health may have changed meanwhile.
        self.refresh(now);
    }

    /// Takes a new version of the endpoints: of the discovery service, of the cluster itself, or of names resolved. Called
    /// by one thread at a time.
    pub fn set_endpoints(
        &self,
        assignment: &Assignment,
        resolved: &dyn Resolved,
        now: Duration,
    ) -> Membership {
        let old = Arc::clone(&self.snapshot().endpoints);
        let (endpoints, membership) = Endpoints::update(&self.cluster, &old, assignment, resolved, now);
        if !membership.added.is_empty() || !membership.removed.is_empty() {
            self.stats.membership_change.inc();
        }
        self.forget_ejections(&membership.removed);
        self.drops.store(Arc::new(assignment.drop));
        self.install(Arc::new(endpoints), now);
        membership
    }

    /// Hosts that are gone do not count as ejected.
    fn forget_ejections(&self, gone: &[Arc<Host>]) {
        if let Some(outlier) = &self.outlier {
            for host in gone {
                outlier.uneject(host);
            }
        }
    }

    /// Whether anybody has said which hosts there are. Clusters of original destinations need nobody to.
    pub fn is_known(&self) -> bool {
        self.cluster.is_original_destination() || self.snapshot.load().is_known()
    }

    /// Hosts by health, at this moment.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    pub(crate) fn is_newest(&self, snapshot: &Arc<Snapshot>) -> bool {
        Arc::ptr_eq(&self.snapshot.load(), snapshot)
    }

    /// Says that the health of hosts has changed; [`Upstream::refresh`] then takes it into account.
    pub(crate) fn health_changed(&self) {
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Sorts hosts by health anew, if it has changed since; costs as much as there are hosts then. Any thread may call it.
    pub fn refresh(&self, now: Duration) {
        loop {
            let current = self.snapshot();
            let version = self.version.load(Ordering::Acquire);
            if current.version == version {
                return;
            }
            let mut endpoints = Arc::clone(&current.endpoints);
            if let Some((fewer, gone)) = endpoints.without_failed_leftovers() {
                for host in &gone {
                    host.state.set(HealthFlags::GONE);
                }
                self.forget_ejections(&gone);
                endpoints = Arc::new(fewer);
            }
            let next = Arc::new(Snapshot::build(&self.cluster, endpoints, version, now));
            self.snapshot.compare_and_swap(&current, next);
        }
    }

    /// What is to be done from time to time: outlier detection's sweep, forgetting original destinations. `true`: hosts
    /// have been ejected, let in or forgotten (the snapshot is refreshed already).
    pub fn tick(&self, now: Duration, random: u64) -> bool {
        let snapshot = self.snapshot();
        let mut changed = self.cleanup_originals(now);
        if let Some(outlier) = &self.outlier {
            let swept = match self.cluster.is_original_destination() {
                true => {
                    let hosts: Vec<_> = self.originals().values().cloned().collect();
                    outlier.set_hosts(hosts.len());
                    outlier.sweep(hosts.iter(), now, random)
                }
                false => outlier.sweep(snapshot.hosts(), now, random),
            };
            if swept {
                self.health_changed();
                changed = true;
            }
        }
        self.refresh(now);
        changed
    }

    /// How long [`Upstream::tick`] may be left alone; `None`: for ever.
    pub fn tick_interval(&self) -> Option<Duration> {
        let outlier = self.outlier.as_ref().map(|outlier| outlier.settings().interval);
        let cleanup = self.cluster.is_original_destination().then_some(self.cluster.cleanup_interval);
        let slow = slow_start::of(&self.cluster.balancing.policy).map(|_| SLOW_START_STEP);
        [outlier, cleanup, slow].into_iter().flatten().min()
    }

    /// Whether a request with this random number is dropped (`drop_overloads`): before a host is chosen, answered with 503
    /// and [`crate::ResponseFlags::DROP_OVERLOAD`].
    pub fn drops(&self, random: u64) -> bool {
        self.drops.load().holds(random)
    }

    /// Whether there ever was a connection to one of its hosts: until then health is checked at leisure.
    pub fn was_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// Tells outlier detection how it went. `true`: the host is ejected; somebody should call [`Upstream::refresh`] soon.
    pub fn report(&self, host: &Host, outcome: Outcome, now: Duration, random: u64) -> bool {
        let ejected = self.outlier.as_ref().is_some_and(|outlier| outlier.report(host, outcome, now, random));
        if ejected {
            self.health_changed();
        }
        ejected
    }

    /// A response said that the host is to be taken out at once (`x-envoy-immediate-health-check-fail`); it counts only
    /// where hosts are health checked, which is what brings it back. `true`: somebody should call [`Upstream::refresh`] soon.
    pub fn health_failed(&self, host: &Host) -> bool {
        let checked = !self.cluster.health_checks.is_empty() && !host.health_check.disabled;
        let changed = checked && host.state.set(HealthFlags::FAILED_ACTIVE | HealthFlags::EXCLUDED);
        if checked {
            self.health_stats.failure.inc();
            self.health_stats.passive_failure.inc();
        }
        if changed {
            self.health_changed();
        }
        changed
    }

    /// A connection to a host ([`Breakers::connect`]).
    pub fn connect(&self, host: &Host, priority: Priority) -> Result<ConnectionPermit, Overflow> {
        let permit = self.breakers.connect(&host.state, priority)?;
        if !self.was_connected() {
            self.connected.store(true, Ordering::Relaxed);
        }
        Ok(permit)
    }

    /// A place to wait for a connection ([`Breakers::pend`]).
    pub fn pend(&self, priority: Priority) -> Result<PendingPermit, Overflow> {
        self.breakers.pend(priority)
    }

    /// A request to a host ([`Breakers::request`]).
    pub fn request(&self, host: &Host, priority: Priority, now: Duration) -> Result<RequestPermit, Overflow> {
        self.breakers.request(&host.state, priority, now)
    }

    /// A retry ([`Breakers::retry`]).
    pub fn retry(&self, priority: Priority, now: Duration) -> Result<RetryPermit, Overflow> {
        self.breakers.retry(priority, now)
    }
}

/// Original destinations.
impl Upstream {
    /// Where a connection or request goes that keeps its destination.
    pub(crate) fn original_destination(&self, choice: &Choice<'_>) -> Option<SocketAddr> {
        let Discovery::OriginalDestination(settings) = &self.cluster.discovery else { return None };
        let stated = choice.override_host.filter(|_| settings.header.is_some());
        let mut address = stated.or(choice.destination)?;
        if let Some(port) = settings.port {
            address.set_port(port);
        }
        Some(address)
    }

    fn originals(&self) -> std::sync::MutexGuard<'_, HashMap<SocketAddr, Arc<Host>>> {
        self.original.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The host at an address, made if it is new; `None` if there are too many.
    pub(crate) fn original_host(&self, address: SocketAddr) -> Option<Arc<Host>> {
        let mut hosts = self.originals();
        if let Some(host) = hosts.get(&address) {
            host.state.used.inc();
            return Some(Arc::clone(host));
        }
        if hosts.len() >= ORIGINAL_HOSTS_MAX {
            self.stats.original_hosts_overflow.inc();
            return None;
        }
        let host = Arc::new(self.new_original(address));
        host.state.used.inc();
        hosts.insert(address, Arc::clone(&host));
        Some(host)
    }

    fn new_original(&self, address: SocketAddr) -> Host {
        Host {
            name: address.to_string().into(),
            address: HostAddress::Socket(address),
            additional: Vec::new(),
            hostname: "".into(),
            locality: Arc::default(),
            locality_metadata: Metadata::default(),
            priority: 0,
            weight: 1,
            metadata: Metadata::default(),
            transport: Arc::clone(self.cluster.transport.of(&Metadata::default())),
            health_check: HealthCheckTarget::default(),
            stated: StatedHealth::Healthy,
            state: Arc::new(HostState::new(HealthFlags::default())),
        }
    }

    /// Hosts of original destinations that are known now.
    pub fn original_hosts(&self) -> Vec<Arc<Host>> {
        self.originals().values().cloned().collect()
    }

    /// Forgets hosts that were not chosen since the last time and have no connection.
    fn cleanup_originals(&self, now: Duration) -> bool {
        if !self.cluster.is_original_destination() {
            return false;
        }
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let due = self.next_cleanup.load(Ordering::Relaxed);
        if due != 0 && millis(now) < due {
            return false;
        }
        let next = now.saturating_add(self.cluster.cleanup_interval);
        self.next_cleanup.store(millis(next).max(1), Ordering::Relaxed);
        if due == 0 {
            return false;
        }
        let mut hosts = self.originals();
        let before = hosts.len();
        hosts.retain(|_, host| {
            let stays = host.state.used.take() > 0 || host.state.cx_active.get() > 0;
            if !stays {
                host.state.set(HealthFlags::GONE);
                if let Some(outlier) = &self.outlier {
                    outlier.uneject(host);
                }
            }
            stays
        });
        hosts.len() < before
    }
}
