//! Resources served from memory over delta ADS to whoever asks: those of one eager sidecar in a mesh of so many services,
//! made beforehand, or any others, which may change.
//!
//! What it is not: a control plane. Every proxy is told the same.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::{Address, SocketAddress, address, socket_address};
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::endpoint::v3::{ClusterLoadAssignment, Endpoint};
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
};
use envoy_types::pb::google::protobuf::Any;
use ostro_discovery::{Timing, Translator};
use ostro_mesh::{Change, Mesh, Settings};
use ostro_telemetry::Metrics;
use ostro_translate::ResourceType;
use prost::Message as _;
use tokio::sync::{broadcast, mpsc};
use tokio::task::AbortHandle;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::transport::server::TcpIncoming;
use tonic::{Status, Streaming};

use crate::ads::{self, Client, References};
use crate::meshgen::Shape;

/// Endpoints of a service.
const ENDPOINTS: usize = 4;
/// Services in a namespace.
const NAMESPACE: usize = 5;
/// The listener of all HTTP services on port 80.
const HTTP: &str = "0.0.0.0_80";
/// How often it is looked whether the control plane has said everything.
const LOOK: Duration = Duration::from_millis(20);
/// Responses that wait to be written.
const RESPONSES: usize = 8;

/// Changes that a stream may be behind; one that is further behind is ended, and comes back.
const CHANGES: usize = 1_024;

/// A resource's type URL and its name.
type Key = (String, String);

/// What is served.
#[derive(Clone)]
pub struct Served {
    all: Arc<Mutex<HashMap<Key, Resource>>>,
    changes: broadcast::Sender<Key>,
    refusals: Arc<AtomicU64>,
}

/// The resources of an eager sidecar.
pub struct Sidecar {
    /// What is served.
    pub served: Served,
    /// The authority of the service whose endpoint is the backend.
    pub authority: String,
    /// How many resources there are.
    pub resources: usize,
    /// Their bytes.
    pub bytes: usize,
}

/// A server; it ends when dropped.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    task: AbortHandle,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Default for Served {
    fn default() -> Served {
        let (changes, _) = broadcast::channel(CHANGES);
        Served { all: Arc::default(), changes, refusals: Arc::default() }
    }
}

impl Served {
    /// Puts a resource in the place of one of its name, and tells who has that, or has all of its type.
    pub fn put(&self, kind: ResourceType, name: &str, version: &str, bytes: Vec<u8>) {
        let type_url = kind.type_url().to_owned();
        let resource = Resource {
            name: name.to_owned(),
            version: version.to_owned(),
            resource: Some(Any { type_url: type_url.clone(), value: bytes }),
            ..Resource::default()
        };
        let key = (type_url, resource.name.clone());
        self.all.lock().unwrap().insert(key.clone(), resource);
        // Nobody may be there yet.
        let _ = self.changes.send(key);
    }

    /// Takes a resource away.
    pub fn remove(&self, kind: ResourceType, name: &str) {
        let key = (kind.type_url().to_owned(), name.to_owned());
        self.all.lock().unwrap().remove(&key);
        let _ = self.changes.send(key);
    }

    /// How many responses were refused.
    pub fn refusals(&self) -> u64 {
        self.refusals.load(Ordering::Relaxed)
    }

    /// Serves them, from now on, on this thread's runtime.
    ///
    /// # Panics
    /// The system gives no socket.
    pub async fn serve(&self) -> Server {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = AggregatedDiscoveryServiceServer::new(self.clone())
            .max_decoding_message_size(usize::MAX)
            .max_encoding_message_size(usize::MAX);
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let serving = tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming);
        Server { address, task: tokio::spawn(serving).abort_handle() }
    }

    async fn answer(
        self,
        mut requests: Streaming<DeltaDiscoveryRequest>,
        mut changes: broadcast::Receiver<Key>,
        responses: mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
    ) {
        let mut heard = Heard::default();
        loop {
            let keys = tokio::select! {
                request = requests.next() => match request {
                    Some(Ok(request)) => {
                        if let Some(error) = &request.error_detail {
                            self.refusals.fetch_add(1, Ordering::Relaxed);
                            eprintln!("refused: {}", error.message);
                        }
                        let all = self.all.lock().unwrap();
                        heard.take(&request, all.keys())
                    }
                    _ => return,
                },
                change = changes.recv() => match change {
                    Ok(key) if heard.wants(&key) => vec![key],
                    Ok(_) => continue,
                    Err(_) => return,
                },
            };
            let Some(response) = self.response(&keys) else { continue };
            if responses.send(Ok(response)).await.is_err() {
                return;
            }
        }
    }

    /// What there is of these, all of one type.
    fn response(&self, keys: &[Key]) -> Option<DeltaDiscoveryResponse> {
        let (type_url, _) = keys.first()?.clone();
        let mut response = DeltaDiscoveryResponse { type_url, nonce: "n".to_owned(), ..Default::default() };
        let all = self.all.lock().unwrap();
        for key in keys {
            match all.get(key) {
                Some(resource) => response.resources.push(resource.clone()),
                None => response.removed_resources.push(key.1.clone()),
            }
        }
        Some(response)
    }
}

/// What a stream has asked for.
#[derive(Default)]
struct Heard {
    named: HashSet<Key>,
    whole: HashSet<String>,
}

impl Heard {
    /// Takes a request; what is to be said to it.
    fn take<'k>(&mut self, request: &DeltaDiscoveryRequest, all: impl Iterator<Item = &'k Key>) -> Vec<Key> {
        let key = |name: &String| (request.type_url.clone(), name.clone());
        for name in &request.resource_names_unsubscribe {
            self.named.remove(&key(name));
        }
        let is_wildcard =
            ResourceType::from_type_url(&request.type_url).is_some_and(ResourceType::is_wildcard);
        if is_wildcard && self.whole.insert(request.type_url.clone()) {
            return all.filter(|(kind, _)| *kind == request.type_url).cloned().collect();
        }
        let names: Vec<Key> =
            request.resource_names_subscribe.iter().filter(|name| *name != "*").map(key).collect();
        self.named.extend(names.iter().cloned());
        names
    }

    fn wants(&self, key: &Key) -> bool {
        self.whole.contains(&key.0) || self.named.contains(key)
    }
}

impl Sidecar {
    /// Makes the resources for so many services. Port 80 of the sidecar is `port` of this machine, and the first service
    /// is at `backend`.
    ///
    /// # Panics
    /// The control plane makes nothing.
    pub async fn make(services: usize, port: u16, backend: SocketAddr) -> Sidecar {
        let namespaces = services.div_ceil(NAMESPACE);
        let shape = Shape {
            services,
            namespaces,
            endpoints: ENDPOINTS,
            tcp_every: 10,
            rules_every: 10,
            routes_every: 20,
        };
        let authority = shape.host(0);
        let own = format!("|{authority}");
        let served = Served::default();
        let (mut resources, mut total, mut has_listener) = (0, 0, false);
        for ((kind, name), held) in translated(&shape).await {
            let name = name.as_str();
            let bytes = match kind {
                ResourceType::Listener => match listener(&held.bytes, port) {
                    Some(bytes) => bytes,
                    None => continue,
                },
                ResourceType::Endpoint if name.ends_with(&own) => endpoint(&held.bytes, backend),
                _ => held.bytes.to_vec(),
            };
            has_listener |= kind == ResourceType::Listener && name == HTTP;
            total += bytes.len();
            resources += 1;
            served.put(kind, name, &held.version, bytes);
        }
        assert!(has_listener, "no listener for port 80");
        Sidecar { served, authority, resources, bytes: total }
    }
}

/// All that the control plane tells an eager sidecar.
async fn translated(shape: &Shape) -> ads::Holding {
    let mut mesh = Mesh::new(Settings::default());
    let (snapshot, _) = mesh.apply(shape.objects().into_iter().map(Change::Upsert).collect());
    let handle =
        ostro_discovery::start(Translator, snapshot, Timing::default(), Metrics::new("bench")).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(ostro_discovery::ads::serve(listener, handle, std::future::pending()));
    let node = ads::sidecar_node(IpAddr::V4(Ipv4Addr::new(10, 1, 1, 1)), "caller", "callers");
    let client =
        Client::connect(address, node, Default::default(), Arc::new(References::default()), true).await;
    while !client.is_complete() {
        tokio::time::sleep(LOOK).await;
    }
    let held = client.held();
    server.abort();
    held
}

/// A listener as it is served; `None`: it is not.
fn listener(bytes: &[u8], port: u16) -> Option<Vec<u8>> {
    let mut listener = Listener::decode(bytes).expect("a listener");
    if listener.name == HTTP {
        listener.address = Some(socket(SocketAddr::from(([127, 0, 0, 1], port))));
        listener.bind_to_port = None;
    } else if listener.bind_to_port.is_none_or(|binds| binds.value) {
        return None;
    }
    Some(listener.encode_to_vec())
}

/// An assignment whose endpoints all are the backend.
fn endpoint(bytes: &[u8], backend: SocketAddr) -> Vec<u8> {
    let mut assignment = ClusterLoadAssignment::decode(bytes).expect("an assignment");
    for endpoint in assignment.endpoints.iter_mut().flat_map(|locality| &mut locality.lb_endpoints) {
        let at = Endpoint { address: Some(socket(backend)), ..Endpoint::default() };
        endpoint.host_identifier = Some(HostIdentifier::Endpoint(at));
    }
    for locality in &mut assignment.endpoints {
        locality.lb_endpoints.truncate(1);
    }
    assignment.encode_to_vec()
}

fn socket(at: SocketAddr) -> Address {
    Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: at.ip().to_string(),
            port_specifier: Some(socket_address::PortSpecifier::PortValue(at.port().into())),
            ..SocketAddress::default()
        })),
    }
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for Served {
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Responses<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        _: tonic::Request<Streaming<DiscoveryRequest>>,
    ) -> Result<tonic::Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("delta only"))
    }

    async fn delta_aggregated_resources(
        &self,
        request: tonic::Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<tonic::Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let (responses, outbox) = mpsc::channel(RESPONSES);
        // From now on nothing is missed.
        let changes = self.changes.subscribe();
        tokio::spawn(self.clone().answer(request.into_inner(), changes, responses));
        Ok(tonic::Response::new(Box::pin(ReceiverStream::new(outbox))))
    }
}
