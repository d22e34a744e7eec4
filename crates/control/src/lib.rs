//! Floor 4: the control plane's process: sources into the mesh, the mesh into discovery, and pages for people.
//!
//! What it is not: it decides nothing about configuration, resources or order; everything here is wiring.
//!
//! Invariants:
//! - nobody is served before everything that was on disk at the start is known: a proxy that comes back to a restarted
//!   control plane is not told that half of the mesh is gone;
//! - a change in a quiet mesh goes out at once; while one is being worked on, the next ones gather into one.

#![forbid(unsafe_code)]

mod follow;
mod http;

pub use ostro_discovery::Timing;
pub use ostro_mesh::Settings;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use ostro_discovery::Translator;
use ostro_sources::Follower;
use ostro_telemetry::Metrics;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What a control plane is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Files and directories to follow.
    pub paths: Vec<PathBuf>,
    /// Where the last good version of every object is kept; without it a restart starts from the files alone.
    pub state: Option<PathBuf>,
    /// Plaintext xDS. Port 0 takes any free port; [`ControlPlane::xds`] tells which.
    pub xds: SocketAddr,
    /// Metrics, readiness and debug pages; each address serves all of them.
    pub http: Vec<SocketAddr>,
    /// What the mesh is told at its start.
    pub settings: Settings,
    /// How long proxies are waited for.
    pub timing: Timing,
    /// Shown in `/version` and `pilot_info`.
    pub version: &'static str,
}

/// Why a control plane does not start. The operator is at fault or the machine is; trying again later may help.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A thread cannot be started.
    #[error("cannot start a thread")]
    Thread(#[from] io::Error),
    /// The follower ended before it had read anything.
    #[error("the files' follower ended before it had read anything")]
    Sources,
}

/// A running control plane. Dropping it ends it; [`stop`](Self::stop) does so in an orderly way.
#[derive(Debug)]
pub struct ControlPlane {
    xds: SocketAddr,
    http: Vec<SocketAddr>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl ControlPlane {
    /// Listens, reads what is there, and serves it.
    pub async fn start(options: Options) -> Result<ControlPlane, StartError> {
        let xds = listen(options.xds).await?;
        let xds_address = xds.local_addr()?;
        let mut http = Vec::new();
        for address in &options.http {
            http.push(listen(*address).await?);
        }
        let http_addresses = http.iter().map(TcpListener::local_addr).collect::<io::Result<Vec<_>>>()?;

        let metrics = Metrics::new(options.version);
        let sources = ostro_sources::Options { paths: options.paths, state: options.state };
        let follower = Follower::start(sources)?;
        let mut follow = follow::Follow::new(follower, options.settings, metrics.clone());
        let world = follow.first().await.ok_or(StartError::Sources)?;
        let discovery = ostro_discovery::start(Translator, world, options.timing, metrics.clone())?;

        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let pages = Arc::new(http::Pages { discovery: discovery.clone(), metrics, version: options.version });
        for listener in http {
            tasks.spawn(http::serve(listener, pages.clone(), stop.clone()));
        }
        tasks.spawn(follow.run(discovery.changes.clone(), stop.clone()));
        tasks.spawn(serve_xds(xds, discovery, stop.clone()));
        tracing::info!(xds = %xds_address, http = ?http_addresses, "serving");
        Ok(ControlPlane { xds: xds_address, http: http_addresses, stop, tasks })
    }

    /// Where xDS is served.
    pub fn xds(&self) -> SocketAddr {
        self.xds
    }

    /// Where the pages are served, in the order of [`Options::http`].
    pub fn http(&self) -> &[SocketAddr] {
        &self.http
    }

    /// Resolves when a part has failed without which the rest makes no sense.
    pub async fn failed(&self) {
        self.stop.cancelled().await;
    }

    /// Ends all streams and tasks, and waits until they are gone.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| StartError::Listen { address, source })
}

async fn serve_xds(
    listener: TcpListener,
    discovery: ostro_discovery::Handle<ostro_mesh::Snapshot>,
    stop: CancellationToken,
) {
    let shutdown = stop.clone();
    if let Err(error) = ostro_discovery::ads::serve(listener, discovery, shutdown.cancelled_owned()).await {
        tracing::error!(%error, "xDS is served no longer");
        stop.cancel();
    }
}
