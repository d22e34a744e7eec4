//! In which order one connection is told what it should have: make before break, as the xDS protocol describes
//! it for Envoy ("eventual consistency considerations"), with an acknowledgement between the steps.
//!
//! - endpoints go first and wait for nothing: an endpoint that is gone must not wait behind anything;
//! - then clusters that are new or changed, each followed by its endpoints, changed or not (Envoy keeps it warming
//!   otherwise);
//! - when those are acknowledged, endpoints included, listeners; when those are acknowledged, routes;
//! - when those are acknowledged, removals: listeners, and last clusters, after a grace in which requests that were routed
//!   before the change find theirs.
//!
//! No I/O and no clock: the time is an argument, and what has to be looked at again later is said by [`Order::next`].
//!
//! Invariant: every wait is bounded by [`Timing`]; a peer that never answers is told everything all the same.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use ostro_names::Name;
use ostro_translate::ResourceType;

use crate::ledger::{self, Batch, Ledger};
use crate::subscriptions::Subscription;

/// How long one thing waits for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// For the answer to a response. An Envoy takes 11 s to swallow 20,000 clusters.
    pub acknowledgement: Duration,
    /// For a peer to ask for, and acknowledge, the endpoints of a cluster it was sent.
    pub endpoints: Duration,
    /// From the moment no route refers to a cluster until it is removed: retries and delayed requests still want it.
    pub grace: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Timing {
            acknowledgement: Duration::from_secs(30),
            endpoints: Duration::from_secs(5),
            grace: Duration::from_secs(1),
        }
    }
}

/// One type of one connection.
#[derive(Debug)]
pub(crate) struct Channel {
    pub subscription: Subscription,
    pub ledger: Ledger,
}

/// The four types of a connection.
#[derive(Debug)]
pub(crate) struct Channels {
    pub clusters: Channel,
    pub endpoints: Channel,
    pub listeners: Channel,
    pub routes: Channel,
}

impl Channels {
    pub fn of(&self, kind: ResourceType) -> &Channel {
        match kind {
            ResourceType::Cluster => &self.clusters,
            ResourceType::Endpoint => &self.endpoints,
            ResourceType::Listener => &self.listeners,
            ResourceType::Route => &self.routes,
        }
    }

    pub fn of_mut(&mut self, kind: ResourceType) -> &mut Channel {
        match kind {
            ResourceType::Cluster => &mut self.clusters,
            ResourceType::Endpoint => &mut self.endpoints,
            ResourceType::Listener => &mut self.listeners,
            ResourceType::Route => &mut self.routes,
        }
    }
}

/// A response to be sent.
#[derive(Debug)]
pub(crate) struct Send {
    pub kind: ResourceType,
    pub nonce: String,
    pub batch: Batch,
}

/// Endpoints that a cluster waits for.
#[derive(Debug)]
struct Awaited {
    /// When to wait no longer.
    until: Instant,
    /// They were sent after the cluster: the answer to that is what is waited for.
    followed: bool,
}

/// What a connection waits for.
#[derive(Debug, Default)]
pub(crate) struct Order {
    timing: Timing,
    /// Endpoints that clusters sent need.
    awaited: HashMap<Name, Awaited>,
    /// Endpoints of clusters that were told gone, and until when to wait for the peer to unsubscribe.
    leaving: HashMap<Name, Instant>,
    /// Since when nothing is to be told or acknowledged but removals of clusters.
    quiet_since: Option<Instant>,
    /// Responses that were given up, to be counted by the caller.
    pub timeouts: u64,
}

impl Order {
    pub fn new(timing: Timing) -> Self {
        Order { timing, ..Order::default() }
    }

    /// Whether a cluster that was sent needs these endpoints.
    pub fn awaits(&self, endpoints: Name) -> bool {
        self.awaited.contains_key(&endpoints)
    }

    /// The peer has accepted or refused a response with these names.
    pub fn answered(&mut self, channels: &Channels, kind: ResourceType, names: &[Name], accepted: bool) {
        match kind {
            ResourceType::Endpoint => {
                for name in names {
                    if self.awaited.get(name).is_some_and(|awaited| awaited.followed) {
                        self.awaited.remove(name);
                    }
                }
            }
            ResourceType::Cluster if !accepted => {
                for name in names {
                    let resource = channels.clusters.ledger.wanted(*name);
                    if let Some(endpoints) = resource.and_then(|resource| resource.endpoints) {
                        self.awaited.remove(&endpoints);
                    }
                }
            }
            _ => {}
        }
    }

    /// The endpoints that may be sent now, before it is known what else is to be sent.
    pub fn overtake(&mut self, channels: &mut Channels, now: Instant, room: usize) -> Vec<Send> {
        let mut turn = Turn { sends: Vec::new(), room, now };
        self.endpoints(channels, &mut turn, true);
        turn.sends
    }

    /// The responses that may be sent now, at most `room`, and when to ask again if nothing happens.
    pub fn next(
        &mut self,
        channels: &mut Channels,
        now: Instant,
        room: usize,
    ) -> (Vec<Send>, Option<Instant>) {
        let mut turn = Turn { sends: Vec::new(), room, now };
        self.expire(channels, now);
        self.endpoints(channels, &mut turn, true);
        self.clusters(channels, &mut turn);
        self.endpoints(channels, &mut turn, false);
        let mut wake = None;
        let settled =
            |channel: &Channel| channel.subscription.in_flight().is_none() && !channel.ledger.has_upserts();
        if settled(&channels.clusters) && !self.awaits_endpoints(channels) {
            turn.upserts(&mut channels.listeners, ResourceType::Listener);
            if settled(&channels.listeners) {
                turn.upserts(&mut channels.routes, ResourceType::Route);
                if settled(&channels.routes) {
                    wake = self.removals(channels, &mut turn);
                }
            }
        }
        if !self.is_quiet(channels) {
            self.quiet_since = None;
        }
        (turn.sends, [wake, self.deadline(channels)].into_iter().flatten().min())
    }

    /// Forgets what has been waited for long enough.
    fn expire(&mut self, channels: &mut Channels, now: Instant) {
        for kind in ResourceType::ALL {
            let subscription = &mut channels.of_mut(kind).subscription;
            let late = subscription.in_flight().is_some_and(|f| now >= f.since + self.timing.acknowledgement);
            if late {
                subscription.give_up();
                self.timeouts += 1;
            }
        }
        self.awaited.retain(|_, awaited| now < awaited.until);
        self.leaving.retain(|name, deadline| now < *deadline && channels.endpoints.subscription.has(*name));
    }

    /// Whether a cluster that stays still needs its endpoints: they are awaited, or asked for and not told. (A peer that
    /// comes back may have a cluster from its last stream, and not yet the endpoints.) One that is about to go gets none:
    /// they are held back.
    fn awaits_endpoints(&self, channels: &Channels) -> bool {
        let clusters = &channels.clusters.ledger;
        self.awaited.keys().any(|name| !clusters.will_remove(*name))
            || channels
                .endpoints
                .ledger
                .untold()
                .any(|name| clusters.wanted(name).is_some_and(|cluster| cluster.bytes.is_some()))
    }

    /// Sends endpoints. Those of a cluster that is about to be removed stay as they are until the peer has let them go:
    /// what would be sent is the emptiness of something unknown, while routes may still lead there. But if the cluster
    /// was sent and waits for them it gets them once more as they are: Envoy takes no other clusters while it
    /// warms one. In the first round, those of a cluster that is about to be sent wait to follow it.
    fn endpoints(&mut self, channels: &mut Channels, turn: &mut Turn, first_round: bool) {
        if !turn.may_send(&channels.endpoints) {
            return;
        }
        let clusters_next = first_round && turn.may_send(&channels.clusters);
        let clusters = &channels.clusters.ledger;
        let untold: Vec<Name> = channels.endpoints.ledger.untold().collect();
        let batch = channels.endpoints.ledger.take_upserts(|name| {
            // Istio names a load assignment after its cluster.
            let leaves = clusters.will_remove(name) || self.leaving.contains_key(&name);
            let warms = self.awaited.get(&name).is_some_and(|awaited| !awaited.followed);
            match (leaves, warms) {
                (true, true) => ledger::Turn::Repeat,
                (true, false) => ledger::Turn::Wait,
                (false, _) if clusters_next && clusters.will_upsert(name) => ledger::Turn::Wait,
                (false, _) => ledger::Turn::Tell,
            }
        });
        let until = turn.now + self.timing.endpoints;
        for name in untold.iter().filter(|name| clusters.wanted(**name).is_some()) {
            self.awaited.entry(*name).or_insert(Awaited { until, followed: false });
        }
        for (name, _) in batch.iter().flat_map(|batch| &batch.resources) {
            if let Some(awaited) = self.awaited.get_mut(name) {
                awaited.followed = true;
            }
        }
        turn.send(&mut channels.endpoints, ResourceType::Endpoint, batch);
    }

    /// Sends clusters; their endpoints are to follow.
    fn clusters(&mut self, channels: &mut Channels, turn: &mut Turn) {
        let Some(sent) = turn.upserts(&mut channels.clusters, ResourceType::Cluster) else { return };
        for endpoints in sent {
            let until = turn.now + self.timing.endpoints;
            self.awaited.insert(endpoints, Awaited { until, followed: false });
            self.leaving.remove(&endpoints);
            channels.endpoints.ledger.tell_again(endpoints);
        }
    }

    /// Nothing is to be added anywhere: removals may go. When to ask again, if the grace is not over.
    fn removals(&mut self, channels: &mut Channels, turn: &mut Turn) -> Option<Instant> {
        turn.removals(&mut channels.listeners, ResourceType::Listener);
        if !self.is_quiet(channels) {
            return None;
        }
        let over = *self.quiet_since.get_or_insert(turn.now) + self.timing.grace;
        if !channels.clusters.ledger.has_removals() {
            return None;
        }
        if turn.now < over {
            return Some(over);
        }
        for name in turn.removals(&mut channels.clusters, ResourceType::Cluster) {
            self.leaving.insert(name, turn.now + self.timing.endpoints);
            self.awaited.remove(&name);
        }
        None
    }

    /// Whether neither listeners nor routes are being changed.
    fn is_quiet(&self, channels: &Channels) -> bool {
        [&channels.listeners, &channels.routes].into_iter().all(|channel| {
            channel.subscription.in_flight().is_none()
                && !channel.ledger.has_upserts()
                && !channel.ledger.has_removals()
        })
    }

    fn deadline(&self, channels: &Channels) -> Option<Instant> {
        let flights =
            ResourceType::ALL.into_iter().filter_map(|kind| channels.of(kind).subscription.in_flight());
        let answers = flights.map(|flight| flight.since + self.timing.acknowledgement);
        answers
            .chain(self.awaited.values().map(|awaited| awaited.until))
            .chain(self.leaving.values().copied())
            .min()
    }
}

/// The responses of one look at a connection.
struct Turn {
    sends: Vec<Send>,
    room: usize,
    now: Instant,
}

impl Turn {
    fn may_send(&self, channel: &Channel) -> bool {
        self.sends.len() < self.room
            && channel.subscription.started()
            && channel.subscription.in_flight().is_none()
    }

    /// Sends what is new or changed; if anything was sent, the endpoints that it waits for.
    fn upserts(&mut self, channel: &mut Channel, kind: ResourceType) -> Option<Vec<Name>> {
        if !self.may_send(channel) {
            return None;
        }
        let mut batch = channel.ledger.take_upserts(|_| ledger::Turn::Tell)?;
        let endpoints = std::mem::take(&mut batch.endpoints);
        self.send(channel, kind, Some(batch));
        Some(endpoints)
    }

    /// Sends removals; which.
    fn removals(&mut self, channel: &mut Channel, kind: ResourceType) -> Vec<Name> {
        if !self.may_send(channel) {
            return Vec::new();
        }
        let batch = channel.ledger.take_removals();
        let gone = batch.as_ref().map(|batch| batch.gone.clone()).unwrap_or_default();
        self.send(channel, kind, batch);
        gone
    }

    fn send(&mut self, channel: &mut Channel, kind: ResourceType, batch: Option<Batch>) {
        let Some(batch) = batch else { return };
        let names = batch.resources.iter().map(|(name, _)| *name).collect();
        let nonce = channel.subscription.send(names, self.now);
        self.sends.push(Send { kind, nonce, batch });
    }
}
