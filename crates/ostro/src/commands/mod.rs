//! The subcommands, one file each.
//!
//! To add one: a file with `pub struct Args` (its options) and `impl Args { pub fn run(self) -> Outcome }`,
//! a variant below, and an arm in [`Command::run`]. A command that needs the async runtime starts it with
//! [`block_on`].

mod apply;
mod capture;
mod common;
mod control;
mod delete;
mod demo;
mod detach;
mod doctor;
mod down;
mod exec;
mod logs;
mod program;
pub mod proxy;
mod ps;
mod run;
mod scale;
mod up;
mod validate;
mod values;

use std::error::Error;
use std::future::Future;
use std::process::ExitCode;

/// What a subcommand ends with: an exit status that scripts rely on (`validate`: 1 = complaints),
/// or the error that kept it from doing its work.
pub type Outcome = Result<ExitCode, Box<dyn Error + Send + Sync>>;

/// Every role of Ostro.
#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// Serves the control plane: objects from files, xDS to proxies.
    Control(control::Args),
    /// Runs a proxy, sidecar or gateway, that is configured as Envoy is.
    Proxy(proxy::Args),
    /// Checks files of Kubernetes and Istio objects without a mesh.
    Validate(validate::Args),
    /// Shows, sets, checks and removes the rules that turn a pod's traffic to its proxy.
    Capture(Box<capture::Args>),
    // As the injector calls the program of Istio's init container, with its name first.
    /// As `capture apply`.
    #[command(name = "istio-iptables", hide = true, args_override_self = true)]
    IstioIptables(Box<capture::Apply>),
    /// Shows what a mesh is for: Bookinfo on this machine, to look around in or to be checked.
    Demo(demo::Args),
    /// Runs a whole mesh on this machine, from files.
    Up(up::Args),
    /// Runs a program in a mesh, with no YAML.
    Run(run::Args),
    /// Lists the pods of a mesh, or the meshes that run.
    Ps(ps::Args),
    /// Runs a program in a pod.
    Exec(exec::Args),
    /// Prints what a pod's programs wrote.
    Logs(logs::Args),
    /// Puts objects into a running mesh.
    Apply(apply::Args),
    /// Takes objects out that were applied.
    Delete(delete::Args),
    /// Asks for another number of pods.
    Scale(scale::Args),
    /// Ends a mesh, and removes what a killed one left.
    Down(down::Args),
    /// Says what this machine lacks for a mesh, and how to mend it.
    Doctor(doctor::Args),
}

impl Command {
    /// What is logged if nothing else is asked for. A mesh on this machine tells its story by itself.
    pub fn log_filter(&self) -> &'static str {
        match self {
            Command::Up(_) | Command::Run(_) | Command::Demo(_) => "warn",
            _ => "info",
        }
    }

    /// Runs the chosen subcommand to its end.
    pub fn run(self) -> Outcome {
        match self {
            Command::Control(args) => args.run(),
            Command::Proxy(args) => args.run(),
            Command::Doctor(args) => args.run(),
            Command::Validate(args) => args.run(),
            Command::Capture(args) => args.run(),
            Command::IstioIptables(args) => args.run(),
            Command::Demo(args) => args.run(),
            Command::Up(args) => args.run(),
            Command::Run(args) => args.run(),
            Command::Ps(args) => args.run(),
            Command::Exec(args) => args.run(),
            Command::Logs(args) => args.run(),
            Command::Apply(args) => args.run(),
            Command::Delete(args) => args.run(),
            Command::Scale(args) => args.run(),
            Command::Down(args) => args.run(),
        }
    }
}

/// Says why a command did not do its work.
pub fn report(error: &(dyn Error + 'static)) {
    let mut said = error.to_string();
    eprintln!("ostro: {said}");
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // Many errors tell their cause themselves.
        if !said.contains(&text) {
            eprintln!("  because: {text}");
            said = text;
        }
        cause = error.source();
    }
}

/// Runs a future to its end on a new multi-threaded runtime.
pub fn block_on<F: Future<Output = Outcome>>(future: F) -> Outcome {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(future)
}

/// Runs a future to its end on the calling thread, without any other.
pub fn block_on_here<T>(
    future: impl Future<Output = Result<T, Box<dyn Error + Send + Sync>>>,
) -> Result<T, Box<dyn Error + Send + Sync>> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}
