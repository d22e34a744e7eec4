//! Loads: so many connections that each wait for an answer, a steady pace, or a new connection for each request.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use ostro_testkit::pinned::Pinned;
use ostro_testkit::traffic::{AUTHORITY, Connection, PATIENCE, Speech};
use tokio::task::JoinSet;

/// How long a load goes on before it is measured.
const WARM_UP: Duration = Duration::from_millis(300);
/// Requests a second of a steady pace.
const PACE: u32 = 1_000;
/// Connections that share a steady pace.
const PACED: u32 = 16;
/// Connections that are opened at the same time where each request has its own.
const OPENING: usize = 16;

/// Where a load goes.
#[derive(Clone, Debug)]
pub struct Target {
    pub address: SocketAddr,
    pub speech: Speech,
    pub authority: &'static str,
}

impl Target {
    pub fn new(address: SocketAddr, speech: Speech) -> Target {
        let authority = if speech == Speech::Http2 { "http2.local" } else { AUTHORITY };
        Target { address, speech, authority }
    }

    async fn open(&self, from: Option<IpAddr>) -> Result<Connection, String> {
        Connection::open(self.address, from, self.speech, self.authority).await
    }
}

/// What came of a load.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// Requests a second.
    pub rate: f64,
    /// Seconds of processor time that the proxies took for a million requests.
    pub cpu: f64,
    /// Resident memory of the first proxy at the end of the load, bytes.
    pub rss: u64,
}

#[derive(Default)]
struct Counters {
    requests: Cell<u64>,
    ends: Cell<bool>,
}

fn cpu(proxies: &[&Pinned]) -> Duration {
    proxies.iter().map(|proxy| proxy.cpu()).sum()
}

/// Requests as fast as they are answered.
///
/// # Panics
/// One is not answered.
pub async fn closed(target: &Target, connections: usize, lasts: Duration, proxies: &[&Pinned]) -> Outcome {
    let counters = Rc::new(Counters::default());
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        let (target, counters) = (target.clone(), Rc::clone(&counters));
        tasks.spawn_local(async move {
            let mut connection = target.open(None).await?;
            while !counters.ends.get() {
                connection.request().await?;
                counters.requests.set(counters.requests.get() + 1);
            }
            Ok::<_, String>(())
        });
    }
    measure(counters, tasks, lasts, proxies).await
}

/// A connection for each request.
///
/// # Panics
/// One is not answered.
pub async fn connections(target: &Target, lasts: Duration, proxies: &[&Pinned]) -> Outcome {
    let counters = Rc::new(Counters::default());
    let mut tasks = JoinSet::new();
    for number in 0..OPENING {
        let (target, counters) = (target.clone(), Rc::clone(&counters));
        let [_, number] = u16::try_from(number).unwrap_or_default().to_be_bytes();
        tasks.spawn_local(async move {
            // Each from another address, so that no port is waited for.
            let mut turn = 0_u8;
            while !counters.ends.get() {
                turn = turn.wrapping_add(1);
                let from = IpAddr::V4(Ipv4Addr::new(127, 1, number, turn.max(1)));
                target.open(Some(from)).await?.request().await?;
                counters.requests.set(counters.requests.get() + 1);
            }
            Ok::<_, String>(())
        });
    }
    measure(counters, tasks, lasts, proxies).await
}

async fn measure(
    counters: Rc<Counters>,
    mut tasks: JoinSet<Result<(), String>>,
    lasts: Duration,
    proxies: &[&Pinned],
) -> Outcome {
    tokio::time::sleep(WARM_UP).await;
    let (began, requests, before) = (Instant::now(), counters.requests.get(), cpu(proxies));
    tokio::time::sleep(lasts).await;
    let (took, requests, after) = (began.elapsed(), counters.requests.get() - requests, cpu(proxies));
    let rss = proxies.first().map_or(0, |proxy| proxy.rss());
    counters.ends.set(true);
    let all = async {
        while let Some(ended) = tasks.join_next().await {
            ended
                .expect("a load that does not panic")
                .unwrap_or_else(|error| panic!("a request failed: {error}"));
        }
    };
    tokio::time::timeout(PATIENCE, all).await.expect("every request is answered in time");
    assert!(requests > 0, "no request was answered");
    Outcome {
        rate: requests as f64 / took.as_secs_f64(),
        cpu: (after - before).as_secs_f64() / requests as f64 * 1e6,
        rss,
    }
}

/// Times of a steady pace, microseconds from when each request was due: median and 99th percentile.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    pub p50: f64,
    pub p99: f64,
}

/// A thousand requests a second, however long each takes. The processor is never given up meanwhile, so that they
/// begin when they are due.
///
/// # Panics
/// One is not answered.
pub async fn paced(target: &Target, lasts: Duration) -> Times {
    let times = Rc::new(RefCell::new(Vec::new()));
    let gap = Duration::from_secs(1) / PACE;
    let mut tasks = JoinSet::new();
    let begin = Instant::now() + WARM_UP;
    for number in 0..PACED {
        let (target, times) = (target.clone(), Rc::clone(&times));
        tasks.spawn_local(async move {
            let mut connection = target.open(None).await?;
            connection.request().await?;
            for turn in 0.. {
                let due = begin + gap * (turn * PACED + number);
                if due > begin + lasts {
                    break;
                }
                while Instant::now() < due {
                    tokio::task::yield_now().await;
                }
                connection.request().await?;
                times.borrow_mut().push(due.elapsed());
            }
            Ok::<_, String>(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        let ended: Result<(), String> = ended.expect("a load that does not panic");
        ended.unwrap_or_else(|error| panic!("a request failed: {error}"));
    }
    let mut times = times.borrow_mut();
    times.sort_unstable();
    let at = |part: usize| times.get(times.len() * part / 100).map_or(0.0, |time| time.as_secs_f64() * 1e6);
    Times { p50: at(50), p99: at(99) }
}
