//! `ostro up`: a whole mesh on this machine, from files; and what else brings a mesh up in the foreground.

use super::common::path_problem;
use super::detach::DetachArgs;
use super::doctor::{self, explain};
use super::values::{address, data_plane, seconds};
use super::{Outcome, report};
use ostro_agent::DataPlane;
use ostro_api::Object;
use ostro_local::api::view;
use ostro_local::doctor::Wants;
use ostro_local::images::{Images, ImagesError};
use ostro_local::meshes::{DEFAULT_NAME, MeshName, Meshes, MeshesError};
use ostro_local::sandbox;
use ostro_local::tools::Tools;
use ostro_local::up::{Mesh, Options};
use ostro_local::view::live::{Form, Show};
use ostro_local::view::terminal::Remembered;
use ostro_local::wishes::Expose;
use ostro_sources::check::check;
use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// Options of `ostro up`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  ostro up -f shop/
  ostro up -f shop/ --expose 8080:istio-ingressgateway:80 --expose 0:reviews.shop:9080
  ostro up --name second -f other/
  ostro up -d -f shop/      returns when all pods are ready: for scripts
  ostro up                  an empty mesh, for `ostro apply` and `ostro run`

In another terminal: ostro ps, ostro logs, ostro exec, ostro down.")]
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
    #[command(flatten)]
    detach: DetachArgs,
    #[command(flatten)]
    ground: GroundArgs,
    /// A line for each change, also in a terminal (docs/local.md has the form).
    #[arg(long, conflicts_with = "json")]
    plain: bool,
    /// A JSON object for each change, one a line; with --detach one object at the end.
    #[arg(long)]
    json: bool,
}

/// What a mesh that comes up stands on.
#[derive(clap::Args, Debug)]
pub struct GroundArgs {
    /// A service to be reached from this machine; may be given more than once. HOST_PORT may have an address
    /// before it (127.0.0.1:8080:...); 0 takes one that is free.
    #[arg(long, value_name = "HOST_PORT:SERVICE[.NAMESPACE]:PORT")]
    expose: Vec<Expose>,
    /// Which program stands in for an image; entries come before the built-in ones (samples/images.yaml).
    #[arg(long, value_name = "FILE")]
    images: Option<PathBuf>,
    /// Where the ingress gateway is reached; port 0 takes one that is free [default: 127.0.0.1:8080; of a
    /// mesh with a name of its own, 127.0.0.1:0].
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    ingress: Option<SocketAddr>,
    /// Where the control plane's metrics and debug pages are reached; port 0 takes one that is free [default:
    /// 127.0.0.1:15014; of a mesh with a name of its own, 127.0.0.1:0].
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    control_http: Option<SocketAddr>,
    /// What proxies are, of pods that do not say it themselves (annotation ostro.dev/proxy).
    #[arg(long, value_name = "PROXY", value_parser = data_plane(), default_value = DataPlane::default().as_str())]
    proxy: DataPlane,
    /// Stock Envoy [default: OSTRO_ENVOY, else the one `cargo xtask setup` installs, else in PATH].
    #[arg(long, value_name = "FILE")]
    envoy: Option<PathBuf>,
    /// Seconds that the proxy of a pod that goes away lets requests end.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, allow_negative_numbers = true, default_value_t = 5)]
    drain: u64,
}

impl Args {
    /// Brings the mesh up and holds it until SIGINT or SIGTERM, `ostro down`, or `q` in the live view.
    pub fn run(self) -> Outcome {
        let problems: Vec<String> = self.paths.iter().filter_map(|path| path_problem(path)).collect();
        if !problems.is_empty() {
            return Err(problems.join("\n  ").into());
        }
        if self.detach.is_starter() {
            return self.detach.start(&self.name, self.json, |_| Vec::new());
        }
        let form = (self.plain, self.json);
        hold(&self.name, self.state_dir.as_deref(), (&self.ground, Some(&self.detach)), form, |state| {
            self.ground.options(&self.name, state, self.paths.clone())
        })
    }
}

/// Brings a mesh up, in a sandbox, and holds it in the foreground. `options` are asked for once its directory is
/// there.
pub fn hold(
    name: &MeshName,
    state: Option<&Path>,
    (args, detach): (&GroundArgs, Option<&DetachArgs>),
    (plain, json): (bool, bool),
    options: impl FnOnce(PathBuf) -> Result<Options, Box<dyn Error + Send + Sync>>,
) -> Outcome {
    let ground = Meshes::of_this_user().lay(name, state).map_err(|error| match (error, state) {
        (MeshesError::File { path, source }, Some(_)) => {
            let text =
                format!("--state-dir {}: {source}; choose a directory that you may write to", path.display());
            text.into()
        }
        (error, _) => Box::<dyn Error + Send + Sync>::from(error),
    })?;
    let (left, terminal) = (ground.clone(), Remembered::now());
    let prepared = args.wants(name, &ground.dir).and_then(|wants| Ok((wants, options(ground.dir.clone())?)));
    let (wants, options) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            ground.release();
            return Err(error);
        }
    };
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
    super::block_on(run(options, Form::choose(plain, json), wants, detach))
}

async fn run(options: Options, form: Form, wants: Wants, detach: Option<&DetachArgs>) -> Outcome {
    let state = options.state.clone();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let interrupted = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    tokio::pin!(interrupted);
    let mut show = Show::begin(&options.name.clone(), form)?;
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
    for exposed in mesh.exposed().to_vec() {
        let view::Exposed { address, namespace, service, port } = exposed;
        show.address("expose", format!("{address} {service}.{namespace}:{port}"))?;
    }
    if let Some(detach) = detach {
        detach.leave(&state, mesh.watch());
    }
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

/// What is wrong with a map of images; some errors name the file themselves.
fn images_text(path: &Path, error: &ImagesError) -> String {
    match error {
        ImagesError::File { .. } | ImagesError::Text(_) => format!("--images {error}"),
        ImagesError::Form(_) | ImagesError::Either(_) => format!("--images {}: {error}", path.display()),
    }
}

impl GroundArgs {
    /// Where the ingress gateway and the control plane's pages are to be reached.
    fn addresses(&self, name: &MeshName) -> (SocketAddr, SocketAddr) {
        let local = |port: u16| {
            let port = if name.is_default() { port } else { 0 };
            SocketAddr::from((Ipv4Addr::LOCALHOST, port))
        };
        (self.ingress.unwrap_or_else(|| local(8080)), self.control_http.unwrap_or_else(|| local(15014)))
    }

    /// What the machine is looked at for, should the mesh not come up.
    fn wants(&self, name: &MeshName, state: &Path) -> Result<Wants, Box<dyn Error + Send + Sync>> {
        let (ingress, control) = self.addresses(name);
        let ports = vec![("ingress", ingress), ("control-http", control)];
        doctor::wants((self.proxy, self.envoy.clone()), Some(state.to_owned()), ports)
    }

    /// As the mesh takes them.
    pub fn options(
        &self,
        name: &MeshName,
        state: PathBuf,
        paths: Vec<PathBuf>,
    ) -> Result<Options, Box<dyn Error + Send + Sync>> {
        let (ingress, control_http) = self.addresses(name);
        let tools = Tools::find(self.proxy, self.envoy.clone())?;
        let images = match &self.images {
            Some(path) => {
                Images::read(path).map_err(|error| images_text(path, &error))?.then(Images::built_in()?)
            }
            None => Images::built_in()?,
        };
        let mut expose = Vec::new();
        if !self.expose.is_empty() {
            let applied = state.join(ostro_local::api::APPLIED);
            let all: Vec<PathBuf> =
                paths.iter().cloned().chain(applied.exists().then_some(applied)).collect();
            let objects: Vec<Arc<Object>> = check(&all).objects;
            for wanted in &self.expose {
                expose.push(wanted.resolve(&objects).map_err(|error| format!("--expose: {error}"))?);
            }
        }
        Ok(Options {
            name: name.to_string(),
            paths,
            state,
            images,
            ostro: tools.ostro,
            proxies: tools.proxies,
            programs: tools.programs,
            ingress,
            control_http,
            expose,
            drain: Duration::from_secs(self.drain),
        })
    }
}
