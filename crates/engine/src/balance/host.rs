//! A host: what is configured of it, and what all workers know of how it does.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::Metadata;
use crate::cluster::{HealthCheckTarget, Locality, StatedHealth, TransportSocket};
use crate::outlier::HostRecord;

/// A host of a cluster, as one version of its endpoints has it. What changes while it is used is in [`HostState`], which
/// outlives versions.
#[derive(Debug)]
pub struct Host {
    /// Where it listens.
    pub address: HostAddress,
    /// The address as text (`10.0.0.1:80`): in logs, and for hashing.
    pub name: Arc<str>,
    /// Other addresses of the same host, to be tried when the first does not answer.
    pub additional: Vec<SocketAddr>,
    /// Its name, perhaps empty; for a resolved host, the name that was resolved.
    pub hostname: Arc<str>,
    /// Where it is.
    pub locality: Arc<Locality>,
    /// What is noted about its locality.
    pub locality_metadata: Metadata,
    /// Tried in ascending order.
    pub priority: u32,
    /// At least 1.
    pub weight: u32,
    /// What is noted about it.
    pub metadata: Metadata,
    /// What connections to it are wrapped in.
    pub transport: Arc<TransportSocket>,
    /// How it is asked for its health.
    pub health_check: HealthCheckTarget,
    /// What the control plane knows of its health.
    pub stated: StatedHealth,
    /// What all workers know of it.
    pub state: Arc<HostState>,
}

/// Where a host listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostAddress {
    /// At an address.
    Socket(SocketAddr),
    /// At a Unix domain socket; a leading `@` means the abstract namespace.
    Pipe(Box<Path>),
}

/// A host's number, unique in the process; the same while the address stays in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostId(u64);

/// A host's health, all told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// To be chosen.
    Healthy,
    /// To be chosen when there are not enough healthy ones.
    Degraded,
    /// Not to be chosen.
    Unhealthy,
}

/// What speaks for or against a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HealthFlags(u32);

impl HealthFlags {
    /// It fails its health checks, or has not passed one yet.
    pub const FAILED_ACTIVE: HealthFlags = HealthFlags(1);
    /// It is ejected.
    pub const FAILED_OUTLIER: HealthFlags = HealthFlags(1 << 1);
    /// The control plane says that it is unhealthy.
    pub const FAILED_STATED: HealthFlags = HealthFlags(1 << 2);
    /// Its health checks say that it is degraded.
    pub const DEGRADED_ACTIVE: HealthFlags = HealthFlags(1 << 3);
    /// The control plane says so.
    pub const DEGRADED_STATED: HealthFlags = HealthFlags(1 << 4);
    /// It was removed, but passes its health checks still, and is used as long as it does.
    pub const PENDING_REMOVAL: HealthFlags = HealthFlags(1 << 5);
    /// It has not been checked yet.
    pub const PENDING_ACTIVE: HealthFlags = HealthFlags(1 << 6);
    /// A response of its own said that it is to be taken out at once.
    pub const EXCLUDED: HealthFlags = HealthFlags(1 << 7);
    /// It is no longer part of its cluster.
    pub(crate) const GONE: HealthFlags = HealthFlags(1 << 8);

    /// Envoy's words for them in `/clusters`.
    const WORDS: &[(HealthFlags, &str)] = &[
        (HealthFlags::FAILED_ACTIVE, "failed_active_hc"),
        (HealthFlags::FAILED_OUTLIER, "failed_outlier_check"),
        (HealthFlags::FAILED_STATED, "failed_eds_health"),
        (HealthFlags::DEGRADED_ACTIVE, "degraded_active_hc"),
        (HealthFlags::DEGRADED_STATED, "degraded_eds_health"),
        (HealthFlags::PENDING_REMOVAL, "pending_dynamic_removal"),
        (HealthFlags::PENDING_ACTIVE, "pending_active_hc"),
        (HealthFlags::EXCLUDED, "excluded_via_immediate_hc_fail"),
    ];

    /// Whether one of these is set.
    pub fn any(self, flags: HealthFlags) -> bool {
        self.0 & flags.0 != 0
    }

    /// Envoy's words for what is set, in Envoy's order.
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        HealthFlags::WORDS.iter().filter(move |(flag, _)| self.any(*flag)).map(|(_, word)| *word)
    }
}

impl std::ops::BitOr for HealthFlags {
    type Output = HealthFlags;

    fn bitor(self, other: HealthFlags) -> HealthFlags {
        HealthFlags(self.0 | other.0)
    }
}

/// A number that all workers add to.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// The value; nothing is ordered by it.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Adds one.
    pub fn inc(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes one away; whoever does has added it.
    pub fn dec(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// Adds one, and says what that makes.
    pub(crate) fn inc_and_get(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Takes one away if there is any.
    pub(crate) fn dec_above_zero(&self) {
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |value| value.checked_sub(1));
    }

    /// Puts a value in its place.
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value, and nothing in its place.
    pub(crate) fn take(&self) -> u64 {
        self.0.swap(0, Ordering::Relaxed)
    }

    /// Adds one unless there are `limit` already; exact, however many try at once.
    pub(crate) fn inc_below(&self, limit: u64) -> bool {
        self.inc_if(|value| value < limit)
    }

    /// Adds one if the value allows it; exact, however many try at once.
    pub(crate) fn inc_if(&self, may: impl Fn(u64) -> bool) -> bool {
        let add = |value| may(value).then_some(value + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
    }
}

/// What all workers know of a host. One per address and cluster; kept while the address stays.
#[derive(Debug)]
pub struct HostState {
    id: HostId,
    flags: AtomicU32,
    /// When it became healthy: milliseconds and one more, 0 for never.
    healthy_since: AtomicU64,
    /// Connections open.
    pub cx_active: Counter,
    /// Connections ever.
    pub cx_total: Counter,
    /// Connections that did not come about.
    pub cx_connect_fail: Counter,
    /// Requests in flight.
    pub rq_active: Counter,
    /// Requests ever.
    pub rq_total: Counter,
    /// Responses that were no 5xx.
    pub rq_success: Counter,
    /// Responses of 5xx, resets.
    pub rq_error: Counter,
    /// Requests that timed out.
    pub rq_timeout: Counter,
    /// Times it was chosen for connections that keep their destination, since somebody last looked.
    pub(crate) used: Counter,
    pub(crate) outlier: HostRecord,
}

impl HostState {
    pub(crate) fn new(flags: HealthFlags) -> HostState {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        HostState {
            id: HostId(NEXT.fetch_add(1, Ordering::Relaxed)),
            flags: AtomicU32::new(flags.0),
            healthy_since: AtomicU64::new(0),
            cx_active: Counter::default(),
            cx_total: Counter::default(),
            cx_connect_fail: Counter::default(),
            rq_active: Counter::default(),
            rq_total: Counter::default(),
            rq_success: Counter::default(),
            rq_error: Counter::default(),
            rq_timeout: Counter::default(),
            used: Counter::default(),
            outlier: HostRecord::default(),
        }
    }

    /// What is set.
    pub fn flags(&self) -> HealthFlags {
        HealthFlags(self.flags.load(Ordering::Relaxed))
    }

    /// Sets flags; whether one of them was not set before.
    pub(crate) fn set(&self, flags: HealthFlags) -> bool {
        self.flags.fetch_or(flags.0, Ordering::Relaxed) & flags.0 != flags.0
    }

    /// Clears flags; whether one of them was set before.
    pub(crate) fn clear(&self, flags: HealthFlags) -> bool {
        self.flags.fetch_and(!flags.0, Ordering::Relaxed) & flags.0 != 0
    }

    /// When it became healthy, as far as slow start is concerned.
    pub(crate) fn healthy_since(&self) -> Option<Duration> {
        self.healthy_since.load(Ordering::Relaxed).checked_sub(1).map(Duration::from_millis)
    }

    pub(crate) fn became_healthy(&self, now: Duration) {
        let millis = u64::try_from(now.as_millis()).unwrap_or(u64::MAX - 1);
        self.healthy_since.store(millis.saturating_add(1), Ordering::Relaxed);
    }

    /// Percent of responses in the last interval of outlier detection that were good, if there were enough.
    pub fn success_rate(&self) -> Option<f64> {
        self.outlier.external.rate()
    }

    /// Percent of attempts to reach it that succeeded, likewise.
    pub fn local_origin_success_rate(&self) -> Option<f64> {
        self.outlier.local.rate()
    }
}

impl Host {
    /// Its number: the key of a worker's connection pools.
    pub fn id(&self) -> HostId {
        self.state.id
    }

    /// Whether it is no longer part of its cluster: connections to it are to be drained.
    pub fn is_gone(&self) -> bool {
        self.state.flags().any(HealthFlags::GONE)
    }

    /// All that speaks for or against it.
    pub fn flags(&self) -> HealthFlags {
        let stated = match self.stated {
            StatedHealth::Healthy => HealthFlags::default(),
            StatedHealth::Degraded => HealthFlags::DEGRADED_STATED,
            StatedHealth::Unhealthy | StatedHealth::Draining | StatedHealth::Timeout => {
                HealthFlags::FAILED_STATED
            }
        };
        self.state.flags() | stated
    }

    /// Its health, all told.
    pub fn health(&self) -> Health {
        let flags = self.flags();
        let failed = HealthFlags::FAILED_ACTIVE | HealthFlags::FAILED_OUTLIER | HealthFlags::FAILED_STATED;
        if flags.any(failed) {
            Health::Unhealthy
        } else if flags.any(HealthFlags::DEGRADED_ACTIVE | HealthFlags::DEGRADED_STATED) {
            Health::Degraded
        } else {
            Health::Healthy
        }
    }

    /// Whether it counts neither as healthy nor as unhealthy.
    pub(crate) fn is_excluded(&self, ignores_new: bool) -> bool {
        let flags = self.state.flags();
        flags.any(HealthFlags::EXCLUDED) || (ignores_new && flags.any(HealthFlags::PENDING_ACTIVE))
    }

    /// Its IP address, if it has one.
    pub fn ip(&self) -> Option<IpAddr> {
        match &self.address {
            HostAddress::Socket(address) => Some(address.ip()),
            HostAddress::Pipe(_) => None,
        }
    }
}

impl HostAddress {
    /// As Envoy writes it.
    pub fn text(&self) -> String {
        match self {
            HostAddress::Socket(address) => address.to_string(),
            HostAddress::Pipe(path) => path.display().to_string(),
        }
    }
}
