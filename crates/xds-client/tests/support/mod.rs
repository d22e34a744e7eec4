//! A control plane that does what a test says, request by request, and a consumer that writes down what it is told.

#![allow(dead_code, reason = "each suite uses its part")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::EdsClusterConfig;
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
};
use envoy_types::pb::google::protobuf::Any;
use ostro_transport::ConnectOptions;
use ostro_transport::dns::{Config, Resolver};
use ostro_xds_client::{
    Accepted, Ads, BackOff, Consumer, Dialects, Kind, Need, Offered, Phase, PlainDial, Source, Target,
    Wildcard,
};
use prost::{Message, Name};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// No wait here is longer than this unless something is broken.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for something that must come.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it comes")
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// A stream that a client opened.
pub struct Opened<I, O> {
    requests: Streaming<I>,
    responses: mpsc::Sender<Result<O, Status>>,
}

pub type DeltaStream = Opened<DeltaDiscoveryRequest, DeltaDiscoveryResponse>;
pub type WorldStream = Opened<DiscoveryRequest, DiscoveryResponse>;

impl<I, O> Opened<I, O> {
    /// The next request.
    pub async fn request(&mut self) -> I {
        soon(self.requests.message()).await.unwrap().expect("the client goes on")
    }

    /// Says something.
    pub async fn say(&self, response: O) {
        self.responses.send(Ok(response)).await.expect("the client listens");
    }

    /// Ends the stream with an error.
    pub async fn fail(self, status: Status) {
        self.responses.send(Err(status)).await.expect("the client listens");
    }
}

/// What the server's streams are handed to.
struct Script {
    deltas: mpsc::Sender<DeltaStream>,
    worlds: mpsc::Sender<WorldStream>,
    knows_deltas: bool,
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Script {
    type StreamAggregatedResourcesStream = Answers<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Answers<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        let (responses, inbox) = mpsc::channel(8);
        let opened = Opened { requests: request.into_inner(), responses };
        self.worlds.send(opened).await.map_err(|_| Status::aborted("over"))?;
        Ok(Response::new(Box::pin(ReceiverStream::new(inbox))))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        if !self.knows_deltas {
            return Err(Status::unimplemented("differences are not known"));
        }
        let (responses, inbox) = mpsc::channel(8);
        let opened = Opened { requests: request.into_inner(), responses };
        self.deltas.send(opened).await.map_err(|_| Status::aborted("over"))?;
        Ok(Response::new(Box::pin(ReceiverStream::new(inbox))))
    }
}

/// A control plane.
pub struct Server {
    pub at: SocketAddr,
    pub deltas: mpsc::Receiver<DeltaStream>,
    pub worlds: mpsc::Receiver<WorldStream>,
}

impl Server {
    pub async fn start() -> Server {
        Server::with(true).await
    }

    pub async fn with(knows_deltas: bool) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let (deltas_in, deltas) = mpsc::channel(8);
        let (worlds_in, worlds) = mpsc::channel(8);
        let script = Script { deltas: deltas_in, worlds: worlds_in, knows_deltas };
        let service = AggregatedDiscoveryServiceServer::new(script).max_encoding_message_size(usize::MAX);
        let server = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Server { at, deltas, worlds }
    }

    pub async fn delta(&mut self) -> DeltaStream {
        soon(self.deltas.recv()).await.unwrap()
    }

    pub async fn world(&mut self) -> WorldStream {
        soon(self.worlds.recv()).await.unwrap()
    }
}

/// A client's settings toward a server, without much patience.
pub fn ads(at: SocketAddr, dialect: Dialects) -> Ads {
    let targets = vec![Target::Host { name: at.ip().to_string(), port: at.port() }];
    ads_to(targets, dialect)
}

pub fn ads_to(targets: Vec<Target>, dialect: Dialects) -> Ads {
    let resolver = Arc::new(Resolver::new(Config::default()));
    let dial = PlainDial::new(targets, resolver, |_| ConnectOptions::default(), PATIENCE);
    let node = Node { id: "sidecar~10.0.0.1~a.default~default.svc.cluster.local".into(), ..Node::default() };
    let backoff = BackOff { base: Duration::from_millis(2), max: Duration::from_millis(20) };
    Ads { backoff, ..Ads::new(node, dialect, Arc::new(dial), 7) }
}

pub fn wildcards() -> Vec<Wildcard> {
    let all = |kind| Wildcard { kind, source: Source::Ads, fetch_timeout: None };
    vec![all(Kind::CLUSTER), all(Kind::LISTENER)]
}

/// What is in force, by kind and name: the tag of the resource.
pub type InForce = BTreeMap<(&'static str, String), String>;

/// Tells tests what is in force, whenever that changes.
pub struct Teller {
    now: InForce,
    told: watch::Sender<(InForce, Vec<Phase>)>,
    phases: Vec<Phase>,
    pub compiled: Arc<Mutex<Vec<String>>>,
    pub fetch_timeout: Option<Duration>,
    pub source: Source,
}

/// What tests see of it.
#[derive(Clone)]
pub struct Told(watch::Receiver<(InForce, Vec<Phase>)>);

impl Teller {
    pub fn new() -> (Teller, Told) {
        let (told, seen) = watch::channel(Default::default());
        let teller = Teller {
            now: InForce::new(),
            told,
            phases: Vec::new(),
            compiled: Arc::default(),
            fetch_timeout: None,
            source: Source::Ads,
        };
        (teller, Told(seen))
    }
}

impl Told {
    /// Waits until this is in force: `"cds a=1"` each.
    pub async fn until(&mut self, expected: &[&str]) {
        let expected: Vec<String> = expected.iter().map(|text| (*text).to_owned()).collect();
        let came = {
            let outcome = tokio::time::timeout(PATIENCE, self.0.wait_for(|(now, _)| shown(now) == expected));
            matches!(outcome.await, Ok(Ok(_)))
        };
        if !came {
            panic!("expected {expected:?}, in force is {:?}", shown(&self.0.borrow().0));
        }
    }

    pub async fn until_phase(&mut self, phase: Phase) {
        soon(self.0.wait_for(|(_, phases)| phases.contains(&phase))).await.unwrap();
    }

    pub fn now(&self) -> Vec<String> {
        shown(&self.0.borrow().0)
    }
}

fn shown(now: &InForce) -> Vec<String> {
    now.iter().map(|((kind, name), tag)| format!("{kind} {name}={tag}")).collect()
}

impl Consumer for Teller {
    type Compiled = String;

    fn compile(&mut self, offered: &Offered<'_>) -> Result<Accepted<String>, String> {
        self.compiled.lock().unwrap().push(format!("{:?} {}", offered.kind, offered.name));
        let (tag, needs) = match offered.kind {
            Kind::CLUSTER => {
                let cluster = Cluster::decode(&**offered.bytes).map_err(|error| error.to_string())?;
                let service = cluster.eds_cluster_config.map(|eds| (Kind::ENDPOINT, eds.service_name));
                (cluster.alt_stat_name, service.into_iter().collect())
            }
            Kind::LISTENER => {
                let listener = Listener::decode(&**offered.bytes).map_err(|error| error.to_string())?;
                let (tag, routes) =
                    listener.stat_prefix.split_once(' ').unwrap_or((&listener.stat_prefix, ""));
                let routes = routes.split(' ').filter(|route| !route.is_empty());
                (tag.to_owned(), routes.map(|route| (Kind::ROUTE, route.to_owned())).collect::<Vec<_>>())
            }
            Kind::ENDPOINT => {
                let named =
                    ClusterLoadAssignment::decode(&**offered.bytes).map_err(|error| error.to_string())?;
                (named.named_endpoints.into_keys().collect(), Vec::new())
            }
            Kind::ROUTE => {
                let route =
                    RouteConfiguration::decode(&**offered.bytes).map_err(|error| error.to_string())?;
                (route.internal_only_headers.concat(), Vec::new())
            }
            _ => (String::new(), Vec::new()),
        };
        if let Some(reason) = tag.strip_prefix('!') {
            return Err(reason.to_owned());
        }
        let need = |(kind, name): (Kind, String)| Need {
            kind,
            name: name.into(),
            source: self.source.clone(),
            fetch_timeout: self.fetch_timeout,
        };
        Ok(Accepted { compiled: tag, needs: needs.into_iter().map(need).collect() })
    }

    fn set(&mut self, kind: Kind, name: &Arc<str>, compiled: String) {
        self.now.insert((kind.short(), name.to_string()), compiled);
    }

    fn remove(&mut self, kind: Kind, name: &Arc<str>) {
        self.now.remove(&(kind.short(), name.to_string())).expect("it was in force");
    }

    fn commit(&mut self) {
        self.told.send_modify(|(now, _)| now.clone_from(&self.now));
    }

    fn phase(&mut self, phase: Phase) {
        self.phases.push(phase);
        self.told.send_modify(|(_, phases)| phases.clone_from(&self.phases));
    }
}

/// A resource as the wire has it, of a test's making.
pub struct Made {
    pub name: String,
    pub any: Any,
}

fn made<M: Message + Name>(name: &str, message: &M) -> Made {
    Made { name: name.to_owned(), any: Any { type_url: M::type_url(), value: message.encode_to_vec() } }
}

/// A cluster; with a service its endpoints are asked for. A tag `!why` is refused.
pub fn cluster(name: &str, tag: &str, service: Option<&str>) -> Made {
    let eds =
        service.map(|name| EdsClusterConfig { service_name: name.into(), ..EdsClusterConfig::default() });
    let cluster = Cluster {
        name: name.into(),
        alt_stat_name: tag.into(),
        eds_cluster_config: eds,
        ..Cluster::default()
    };
    made(name, &cluster)
}

/// A listener that needs these routes.
pub fn listener(name: &str, tag: &str, routes: &[&str]) -> Made {
    let stat_prefix = format!("{tag} {}", routes.join(" "));
    made(name, &Listener { name: name.into(), stat_prefix, ..Listener::default() })
}

pub fn endpoints(name: &str, tag: &str) -> Made {
    let named = [(tag.to_owned(), Default::default())].into();
    let assignment = ClusterLoadAssignment {
        cluster_name: name.into(),
        named_endpoints: named,
        ..ClusterLoadAssignment::default()
    };
    made(name, &assignment)
}

pub fn routes(name: &str, tag: &str) -> Made {
    let headers = vec![tag.to_owned()];
    made(
        name,
        &RouteConfiguration { name: name.into(), internal_only_headers: headers, ..Default::default() },
    )
}

pub fn delta(kind: Kind, nonce: &str, resources: Vec<Made>, removed: &[&str]) -> DeltaDiscoveryResponse {
    let resource = |made: Made| Resource {
        name: made.name,
        version: format!("v-{nonce}"),
        resource: Some(made.any),
        ..Resource::default()
    };
    DeltaDiscoveryResponse {
        type_url: kind.url().into(),
        nonce: nonce.into(),
        system_version_info: format!("s-{nonce}"),
        resources: resources.into_iter().map(resource).collect(),
        removed_resources: removed.iter().map(|name| (*name).to_owned()).collect(),
        ..DeltaDiscoveryResponse::default()
    }
}

pub fn world(kind: Kind, nonce: &str, resources: Vec<Made>) -> DiscoveryResponse {
    DiscoveryResponse {
        type_url: kind.url().into(),
        nonce: nonce.into(),
        version_info: format!("s-{nonce}"),
        resources: resources.into_iter().map(|made| made.any).collect(),
        ..DiscoveryResponse::default()
    }
}
