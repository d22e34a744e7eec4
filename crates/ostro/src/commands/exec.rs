//! `ostro exec`: a program run in a pod, as if typed there.

use super::Outcome;
use super::common::{MeshArgs, PodArgs, narrow};
use ostro_local::api::exec::{Heard, Order};
use ostro_local::api::terminal::Relay;
use ostro_local::select;
use std::collections::BTreeMap;
use std::io;
use std::process::ExitCode;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// Signals that the program gets in our place.
const PASSED: [SignalKind; 6] = [
    SignalKind::interrupt(),
    SignalKind::terminate(),
    SignalKind::hangup(),
    SignalKind::quit(),
    SignalKind::user_defined1(),
    SignalKind::user_defined2(),
];
/// Signals that wait to be passed on; more than these at a time are one.
const SIGNALS_MAX: usize = 16;

/// Options of `ostro exec`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
The program is one of this machine, run inside the pod: its addresses, its names, its proxy. The exit status is \
the program's; 126 and 127 mean that it could not be run.

Examples:
  ostro exec productpage-v1 -- curl -s http://reviews:9080/reviews/0
  ostro exec deploy/reviews-v1 -n shop -- sh
  echo hello | ostro exec reviews-v1 -c reviews -- cat")]
pub struct Args {
    #[command(flatten)]
    pod: PodArgs,
    /// The container whose environment the program has [default: the pod's first].
    #[arg(short, long, value_name = "CONTAINER")]
    container: Option<String>,
    /// Accepted, as kubectl's; a terminal is known without being told of.
    #[arg(short = 'i', long = "stdin", hide = true)]
    _stdin: bool,
    /// Accepted, as kubectl's; a terminal is known without being told of.
    #[arg(short = 't', long = "tty", hide = true)]
    _tty: bool,
    #[command(flatten)]
    mesh: MeshArgs,
    /// The program and its arguments.
    #[arg(last = true, required = true, num_args = 1.., value_name = "CMD")]
    command: Vec<String>,
}

impl Args {
    /// Runs the program; the exit status is its own.
    pub fn run(self) -> Outcome {
        super::block_on(self.exec())
    }

    async fn exec(self) -> Outcome {
        let client = self.mesh.open().await?;
        let pods = client.pods().await?;
        let pod = select::pod(&pods.pods, &self.pod.pod, self.pod.namespace.as_deref())?;
        let container = select::container(pod, self.container.as_deref())?;
        let relay = Relay::begin()?;
        let order = Order {
            container: container.map(str::to_owned),
            command: self.command,
            env: match (&relay, std::env::var("TERM")) {
                (Some(_), Ok(term)) => BTreeMap::from([("TERM".to_owned(), term)]),
                _ => BTreeMap::new(),
            },
            terminal: relay.is_some(),
        };
        let signals = signals()?;
        let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
        let heard = match relay {
            None => client.exec(pod, &order, [&stdin, &stdout, &stderr]).await?.end(signals).await,
            Some((relay, end)) => {
                let session = client.exec(pod, &order, [&end, &end, &end]).await?;
                drop(end);
                relay.run(session.end(signals)).await?
            }
        };
        match heard? {
            Heard::Exited(code) => Ok(ExitCode::from(narrow(code))),
            Heard::Failed { code, error } => {
                eprintln!("ostro: {error}");
                Ok(ExitCode::from(narrow(code)))
            }
        }
    }
}

/// Numbers of the signals that we get.
fn signals() -> io::Result<mpsc::Receiver<i32>> {
    let (tell, told) = mpsc::channel(SIGNALS_MAX);
    for kind in PASSED {
        let mut heard: Signal = signal(kind)?;
        let tell = tell.clone();
        tokio::spawn(async move {
            while heard.recv().await.is_some() {
                // One too many is one that is there already.
                let _ = tell.try_send(kind.as_raw_value());
            }
        });
    }
    Ok(told)
}
