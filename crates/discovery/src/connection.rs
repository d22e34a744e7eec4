//! One connected proxy: who it is, what it subscribes to, and what it is still to be told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use ostro_mesh::Proxy;
use ostro_names::Name;
use ostro_translate::{Part, ResourceType};
use tokio::sync::mpsc;

use crate::answers::Answers;
use crate::item::{Named, Rostered};
use crate::ledger::{Ledger, Telling};
use crate::order::{Channel, Channels, Order, Timing};
use crate::resource::Resource;
use crate::subscriptions::Subscription;

/// The transport of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Delta,
    World,
}

/// A response on its way to the stream's writer.
#[derive(Debug)]
pub(crate) struct Response {
    pub type_url: String,
    pub nonce: String,
    /// Delta: informative. State of the world: the version of the set.
    pub version: String,
    pub resources: Vec<(Name, Arc<Resource>)>,
    pub removed: Vec<Name>,
}

/// What a stream's writer is given.
#[derive(Debug)]
pub(crate) enum Outgoing {
    Response(Response),
    /// The last word.
    Refusal(tonic::Status),
}

/// The membership of a wildcard type, as this connection resolved it.
#[derive(Debug)]
pub(crate) struct Membership {
    pub roster: Arc<Rostered>,
    pub parts: BTreeMap<Part, Arc<Named>>,
}

/// A connected proxy.
#[derive(Debug)]
pub(crate) struct Connection {
    pub id: u32,
    pub proxy: Arc<Proxy>,
    pub transport: Transport,
    pub since: SystemTime,
    pub channels: Channels,
    pub clusters: Option<Membership>,
    pub listeners: Option<Membership>,
    pub order: Order,
    /// What it answered.
    pub answers: Answers,
    pub outbound: mpsc::Sender<Outgoing>,
    /// When the oldest change arrived that it does not have yet.
    pub behind_since: Option<Instant>,
    /// When to look at it again.
    pub wake: Option<Instant>,
}

impl Connection {
    pub fn new(
        id: u32,
        proxy: Arc<Proxy>,
        transport: Transport,
        outbound: mpsc::Sender<Outgoing>,
        timing: Timing,
    ) -> Self {
        let channel = |kind: ResourceType| {
            let telling = match (transport, kind.is_wildcard()) {
                (Transport::Delta, _) => Telling::Delta,
                (Transport::World, true) => Telling::Whole,
                (Transport::World, false) => Telling::Named,
            };
            Channel {
                subscription: Subscription::new(kind.is_wildcard()),
                ledger: Ledger::new(telling, kind.is_wildcard()),
            }
        };
        Connection {
            id,
            proxy,
            transport,
            since: SystemTime::now(),
            channels: Channels {
                clusters: channel(ResourceType::Cluster),
                endpoints: channel(ResourceType::Endpoint),
                listeners: channel(ResourceType::Listener),
                routes: channel(ResourceType::Route),
            },
            clusters: None,
            listeners: None,
            order: Order::new(timing),
            answers: Answers::default(),
            outbound,
            behind_since: None,
            wake: None,
        }
    }

    /// The membership of a wildcard type, if it is subscribed to whole.
    pub fn membership(&mut self, kind: ResourceType) -> Option<&mut Membership> {
        match kind {
            ResourceType::Cluster => self.clusters.as_mut(),
            ResourceType::Listener => self.listeners.as_mut(),
            ResourceType::Endpoint | ResourceType::Route => None,
        }
    }

    /// Replaces the membership of a wildcard type.
    pub fn set_membership(
        &mut self,
        kind: ResourceType,
        membership: Option<Membership>,
    ) -> Option<Membership> {
        match kind {
            ResourceType::Cluster => std::mem::replace(&mut self.clusters, membership),
            ResourceType::Listener => std::mem::replace(&mut self.listeners, membership),
            ResourceType::Endpoint | ResourceType::Route => None,
        }
    }

    /// Whether it has everything, acknowledged.
    pub fn is_converged(&self) -> bool {
        ResourceType::ALL.into_iter().all(|kind| {
            let channel = self.channels.of(kind);
            channel.subscription.in_flight().is_none() && channel.ledger.counts().1 == 0
        })
    }
}
