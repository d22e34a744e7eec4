//! Calling another service by its name.

use std::time::Duration;

use axum::http::{HeaderMap, Request, StatusCode, Uri};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

/// Longest answer taken from another service.
const BODY_BYTES_MAX: usize = 1 << 20;

/// Why there is no answer to show.
#[derive(Debug)]
pub enum Failure {
    /// The upstream answered, with an error.
    Status(StatusCode),
    /// No answer in time, no connection, or an answer that makes no sense.
    Unreachable,
}

/// An HTTP client with kept-alive connections. Cheap to clone.
#[derive(Clone)]
pub struct Upstream {
    client: Client<HttpConnector, Empty<Bytes>>,
}

impl Upstream {
    pub fn new() -> Self {
        Self { client: Client::builder(TokioExecutor::new()).build_http() }
    }

    /// The JSON at `url`, or what went wrong; tried `attempts` times, `timeout` for each.
    pub async fn json(
        &self,
        url: &str,
        headers: &HeaderMap,
        timeout: Duration,
        attempts: u32,
    ) -> Result<Value, Failure> {
        let mut last = Failure::Unreachable;
        for _ in 0..attempts {
            match tokio::time::timeout(timeout, self.get(url, headers)).await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(failure)) => last = failure,
                Err(_) => last = Failure::Unreachable,
            }
        }
        Err(last)
    }

    async fn get(&self, url: &str, headers: &HeaderMap) -> Result<Value, Failure> {
        let uri: Uri = url.parse().map_err(|_| Failure::Unreachable)?;
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = uri;
        *request.headers_mut() = headers.clone();
        let response = self.client.request(request).await.map_err(|_| Failure::Unreachable)?;
        if !response.status().is_success() {
            return Err(Failure::Status(response.status()));
        }
        let body = Limited::new(response.into_body(), BODY_BYTES_MAX)
            .collect()
            .await
            .map_err(|_| Failure::Unreachable)?;
        serde_json::from_slice(&body.to_bytes()).map_err(|_| Failure::Unreachable)
    }
}
