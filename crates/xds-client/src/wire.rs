//! The stream to the control plane: connected, opened, read, and opened again when it ends.
//!
//! What it is: a task of its own that hands over what it hears, one response ahead of what is being worked on, and gives a
//! queue for requests with every new stream. What it is not: it knows neither names nor resources.
//!
//! Invariant: whatever the control plane does, this goes on trying, each time later, until the other end of the events is
//! dropped.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse};
use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::Service;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

use crate::backoff::{Attempts, BackOff};
use crate::dial::{Dial, Io};
use crate::limits;
use crate::mux::{Dialect, Request};

/// How the control plane is spoken to.
#[derive(Clone)]
pub struct Ads {
    /// Who we are; sent as it is.
    pub node: Node,
    /// In which dialect.
    pub dialect: Dialects,
    /// How it is reached.
    pub dial: Arc<dyn Dial>,
    /// The host that requests name (`:authority`).
    pub authority: String,
    /// Headers of each stream (`initial_metadata`). A pair that can be no header is left out and logged.
    pub metadata: Vec<(String, String)>,
    /// How long to wait between attempts.
    pub backoff: BackOff,
    /// HTTP/2 pings on the connection: after how much silence, and how long the answer is waited for.
    pub keepalive: Option<(Duration, Duration)>,
    /// Bytes of a response; a longer one ends the stream.
    pub response_bytes: usize,
    /// Of the jitter; should differ between processes.
    pub seed: u64,
}

/// Which dialects may be spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialects {
    /// Differences.
    Delta,
    /// The state of the world.
    World,
    /// Differences, or if the control plane does not know them the state of the world.
    DeltaOrWorld,
}

impl Ads {
    /// Envoy's ways, toward a control plane reached by `dial`.
    pub fn new(node: Node, dialect: Dialects, dial: Arc<dyn Dial>, seed: u64) -> Ads {
        Ads {
            node,
            dialect,
            dial,
            authority: "xds".to_owned(),
            metadata: Vec::new(),
            backoff: BackOff::default(),
            keepalive: None,
            response_bytes: limits::RESPONSE_BYTES,
            seed,
        }
    }
}

/// What is heard of the stream.
#[derive(Debug)]
pub(crate) enum Event {
    /// There is a new one; requests go here.
    Opened(Dialect, mpsc::Sender<Request>),
    /// It says something.
    Response(Response),
    /// It is gone, or did not come to be.
    Closed(String),
}

/// A response in either dialect.
#[derive(Debug)]
pub(crate) enum Response {
    Delta(Box<DeltaDiscoveryResponse>),
    World(Box<DiscoveryResponse>),
}

/// Keeps a stream open until the events are dropped.
pub(crate) fn start(ads: &Ads) -> (mpsc::Receiver<Event>, JoinHandle<()>) {
    let (events, heard) = mpsc::channel(limits::RESPONSES);
    let wire = Wire { ads: ads.clone(), events };
    (heard, tokio::spawn(wire.run()))
}

struct Wire {
    ads: Ads,
    events: mpsc::Sender<Event>,
}

/// How a stream ended.
struct End {
    status: Status,
    /// It had said something.
    spoke: bool,
}

impl Wire {
    async fn run(self) {
        let mut attempts = Attempts::new(self.ads.backoff, self.ads.seed);
        let mut dialect = if self.ads.dialect == Dialects::World { Dialect::World } else { Dialect::Delta };
        loop {
            let end = tokio::select! {
                end = self.stream(dialect) => end,
                () = self.events.closed() => return,
            };
            let unknown = end.status.code() == Code::Unimplemented && !end.spoke;
            if self.events.send(Event::Closed(describe(&end.status))).await.is_err() {
                return;
            }
            if unknown && self.ads.dialect == Dialects::DeltaOrWorld && dialect == Dialect::Delta {
                dialect = Dialect::World;
                continue;
            }
            if end.spoke {
                attempts.succeeded();
            }
            tokio::select! {
                () = tokio::time::sleep(attempts.next_wait()) => {}
                () = self.events.closed() => return,
            }
        }
    }

    /// One stream, from connecting to its end.
    async fn stream(&self, dialect: Dialect) -> End {
        let mut spoke = false;
        let status = match self.connect().await {
            Ok(channel) => self.talk(channel, dialect, &mut spoke).await.err(),
            Err(error) => Some(error),
        };
        End { status: status.unwrap_or_else(|| Status::ok("the control plane ended the stream")), spoke }
    }

    async fn connect(&self) -> Result<Channel, Status> {
        let invalid = |error: &dyn std::error::Error| {
            Status::invalid_argument(format!("authority {:?}: {}", self.ads.authority, chain(error)))
        };
        let uri =
            Uri::builder().scheme("http").authority(self.ads.authority.as_str()).path_and_query("/").build();
        let mut endpoint = Endpoint::from(uri.map_err(|error| invalid(&error))?)
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(1 << 20);
        if let Some((interval, timeout)) = self.ads.keepalive {
            endpoint = endpoint
                .http2_keep_alive_interval(interval)
                .keep_alive_timeout(timeout)
                .keep_alive_while_idle(true);
        }
        let connected = endpoint.connect_with_connector(Connector(self.ads.dial.clone())).await;
        connected.map_err(|error| Status::unavailable(chain(&error)))
    }

    async fn talk(&self, channel: Channel, dialect: Dialect, spoke: &mut bool) -> Result<(), Status> {
        let (requests, inbox) = mpsc::channel(limits::REQUESTS);
        let inbox = ReceiverStream::new(inbox);
        let mut client =
            AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(self.ads.response_bytes);
        // Before the answer is awaited: many servers send no headers until they have been asked something.
        self.tell(Event::Opened(dialect, requests)).await?;
        match dialect {
            Dialect::Delta => {
                let inbox = inbox.filter_map(|request| match request {
                    Request::Delta(request) => Some(request),
                    Request::World(_) => None,
                });
                let answer = client.delta_aggregated_resources(self.with_metadata(inbox)).await?;
                self.read(answer.into_inner(), spoke, |response| Response::Delta(Box::new(response))).await
            }
            Dialect::World => {
                let inbox = inbox.filter_map(|request| match request {
                    Request::World(request) => Some(request),
                    Request::Delta(_) => None,
                });
                let answer = client.stream_aggregated_resources(self.with_metadata(inbox)).await?;
                self.read(answer.into_inner(), spoke, |response| Response::World(Box::new(response))).await
            }
        }
    }

    async fn read<R>(
        &self,
        mut responses: Streaming<R>,
        spoke: &mut bool,
        wrap: impl Fn(R) -> Response,
    ) -> Result<(), Status> {
        while let Some(response) = responses.message().await? {
            *spoke = true;
            self.tell(Event::Response(wrap(response))).await?;
        }
        Ok(())
    }

    async fn tell(&self, event: Event) -> Result<(), Status> {
        self.events.send(event).await.map_err(|_| Status::cancelled("nobody listens any more"))
    }

    fn with_metadata<S>(&self, stream: S) -> tonic::Request<S> {
        let mut request = tonic::Request::new(stream);
        for (key, value) in &self.ads.metadata {
            match (AsciiMetadataKey::from_bytes(key.as_bytes()), AsciiMetadataValue::try_from(value)) {
                (Ok(key), Ok(value)) => drop(request.metadata_mut().append(key, value)),
                _ => tracing::warn!(key, "initial_metadata that can be no header is left out"),
            }
        }
        request
    }
}

fn describe(status: &Status) -> String {
    if status.code() == Code::Ok {
        return status.message().to_owned();
    }
    let more = std::error::Error::source(status).map(|source| format!(": {}", chain(source)));
    limits::cut(format!("{}, {}{}", i32::from(status.code()), status.message(), more.unwrap_or_default()))
}

/// An error and what it is because of, each said once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// Connects for tonic.
#[derive(Clone)]
struct Connector(Arc<dyn Dial>);

type Connecting = Pin<Box<dyn Future<Output = io::Result<TokioIo<Box<dyn Io>>>> + Send>>;

impl Service<Uri> for Connector {
    type Response = TokioIo<Box<dyn Io>>;
    type Error = io::Error;
    type Future = Connecting;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Connecting {
        let dialing = self.0.dial();
        Box::pin(async move { Ok(TokioIo::new(dialing.await?)) })
    }
}
