//! The project's chores, run as `cargo xtask NAME`.
//!
//! What it is: set-up of foreign tools and the order in which things are built and run, in plain `std`, so
//! that it compiles in seconds on a machine that has only Rust and Python.
//! What it is not: a test, or a place for anything the product needs.
//!
//! Invariant: every chore starts from a clean clone, and a second run does no work twice.

#![forbid(unsafe_code)]

mod chores;
mod dist;
mod library;
mod setup;
mod shell;
mod tools;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// The project's chores.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Installs what tests and demo need: a stock Envoy, nftables and friends, cargo-nextest.
    Setup,
    /// Runs every test; further arguments go to `cargo nextest run`.
    Test {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Builds and runs `ostro demo`; further arguments go to it.
    Demo {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Builds and runs `ostro up` on your own files; arguments go to it (`-f PATH...`).
    Up {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Runs foreign cases: DIR is laid out as a folder of such cases, FOLDER picks some of them.
    Conformance {
        /// What the proxies are in cases that have any: ostro, envoy, or mixed (every second one is Envoy).
        #[arg(long)]
        proxy: Option<String>,
        dir: PathBuf,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        folders: Vec<String>,
    },
    /// Measures: NAME is one of the benchmarks listed by `cargo xtask bench --help`.
    Bench {
        #[arg(value_enum)]
        name: chores::Bench,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Static programs and an archive of them, in `target/`; `packaging/build-image.sh` makes an image of it.
    Dist,
    /// Formatting and lints, warnings denied.
    Lint,
    /// Licences, sources and duplicates of dependencies; advisories where their database can be fetched.
    Deny,
}

fn main() -> ExitCode {
    let done = match Cli::parse().chore {
        Chore::Setup => setup::everything(),
        Chore::Test { args } => chores::test(&args),
        Chore::Demo { args } => chores::ostro("demo", &args),
        Chore::Up { args } => chores::ostro("up", &args),
        Chore::Conformance { proxy, dir, folders } => chores::conformance(proxy.as_deref(), &dir, &folders),
        Chore::Bench { name, args } => chores::bench(name, &args),
        Chore::Dist => dist::dist(),
        Chore::Lint => chores::lint(),
        Chore::Deny => chores::deny(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("xtask: {failure}");
            ExitCode::FAILURE
        }
    }
}
