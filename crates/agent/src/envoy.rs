//! One Envoy process and its life: started, watched, started again when it ends by itself, drained and
//! ended when it should.

use std::fs::{File, OpenOptions};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use crate::{Admin, Backoff};

/// Envoy ends within milliseconds of SIGTERM; past this it is killed.
const TERMINATION_MAX: Duration = Duration::from_secs(2);

/// Why an Envoy could not be started. Not Envoy's fault; trying again helps only after a change.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The log file cannot be opened.
    #[error("cannot open the log file {path}: {source}")]
    Log {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The program cannot be executed.
    #[error("cannot run {binary}: {source}")]
    Exec {
        /// Which.
        binary: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// How to run one Envoy. The process inherits the namespaces of the thread that calls [`Envoy::run`].
#[derive(Clone, Debug)]
pub struct Envoy {
    /// The program, as the user it runs as can reach it.
    pub binary: PathBuf,
    /// The bootstrap, readable for that user.
    pub config: PathBuf,
    /// Appended to by Envoy's standard output and error.
    pub log: PathBuf,
    /// User and group to run as, if not the caller's own.
    pub user: Option<u32>,
    /// How long open requests may take to end once the proxy should stop; zero ends it at once.
    pub drain: Duration,
    /// Its admin interface.
    pub admin: Admin,
}

impl Envoy {
    /// Keeps one Envoy running until `stop`, then drains and ends it. Returns an error only if the very
    /// first start fails: later ones are tried again.
    pub async fn run(self, stop: CancellationToken) -> Result<(), SpawnError> {
        let mut backoff = Backoff::new();
        let mut child = self.spawn()?;
        loop {
            let started = Instant::now();
            tokio::select! {
                () = stop.cancelled() => {
                    self.finish(&mut child).await;
                    return Ok(());
                }
                status = child.wait() => log_exit(&self, status),
            }
            child = loop {
                tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    () = tokio::time::sleep(backoff.after(started.elapsed())) => {}
                }
                match self.spawn() {
                    Ok(child) => break child,
                    Err(error) => tracing::warn!(%error, "Envoy was not started"),
                }
            };
        }
    }

    fn spawn(&self) -> Result<Child, SpawnError> {
        let (out, err) =
            self.open_log().map_err(|source| SpawnError::Log { path: self.log.clone(), source })?;
        let mut command = Command::new(&self.binary);
        command
            .arg("-c")
            .arg(&self.config)
            // One worker: a pod of this runner shares its machine with a whole mesh.
            .args(["--concurrency", "1"])
            // Several Envoys on one machine, none of which will ever be hot-restarted.
            .args(["--use-dynamic-base-id", "--disable-hot-restart"])
            .args(["--log-level", "warning", "--component-log-level", "misc:error"])
            .args(["--drain-time-s", &self.drain.as_secs().max(1).to_string()])
            .args(["--local-address-ip-version", "v4"])
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .kill_on_drop(true);
        if let Some(id) = self.user {
            command.uid(id).gid(id);
        }
        end_with_parent(&mut command);
        command.spawn().map_err(|source| SpawnError::Exec { binary: self.binary.clone(), source })
    }

    fn open_log(&self) -> std::io::Result<(File, File)> {
        let out = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let err = out.try_clone()?;
        Ok((out, err))
    }

    /// Drains as long as was asked for, then ends the process, the hard way if need be.
    async fn finish(&self, child: &mut Child) {
        if !self.drain.is_zero() {
            match self.admin.drain().await {
                Ok(()) => {
                    let _ = tokio::time::timeout(self.drain, child.wait()).await;
                }
                Err(error) => tracing::debug!(%error, "Envoy could not be drained"),
            }
        }
        if let Some(pid) = child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
            // It fails only if the process is gone, which is what is wanted.
            let _ = rustix::process::kill_process(pid, Signal::TERM);
        }
        if tokio::time::timeout(TERMINATION_MAX, child.wait()).await.is_err() {
            tracing::warn!("Envoy did not end in time and is killed");
            let _ = child.kill().await;
        }
    }
}

/// The child is killed when the thread that made it ends: an Envoy never outlives its agent, not even
/// one that was killed itself.
fn end_with_parent(command: &mut Command) {
    // SAFETY: between fork and exec the closure makes one system call and allocates nothing.
    unsafe {
        command.pre_exec(|| {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(std::io::Error::from)
        });
    }
}

fn log_exit(envoy: &Envoy, status: std::io::Result<ExitStatus>) {
    let log = envoy.log.display();
    match status {
        Ok(status) => tracing::warn!(%status, %log, "Envoy ended by itself and is started again"),
        Err(error) => tracing::warn!(%error, %log, "Envoy could not be waited for"),
    }
}
