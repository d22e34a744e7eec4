//! Two proxies of each kind in a row, and the backends behind them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ostro_testkit::envoy;
use ostro_testkit::pinned::{self, Launch, Pinned, Processors};
use ostro_testkit::traffic::{Backend, Replies, Speech};

use crate::load::Target;

const BOOTSTRAP: &str = include_str!("bootstrap.yaml");

/// How long a proxy may take to listen.
const START_MAX: Duration = Duration::from_secs(30);
/// How long a proxy is left alone before its idle memory is looked at.
const SETTLE: Duration = Duration::from_secs(2);

/// What stands between client and backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    Direct,
    Ours,
    Envoy,
}

impl Subject {
    pub const PROXIES: [Subject; 2] = [Subject::Ours, Subject::Envoy];

    pub fn name(self) -> &'static str {
        match self {
            Subject::Direct => "direct",
            Subject::Ours => "ours",
            Subject::Envoy => "envoy",
        }
    }

    pub fn program(self, ours: &Path) -> PathBuf {
        match self {
            Subject::Envoy => envoy::binary(),
            _ => ours.to_owned(),
        }
    }
}

/// What is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Traffic {
    Http1,
    Http2,
    Grpc,
    Tcp,
}

impl Traffic {
    pub const ALL: [Traffic; 4] = [Traffic::Http1, Traffic::Http2, Traffic::Grpc, Traffic::Tcp];

    pub fn name(self) -> &'static str {
        match self {
            Traffic::Http1 => "http1",
            Traffic::Http2 => "http2",
            Traffic::Grpc => "grpc",
            Traffic::Tcp => "tcp",
        }
    }

    fn speech(self) -> Speech {
        match self {
            Traffic::Http1 | Traffic::Tcp => Speech::Http1,
            Traffic::Http2 => Speech::Http2,
            Traffic::Grpc => Speech::Grpc,
        }
    }
}

/// The backends.
pub struct Backends {
    http1: Backend,
    http2: Backend,
    grpc: Backend,
}

impl Backends {
    pub async fn start() -> Backends {
        Backends {
            http1: Backend::start(Replies::Http1).await,
            http2: Backend::start(Replies::Http2).await,
            grpc: Backend::start(Replies::Grpc).await,
        }
    }

    fn target(&self, traffic: Traffic) -> Target {
        let address = match traffic {
            Traffic::Http1 | Traffic::Tcp => self.http1.address,
            Traffic::Http2 => self.http2.address,
            Traffic::Grpc => self.grpc.address,
        };
        Target::new(address, traffic.speech())
    }
}

/// One proxy.
struct Hop {
    process: Pinned,
    http: SocketAddr,
    tcp: SocketAddr,
    log: PathBuf,
}

impl Hop {
    async fn start(program: &Path, dir: PathBuf, processors: Processors, behind: [SocketAddr; 4]) -> Hop {
        let local = || SocketAddr::from(([127, 0, 0, 1], pinned::free_port()));
        let (http, tcp, log) = (local(), local(), dir.join("access.log"));
        let [http1, http2, grpc, bytes] = behind.map(|address| address.port().to_string());
        let values = [
            ("HTTP", http.port().to_string()),
            ("TCP", tcp.port().to_string()),
            ("LOG", log.display().to_string()),
            ("BACKEND_HTTP1", http1),
            ("BACKEND_HTTP2", http2),
            ("BACKEND_GRPC", grpc),
            ("BACKEND_TCP", bytes),
        ];
        let bootstrap = pinned::bootstrap(BOOTSTRAP, &values);
        let mut process = Pinned::start(&Launch { program: program.to_owned(), bootstrap, processors, dir });
        process.wait_for(http, START_MAX).await;
        process.wait_for(tcp, START_MAX).await;
        Hop { process, http, tcp, log }
    }

    fn target(&self, traffic: Traffic) -> Target {
        Target::new(if traffic == Traffic::Tcp { self.tcp } else { self.http }, traffic.speech())
    }
}

/// Two proxies of one kind: `back` is before the backends, `front` before `back`.
struct Pair {
    back: Hop,
    front: Hop,
    idle: u64,
}

/// Everything that runs while loads are measured.
pub struct Site {
    backends: Backends,
    ours: Pair,
    envoy: Pair,
}

impl Site {
    pub async fn start(ours: &Path, dir: &Path, processors: Processors) -> Site {
        let backends = Backends::start().await;
        let http1 = backends.http1.address;
        let behind = [http1, backends.http2.address, backends.grpc.address, http1];
        let mut pairs = Vec::new();
        for subject in Subject::PROXIES {
            let program = subject.program(ours);
            let place = |name: &str| dir.join(format!("{}-{name}", subject.name()));
            let back = Hop::start(&program, place("back"), processors, behind).await;
            let next = [back.http, back.http, back.http, back.tcp];
            let front = Hop::start(&program, place("front"), processors, next).await;
            pairs.push((back, front));
        }
        tokio::time::sleep(SETTLE).await;
        let mut pairs = pairs.into_iter().map(|(back, front)| {
            let idle = back.process.rss();
            Pair { back, front, idle }
        });
        let (Some(ours), Some(envoy)) = (pairs.next(), pairs.next()) else {
            unreachable!("two were started")
        };
        Site { backends, ours, envoy }
    }

    fn pair(&self, subject: Subject) -> &Pair {
        if subject == Subject::Envoy { &self.envoy } else { &self.ours }
    }

    /// Where a load goes, and through which processes.
    pub fn way(&self, subject: Subject, traffic: Traffic, is_pair: bool) -> (Target, Vec<&Pinned>) {
        if subject == Subject::Direct {
            return (self.backends.target(traffic), Vec::new());
        }
        let pair = self.pair(subject);
        match is_pair {
            false => (pair.back.target(traffic), vec![&pair.back.process]),
            true => (pair.front.target(traffic), vec![&pair.front.process, &pair.back.process]),
        }
    }

    /// Memory of one proxy before its first request, bytes.
    pub fn idle(&self, subject: Subject) -> u64 {
        self.pair(subject).idle
    }

    /// Memory of one proxy now, bytes.
    pub fn rss(&self, subject: Subject) -> u64 {
        self.pair(subject).back.process.rss()
    }

    /// Empties the access logs.
    pub fn empty_logs(&self) {
        for pair in [&self.ours, &self.envoy] {
            pinned::empty(&pair.back.log);
            pinned::empty(&pair.front.log);
        }
    }
}
