//! What can be seen of a running mesh, and asked of its pods.
//!
//! [`Status`] is plain data in Kubernetes' words, in the form (serde, camel case) in which it is also given
//! to other programs.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{Method, StatusCode};
use ostro_agent::{Admin, AdminError};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use crate::plan::{PodName, Proxy};

/// The mesh at one moment.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// All files were read, and a pod runs for every replica they ask for.
    pub complete: bool,
    /// The pods, in order of their names.
    pub pods: Vec<PodStatus>,
    /// What the files ask for and cannot be run, for people.
    pub problems: Vec<String>,
}

impl Status {
    /// Every pod that should run does, and takes requests (or has done its work).
    pub fn is_ready(&self) -> bool {
        self.complete && self.pods.iter().all(|pod| pod.ready || pod.phase == Phase::Succeeded)
    }
}

/// Environments by container: what its program was started with.
pub(crate) type Environments = BTreeMap<String, BTreeMap<String, String>>;

/// A pod at one moment.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodStatus {
    /// Its name.
    pub name: PodName,
    /// Name of the workload it is of.
    pub workload: String,
    /// Kind of that workload.
    pub kind: String,
    /// Its address.
    pub ip: Ipv4Addr,
    /// Its other address, in a mesh that has IPv6.
    pub ip6: Option<Ipv6Addr>,
    /// How its traffic is handled.
    pub proxy: Proxy,
    /// It takes requests.
    pub ready: bool,
    /// It is on its way out.
    pub terminating: bool,
    /// How far it has come.
    pub phase: Phase,
    /// Why it is not started, if something it needs is missing.
    pub held: Option<String>,
    /// How often its containers were started again, together.
    pub restarts: u32,
    /// Its containers: its proxy, then those of the manifest, in its order.
    pub containers: Vec<ContainerStatus>,
    /// When it was made: seconds since the Unix epoch.
    pub started_at: u64,
    #[serde(skip)]
    pub(crate) place: Option<Handle>,
    #[serde(skip)]
    pub(crate) env: Arc<Environments>,
}

/// How far a pod has come, in Kubernetes' words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Not all of its containers were started yet.
    #[default]
    Pending,
    /// All were, and at least one runs or will run again.
    Running,
    /// All have ended well and will not run again.
    Succeeded,
    /// All have ended, one at least badly, and will not run again.
    Failed,
}

/// What a container is to its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// The mesh's own proxy.
    Proxy,
    /// Runs to its end before the next is started.
    Init,
    /// An init container that stays (`restartPolicy: Always`).
    Sidecar,
    /// What the pod is for.
    Main,
}

/// A container at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerStatus {
    /// Unique in the pod.
    pub name: String,
    /// What it is to the pod.
    pub role: Role,
    /// As the manifest has it; empty for the proxy.
    pub image: String,
    /// Its startup probe has succeeded, or it runs and has none.
    pub started: bool,
    /// It takes requests. Of an init container: it has done its work.
    pub ready: bool,
    /// How often it was started again.
    pub restarts: u32,
    /// What it does now.
    pub state: ContainerState,
    /// How it ended before it was started again.
    pub last: Option<Terminated>,
}

/// What a container does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ContainerState {
    /// It waits for something.
    #[serde(rename_all = "camelCase")]
    Waiting {
        /// For what.
        reason: Waiting,
        /// More of it, for people; may be empty.
        message: String,
    },
    /// It runs.
    Running {
        /// Since when: seconds since the Unix epoch.
        since: u64,
    },
    /// It has ended, and is not started again.
    Terminated(Terminated),
}

/// What a container waits for, in Kubernetes' words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Waiting {
    /// For those that are started before it.
    PodInitializing,
    /// To be started.
    ContainerCreating,
    /// To be started again, after it has ended too often.
    CrashLoopBackOff,
    /// To be tried again: its program could not be executed.
    RunContainerError,
}

impl Waiting {
    /// As Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PodInitializing => "PodInitializing",
            Self::ContainerCreating => "ContainerCreating",
            Self::CrashLoopBackOff => "CrashLoopBackOff",
            Self::RunContainerError => "RunContainerError",
        }
    }
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Terminated {
    /// Its exit code; 128 + the signal's number for one ended by a signal, as shells have it.
    pub exit_code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Why it was ended, if it did not end by itself: a probe's failure.
    pub reason: Option<String>,
    /// The last lines it wrote; may be empty.
    pub last_lines: Vec<String>,
    /// Seconds since the Unix epoch.
    pub started_at: u64,
    /// Seconds since the Unix epoch.
    pub finished_at: u64,
}

impl Terminated {
    /// It ended by itself, with success.
    pub fn is_success(&self) -> bool {
        self.exit_code == 0 && self.reason.is_none()
    }
}

impl PodStatus {
    /// What the pod does in one word, as `kubectl get pods` has it: `Running`, `Init:1/2`,
    /// `CrashLoopBackOff`, `Completed`...
    pub fn summary(&self) -> String {
        if self.terminating {
            return "Terminating".to_owned();
        }
        if self.held.is_some() {
            return "CreateContainerConfigError".to_owned();
        }
        match self.phase {
            Phase::Succeeded => return "Completed".to_owned(),
            Phase::Failed => return "Error".to_owned(),
            Phase::Pending | Phase::Running => {}
        }
        let trouble = self.containers.iter().find_map(|container| match &container.state {
            ContainerState::Waiting {
                reason: reason @ (Waiting::CrashLoopBackOff | Waiting::RunContainerError),
                ..
            } => {
                let before = if container.role == Role::Init { "Init:" } else { "" };
                Some(format!("{before}{}", reason.as_str()))
            }
            _ => None,
        });
        trouble.unwrap_or_else(|| match self.phase {
            Phase::Pending => self.initializing(),
            _ => "Running".to_owned(),
        })
    }

    fn initializing(&self) -> String {
        let before = |c: &&ContainerStatus| matches!(c.role, Role::Init | Role::Sidecar);
        let done = |c: &&ContainerStatus| if c.role == Role::Init { c.ready } else { c.started };
        let all = self.containers.iter().filter(before).count();
        let done = self.containers.iter().filter(before).filter(done).count();
        if done < all {
            return format!("Init:{done}/{all}");
        }
        let proxied = self.containers.iter().all(|c| c.role != Role::Proxy || c.started);
        if proxied { "ContainerCreating" } else { "PodInitializing" }.to_owned()
    }

    /// How many of its containers take requests, of how many: the proxy counts, init containers do not.
    pub fn ready_count(&self) -> (usize, usize) {
        let count = |ready: bool| {
            let counts = |c: &&ContainerStatus| c.role != Role::Init && (c.ready || !ready);
            self.containers.iter().filter(counts).count()
        };
        (count(true), count(false))
    }

    /// The environment of its containers' programs, by container.
    pub(crate) fn env(&self) -> Environments {
        (*self.env).clone()
    }

    /// Runs a future inside the pod, as its root user (whose traffic within the pod is not captured, but
    /// whose traffic out of it is). `None` if the pod is on its way out.
    pub async fn run<F>(&self, task: F) -> Option<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.place.as_ref()?.spawn(task).await.ok()
    }

    /// Asks the admin interface of the pod's proxy.
    pub async fn admin(&self, path: &str) -> Option<Result<(StatusCode, Bytes), AdminError>> {
        let path = path.to_owned();
        self.run(async move { Admin::local().call(Method::GET, &path).await }).await
    }
}

/// Seconds since the Unix epoch; 0 on a machine whose clock is before it.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(role: Role, state: ContainerState) -> ContainerStatus {
        ContainerStatus {
            name: "c".into(),
            role,
            image: String::new(),
            started: false,
            ready: false,
            restarts: 0,
            state,
            last: None,
        }
    }

    fn pod(phase: Phase, containers: Vec<ContainerStatus>) -> PodStatus {
        PodStatus {
            name: PodName { namespace: "shop".into(), name: "web-0".into() },
            workload: "web".into(),
            kind: "Deployment".into(),
            ip: Ipv4Addr::new(10, 244, 0, 2),
            ip6: None,
            proxy: Proxy::Sidecar(ostro_agent::DataPlane::Ostro),
            ready: false,
            terminating: false,
            phase,
            held: None,
            restarts: 0,
            containers,
            started_at: 1,
            place: None,
            env: Arc::default(),
        }
    }

    #[test]
    fn one_word_says_what_a_pod_does() {
        let waiting = |reason| ContainerState::Waiting { reason, message: String::new() };
        let running = || ContainerState::Running { since: 1 };
        let done = ContainerStatus { ready: true, ..container(Role::Init, running()) };
        let next = container(Role::Init, running());
        let main = |state| container(Role::Main, state);
        let initializing = vec![done.clone(), next, main(waiting(Waiting::PodInitializing))];
        assert_eq!(pod(Phase::Pending, initializing).summary(), "Init:1/2");
        let creating = vec![done, main(waiting(Waiting::ContainerCreating))];
        assert_eq!(pod(Phase::Pending, creating).summary(), "ContainerCreating");
        let crashing = vec![main(running()), main(waiting(Waiting::CrashLoopBackOff))];
        assert_eq!(pod(Phase::Running, crashing).summary(), "CrashLoopBackOff");
        let proxyless = vec![container(Role::Proxy, running()), main(waiting(Waiting::PodInitializing))];
        assert_eq!(pod(Phase::Pending, proxyless).summary(), "PodInitializing");
        assert_eq!(pod(Phase::Succeeded, Vec::new()).summary(), "Completed");
        let leaving = PodStatus { terminating: true, ..pod(Phase::Running, Vec::new()) };
        assert_eq!(leaving.summary(), "Terminating");
    }

    #[test]
    fn what_is_written_is_read_back() {
        let ended = Terminated {
            exit_code: 137,
            signal: Some(9),
            reason: None,
            last_lines: vec!["out of luck".into()],
            started_at: 1,
            finished_at: 2,
        };
        let state = ContainerState::Terminated(ended.clone());
        let pod = pod(Phase::Failed, vec![container(Role::Main, state.clone())]);
        let text = serde_json::to_string(&pod).unwrap();
        assert!(text.contains("\"startedAt\":1") && text.contains("\"exitCode\":137"), "{text}");
        let back: PodStatus = serde_json::from_str(&text).unwrap();
        assert_eq!(back.containers[0].state, state);
        assert!(!ended.is_success());
    }
}
