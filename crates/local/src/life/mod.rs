//! The order of a pod's life.
//!
//! 1. The proxy, until it has its configuration. Capture rules are in force from the start, so that without it
//!    nothing in the pod would reach anybody: not even an init container. (In Istio this is what
//!    `holdApplicationUntilProxyStarts` and native sidecars do.)
//! 2. Init containers in their order, each to success; those that stay (`restartPolicy: Always`) until they have
//!    started.
//! 3. The containers, all at once.
//! 4. Told to end: the proxy stops taking requests while the programs still answer; then the containers end, then
//!    the sidecars in reverse, and the proxy last, so that every program reaches its peers to its end.
//!
//! Where all containers have ended and none is started again, sidecars and proxy end by themselves: nothing keeps a
//! Job from completing.

use std::future::Future;

use ostro_api::workload::RestartPolicy;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::container::{Board, Container, Outcome, PodState, World, keep};
use crate::status::{Phase, Role};

/// One pod's containers, about to live.
pub struct Life<W> {
    /// Where they do.
    pub world: W,
    /// The proxy, init containers in order, containers: an index is their number on the board.
    pub containers: Vec<Container>,
    /// Where their state is written; it has an entry for each.
    pub board: Board,
}

/// A container that stays until it is told to end.
struct Staying {
    stop: CancellationToken,
    task: JoinHandle<Outcome>,
}

impl Staying {
    async fn end(self) {
        self.stop.cancel();
        // A panic was reported where it happened.
        let _ = self.task.await;
    }
}

impl<W: World> Life<W> {
    /// Lives until `stop`, or until all that has to be done is.
    pub async fn run(self, stop: CancellationToken) {
        // In the order in which they were started; they end in reverse.
        let mut staying: Vec<Staying> = Vec::new();
        let begun = self.begin(&mut staying, &stop).await;
        match begun {
            Ok(()) => self.middle(&stop).await,
            Err(Interrupted::Failed) => self.set_phase(Phase::Failed),
            Err(Interrupted::Stopped) => {}
        }
        for one in staying.into_iter().rev() {
            one.end().await;
        }
    }

    /// Everything that comes before the containers.
    async fn begin(&self, staying: &mut Vec<Staying>, stop: &CancellationToken) -> Result<(), Interrupted> {
        for (index, container) in self.containers.iter().enumerate() {
            match container.role {
                Role::Proxy | Role::Sidecar => {
                    let own = CancellationToken::new();
                    let task = tokio::spawn(self.keep(index, container, own.clone()));
                    staying.push(Staying { stop: own, task });
                    self.await_start(index, stop).await?;
                }
                Role::Init => match self.keep(index, &patient(container), stop.clone()).await {
                    Outcome::Ended(ended) if ended.is_success() => {}
                    Outcome::Ended(_) | Outcome::GaveUp(_) => return Err(Interrupted::Failed),
                    Outcome::Stopped => return Err(Interrupted::Stopped),
                },
                Role::Main => {}
            }
        }
        Ok(())
    }

    /// The containers themselves.
    async fn middle(&self, stop: &CancellationToken) {
        let own = CancellationToken::new();
        let mut running = JoinSet::new();
        for (index, container) in self.containers.iter().enumerate() {
            if container.role == Role::Main {
                running.spawn(self.keep(index, container, own.clone()));
            }
        }
        self.set_phase(Phase::Running);
        if running.is_empty() {
            // A gateway: its proxy is all there is.
            stop.cancelled().await;
            self.world.drain().await;
            return;
        }
        let mut well = true;
        loop {
            let outcome = tokio::select! {
                outcome = running.join_next() => outcome,
                () = stop.cancelled() => {
                    self.world.drain().await;
                    break;
                }
            };
            match outcome {
                Some(Ok(Outcome::Ended(ended))) => well &= ended.is_success(),
                Some(Ok(Outcome::GaveUp(_))) => {
                    well = false;
                    own.cancel();
                }
                // Ended because another gave up; or a panic, which was reported where it happened.
                Some(Ok(Outcome::Stopped) | Err(_)) => well = false,
                None => {
                    self.set_phase(if well { Phase::Succeeded } else { Phase::Failed });
                    return;
                }
            }
        }
        own.cancel();
        while running.join_next().await.is_some() {}
    }

    fn keep(
        &self,
        index: usize,
        container: &Container,
        stop: CancellationToken,
    ) -> impl Future<Output = Outcome> + Send + use<W> {
        keep(self.world.clone(), container.clone(), index, self.board.clone(), stop)
    }

    async fn await_start(&self, index: usize, stop: &CancellationToken) -> Result<(), Interrupted> {
        let mut state = self.board.subscribe();
        let started = |state: &PodState| state.containers.get(index).is_none_or(|c| c.started);
        tokio::select! {
            () = stop.cancelled() => Err(Interrupted::Stopped),
            // The board is ours: it is not closed.
            _ = state.wait_for(started) => Ok(()),
        }
    }

    fn set_phase(&self, phase: Phase) {
        self.board.send_modify(|state| state.phase = phase);
    }
}

enum Interrupted {
    Stopped,
    Failed,
}

/// An init container has to succeed: `Always` means that it is tried until it does.
fn patient(container: &Container) -> Container {
    let restart = match container.restart {
        RestartPolicy::Always => RestartPolicy::OnFailure,
        other => other,
    };
    Container { restart, ..container.clone() }
}

#[cfg(test)]
mod tests;
