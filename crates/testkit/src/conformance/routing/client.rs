//! Calls as a program in a pod makes them: by the service's short name, over a connection of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::Response;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use serde_json::Value;
use tokio::net::TcpStream;

/// No single call may take longer.
const CALL_MAX: Duration = Duration::from_secs(10);

/// Most redirects followed.
const REDIRECTS_MAX: usize = 10;

/// Method of the echo program's gRPC service.
const GRPC_METHOD: &str = "/ostro.samples.v1.Echo/Echo";

/// What to call. Its own data, so that it can be handed into a pod.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) grpc: bool,
    pub(super) method: String,
    pub(super) path: String,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) follow_redirects: bool,
}

/// What came back.
#[derive(Clone, Debug, Default)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    /// Number of the gRPC status, of gRPC calls.
    pub(super) grpc_status: Option<u32>,
    /// The echo program's account of the request, if it was the one who answered.
    pub(super) seen: Value,
}

/// The echo program's answer to a gRPC call.
#[derive(Clone, PartialEq, prost::Message)]
struct EchoReply {
    #[prost(string, tag = "1")]
    message: String,
    #[prost(string, tag = "2")]
    seen: String,
}

/// Makes a call, and follows redirects if told to.
pub(super) async fn call(mut ask: Ask) -> Result<Answer, String> {
    for _ in 0..=REDIRECTS_MAX {
        let exchange = async { if ask.grpc { grpc(&ask).await } else { plain(&ask).await } };
        let answer = tokio::time::timeout(CALL_MAX, exchange).await.map_err(|_| "no answer in time")??;
        let location = answer.headers.get(header::LOCATION).and_then(|l| l.to_str().ok());
        let Some(location) = location.filter(|_| ask.follow_redirects && answer.status / 100 == 3) else {
            return Ok(answer);
        };
        let uri: Uri = location.parse().map_err(|e| format!("location {location}: {e}"))?;
        ask.path = uri.path_and_query().map_or("/".to_owned(), ToString::to_string);
    }
    Err("redirects without end".to_owned())
}

async fn connect(ask: &Ask) -> Result<TokioIo<TcpStream>, String> {
    let stream = TcpStream::connect((ask.host.as_str(), ask.port)).await;
    stream.map(TokioIo::new).map_err(|e| format!("connect to {}:{}: {e}", ask.host, ask.port))
}

/// The authority of a URL with the port: without it where it is the scheme's own.
fn authority(ask: &Ask) -> String {
    if ask.port == 80 { ask.host.clone() } else { format!("{}:{}", ask.host, ask.port) }
}

async fn plain(ask: &Ask) -> Result<Answer, String> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(connect(ask).await?).await.map_err(|e| e.to_string())?;
    let driver = tokio::spawn(connection);
    // What follows `#` never leaves the client.
    let path = ask.path.split('#').next().unwrap_or("/");
    let mut request = Request::builder().method(ask.method.as_str()).uri(path);
    if !ask.headers.keys().any(|name| name.eq_ignore_ascii_case("host")) {
        request = request.header(header::HOST, authority(ask));
    }
    for (name, value) in &ask.headers {
        request = request.header(name, value);
    }
    let request = request.body(Full::<Bytes>::default()).map_err(|e| e.to_string())?;
    let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
    let (answer, body, _) = read(response).await?;
    drop(sender);
    let _ = driver.await;
    Ok(Answer { seen: serde_json::from_slice(&body).unwrap_or_default(), ..answer })
}

async fn grpc(ask: &Ask) -> Result<Answer, String> {
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), connect(ask).await?);
    let (mut sender, connection) = handshake.await.map_err(|e| e.to_string())?;
    let driver = tokio::spawn(connection);
    let mut request = Request::builder()
        .method("POST")
        .uri(format!("http://{}{GRPC_METHOD}", authority(ask)))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers");
    for (name, value) in &ask.headers {
        request = request.header(name, value);
    }
    // One message, not compressed, of no bytes.
    let message = Full::new(Bytes::from_static(&[0; 5]));
    let request = request.body(message).map_err(|e| e.to_string())?;
    let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
    let (answer, body, trailers) = read(response).await?;
    drop(sender);
    driver.abort();
    let status = trailers.get("grpc-status").or(answer.headers.get("grpc-status"));
    let grpc_status = status.and_then(|s| s.to_str().ok()).and_then(|s| s.parse().ok());
    let reply = body.get(5..).and_then(|message| EchoReply::decode(message).ok()).unwrap_or_default();
    Ok(Answer { grpc_status, seen: serde_json::from_str(&reply.seen).unwrap_or_default(), ..answer })
}

async fn read(response: Response<Incoming>) -> Result<(Answer, Bytes, HeaderMap), String> {
    let (head, body) = response.into_parts();
    let body = body.collect().await.map_err(|e| e.to_string())?;
    let trailers = body.trailers().cloned().unwrap_or_default();
    let answer = Answer { status: head.status.as_u16(), headers: head.headers, ..Answer::default() };
    Ok((answer, body.to_bytes(), trailers))
}
