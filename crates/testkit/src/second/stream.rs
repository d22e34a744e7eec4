//! The service: both dialects, turned into what [`Session`] works on, and back.

use std::pin::Pin;
use std::sync::Arc;

use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::AggregatedDiscoveryService;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
};
use envoy_types::pb::google::protobuf::Any;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::Shared;
use super::session::{Ask, Say, Session};

/// Responses that wait for the socket.
const RESPONSES: usize = 16;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

pub(super) struct Service(pub(super) Arc<Shared>);

#[tonic::async_trait]
impl AggregatedDiscoveryService for Service {
    type StreamAggregatedResourcesStream = Answers<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Answers<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        let (responses, outbox) = mpsc::channel(RESPONSES);
        let turn = |request: DiscoveryRequest| Ask {
            type_url: request.type_url,
            nonce: request.response_nonce,
            error: request.error_detail.map(|error| error.message),
            names: request.resource_names,
            ..Ask::default()
        };
        tokio::spawn(serve(self.0.clone(), true, request.into_inner(), turn, responses, world));
        Ok(Response::new(Box::pin(ReceiverStream::new(outbox))))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let (responses, outbox) = mpsc::channel(RESPONSES);
        let turn = |request: DeltaDiscoveryRequest| Ask {
            type_url: request.type_url,
            nonce: request.response_nonce,
            error: request.error_detail.map(|error| error.message),
            subscribe: request.resource_names_subscribe,
            unsubscribe: request.resource_names_unsubscribe,
            ..Ask::default()
        };
        tokio::spawn(serve(self.0.clone(), false, request.into_inner(), turn, responses, delta));
        Ok(Response::new(Box::pin(ReceiverStream::new(outbox))))
    }
}

fn any(say: &Say, bytes: bytes::Bytes) -> Any {
    Any { type_url: say.kind.type_url().to_owned(), value: bytes.to_vec() }
}

fn delta(say: Say) -> DeltaDiscoveryResponse {
    let resource = |(name, version, bytes): &(String, u64, bytes::Bytes)| Resource {
        name: name.clone(),
        version: version.to_string(),
        resource: Some(any(&say, bytes.clone())),
        ..Resource::default()
    };
    DeltaDiscoveryResponse {
        system_version_info: say.version.to_string(),
        type_url: say.kind.type_url().to_owned(),
        nonce: say.nonce.to_string(),
        resources: say.items.iter().map(resource).collect(),
        removed_resources: say.removed,
        ..DeltaDiscoveryResponse::default()
    }
}

fn world(say: Say) -> DiscoveryResponse {
    DiscoveryResponse {
        version_info: say.version.to_string(),
        type_url: say.kind.type_url().to_owned(),
        nonce: say.nonce.to_string(),
        resources: say.items.iter().map(|(_, _, bytes)| any(&say, bytes.clone())).collect(),
        ..DiscoveryResponse::default()
    }
}

/// Serves one stream to its end. It reads on whatever it has to write: a client may wait for that.
async fn serve<I, O>(
    shared: Arc<Shared>,
    is_world: bool,
    mut requests: Streaming<I>,
    turn: impl Fn(I) -> Ask + Send,
    responses: mpsc::Sender<Result<O, Status>>,
    build: fn(Say) -> O,
) {
    let mut session = Session::new(is_world, &shared.state());
    let mut latest = shared.latest.subscribe();
    shared.answers.send_modify(|answers| answers.streams += 1);
    loop {
        let is_idle = session.queue.is_empty();
        if is_idle {
            let state = shared.state();
            let mut moved = false;
            shared.answers.send_if_modified(|answers| {
                moved = session.follow(&state, answers);
                moved
            });
            if moved {
                continue;
            }
        }
        tokio::select! {
            request = requests.message() => match request {
                Ok(Some(request)) => {
                    let state = shared.state();
                    shared.answers.send_modify(|answers| session.take(turn(request), &state, answers));
                }
                Ok(None) | Err(_) => return,
            },
            room = responses.reserve(), if !is_idle => match (room, session.queue.pop_front()) {
                (Ok(room), Some(say)) => room.send(Ok(build(say))),
                _ => return,
            },
            changed = latest.changed(), if is_idle => if changed.is_err() { return },
        }
    }
}
