//! The traffic.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use ostro_testkit::traffic::{self, AUTHORITY, Connection, PATIENCE, Speech};
use tokio::task::JoinSet;

/// Between two requests of a connection.
const PAUSE: Duration = Duration::from_millis(10);
/// Between two connections of those that do not stay.
const GAP: Duration = Duration::from_millis(25);
/// Requests on a connection before another is opened.
const REQUESTS: usize = 2_000;
/// Messages of a WebSocket.
const MESSAGES: usize = 20;
/// Sorts of failures that are told apart.
const KINDS_MAX: usize = 50;

/// What is counted.
#[derive(Default)]
pub struct Counts {
    /// The traffic is to end.
    pub ends: Cell<bool>,
    /// By sort: what was answered, and what was not.
    pub by: RefCell<BTreeMap<&'static str, [u64; 2]>>,
    /// Why not.
    pub why: RefCell<BTreeMap<String, u64>>,
}

impl Counts {
    fn count(&self, sort: &'static str, done: &Result<(), String>) {
        let mut by = self.by.borrow_mut();
        let [good, bad] = by.entry(sort).or_default();
        match done {
            Ok(()) => *good += 1,
            Err(error) => {
                *bad += 1;
                let first = error.lines().next().unwrap_or_default();
                let mut why = self.why.borrow_mut();
                if why.len() < KINDS_MAX || why.contains_key(first) {
                    *why.entry(format!("{sort}: {first}")).or_default() += 1;
                }
            }
        }
    }
}

/// Starts all of it; `at`: for HTTP and for bytes.
pub fn start([http, tcp]: [SocketAddr; 2], counts: &Rc<Counts>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let sorts = [
        ("http/1.1", http, Speech::Http1, AUTHORITY, 6),
        ("http/2", http, Speech::Http2, "http2.local", 6),
        ("grpc", http, Speech::Grpc, AUTHORITY, 3),
        ("bytes", tcp, Speech::Http1, AUTHORITY, 3),
        ("to upstreams that vanish", http, Speech::Http1, "vanish.local", 3),
    ];
    for (sort, at, speech, authority, connections) in sorts {
        for _ in 0..connections {
            tasks.spawn_local(staying(sort, at, speech, authority, Rc::clone(counts)));
        }
    }
    for number in 0..2 {
        tasks.spawn_local(leaving(http, number, Rc::clone(counts)));
        tasks.spawn_local(websockets(http, Rc::clone(counts)));
        tasks.spawn_local(short(http, Rc::clone(counts)));
    }
    tasks
}

/// Ends it.
pub async fn stop(counts: &Counts, mut tasks: JoinSet<()>) {
    counts.ends.set(true);
    while let Some(ended) = tasks.join_next().await {
        ended.expect("a load that does not panic");
    }
}

async fn in_time(work: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or(Err("not in time".to_owned()))
}

async fn staying(
    sort: &'static str,
    at: SocketAddr,
    speech: Speech,
    authority: &'static str,
    counts: Rc<Counts>,
) {
    while !counts.ends.get() {
        let mut connection = match Connection::open(at, None, speech, authority).await {
            Ok(connection) => connection,
            Err(error) => {
                counts.count(sort, &Err(error));
                tokio::time::sleep(GAP).await;
                continue;
            }
        };
        for _ in 0..REQUESTS {
            let done = in_time(connection.request()).await;
            counts.count(sort, &done);
            if done.is_err() || counts.ends.get() {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn leaving(at: SocketAddr, number: usize, counts: Rc<Counts>) {
    let mut turn = number;
    while !counts.ends.get() {
        counts.count("clients that go away", &in_time(traffic::abandon(at, turn)).await);
        turn += 1;
        tokio::time::sleep(GAP).await;
    }
}

async fn websockets(at: SocketAddr, counts: Rc<Counts>) {
    while !counts.ends.get() {
        counts.count("websockets", &in_time(traffic::websocket(at, MESSAGES)).await);
        tokio::time::sleep(GAP).await;
    }
}

async fn short(at: SocketAddr, counts: Rc<Counts>) {
    while !counts.ends.get() {
        let once = async { Connection::open(at, None, Speech::Http1, AUTHORITY).await?.request().await };
        counts.count("a connection each", &in_time(once).await);
        tokio::time::sleep(GAP).await;
    }
}
