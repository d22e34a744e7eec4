//! The life of one pod: namespaces, address, rules, programs, proxy, readiness; and its end.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ostro_agent::{Admin, Envoy, Output, Privileges, Process, Ready, Restart, SpawnError, status};
use ostro_capture::Config as Capture;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::dns::files::ResolvConf;
use crate::furnish::{self, Furniture, Inside};
use crate::identity::Identity;
use crate::link::{self, LinkError};
use crate::place::Place;
use crate::plan::{PodName, PodPlan, Proxy};
use crate::{dns, node, rules};

/// How often a pod that is not ready is looked at.
const LOOK_UNREADY: Duration = Duration::from_millis(50);
/// How often a ready pod is looked at.
const LOOK_READY: Duration = Duration::from_secs(1);
/// A port of the pod itself that takes longer to accept is not ready.
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// Time between SIGTERM and SIGKILL of a program.
const PROGRAM_GRACE: Duration = Duration::from_secs(2);

/// What a pod needs besides its plan.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Stock Envoy.
    pub envoy: PathBuf,
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
    /// Its capture rules.
    #[error(transparent)]
    Rules(#[from] rules::RulesError),
}

/// What a pod tells the runner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Which pod.
    pub pod: PodName,
    /// Whether it takes requests now.
    pub ready: bool,
}

/// A running pod.
#[derive(Debug)]
pub struct Pod {
    place: Place,
    watching: CancellationToken,
    stop: CancellationToken,
    ended: tokio::task::JoinHandle<()>,
}

impl Pod {
    /// Starts a pod. Its programs may take a while to be ready; `reports` hears of it.
    pub async fn start(
        settings: &Settings,
        plan: &PodPlan,
        (serial, ip): (u32, Ipv4Addr),
        mesh: &Place,
        reports: mpsc::Sender<Report>,
    ) -> Result<Self, PodError> {
        let dir = settings.pods.join(plan.name.to_string());
        prepare(&dir, plan, settings, ip)?;
        let furniture = Furniture {
            dir: dir.clone(),
            envoy: settings.envoy.clone(),
            programs: programs(plan, settings),
            hostname: plan.host_name().to_owned(),
        };
        let name = plan.name.name.clone();
        // Making namespaces blocks the thread that does it.
        let open = tokio::task::spawn_blocking(move || Place::open(&name, move || furniture.install()));
        let place = open.await.map_err(|e| PodError::Place(io::Error::other(e)))?.map_err(PodError::Place)?;
        link::attach(mesh, &place, serial, ip).await?;
        if plan.proxy == Proxy::Sidecar {
            let capture = match settings.identity.mark() {
                Some(mark) => Capture::sidecar().by_mark(mark),
                None => Capture::sidecar(),
            };
            rules::load(&place, &capture).await?;
        }
        let (watching, stop) = (CancellationToken::new(), CancellationToken::new());
        let life = live(plan.clone(), settings.drain, settings.identity, stop.clone());
        let ended = place.spawn(life);
        place.spawn(watching.clone().run_until_cancelled_owned(watch(plan.clone(), ip, reports)));
        Ok(Self { place, watching, stop, ended })
    }

    /// Where the pod's sockets and processes are.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Ends the pod: its proxy drains, then its programs end, then its namespaces go.
    pub async fn end(self) {
        self.watching.cancel();
        self.stop.cancel();
        if let Err(error) = self.ended.await {
            tracing::error!(%error, "a pod's task failed");
        }
        // Dropping a place waits for its thread.
        let _ = tokio::task::spawn_blocking(move || drop(self.place)).await;
    }
}

fn prepare(dir: &Path, plan: &PodPlan, settings: &Settings, ip: Ipv4Addr) -> Result<(), PodError> {
    let fail = |path: &Path| {
        let path = path.to_owned();
        move |source| PodError::File { path, source }
    };
    fs::create_dir_all(dir).map_err(fail(dir))?;
    let mut addresses = vec![IpAddr::V4(ip)];
    addresses.extend(link::has_ipv6().then_some(IpAddr::V6(link::v6(ip))));
    let bootstrap = node::bootstrap(plan, ip, settings.xds, settings.identity.mark()).to_json();
    for (name, text) in [
        (furnish::HOSTS, dns::files::hosts(plan, &addresses)),
        (furnish::RESOLV, dns::files::resolv_conf(plan, settings.xds.ip(), &settings.host_dns)),
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
    plan.runs.iter().map(|run| path(&run.program)).collect()
}

/// Runs everything in the pod until `stop`; the proxy first drains while the programs still answer.
async fn live(plan: PodPlan, drain: Duration, identity: Identity, stop: CancellationToken) {
    let programs_stop = CancellationToken::new();
    let mut programs = JoinSet::new();
    for (index, run) in plan.runs.iter().enumerate() {
        let process = Process {
            args: run.args.iter().map(OsString::from).collect(),
            env: run.env.clone().into_iter().collect(),
            output: Output::File(Inside::file(&crate::cluster::log_name(run))),
            user: identity.program_user(),
            privileges: Privileges::Program,
            restart: if plan.workload.0 == ostro_api::Kind::Job {
                Restart::OnFailure
            } else {
                Restart::Always
            },
            grace: PROGRAM_GRACE,
            ..Process::new(format!("{} of {}", run.container, plan.name), Inside::program(index))
        };
        programs.spawn(process.keep(programs_stop.clone(), std::future::ready(())));
    }
    if plan.proxy != Proxy::None {
        tokio::spawn(serve_status(stop.clone()));
        let envoy = Envoy {
            binary: Inside::envoy(),
            config: Inside::file(furnish::BOOTSTRAP),
            log: Inside::file("envoy.log"),
            user: identity.proxy_user(),
            drain,
            admin: Admin::local(),
        };
        report(&plan.name, envoy.run(stop.clone()).await);
    }
    stop.cancelled().await;
    programs_stop.cancel();
    while let Some(ended) = programs.join_next().await {
        if let Ok(result) = ended {
            report(&plan.name, result);
        }
    }
}

fn report(pod: &PodName, result: Result<(), SpawnError>) {
    if let Err(error) = result {
        tracing::error!(%pod, %error, "a process was not started");
    }
}

async fn serve_status(stop: CancellationToken) {
    match TcpListener::bind((Ipv4Addr::UNSPECIFIED, ostro_agent::STATUS_PORT)).await {
        Ok(listener) => status::serve(listener, Admin::local(), stop).await,
        Err(error) => tracing::warn!(%error, "the status port could not be opened"),
    }
}

/// Looks at the pod for as long as it lives, and tells when its readiness changes.
async fn watch(plan: PodPlan, ip: Ipv4Addr, reports: mpsc::Sender<Report>) {
    let mut was = false;
    loop {
        let ready = is_ready(&plan, ip).await;
        if ready != was {
            was = ready;
            if reports.send(Report { pod: plan.name.clone(), ready }).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(if ready { LOOK_READY } else { LOOK_UNREADY }).await;
    }
}

/// Ready means: every TCP port the containers tell of accepts, and the proxy has its configuration.
async fn is_ready(plan: &PodPlan, ip: Ipv4Addr) -> bool {
    for port in plan.ports.iter().filter(|port| port.protocol == "TCP") {
        // As root, whose loopback traffic the capture rules leave alone: this asks the program itself. A
        // gateway's ports are its proxy's listeners, which are there only once a Gateway asks for them.
        if plan.proxy == Proxy::Gateway {
            continue;
        }
        let connected = tokio::time::timeout(CONNECT_MAX, TcpStream::connect((ip, port.port))).await;
        if !matches!(connected, Ok(Ok(_))) {
            return false;
        }
    }
    plan.proxy == Proxy::None || matches!(Admin::local().ready().await, Ok(Ready::Yes))
}
