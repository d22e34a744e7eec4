//! `ostro up`: a whole mesh on this machine, from files.

use super::Outcome;
use ostro_local::images::Images;
use ostro_local::sandbox;
use ostro_local::tools::Tools;
use ostro_local::up::{Mesh, Options};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// Options of `ostro up`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Files and directories to follow: Services, Deployments, VirtualServices...
    #[arg(short = 'f', long = "file", required = true, num_args = 1.., value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Where the mesh writes logs and what it remembers.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/ostro/local")]
    state_dir: PathBuf,
    /// Which program stands in for an image; entries come before the built-in ones (samples/images.yaml).
    #[arg(long, value_name = "FILE")]
    images: Option<PathBuf>,
    /// Where the ingress gateway is reached; port 0 takes one that is free.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    ingress: SocketAddr,
    /// Where the control plane's metrics and debug pages are reached; port 0 takes one that is free.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:15014")]
    control_http: SocketAddr,
    /// Stock Envoy [default: OSTRO_ENVOY, else the one `cargo xtask setup` installs, else in PATH].
    #[arg(long, value_name = "FILE")]
    envoy: Option<PathBuf>,
    /// Seconds that the proxy of a pod that goes away lets requests end.
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    drain: u64,
}

impl Args {
    /// Brings the mesh up and holds it until SIGINT or SIGTERM.
    pub fn run(self) -> Outcome {
        // Before the first thread.
        sandbox::enter(|_| ())?;
        super::block_on(self.hold())
    }

    async fn hold(self) -> Outcome {
        let tools = Tools::find(self.envoy)?;
        let images = match &self.images {
            Some(path) => Images::read(path)?.then(Images::built_in()?),
            None => Images::built_in()?,
        };
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut mesh = Mesh::start(Options {
            paths: self.paths,
            state: self.state_dir,
            images,
            ostro: tools.ostro,
            envoy: tools.envoy,
            programs: tools.programs,
            ingress: self.ingress,
            control_http: self.control_http,
            drain: Duration::from_secs(self.drain),
        })
        .await?;
        println!("ingress gateway: http://{}", mesh.ingress());
        println!("control plane:   http://{}", mesh.control_http());
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = mesh.ended() => return Ok(ExitCode::FAILURE),
        }
        mesh.end().await;
        Ok(ExitCode::SUCCESS)
    }
}
