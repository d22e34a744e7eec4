//! `ostro up`: a whole mesh on this machine, from files.

use super::doctor::{self, explain};
use super::{Outcome, report};
use ostro_local::doctor::Wants;
use ostro_local::images::Images;
use ostro_local::meshes::{DEFAULT_NAME, MeshName, Meshes};
use ostro_local::sandbox;
use ostro_local::tools::Tools;
use ostro_local::up::{Mesh, Options};
use ostro_local::view::live::{Form, Show};
use ostro_local::view::terminal::Remembered;
use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// Options of `ostro up`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Files and directories to follow: Services, Deployments, VirtualServices...
    #[arg(short = 'f', long = "file", num_args = 1.., value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// What the mesh is called, to run several side by side.
    #[arg(long, alias = "mesh", value_name = "MESH", default_value = DEFAULT_NAME)]
    name: MeshName,
    /// Where the mesh writes logs and what it remembers; kept when it ends [default: a directory that goes
    /// with it].
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Which program stands in for an image; entries come before the built-in ones (samples/images.yaml).
    #[arg(long, value_name = "FILE")]
    images: Option<PathBuf>,
    /// Where the ingress gateway is reached; port 0 takes one that is free [default: 127.0.0.1:8080; of a
    /// mesh with a name of its own, 127.0.0.1:0].
    #[arg(long, value_name = "ADDRESS")]
    ingress: Option<SocketAddr>,
    /// Where the control plane's metrics and debug pages are reached; port 0 takes one that is free [default:
    /// 127.0.0.1:15014; of a mesh with a name of its own, 127.0.0.1:0].
    #[arg(long, value_name = "ADDRESS")]
    control_http: Option<SocketAddr>,
    /// Stock Envoy [default: OSTRO_ENVOY, else the one `cargo xtask setup` installs, else in PATH].
    #[arg(long, value_name = "FILE")]
    envoy: Option<PathBuf>,
    /// Seconds that the proxy of a pod that goes away lets requests end.
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    drain: u64,
    /// A line for each change, also in a terminal (docs/local.md has the form).
    #[arg(long, conflicts_with = "json")]
    plain: bool,
    /// A JSON object for each change, one a line.
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Brings the mesh up and holds it until SIGINT or SIGTERM, `ostro down`, or `q` in the live view.
    pub fn run(self) -> Outcome {
        let ground = Meshes::of_this_user().lay(&self.name, self.state_dir.as_deref())?;
        let (state, left, terminal) = (ground.dir.clone(), ground.clone(), Remembered::now());
        let wants = self.wants(&state)?;
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
        super::block_on(self.hold(state, wants))
    }

    async fn hold(self, state: PathBuf, wants: Wants) -> Outcome {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let interrupted = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        tokio::pin!(interrupted);
        let (form, name) = (Form::choose(self.plain, self.json), self.name.to_string());
        if let Err(error) = Tools::find(self.envoy.clone()) {
            report(&error);
            explain(&wants);
            return Ok(ExitCode::FAILURE);
        }
        let options = self.options(state)?;
        let mut show = Show::begin(&name, form)?;
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
        show.address("ingress", format!("http://{}", mesh.ingress()))?;
        show.address("control", format!("http://{}", mesh.control_http()))?;
        let (status, asked) = (mesh.watch(), mesh.asked_to_end());
        let stopped = async {
            tokio::select! {
                () = interrupted => {}
                () = asked => {}
            }
        };
        tokio::select! {
            shown = show.hold(status, stopped) => drop(shown?),
            () = mesh.ended() => return Ok(ExitCode::FAILURE),
        }
        mesh.end().await;
        show.end()?;
        Ok(ExitCode::SUCCESS)
    }

    /// Addresses of the host: of the ingress gateway, and of the control plane's pages.
    fn addresses(&self) -> (SocketAddr, SocketAddr) {
        let local = |port: u16| {
            let port = if self.name.is_default() { port } else { 0 };
            SocketAddr::from((Ipv4Addr::LOCALHOST, port))
        };
        let control = self.control_http.unwrap_or_else(|| local(15014));
        (self.ingress.unwrap_or_else(|| local(8080)), control)
    }

    fn wants(&self, state: &Path) -> Result<Wants, Box<dyn Error + Send + Sync>> {
        let (ingress, control) = self.addresses();
        let ports = vec![("ingress", ingress), ("control-http", control)];
        doctor::wants(self.envoy.clone(), Some(state.to_owned()), ports)
    }

    fn options(self, state: PathBuf) -> Result<Options, Box<dyn Error + Send + Sync>> {
        let (ingress, control_http) = self.addresses();
        let tools = Tools::find(self.envoy)?;
        let images = match &self.images {
            Some(path) => Images::read(path)?.then(Images::built_in()?),
            None => Images::built_in()?,
        };
        Ok(Options {
            name: self.name.to_string(),
            paths: self.paths,
            state,
            images,
            ostro: tools.ostro,
            envoy: tools.envoy,
            programs: tools.programs,
            ingress,
            control_http,
            expose: Vec::new(),
            drain: Duration::from_secs(self.drain),
        })
    }
}
