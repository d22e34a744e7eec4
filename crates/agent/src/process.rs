//! A program run: started, waited for, ended when told; and one that is kept running, with back-off.

use std::ffi::{CString, OsString};
use std::fs::{File, OpenOptions};
use std::future::Future;
use std::io::{self, PipeReader};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, Uid};
use rustix::thread::UnshareFlags;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use crate::Backoff;
use crate::privileges::Privileges;

/// Why a program could not be started. Not the program's fault; trying again helps only after a change.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The log file cannot be opened.
    #[error("cannot open the log file {path}: {source}")]
    Log {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The program cannot be executed.
    #[error("cannot run {program}: {source}")]
    Exec {
        /// Which.
        program: PathBuf,
        /// Why.
        source: io::Error,
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

/// Where a program's standard output and error go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Where the caller's go.
    Inherited,
    /// Appended to a file.
    File(PathBuf),
    /// Into one pipe, which whoever starts the program reads ([`Started::output`]).
    Pipe,
}

/// What a program finds in its environment besides [`Process::env`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surroundings {
    /// Everything the caller has.
    Inherited,
    /// Nothing.
    Bare,
}

/// How to run one program. It inherits the namespaces of the thread that starts it, and is
/// killed by the kernel when that thread ends: it never outlives its keeper, not even one that was killed.
#[derive(Clone, Debug)]
pub struct Process {
    /// What it is called in the log.
    pub name: String,
    /// The program, as the user it runs as can reach it.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its environment, beside `surroundings`.
    pub env: Vec<(String, String)>,
    /// What else is in its environment.
    pub surroundings: Surroundings,
    /// Where it starts, if not where the caller is.
    pub directory: Option<PathBuf>,
    /// A file, and the path at which the program alone finds it, whatever is there for others.
    pub instead: Option<(PathBuf, PathBuf)>,
    /// Where what it writes goes.
    pub output: Output,
    /// User and group to run as, if not the caller's own: in a user namespace that maps a single user there
    /// is no other.
    pub user: Option<u32>,
    /// What it may do beyond what its user may.
    pub privileges: Privileges,
    /// When to start it again.
    pub restart: Restart,
    /// Time between SIGTERM and SIGKILL.
    pub grace: Duration,
}

/// A program that runs. Dropping it kills the program.
#[derive(Debug)]
pub struct Started {
    name: String,
    child: Child,
    /// Its process group, which it leads.
    group: Option<Pid>,
    output: Option<PipeReader>,
}

impl Process {
    /// A program without arguments that inherits everything and is started again whenever it ends.
    pub fn new(name: impl Into<String>, program: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            surroundings: Surroundings::Inherited,
            directory: None,
            instead: None,
            output: Output::Inherited,
            user: None,
            privileges: Privileges::Inherited,
            restart: Restart::Always,
            grace: Duration::from_secs(2),
        }
    }

    /// Keeps the program running until `stop`; then awaits `before_end` (unless the program ends
    /// meanwhile), and ends it. Fails only if the very first start fails: later ones are tried again.
    pub async fn keep(
        self,
        stop: CancellationToken,
        before_end: impl Future<Output = ()>,
    ) -> Result<(), SpawnError> {
        let mut backoff = Backoff::new();
        let mut program = self.start()?;
        loop {
            let started = Instant::now();
            let status = tokio::select! {
                () = stop.cancelled() => {
                    tokio::select! {
                        () = before_end => {}
                        _ = program.wait() => {}
                    }
                    program.end(self.grace).await;
                    return Ok(());
                }
                status = program.wait() => status,
            };
            if self.is_done(status) {
                stop.cancelled().await;
                return Ok(());
            }
            program = loop {
                tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    () = tokio::time::sleep(backoff.after(started.elapsed())) => {}
                }
                match self.start() {
                    Ok(program) => break program,
                    Err(error) => tracing::warn!(%error, "{} was not started", self.name),
                }
            };
        }
    }

    /// Starts the program, once.
    pub fn start(&self) -> Result<Started, SpawnError> {
        let exec = |source| SpawnError::Exec { program: self.program.clone(), source };
        let mut command = Command::new(&self.program);
        command.stdin(Stdio::null());
        let output = self.connect(&mut command)?;
        // A group of its own: a key press in the terminal is not its affair, and what it starts can be
        // ended with it.
        command.process_group(0);
        self.spawn(command, false, output).map_err(exec)
    }

    /// Starts the program, once, with descriptors of somebody else's; [`Process::output`] is not asked.
    pub fn start_with(&self, handed: Handed) -> Result<Started, SpawnError> {
        let exec = |source| SpawnError::Exec { program: self.program.clone(), source };
        let mut command = Command::new(&self.program);
        command.stdin(handed.stdin).stdout(handed.stdout).stderr(handed.stderr);
        if !handed.terminal {
            command.process_group(0);
        }
        self.spawn(command, handed.terminal, None).map_err(exec)
    }

    /// Starts a command whose input and output are set. With `terminal`, its input is the terminal of a session
    /// of its own, by which it hears of key presses.
    fn spawn(&self, mut command: Command, terminal: bool, output: Option<PipeReader>) -> io::Result<Started> {
        command.args(&self.args).kill_on_drop(true);
        if self.surroundings == Surroundings::Bare {
            command.env_clear();
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        let (privileges, user) = (self.privileges, self.user);
        let c_string = |path: &PathBuf| CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other);
        let instead = match &self.instead {
            Some((file, at)) => Some((c_string(file)?, c_string(at)?)),
            None => None,
        };
        // SAFETY: between fork and exec the closure makes system calls and allocates nothing.
        unsafe {
            command.pre_exec(move || {
                if terminal {
                    rustix::process::setsid()?;
                    rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
                }
                if let Some((file, at)) = &instead {
                    // Only mounts are unshared, not the table of file descriptors.
                    rustix::thread::unshare_unsafe(UnshareFlags::NEWNS)?;
                    rustix::mount::mount_bind(file, at)?;
                }
                privileges.enter(user)?;
                // After the change of user, which forgets it.
                rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
                Ok(())
            });
        }
        let child = command.spawn()?;
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        Ok(Started { name: self.name.clone(), child, group, output })
    }

    fn connect(&self, command: &mut Command) -> Result<Option<PipeReader>, SpawnError> {
        match &self.output {
            Output::Inherited => Ok(None),
            Output::File(path) => {
                let log = |source| SpawnError::Log { path: path.clone(), source };
                let (out, err) = open_log(path).map_err(log)?;
                self.give(&out).map_err(log)?;
                command.stdout(out).stderr(err);
                Ok(None)
            }
            Output::Pipe => {
                let exec = |source| SpawnError::Exec { program: self.program.clone(), source };
                let (reader, writer) = io::pipe().map_err(exec)?;
                self.give(&writer).map_err(exec)?;
                command.stdout(writer.try_clone().map_err(exec)?).stderr(writer);
                Ok(Some(reader))
            }
        }
    }

    /// Makes what the program is to write to its own: it may open it again by the name `/dev/stdout`.
    fn give(&self, output: impl AsFd) -> io::Result<()> {
        match self.user {
            Some(user) => Ok(rustix::fs::fchown(output, Some(Uid::from_raw(user)), None)?),
            None => Ok(()),
        }
    }

    /// True if the program should not be started again.
    fn is_done(&self, status: io::Result<ExitStatus>) -> bool {
        let log = match &self.output {
            Output::File(path) => path.display().to_string(),
            _ => String::new(),
        };
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

/// What a program reads and writes, handed to it by whoever wants it run.
#[derive(Debug)]
pub struct Handed {
    /// Its standard input.
    pub stdin: OwnedFd,
    /// Its standard output.
    pub stdout: OwnedFd,
    /// Its standard error.
    pub stderr: OwnedFd,
    /// `stdin` is a terminal that is to be the program's own.
    pub terminal: bool,
}

impl Started {
    /// Sends it, and what it has started, a signal. One that does not exist is not sent.
    pub fn signal(&self, number: i32) {
        if let Some(group) = self.group
            && let Some(signal) = Signal::from_named_raw(number)
        {
            // It fails only if nobody is left.
            let _ = rustix::process::kill_process_group(group, signal);
        }
    }

    /// What it writes, if that goes into a pipe. The first caller has it.
    pub fn output(&mut self) -> Option<PipeReader> {
        self.output.take()
    }

    /// Its process, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits for it to end by itself; what it has started and left behind is killed then, as with the first
    /// process of a container. Dropping the future loses nothing.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await;
        self.kill_group();
        status
    }

    /// Asks it to end, and kills it if it has not after `grace`. Its status, if there is one.
    pub async fn end(&mut self, grace: Duration) -> Option<ExitStatus> {
        if let Some(pid) = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
            // It fails only if the process is gone, which is what is wanted.
            let _ = rustix::process::kill_process(pid, Signal::TERM);
        }
        match tokio::time::timeout(grace, self.wait()).await {
            Ok(status) => status.ok(),
            Err(_) => {
                tracing::warn!("{} did not end within {grace:?} and is killed", self.name);
                self.kill_group();
                self.wait().await.ok()
            }
        }
    }

    /// Kills whatever is left of its process group, once: right after its end nobody else has the group's
    /// number, and while one of its processes is there nobody else gets it.
    fn kill_group(&mut self) {
        if let Some(group) = self.group.take() {
            // It fails only if nobody is left.
            let _ = rustix::process::kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // One that was waited for took its group with it.
        if self.child.id().is_some() {
            self.kill_group();
        }
    }
}

fn open_log(path: &Path) -> io::Result<(File, File)> {
    let out = OpenOptions::new().create(true).append(true).open(path)?;
    let err = out.try_clone()?;
    Ok((out, err))
}
