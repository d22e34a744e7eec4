//! Who has to be told what: the state behind the ADS server, without its streams.
//!
//! One owner, no locks: the task in [`crate::distributor`] feeds it connections, requests and changes, and it hands
//! responses to each connection's bounded channel.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use ostro_mesh::{KeyId, Proxy};
use ostro_telemetry::{Metrics, Trigger, Typed};
use ostro_translate::ResourceType;
use tokio::sync::mpsc;

use crate::cache::Cache;
use crate::connection::{Connection, Outgoing, Response, Transport};
use crate::distributor::Change;
use crate::generator::Generator;
use crate::item::{Item, Stale};
use crate::limits;
use crate::order::{Send, Timing};
use crate::readers::Readers;
use crate::resolve::{Resolver, Tally};
use crate::subscriptions::{Heard, Request, Verdict};

/// The state.
pub(crate) struct Distributor<G: Generator> {
    world: G::World,
    cache: Cache<G>,
    /// Key to the connections whose answers depend on it.
    selection: Readers,
    connections: BTreeMap<u32, Connection>,
    timing: Timing,
    metrics: Metrics,
}

impl<G: Generator> Distributor<G> {
    pub fn new(generator: G, world: G::World, timing: Timing, metrics: Metrics) -> Self {
        Distributor {
            world,
            cache: Cache::new(generator, metrics.clone()),
            selection: Readers::default(),
            connections: BTreeMap::new(),
            timing,
            metrics,
        }
    }

    pub fn connections(&self) -> impl Iterator<Item = &Connection> {
        self.connections.values()
    }

    /// How many encoded resources, rosters and lists of names are held.
    #[cfg(test)]
    pub fn held(&self) -> usize {
        self.cache.len()
    }

    /// A proxy has said who it is.
    pub fn connect(
        &mut self,
        id: u32,
        proxy: Arc<Proxy>,
        transport: Transport,
        outbound: mpsc::Sender<Outgoing>,
    ) {
        tracing::info!(proxy = %proxy.id, connection = id, ?transport, "proxy connected");
        let connection = Connection::new(id, proxy, transport, outbound, self.timing);
        self.connections.insert(id, connection);
        self.metrics.proxies.set(i64::try_from(self.connections.len()).unwrap_or(i64::MAX));
    }

    /// A stream has ended.
    pub fn disconnect(&mut self, id: u32) {
        let Some(mut connection) = self.connections.remove(&id) else { return };
        tracing::info!(proxy = %connection.proxy.id, connection = id, "proxy disconnected");
        let mut tally = Tally::default();
        let (mut resolver, _) = self.split(&mut tally);
        resolver.leave(&mut connection, ResourceType::Cluster);
        resolver.leave(&mut connection, ResourceType::Listener);
        for kind in ResourceType::ALL {
            let ledger = &connection.channels.of(kind).ledger;
            for slot in ledger.names().into_iter().filter_map(|name| ledger.wanted(name)).map(|r| r.slot) {
                self.cache.release(slot, id);
            }
        }
        for key in connection.answers.keys() {
            self.selection.remove(key, id);
        }
        self.metrics.proxies.set(i64::try_from(self.connections.len()).unwrap_or(i64::MAX));
    }

    /// What resolves, and what it resolves for, borrowed apart.
    fn split<'a>(&'a mut self, tally: &'a mut Tally) -> (Resolver<'a, G>, &'a mut BTreeMap<u32, Connection>) {
        let Distributor { cache, world, selection, connections, .. } = self;
        (Resolver { cache, world, selection, tally }, connections)
    }

    /// A request of a connected proxy.
    pub fn request(&mut self, id: u32, kind: ResourceType, request: Request, now: Instant) {
        let mut tally = Tally::default();
        let metrics = self.metrics.clone();
        let (mut resolver, connections) = self.split(&mut tally);
        let Some(connection) = connections.get_mut(&id) else { return };
        let heard = connection.channels.of_mut(kind).subscription.hear(request);
        judge(&metrics, connection, kind, &heard);
        subscribe(&mut resolver, connection, kind, &heard);
        if connection.channels.of(kind).subscription.len() > limits::SUBSCRIBED_NAMES {
            refuse_size(connection, kind);
        }
        let spoken = heard.first || !heard.subscribed.is_empty() || !heard.again.is_empty();
        step(&metrics, connection, now, spoken.then_some("request"));
    }
    /// The mesh has changed.
    pub fn change(&mut self, change: Change<G::World>, now: Instant) {
        let started = Instant::now();
        self.world = change.world;
        let mut tally = Tally::default();
        let touched = self.resolve_changed(&change.keys, &mut tally, now);
        self.metrics.push_time.observe(started.elapsed().as_secs_f64());
        self.metrics.triggers.get_or_create(&Trigger { r#type: change.trigger }).inc();
        tracing::info!(
            why = change.why,
            keys = change.keys.len(),
            proxies = tally.connections.len(),
            cds = %tally.amount(ResourceType::Cluster),
            eds = %tally.amount(ResourceType::Endpoint),
            lds = %tally.amount(ResourceType::Listener),
            rds = %tally.amount(ResourceType::Route),
            took = ?started.elapsed(),
            "push"
        );
        for id in touched {
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            if tally.connections.contains(&id) {
                connection.behind_since.get_or_insert(change.arrived);
            }
            step(&self.metrics, connection, now, None);
        }
    }

    /// Brings everything that read one of `keys` up to date, and says whom that may concern.
    fn resolve_changed(&mut self, keys: &[KeyId], tally: &mut Tally, now: Instant) -> BTreeSet<u32> {
        let selected = self.selection.of(keys);
        let mut stale = Stale::default();
        let mut touched = BTreeSet::new();
        let metrics = self.metrics.clone();
        let (mut resolver, connections) = self.split(tally);
        for id in &selected {
            if let Some(connection) = connections.get_mut(id) {
                resolver.reselect(connection, keys, &mut stale);
            }
        }
        resolver.invalidate(connections, keys, &mut stale);
        // Rosters before names before contents: what a roster takes away need not be looked at again. Endpoints before
        // other contents, and sent before those are built: an endpoint that is gone waits for no route table.
        let mut stale: Vec<(Item, Vec<u32>)> = stale.into_iter().collect();
        stale.sort_unstable_by_key(|(item, _)| item.rank());
        let mut overtaken = false;
        for (item, mut holders) in stale {
            if item.rank() == Item::LAST_RANK && !std::mem::replace(&mut overtaken, true) {
                for id in &touched {
                    if let Some(connection) = connections.get_mut(id) {
                        overtake(&metrics, connection, now);
                    }
                }
            }
            holders.sort_unstable();
            holders.dedup();
            for holder in holders {
                if let Some(connection) = connections.get_mut(&holder) {
                    resolver.refresh(connection, item);
                    touched.insert(holder);
                }
            }
        }
        touched
    }

    /// Looks again at the connections whose waiting is over.
    pub fn wake(&mut self, now: Instant) {
        let due: Vec<u32> =
            self.connections.values().filter(|c| c.wake.is_some_and(|at| at <= now)).map(|c| c.id).collect();
        for id in due {
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            step(&self.metrics, connection, now, None);
        }
    }

    /// When to call [`wake`](Self::wake).
    pub fn next_wake(&self) -> Option<Instant> {
        self.connections.values().filter_map(|connection| connection.wake).min()
    }
}

/// Takes in what the proxy said of the last response.
fn judge(metrics: &Metrics, connection: &mut Connection, kind: ResourceType, heard: &Heard) {
    let label = Typed { r#type: kind.short() };
    match &heard.verdict {
        Verdict::None => {}
        Verdict::Stale => metrics.expired_nonces.get_or_create(&label).inc(),
        Verdict::Ack(names) => connection.order.answered(&connection.channels, kind, names, true),
        Verdict::Nack(names, words) => {
            connection.order.answered(&connection.channels, kind, names, false);
            metrics.rejects.get_or_create(&label).inc();
            // Envoy names the resources that it refuses; it may have taken the others.
            let blamed: Vec<&str> =
                names.iter().map(|name| name.as_str()).filter(|name| words.contains(name)).collect();
            tracing::error!(
                proxy = %connection.proxy.id,
                r#type = kind.short(),
                resources = blamed.join(","),
                response = names.len(),
                "refused by the proxy: {words}"
            );
        }
    }
}

/// Applies what the proxy subscribes to and what it says it has.
fn subscribe<G: Generator>(
    resolver: &mut Resolver<'_, G>,
    connection: &mut Connection,
    kind: ResourceType,
    heard: &Heard,
) {
    for (name, version) in &heard.known {
        // Endpoints that a cluster sent on this stream waits for are sent although they are known: Envoy keeps the
        // cluster warming otherwise.
        let awaited = kind == ResourceType::Endpoint && connection.order.awaits(*name);
        if !awaited && (kind.is_wildcard() || connection.channels.of(kind).subscription.has(*name)) {
            connection.channels.of_mut(kind).ledger.tell_known(*name, *version);
        }
    }
    let known: BTreeSet<_> = heard.known.iter().map(|(name, _)| *name).collect();
    match heard.wildcard {
        Some(true) => resolver.join(connection, kind),
        Some(false) => resolver.leave(connection, kind),
        None => {}
    }
    for name in &heard.unsubscribed {
        let released = connection.channels.of_mut(kind).ledger.forget(*name);
        if let Some(released) = released {
            resolver.cache.release(released.slot, connection.id);
        }
    }
    for name in &heard.subscribed {
        resolver.refer(connection, kind, *name);
    }
    for name in heard.subscribed.iter().chain(&heard.again).filter(|name| !known.contains(name)) {
        connection.channels.of_mut(kind).ledger.tell_again(*name);
    }
    let channel = connection.channels.of_mut(kind);
    if heard.first {
        channel.ledger.answer_due = channel.subscription.is_wildcard();
        if heard.known_set.is_some_and(|set| set == channel.ledger.set_version()) {
            channel.ledger.tell_all_known();
            channel.ledger.answer_due = false;
            for name in channel.ledger.names() {
                if kind == ResourceType::Endpoint && connection.order.awaits(name) {
                    channel.ledger.tell_again(name);
                }
            }
        }
    }
}

fn refuse_size(connection: &Connection, kind: ResourceType) {
    tracing::warn!(proxy = %connection.proxy.id, r#type = kind.short(), "too many names: stream closed");
    let status = tonic::Status::resource_exhausted(format!(
        "more than {} names subscribed to in {}",
        limits::SUBSCRIBED_NAMES,
        kind.type_url()
    ));
    // If the channel is full the peer reads nothing; it will be refused by its next request.
    let _ = connection.outbound.try_send(Outgoing::Refusal(status));
}

/// Sends endpoints that are known to have changed.
fn overtake(metrics: &Metrics, connection: &mut Connection, now: Instant) {
    let room = connection.outbound.capacity();
    for send in connection.order.overtake(&mut connection.channels, now, room) {
        send_one(metrics, connection, send, None);
    }
}

/// Sends what may be sent now.
fn step(metrics: &Metrics, connection: &mut Connection, now: Instant, why: Option<&str>) {
    let room = connection.outbound.capacity();
    let (sends, wake) = connection.order.next(&mut connection.channels, now, room);
    connection.wake = wake;
    metrics.write_timeouts.add(std::mem::take(&mut connection.order.timeouts) as i64);
    for send in sends {
        send_one(metrics, connection, send, why);
    }
    if connection.behind_since.is_some() && connection.is_converged() {
        let since = connection.behind_since.take();
        let seconds = since.map_or(0.0, |since| now.saturating_duration_since(since).as_secs_f64());
        metrics.convergence.observe(seconds);
    }
}

fn send_one(metrics: &Metrics, connection: &Connection, send: Send, why: Option<&str>) {
    let label = Typed { r#type: send.kind.short() };
    let bytes: usize = send.batch.resources.iter().map(|(_, resource)| resource.size()).sum();
    metrics.pushes.get_or_create(&label).inc();
    metrics.config_size.get_or_create(&label).observe(bytes as f64);
    let (resources, removed) = (send.batch.resources.len(), send.batch.removed.len());
    let proxy = &connection.proxy.id;
    // A change has its own line, for all proxies; what a proxy asks for has a line per answer.
    match why {
        Some(why) => {
            tracing::info!(why, %proxy, r#type = send.kind.short(), resources, removed, bytes, "push");
        }
        None => tracing::debug!(%proxy, r#type = send.kind.short(), resources, removed, bytes, "sent"),
    }
    let version = match connection.transport {
        Transport::Delta => String::new(),
        Transport::World => connection.channels.of(send.kind).ledger.told_version().to_string(),
    };
    let response = Response {
        type_url: send.kind.type_url().to_owned(),
        nonce: send.nonce,
        version,
        resources: send.batch.resources,
        removed: send.batch.removed,
    };
    // There is room (it was asked for) unless the stream has ended, which its reader will report.
    let _ = connection.outbound.try_send(Outgoing::Response(response));
}
