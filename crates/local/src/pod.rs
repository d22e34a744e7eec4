//! The life of one pod: namespaces, address, rules, programs, proxy, readiness; and its end.

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ostro_agent::{Admin, DataPlane, Output, Privileges, Process, ProxyProgram, Surroundings, status};
use ostro_api::workload::RestartPolicy;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::captured::AnnotationError;
use crate::container::{Board, Container, PodState};
use crate::dns::files::ResolvConf;
use crate::env::{self, Around, Facts, Missing};
use crate::furnish::{self, Furniture, Inside};
use crate::identity::Identity;
use crate::life::Life;
use crate::link::{self, LinkError};
use crate::place::Place;
use crate::plan::{PodName, PodPlan, Proxy, Run};
use crate::probe::Probes;
use crate::programs::Programs;
use crate::status::{Environments, Role};
use crate::token::Issuer;
use crate::tools::Proxies;
use crate::volumes::{self, VolumeError, Volumes};
use crate::{captured, dns, logs, node, rules};

/// Time between SIGTERM and SIGKILL of a program whose manifest names none. Shorter than Kubernetes' 30 s: who scales
/// down on a laptop waits for it.
const PROGRAM_GRACE: Duration = Duration::from_secs(2);

/// What a pod needs besides its plan.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What proxies are.
    pub proxies: Proxies,
    /// Where programs named without a slash are.
    pub programs: PathBuf,
    /// Directory of the pods' own directories.
    pub pods: PathBuf,
    /// The control plane's xDS address, as pods reach it.
    pub xds: SocketAddr,
    /// How the host resolves names.
    pub host_dns: ResolvConf,
    /// How long a proxy that goes away lets requests end.
    pub drain: Duration,
    /// What signs tokens.
    pub issuer: Arc<Issuer>,
    /// Who everything runs as.
    pub identity: Identity,
}

/// Why a pod was not started.
#[derive(Debug, thiserror::Error)]
pub enum PodError {
    /// Its directory, or something in it.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its namespaces, or what is mounted in them.
    #[error("making its namespaces: {0}")]
    Place(#[source] io::Error),
    /// Its interfaces.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// What its annotations say of capture.
    #[error(transparent)]
    Annotation(#[from] AnnotationError),
    /// Its capture rules.
    #[error(transparent)]
    Rules(#[from] rules::RulesError),
    /// The mesh ends.
    #[error("the mesh ends")]
    Ending,
}

/// Why a pod cannot be started as it is written. The user's to mend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Something it refers to.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// What it mounts.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// A probe that makes no sense.
    #[error("{0}")]
    Probe(String),
    /// The proxy that it asks for.
    #[error("it asks for the proxy `{plane}`: {why}")]
    Proxy {
        /// Which.
        plane: DataPlane,
        /// Why there is none.
        why: String,
    },
    /// The program that stands in for a container's image.
    #[error(
        "container {container}: its program {} cannot be read ({why}); give a whole path in the file of --images, or, \
         for the image ostro.dev/run, as the container's `command`",
        path.display()
    )]
    Program {
        /// Whose.
        container: String,
        /// Where it should be.
        path: PathBuf,
        /// Why it cannot be read.
        why: String,
    },
}

impl Unfit {
    /// True if it may change without any object's changing.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Program { .. })
    }
}

/// What a pod tells the runner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Which pod.
    pub pod: PodName,
    /// What its containers do.
    pub state: PodState,
}

/// What runs in a pod, in every detail: containers and, in the same order, their processes.
#[derive(Clone, Debug)]
pub struct Outfit {
    containers: Vec<Container>,
    processes: Vec<(String, Process)>,
    /// The proxy among them, and where its program is on the machine.
    proxy: Option<(ProxyProgram, PathBuf)>,
    volumes: Volumes,
}

impl Outfit {
    /// Of a pod that is about to start, with all it refers to.
    pub fn of(
        settings: &Settings,
        plan: &PodPlan,
        around: &Around,
        ip: Ipv4Addr,
        uid: &str,
    ) -> Result<Self, Unfit> {
        let mut outfit =
            Self { containers: Vec::new(), processes: Vec::new(), proxy: None, volumes: Volumes::default() };
        if let Some(plane) = plan.proxy.data_plane() {
            let program = settings.proxies.program(plane);
            let program = program.map_err(|why| Unfit::Proxy { plane, why: why.to_owned() })?;
            outfit.add_proxy(settings, plan, (plane, program));
        }
        let ips = addresses(ip);
        let host_ip = settings.xds.ip();
        let facts = Facts { plan, around, ips: &ips, host_ip, uid };
        for (index, run) in plan.runs.iter().enumerate() {
            outfit.containers.push(container(plan, run)?);
            let process = process(settings.identity, &facts, (index, run))?;
            outfit.processes.push((run.container.name.clone(), process));
        }
        for (run, path) in plan.runs.iter().zip(programs(plan, settings)) {
            if let Err(error) = File::open(&path) {
                let container = run.container.name.clone();
                return Err(Unfit::Program { container, path, why: error.to_string() });
            }
        }
        outfit.volumes = volumes::of(&facts, &settings.issuer)?;
        Ok(outfit)
    }

    /// Its state before it lives.
    pub fn state(&self) -> PodState {
        PodState::new(&self.containers)
    }

    /// The environments of its programs.
    fn env(&self) -> Environments {
        let own = |(name, process): &(String, Process)| (name.clone(), process.env.iter().cloned().collect());
        self.processes.iter().map(own).collect()
    }

    fn add_proxy(&mut self, settings: &Settings, plan: &PodPlan, (data_plane, program): (DataPlane, &Path)) {
        let proxy = ProxyProgram {
            data_plane,
            binary: Inside::proxy(data_plane),
            config: Inside::file(furnish::BOOTSTRAP),
            // Its output is read by us.
            log: PathBuf::new(),
            user: settings.identity.proxy_user(),
            drain: settings.drain,
            admin: Admin::local(),
        };
        let image = match plan.proxy {
            Proxy::Gateway(_) => plan.containers.first().map(|(_, image)| image.clone()),
            Proxy::Sidecar(_) | Proxy::None => None,
        };
        let resolv_conf = (Inside::file(furnish::PROXY_RESOLV), PathBuf::from("/etc/resolv.conf"));
        let process = Process { instead: Some(resolv_conf), ..proxy.process() };
        self.containers.push(Container {
            name: logs::PROXY.to_owned(),
            image: image.unwrap_or_default(),
            role: Role::Proxy,
            restart: RestartPolicy::Always,
            restarts_max: None,
            probes: Probes::proxy(),
            grace: process.grace,
        });
        self.processes.push((logs::PROXY.to_owned(), process));
        self.proxy = Some((proxy, program.to_owned()));
    }
}

fn container(plan: &PodPlan, run: &Run) -> Result<Container, Unfit> {
    let seconds = |seconds: u32| Duration::from_secs(u64::from(seconds));
    let restart = match run.role {
        Role::Proxy | Role::Sidecar => RestartPolicy::Always,
        Role::Init | Role::Main => plan.restart_policy(),
    };
    let bounded = run.role == Role::Main && restart == RestartPolicy::OnFailure;
    Ok(Container {
        name: run.container.name.clone(),
        image: run.container.image.clone(),
        role: run.role,
        restart,
        restarts_max: plan.job.as_ref().filter(|_| bounded).map(|job| job.backoff_limit),
        // What runs to its end takes no requests.
        probes: match run.role {
            Role::Init => Probes::default(),
            _ => Probes::of(&run.container).map_err(Unfit::Probe)?,
        },
        grace: plan.spec.termination_grace_period_seconds.map_or(PROGRAM_GRACE, seconds),
    })
}

fn process(identity: Identity, facts: &Facts<'_>, (index, run): (usize, &Run)) -> Result<Process, Unfit> {
    let start = env::start(facts, run)?;
    let directory = Some(run.container.working_dir.as_str()).filter(|dir| !dir.is_empty()).unwrap_or("/");
    Ok(Process {
        args: start.args.into_iter().map(Into::into).collect(),
        env: start.env,
        surroundings: Surroundings::Bare,
        directory: Some(directory.into()),
        output: Output::Pipe,
        user: identity.program_user(),
        privileges: Privileges::Program,
        ..Process::new(format!("{} of {}", run.container.name, facts.plan.name), Inside::program(index))
    })
}

/// A running pod.
#[derive(Debug)]
pub struct Pod {
    place: Place,
    watching: CancellationToken,
    stop: CancellationToken,
    ended: tokio::task::JoinHandle<()>,
    board: Board,
    env: Arc<Environments>,
}

impl Pod {
    /// Starts a pod. Its programs may take a while to be ready; `reports` hears of all that happens.
    pub async fn start(
        settings: &Settings,
        plan: &PodPlan,
        outfit: Outfit,
        (serial, ip): (u32, Ipv4Addr),
        mesh: &Place,
        reports: mpsc::Sender<Report>,
    ) -> Result<Self, PodError> {
        let dir = settings.dir(&plan.name);
        prepare(&dir, plan, settings, &outfit.volumes, ip)?;
        let furniture = Furniture {
            dir: dir.clone(),
            proxy: outfit.proxy.as_ref().map(|(proxy, path)| (proxy.data_plane, path.clone())),
            programs: programs(plan, settings),
            hostname: plan.host_name().to_owned(),
            mounts: outfit.volumes.mounts.clone(),
        };
        let name = plan.name.name.clone();
        // Making namespaces blocks the thread that does it.
        let open = tokio::task::spawn_blocking(move || Place::open(&name, move || furniture.install()));
        let place = open.await.map_err(|e| PodError::Place(io::Error::other(e)))?.map_err(PodError::Place)?;
        link::attach(mesh, &place, serial, ip).await?;
        if plan.proxy.is_sidecar() {
            let capture = captured::config(&plan.annotations, settings.identity.mark(), link::has_ipv6())?;
            rules::load(&place, &capture).await?;
        }
        let (watching, stop) = (CancellationToken::new(), CancellationToken::new());
        if plan.proxy != Proxy::None {
            place.spawn(serve_status(stop.clone()));
        }
        let board = Board::new(outfit.state());
        let told = tell(plan.name.clone(), board.subscribe(), reports);
        place.spawn(watching.clone().run_until_cancelled_owned(told));
        let env = Arc::new(outfit.env());
        let Outfit { containers, processes, proxy, .. } = outfit;
        let world = Programs::new(
            processes,
            proxy.map(|(proxy, _)| proxy),
            IpAddr::V4(ip),
            Inside::file(logs::DIRECTORY),
        );
        let life = Life { world, containers, board: board.clone() };
        let ended = place.spawn(life.run(stop.clone()));
        Ok(Self { place, watching, stop, ended, board, env })
    }

    /// Where the pod's sockets and processes are.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// What its programs were started with.
    pub fn env(&self) -> Arc<Environments> {
        self.env.clone()
    }

    /// Ends the pod: its proxy drains, then its programs end, then its namespaces go. Its last state.
    pub async fn end(self) -> PodState {
        self.watching.cancel();
        self.stop.cancel();
        if let Err(error) = self.ended.await {
            tracing::error!(%error, "a pod's task failed");
        }
        // Dropping a place waits for its thread.
        let _ = tokio::task::spawn_blocking(move || drop(self.place)).await;
        self.board.borrow().clone()
    }
}

impl Settings {
    /// A pod's own directory.
    pub fn dir(&self, pod: &PodName) -> PathBuf {
        self.pods.join(pod.to_string())
    }
}

/// A pod's addresses, the first before the others.
fn addresses(ip: Ipv4Addr) -> Vec<IpAddr> {
    let mut addresses = vec![IpAddr::V4(ip)];
    addresses.extend(link::has_ipv6().then_some(IpAddr::V6(link::v6(ip))));
    addresses
}

/// Tells of every change of a pod's state, the last at least.
async fn tell(pod: PodName, mut state: watch::Receiver<PodState>, reports: mpsc::Sender<Report>) {
    loop {
        let report = Report { pod: pod.clone(), state: state.borrow_and_update().clone() };
        if reports.send(report).await.is_err() || state.changed().await.is_err() {
            return;
        }
    }
}

fn prepare(
    dir: &Path,
    plan: &PodPlan,
    settings: &Settings,
    volumes: &Volumes,
    ip: Ipv4Addr,
) -> Result<(), PodError> {
    let fail = |path: &Path| {
        let path = path.to_owned();
        move |source| PodError::File { path, source }
    };
    // What an earlier pod of this name left is not this one's.
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fail(dir)(error)),
        _ => {}
    }
    fs::create_dir_all(dir.join(logs::DIRECTORY)).map_err(fail(dir))?;
    furnish::write(dir, volumes).map_err(fail(dir))?;
    let addresses = addresses(ip);
    let bootstrap = node::bootstrap(plan, ip, settings.xds, settings.identity.mark()).to_json();
    let server = settings.xds.ip();
    let of_proxy = SocketAddr::new(server, dns::PROXY_PORT);
    for (name, text) in [
        (furnish::PROXY_RESOLV, dns::files::resolv_conf(plan, of_proxy, &settings.host_dns)),
        (furnish::HOSTS, dns::files::hosts(plan, &addresses)),
        (furnish::RESOLV, dns::files::resolv_conf(plan, server, &settings.host_dns)),
        (furnish::BOOTSTRAP, format!("{bootstrap:#}\n")),
    ] {
        let path = dir.join(name);
        fs::write(&path, text).map_err(fail(&path))?;
    }
    Ok(())
}

fn programs(plan: &PodPlan, settings: &Settings) -> Vec<PathBuf> {
    let path = |program: &str| match program.contains('/') {
        true => PathBuf::from(program),
        false => settings.programs.join(program),
    };
    plan.runs.iter().map(|run| path(&run.program.program)).collect()
}

async fn serve_status(stop: CancellationToken) {
    match TcpListener::bind((Ipv4Addr::UNSPECIFIED, ostro_agent::STATUS_PORT)).await {
        Ok(listener) => status::serve(listener, Admin::local(), stop).await,
        Err(error) => tracing::warn!(%error, "the status port could not be opened"),
    }
}
