//! `cargo xtask bench soak`: our L7 proxy for half an hour under mixed traffic, while its configuration and the endpoints of
//! its clusters change.
//!
//! HTTP/1.1, HTTP/2, gRPC, bytes, WebSockets, clients that go away in the middle, upstreams that are not there or break
//! off. Prints how memory grew over the last part, descriptors before and after, and panics. Fails if it panicked, a
//! descriptor is left, or memory grew by more than [`GROWTH_MAX`].
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a measurement that cannot be made must stop")]

mod churn;
mod load;
mod options;
mod report;

use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use churn::Churn;
use load::Counts;
use options::Options;
use ostro_testkit::pinned::{self, Launch, Pinned, Processors};
use ostro_testkit::served::Served;
use ostro_testkit::traffic::{Backend, Replies};
use report::{Report, Sample};

const BOOTSTRAP: &str = include_str!("bootstrap.yaml");

/// How long the proxy may take to listen.
const START_MAX: Duration = Duration::from_secs(30);
/// How often memory is looked at.
const LOOK: Duration = Duration::from_secs(10);
/// The access log is emptied this often: it would be gigabytes.
const EMPTY: u32 = 6;
/// How long connections may take to end after the traffic has.
const END_MAX: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let options = match Options::read(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("bench-soak: {error}");
            return ExitCode::FAILURE;
        }
    };
    let processors = Processors::find();
    pinned::pin(processors.rest);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let report = tokio::task::LocalSet::new().block_on(&runtime, soak(&options, processors));
    print!("{}", report.summary());
    if let Some(path) = &options.json {
        std::fs::write(path, format!("{:#}\n", report.json())).unwrap();
    }
    match report.missed().as_slice() {
        [] => ExitCode::SUCCESS,
        missed => {
            eprintln!("bench-soak: {}", missed.join("; "));
            ExitCode::FAILURE
        }
    }
}

async fn soak(options: &Options, processors: Processors) -> Report {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("access.log");
    let backends = [
        Backend::start(Replies::Http1).await,
        Backend::start(Replies::Http1).await,
        Backend::start(Replies::Http2).await,
        Backend::start(Replies::Grpc).await,
        Backend::start(Replies::Broken).await,
    ];
    let served = Served::default();
    let addresses = [(); 2].map(|()| ([127, 0, 0, 1], pinned::free_port()).into());
    let mut churn =
        Churn::new(served.clone(), backends.each_ref().map(|backend| backend.address), addresses, &log);
    churn.begin();
    let ads = served.serve().await;
    let values = [("ADS", ads.address.port().to_string())];
    let mut process = Pinned::start(&Launch {
        program: options.proxy.clone(),
        bootstrap: pinned::bootstrap(BOOTSTRAP, &values),
        processors,
        dir: dir.path().join("proxy"),
    });
    for address in addresses {
        process.wait_for(address, START_MAX).await;
    }
    let mut report = Report::new(options, quiet(&process, usize::MAX).await);
    let counts = Rc::new(Counts::default());
    let churning = tokio::task::spawn_local(churn.run(Rc::clone(&counts)));
    let tasks = load::start(addresses, &counts);
    let began = Instant::now();
    let mut looks = 0;
    while began.elapsed() < options.lasts {
        tokio::time::sleep(LOOK.min(options.lasts)).await;
        process.check();
        let sample =
            Sample { after: began.elapsed(), rss: process.rss(), descriptors: process.descriptors() };
        report.add(sample, &counts);
        looks += 1;
        if looks % EMPTY == 0 {
            pinned::empty(&log);
        }
    }
    load::stop(&counts, tasks).await;
    churning.await.unwrap();
    // With the backends their connections end, which the proxy would keep.
    drop(backends);
    report.end(quiet(&process, report.descriptors_before).await, &process.said(), &counts, served.refusals());
    report
}

/// Descriptors once connections have ended: waits until there are no more than `wanted`, or no fewer come any more.
async fn quiet(process: &Pinned, wanted: usize) -> usize {
    let began = Instant::now();
    let (mut now, mut since) = (process.descriptors(), Instant::now());
    while began.elapsed() < END_MAX {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let next = process.descriptors();
        if next != now {
            (now, since) = (next, Instant::now());
        }
        // Kept connections that their peers have closed are found once a second.
        let patience = if now <= wanted { Duration::from_secs(4) } else { Duration::from_secs(30) };
        if since.elapsed() >= patience {
            break;
        }
    }
    now
}
