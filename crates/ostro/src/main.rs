//! `ostro`: the command line, every role as a subcommand.
//!
//! What it is: argument parsing, log set-up and an exit status. Each subcommand is one file under
//! `commands/`, and each of those only wires crates of the floors below.
//! What it is not: a place for decisions. Whatever can be tested without a process belongs further down.

#![forbid(unsafe_code)]

mod commands;
mod log;

use clap::Parser;
use std::process::ExitCode;

/// A service mesh that speaks Istio's API and Envoy's xDS.
#[derive(Parser, Debug)]
#[command(name = "ostro", version, about, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    log: log::LogArgs,
    #[command(subcommand)]
    command: commands::Command,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    log::init(&cli.log, cli.command.log_filter());
    match cli.command.run() {
        Ok(code) => code,
        Err(error) => {
            commands::report(error.as_ref());
            ExitCode::FAILURE
        }
    }
}
