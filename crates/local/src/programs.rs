//! A pod's containers as processes: what [`crate::life`] starts, looks at and ends.
//!
//! Everything here runs on the pod's place, so that its processes and sockets are the pod's.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ostro_agent::{Output, Process, ProxyProgram, Started};
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;

use crate::container::{Exit, Program, World};
use crate::logs::{LastLines, Writer};
use crate::looks;
use crate::probe::Action;

/// How long the last words of a program that has ended are waited for: a child of its own may hold the pipe open.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// Most bytes taken from a program's pipe at a time.
const READ_BYTES: usize = 16 << 10;

/// A pod's containers, by their index.
#[derive(Clone)]
pub struct Programs {
    inner: Arc<Inner>,
}

struct Inner {
    /// Name and process of each.
    processes: Vec<(String, Process)>,
    /// The proxy's, if the pod has one.
    proxy: Option<ProxyProgram>,
    /// The pod's address.
    ip: IpAddr,
    /// Directory of its logs, as the pod sees it.
    logs: PathBuf,
}

impl Programs {
    /// Programs with the names of their containers. The proxy among them is `proxy` too, by which it is drained.
    pub fn new(
        processes: Vec<(String, Process)>,
        proxy: Option<ProxyProgram>,
        ip: IpAddr,
        logs: PathBuf,
    ) -> Self {
        Self { inner: Arc::new(Inner { processes, proxy, ip, logs }) }
    }
}

/// A container's process, and whoever reads what it writes.
pub struct Running {
    started: Started,
    reader: Option<JoinHandle<()>>,
    lines: Arc<Mutex<LastLines>>,
}

impl World for Programs {
    type Program = Running;

    fn start(&self, container: usize, instance: u32) -> Result<Running, String> {
        let Some((name, process)) = self.inner.processes.get(container) else {
            return Err(format!("the pod has no container {container}"));
        };
        let process = Process { output: Output::Pipe, ..process.clone() };
        let log =
            Writer::begin(&self.inner.logs, name, instance).map_err(|error| format!("its log: {error}"))?;
        let mut started = process.start().map_err(|error| error.to_string())?;
        let lines = Arc::new(Mutex::new(LastLines::default()));
        let output = started.output().map(|output| pipe::Receiver::from_owned_fd(OwnedFd::from(output)));
        let reader = match output {
            Some(Ok(output)) => Some(tokio::spawn(read(output, log, lines.clone()))),
            Some(Err(error)) => return Err(format!("its output: {error}")),
            None => None,
        };
        Ok(Running { started, reader, lines })
    }

    async fn look(&self, container: usize, action: &Action) -> Result<(), String> {
        match action {
            Action::Exec(command) => self.run(container, command).await,
            other => looks::look(other, self.inner.ip).await,
        }
    }

    async fn drain(&self) {
        if let Some(proxy) = &self.inner.proxy {
            proxy.drained().await;
        }
    }
}

impl Programs {
    /// Runs a command as the container's program would, to its end.
    async fn run(&self, container: usize, command: &[String]) -> Result<(), String> {
        let (Some((_, process)), [program, args @ ..]) = (self.inner.processes.get(container), command)
        else {
            return Err("there is nothing to run".to_owned());
        };
        let process = Process {
            program: program.into(),
            args: args.iter().map(Into::into).collect(),
            output: Output::Pipe,
            ..process.clone()
        };
        let mut started = process.start().map_err(|error| error.to_string())?;
        // A process that writes more than a pipe holds would wait for ever.
        let output = started.output().map(|output| pipe::Receiver::from_owned_fd(OwnedFd::from(output)));
        let output = output.transpose().map_err(|error| error.to_string())?;
        let mut said = LastLines::default();
        let status = {
            let waited = started.wait();
            tokio::pin!(waited);
            let reading = async {
                if let Some(output) = &output {
                    // Broken or at its end: either way there is no more.
                    let _ = each(output, |bytes| said.note(bytes)).await;
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                status = &mut waited => status,
                () = reading => return Ok(()),
            }
        };
        match exit(status) {
            Exit { code: 0, .. } => Ok(()),
            Exit { code, .. } => {
                if let Some(output) = &output {
                    // Its end may be noticed before its last words; what it left running may hold the pipe open.
                    let rest = each(output, |bytes| said.note(bytes));
                    let _ = tokio::time::timeout(LAST_WORDS, rest).await;
                }
                let line = said.lines().pop().map(|line| format!(": {line}")).unwrap_or_default();
                Err(format!("exit code {code}{line}"))
            }
        }
    }
}

/// Hands everything that comes out of a pipe to `take`.
async fn each(output: &pipe::Receiver, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        output.readable().await?;
        match output.try_read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => take(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// Keeps what a program writes. A disk that is full costs its log, not the program.
async fn read(output: pipe::Receiver, mut log: Writer, lines: Arc<Mutex<LastLines>>) {
    let mut told = false;
    let result = each(&output, |bytes| {
        if let Err(error) = log.write(bytes)
            && !std::mem::replace(&mut told, true)
        {
            tracing::warn!(%error, "a container's log is not kept");
        }
        lines.lock().unwrap_or_else(PoisonError::into_inner).note(bytes);
    });
    if let Err(error) = result.await {
        tracing::warn!(%error, "a container's output could not be read");
    }
}

impl Running {
    /// Waits for its last words, for a moment.
    async fn hear_out(&mut self) {
        if let Some(reader) = self.reader.take() {
            // Over time: what is still written goes to the log; a panic was reported where it happened.
            let _ = tokio::time::timeout(LAST_WORDS, reader).await;
        }
    }
}

impl Program for Running {
    async fn wait(&mut self) -> Exit {
        let status = self.started.wait().await;
        self.hear_out().await;
        exit(status)
    }

    async fn end(&mut self, grace: Duration) -> Exit {
        let status = self.started.end(grace).await;
        self.hear_out().await;
        status.map_or(Exit { code: -1, signal: None }, |status| exit(Ok(status)))
    }

    fn last_lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).lines()
    }
}

fn exit(status: io::Result<ExitStatus>) -> Exit {
    match status {
        Ok(status) => {
            let signal = status.signal();
            Exit { code: status.code().or(signal.map(|signal| 128 + signal)).unwrap_or(-1), signal }
        }
        // It could not be waited for: nobody knows.
        Err(_) => Exit { code: -1, signal: None },
    }
}
