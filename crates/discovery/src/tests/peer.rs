//! A peer that behaves as Envoy does: it subscribes to the endpoints of its clusters and to the routes of its
//! listeners, acknowledges what it takes, and is appalled when something it needs is not there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use ostro_names::Name;
use ostro_telemetry::Metrics;
use ostro_translate::ResourceType;
use tokio::sync::mpsc;

use super::toy::{self, Toy, World};
use crate::connection::{Outgoing, Response, Transport};
use crate::distributor::Change;
use crate::limits;
use crate::order::Timing;
use crate::push::Distributor;
use crate::resource::Version;
use crate::subscriptions::{Delta, Names, Request};

/// The route every peer with a listener subscribes to.
pub const ROUTE: &str = "route";

/// What a peer holds: type and name to bytes.
pub type Holdings = BTreeMap<(ResourceType, Name), Vec<u8>>;

/// A message that a peer took, for assertions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    pub kind: ResourceType,
    pub resources: Vec<&'static str>,
    pub removed: Vec<&'static str>,
}

/// One peer.
pub struct Peer {
    pub id: u32,
    pub transport: Transport,
    pub inbox: mpsc::Receiver<Outgoing>,
    pub has: Holdings,
    versions: BTreeMap<(ResourceType, Name), Version>,
    world_versions: BTreeMap<ResourceType, String>,
    nonces: BTreeMap<ResourceType, String>,
    subscribed: BTreeMap<ResourceType, BTreeSet<Name>>,
    /// Clusters that wait for endpoints.
    pub warming: BTreeSet<Name>,
    outbox: VecDeque<(ResourceType, Request)>,
    /// The answer about clusters, which Envoy does not give while one is warming.
    deferred: Option<Request>,
    pub log: Vec<Taken>,
    /// Checks that nothing refers to what is not there.
    pub strict: bool,
    /// Refuses responses of this type.
    pub refuses: Option<ResourceType>,
}

impl Peer {
    fn names(&self, subscribe: Vec<Name>, unsubscribe: Vec<Name>, star: bool, kind: ResourceType) -> Names {
        match self.transport {
            Transport::Delta => {
                Names::Delta(Delta { subscribe, subscribe_star: star, unsubscribe, ..Delta::default() })
            }
            Transport::World => Names::World {
                names: self.subscribed.get(&kind).into_iter().flatten().copied().collect(),
                star: false,
                version: self.world_versions.get(&kind).cloned().unwrap_or_default(),
            },
        }
    }

    /// Opens the wildcard types, telling what it has from an earlier stream.
    pub fn open(&mut self) {
        for kind in
            [ResourceType::Cluster, ResourceType::Endpoint, ResourceType::Listener, ResourceType::Route]
        {
            let names: Vec<Name> = self.subscribed.get(&kind).into_iter().flatten().copied().collect();
            if !kind.is_wildcard() && names.is_empty() {
                continue;
            }
            let mut wanted = self.names(names, vec![], kind.is_wildcard(), kind);
            if let Names::Delta(delta) = &mut wanted {
                let known = self.versions.iter().filter(|((of, _), _)| *of == kind);
                delta.known = known.map(|((_, name), version)| (*name, *version)).collect();
            }
            self.outbox.push_back((kind, Request { nonce: String::new(), refusal: None, names: wanted }));
        }
    }

    fn subscribe(&mut self, kind: ResourceType, subscribe: Vec<Name>, unsubscribe: Vec<Name>, nonce: &str) {
        let set = self.subscribed.entry(kind).or_default();
        set.extend(subscribe.iter().copied());
        for name in &unsubscribe {
            set.remove(name);
            self.has.remove(&(kind, *name));
            self.versions.remove(&(kind, *name));
        }
        let names = self.names(subscribe, unsubscribe, false, kind);
        self.outbox.push_back((kind, Request { nonce: nonce.to_owned(), refusal: None, names }));
    }

    /// Takes one response; what it answers is in the outbox afterwards.
    fn take(&mut self, mut response: Response) {
        let kind = ResourceType::from_type_url(&response.type_url).unwrap();
        let texts = |names: Vec<Name>| names.into_iter().map(Name::as_str).collect();
        self.nonces.insert(kind, response.nonce.clone());
        self.log.push(Taken {
            kind,
            resources: texts(response.resources.iter().map(|(name, _)| *name).collect()),
            removed: texts(response.removed.clone()),
        });
        if self.refuses == Some(kind) {
            let names = self.names(vec![], vec![], false, kind);
            let refusal = Some("I will not".to_owned());
            self.outbox.push_back((kind, Request { nonce: response.nonce, refusal, names }));
            return;
        }
        if !kind.is_wildcard() {
            // What it has unsubscribed from in the meantime it lets pass.
            let subscribed = self.subscribed.entry(kind).or_default();
            response.resources.retain(|(name, _)| subscribed.contains(name));
        }
        let mut removed = response.removed.clone();
        if self.transport == Transport::World && kind.is_wildcard() {
            let kept: BTreeSet<Name> = response.resources.iter().map(|(name, _)| *name).collect();
            let gone = self.has.keys().filter(|(of, name)| *of == kind && !kept.contains(name));
            removed.extend(gone.map(|(_, name)| *name).collect::<Vec<_>>());
        }
        let changed: Vec<Name> = response
            .resources
            .iter()
            .filter(|(name, resource)| {
                self.has.get(&(kind, *name)).is_none_or(|had| had[..] != resource.bytes.as_ref().unwrap()[..])
            })
            .map(|(name, _)| *name)
            .collect();
        for (name, resource) in &response.resources {
            self.has.insert((kind, *name), resource.bytes.as_ref().unwrap().to_vec());
            self.versions.insert((kind, *name), resource.version);
        }
        for name in &removed {
            self.has.remove(&(kind, *name));
            self.versions.remove(&(kind, *name));
        }
        self.world_versions.insert(kind, response.version.clone());
        let names = self.names(vec![], vec![], false, kind);
        let answer = Request { nonce: response.nonce.clone(), refusal: None, names };
        if kind == ResourceType::Cluster {
            self.deferred = Some(answer);
        } else {
            self.outbox.push_back((kind, answer));
        }
        self.react(kind, &changed, &removed, response.resources.iter().map(|(name, _)| *name));
        if self.warming.is_empty() {
            self.outbox.extend(self.deferred.take().map(|answer| (ResourceType::Cluster, answer)));
        }
        if self.strict {
            self.check(kind);
        }
    }

    fn react(
        &mut self,
        kind: ResourceType,
        changed: &[Name],
        removed: &[Name],
        told: impl Iterator<Item = Name>,
    ) {
        match kind {
            ResourceType::Cluster => {
                self.warming.extend(changed);
                let has = self.subscribed.get(&ResourceType::Endpoint).cloned().unwrap_or_default();
                let subscribe: Vec<Name> =
                    changed.iter().copied().filter(|name| !has.contains(name)).collect();
                for name in removed {
                    self.warming.remove(name);
                }
                let unsubscribe: Vec<Name> =
                    removed.iter().copied().filter(|name| has.contains(name)).collect();
                if !subscribe.is_empty() || !unsubscribe.is_empty() {
                    let nonce = self.nonce(ResourceType::Endpoint);
                    self.subscribe(ResourceType::Endpoint, subscribe, unsubscribe, &nonce);
                }
            }
            ResourceType::Endpoint => {
                for name in told {
                    self.warming.remove(&name);
                }
            }
            ResourceType::Listener => {
                let name = Name::new(ROUTE);
                let has =
                    self.subscribed.get(&ResourceType::Route).is_some_and(|names| names.contains(&name));
                if !has && !changed.is_empty() {
                    let nonce = self.nonce(ResourceType::Route);
                    self.subscribe(ResourceType::Route, vec![name], vec![], &nonce);
                }
            }
            ResourceType::Route => {}
        }
    }

    /// State of the world repeats the last nonce in every request; delta has none in a spontaneous one.
    fn nonce(&self, kind: ResourceType) -> String {
        match self.transport {
            Transport::Delta => String::new(),
            Transport::World => self.nonces.get(&kind).cloned().unwrap_or_default(),
        }
    }

    /// Whatever a route or listener leads to is there, and warm.
    fn check(&self, after: ResourceType) {
        for ((kind, name), bytes) in &self.has {
            if matches!(kind, ResourceType::Route | ResourceType::Listener) {
                for cluster in toy::leads_to(bytes) {
                    let there = self.has.contains_key(&(ResourceType::Cluster, cluster));
                    let warm = self.has.contains_key(&(ResourceType::Endpoint, cluster));
                    assert!(
                        there && warm,
                        "after {after:?}, {kind:?} {name} leads to {cluster}, there: {there}, warm: {warm}\n{:#?}",
                        self.log
                    );
                }
            }
        }
    }
}

/// A control plane and its peers, in one thread, at a time of the test's choosing.
pub struct Net {
    pub distributor: Distributor<Toy>,
    pub world: World,
    pub peers: BTreeMap<u32, Peer>,
    pub now: Instant,
    pub metrics: Metrics,
    next: u32,
}

impl Net {
    pub fn new(world: World) -> Net {
        let metrics = Metrics::new("test");
        Net {
            distributor: Distributor::new(Toy, world.clone().into(), Timing::default(), metrics.clone()),
            world,
            peers: BTreeMap::new(),
            now: Instant::now(),
            metrics,
            next: 0,
        }
    }

    /// Connects a new peer; its number.
    pub fn connect(&mut self, transport: Transport, namespace: &str) -> u32 {
        let (outbound, inbox) = mpsc::channel(limits::RESPONSES);
        let id = self.next;
        self.next += 1;
        self.distributor.connect(id, toy::proxy(id, namespace), transport, outbound);
        let mut peer = Peer {
            id,
            transport,
            inbox,
            has: Holdings::new(),
            versions: BTreeMap::new(),
            world_versions: BTreeMap::new(),
            nonces: BTreeMap::new(),
            subscribed: BTreeMap::new(),
            warming: BTreeSet::new(),
            outbox: VecDeque::new(),
            deferred: None,
            log: Vec::new(),
            strict: true,
            refuses: None,
        };
        peer.open();
        self.peers.insert(id, peer);
        id
    }

    /// The peer's stream breaks and it comes back with what it has, under a new number.
    pub fn reconnect(&mut self, id: u32, namespace: &str) -> u32 {
        let mut peer = self.peers.remove(&id).unwrap();
        self.distributor.disconnect(id);
        let (outbound, inbox) = mpsc::channel(limits::RESPONSES);
        peer.id = self.next;
        self.next += 1;
        self.distributor.connect(peer.id, toy::proxy(peer.id, namespace), peer.transport, outbound);
        peer.inbox = inbox;
        peer.outbox.clear();
        peer.deferred = None;
        peer.nonces.clear();
        // A stream that breaks between a cluster and its endpoints leaves it warming over endpoints that the peer has:
        // nobody can know of it, and Envoy ends it by itself after 15 s, the old cluster serving meanwhile.
        peer.warming.clear();
        peer.open();
        let id = peer.id;
        self.peers.insert(id, peer);
        id
    }

    /// Changes the world.
    pub fn change(&mut self, edit: impl FnOnce(&mut World)) {
        let before = self.world.clone();
        edit(&mut self.world);
        self.distributor.change(
            Change {
                world: self.world.clone().into(),
                keys: before.differing(&self.world),
                why: "test".into(),
                trigger: "config",
                arrived: self.now,
            },
            self.now,
        );
    }

    /// One step of one peer: it sends a request, or else takes a response. Whether there was anything to do.
    pub fn step(&mut self, id: u32) -> bool {
        let Some(peer) = self.peers.get_mut(&id) else { return false };
        if let Some((kind, request)) = peer.outbox.pop_front() {
            self.distributor.request(id, kind, request, self.now);
            return true;
        }
        match peer.inbox.try_recv() {
            Ok(Outgoing::Response(response)) => {
                peer.take(response);
                true
            }
            Ok(Outgoing::Refusal(status)) => panic!("refused: {status}"),
            Err(_) => false,
        }
    }

    /// Lets everything happen that happens without time passing.
    pub fn settle(&mut self) {
        let ids: Vec<u32> = self.peers.keys().copied().collect();
        // Every peer in turn, not only up to the first that does something.
        while ids.iter().filter(|id| self.step(**id)).count() > 0 {}
    }

    /// Lets time pass until the next deadline, if there is one within `limit`.
    pub fn pass(&mut self, limit: Duration) -> bool {
        match self.distributor.next_wake().filter(|at| *at <= self.now + limit) {
            Some(at) => {
                self.now = self.now.max(at);
                self.distributor.wake(self.now);
                self.settle();
                true
            }
            None => false,
        }
    }

    /// Lets everything happen, removals included.
    pub fn finish(&mut self) {
        self.settle();
        while self.pass(Timing::default().grace) {}
    }

    /// What peer `id` was told since the last time.
    pub fn told(&mut self, id: u32) -> Vec<Taken> {
        std::mem::take(&mut self.peers.get_mut(&id).unwrap().log)
    }
}
