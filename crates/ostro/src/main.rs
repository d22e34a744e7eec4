//! `ostro`: the command line, every role as a subcommand.
//!
//! What it is: argument parsing, log set-up and an exit status. Each subcommand is one file under
//! `commands/`, and each of those only wires crates of the floors below.
//! What it is not: a place for decisions. Whatever can be tested without a process belongs further down.

#![forbid(unsafe_code)]

mod commands;
mod log;
mod usage;

use clap::{CommandFactory, Parser};
use std::process::ExitCode;

/// A service mesh that speaks Istio's API and Envoy's xDS.
#[derive(Parser, Debug)]
#[command(name = "ostro", version, propagate_version = true)]
#[command(after_help = "\
Examples:
  ostro demo                                           what a mesh is for, on this machine
  ostro up -f shop/                                    a mesh from your own files
  ostro run --name a --port http:8080 -- ./server      a program in a mesh, with no YAML
  ostro ps                                             what runs in it")]
struct Cli {
    #[command(flatten)]
    log: log::LogArgs,
    #[command(subcommand)]
    command: commands::Command,
}

fn main() -> ExitCode {
    // Its options are Envoy's, among them some that mean other things to us.
    if let Some(proxy) = commands::proxy::Args::of(std::env::args_os()) {
        return finish(proxy.run());
    }
    let args: Vec<String> = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage::explain(&error, Cli::command(), &args),
    };
    log::init(&cli.log, cli.command.log_filter());
    finish(cli.command.run())
}

fn finish(outcome: commands::Outcome) -> ExitCode {
    match outcome {
        Ok(code) => code,
        Err(error) => {
            commands::report(error.as_ref());
            ExitCode::FAILURE
        }
    }
}
