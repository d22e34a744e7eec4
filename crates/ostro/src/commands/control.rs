//! `ostro control`: the control plane.

use super::{Outcome, block_on};
use ostro_control::{ControlPlane, Options, Settings, Timing};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// Options of `ostro control`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  ostro control -f shop/ --state-dir /var/lib/ostro
  ostro control -f shop/ --xds 127.0.0.1:15010 --http 127.0.0.1:15014")]
pub struct Args {
    /// Files and directories of Kubernetes and Istio objects, followed for changes.
    #[arg(short = 'f', long = "file", required = true, num_args = 1.., value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Where plaintext xDS is served.
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:15010")]
    xds: SocketAddr,
    /// Where metrics and debug pages are served; may be given more than once.
    #[arg(long, value_name = "ADDR", default_values = ["0.0.0.0:15014", "0.0.0.0:8080"])]
    http: Vec<SocketAddr>,
    /// Where the last good version of every object is kept over restarts.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Where Services written without a clusterIP get their addresses from.
    #[arg(long, value_name = "CIDR")]
    cluster_ip_range: Option<ipnet::IpNet>,
    /// Domain of Kubernetes Services.
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    cluster_domain: String,
}

impl Args {
    /// Serves until SIGTERM or SIGINT.
    pub fn run(self) -> Outcome {
        block_on(async {
            let mut terminate = signal(SignalKind::terminate())?;
            let mut interrupt = signal(SignalKind::interrupt())?;
            let plane = ControlPlane::start(self.into_options()).await?;
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                () = plane.failed() => {
                    plane.stop().await;
                    return Err("a part of the control plane has failed; the log says which".into());
                }
            }
            plane.stop().await;
            Ok(ExitCode::SUCCESS)
        })
    }

    fn into_options(self) -> Options {
        Options {
            paths: self.paths,
            state: self.state_dir,
            xds: self.xds,
            http: self.http,
            settings: Settings {
                cluster_domain: self.cluster_domain,
                cluster_ip_range: self.cluster_ip_range,
                ..Settings::default()
            },
            timing: Timing::default(),
            version: env!("CARGO_PKG_VERSION"),
        }
    }
}
