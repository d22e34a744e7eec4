//! A program kept running: started, started again with back-off when it ends by itself, ended when told.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::future::Future;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use crate::Backoff;

/// Why a program could not be started. Not the program's fault; trying again helps only after a change.
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
    #[error("cannot run {program}: {source}")]
    Exec {
        /// Which.
        program: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// When a program that ended by itself is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Whatever its status.
    Always,
    /// Unless it succeeded: it had a job, and has done it.
    OnFailure,
}

/// How to run one program. It inherits the namespaces of the thread that calls [`Process::keep`], and is
/// killed by the kernel when that thread ends: it never outlives its keeper, not even one that was killed.
#[derive(Clone, Debug)]
pub struct Process {
    /// What it is called in the log.
    pub name: String,
    /// The program, as the user it runs as can reach it.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Added to the environment of the caller.
    pub env: Vec<(String, String)>,
    /// Standard output and error are appended to this file; without one, they are the caller's.
    pub log: Option<PathBuf>,
    /// User and group to run as, if not the caller's own.
    pub user: Option<u32>,
    /// When to start it again.
    pub restart: Restart,
    /// Time between SIGTERM and SIGKILL.
    pub grace: Duration,
}

impl Process {
    /// Keeps the program running until `stop`; then awaits `before_end` (unless the program ends
    /// meanwhile), and ends it. Fails only if the very first start fails: later ones are tried again.
    pub async fn keep(
        self,
        stop: CancellationToken,
        before_end: impl Future<Output = ()>,
    ) -> Result<(), SpawnError> {
        let mut backoff = Backoff::new();
        let mut child = self.spawn()?;
        loop {
            let started = Instant::now();
            let status = tokio::select! {
                () = stop.cancelled() => {
                    tokio::select! {
                        () = before_end => {}
                        _ = child.wait() => {}
                    }
                    self.end(&mut child).await;
                    return Ok(());
                }
                status = child.wait() => status,
            };
            if self.is_done(status) {
                stop.cancelled().await;
                return Ok(());
            }
            child = loop {
                tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    () = tokio::time::sleep(backoff.after(started.elapsed())) => {}
                }
                match self.spawn() {
                    Ok(child) => break child,
                    Err(error) => tracing::warn!(%error, "{} was not started", self.name),
                }
            };
        }
    }

    fn spawn(&self) -> Result<Child, SpawnError> {
        let mut command = Command::new(&self.program);
        command.args(&self.args).stdin(Stdio::null()).kill_on_drop(true);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        if let Some(path) = &self.log {
            let (out, err) =
                open_log(path).map_err(|source| SpawnError::Log { path: path.clone(), source })?;
            command.stdout(out).stderr(err);
        }
        if let Some(id) = self.user {
            command.uid(id).gid(id);
        }
        // SAFETY: between fork and exec the closure makes one system call and allocates nothing.
        unsafe {
            command.pre_exec(|| {
                rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
                    .map_err(std::io::Error::from)
            });
        }
        command.spawn().map_err(|source| SpawnError::Exec { program: self.program.clone(), source })
    }

    /// Ends the process, the hard way if need be.
    async fn end(&self, child: &mut Child) {
        if let Some(pid) = child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
            // It fails only if the process is gone, which is what is wanted.
            let _ = rustix::process::kill_process(pid, Signal::TERM);
        }
        if tokio::time::timeout(self.grace, child.wait()).await.is_err() {
            tracing::warn!("{} did not end within {:?} and is killed", self.name, self.grace);
            let _ = child.kill().await;
        }
    }

    /// True if the program should not be started again.
    fn is_done(&self, status: std::io::Result<ExitStatus>) -> bool {
        let log = self.log.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        match status {
            Ok(status) if status.success() && self.restart == Restart::OnFailure => {
                tracing::info!("{} has done its work", self.name);
                true
            }
            Ok(status) => {
                tracing::warn!(%status, log, "{} ended by itself and is started again", self.name);
                false
            }
            Err(error) => {
                tracing::warn!(%error, log, "{} could not be waited for", self.name);
                false
            }
        }
    }
}

fn open_log(path: &std::path::Path) -> std::io::Result<(File, File)> {
    let out = OpenOptions::new().create(true).append(true).open(path)?;
    let err = out.try_clone()?;
    Ok((out, err))
}
