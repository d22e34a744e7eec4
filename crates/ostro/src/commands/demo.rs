//! `ostro demo`: Bookinfo on a mesh of this machine, to look around in; or walked through and checked.

use super::common::print;
use super::detach::DetachArgs;
use super::doctor::{self, explain};
use super::values::{address, data_plane};
use super::{Outcome, report};
use ostro_agent::DataPlane;
use ostro_local::demo::{Demo, Try, head, lay, render, tries, visitors};
use ostro_local::doctor::Wants;
use ostro_local::images::Images;
use ostro_local::meshes::{MeshName, Meshes};
use ostro_local::sandbox;
use ostro_local::tools::Tools;
use ostro_local::up::{Mesh, Options};
use ostro_local::view::live::{Form, Show};
use ostro_local::view::terminal::Remembered;
use serde_json::json;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// Options of `ostro demo`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  ostro demo                 stays until Ctrl-C, and says what to try
  ostro demo -d              returns when it is up; `ostro down --name demo` ends it
  ostro demo --check         walks through routing, faults and retries, and ends
  ostro demo --ingress 8080  the page at a port of your choice")]
pub struct Args {
    /// Walk through routing, faults and retries instead, and end; exit status 0 only if every step held.
    #[arg(long, conflicts_with = "detach")]
    check: bool,
    #[command(flatten)]
    detach: DetachArgs,
    /// What the mesh is called, for other commands to find it.
    #[arg(long, value_name = "MESH", default_value = "demo")]
    name: MeshName,
    /// A line for each change, also in a terminal (docs/local.md has the form).
    #[arg(long, conflicts_with = "json")]
    plain: bool,
    /// A JSON object for each change, one a line; with --check one JSON object at the end.
    #[arg(long)]
    json: bool,
    /// Where the page is reached; port 0 takes one that is free.
    #[arg(long, value_name = "ADDRESS", value_parser = address, default_value = "127.0.0.1:0")]
    ingress: SocketAddr,
    /// What proxies are.
    #[arg(long, value_name = "PROXY", value_parser = data_plane(), default_value = DataPlane::default().as_str())]
    proxy: DataPlane,
    /// Stock Envoy [default: OSTRO_ENVOY, else the one `cargo xtask setup` installs, else in PATH].
    #[arg(long, value_name = "FILE")]
    envoy: Option<PathBuf>,
}

impl Args {
    /// Shows the mesh until it is ended; with `--check`, makes the walk.
    pub fn run(self) -> Outcome {
        if self.check {
            // Before the first thread.
            if let Err(error) = sandbox::enter(|_| ()) {
                report(&error);
                explain(&doctor::wants((self.proxy, self.envoy), None, vec![("ingress", self.ingress)])?);
                return Ok(ExitCode::FAILURE);
            }
            return super::block_on(self.show());
        }
        if self.detach.is_starter() {
            return self.detach.start(&self.name, self.json, |mesh| {
                let page = format!("the page:  http://{}/productpage", mesh.ingress);
                let tries = tries(&called(), self.name.as_str(), &mesh.state).into_iter();
                std::iter::once(page).chain(tries.map(|t| format!("try:       {}", t.command))).collect()
            });
        }
        let ground = Meshes::of_this_user().lay(&self.name, None)?;
        let wants = doctor::wants(
            (self.proxy, self.envoy.clone()),
            Some(ground.dir.clone()),
            vec![("ingress", self.ingress)],
        )?;
        let (state, left, terminal) = (ground.dir.clone(), ground.clone(), Remembered::now());
        let cleanup = move |_| {
            terminal.restore();
            left.release();
        };
        // Before the first thread.
        if let Err(error) = sandbox::enter(cleanup) {
            ground.release();
            report(&error);
            explain(&wants);
            return Ok(ExitCode::FAILURE);
        }
        super::block_on(self.visit(state, wants))
    }

    /// The mesh, some visitors of the demo's own, and what to try.
    async fn visit(self, state: PathBuf, wants: Wants) -> Outcome {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let interrupted = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        tokio::pin!(interrupted);
        let mut options = match self.options(&state) {
            Ok(options) => options,
            Err(error) => {
                report(error.as_ref());
                explain(&wants);
                return Ok(ExitCode::FAILURE);
            }
        };
        options.state.clone_from(&state);
        options.paths.push(lay(&state)?);
        let name = self.name.to_string();
        let mut show = Show::begin(&name, Form::choose(self.plain, self.json))?;
        let mut mesh = tokio::select! {
            mesh = show.during(Mesh::start(options)) => match mesh? {
                Err(error) if error.is_machines() => {
                    drop(show);
                    report(&error);
                    explain(&wants);
                    return Ok(ExitCode::FAILURE);
                }
                mesh => mesh?,
            },
            () = &mut interrupted => return Ok(ExitCode::FAILURE),
        };
        show.address("page", format!("http://{}/productpage", mesh.ingress()))?;
        for Try { what, command } in tries(&called(), &name, &state) {
            show.suggest(what, command)?;
        }
        self.detach.leave(&state, mesh.watch());
        let (status, asked) = (mesh.watch(), mesh.asked_to_end());
        let stopped = async {
            tokio::select! {
                () = interrupted => {}
                () = asked => {}
            }
        };
        let visitors = visitors(mesh.ingress());
        tokio::select! {
            shown = show.hold(status, stopped) => drop(shown?),
            () = visitors => {}
            () = mesh.ended() => return Ok(ExitCode::FAILURE),
        }
        mesh.end().await;
        show.end()?;
        Ok(ExitCode::SUCCESS)
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
        let page = format!("http://{}/productpage", demo.mesh().ingress());
        let started_in = demo.started_in().as_secs_f64();
        if !self.json {
            print(&format!("{pods} pods ready after {started_in:.1} s; the page: {page}\n\n{}", head()))?;
        }
        let mut steps = Vec::new();
        let walk = demo.walk(|outcome| match self.json {
            true => steps.push(outcome.as_json()),
            // Whoever reads may have gone; the exit status still tells.
            false => drop(print(&render(outcome))),
        });
        let held = tokio::select! {
            held = walk => held?,
            () = &mut stopped => return Ok(ExitCode::FAILURE),
        };
        demo.end().await;
        if self.json {
            let said =
                json!({"pods": pods, "startedIn": started_in, "page": page, "steps": steps, "held": held});
            print(&format!("{said:#}\n"))?;
        }
        Ok(conclude(held, &dir, self.json))
    }

    fn options(&self, dir: &Path) -> Result<Options, Box<dyn std::error::Error + Send + Sync>> {
        let tools = Tools::find(self.proxy, self.envoy.clone())?;
        Ok(Options {
            name: self.name.to_string(),
            paths: Vec::new(),
            state: dir.join("state"),
            images: Images::built_in()?,
            ostro: tools.ostro,
            proxies: tools.proxies,
            programs: tools.programs,
            ingress: self.ingress,
            control_http: (Ipv4Addr::LOCALHOST, 0).into(),
            expose: Vec::new(),
            drain: Duration::ZERO,
        })
    }
}

/// How this program can be called again: as it was, if that was by a path.
fn called() -> String {
    match std::env::args().next() {
        Some(name) if name.contains('/') => {
            std::env::current_exe().map_or(name, |path| path.display().to_string())
        }
        _ => "ostro".to_owned(),
    }
}

/// Says how it went; what was left behind is of use only if it went wrong.
fn conclude(held: bool, dir: &Path, json: bool) -> ExitCode {
    if !held {
        eprintln!("\nsome steps did not hold; files and logs are in {}", dir.display());
        return ExitCode::FAILURE;
    }
    if !json {
        // Whoever reads may have gone; the exit status still tells.
        let _ = print("\nevery step held\n");
    }
    // Left-overs in the temporary directory harm nobody.
    let _ = std::fs::remove_dir_all(dir);
    ExitCode::SUCCESS
}
