//! `cargo xtask bench local`: a mesh of many pods on this machine, brought up and ended several times, as the ordinary user
//! who would.
//!
//! Prints for each round, and as medians, how long it takes until every pod is ready, what it takes of memory and
//! processor time then, and how long until nothing of it is left. Fails if a median misses what
//! `docs/evidence.md` promises. Whether the mesh works is asked too: a service answers before the numbers count.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a measurement that cannot be made must stop")]

mod options;
mod report;
mod round;

use std::process::ExitCode;

use options::Options;
use report::Report;
use round::Site;

fn main() -> ExitCode {
    let options = match Options::read(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("bench-local: {error}");
            return ExitCode::FAILURE;
        }
    };
    let site = Site::new(&options);
    let mut report = Report::new(&options, &site);
    print!("{}", report.head());
    for number in 0..options.rounds {
        let round = site.round(number);
        println!("{}", report::line(number, &round));
        report.rounds.push(round);
    }
    print!("{}", report.summary());
    if let Some(path) = &options.json {
        std::fs::write(path, format!("{:#}\n", report.json())).unwrap();
    }
    match report.missed().as_slice() {
        [] => ExitCode::SUCCESS,
        missed => {
            eprintln!("bench-local: {}", missed.join("; "));
            ExitCode::FAILURE
        }
    }
}
