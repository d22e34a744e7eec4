//! A paced HTTP load on one address: so many requests a second over so many kept-alive connections, with every
//! answer judged by the caller.
//!
//! Not a benchmark: it measures no latency. It exists to show that nothing failed while something was changed.
//!
//! Invariants:
//! * Every request has a moment at which it is due, fixed when the load starts. None is left out: what is late,
//!   because every connection was waiting for an answer, is sent as soon as one is free.
//! * Requests under way are at most as many as connections.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::SendRequest;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// No single request may take longer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// Failures that a report tells in full; all are counted.
const FAILURES_TOLD: usize = 20;

/// What to send, and how often.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where; loopback, or an address in a namespace that the test made.
    pub target: SocketAddr,
    /// Path and query.
    pub path: String,
    /// Headers, `host` among them.
    pub headers: Vec<(String, String)>,
    /// Requests per second.
    pub rate: u32,
    /// Connections, kept alive.
    pub connections: usize,
}

/// One answer as the judge sees it.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Body, whole.
    pub body: Bytes,
    /// Response headers, lower-case names.
    pub headers: BTreeMap<String, String>,
}

/// Says which class an answer belongs to (`ok`, `v1`...). `Err` makes it a failure.
pub type Judge = dyn Fn(&Answer) -> Result<String, String> + Send + Sync;

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Requests answered and classed by the judge.
    pub classes: BTreeMap<String, u64>,
    /// Failures: how many, and the first few with the time since start.
    pub failed: u64,
    /// The first failures.
    pub failures: Vec<(Duration, String)>,
}

impl Report {
    /// Requests in all.
    pub fn total(&self) -> u64 {
        self.failed + self.classes.values().sum::<u64>()
    }

    /// How many the judge put into `class`.
    pub fn count(&self, class: &str) -> u64 {
        self.classes.get(class).copied().unwrap_or(0)
    }
}

/// A running load.
pub struct Load {
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    shared: Arc<Shared>,
}

struct Shared {
    plan: Plan,
    judge: Box<Judge>,
    started: Instant,
    /// Requests that a connection has taken on; the next one's number.
    taken: AtomicU64,
    done: AtomicU64,
    report: Mutex<Report>,
}

impl Load {
    /// Starts sending, from the runtime (and the network namespace) that this is called in.
    pub fn start(
        plan: Plan,
        judge: impl Fn(&Answer) -> Result<String, String> + Send + Sync + 'static,
    ) -> Load {
        let connections = plan.connections.max(1);
        let shared = Arc::new(Shared {
            plan,
            judge: Box::new(judge),
            started: Instant::now(),
            taken: AtomicU64::new(0),
            done: AtomicU64::new(0),
            report: Mutex::default(),
        });
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for _ in 0..connections {
            tasks.spawn(worker(shared.clone(), stopped.clone()));
        }
        Load { stop, tasks, shared }
    }

    /// Time since it started.
    pub fn elapsed(&self) -> Duration {
        self.shared.started.elapsed()
    }

    /// Requests that were due so far.
    pub fn due(&self) -> u64 {
        (self.elapsed().as_secs_f64() * f64::from(self.shared.plan.rate)) as u64
    }

    /// Requests that were due and are not finished: under way, or late.
    pub fn owed(&self) -> u64 {
        // The first is due at once, so one more than this counts may be done.
        self.due().saturating_sub(self.done())
    }

    /// Requests finished so far.
    pub fn done(&self) -> u64 {
        self.shared.done.load(Ordering::Relaxed)
    }

    /// Waits until `count` more requests have finished.
    pub async fn more(&self, count: u64) {
        let goal = self.done() + count;
        let mut tick = tokio::time::interval(Duration::from_millis(5));
        while self.done() < goal {
            tick.tick().await;
        }
    }

    /// What has come in since the last call; the tallies start again at zero.
    pub fn take(&self) -> Report {
        std::mem::take(&mut *self.shared.report())
    }

    /// Stops, waits for what is under way, and reports what has come in since the last [`take`](Self::take).
    pub async fn finish(mut self) -> Report {
        let _ = self.stop.send(true);
        while self.tasks.join_next().await.is_some() {}
        std::mem::take(&mut *self.shared.report())
    }
}

/// One connection: takes on one request after the other, each not before it is due.
async fn worker(shared: Arc<Shared>, mut stopped: watch::Receiver<bool>) {
    let mut connection = None;
    loop {
        let number = shared.taken.fetch_add(1, Ordering::Relaxed);
        let due = Duration::from_secs_f64(number as f64 / f64::from(shared.plan.rate));
        tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => return,
            () = tokio::time::sleep_until((shared.started + due).into()) => {}
        }
        match tokio::time::timeout(REQUEST_TIMEOUT, send(&shared.plan, &mut connection)).await {
            Ok(Ok(answer)) => shared.judge(&answer),
            Ok(Err(error)) => {
                connection = None;
                shared.fail(error);
            }
            Err(_) => {
                connection = None;
                shared.fail(format!("no answer within {REQUEST_TIMEOUT:?}"));
            }
        }
        shared.done.fetch_add(1, Ordering::Relaxed);
    }
}

async fn send(plan: &Plan, connection: &mut Option<SendRequest<Empty<Bytes>>>) -> Result<Answer, String> {
    // One that the other end has said to close is ready no more, and nothing was sent on it.
    let is_ready = match connection.as_mut() {
        Some(open) => !open.is_closed() && open.ready().await.is_ok(),
        None => false,
    };
    if !is_ready {
        *connection = Some(connect(plan.target).await?);
    }
    let Some(open) = connection.as_mut() else { return Err("no connection".to_string()) };
    open.ready().await.map_err(|error| format!("connection: {error}"))?;
    let mut request = Request::get(&plan.path);
    for (name, value) in &plan.headers {
        request = request.header(name, value);
    }
    let request = request.body(Empty::new()).map_err(|error| format!("request: {error}"))?;
    let response = open.send_request(request).await.map_err(|error| format!("request: {error:?}"))?;
    read(response).await
}

async fn connect(target: SocketAddr) -> Result<SendRequest<Empty<Bytes>>, String> {
    let stream = TcpStream::connect(target).await.map_err(|error| format!("connect {target}: {error}"))?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| format!("handshake: {error}"))?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn read(response: Response<hyper::body::Incoming>) -> Result<Answer, String> {
    let status = response.status().as_u16();
    let headers = response
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    let body = response.into_body().collect().await.map_err(|error| format!("body: {error}"))?.to_bytes();
    Ok(Answer { status, body, headers })
}

impl Shared {
    fn judge(&self, answer: &Answer) {
        match (self.judge)(answer) {
            Ok(class) => *self.report().classes.entry(class).or_default() += 1,
            Err(reason) => self.fail(reason),
        }
    }

    fn fail(&self, reason: String) {
        let mut report = self.report();
        report.failed += 1;
        if report.failures.len() < FAILURES_TOLD {
            report.failures.push((self.started.elapsed(), reason));
        }
    }

    fn report(&self) -> MutexGuard<'_, Report> {
        // Nobody panics while holding it.
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends one request and gives its answer.
pub async fn get(target: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Result<Answer, String> {
    let plan = Plan {
        target,
        path: path.to_string(),
        headers: headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        rate: 1,
        connections: 1,
    };
    tokio::time::timeout(REQUEST_TIMEOUT, send(&plan, &mut None)).await.map_err(|_| "timeout".to_string())?
}
