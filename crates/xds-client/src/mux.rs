//! What is said on the stream: which requests, in which order, in either dialect.
//!
//! What it is: a state machine without a socket. It is told which names are wanted and which responses were answered how,
//! and gives out the next request when the stream can take one; so that many changes become one request. What it is not:
//! it knows no resource.
//!
//! Invariants:
//! * The node is in the first request of a stream only.
//! * Every response that was asked for is acknowledged or refused exactly once, by its nonce, on the stream it came by.
//! * On a new stream everything wanted is asked for again, and deltas say what is held in which version.
//! * What waits here is bounded by the names wanted and [`limits::ACKS`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::mem::take;
use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use envoy_types::pb::google::rpc::Status;

use crate::kind::Kind;
use crate::limits;

/// Which of the two dialects a stream speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Differences.
    Delta,
    /// All that was asked for, each time.
    World,
}

/// A request, ready to be sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// On a delta stream.
    Delta(DeltaDiscoveryRequest),
    /// On a state-of-the-world stream.
    World(DiscoveryRequest),
}

/// The gRPC code of a refusal (Envoy's: INTERNAL).
const REFUSED: i32 = 13;

/// The state. See the module.
#[derive(Debug)]
pub struct Mux {
    node: Node,
    /// None: there is no stream.
    dialect: Option<Dialect>,
    node_is_sent: bool,
    kinds: BTreeMap<Kind, Subscription>,
}

#[derive(Debug, Default)]
struct Subscription {
    /// All of the kind is asked for.
    all: bool,
    names: BTreeSet<Arc<str>>,
    /// Something was asked for on this stream.
    asked: bool,
    /// Names that the other end of the stream takes to be wanted.
    told: BTreeSet<Arc<str>>,
    /// What it has not been told yet. A name is in both only in the state of the world, where one that is asked for
    /// again must be seen to have been gone; a delta that asks again is answered again.
    add: BTreeSet<Arc<str>>,
    drop: BTreeSet<Arc<str>>,
    add_all: bool,
    answers: VecDeque<Answer>,
    /// Answers wait.
    held: bool,
    /// Of the state of the world: accepted last, and answered last on this stream.
    version: String,
    nonce: String,
}

#[derive(Debug)]
struct Answer {
    nonce: String,
    version: String,
    refusal: Option<String>,
}

impl Mux {
    /// Nothing is wanted, and there is no stream.
    pub fn new(node: Node) -> Mux {
        Mux { node, dialect: None, node_is_sent: false, kinds: BTreeMap::new() }
    }

    /// All of a kind is wanted.
    pub fn want_all(&mut self, kind: Kind) {
        let subscription = self.kinds.entry(kind).or_default();
        if !take_and_set(&mut subscription.all) {
            subscription.add_all = true;
        }
    }

    /// A name is wanted.
    pub fn want(&mut self, kind: Kind, name: &Arc<str>) {
        let is_world = self.dialect == Some(Dialect::World);
        let subscription = self.kinds.entry(kind).or_default();
        if subscription.names.insert(name.clone()) {
            subscription.add.insert(name.clone());
            if !is_world {
                subscription.drop.remove(name);
            }
        }
    }

    /// A name is no longer wanted.
    pub fn unwant(&mut self, kind: Kind, name: &Arc<str>) {
        let Some(subscription) = self.kinds.get_mut(&kind) else { return };
        if subscription.names.remove(name) {
            subscription.add.remove(name);
            if subscription.told.contains(name) {
                subscription.drop.insert(name.clone());
            }
        }
    }

    /// Lets answers of a kind wait, or no longer.
    pub fn hold(&mut self, kind: Kind, held: bool) {
        if let Some(subscription) = self.kinds.get_mut(&kind) {
            subscription.held = held;
        }
    }

    /// There is a new stream: everything is asked for anew.
    pub fn open(&mut self, dialect: Dialect) {
        self.dialect = Some(dialect);
        self.node_is_sent = false;
        for subscription in self.kinds.values_mut() {
            subscription.asked = false;
            subscription.add = subscription.names.clone();
            subscription.drop.clear();
            subscription.told.clear();
            subscription.add_all = subscription.all;
            subscription.answers.clear();
            subscription.nonce.clear();
        }
    }

    /// The stream is gone.
    pub fn close(&mut self) {
        self.dialect = None;
    }

    /// The kind of a response, if it was asked for on this stream.
    pub fn asked(&self, type_url: &str) -> Option<Kind> {
        self.kinds.iter().find(|(kind, s)| kind.url() == type_url && s.asked).map(|(kind, _)| *kind)
    }

    /// A response was taken; `refusal`: or not, and why.
    pub fn answer(&mut self, kind: Kind, nonce: String, version: String, refusal: Option<String>) {
        let Some(subscription) = self.kinds.get_mut(&kind) else { return };
        if self.dialect == Some(Dialect::World) {
            // Only the last response can be answered there.
            subscription.answers.clear();
        }
        subscription.answers.push_back(Answer { nonce, version, refusal });
    }

    /// Do so many answers wait that no further response should be read?
    pub fn is_full(&self) -> bool {
        self.kinds.values().any(|subscription| subscription.answers.len() >= limits::ACKS)
    }

    /// How many kinds have something to say.
    pub fn pending(&self) -> usize {
        match self.dialect {
            Some(_) => self.kinds.values().filter(|subscription| subscription.has_something()).count(),
            None => 0,
        }
    }

    /// The next request, if there is a stream and something to say. `held`: names and versions of a kind's resources
    /// that this control plane, or the one before it, has given.
    pub fn next(&mut self, held: impl Fn(Kind) -> BTreeMap<Arc<str>, Arc<str>>) -> Option<Request> {
        let dialect = self.dialect?;
        let (kind, subscription) =
            self.kinds.iter_mut().find(|(_, subscription)| subscription.has_something())?;
        let mut request = match dialect {
            Dialect::Delta => Request::Delta(subscription.delta(*kind, held)),
            Dialect::World => Request::World(subscription.world(*kind)),
        };
        if !take_and_set(&mut self.node_is_sent) {
            match &mut request {
                Request::Delta(request) => request.node = Some(self.node.clone()),
                Request::World(request) => request.node = Some(self.node.clone()),
            }
        }
        Some(request)
    }
}

/// Sets a flag; says what it was.
fn take_and_set(flag: &mut bool) -> bool {
    std::mem::replace(flag, true)
}

fn strings(names: impl IntoIterator<Item = Arc<str>>) -> Vec<String> {
    names.into_iter().map(|name| name.to_string()).collect()
}

fn refused(message: String) -> Status {
    Status { code: REFUSED, message, details: Vec::new() }
}

impl Subscription {
    fn has_something(&self) -> bool {
        self.may_answer() || self.add_all || !self.add.is_empty() || !self.drop.is_empty()
    }

    fn may_answer(&self) -> bool {
        !self.answers.is_empty() && (!self.held || self.answers.len() >= limits::ACKS)
    }

    /// Acknowledgements go alone, before what is new: a request without a nonce is answered with what it adds.
    fn delta(
        &mut self,
        kind: Kind,
        held: impl Fn(Kind) -> BTreeMap<Arc<str>, Arc<str>>,
    ) -> DeltaDiscoveryRequest {
        let mut request =
            DeltaDiscoveryRequest { type_url: kind.url().to_owned(), ..DeltaDiscoveryRequest::default() };
        if self.may_answer()
            && let Some(answer) = self.answers.pop_front()
        {
            request.response_nonce = answer.nonce;
            request.error_detail = answer.refusal.map(refused);
            return request;
        }
        let is_first = !take_and_set(&mut self.asked);
        if is_first {
            let versions = held(kind).into_iter().filter(|(name, _)| self.all || self.names.contains(name));
            request.initial_resource_versions =
                versions.map(|(name, version)| (name.to_string(), version.to_string())).collect();
        }
        let (add, drop) = (take(&mut self.add), take(&mut self.drop));
        self.told.extend(add.iter().cloned());
        self.told.retain(|name| !drop.contains(name));
        request.resource_names_subscribe = strings(add);
        request.resource_names_unsubscribe = strings(drop);
        // A first request that names nothing asks for all, which control planes have understood for longer than `*`.
        let named = !request.resource_names_subscribe.is_empty();
        if take(&mut self.add_all) && (named || !is_first) {
            request.resource_names_subscribe.push("*".to_owned());
        }
        request
    }

    /// One request says all: what is wanted, and what became of the last response.
    fn world(&mut self, kind: Kind) -> DiscoveryRequest {
        self.asked = true;
        let mut error_detail = None;
        if self.may_answer()
            && let Some(answer) = self.answers.pop_back()
        {
            self.nonce = answer.nonce;
            match answer.refusal {
                None => self.version = answer.version,
                Some(reason) => error_detail = Some(refused(reason)),
            }
        }
        // First without those that are asked for again.
        let dropped = take(&mut self.drop);
        self.told = self.names.iter().filter(|name| !dropped.contains(*name)).cloned().collect();
        let mut names = strings(self.told.iter().cloned());
        self.add.retain(|name| dropped.contains(name));
        self.add_all = false;
        if self.all && !names.is_empty() {
            names.push("*".to_owned());
        }
        DiscoveryRequest {
            version_info: self.version.clone(),
            resource_names: names,
            type_url: kind.url().to_owned(),
            response_nonce: self.nonce.clone(),
            error_detail,
            ..DiscoveryRequest::default()
        }
    }
}

#[cfg(test)]
mod tests;
