//! What a probe does: one look at a program, made inside its pod.
//!
//! Looks are made as the runner's own user, whose traffic within the pod is not captured: they reach the program
//! itself and not the proxy, as the kubelet's do in effect.

use std::future::Future;
use std::net::IpAddr;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http::{HeaderName, HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt as _, Empty, Full, Limited};
use hyper::body::{Body, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use ostro_agent::{Admin, Ready};
use tokio::net::TcpStream;

use crate::probe::Action;

/// How the kubelet calls itself.
const USER_AGENT: &str = "kube-probe/1.34";
/// Longest answer that is read, and the longest that the kubelet reads.
const BODY_BYTES_MAX: usize = 10 << 10;
const GRPC_PATH: &str = "/grpc.health.v1.Health/Check";
/// `SERVING` of grpc.health.v1.
const SERVING: u64 = 1;

/// Looks once, from inside the pod whose address `ip` is. Programs are not run here.
pub async fn look(action: &Action, ip: IpAddr) -> Result<(), String> {
    match action {
        Action::Http { host, port, path, headers } => http(&host_or(host, ip), *port, path, headers).await,
        Action::Tcp { host, port } => connect(&host_or(host, ip), *port).await.map(drop),
        Action::Grpc { port, service } => grpc(&ip.to_string(), *port, service).await,
        Action::Ports(ports) => {
            for port in ports {
                connect(&ip.to_string(), *port).await?;
            }
            Ok(())
        }
        Action::Proxy => match Admin::local().ready().await {
            Ok(Ready::Yes) => Ok(()),
            Ok(Ready::No(missing)) => Err(format!("waiting for {missing}")),
            Err(error) => Err(error.to_string()),
        },
        Action::Exec(_) => Err("programs are run by whoever knows the container".to_owned()),
    }
}

fn host_or(host: &str, ip: IpAddr) -> String {
    if host.is_empty() { ip.to_string() } else { host.to_owned() }
}

async fn connect(host: &str, port: u16) -> Result<TcpStream, String> {
    TcpStream::connect((host, port)).await.map_err(|error| format!("{host} port {port}: {error}"))
}

async fn http(host: &str, port: u16, path: &str, headers: &[(String, String)]) -> Result<(), String> {
    let stream = connect(host, port).await?;
    let mut request = Request::builder().method(Method::GET).uri(path);
    let fixed = [("user-agent", USER_AGENT), ("accept", "*/*"), ("connection", "close")];
    let given = |name: &str| headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name));
    for (name, value) in fixed.into_iter().filter(|(name, _)| !given(name)) {
        request = request.header(name, value);
    }
    if !given("host") {
        request = request.header(header::HOST, authority(host, port));
    }
    for (name, value) in headers {
        let name = HeaderName::try_from(name.as_str()).map_err(|error| error.to_string())?;
        let value = HeaderValue::try_from(value.as_str()).map_err(|error| error.to_string())?;
        request = request.header(name, value);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let response = during(connection, sender.send_request(request)).await?;
    match response.status().as_u16() {
        200..400 => Ok(()),
        status => Err(format!("status {status}")),
    }
}

fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

async fn grpc(host: &str, port: u16, service: &str) -> Result<(), String> {
    let stream = connect(host, port).await?;
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("http://{}{GRPC_PATH}", authority(host, port)))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .header(header::USER_AGENT, USER_AGENT)
        .body(Full::new(health_request(service)))
        .map_err(|error| error.to_string())?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        grpc_answer(response).await
    };
    tokio::pin!(exchange);
    let mut connection = std::pin::pin!(connection);
    let mut open = true;
    loop {
        tokio::select! {
            result = &mut exchange => return result,
            _ = &mut connection, if open => open = false,
        }
    }
}

async fn grpc_answer(response: Response<Incoming>) -> Result<(), String> {
    let status = |headers: &http::HeaderMap| {
        headers.get("grpc-status").and_then(|value| value.to_str().ok()).map(str::to_owned)
    };
    // An error may come without a body, its status among the headers.
    let early = status(response.headers());
    let body = Limited::new(response.into_body(), BODY_BYTES_MAX);
    let collected = body.collect().await.map_err(|error| error.to_string())?;
    let last = collected.trailers().and_then(status).or(early).unwrap_or_else(|| "none".to_owned());
    if last != "0" {
        return Err(format!("gRPC status {last}"));
    }
    match health_status(&collected.to_bytes()) {
        Some(SERVING) => Ok(()),
        Some(other) => Err(format!("health status {other}, not serving")),
        None => Err("the answer is not that of a health check".to_owned()),
    }
}

/// A framed HealthCheckRequest: its only field, 1, is the service.
fn health_request(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.put_u8((length as u8 & 0x7f) | 0x80);
            length >>= 7;
        }
        message.put_u8(length as u8);
        message.put_slice(service.as_bytes());
    }
    let mut framed = BytesMut::with_capacity(5 + message.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.unsplit(message);
    framed.freeze()
}

/// The status of a framed HealthCheckResponse: its only field, 1, a number. One that is absent is 0.
fn health_status(mut framed: &[u8]) -> Option<u64> {
    if framed.remaining() < 5 || framed.get_u8() != 0 {
        return None;
    }
    let length = usize::try_from(framed.get_u32()).ok()?;
    let message = framed.get(..length)?;
    match message {
        [] => Some(0),
        [0x08, status] if *status < 0x80 => Some(u64::from(*status)),
        _ => None,
    }
}

/// The answer to a request, while its connection makes progress.
async fn during<B: Body>(
    connection: impl Future<Output = hyper::Result<()>>,
    answer: impl Future<Output = hyper::Result<Response<B>>>,
) -> Result<Response<B>, String> {
    tokio::pin!(answer);
    let mut connection = std::pin::pin!(connection);
    let mut open = true;
    loop {
        tokio::select! {
            result = &mut answer => return result.map_err(|error| error.to_string()),
            _ = &mut connection, if open => open = false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;
    use std::net::Ipv4Addr;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use http::HeaderMap;
    use hyper::body::Frame;
    use hyper::service::service_fn;
    use tokio::net::TcpListener;

    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    /// Serves HTTP/1: the status is the path, if the request came with the headers of a probe.
    async fn http_server() -> u16 {
        let listener = TcpListener::bind((HERE, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let answer = service_fn(|request: Request<Incoming>| async move {
                    let agent = request.headers()[header::USER_AGENT].to_str().unwrap();
                    let as_asked = agent.starts_with("kube-probe/") && request.headers()["x-a"] == "b";
                    let status = if as_asked { request.uri().path()[1..].parse().unwrap() } else { 500 };
                    let response = Response::builder().status(status).body(Empty::<Bytes>::new());
                    Ok::<_, Infallible>(response.unwrap())
                });
                let serve = hyper::server::conn::http1::Builder::new();
                tokio::spawn(serve.serve_connection(TokioIo::new(stream), answer));
            }
        });
        port
    }

    #[tokio::test]
    async fn http_succeeds_by_status() {
        let port = http_server().await;
        let headers = vec![("x-a".to_owned(), "b".to_owned())];
        for (path, well) in [("/200", true), ("/302", true), ("/404", false), ("/503", false)] {
            let action =
                Action::Http { host: String::new(), port, path: path.into(), headers: headers.clone() };
            let result = look(&action, HERE).await;
            assert_eq!(result.is_ok(), well, "{path}: {result:?}");
        }
    }

    /// Serves gRPC's health check: the service's name is the status.
    async fn grpc_server() -> u16 {
        let listener = TcpListener::bind((HERE, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let answer = service_fn(|request: Request<Incoming>| async move {
                    assert_eq!(request.uri().path(), GRPC_PATH);
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    // Flag and length, then field 1 and its length, then the name.
                    let status = body.get(7..).unwrap_or_default().iter().fold(0, |n, d| n * 10 + d - b'0');
                    let message: Vec<u8> = vec![0, 0, 0, 0, 2, 0x08, status];
                    let mut trailers = HeaderMap::new();
                    trailers.insert("grpc-status", HeaderValue::from(if status == 9 { 5 } else { 0 }));
                    let frames = [Frame::data(Bytes::from(message)), Frame::trailers(trailers)];
                    Ok::<_, Infallible>(Response::new(Frames(frames.into())))
                });
                let serve = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(serve.serve_connection(TokioIo::new(stream), answer));
            }
        });
        port
    }

    /// A body's frames, one after another.
    struct Frames(VecDeque<Frame<Bytes>>);

    impl Body for Frames {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.pop_front().map(Ok))
        }
    }

    #[tokio::test]
    async fn grpc_succeeds_if_it_serves() {
        let port = grpc_server().await;
        for (service, expected) in [
            ("1", Ok(())),
            ("2", Err("health status 2, not serving".to_owned())),
            ("9", Err("gRPC status 5".to_owned())),
        ] {
            assert_eq!(look(&Action::Grpc { port, service: service.into() }, HERE).await, expected);
        }
    }

    #[tokio::test]
    async fn a_port_that_nobody_listens_on_is_named() {
        let listener = TcpListener::bind((HERE, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(look(&Action::Ports(vec![port]), HERE).await, Ok(()));
        drop(listener);
        let error = look(&Action::Tcp { host: String::new(), port }, HERE).await.unwrap_err();
        assert!(error.starts_with(&format!("127.0.0.1 port {port}: ")), "{error}");
    }
}
