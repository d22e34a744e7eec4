//! The life of one container: started, probed, started again with back-off, ended.
//!
//! Pure of sockets and processes: those are the [`World`]'s, so that hours of back-off are tested in an instant.
//! What happens is written on the pod's [`Board`], for whoever waits for it.

use std::future::Future;
use std::ops::ControlFlow;
use std::time::Duration;

use ostro_agent::Backoff;
use ostro_api::workload::RestartPolicy;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::probe::{self, Action, Probes};
use crate::status::{ContainerState, ContainerStatus, Phase, Role, Terminated, Waiting, now};

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// 128 + the signal's number for one ended by a signal.
    pub code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
}

/// What containers need of the world. Containers are named by their index in the pod.
pub trait World: Clone + Send + Sync + 'static {
    /// A program that runs.
    type Program: Program;

    /// Starts a container's program for the `instance`-th time, from 0. Why it cannot be, for people.
    fn start(&self, container: usize, instance: u32) -> Result<Self::Program, String>;

    /// Looks at a container once. What is wrong, for people.
    fn look(&self, container: usize, action: &Action) -> impl Future<Output = Result<(), String>> + Send;

    /// Lets the pod's proxy take no new requests, and end those it has.
    fn drain(&self) -> impl Future<Output = ()> + Send;
}

/// A program that runs. Dropping it kills it.
pub trait Program: Send + 'static {
    /// Waits for it to end by itself. Dropping the future loses nothing.
    fn wait(&mut self) -> impl Future<Output = Exit> + Send;

    /// Asks it to end, and kills it if it has not after `grace`.
    fn end(&mut self, grace: Duration) -> impl Future<Output = Exit> + Send;

    /// The last lines it wrote.
    fn last_lines(&self) -> Vec<String>;
}

/// A container, as far as its life goes.
#[derive(Clone, Debug)]
pub struct Container {
    /// Unique in the pod.
    pub name: String,
    /// As the manifest has it.
    pub image: String,
    /// What it is to the pod.
    pub role: Role,
    /// When it is started again.
    pub restart: RestartPolicy,
    /// How often it may be, if that is bounded.
    pub restarts_max: Option<u32>,
    /// How it is looked at.
    pub probes: Probes,
    /// Time between SIGTERM and SIGKILL.
    pub grace: Duration,
}

/// What a pod's containers do, for all to see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodState {
    /// How far the pod has come.
    pub phase: Phase,
    /// In the pod's order.
    pub containers: Vec<ContainerStatus>,
}

impl PodState {
    /// Where every container waits.
    pub fn new(containers: &[Container]) -> Self {
        let status = |container: &Container| ContainerStatus {
            name: container.name.clone(),
            role: container.role,
            image: container.image.clone(),
            started: false,
            ready: false,
            restarts: 0,
            state: ContainerState::Waiting { reason: Waiting::PodInitializing, message: String::new() },
            last: None,
        };
        Self { phase: Phase::Pending, containers: containers.iter().map(status).collect() }
    }

    /// The pod takes requests.
    pub fn is_ready(&self) -> bool {
        self.phase == Phase::Running && self.containers.iter().all(|container| container.ready)
    }

    /// How often its containers were started again, together.
    pub fn restarts(&self) -> u32 {
        self.containers.iter().fold(0, |sum, container| sum.saturating_add(container.restarts))
    }
}

/// Where a pod's state is written.
pub type Board = watch::Sender<PodState>;

/// How a container's life went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has ended, and its policy leaves it at that.
    Ended(Terminated),
    /// It has ended badly more often than it may.
    GaveUp(Terminated),
    /// It was told to end.
    Stopped,
}

/// What a container's program came to.
enum Run {
    Ended(Exit, Option<String>),
    Stopped(Exit),
}

/// Keeps container `index` running as its policy has it, until it is done or `stop`.
pub async fn keep<W: World>(
    world: W,
    container: Container,
    index: usize,
    board: Board,
    stop: CancellationToken,
) -> Outcome {
    let note = Note { board: &board, index };
    // The proxy is ours, and everything waits for it; a program that crashes is a person's to look at.
    let mut backoff = if container.role == Role::Proxy { Backoff::new() } else { Backoff::crash_loop() };
    let mut instance = 0;
    loop {
        note.waiting(Waiting::ContainerCreating, String::new());
        let (began, since) = (Instant::now(), now());
        let mut program = match world.start(index, instance) {
            Ok(program) => program,
            Err(error) => {
                note.waiting(Waiting::RunContainerError, error);
                tokio::select! {
                    () = stop.cancelled() => return Outcome::Stopped,
                    () = tokio::time::sleep(backoff.after(Duration::ZERO)) => continue,
                }
            }
        };
        note.running(since, container.probes.startup.is_none());
        let run = attend(&world, &container, index, &mut program, began, &note, &stop).await;
        let (exit, reason, stopped) = match run {
            Run::Ended(exit, reason) => (exit, reason, false),
            Run::Stopped(exit) => (exit, None, true),
        };
        let ended = Terminated {
            exit_code: exit.code,
            signal: exit.signal,
            reason,
            last_lines: program.last_lines(),
            started_at: since,
            finished_at: now(),
        };
        drop(program);
        if stopped || !again(&container, &ended) {
            note.terminated(ended.clone(), container.role);
            return if stopped { Outcome::Stopped } else { Outcome::Ended(ended) };
        }
        if container.restarts_max.is_some_and(|most| instance >= most) {
            note.terminated(ended.clone(), container.role);
            return Outcome::GaveUp(ended);
        }
        let delay = backoff.after(began.elapsed());
        note.crashed(ended, delay);
        tokio::select! {
            () = stop.cancelled() => return Outcome::Stopped,
            () = tokio::time::sleep(delay) => {}
        }
        instance += 1;
        note.restarted(instance);
    }
}

/// True if a container that ended so is started again.
fn again(container: &Container, ended: &Terminated) -> bool {
    match container.restart {
        RestartPolicy::Always => true,
        RestartPolicy::OnFailure => !ended.is_success(),
        RestartPolicy::Never => false,
    }
}

/// Attends a program until it ends, a probe has it ended, or `stop`.
async fn attend<W: World>(
    world: &W,
    container: &Container,
    index: usize,
    program: &mut W::Program,
    began: Instant,
    note: &Note<'_>,
    stop: &CancellationToken,
) -> Run {
    let reason = tokio::select! {
        () = stop.cancelled() => None,
        exit = program.wait() => return Run::Ended(exit, None),
        reason = probed(world, container, index, began, note) => Some(reason),
    };
    note.ready(false);
    let exit = program.end(container.grace).await;
    match reason {
        Some(reason) => {
            tracing::warn!(container = container.name, reason, "a container is ended");
            Run::Ended(exit, Some(reason))
        }
        None => Run::Stopped(exit),
    }
}

/// Runs a container's probes until one has it ended; why.
async fn probed<W: World>(
    world: &W,
    container: &Container,
    index: usize,
    began: Instant,
    note: &Note<'_>,
) -> String {
    let Probes { startup, readiness, liveness } = &container.probes;
    if let Some(probe) = startup {
        let look = || world.look(index, &probe.action);
        let started = probe::watch(probe, began, false, look, ControlFlow::Break).await;
        if let Err(reason) = started {
            return format!("startup probe failed: {reason}");
        }
        note.started();
    }
    let live = async {
        let Some(probe) = liveness else { return std::future::pending().await };
        let look = || world.look(index, &probe.action);
        let reason = probe::watch(probe, began, true, look, |verdict| match verdict {
            Ok(()) => ControlFlow::Continue(()),
            Err(reason) => ControlFlow::Break(reason),
        });
        format!("liveness probe failed: {}", reason.await)
    };
    let ready = async {
        let Some(probe) = readiness else {
            note.ready(true);
            return std::future::pending().await;
        };
        let look = || world.look(index, &probe.action);
        probe::watch(probe, began, false, look, |verdict| {
            note.ready(verdict.is_ok());
            ControlFlow::<String>::Continue(())
        })
        .await
    };
    tokio::select! {
        reason = live => reason,
        never = ready => never,
    }
}

/// One container's place on the board.
struct Note<'a> {
    board: &'a Board,
    index: usize,
}

impl Note<'_> {
    fn change(&self, change: impl FnOnce(&mut ContainerStatus)) {
        self.board.send_if_modified(|state| {
            let Some(status) = state.containers.get_mut(self.index) else { return false };
            let before = status.clone();
            change(status);
            *status != before
        });
    }

    fn waiting(&self, reason: Waiting, message: String) {
        self.change(|status| status.state = ContainerState::Waiting { reason, message });
    }

    fn running(&self, since: u64, started: bool) {
        self.change(|status| {
            status.state = ContainerState::Running { since };
            status.started = started;
        });
    }

    fn started(&self) {
        self.change(|status| status.started = true);
    }

    fn ready(&self, ready: bool) {
        self.change(|status| status.ready = ready && status.role != Role::Init);
    }

    fn crashed(&self, ended: Terminated, delay: Duration) {
        let mut message = format!("exit code {}", ended.exit_code);
        if let Some(reason) = &ended.reason {
            message = format!("{reason}; {message}");
        }
        if let Some(line) = ended.last_lines.last() {
            message = format!("{message}; last line: {line}");
        }
        self.change(|status| {
            status.ready = false;
            status.started = false;
            // One that is started again at once is not in a loop yet.
            let (reason, message) = match delay.is_zero() {
                true => (Waiting::ContainerCreating, message),
                false => (Waiting::CrashLoopBackOff, format!("back-off {delay:?}; {message}")),
            };
            status.state = ContainerState::Waiting { reason, message };
            status.last = Some(ended);
        });
    }

    fn restarted(&self, times: u32) {
        self.change(|status| status.restarts = times);
    }

    fn terminated(&self, ended: Terminated, role: Role) {
        self.change(|status| {
            status.started = false;
            status.ready = role == Role::Init && ended.is_success();
            status.state = ContainerState::Terminated(ended);
        });
    }
}
