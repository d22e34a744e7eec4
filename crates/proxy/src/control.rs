//! The proxy's own control side: puts resources in force, one after the other, on one thread.
//!
//! Invariants:
//! * A resource is in force as a whole or not at all; what it replaces serves until then.
//! * Sockets of listeners are kept over updates; connections of filter chains that did not change are not disturbed.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ostro_engine::balance::{NothingResolved, Resolved};
use ostro_engine::cluster::Assignment;
use ostro_engine::{Cluster, Direction, Discovery, Listener, RouteTable, SocketSettings, Upstream};
use ostro_transport::ListenError;
use ostro_transport::dns::{Resolve, Resolver};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::checks::{Checking, Checks};
use crate::config::{
    LiveChain, LiveCluster, LiveListener, LiveListeners, RouteSlot, RouteSlots, Shared, listen_options,
};
use crate::worker::{Handle, Order, Port, Scope};

/// The shortest time between two looks at a name.
const REFRESH_MIN: Duration = Duration::from_secs(1);
/// How long a name that cannot be looked up is left alone at first, if nothing else is configured.
const FAILURE_REFRESH: Duration = Duration::from_secs(5);

/// The control side.
pub(crate) struct Control {
    /// What all workers share.
    pub shared: Arc<Shared>,
    workers: Vec<Handle>,
    listeners: LiveListeners,
    slots: RouteSlots,
    routes: HashMap<String, Arc<RouteSlot>>,
    bound: HashMap<String, Bound>,
    /// Of listeners that are bound, and of those that are about to be.
    claims: Vec<Weak<Claim>>,
    resolving: HashMap<Arc<str>, AbortHandle>,
    checking: Checking,
    checks: HashMap<Arc<str>, Checks>,
    resolver: Resolver,
    drain_time: Duration,
    /// Since when all connections are being drained.
    draining: Option<Instant>,
    changes: Changes,
}

/// What workers have to hear of together.
#[derive(Default)]
struct Changes {
    has_listeners: bool,
    closed: Vec<String>,
    opened: Vec<(String, Vec<Vec<std::net::TcpListener>>)>,
    gone: Vec<Arc<LiveChain>>,
}

/// Sockets of a listener: for each address, one for each worker. Its addresses are taken as long as this is kept.
pub(crate) struct Sockets {
    groups: Vec<Vec<std::net::TcpListener>>,
    claim: Arc<Claim>,
}

/// Addresses that a listener has taken.
struct Claim {
    listener: String,
    addresses: Vec<SocketAddr>,
}

/// What a listener is bound to.
struct Bound {
    settings: SocketSettings,
    actual: Vec<SocketAddr>,
    claim: Arc<Claim>,
}

/// Why a listener gets no sockets.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindError {
    /// Another listener is there already. Whoever configured both is at fault.
    #[error(
        "error adding listener: '{listener}' has duplicate address '{address}' as existing listener '{other}'"
    )]
    Duplicate {
        /// The one that comes second.
        listener: String,
        /// Where both would listen.
        address: SocketAddr,
        /// The one that is there.
        other: String,
    },
    /// The system refuses.
    #[error(transparent)]
    System(#[from] ListenError),
}

impl Control {
    /// Nothing is in force yet. `drain_time`: how long connections of what was replaced may go on.
    pub fn new(
        shared: Arc<Shared>,
        workers: Vec<Handle>,
        resolver: Resolver,
        drain_time: Duration,
    ) -> Control {
        Control {
            checking: Checking::new(Arc::clone(&shared)),
            checks: HashMap::new(),
            shared,
            workers,
            listeners: LiveListeners::default(),
            slots: RouteSlots::default(),
            routes: HashMap::new(),
            bound: HashMap::new(),
            claims: Vec::new(),
            resolving: HashMap::new(),
            resolver,
            drain_time,
            draining: None,
            changes: Changes::default(),
        }
    }

    /// Puts a cluster in force, with its endpoints if they have come. Of one that was there before, hosts and limits go
    /// on counting.
    pub fn put_cluster(&mut self, cluster: Arc<Cluster>, endpoints: Option<&Assignment>) {
        let name = Arc::clone(&cluster.name);
        let now = self.shared.clock().monotonic();
        let upstream = match self.shared.clusters.get(&name) {
            Some(before) => Upstream::replacing(Arc::clone(&cluster), &before.upstream, now),
            None => Upstream::new(Arc::clone(&cluster)),
        };
        let stats = self.shared.stats.cluster(&cluster.stat_name);
        let bind = self.shared.bind.overridden_by(cluster.bind.as_ref());
        let exchange = cluster.exchange.as_ref().map(|_| self.shared.stats.metadata_exchange());
        let live = Arc::new(LiveCluster::new(upstream, stats, bind, exchange, self.shared.identity.number()));
        let inline = cluster.assignment.as_deref().filter(|_| cluster.discovery == Discovery::Static);
        if let Some(endpoints) = endpoints.or(inline) {
            live.set_endpoints(endpoints, &NothingResolved, now);
        }
        self.check_health(&live);
        if let Some(task) = self.resolving.remove(&name) {
            task.abort();
        }
        if matches!(cluster.discovery, Discovery::StrictDns | Discovery::LogicalDns) {
            let keep = Resolving::new(Arc::clone(&self.shared), Arc::clone(&live), self.resolver.clone());
            self.resolving.insert(name, tokio::task::spawn_local(keep.run()).abort_handle());
        }
        self.shared.clusters.put(live);
    }

    /// Hosts of the cluster are asked for their health from now on, if they are to be; those that were go on.
    fn check_health(&mut self, live: &Arc<LiveCluster>) {
        let name = &live.upstream.cluster.name;
        if live.upstream.cluster.health_checks.is_empty() {
            self.checks.remove(name);
        } else if let Some(checks) = self.checks.get(name) {
            checks.replace(Arc::clone(live));
        } else {
            self.checks.insert(Arc::clone(name), self.checking.start(Arc::clone(live)));
        }
    }

    /// Gives a cluster that is in force its endpoints.
    pub fn set_endpoints(&self, cluster: &str, endpoints: &Assignment) {
        if let Some(live) = self.shared.clusters.get(cluster) {
            live.set_endpoints(endpoints, &NothingResolved, self.shared.clock().monotonic());
        }
    }

    /// Takes a cluster out of force.
    pub fn remove_cluster(&mut self, name: &str) {
        if let Some(task) = self.resolving.remove(name) {
            task.abort();
        }
        self.checks.remove(name);
        self.shared.clusters.remove(name);
    }

    /// Puts a route configuration in force.
    pub fn put_routes(&mut self, table: Arc<RouteTable>) {
        let slot = self.slots.get(&table.name);
        let name = table.name.clone();
        slot.store(Some(table));
        self.routes.insert(name, slot);
    }

    /// Takes a route configuration out of force.
    pub fn remove_routes(&mut self, name: &str) {
        if let Some(slot) = self.routes.remove(name) {
            slot.store(None);
        }
    }

    /// The sockets that a listener needs and does not have yet; `None`: it keeps those of the one before it, or needs
    /// none.
    ///
    /// # Errors
    /// A socket cannot be had, or another listener has it.
    pub fn bind(&mut self, listener: &Listener) -> Result<Option<Sockets>, BindError> {
        let keeps = self.bound.get(&listener.name).is_some_and(|bound| bound.serves(listener));
        if keeps || !listener.binds {
            return Ok(None);
        }
        self.check_free(listener)?;
        let options = listen_options(&listener.socket);
        let count = NonZeroUsize::new(self.workers.len()).unwrap_or(NonZeroUsize::MIN);
        let group = |at: &SocketAddr| ostro_transport::listen_shared(*at, &options, count);
        let groups = listener.addresses.iter().map(group).collect::<Result<_, _>>()?;
        let (listener, addresses) = (listener.name.clone(), listener.addresses.clone());
        let claim = Arc::new(Claim { listener, addresses });
        self.claims.push(Arc::downgrade(&claim));
        Ok(Some(Sockets { groups, claim }))
    }

    /// Two listeners of one address would share its connections: with `SO_REUSEPORT` the system lets them.
    fn check_free(&mut self, listener: &Listener) -> Result<(), BindError> {
        self.claims.retain(|claim| claim.strong_count() > 0);
        let others =
            self.claims.iter().filter_map(Weak::upgrade).filter(|claim| claim.listener != listener.name);
        for claim in others {
            let mut fixed = listener.addresses.iter().filter(|address| address.port() != 0);
            if let Some(address) = fixed.find(|address| claim.addresses.contains(address)) {
                return Err(BindError::Duplicate {
                    listener: listener.name.clone(),
                    address: *address,
                    other: claim.listener.clone(),
                });
            }
        }
        Ok(())
    }

    /// Puts a listener in force, from [`commit`](Self::commit) on. `fingerprints`: of its filter chains; `sockets`: what
    /// [`bind`](Self::bind) gave for it.
    pub fn put_listener(&mut self, listener: Arc<Listener>, fingerprints: &[u64], sockets: Option<Sockets>) {
        let name = listener.name.clone();
        let before = self.listeners.get(&name).cloned();
        let live = LiveListener::new(
            Arc::clone(&listener),
            fingerprints,
            before.as_deref(),
            &self.slots,
            &self.shared,
        );
        let live = Arc::new(live);
        if let Some(before) = before {
            self.changes.gone.extend(gone(&before, Some(&live)));
        }
        self.listeners.put(live);
        self.changes.has_listeners = true;
        let keeps = self.bound.get(&name).is_some_and(|bound| bound.serves(&listener));
        if !keeps && self.bound.remove(&name).is_some() {
            self.changes.closed.push(name.clone());
        }
        if let Some(Sockets { groups, claim }) = sockets {
            let actual = groups.iter().filter_map(|group| group.first()?.local_addr().ok()).collect();
            self.bound.insert(name.clone(), Bound { settings: listener.socket.clone(), actual, claim });
            self.changes.opened.push((name, groups));
        }
    }

    /// Takes a listener out of force, from [`commit`](Self::commit) on; its connections end within the drain time.
    pub fn remove_listener(&mut self, name: &str) {
        let Some(before) = self.listeners.get(name).cloned() else { return };
        if self.bound.remove(name).is_some() {
            self.changes.closed.push(name.to_owned());
        }
        self.listeners.remove(name);
        self.changes.has_listeners = true;
        self.changes.gone.extend(gone(&before, None));
    }

    /// Tells workers of listeners that came and went.
    pub fn commit(&mut self) {
        let changes = std::mem::take(&mut self.changes);
        if changes.has_listeners {
            let all = Arc::new(self.listeners.clone());
            self.tell(|| Order::Listeners(Arc::clone(&all)));
        }
        for name in &changes.closed {
            self.tell(|| Order::Close(name.as_str().into()));
        }
        for (name, sockets) in changes.opened {
            let listener: Arc<str> = name.into();
            for group in sockets {
                for (worker, socket) in self.workers.iter().zip(group) {
                    worker.tell(Order::Open(Port { listener: Arc::clone(&listener), socket }));
                }
            }
        }
        self.drain_chains(changes.gone);
    }

    /// Listeners with the addresses that they are bound to; one that binds none, with those that it answers for.
    pub fn addresses(&self) -> impl Iterator<Item = (&str, &[SocketAddr])> {
        let addresses = |name: &str| self.bound.get(name).map(|bound| &bound.actual[..]);
        self.listeners.all().map(move |live| {
            let engine = &live.engine;
            (engine.name.as_str(), addresses(&engine.name).unwrap_or(&engine.addresses))
        })
    }

    /// Lets connections end after what they are doing.
    pub fn drain(&mut self, scope: Scope) {
        if scope == Scope::All {
            self.draining.get_or_insert_with(Instant::now);
        }
        self.tell(|| Order::Drain(scope));
    }

    /// Lets connections end after what they are doing, until it is taken back.
    pub fn fail(&self, is_failing: bool) {
        self.tell(|| Order::Fail(is_failing));
    }

    /// Lets listeners stop accepting; connections stay.
    pub fn close(&mut self, scope: Scope) {
        let is_meant = |name: &&String| {
            let direction = self.listeners.get(name).map(|listener| listener.engine.direction);
            scope == Scope::All || direction == Some(Direction::Inbound)
        };
        let names: Vec<String> = self.bound.keys().filter(is_meant).cloned().collect();
        for name in names {
            self.bound.remove(&name);
            self.tell(|| Order::Close(name.as_str().into()));
        }
    }

    /// When connections have had the time that they are given once they are drained; now, if nobody has drained them.
    pub fn drained_at(&self) -> Instant {
        self.draining.map_or_else(Instant::now, |since| since + self.drain_time)
    }

    /// Ends all workers and waits for them.
    pub fn stop(&mut self) {
        self.tell(|| Order::Stop);
        self.workers.iter_mut().for_each(Handle::join);
    }

    fn tell(&self, order: impl Fn() -> Order) {
        self.workers.iter().for_each(|worker| worker.tell(order()));
    }

    /// Lets the connections of chains end, by themselves at first.
    fn drain_chains(&self, chains: Vec<Arc<LiveChain>>) {
        if chains.is_empty() {
            return;
        }
        let chains = Arc::new(chains);
        self.tell(|| Order::DrainChains(Arc::clone(&chains)));
        let senders: Vec<_> = self.workers.iter().map(Handle::sender).collect();
        let after = self.drain_time;
        tokio::task::spawn_local(async move {
            tokio::time::sleep(after).await;
            for sender in senders {
                // A worker that is gone has cut them.
                let _ = sender.send(Order::CutChains(Arc::clone(&chains))).await;
            }
        });
    }
}

impl Bound {
    fn serves(&self, listener: &Listener) -> bool {
        listener.binds && self.claim.addresses == listener.addresses && self.settings == listener.socket
    }
}

/// The chains of a listener that its successor does not have.
fn gone(before: &LiveListener, after: Option<&LiveListener>) -> Vec<Arc<LiveChain>> {
    let is_gone = |chain: &&Arc<LiveChain>| after.is_none_or(|after| !after.has(chain));
    before.chains().filter(is_gone).cloned().collect()
}

/// Looks up the names of a cluster's endpoints, again and again.
struct Resolving {
    shared: Arc<Shared>,
    cluster: Arc<LiveCluster>,
    resolver: Resolver,
    known: Known,
}

/// What names resolve to.
#[derive(Default)]
struct Known(HashMap<String, Vec<IpAddr>>);

impl Resolved for Known {
    fn addresses(&self, name: &str) -> &[IpAddr] {
        self.0.get(name).map(Vec::as_slice).unwrap_or_default()
    }
}

impl Resolving {
    fn new(shared: Arc<Shared>, cluster: Arc<LiveCluster>, resolver: Resolver) -> Resolving {
        Resolving { shared, cluster, resolver, known: Known::default() }
    }

    async fn run(mut self) {
        let Some(assignment) = self.cluster.upstream.cluster.assignment.clone() else { return };
        let mut failures = 0_u32;
        loop {
            let (has_failed, ttl) = self.look_up(&assignment).await;
            let now = self.shared.clock().monotonic();
            self.cluster.set_endpoints(&assignment, &self.known, now);
            let dns = &self.cluster.upstream.cluster.dns;
            failures = if has_failed { failures.saturating_add(1) } else { 0 };
            let pause = match (has_failed, dns.failure_refresh) {
                (false, _) if dns.respects_ttl => {
                    ttl.unwrap_or(dns.refresh).max(dns.min_refresh).max(REFRESH_MIN)
                }
                (false, _) => dns.refresh.max(REFRESH_MIN),
                (true, None) => FAILURE_REFRESH,
                (true, Some((base, most))) => base.saturating_mul(1 << failures.min(16)).min(most),
            };
            let jitter = dns.jitter.mul_f64(fastrand::f64());
            tokio::time::sleep(pause.saturating_add(jitter)).await;
        }
    }

    /// Whether a name could not be looked up, and how long what was found holds; what was known of others stays.
    async fn look_up(&mut self, assignment: &Assignment) -> (bool, Option<Duration>) {
        let (mut has_failed, mut ttl) = (false, None::<Duration>);
        let names: Vec<String> = assignment.names().map(|(name, _)| name.to_owned()).collect();
        for name in names {
            let family = crate::config::family(self.cluster.upstream.cluster.dns.family);
            match self.resolver.lookup(&name, family).await {
                Ok(answer) => {
                    ttl = Some(ttl.map_or(answer.ttl, |least| least.min(answer.ttl)));
                    self.known.0.insert(name, answer.addresses.to_vec());
                }
                Err(error) if error.is_answer() => {
                    self.known.0.insert(name, Vec::new());
                }
                Err(error) => {
                    tracing::debug!(%name, %error, "cannot look up");
                    has_failed = true;
                }
            }
        }
        (has_failed, ttl)
    }
}
