//! The status port, 15020: readiness as `/healthz/ready` tells it.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{Admin, Ready};

/// Probes are rare and short; more connections than this at a time are turned away by waiting.
const CONNECTIONS_MAX: usize = 64;
/// A prober that sends no request for this long is cut off.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// Answers on `listener` until `stop`, asking `admin` each time.
pub async fn serve(listener: TcpListener, admin: Admin, stop: CancellationToken) {
    let slots = std::sync::Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the status port could not accept a connection");
                continue;
            }
        };
        let stop = stop.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(admin, request));
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                () = stop.cancelled() => {}
                // A prober that breaks off is its own affair.
                _ = connection => {}
            }
            drop(slot);
        });
    }
}

async fn answer(admin: Admin, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, text) = match request.uri().path() {
        "/healthz/ready" => match admin.ready().await {
            Ok(Ready::Yes) => (StatusCode::OK, String::new()),
            Ok(Ready::No(missing)) => (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for {missing}\n")),
            Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
        },
        _ => (StatusCode::NOT_FOUND, String::new()),
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    Ok(response)
}
