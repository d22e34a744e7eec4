//! `ostro demo`: Bookinfo on a mesh of this machine, walked through and checked.

use super::Outcome;
use ostro_local::demo::{Demo, head, render};
use ostro_local::images::Images;
use ostro_local::sandbox;
use ostro_local::tools::Tools;
use ostro_local::up::Options;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// Options of `ostro demo`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// End after the walk; exit status 0 only if every step held.
    #[arg(long)]
    check: bool,
    /// Where the page is reached; port 0 takes one that is free.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    ingress: SocketAddr,
    /// Stock Envoy [default: OSTRO_ENVOY, else the one `cargo xtask setup` installs, else in PATH].
    #[arg(long, value_name = "FILE")]
    envoy: Option<PathBuf>,
}

impl Args {
    /// Makes the walk.
    pub fn run(self) -> Outcome {
        // Before the first thread.
        sandbox::enter(|_| ())?;
        super::block_on(self.show())
    }

    async fn show(self) -> Outcome {
        let dir = std::env::temp_dir().join(format!("ostro-demo-{}", std::process::id()));
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let stopped = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        tokio::pin!(stopped);
        let demo = tokio::select! {
            demo = Demo::start(self.options(&dir)?, dir.join("yaml")) => match demo {
                Ok(demo) => demo,
                Err(error) => {
                    eprintln!("logs are in {}", dir.display());
                    return Err(error.into());
                }
            },
            () = &mut stopped => return Ok(ExitCode::FAILURE),
        };
        let pods = demo.mesh().status().pods.len();
        println!(
            "{pods} pods ready after {:.1} s; the page: http://{}/productpage\n",
            demo.started_in().as_secs_f64(),
            demo.mesh().ingress()
        );
        print!("{}", head());
        let held = tokio::select! {
            held = demo.walk(|outcome| print!("{}", render(outcome))) => held?,
            () = &mut stopped => return Ok(ExitCode::FAILURE),
        };
        if !self.check {
            println!("\nthe mesh stays up until Ctrl-C; edit the YAML in {}", dir.join("yaml").display());
            stopped.await;
        }
        demo.end().await;
        Ok(conclude(held, &dir))
    }

    fn options(&self, dir: &Path) -> Result<Options, Box<dyn std::error::Error + Send + Sync>> {
        let tools = Tools::find(self.envoy.clone())?;
        Ok(Options {
            name: "demo".to_owned(),
            paths: Vec::new(),
            state: dir.join("state"),
            images: Images::built_in()?,
            ostro: tools.ostro,
            envoy: tools.envoy,
            programs: tools.programs,
            ingress: self.ingress,
            control_http: (Ipv4Addr::LOCALHOST, 0).into(),
            expose: Vec::new(),
            drain: Duration::ZERO,
        })
    }
}

/// Says how it went; what was left behind is of use only if it went wrong.
fn conclude(held: bool, dir: &Path) -> ExitCode {
    if held {
        println!("\nevery step held");
        // Left-overs in the temporary directory harm nobody.
        let _ = std::fs::remove_dir_all(dir);
        return ExitCode::SUCCESS;
    }
    println!("\nsome steps did not hold; files and logs are in {}", dir.display());
    ExitCode::FAILURE
}
