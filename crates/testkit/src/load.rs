//! A bounded, paced HTTP load on one loopback address: so many requests a second over so many kept-alive
//! connections, with every answer judged by the caller.
//!
//! Not a benchmark: it measures no latency. It exists to show that nothing failed while something was changed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::SendRequest;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinSet;

/// Requests that may wait for a connection; what is due beyond this is not sent, and counted as such.
const BACKLOG: usize = 256;

/// No single request may take longer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

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
    /// Requests that were due and not sent, because machine or mesh could not keep up with the planned rate.
    pub unsent: u64,
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
    done: AtomicU64,
    report: Mutex<Report>,
}

impl Load {
    /// Starts sending.
    pub fn start(
        plan: Plan,
        judge: impl Fn(&Answer) -> Result<String, String> + Send + Sync + 'static,
    ) -> Load {
        let connections = plan.connections.max(1);
        let shared = Arc::new(Shared {
            plan,
            judge: Box::new(judge),
            started: Instant::now(),
            done: AtomicU64::new(0),
            report: Mutex::default(),
        });
        let (stop, stopped) = watch::channel(false);
        let (tickets, queue) = mpsc::channel::<()>(BACKLOG);
        let queue = Arc::new(Mutex::new(queue));
        let mut tasks = JoinSet::new();
        tasks.spawn(pace(shared.clone(), tickets, stopped));
        for _ in 0..connections {
            tasks.spawn(worker(shared.clone(), queue.clone()));
        }
        Load { stop, tasks, shared }
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
    pub async fn take(&self) -> Report {
        std::mem::take(&mut *self.shared.report.lock().await)
    }

    /// Stops, waits for what is under way, and reports what has come in since the last [`take`](Self::take).
    pub async fn finish(mut self) -> Report {
        let _ = self.stop.send(true);
        while self.tasks.join_next().await.is_some() {}
        std::mem::take(&mut *self.shared.report.lock().await)
    }
}

/// Hands out tickets at the planned rate, catching up when the timer is late.
async fn pace(shared: Arc<Shared>, tickets: mpsc::Sender<()>, mut stopped: watch::Receiver<bool>) {
    let mut tick = tokio::time::interval(Duration::from_millis(2));
    let mut handed = 0u64;
    loop {
        tokio::select! {
            _ = stopped.changed() => return,
            _ = tick.tick() => {}
        }
        let due = (shared.started.elapsed().as_secs_f64() * f64::from(shared.plan.rate)) as u64;
        while handed < due {
            handed += 1;
            if tickets.try_send(()).is_err() {
                shared.report.lock().await.unsent += 1;
            }
        }
    }
}

async fn worker(shared: Arc<Shared>, queue: Arc<Mutex<mpsc::Receiver<()>>>) {
    let mut connection = None;
    loop {
        let ticket = queue.lock().await.recv().await;
        if ticket.is_none() {
            return;
        }
        match tokio::time::timeout(REQUEST_TIMEOUT, send(&shared.plan, &mut connection)).await {
            Ok(Ok(answer)) => shared.judge(&answer).await,
            Ok(Err(error)) => {
                connection = None;
                shared.fail(error).await;
            }
            Err(_) => {
                connection = None;
                shared.fail(format!("no answer within {REQUEST_TIMEOUT:?}")).await;
            }
        }
        shared.done.fetch_add(1, Ordering::Relaxed);
    }
}

async fn send(plan: &Plan, connection: &mut Option<SendRequest<Empty<Bytes>>>) -> Result<Answer, String> {
    if connection.as_ref().is_none_or(|open| open.is_closed()) {
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
    async fn judge(&self, answer: &Answer) {
        match (self.judge)(answer) {
            Ok(class) => *self.report.lock().await.classes.entry(class).or_default() += 1,
            Err(reason) => self.fail(reason).await,
        }
    }

    async fn fail(&self, reason: String) {
        let mut report = self.report.lock().await;
        report.failed += 1;
        if report.failures.len() < 20 {
            report.failures.push((self.started.elapsed(), reason));
        }
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
