//! The wire: Envoy's aggregated discovery service, delta and state of the world.
//!
//! What it is not: it keeps no state beyond the stream. Each stream has a reader task here and its responses come through
//! a bounded channel; messages are made from shared resources only when the stream takes them.

use std::collections::HashSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
    Resource as WireResource,
};
use envoy_types::pb::google::protobuf::Any;
use envoy_types::pb::google::rpc;
use ostro_names::Name;
use ostro_translate::ResourceType;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::server::TcpIncoming;
use tonic::{Status, Streaming};

use crate::connection::{Outgoing, Response, Transport};
use crate::distributor::{Event, Handle};
use crate::limits;
use crate::node;
use crate::resource::{Resource, Version};
use crate::subscriptions::{Delta, Names, Request};

/// Serves ADS on `listener` until `shutdown` resolves; open streams are then ended.
pub async fn serve<W: Send + 'static>(
    listener: TcpListener,
    handle: Handle<W>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let ads = Ads {
        events: handle.events.clone(),
        room: Arc::new(Semaphore::new(limits::CONNECTIONS)),
        next: AtomicU32::new(0),
    };
    let service = AggregatedDiscoveryServiceServer::new(ads)
        .max_decoding_message_size(limits::REQUEST_BYTES)
        .max_encoding_message_size(usize::MAX);
    tonic::transport::Server::builder()
        .max_concurrent_streams(limits::STREAMS)
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .add_service(service)
        .serve_with_incoming_shutdown(TcpIncoming::from(listener).with_nodelay(Some(true)), shutdown)
        .await
}

struct Ads {
    events: mpsc::Sender<Event>,
    room: Arc<Semaphore>,
    next: AtomicU32,
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for Ads {
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Responses<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        request: tonic::Request<Streaming<DiscoveryRequest>>,
    ) -> Result<tonic::Response<Self::StreamAggregatedResourcesStream>, Status> {
        let responses = self.open(request.into_inner(), Transport::World)?;
        Ok(tonic::Response::new(Box::pin(responses.map(|outgoing| match outgoing {
            Outgoing::Response(response) => Ok(world_response(response)),
            Outgoing::Refusal(status) => Err(status),
        }))))
    }

    async fn delta_aggregated_resources(
        &self,
        request: tonic::Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<tonic::Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let responses = self.open(request.into_inner(), Transport::Delta)?;
        Ok(tonic::Response::new(Box::pin(responses.map(|outgoing| match outgoing {
            Outgoing::Response(response) => Ok(delta_response(response)),
            Outgoing::Refusal(status) => Err(status),
        }))))
    }
}

impl Ads {
    /// Starts reading a stream; what comes back is what is to be written.
    fn open<R: Message>(
        &self,
        requests: Streaming<R>,
        transport: Transport,
    ) -> Result<ReceiverStream<Outgoing>, Status> {
        let permit = self.room.clone().try_acquire_owned().map_err(|_| {
            Status::resource_exhausted(format!("{} proxies are connected already", limits::CONNECTIONS))
        })?;
        let (outbound, inbox) = mpsc::channel(limits::RESPONSES);
        // 2^32 streams in the life of a process would take a century at one a second.
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let reader =
            Reader { id, events: self.events.clone(), outbound, unserved: HashSet::new(), _permit: permit };
        tokio::spawn(reader.run(requests, transport));
        Ok(ReceiverStream::new(inbox))
    }
}

/// Reads one stream.
struct Reader {
    id: u32,
    events: mpsc::Sender<Event>,
    outbound: mpsc::Sender<Outgoing>,
    /// Type URLs answered with nothing.
    unserved: HashSet<String>,
    _permit: OwnedSemaphorePermit,
}

impl Reader {
    async fn run<R: Message>(mut self, mut requests: Streaming<R>, transport: Transport) {
        if let Err(status) = self.read(&mut requests, transport).await {
            tracing::warn!(connection = self.id, code = ?status.code(), "stream refused: {}", status.message());
            // A peer that is gone needs no reason.
            let _ = self.outbound.send(Outgoing::Refusal(status)).await;
        }
        let _ = self.events.send(Event::Disconnected { id: self.id }).await;
    }

    async fn read<R: Message>(
        &mut self,
        requests: &mut Streaming<R>,
        transport: Transport,
    ) -> Result<(), Status> {
        let Some(first) = self.next(requests).await else { return Ok(()) };
        let proxy = node::proxy(first.node()).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let (proxy, outbound) = (Arc::new(proxy), self.outbound.clone());
        self.emit(Event::Connected { id: self.id, proxy, transport, outbound }).await?;
        self.take(first).await?;
        while let Some(request) = self.next(requests).await {
            self.take(request).await?;
        }
        Ok(())
    }

    /// The next request; `None` when either direction has ended.
    async fn next<R: Message>(&self, requests: &mut Streaming<R>) -> Option<R> {
        let message = tokio::select! {
            message = requests.message() => message,
            () = self.outbound.closed() => return None,
        };
        match message {
            Ok(message) => message,
            Err(status) => {
                tracing::debug!(connection = self.id, code = ?status.code(), "stream ended: {}", status.message());
                None
            }
        }
    }

    async fn take<R: Message>(&mut self, request: R) -> Result<(), Status> {
        let Some(kind) = ResourceType::from_type_url(request.type_url()) else {
            self.answer_unserved(request.type_url());
            return Ok(());
        };
        let request = request.into_request()?;
        self.emit(Event::Request { id: self.id, kind, request }).await
    }

    async fn emit(&self, event: Event) -> Result<(), Status> {
        self.events.send(event).await.map_err(|_| Status::unavailable("the control plane is stopping"))
    }

    /// A type that is not served gets one empty answer, so that a peer that waits for one goes on.
    fn answer_unserved(&mut self, type_url: &str) {
        if self.unserved.len() >= limits::UNKNOWN_TYPES || !self.unserved.insert(type_url.to_owned()) {
            return;
        }
        tracing::info!(
            connection = self.id,
            type_url = shorten(type_url),
            "type is not served: answered with nothing"
        );
        let response = Response {
            type_url: type_url.to_owned(),
            nonce: "0".into(),
            version: "0".into(),
            resources: Vec::new(),
            removed: Vec::new(),
        };
        // If there is no room the peer does not read, and one answer fewer does not matter to it.
        let _ = self.outbound.try_send(Outgoing::Response(response));
    }
}

/// A request of either transport.
trait Message: Send + 'static {
    fn node(&self) -> Option<&Node>;
    fn type_url(&self) -> &str;
    fn into_request(self) -> Result<Request, Status>;
}

impl Message for DeltaDiscoveryRequest {
    fn node(&self) -> Option<&Node> {
        self.node.as_ref()
    }

    fn type_url(&self) -> &str {
        &self.type_url
    }

    fn into_request(self) -> Result<Request, Status> {
        let (subscribe, subscribe_star) = names(&self.resource_names_subscribe)?;
        let (unsubscribe, unsubscribe_star) = names(&self.resource_names_unsubscribe)?;
        let mut known = Vec::with_capacity(self.initial_resource_versions.len());
        for (text, version) in &self.initial_resource_versions {
            known.push((name(text)?, Version::parse(version)));
        }
        known.sort_unstable_by_key(|(name, _)| *name);
        let delta = Delta { subscribe, subscribe_star, unsubscribe, unsubscribe_star, known };
        Ok(Request {
            nonce: self.response_nonce,
            refusal: self.error_detail.map(words),
            names: Names::Delta(delta),
        })
    }
}

impl Message for DiscoveryRequest {
    fn node(&self) -> Option<&Node> {
        self.node.as_ref()
    }

    fn type_url(&self) -> &str {
        &self.type_url
    }

    fn into_request(self) -> Result<Request, Status> {
        let (names, star) = names(&self.resource_names)?;
        Ok(Request {
            nonce: self.response_nonce,
            refusal: self.error_detail.map(words),
            names: Names::World { names, star, version: self.version_info },
        })
    }
}

fn names(texts: &[String]) -> Result<(Vec<Name>, bool), Status> {
    let plain = texts.iter().filter(|text| *text != "*").map(|text| name(text)).collect::<Result<_, _>>()?;
    Ok((plain, texts.iter().any(|text| text == "*")))
}

/// Peers may name what nobody has declared; the table of names is bounded, and past it the stream is refused.
fn name(text: &str) -> Result<Name, Status> {
    Name::try_new(text).map_err(|error| Status::resource_exhausted(error.to_string()))
}

fn words(status: rpc::Status) -> String {
    shorten(&status.message).to_owned()
}

/// At most [`limits::WORDS`] bytes, cut between characters.
fn shorten(text: &str) -> &str {
    let mut end = text.len().min(limits::WORDS);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

fn any(type_url: &str, resource: &Resource) -> Any {
    let value = resource.bytes.as_ref().map(|bytes| bytes.to_vec()).unwrap_or_default();
    Any { type_url: type_url.to_owned(), value }
}

fn delta_response(response: Response) -> DeltaDiscoveryResponse {
    let resource = |(name, resource): &(Name, Arc<Resource>)| WireResource {
        name: name.as_str().to_owned(),
        version: resource.version.to_string(),
        resource: Some(any(&response.type_url, resource)),
        ..WireResource::default()
    };
    DeltaDiscoveryResponse {
        system_version_info: response.version,
        resources: response.resources.iter().map(resource).collect(),
        removed_resources: response.removed.iter().map(|name| name.as_str().to_owned()).collect(),
        nonce: response.nonce,
        type_url: response.type_url,
        ..DeltaDiscoveryResponse::default()
    }
}

fn world_response(response: Response) -> DiscoveryResponse {
    DiscoveryResponse {
        version_info: response.version,
        resources: response.resources.iter().map(|(_, resource)| any(&response.type_url, resource)).collect(),
        nonce: response.nonce,
        type_url: response.type_url,
        ..DiscoveryResponse::default()
    }
}
