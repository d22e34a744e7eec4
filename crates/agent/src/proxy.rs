//! One proxy: how its process is run, and how it is drained before it ends.
//!
//! Whichever program it is, it takes Envoy's flags, and its admin interface answers what [`Admin`] asks: `/ready`, the
//! counters of the first configuration in `/stats`, and `/drain_listeners`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::process::{Output, Process, SpawnError};
use crate::{Admin, DataPlane};

/// A proxy ends within milliseconds of SIGTERM, once it was drained; past this it is killed.
const GRACE: Duration = Duration::from_secs(2);

/// How to run one proxy. The process inherits the namespaces of the thread that calls [`ProxyProgram::run`].
#[derive(Clone, Debug)]
pub struct ProxyProgram {
    /// Which program it is.
    pub data_plane: DataPlane,
    /// Where it is (`ostro`, or Envoy), as the user it runs as can reach it.
    pub binary: PathBuf,
    /// The bootstrap, readable for that user.
    pub config: PathBuf,
    /// Appended to by its standard output and error.
    pub log: PathBuf,
    /// User and group to run as, if not the caller's own.
    pub user: Option<u32>,
    /// How long open requests may take to end once the proxy should stop; zero ends it at once.
    pub drain: Duration,
    /// Its admin interface.
    pub admin: Admin,
}

impl ProxyProgram {
    /// Keeps one proxy running until `stop`, then drains and ends it. Returns an error only if the very
    /// first start fails: later ones are tried again.
    pub async fn run(self, stop: CancellationToken) -> Result<(), SpawnError> {
        self.process().keep(stop, self.drained()).await
    }

    /// Tells it to drain and gives it the time to.
    pub async fn drained(&self) {
        if self.drain.is_zero() {
            return;
        }
        match self.admin.drain().await {
            Ok(()) => tokio::time::sleep(self.drain).await,
            Err(error) => tracing::debug!(%error, "a proxy could not be drained"),
        }
    }

    /// Its process, for whoever keeps it running himself.
    pub fn process(&self) -> Process {
        let drain_seconds = self.drain.as_secs().max(1).to_string();
        let (name, subcommand) = match self.data_plane {
            DataPlane::Ostro => ("ostro proxy", Some("proxy")),
            DataPlane::Envoy => ("Envoy", None),
        };
        let mut args: Vec<OsString> = subcommand.into_iter().map(OsString::from).collect();
        args.extend(["-c".into(), self.config.clone().into()]);
        // One worker: a pod of the local runner shares its machine with a whole mesh. No hot restarts:
        // several proxies run on one machine, each alone.
        let fixed = "--concurrency 1 --use-dynamic-base-id --disable-hot-restart --log-level warning \
                     --component-log-level misc:error --local-address-ip-version v4 --drain-time-s";
        args.extend(fixed.split_ascii_whitespace().map(OsString::from));
        args.push(drain_seconds.into());
        Process {
            args,
            output: Output::File(self.log.clone()),
            user: self.user,
            grace: GRACE,
            ..Process::new(name, &self.binary)
        }
    }
}
