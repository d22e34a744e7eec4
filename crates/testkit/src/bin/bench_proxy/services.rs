//! Memory, and time from start to the first answer, of proxies that are told of many services.
//!
//! The resources are those of our control plane for an eager sidecar, made before anything is measured and served from
//! memory. Listeners that take what is turned to a sidecar are left out, and that of port 80 is bound to a port of its own,
//! so that no traffic has to be captured; the first service's endpoints are the backend.

use std::path::Path;
use std::time::{Duration, Instant};

use ostro_testkit::pinned::{self, Launch, Pinned, Processors};
use ostro_testkit::served::Sidecar;
use ostro_testkit::traffic::{Backend, Connection, Replies, Speech};

use crate::options::Options;
use crate::report::Report;
use crate::site::Subject;

const BOOTSTRAP: &str = include_str!("services.yaml");

/// How many services there are beside the one that is asked.
const SIZES: [usize; 3] = [0, 1_000, 5_000];
/// How often.
const ROUNDS: usize = 3;
/// How long it may take until the first answer.
const READY_MAX: Duration = Duration::from_secs(120);
/// How often it is asked.
const LOOK: Duration = Duration::from_millis(1);
/// How long memory is given to settle.
const SETTLE: Duration = Duration::from_secs(2);

pub async fn run(options: &Options, processors: Processors, dir: &Path, report: &mut Report) {
    let backend = Backend::start(Replies::Http1).await;
    for size in SIZES {
        let port = pinned::free_port();
        let sidecar = Sidecar::make(size + 1, port, backend.address).await;
        println!("{size} services: {} resources, {} bytes", sidecar.resources, sidecar.bytes);
        let ads = sidecar.served.serve().await;
        let rounds = if options.quick && size != 5_000 { 1 } else { ROUNDS.min(options.rounds) };
        for _ in 0..rounds {
            for subject in Subject::PROXIES {
                let values = [("ADS", ads.address.port().to_string())];
                let launch = Launch {
                    program: subject.program(&options.proxy),
                    bootstrap: pinned::bootstrap(BOOTSTRAP, &values),
                    processors,
                    dir: dir.join(format!("services-{}", subject.name())),
                };
                let mut process = Pinned::start(&launch);
                let ready = first_answer(&mut process, port, &sidecar.authority).await;
                tokio::time::sleep(SETTLE).await;
                let case = format!("services {size}");
                report.add(&format!("{case} ready"), subject, "ms", ready.as_secs_f64() * 1e3);
                report.add(&format!("{case} rss"), subject, "bytes", process.rss() as f64);
                report.add(&format!("{case} rss peak"), subject, "bytes", process.rss_peak() as f64);
                process.end();
            }
        }
    }
}

async fn first_answer(process: &mut Pinned, port: u16, authority: &str) -> Duration {
    let address = ([127, 0, 0, 1], port).into();
    let began = process.began;
    let mut last = String::new();
    while began.elapsed() < READY_MAX {
        process.check();
        let answered = match Connection::open(address, None, Speech::Http1, authority).await {
            Ok(mut connection) => connection.request().await,
            Err(error) => Err(error),
        };
        match answered {
            Ok(()) => return Instant::now() - began,
            Err(error) => last = error,
        }
        tokio::time::sleep(LOOK).await;
    }
    panic!("no answer in {READY_MAX:?}, the last time {last}; the proxy said: {}", process.said());
}
