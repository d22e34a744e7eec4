//! A second control plane: a few hundred lines that serve whatever resources they are given over ADS, in both dialects,
//! and remember what became of each.
//!
//! What it is: a stranger to our data plane. It shares no code with `ostro-discovery`, keeps no order but that of its
//! changes, and judges nothing. What it is not: a control plane for anybody; everything that it ever served to its one
//! client is remembered.
//!
//! Invariants:
//! * Each change is told in responses of its own, whatever comes after it (deltas); the state of the world is told as it
//!   is when its turn comes.
//! * A change counts as settled when all that was sent for it, and everything sent before, has been answered.

mod session;
mod stream;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::AggregatedDiscoveryServiceServer;
use ostro_translate::ResourceType;
use prost::{Message, Name};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;

use session::Key;

/// A resource as the wire has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Its type.
    pub kind: ResourceType,
    /// Its name.
    pub name: String,
    /// The message.
    pub bytes: Bytes,
}

impl Resource {
    /// A message under a name.
    ///
    /// # Panics
    /// If it is none of the four kinds.
    pub fn new<M: Message + Name>(name: &str, message: &M) -> Resource {
        let kind = ResourceType::from_type_url(&M::type_url()).expect("one of the four kinds");
        Resource { kind, name: name.to_owned(), bytes: message.encode_to_vec().into() }
    }
}

/// What is put, and what is taken away, at once.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// New, or new versions.
    pub put: Vec<Resource>,
    /// Gone.
    pub remove: Vec<(ResourceType, String)>,
}

/// A response that the client refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Of what.
    pub kind: ResourceType,
    /// All that was in the response.
    pub names: Vec<String>,
    /// The client's words.
    pub message: String,
}

/// What the client has said so far.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// Resources whose last response was acknowledged.
    pub accepted: BTreeSet<Key>,
    /// Responses that were refused, in order.
    pub refused: Vec<Refused>,
    /// Responses that were acknowledged.
    pub acknowledged: u64,
    /// Changes up to this one are settled, as long as there is a stream.
    pub settled: u64,
    /// Streams that were opened.
    pub streams: u64,
}

/// One change, as it is told.
struct Logged {
    change: u64,
    /// The new content; none: gone.
    what: Vec<(Key, Option<Bytes>)>,
}

#[derive(Default)]
struct State {
    /// What there is now, and which change made it so.
    resources: BTreeMap<Key, (u64, Bytes)>,
    log: Vec<Logged>,
    change: u64,
}

struct Shared {
    state: Mutex<State>,
    latest: watch::Sender<u64>,
    answers: watch::Sender<Answers>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A control plane that serves until it is dropped.
pub struct ControlPlane {
    shared: Arc<Shared>,
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl ControlPlane {
    /// Serves nothing yet, on loopback.
    pub async fn start() -> ControlPlane {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            latest: watch::Sender::new(0),
            answers: watch::Sender::new(Answers::default()),
        });
        let service = AggregatedDiscoveryServiceServer::new(stream::Service(shared.clone()))
            .max_encoding_message_size(usize::MAX);
        let server = tonic::transport::Server::builder().add_service(service);
        let task = tokio::spawn(async move {
            server.serve_with_incoming(TcpListenerStream::new(listener)).await.expect("serving");
        });
        ControlPlane { shared, address, task }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Makes a change; its number. What is put as it was is not told again.
    pub fn apply(&self, change: Change) -> u64 {
        let mut state = self.shared.state();
        let number = state.change + 1;
        let mut what = Vec::new();
        for Resource { kind, name, bytes } in change.put {
            let key = (kind, name);
            if state.resources.get(&key).is_none_or(|(_, before)| *before != bytes) {
                state.resources.insert(key.clone(), (number, bytes.clone()));
                what.push((key, Some(bytes)));
            }
        }
        for key in change.remove {
            if state.resources.remove(&key).is_some() {
                what.push((key, None));
            }
        }
        state.change = number;
        state.log.push(Logged { change: number, what });
        drop(state);
        self.shared.latest.send_replace(number);
        number
    }

    /// Makes these the only resources there are.
    pub fn replace(&self, resources: Vec<Resource>) -> u64 {
        let kept: BTreeSet<Key> = resources.iter().map(|one| (one.kind, one.name.clone())).collect();
        let state = self.shared.state();
        let remove = state.resources.keys().filter(|key| !kept.contains(*key)).cloned().collect();
        drop(state);
        self.apply(Change { put: resources, remove })
    }

    /// What the client has said so far.
    pub fn answers(&self) -> Answers {
        self.shared.answers.borrow().clone()
    }

    /// Looks at what the client has said so far.
    pub fn look<T>(&self, at: impl FnOnce(&Answers) -> T) -> T {
        at(&self.shared.answers.borrow())
    }

    /// Waits until the client has said what fulfils `condition`.
    pub async fn until(&self, condition: impl FnMut(&Answers) -> bool) {
        let mut answers = self.shared.answers.subscribe();
        answers.wait_for(condition).await.expect("the control plane is there");
    }

    /// Waits until a change is settled.
    pub async fn settled(&self, change: u64) {
        self.until(|answers| answers.settled >= change).await;
    }

    /// Waits until the last word on each resource that there is now has been said: it is accepted, or a response with it
    /// was refused.
    pub async fn answered(&self, change: u64) {
        let all: Vec<Key> = self.shared.state().resources.keys().cloned().collect();
        self.until(|answers| {
            let refused: BTreeSet<&str> =
                answers.refused.iter().flat_map(|refused| &refused.names).map(String::as_str).collect();
            answers.settled >= change
                && all.iter().all(|key| answers.accepted.contains(key) || refused.contains(key.1.as_str()))
        })
        .await;
    }

    /// Waits until this change was answered and something of it refused, beyond the `before` refusals of earlier ones. What
    /// only the refused refers to is never asked for, and so never answered.
    pub async fn refused(&self, change: u64, before: usize) {
        self.until(|answers| answers.settled >= change && answers.refused.len() > before).await;
    }
}
