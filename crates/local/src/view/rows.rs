//! A pod's status in a few words: what it waits for.

use super::model::{PodRow, Standing};
use crate::plan::Proxy;
use crate::status::{ContainerState, ContainerStatus, Phase, PodStatus, Role, Terminated};

/// The row of a pod.
pub fn row(pod: &PodStatus) -> PodRow {
    let standing = match pod {
        pod if pod.terminating => Standing::Ending,
        pod if pod.phase == Phase::Succeeded => Standing::Done,
        pod if pod.ready => Standing::Ready,
        _ => Standing::Waiting,
    };
    PodRow {
        namespace: pod.name.namespace.clone(),
        name: pod.name.name.clone(),
        workload: pod.workload.clone(),
        address: pod.ip.to_string(),
        proxy: match pod.proxy {
            Proxy::Sidecar(_) => "sidecar",
            Proxy::Gateway(_) => "gateway",
            Proxy::None => "none",
        },
        standing,
        state: match standing {
            Standing::Ready => "ready".to_owned(),
            Standing::Done => "done".to_owned(),
            Standing::Ending => "ending".to_owned(),
            Standing::Waiting => waits_for(pod),
        },
        restarts: pod.restarts,
    }
}

fn waits_for(pod: &PodStatus) -> String {
    if let Some(missing) = &pod.held {
        return missing.clone();
    }
    // In the order they are started in: the first that is not ready keeps the rest.
    let unready = pod.containers.iter().find(|container| !container.ready);
    unready.map_or_else(|| pod.summary(), container)
}

fn container(container: &ContainerStatus) -> String {
    let name = match container.role {
        Role::Proxy => "proxy".to_owned(),
        Role::Init => format!("init container {}", container.name),
        Role::Sidecar | Role::Main => format!("container {}", container.name),
    };
    let what = match &container.state {
        ContainerState::Waiting { reason, message } if message.is_empty() => reason.as_str().to_owned(),
        ContainerState::Waiting { reason, message } => format!("{}: {message}", reason.as_str()),
        ContainerState::Terminated(end) => ended(end),
        ContainerState::Running { .. } => match (container.role, container.started) {
            (Role::Proxy, _) => "has no configuration yet".to_owned(),
            (Role::Init, _) => "runs".to_owned(),
            (_, false) => "has not started yet".to_owned(),
            (_, true) => "is not ready yet".to_owned(),
        },
    };
    // A container that ended before says more by how it did.
    let last = match (&container.state, &container.last) {
        (ContainerState::Terminated(_), _) | (_, None) => String::new(),
        (_, Some(end)) => format!(" ({} before)", ended(end)),
    };
    format!("{name}: {what}{last}")
}

fn ended(end: &Terminated) -> String {
    let how = match (&end.reason, end.signal) {
        (Some(reason), _) => format!("ended: {reason}"),
        (None, Some(signal)) => format!("ended by signal {signal}"),
        (None, None) => format!("ended with {}", end.exit_code),
    };
    match end.last_lines.iter().rev().find(|line| !line.trim().is_empty()) {
        Some(line) => format!("{how}: {}", line.trim()),
        None => how,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use std::sync::Arc;

    use super::*;
    use crate::plan::PodName;
    use crate::status::Waiting;

    fn pod(containers: Vec<ContainerStatus>) -> PodStatus {
        PodStatus {
            name: PodName { namespace: "default".into(), name: "web-0".into() },
            kind: "Deployment".into(),
            workload: "web".into(),
            ip: Ipv4Addr::new(10, 244, 0, 2),
            ip6: None,
            proxy: Proxy::Sidecar(ostro_agent::DataPlane::Ostro),
            ready: false,
            terminating: false,
            phase: Phase::Pending,
            held: None,
            restarts: 0,
            containers,
            started_at: 0,
            place: None,
            env: Arc::default(),
        }
    }

    fn part(name: &str, role: Role, ready: bool, state: ContainerState) -> ContainerStatus {
        let (name, image) = (name.to_owned(), String::new());
        ContainerStatus { name, role, image, started: ready, ready, restarts: 0, state, last: None }
    }

    fn failed(exit_code: i32, line: &str) -> Terminated {
        Terminated {
            exit_code,
            signal: None,
            reason: None,
            last_lines: vec![line.into(), String::new()],
            started_at: 0,
            finished_at: 0,
        }
    }

    #[test]
    fn the_first_container_that_is_not_ready_is_named() {
        let runs = ContainerState::Running { since: 0 };
        let proxy = |ready| part("istio-proxy", Role::Proxy, ready, runs.clone());
        let init = part("setup", Role::Init, false, runs.clone());
        let mut crashing = part(
            "web",
            Role::Main,
            false,
            ContainerState::Waiting { reason: Waiting::CrashLoopBackOff, message: String::new() },
        );
        crashing.last = Some(failed(2, "no such flag"));
        for (containers, expected) in [
            (vec![proxy(false)], "proxy: has no configuration yet"),
            (vec![proxy(true), init], "init container setup: runs"),
            (
                vec![proxy(true), crashing],
                "container web: CrashLoopBackOff (ended with 2: no such flag before)",
            ),
            (vec![part("web", Role::Main, false, runs.clone())], "container web: has not started yet"),
            (Vec::new(), "ContainerCreating"),
        ] {
            assert_eq!(row(&pod(containers)).state, expected);
        }
        let held = PodStatus { held: Some("no ConfigMap `settings`".into()), ..pod(Vec::new()) };
        assert_eq!(row(&held).state, "no ConfigMap `settings`");
    }

    #[test]
    fn a_job_that_has_done_its_work_is_not_waited_for() {
        let done = row(&PodStatus { phase: Phase::Succeeded, ..pod(Vec::new()) });
        assert_eq!((done.standing, done.state.as_str()), (Standing::Done, "done"));
        let ending = row(&PodStatus { terminating: true, ready: true, ..pod(Vec::new()) });
        assert_eq!(ending.standing, Standing::Ending);
    }
}
