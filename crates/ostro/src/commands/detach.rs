//! A mesh in the background: `-d` of `ostro up` and of `ostro demo`.
//!
//! The command is run once more, in a process group of its own and away from the terminal. What that process has to say
//! until its mesh is ready is said here; later words go to `up.log` in the mesh's directory.

use super::Outcome;
use super::common::{COMPLETED, print};
use super::values::seconds;
use ostro_local::api::client::{Client, ClientError};
use ostro_local::api::view::{Mesh, Pods};
use ostro_local::meshes::{MeshName, Meshes, MeshesError, Standing, name_option};
use ostro_local::status::Status;
use rustix::fs::{MemfdFlags, memfd_create};
use serde_json::json;
use std::error::Error;
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::path::Path;
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Tells the process in the background that it is the one.
const DETACHED: &str = "--detached";
/// How often a mesh that begins is tried.
const LOOK: Duration = Duration::from_millis(20);
/// What the mesh has to say once nobody listens.
const LOG: &str = "up.log";

/// Whether to stay.
#[derive(clap::Args, Debug)]
pub struct DetachArgs {
    /// Return when the mesh is ready; it runs on until `ostro down`.
    #[arg(short, long)]
    detach: bool,
    /// With --detach: seconds to wait for that; after them the mesh is left as it is, and the exit status is 1.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, requires = "detach", default_value_t = 60)]
    wait: u64,
    #[arg(long, hide = true)]
    detached: bool,
}

impl DetachArgs {
    /// This process is to start the one that holds the mesh.
    pub fn is_starter(&self) -> bool {
        self.detach && !self.detached
    }

    /// In the process in the background: once the mesh is ready, its words go to a file of its own.
    pub fn leave(&self, state: &Path, mut status: watch::Receiver<Status>) {
        if !self.detached {
            return;
        }
        let path = state.join(LOG);
        tokio::spawn(async move {
            if status.wait_for(Status::is_ready).await.is_err() {
                return;
            }
            let left = File::create(&path).and_then(|log| Ok(rustix::stdio::dup2_stderr(&log)?));
            if let Err(error) = left {
                tracing::warn!(%error, path = %path.display(), "warnings of this mesh are not kept");
            }
        });
    }

    /// Starts the mesh; returns when it is ready. `more` are further lines to be told of it.
    pub fn start(&self, name: &MeshName, as_json: bool, more: impl FnOnce(&Mesh) -> Vec<String>) -> Outcome {
        let begun = Instant::now();
        if Meshes::of_this_user().standing(name) == Standing::Held {
            return Err(MeshesError::Runs(name.clone()).into());
        }
        super::block_on(async {
            let mut terminate = signal(SignalKind::terminate())?;
            let mut interrupt = signal(SignalKind::interrupt())?;
            let mut said = File::from(memfd_create("ostro", MemfdFlags::CLOEXEC)?);
            let mut child = again(&said)?;
            let mut seen = Pods::default();
            let limit = Duration::from_secs(self.wait);
            let waited = tokio::time::timeout(limit, come_up(name, &mut seen));
            let mesh = tokio::select! {
                ended = child.wait() => return Ok(failed(&mut said, ended?)?),
                mesh = waited => mesh,
                _ = terminate.recv() => return interrupted(child).await,
                _ = interrupt.recv() => return interrupted(child).await,
            };
            repeat(&mut said)?;
            match mesh {
                Ok(mesh) => tell(name, &mesh?, &seen, begun.elapsed(), as_json, more)?,
                Err(_) => return Err(not_yet(name, limit, &seen).into()),
            }
            Ok(ExitCode::SUCCESS)
        })
    }
}

/// This command once more; its standard error is `said`.
fn again(said: &File) -> io::Result<Child> {
    let mut args = std::env::args_os();
    let mut command = Command::new(std::env::current_exe()?);
    if let Some(name) = args.next() {
        command.arg0(name);
    }
    command.args(args).arg(DETACHED).process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said.try_clone()?).spawn()
}

/// Waits for a mesh that is about to begin; `seen` is how it stands.
async fn come_up(name: &MeshName, seen: &mut Pods) -> Result<Mesh, ClientError> {
    let meshes = Meshes::of_this_user();
    let client = loop {
        match Client::open(&meshes, name).await {
            Ok(client) => break client,
            // What a killed one left is there until the new one has begun.
            Err(ClientError::NotRunning { .. } | ClientError::NotYet { .. } | ClientError::Killed { .. }) => {
                tokio::time::sleep(LOOK).await;
            }
            Err(error) => return Err(error),
        }
    };
    let mut lines = client.watch_pods().await?;
    while let Some(pods) = lines.next().await {
        *seen = pods?;
        if seen.complete && waits(seen).is_empty() {
            return client.mesh().await;
        }
    }
    // It has ended, and why is heard from its process.
    std::future::pending().await
}

/// The pods that are not ready, and what each waits for.
fn waits(pods: &Pods) -> Vec<String> {
    let waiting = pods.pods.iter().filter(|pod| !pod.ready && pod.status != COMPLETED);
    waiting
        .map(|pod| format!("{}/{}: {}", pod.namespace, pod.name, pod.held.as_ref().unwrap_or(&pod.status)))
        .collect()
}

fn tell(
    name: &MeshName,
    mesh: &Mesh,
    pods: &Pods,
    took: Duration,
    as_json: bool,
    more: impl FnOnce(&Mesh) -> Vec<String>,
) -> io::Result<()> {
    if as_json {
        return print(&format!("{:#}\n", json!({"mesh": mesh, "pods": pods.pods.len()})));
    }
    let option = name_option(name);
    let mut text =
        format!("mesh `{name}` is ready: {} pods in {:.1} s\n", pods.pods.len(), took.as_secs_f64());
    text.push_str(&format!("  ingress:   http://{}\n", mesh.ingress));
    for exposed in &mesh.exposed {
        let (service, namespace, port) = (&exposed.service, &exposed.namespace, exposed.port);
        text.push_str(&format!("  exposed:   {} leads to {service}.{namespace}:{port}\n", exposed.address));
    }
    for line in more(mesh) {
        text.push_str(&format!("  {line}\n"));
    }
    text.push_str(&format!("  look:      ostro ps{option}\n  end it:    ostro down{option}\n"));
    print(&text)
}

fn not_yet(name: &MeshName, limit: Duration, pods: &Pods) -> String {
    let mut text = format!("the mesh `{name}` is not ready after {} s; it is left as it is", limit.as_secs());
    for waits in waits(pods).iter().chain(&pods.problems) {
        text.push_str(&format!("\n  waits for:   {waits}"));
    }
    let option = name_option(name);
    text + &format!("\n  look:        ostro ps{option}\n  end it:      ostro down{option}")
}

/// What the process said, said here.
fn repeat(said: &mut File) -> io::Result<()> {
    let mut text = String::new();
    said.rewind()?;
    said.read_to_string(&mut text)?;
    eprint!("{text}");
    Ok(())
}

fn failed(said: &mut File, ended: ExitStatus) -> io::Result<ExitCode> {
    repeat(said)?;
    // One that ended well before it was ready was asked to, by somebody else.
    let code = ended.code().filter(|code| *code != 0).unwrap_or(1);
    Ok(ExitCode::from(super::common::narrow(code)))
}

/// Somebody lost patience: the mesh goes as well.
async fn interrupted(mut child: Child) -> Result<ExitCode, Box<dyn Error + Send + Sync>> {
    if let Some(pid) = child.id().and_then(|id| rustix::process::Pid::from_raw(i32::try_from(id).ok()?)) {
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
    }
    child.wait().await?;
    Ok(ExitCode::FAILURE)
}
