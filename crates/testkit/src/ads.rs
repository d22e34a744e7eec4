//! A proxy as far as ADS goes: an eager client over delta ADS that subscribes as Envoy does (clusters and listeners
//! whole; the endpoints that clusters name; the routes that listeners name), acknowledges, and remembers what it was
//! told.
//!
//! Not an Envoy: it accepts everything, and keeps its own order only as far as one resource names another.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::config::listener::v3::filter::ConfigType;
use envoy_types::pb::envoy::config::listener::v3::{FilterChain, Listener};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::RouteSpecifier;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use ostro_discovery::{Generator, Translator};
use ostro_names::Name;
use ostro_translate::ResourceType;
use prost::Message;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnboundedReceiverStream;

/// What a client has of one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// As the server calls it.
    pub version: Box<str>,
    /// The encoded message; empty if the client keeps none.
    pub bytes: Bytes,
}

/// A response, as far as tests judge it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// Its type.
    pub kind: ResourceType,
    /// Names of the resources in it, in their order.
    pub resources: Vec<String>,
    /// Names taken away.
    pub removed: Vec<String>,
    /// Bytes of the resources.
    pub bytes: usize,
}

/// Everything that a client has, by type and name.
pub type Holding = BTreeMap<(ResourceType, Name), Held>;

/// Which names a resource refers to, worked out once for all clients that have it.
#[derive(Debug, Default)]
pub struct References(Mutex<HashMap<Version, Arc<Vec<Name>>>>);

/// One version of one resource.
type Version = (ResourceType, Name, Box<str>);

impl References {
    fn of(&self, kind: ResourceType, name: Name, version: &str, bytes: &[u8]) -> Arc<Vec<Name>> {
        let mut known = self.0.lock().unwrap();
        let key = (kind, name, Box::from(version));
        known.entry(key).or_insert_with(|| Arc::new(references(kind, bytes))).clone()
    }
}

/// The names that a resource refers to: endpoints of clusters, routes of listeners.
pub fn references(kind: ResourceType, bytes: &[u8]) -> Vec<Name> {
    match kind {
        ResourceType::Cluster => {
            Cluster::decode(bytes).expect("a cluster");
            Translator.endpoints_of(&Bytes::copy_from_slice(bytes)).into_iter().collect()
        }
        ResourceType::Listener => {
            let listener = Listener::decode(bytes).expect("a listener");
            let chains = listener.filter_chains.iter().chain(&listener.default_filter_chain);
            let names: BTreeSet<Name> = chains.flat_map(routes_of).collect();
            names.into_iter().collect()
        }
        ResourceType::Endpoint | ResourceType::Route => Vec::new(),
    }
}

fn routes_of(chain: &FilterChain) -> Vec<Name> {
    let route = |config: &ConfigType| {
        let ConfigType::TypedConfig(any) = config else { return None };
        if !any.type_url.ends_with(".HttpConnectionManager") {
            return None;
        }
        match HttpConnectionManager::decode(any.value.as_slice()).expect("an HTTP filter").route_specifier? {
            RouteSpecifier::Rds(rds) => Some(Name::new(&rds.route_config_name)),
            _ => None,
        }
    };
    chain.filters.iter().filter_map(|filter| route(filter.config_type.as_ref()?)).collect()
}

/// A node id as sidecars have it.
pub fn sidecar_node(address: std::net::IpAddr, pod: &str, namespace: &str) -> Node {
    Node {
        id: format!("sidecar~{address}~{pod}.{namespace}~{namespace}.svc.cluster.local"),
        ..Node::default()
    }
}

/// A connected client; it disconnects when dropped.
pub struct Client {
    state: Arc<Mutex<State>>,
    responses: watch::Receiver<u64>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    held: Holding,
    heard: Vec<Heard>,
    /// Types of which there was a response.
    told: BTreeSet<ResourceType>,
    /// How many resources name each that is subscribed by name.
    wanted: HashMap<(ResourceType, Name), usize>,
    keeps_bytes: bool,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Client {
    /// Connects. `held` is what the client has from before; `keeps_bytes` says whether it remembers the resources
    /// themselves, or only their versions.
    pub async fn connect(
        server: SocketAddr,
        node: Node,
        held: Holding,
        references: Arc<References>,
        keeps_bytes: bool,
    ) -> Client {
        let mut ads = AggregatedDiscoveryServiceClient::connect(format!("http://{server}"))
            .await
            .expect("a control plane")
            .max_decoding_message_size(usize::MAX);
        #[allow(clippy::disallowed_methods, reason = "a handful of requests for each response that was read")]
        let (requests, outbox) = mpsc::unbounded_channel();
        let mut state = State { held, keeps_bytes, ..State::default() };
        state.resume(&references);
        for (request, first) in state.opening().into_iter().zip([true, false, false, false]) {
            let node = first.then(|| node.clone());
            requests.send(DeltaDiscoveryRequest { node, ..request }).expect("the stream's own channel");
        }
        let stream =
            ads.delta_aggregated_resources(UnboundedReceiverStream::new(outbox)).await.expect("a stream");
        let state = Arc::new(Mutex::new(state));
        let (count, responses) = watch::channel(0);
        let task = tokio::spawn({
            let state = state.clone();
            let mut stream = stream.into_inner();
            async move {
                while let Some(Ok(response)) = stream.next().await {
                    let replies = state.lock().unwrap().take(response, &references);
                    for reply in replies {
                        if requests.send(reply).is_err() {
                            return;
                        }
                    }
                    count.send_modify(|count| *count += 1);
                }
            }
        });
        Client { state, responses, task }
    }

    /// What the client has now.
    pub fn held(&self) -> Holding {
        self.state.lock().unwrap().held.clone()
    }

    /// What it was told since this was last asked.
    pub fn heard(&self) -> Vec<Heard> {
        std::mem::take(&mut self.state.lock().unwrap().heard)
    }

    /// How many responses it was ever sent.
    pub fn responses(&self) -> u64 {
        *self.responses.borrow()
    }

    /// Whether the client has been told its clusters and listeners, and everything that they name.
    pub fn is_complete(&self) -> bool {
        let state = self.state.lock().unwrap();
        let whole =
            [ResourceType::Cluster, ResourceType::Listener].iter().all(|kind| state.told.contains(kind));
        whole && state.wanted.keys().all(|named| state.held.contains_key(named))
    }

    /// Waits until what the client has fulfils `condition`; `false` if the server is gone before.
    pub async fn until(&self, condition: impl Fn(&Holding) -> bool) -> bool {
        let mut responses = self.responses.clone();
        responses.wait_for(|_| condition(&self.state.lock().unwrap().held)).await.is_ok()
    }
}

impl State {
    /// Counts what the resources from before refer to.
    fn resume(&mut self, references: &References) {
        let held = self.held.clone();
        for ((kind, name), resource) in &held {
            self.count(
                *kind,
                &references.of(*kind, *name, &resource.version, &resource.bytes),
                1,
                &mut Vec::new(),
            );
        }
    }

    /// The first request of each type.
    fn opening(&self) -> Vec<DeltaDiscoveryRequest> {
        let request = |kind: ResourceType| {
            let versions = self.held.iter().filter(|((of, _), _)| *of == kind);
            let wanted: BTreeSet<&str> =
                self.wanted.keys().filter(|(of, _)| *of == kind).map(|(_, name)| name.as_str()).collect();
            DeltaDiscoveryRequest {
                type_url: kind.type_url().to_owned(),
                resource_names_subscribe: wanted.into_iter().map(str::to_owned).collect(),
                initial_resource_versions: versions
                    .map(|((_, name), held)| (name.as_str().to_owned(), held.version.to_string()))
                    .collect(),
                ..DeltaDiscoveryRequest::default()
            }
        };
        let used = |request: &DeltaDiscoveryRequest, kind: ResourceType| {
            kind.is_wildcard() || !request.resource_names_subscribe.is_empty()
        };
        let all = ResourceType::ALL.into_iter().map(|kind| (request(kind), kind));
        all.filter(|(request, kind)| used(request, *kind)).map(|(request, _)| request).collect()
    }

    /// Takes a response; returns the acknowledgement and what it makes the client ask for.
    fn take(
        &mut self,
        response: DeltaDiscoveryResponse,
        references: &References,
    ) -> Vec<DeltaDiscoveryRequest> {
        let kind = ResourceType::from_type_url(&response.type_url).expect("a type that was asked for");
        let acknowledgement = DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            ..DeltaDiscoveryRequest::default()
        };
        let mut heard =
            Heard { kind, resources: Vec::new(), removed: response.removed_resources.clone(), bytes: 0 };
        let mut moved = Vec::new();
        for resource in response.resources {
            let bytes = resource.resource.map(|any| any.value).unwrap_or_default();
            let name = Name::new(&resource.name);
            heard.bytes += bytes.len();
            heard.resources.push(resource.name);
            // As in Envoy: what was asked for no longer when the response was under way is passed over.
            if !kind.is_wildcard() && !self.wanted.contains_key(&(kind, name)) {
                continue;
            }
            let now = references.of(kind, name, &resource.version, &bytes);
            self.count(kind, &now, 1, &mut moved);
            let bytes = if self.keeps_bytes { Bytes::from(bytes) } else { Bytes::new() };
            let held = Held { version: resource.version.into(), bytes };
            if let Some(old) = self.held.insert((kind, name), held) {
                self.count(kind, &references.of(kind, name, &old.version, &old.bytes), -1, &mut moved);
            }
        }
        for name in &response.removed_resources {
            let name = Name::new(name);
            if let Some(old) = self.held.remove(&(kind, name)) {
                self.count(kind, &references.of(kind, name, &old.version, &old.bytes), -1, &mut moved);
            }
        }
        self.heard.push(heard);
        self.told.insert(kind);
        std::iter::once(acknowledgement).chain(self.resubscribe(moved)).collect()
    }

    /// Counts references up or down; names what may now be wanted or not.
    fn count(
        &mut self,
        from: ResourceType,
        names: &[Name],
        by: i32,
        moved: &mut Vec<(ResourceType, Name, bool)>,
    ) {
        let kind = if from == ResourceType::Cluster { ResourceType::Endpoint } else { ResourceType::Route };
        for name in names {
            let count = self.wanted.entry((kind, *name)).or_default();
            let before = *count > 0;
            *count = count.saturating_add_signed(by as isize);
            if *count == 0 {
                self.wanted.remove(&(kind, *name));
            }
            moved.push((kind, *name, before));
        }
    }

    /// The requests that follow from references that came or went, in one per type.
    fn resubscribe(&mut self, moved: Vec<(ResourceType, Name, bool)>) -> Vec<DeltaDiscoveryRequest> {
        let mut before: BTreeMap<(ResourceType, Name), bool> = BTreeMap::new();
        for (kind, name, wanted) in moved {
            before.entry((kind, name)).or_insert(wanted);
        }
        let mut requests: BTreeMap<ResourceType, DeltaDiscoveryRequest> = BTreeMap::new();
        for ((kind, name), was_wanted) in before {
            let is_wanted = self.wanted.contains_key(&(kind, name));
            if was_wanted == is_wanted {
                continue;
            }
            let request = requests.entry(kind).or_insert_with(|| DeltaDiscoveryRequest {
                type_url: kind.type_url().to_owned(),
                ..DeltaDiscoveryRequest::default()
            });
            if is_wanted {
                request.resource_names_subscribe.push(name.as_str().to_owned());
            } else {
                request.resource_names_unsubscribe.push(name.as_str().to_owned());
                self.held.remove(&(kind, name));
            }
        }
        requests.into_values().collect()
    }
}
