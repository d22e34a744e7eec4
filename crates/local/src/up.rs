//! A mesh brought up: everything wired, and a handle to watch and end it.

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ostro_sources::{Follower, Options as SourceOptions};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::api::applied::Store;
use crate::api::server::Desk;
use crate::api::{self, view};
use crate::cluster::ClusterDir;
use crate::control;
use crate::dns::{self, files::ResolvConf};
use crate::egress::{self, EgressError};
use crate::expose::expose;
use crate::identity::Identity;
use crate::images::Images;
use crate::link::{self, GATEWAY, LinkError};
use crate::meshes::{LOCK, SOCKET, try_lock};
use crate::place::Place;
use crate::pod::Settings;
use crate::runner::{Audience, Runner};
use crate::status::{self, Status};
use crate::token::{Issuer, TokenError};
use crate::tools::Proxies;
use crate::wishes::{ServicePort, Wishes};

/// How long the start waits for the control plane to listen.
const CONTROL_MAX: Duration = Duration::from_secs(5);

/// How long somebody who only looks may hold the lock.
const LOCK_MAX: Duration = Duration::from_millis(200);

/// How the host resolves names.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// What to bring up, and with what.
#[derive(Clone, Debug)]
pub struct Options {
    /// What the mesh is called.
    pub name: String,
    /// The user's files and directories.
    pub paths: Vec<PathBuf>,
    /// Directory for everything the mesh writes; one mesh at a time.
    pub state: PathBuf,
    /// Which program stands in for an image.
    pub images: Images,
    /// The `ostro` binary: the control plane is a subcommand of it.
    pub ostro: PathBuf,
    /// What proxies are.
    pub proxies: Proxies,
    /// Where programs named without a slash are.
    pub programs: PathBuf,
    /// Where the ingress gateway is reached from the host; port 0 means one that is free.
    pub ingress: SocketAddr,
    /// Where the control plane's metrics and debug pages are reached from the host.
    pub control_http: SocketAddr,
    /// Services that are reached from the host, and where; port 0 means one that is free.
    pub expose: Vec<(SocketAddr, ServicePort)>,
    /// How long a proxy that goes away lets requests end.
    pub drain: Duration,
}

/// Why there is no mesh.
#[derive(Debug, thiserror::Error)]
pub enum UpError {
    /// A file or directory. The user's to mend.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What the mesh writes would be read as what the user wrote.
    #[error(
        "the state directory {state} lies within {followed}, which is followed; choose another with --state-dir"
    )]
    StateFollowed {
        /// The state directory.
        state: PathBuf,
        /// The followed path.
        followed: PathBuf,
    },
    /// Another mesh uses the state directory.
    #[error("{0} is in use by another mesh; choose another with --state-dir")]
    InUse(PathBuf),
    /// No key to sign tokens with.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// No namespaces: no root, or no kernel support.
    #[error("cannot make network namespaces: {0} (`ostro up` needs root)")]
    Place(#[source] io::Error),
    /// No network in them.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// No way out of them.
    #[error(transparent)]
    Egress(#[from] EgressError),
    /// A port of the host. The user's to mend.
    #[error("{}", listen_text(*.address, .option, .error))]
    Listen {
        /// Which.
        address: SocketAddr,
        /// The option that chooses another; empty if none does.
        option: String,
        /// Why; told in the text.
        error: io::Error,
    },
    /// Files cannot be followed.
    #[error("cannot follow files: {0}")]
    Follow(#[source] io::Error),
}

impl UpError {
    /// True if it is this machine that lacks something, so that `ostro doctor` can tell more. (Of a port that is
    /// taken the error itself says what to do.)
    pub fn is_machines(&self) -> bool {
        matches!(self, Self::Place(_) | Self::Link(_))
    }
}

fn listen_text(address: SocketAddr, option: &str, error: &io::Error) -> String {
    let port = address.port();
    let choose = match option {
        "" => String::new(),
        option => format!("\n  take another port:   {option} (0: any that is free)"),
    };
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "port {port} of {} is taken by another program\n  see which:           ss -ltnp 'sport = :{port}'{choose}",
            address.ip()
        ),
        io::ErrorKind::PermissionDenied => {
            format!("port {port} of {} is not for ordinary users (below 1024){choose}", address.ip())
        }
        _ => format!("cannot listen on {address}: {error}{choose}"),
    }
}

/// A mesh that runs. Dropping it ends it, but does not wait; [`Mesh::end`] does.
#[derive(Debug)]
pub struct Mesh {
    status: watch::Receiver<Status>,
    ingress: SocketAddr,
    control_http: SocketAddr,
    exposed: Vec<view::Exposed>,
    asked: CancellationToken,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Mesh {
    /// Brings a mesh up. Returns once the ground is laid; pods start after that (see [`Mesh::ready`]).
    pub async fn start(options: Options) -> Result<Self, UpError> {
        let state = options.state.clone();
        let lock = lay_ground(&state)?;
        refuse_own_output(&state, &options.paths)?;
        let file_error = |path: PathBuf| move |source| UpError::File { path, source };
        let cluster_dir = state.join("cluster");
        let cluster = ClusterDir::empty(&cluster_dir).map_err(file_error(cluster_dir.clone()))?;
        let socket = state.join(SOCKET);
        let listener = api::server::listen(&socket).map_err(file_error(socket.clone()))?;

        let mesh = Place::open("ostro-mesh", || Ok(())).map_err(UpError::Place)?;
        link::ground(&mesh).await?;
        egress::open(&mesh).await?;
        let (targets, ingress_targets) = watch::channel(Vec::new());
        let listen = |address: SocketAddr, option: String, targets| {
            expose(&mesh, address, targets).map_err(|error| UpError::Listen { address, option, error })
        };
        let any = |option: &str| format!("{option} 127.0.0.1:0");
        let ingress = listen(options.ingress, any("--ingress"), ingress_targets)?;
        let (_, control_targets) = watch::channel(vec![(GATEWAY, control::HTTP_PORT)]);
        let control_http = listen(options.control_http, any("--control-http"), control_targets)?;

        let (names, zone) = watch::channel(Arc::default());
        let host = tokio::runtime::Handle::current();
        let mut addresses = vec![GATEWAY.into()];
        addresses.extend(link::has_ipv6().then_some(IpAddr::V6(link::GATEWAY6)));
        let name_server = dns::serve(&mesh, host, addresses, zone, RESOLV_CONF.into());
        let dns_address = SocketAddr::from((GATEWAY, dns::PORT));
        name_server.await.map_err(|error| UpError::Listen {
            address: dns_address,
            option: String::new(),
            error,
        })?;
        let mut exposed = Vec::new();
        let mut wished = Vec::new();
        for (address, to) in options.expose {
            let (targets, receiver) = watch::channel(Vec::new());
            let ServicePort { namespace, service, port } = to.clone();
            let address = listen(address, format!("--expose 0:{service}.{namespace}:{port}"), receiver)?;
            exposed.push(view::Exposed { address, namespace, service, port });
            wished.push((to, targets));
        }
        let wishes = Wishes::new(wished);

        let stop = CancellationToken::new();
        let about = view::Mesh {
            api: api::VERSION,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            name: options.name,
            state: state.clone(),
            followed: options.paths.clone(),
            ingress,
            control: control_http,
            exposed: exposed.clone(),
            started: status::now(),
        };
        let applied_dir = state.join(api::APPLIED);
        let applied = Store::open(&applied_dir).map_err(file_error(applied_dir.clone()))?;
        let mut paths = options.paths;
        paths.push(applied_dir);
        let mut followed = paths.clone();
        followed.push(cluster_dir);
        control::keep(&mesh, &options.ostro, &followed, &state, stop.clone());
        if !control::listening(&mesh, CONTROL_MAX).await {
            tracing::warn!("the control plane does not listen yet; pods wait for it");
        }

        let sources = SourceOptions { paths, state: Some(state.join("runner")) };
        let follower = Follower::start(sources).map_err(UpError::Follow)?;
        let settings = Settings {
            proxies: options.proxies,
            programs: options.programs,
            pods: state.join(api::PODS),
            xds: control::xds(),
            host_dns: ResolvConf::parse(&fs::read_to_string(RESOLV_CONF).unwrap_or_default()),
            drain: options.drain,
            issuer: Arc::new(Issuer::open(&state.join("issuer"))?),
            identity: Identity::of_process(),
        };
        let (tell, status) = watch::channel(Status::default());
        let asked = CancellationToken::new();
        let desk = Arc::new(Desk {
            mesh: about,
            status: status.clone(),
            in_force: wishes.in_force(),
            scales: wishes.scales(),
            applied: Mutex::new(applied),
            identity: Identity::of_process(),
            down: asked.clone(),
            streams: api::server::streams(),
        });
        let answering = tokio::spawn(api::server::serve(listener, socket, desk, stop.clone()));
        let audience = Audience { ingress: targets, names, status: tell };
        let runner = Runner::new(mesh, settings, options.images, cluster, wishes, audience);
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            runner.run(follower, stopped.clone()).await;
            stopped.cancel();
            // A panic was reported where it happened.
            let _ = answering.await;
            drop(lock);
        });
        Ok(Self { status, ingress, control_http, exposed, asked, stop, task })
    }

    /// Where the ingress gateway is reached from the host.
    pub fn ingress(&self) -> SocketAddr {
        self.ingress
    }

    /// Where the control plane's metrics and debug pages are reached from the host.
    pub fn control_http(&self) -> SocketAddr {
        self.control_http
    }

    /// What else is reached from the host.
    pub fn exposed(&self) -> &[view::Exposed] {
        &self.exposed
    }

    /// The mesh now.
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// The mesh now, and whenever it changes.
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Waits until every pod takes requests; the status then, or after `limit` whatever it is.
    pub async fn ready(&self, limit: Duration) -> Status {
        let mut status = self.status.clone();
        let _ = tokio::time::timeout(limit, status.wait_for(Status::is_ready)).await;
        self.status()
    }

    /// Waits until somebody asks by the socket for the mesh to end (`ostro down`); it runs on until it is ended.
    pub fn asked_to_end(&self) -> impl Future<Output = ()> + use<> {
        self.asked.clone().cancelled_owned()
    }

    /// Waits for the mesh to end by itself, which it does only if files can no longer be followed.
    pub async fn ended(&mut self) {
        // A finished task may have been waited for already.
        if !self.task.is_finished() {
            // A panic was reported where it happened.
            let _ = (&mut self.task).await;
        }
    }

    /// Ends every process of the mesh; its namespaces go with them.
    pub async fn end(mut self) {
        self.stop.cancel();
        self.ended().await;
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The pods that the mesh writes down must not come back as pods that somebody asks for.
fn refuse_own_output(state: &Path, followed: &[PathBuf]) -> Result<(), UpError> {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let within = followed.iter().find(|path| real(state).starts_with(real(path)));
    match within {
        Some(path) => Err(UpError::StateFollowed { state: state.to_owned(), followed: path.clone() }),
        None => Ok(()),
    }
}

/// The state directory, ours alone while the file is held.
fn lay_ground(state: &PathBuf) -> Result<File, UpError> {
    let fail = |path: &PathBuf| {
        let path = path.clone();
        move |source| UpError::File { path, source }
    };
    fs::create_dir_all(state).map_err(fail(state))?;
    let path = state.join(LOCK);
    let lock = match take_lock(&path) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(UpError::InUse(state.clone())),
        lock => lock.map_err(fail(&path))?,
    };
    // Of an earlier run; its pods are gone.
    match fs::remove_dir_all(state.join(api::PODS)) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(UpError::File { path: state.join(api::PODS), source })
        }
        _ => Ok(lock),
    }
}

/// Takes the lock, whoever may be looking at it just now (commands do, for an instant).
fn take_lock(path: &Path) -> io::Result<File> {
    let begun = Instant::now();
    loop {
        match try_lock(path, true) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && begun.elapsed() < LOCK_MAX => {
                std::thread::yield_now();
            }
            lock => return lock,
        }
    }
}
