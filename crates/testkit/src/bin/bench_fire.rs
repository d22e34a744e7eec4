//! `cargo xtask bench fire`: a thousand changes of configuration a second for a minute, at 2,000 requests a second.
//!
//! Fails if a request fails or meets more than one configuration, if the proxy refuses or leaves out a change, or if its
//! memory does not come back to where it was.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a measurement that cannot be made must stop")]

use std::process::ExitCode;
use std::time::Duration;

use ostro_testkit::fire::{Plan, run};

/// Beyond what it had before, the proxy may keep so much: what its allocator does not give back.
const MEMORY_MORE: u64 = 16 << 20;

fn plan() -> Plan {
    let mut plan = Plan {
        updates: 1_000,
        requests: 2_000,
        connections: 50,
        warm_up: Duration::from_secs(5),
        fire: Duration::from_secs(60),
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value: u32 = arguments.next().and_then(|text| text.parse().ok()).expect("a number");
        match name.as_str() {
            "--updates" => plan.updates = value,
            "--requests" => plan.requests = value,
            "--seconds" => plan.fire = Duration::from_secs(value.into()),
            other => panic!("{other}: there are --updates, --requests and --seconds, each with a number"),
        }
    }
    plan
}

#[tokio::main]
async fn main() -> ExitCode {
    let plan = plan();
    println!("{plan:?}");
    let report = run(plan).await;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let seconds = report.took.as_secs_f64();
    println!(
        "{} changes in {seconds:.1} s ({:.0}/s), {} responses acknowledged, {} refused",
        report.updates,
        report.updates as f64 / seconds,
        report.acknowledged,
        report.refused.len()
    );
    println!(
        "{} requests answered, {} due, {} failed; they met {} of {} route tables",
        report.load.total(),
        report.due,
        report.load.failed,
        report.tables.0,
        report.tables.1
    );
    println!(
        "resident memory: {:.1} MiB before, {:.1} MiB at most, {:.1} MiB after; descriptors: {} before, {} after",
        mib(report.memory.0),
        mib(report.memory_max),
        mib(report.memory.1),
        report.descriptors.0,
        report.descriptors.1
    );
    let mut wrong = Vec::new();
    wrong.extend(report.load.failures.iter().map(|(at, why)| format!("request at {at:.1?}: {why}")));
    wrong.extend(report.refused.iter().take(5).map(|why| format!("refused: {why}")));
    if report.load.failed > 0 && wrong.is_empty() {
        wrong.push("requests failed".to_owned());
    }
    if report.acknowledged < report.updates * 9 / 10 {
        wrong.push("changes were left out".to_owned());
    }
    if report.load.total() < report.due * 99 / 100 {
        wrong.push("the load could not be carried".to_owned());
    }
    if report.memory.1 > report.memory.0 + MEMORY_MORE {
        wrong.push("memory did not come back".to_owned());
    }
    for line in &wrong {
        eprintln!("{line}");
    }
    if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
