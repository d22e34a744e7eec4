//! `cargo xtask bench proxy`: our L7 proxy and stock Envoy in turn, on one processor, with one worker and the very same
//! configuration; client and backend on another.
//!
//! Measures requests a second, processor time and memory under load (one proxy, and a pair in a row), times at a steady
//! pace, new connections, and memory and time until ready with many services. `--quick` measures what the ratios need.
//! Not a test: it fails only if something is not answered.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a measurement that cannot be made must stop")]

mod load;
mod options;
mod report;
mod rounds;
mod services;
mod site;

use std::process::ExitCode;

use options::{Options, Part};
use ostro_testkit::pinned::{self, Processors};
use report::Report;

fn main() -> ExitCode {
    let options = match Options::read(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("bench-proxy: {error}");
            return ExitCode::FAILURE;
        }
    };
    let processors = Processors::find();
    pinned::pin(processors.rest);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let report = tokio::task::LocalSet::new().block_on(&runtime, measure(&options, processors));
    print!("{}", report.summary());
    if let Some(path) = &options.json {
        std::fs::write(path, format!("{:#}\n", report.json())).unwrap();
    }
    ExitCode::SUCCESS
}

async fn measure(options: &Options, processors: Processors) -> Report {
    let mut report = Report::new(options, processors);
    print!("{}", report.head());
    let dir = tempfile::tempdir().unwrap();
    if [Part::Load, Part::Latency, Part::Connections].iter().any(|part| options.wants(*part)) {
        rounds::run(options, processors, dir.path(), &mut report).await;
    }
    if options.wants(Part::Services) {
        services::run(options, processors, dir.path(), &mut report).await;
    }
    report
}
