//! `ostro logs`: what a pod's programs wrote.

use super::Outcome;
use super::common::{MeshArgs, PodArgs, print_bytes};
use super::values::lines;
use ostro_local::api::client::Logs;
use ostro_local::api::view::Pod;
use ostro_local::select;
use std::process::ExitCode;

/// What the proxy's container is called.
const PROXY: &str = "istio-proxy";

/// Options of `ostro logs`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  ostro logs reviews-v1
  ostro logs deploy/reviews-v1 -f --tail 20
  ostro logs productpage-v1 --proxy")]
pub struct Args {
    #[command(flatten)]
    pod: PodArgs,
    /// Which of the pod's containers [default: the first].
    #[arg(short, long, value_name = "CONTAINER")]
    container: Option<String>,
    /// What the pod's proxy wrote.
    #[arg(long, conflicts_with = "container")]
    proxy: bool,
    /// Go on with what is written from now on, until Ctrl-C or the end of the pod.
    #[arg(short, long)]
    follow: bool,
    /// Only the last lines.
    #[arg(long, value_name = "N", value_parser = lines, allow_negative_numbers = true)]
    tail: Option<usize>,
    /// Of the program before it was last started again.
    #[arg(short, long, conflicts_with = "follow")]
    previous: bool,
    #[command(flatten)]
    mesh: MeshArgs,
}

impl Args {
    /// Prints the log.
    pub fn run(self) -> Outcome {
        super::block_on(async {
            let client = self.mesh.open().await?;
            let pods = client.pods().await?;
            let pod = select::pod(&pods.pods, &self.pod.pod, self.pod.namespace.as_deref())?;
            if let Some(held) = &pod.held {
                return Err(format!("pod {} is not started, and has no logs: {held}", pod.name).into());
            }
            let wanted = if self.proxy { Some(PROXY) } else { self.container.as_deref() };
            if self.proxy && pod.proxy == "none" {
                return Err(format!("pod {} has no proxy; leave --proxy out", pod.name).into());
            }
            // A gateway has nothing but its proxy.
            let container = match wanted {
                Some(PROXY) => PROXY,
                wanted => select::container(pod, wanted)?.unwrap_or(PROXY),
            };
            let which = Logs { follow: self.follow, previous: self.previous, tail: self.tail };
            let mut pieces = client.logs(pod, container, &which).await?;
            let mut nothing = true;
            while let Some(piece) = pieces.next().await {
                let piece = piece?;
                nothing &= piece.is_empty();
                if !print_bytes(&piece)? {
                    break;
                }
            }
            if nothing && !self.follow && self.tail != Some(0) {
                eprintln!("ostro: {}", silence(pod, container));
            }
            Ok(ExitCode::SUCCESS)
        })
    }
}

/// Why there is nothing to print, where that may be a surprise.
fn silence(pod: &Pod, container: &str) -> String {
    let others: Vec<String> = pod
        .containers
        .iter()
        .filter(|other| *other != container)
        .map(|other| format!("-c {other}"))
        .chain((pod.proxy != "none" && container != PROXY).then(|| "--proxy".to_owned()))
        .collect();
    let mut text =
        format!("container `{container}` of pod {} has written nothing; the pod is {}", pod.name, pod.status);
    if !others.is_empty() {
        text.push_str(&format!("\n  what else there is:   {}", others.join(", ")));
    }
    text
}
