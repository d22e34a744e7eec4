//! Two of our own proxies, one after the other, as two sidecars have it: a client's, a server's, and a workload behind that; with
//! Istio's filters as istiod sends them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{HeaderMap, Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use crate::own_proxy::OwnProxy;

/// How long one exchange may take.
const EXCHANGE_MAX: Duration = Duration::from_secs(30);
/// How often connections under way are told.
const REPORT: &str = "1s";

/// Who stands at the ends.
#[derive(Clone, Debug)]
pub struct Sides {
    /// Node id and metadata of the client's proxy.
    pub client: (String, Value),
    /// The same of the server's.
    pub server: (String, Value),
    /// Full name of the service that is called.
    pub service: String,
    /// What metrics have otherwise than by default: `metrics` of `stats.PluginConfig`.
    pub metrics: Value,
}

/// The proxies and the workload.
pub struct Pair {
    /// The client's proxy.
    pub client: OwnProxy,
    /// The server's proxy.
    pub server: OwnProxy,
    /// Where HTTP is taken from the client's application.
    pub http: SocketAddr,
    /// Where connections are.
    pub tcp: SocketAddr,
    workload: Vec<AbortHandle>,
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.workload.iter().for_each(AbortHandle::abort);
    }
}

/// What came of a call of gRPC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Called {
    /// HTTP's status.
    pub status: u16,
    /// gRPC's, in trailers or headers.
    pub grpc_status: Option<String>,
}

impl Pair {
    /// Starts all of it, in a runtime.
    ///
    /// # Errors
    /// If something does not start.
    pub async fn start(sides: &Sides) -> Result<Pair, String> {
        let (http_at, http) = workload(serve_http).await?;
        let (tcp_at, tcp) = workload(echo).await?;
        let server = bootstrap(sides, "INBOUND", http_at, tcp_at);
        let server = OwnProxy::start(&server, 2)?;
        let (http_at, tcp_at) = (server.listener("http")?, server.listener("tcp")?);
        let client = bootstrap(sides, "OUTBOUND", http_at, tcp_at);
        let client = OwnProxy::start(&client, 2)?;
        let (http_at, tcp_at) = (client.listener("http")?, client.listener("tcp")?);
        Ok(Pair { client, server, http: http_at, tcp: tcp_at, workload: vec![http, tcp] })
    }

    /// `GET /status/N` of the service, over HTTP/1.1 or HTTP/2; the status that came.
    ///
    /// # Errors
    /// If there is no response.
    pub async fn get(&self, host: &str, status: u16, http2: bool) -> Result<u16, String> {
        let request = Request::get(format!("http://{}/status/{status}", self.http)).header("host", host);
        let request = request.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
        let response = self.exchange(request, http2).await?;
        let status = response.status().as_u16();
        response.into_body().collect().await.map_err(|error| error.to_string())?;
        Ok(status)
    }

    /// A call of gRPC with so many messages, answered with as many and a status.
    ///
    /// # Errors
    /// If there is no response.
    pub async fn call(&self, messages: usize, grpc_status: u32) -> Result<Called, String> {
        let message = Bytes::from_static(b"\0\0\0\0\x02hi");
        let frames = (0..messages).map(move |_| Ok::<_, Infallible>(Frame::data(message.clone())));
        let body = StreamBody::new(tokio_stream::iter(frames));
        let request = Request::post(format!("http://{}/shop.Cart/Add", self.http))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("x-answer", grpc_status)
            .body(body)
            .map_err(|error| error.to_string())?;
        let response = self.exchange(request, true).await?;
        let status = response.status().as_u16();
        let said = |headers: Option<&HeaderMap>| {
            Some(headers?.get("grpc-status")?.to_str().unwrap_or_default().to_owned())
        };
        let in_headers = said(Some(response.headers()));
        let body = response.into_body().collect().await.map_err(|error| error.to_string())?;
        Ok(Called { status, grpc_status: said(body.trailers()).or(in_headers) })
    }

    async fn exchange<B>(&self, request: Request<B>, http2: bool) -> Result<Response<Incoming>, String>
    where
        B: hyper::body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let client: Client<HttpConnector, B> =
            Client::builder(TokioExecutor::new()).http2_only(http2).build(HttpConnector::new());
        let response = tokio::time::timeout(EXCHANGE_MAX, client.request(request)).await;
        response.map_err(|_| "no response".to_owned())?.map_err(|error| format!("{error:?}"))
    }

    /// A connection to the service on which `text` comes back; open until it is dropped.
    ///
    /// # Errors
    /// If it does not come back.
    pub async fn connect(&self, text: &[u8]) -> Result<TcpStream, String> {
        let exchange = async {
            let mut stream = TcpStream::connect(self.tcp).await?;
            stream.write_all(text).await?;
            let mut answer = vec![0; text.len()];
            stream.read_exact(&mut answer).await?;
            Ok::<_, std::io::Error>(stream)
        };
        let stream = tokio::time::timeout(EXCHANGE_MAX, exchange).await;
        stream.map_err(|_| "no answer".to_owned())?.map_err(|error| error.to_string())
    }
}

/// Serves connections with `serve`, at a port of its own.
async fn workload<F>(serve: fn(TcpStream) -> F) -> Result<(SocketAddr, AbortHandle), String>
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|error| error.to_string())?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let accepting = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    Ok((address, accepting.abort_handle()))
}

async fn echo(mut stream: TcpStream) {
    let (mut from, mut to) = stream.split();
    // Whoever called sees that it failed.
    let _ = tokio::io::copy(&mut from, &mut to).await;
}

async fn serve_http(stream: TcpStream) {
    let service = hyper::service::service_fn(answer);
    // The same.
    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
}

type Answer = Response<http_body_util::combinators::BoxBody<Bytes, Infallible>>;

/// Answers a call of gRPC with the messages that came and the status that was asked for; everything else with the status
/// in the path.
async fn answer(request: Request<Incoming>) -> Result<Answer, hyper::Error> {
    let header =
        |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let told = request.headers().keys().any(|name| name.as_str().starts_with("x-envoy-peer-metadata"));
    if header("content-type").is_some_and(|kind| kind.starts_with("application/grpc")) {
        let status = header("x-answer").unwrap_or_default();
        let body = request.into_body().collect().await?.to_bytes();
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", status.parse().expect("a number"));
        let body = Full::new(body).with_trailers(async move { Some(Ok(trailers)) });
        let response = Response::builder().header("content-type", "application/grpc");
        return Ok(response.body(body.boxed()).expect("a response"));
    }
    let status =
        request.uri().path().rsplit('/').next().and_then(|status| status.parse().ok()).unwrap_or(404);
    let response = Response::builder().status(if told { 599 } else { status });
    Ok(response.body(Full::new(Bytes::from_static(b"hello")).boxed()).expect("a response"))
}

fn typed(name: &str, inner: &str, value: &Value) -> Value {
    json!({
        "name": name,
        "typed_config": {
            "@type": "type.googleapis.com/udpa.type.v1.TypedStruct",
            "type_url": format!("type.googleapis.com/{inner}"),
            "value": value,
        },
    })
}

fn plain(name: &str, type_name: &str, mut value: Value) -> Value {
    value["@type"] = format!("type.googleapis.com/{type_name}").into();
    json!({"name": name, "typed_config": value})
}

fn bootstrap(sides: &Sides, direction: &str, http: SocketAddr, tcp: SocketAddr) -> Value {
    let is_inbound = direction == "INBOUND";
    let (id, metadata) = if is_inbound { &sides.server } else { &sides.client };
    let service = sides.service.as_str();
    let [http_cluster, tcp_cluster] = match is_inbound {
        true => ["inbound|9080||".to_owned(), "inbound|9081||".to_owned()],
        false => [format!("outbound|9080||{service}"), format!("outbound|9081||{service}")],
    };
    json!({
        "node": {"id": id, "cluster": "test", "metadata": metadata},
        "static_resources": {
            "listeners": [
                listener("http", direction, vec![manager(is_inbound, &http_cluster, &sides.metrics)]),
                listener("tcp", direction, tcp_filters(is_inbound, &tcp_cluster, &sides.metrics)),
            ],
            "clusters": [cluster(&http_cluster, service, http, is_inbound), cluster(&tcp_cluster, service, tcp, is_inbound)],
        },
    })
}

fn listener(name: &str, direction: &str, filters: Vec<Value>) -> Value {
    json!({
        "name": name,
        "traffic_direction": direction,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": filters}],
    })
}

fn exchange() -> Value {
    let value = json!({"protocol": "istio-peer-exchange", "enable_discovery": true});
    typed("istio.metadata_exchange", "envoy.tcp.metadataexchange.config.MetadataExchange", &value)
}

fn stats(is_inbound: bool, metrics: &Value) -> Value {
    let config = json!({
        "disable_host_header_fallback": is_inbound,
        "tcp_reporting_duration": REPORT,
        "metrics": metrics,
    });
    plain("istio.stats", "stats.PluginConfig", config)
}

fn tcp_filters(is_inbound: bool, cluster: &str, metrics: &Value) -> Vec<Value> {
    let proxy = json!({"stat_prefix": cluster, "cluster": cluster});
    let proxy = plain(
        "envoy.filters.network.tcp_proxy",
        "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        proxy,
    );
    let exchange = is_inbound.then(exchange);
    exchange.into_iter().chain([stats(is_inbound, metrics), proxy]).collect()
}

fn manager(is_inbound: bool, cluster: &str, metrics: &Value) -> Value {
    let methods = json!([{"istio_headers": {}}, {"workload_discovery": {}}]);
    let headers = json!([{"istio_headers": {}}]);
    let peer = match is_inbound {
        true => json!({"downstream_discovery": methods, "downstream_propagation": headers}),
        false => json!({"upstream_discovery": methods, "upstream_propagation": headers}),
    };
    let grpc = json!({"emit_filter_state": true, "stats_for_all_methods": false});
    let route =
        json!({"match": {"prefix": "/"}, "name": "default", "route": {"cluster": cluster, "timeout": "0s"}});
    let manager = json!({
        "stat_prefix": "http",
        "http_filters": [
            typed("istio.metadata_exchange", "io.istio.http.peer_metadata.Config", &peer),
            plain("envoy.filters.http.grpc_stats", "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig", grpc),
            stats(is_inbound, metrics),
            plain("envoy.filters.http.router", "envoy.extensions.filters.http.router.v3.Router", json!({})),
        ],
        "route_config": {"name": "r", "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
    });
    plain(
        "envoy.filters.network.http_connection_manager",
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        manager,
    )
}

fn cluster(name: &str, service: &str, to: SocketAddr, is_inbound: bool) -> Value {
    let mut parts = service.split('.');
    let (short, namespace) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let services = json!([{"host": service, "name": short, "namespace": namespace}]);
    let address = json!({"socket_address": {"address": to.ip().to_string(), "port_value": to.port()}});
    let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let filters: Vec<Value> = (!is_inbound).then(exchange).into_iter().collect();
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "filters": filters,
        "metadata": {"filter_metadata": {"istio": {"services": services}}},
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
        "typed_extension_protocol_options": {
            options: {
                "@type": format!("type.googleapis.com/{options}"),
                "use_downstream_protocol_config": {"http_protocol_options": {}, "http2_protocol_options": {}},
            },
        },
    })
}
