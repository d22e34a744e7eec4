//! Requests from outside, and what came back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{COOKIE, HOST};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::task::JoinSet;

/// Requests under way at a time.
const CONCURRENCY: usize = 16;
/// An answer that takes longer is none.
const TIMEOUT: Duration = Duration::from_secs(10);
const BODY_BYTES_MAX: usize = 1 << 20;

/// What to ask for.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// Path and query.
    pub path: &'static str,
    /// The host asked.
    pub host: &'static str,
    /// Who is logged in.
    pub user: Option<&'static str>,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// `None`: nothing did.
    pub status: Option<StatusCode>,
    /// `Null` if it is not JSON.
    pub body: Value,
    /// From the request's first byte to the answer's last.
    pub took: Duration,
}

impl Answer {
    /// True for a status below 400.
    pub fn is_ok(&self) -> bool {
        self.status.is_some_and(|status| status.as_u16() < 400)
    }

    /// Which version of reviews answered: `v1`, `v2`, `v3`.
    pub fn reviews_version(&self) -> Option<&str> {
        self.body["podname"].as_str()?.strip_prefix("reviews-")?.get(..2)
    }

    /// True if every review has its stars; false if ratings were missed.
    pub fn has_stars(&self) -> bool {
        let reviews = self.body["reviews"].as_array().map(Vec::as_slice).unwrap_or_default();
        !reviews.is_empty() && reviews.iter().all(|review| review["rating"]["stars"].is_u64())
    }
}

/// A client of one gateway, with kept-alive connections.
#[derive(Clone, Debug)]
pub struct Client {
    gateway: SocketAddr,
    http: hyper_util::client::legacy::Client<HttpConnector, Empty<Bytes>>,
}

impl Client {
    /// A client of the gateway at `gateway`.
    pub fn new(gateway: SocketAddr) -> Self {
        let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build_http();
        Self { gateway, http }
    }

    /// Asks `count` times, several at a time.
    pub async fn ask(&self, ask: Ask, count: usize) -> Vec<Answer> {
        let left = Arc::new(AtomicUsize::new(count));
        let mut workers = JoinSet::new();
        for _ in 0..CONCURRENCY.min(count) {
            let (client, left) = (self.clone(), left.clone());
            workers.spawn(async move {
                let mut answers = Vec::new();
                while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok() {
                    answers.push(client.once(ask).await);
                }
                answers
            });
        }
        workers.join_all().await.concat()
    }

    async fn once(&self, ask: Ask) -> Answer {
        let begun = Instant::now();
        let answer = tokio::time::timeout(TIMEOUT, self.exchange(ask)).await.ok().flatten();
        let took = begun.elapsed();
        match answer {
            Some((status, body)) => Answer { status: Some(status), body, took },
            None => Answer { status: None, body: Value::Null, took },
        }
    }

    async fn exchange(&self, ask: Ask) -> Option<(StatusCode, Value)> {
        let mut request =
            Request::builder().uri(format!("http://{}{}", self.gateway, ask.path)).header(HOST, ask.host);
        if let Some(user) = ask.user {
            request = request.header(COOKIE, format!("session={user}"));
        }
        let response = self.http.request(request.body(Empty::new()).ok()?).await.ok()?;
        let status = response.status();
        let body = Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await.ok()?.to_bytes();
        Some((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
    }
}
