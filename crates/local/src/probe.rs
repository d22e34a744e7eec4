//! Probes: when a container has started, takes requests, or must be started again, as the kubelet decides it.
//!
//! [`Probe`] is a probe of a manifest with its defaults filled in and its port's number found. [`watch`] looks by
//! its timetable and tells of verdicts; what a look is ([`Action`]) is carried out elsewhere (`looks`), so that
//! the timetable can be tested without waiting.
//!
//! One thing is done more than the kubelet does: while the verdict is *no*, there are extra looks between those of
//! the timetable, which count only if they succeed. Nobody who sits in front of a mesh that comes up wants to wait
//! out a period for a program that was there after its first tenth.

use std::future::Future;
use std::ops::ControlFlow;
use std::time::Duration;

use ostro_api::kubernetes::IntOrString;
use ostro_api::workload::{self, Container};
use tokio::time::Instant;

/// Where the runner's own readiness check of a port stands in for a probe: how often it looks.
const PORTS_PERIOD: Duration = Duration::from_secs(1);
/// Extra looks come first this often, later less so: after a tenth of the time that has passed.
const EXTRA_MIN: Duration = Duration::from_millis(50);
/// How often a proxy that was ready is looked at. That its process has ended is noticed at once and otherwise.
const PROXY_PERIOD: Duration = Duration::from_secs(5);
/// The least often that extra looks come.
const EXTRA_MAX: Duration = Duration::from_millis(500);
/// Starting a program costs more than a connection does.
const EXTRA_EXEC_MIN: Duration = Duration::from_millis(250);

/// One way of looking at a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Success is a status of 200 to 399.
    Http {
        /// Empty means the pod's address.
        host: String,
        /// Where.
        port: u16,
        /// With its query.
        path: String,
        /// Sent along.
        headers: Vec<(String, String)>,
    },
    /// Success is a connection.
    Tcp {
        /// Empty means the pod's address.
        host: String,
        /// Where.
        port: u16,
    },
    /// Success is an answer of grpc.health.v1.Health that says SERVING.
    Grpc {
        /// Where, at the pod's address.
        port: u16,
        /// Which service to ask about; empty means the server.
        service: String,
    },
    /// Success is an exit code of 0.
    Exec(Vec<String>),
    /// Success is a connection to each of these ports at the pod's address.
    Ports(Vec<u16>),
    /// Success is a proxy that has its configuration.
    Proxy,
}

/// An action and its timetable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// What is done.
    pub action: Action,
    /// How long after the container's start it is first done.
    pub initial_delay: Duration,
    /// How often.
    pub period: Duration,
    /// How long it may take.
    pub timeout: Duration,
    /// Successes in a row that count.
    pub successes: u32,
    /// Failures in a row that count.
    pub failures: u32,
}

/// A container's probes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probes {
    /// Until it succeeds the others wait.
    pub startup: Option<Probe>,
    /// Whether it takes requests.
    pub readiness: Option<Probe>,
    /// Whether it may go on.
    pub liveness: Option<Probe>,
}

impl Probes {
    /// Those of a container. One that has no readiness probe takes requests once its TCP ports do, which
    /// Kubernetes does not wait for, and people do.
    pub fn of(container: &Container) -> Result<Self, String> {
        let read = |name: &str, probe: &Option<workload::Probe>| {
            let probe = probe.as_ref().map(|probe| Probe::of(probe, container)).transpose();
            probe.map_err(|error| format!("{name} of container {}: {error}", container.name))
        };
        let tcp = |port: &&workload::ContainerPort| port.protocol.as_str() == "TCP";
        let ports: Vec<u16> = container.ports.iter().filter(tcp).map(|port| port.container_port).collect();
        let default = || (!ports.is_empty()).then_some(Probe::ports(ports));
        Ok(Self {
            startup: read("startupProbe", &container.startup_probe)?,
            readiness: read("readinessProbe", &container.readiness_probe)?.or_else(default),
            liveness: read("livenessProbe", &container.liveness_probe)?,
        })
    }

    /// Those of a pod's proxy: started and ready once it has its configuration, however long that takes.
    pub fn proxy() -> Self {
        let probe = Probe {
            action: Action::Proxy,
            initial_delay: Duration::ZERO,
            period: PROXY_PERIOD,
            timeout: Duration::from_secs(5),
            successes: 1,
            failures: 1,
        };
        let startup = Probe { failures: u32::MAX, ..probe.clone() };
        Self { startup: Some(startup), readiness: Some(probe), liveness: None }
    }
}

impl Probe {
    fn of(probe: &workload::Probe, container: &Container) -> Result<Self, String> {
        let seconds = |value: Option<u32>, default: u32| {
            Duration::from_secs(u64::from(value.filter(|value| *value > 0).unwrap_or(default)))
        };
        let count = |value: Option<u32>, default: u32| value.filter(|value| *value > 0).unwrap_or(default);
        Ok(Self {
            action: action(probe, container)?,
            initial_delay: seconds(probe.initial_delay_seconds, 0),
            period: seconds(probe.period_seconds, 10),
            timeout: seconds(probe.timeout_seconds, 1),
            successes: count(probe.success_threshold, 1),
            failures: count(probe.failure_threshold, 3),
        })
    }

    fn ports(ports: Vec<u16>) -> Self {
        Self {
            action: Action::Ports(ports),
            initial_delay: Duration::ZERO,
            period: PORTS_PERIOD,
            timeout: Duration::from_secs(1),
            successes: 1,
            failures: 1,
        }
    }

    fn extra(&self, since: Duration) -> Duration {
        let least = if matches!(self.action, Action::Exec(_)) { EXTRA_EXEC_MIN } else { EXTRA_MIN };
        (since / 10).clamp(least, EXTRA_MAX)
    }
}

fn action(probe: &workload::Probe, container: &Container) -> Result<Action, String> {
    if let Some(http) = &probe.http_get {
        let path = if http.path.starts_with('/') { http.path.clone() } else { format!("/{}", http.path) };
        let port = port(http.port.as_ref(), container)?;
        // Whether a server that speaks TLS is well cannot be seen from outside it: that it takes connections
        // can.
        if http.scheme.eq_ignore_ascii_case("https") {
            return Ok(Action::Tcp { host: http.host.clone(), port });
        }
        let headers = http.http_headers.iter().map(|h| (h.name.clone(), h.value.clone())).collect();
        Ok(Action::Http { host: http.host.clone(), port, path, headers })
    } else if let Some(tcp) = &probe.tcp_socket {
        Ok(Action::Tcp { host: tcp.host.clone(), port: port(tcp.port.as_ref(), container)? })
    } else if let Some(grpc) = &probe.grpc {
        Ok(Action::Grpc { port: grpc.port, service: grpc.service.clone() })
    } else if let Some(exec) = probe.exec.as_ref().filter(|exec| !exec.command.is_empty()) {
        Ok(Action::Exec(exec.command.clone()))
    } else {
        Err("none of httpGet, tcpSocket, grpc, exec with a command".to_owned())
    }
}

fn port(port: Option<&IntOrString>, container: &Container) -> Result<u16, String> {
    match port {
        Some(IntOrString::Int(number)) => Ok(*number),
        Some(IntOrString::String(name)) => {
            let named = container.ports.iter().find(|port| port.name == *name);
            named.map(|port| port.container_port).ok_or_else(|| format!("no port is called `{name}`"))
        }
        None => Err("no port".to_owned()),
    }
}

/// What looks so far amount to.
#[derive(Clone, Debug)]
struct Tally {
    verdict: bool,
    last: bool,
    run: u32,
}

impl Tally {
    fn new(verdict: bool) -> Self {
        Self { verdict, last: verdict, run: 0 }
    }

    /// Takes a look in; true if it, with those before it, counts: the verdict is then `verdict`, as before or
    /// not.
    fn note(&mut self, success: bool, probe: &Probe) -> bool {
        self.run = if self.last == success { self.run.saturating_add(1) } else { 1 };
        self.last = success;
        let counts = self.run >= if success { probe.successes } else { probe.failures };
        if counts {
            self.verdict = success;
        }
        counts
    }
}

/// Looks by the probe's timetable, which began when the container did, and tells `judge` of every verdict, with
/// what was wrong; until `judge` breaks.
pub async fn watch<L, B>(
    probe: &Probe,
    started: Instant,
    assumed: bool,
    mut look: impl FnMut() -> L,
    mut judge: impl FnMut(Result<(), String>) -> ControlFlow<B>,
) -> B
where
    L: Future<Output = Result<(), String>>,
{
    tokio::time::sleep_until(started + probe.initial_delay).await;
    let mut tally = Tally::new(assumed);
    let mut due = Instant::now();
    loop {
        let result = bounded(probe.timeout, look()).await;
        if tally.note(result.is_ok(), probe)
            && let ControlFlow::Break(value) = judge(result)
        {
            return value;
        }
        due = (due + probe.period).max(Instant::now());
        while !tally.verdict && probe.successes == 1 {
            let next = Instant::now() + probe.extra(started.elapsed());
            if next >= due {
                break;
            }
            tokio::time::sleep_until(next).await;
            if bounded(probe.timeout, look()).await.is_ok() {
                // It counts as the next of the timetable, which goes on from here.
                tally.note(true, probe);
                due = Instant::now() + probe.period;
                if let ControlFlow::Break(value) = judge(Ok(())) {
                    return value;
                }
            }
        }
        tokio::time::sleep_until(due).await;
    }
}

async fn bounded(limit: Duration, look: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    let late = |_| Err(format!("no answer within {limit:?}"));
    tokio::time::timeout(limit, look).await.unwrap_or_else(late)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::future::ready;

    use super::*;

    fn probe(period: u64, successes: u32, failures: u32) -> Probe {
        Probe {
            action: Action::Tcp { host: String::new(), port: 1 },
            initial_delay: Duration::ZERO,
            period: Duration::from_secs(period),
            timeout: Duration::from_secs(1),
            successes,
            failures,
        }
    }

    /// Verdicts and when they were told, of looks that succeed when `well` says so, until `enough` of them.
    async fn verdicts(
        probe: &Probe,
        assumed: bool,
        enough: usize,
        well: impl Fn(Duration) -> bool,
    ) -> Vec<(u128, bool)> {
        let started = Instant::now();
        let told = RefCell::new(Vec::new());
        let look = || ready(if well(started.elapsed()) { Ok(()) } else { Err("no".to_owned()) });
        watch(probe, started, assumed, look, |verdict| {
            told.borrow_mut().push((started.elapsed().as_millis(), verdict.is_ok()));
            if told.borrow().len() == enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .await;
        told.into_inner()
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_counts_after_as_many_as_were_asked_for() {
        let told = verdicts(&probe(10, 1, 3), true, 3, |at| at < Duration::from_secs(15)).await;
        assert_eq!(told, [(0, true), (10_000, true), (40_000, false)]);
    }

    #[tokio::test(start_paused = true)]
    async fn success_counts_after_as_many_as_were_asked_for() {
        let told = verdicts(&probe(2, 3, 1), false, 1, |_| true).await;
        assert_eq!(told, [(4_000, true)]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_look_waits_for_the_delay() {
        let late = Probe { initial_delay: Duration::from_secs(7), ..probe(10, 1, 1) };
        assert_eq!(verdicts(&late, false, 1, |_| true).await, [(7_000, true)]);
    }

    #[tokio::test(start_paused = true)]
    async fn extra_looks_find_a_program_early_and_never_count_against_it() {
        let well = |at: Duration| at >= Duration::from_millis(1_230);
        let told = verdicts(&probe(10, 1, 2), false, 2, well).await;
        let (at, verdict) = told[0];
        assert!(verdict && (1_230..1_400).contains(&at), "{told:?}");
        assert_eq!(told[1], (at + 10_000, true), "the timetable goes on from there");
        // Two failures by the timetable are at 0 and 10 s, however many looks failed between.
        assert_eq!(verdicts(&probe(10, 1, 2), false, 1, |_| false).await, [(10_000, false)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_hangs_is_a_failure() {
        let started = Instant::now();
        let reason = watch(&probe(10, 1, 1), started, true, std::future::pending, |verdict| {
            ControlFlow::Break(verdict.unwrap_err())
        })
        .await;
        assert_eq!((reason.as_str(), started.elapsed()), ("no answer within 1s", Duration::from_secs(1)));
    }

    #[test]
    fn defaults_are_those_of_kubernetes_and_ports_may_be_named() {
        let mut container = Container { name: "c".into(), ..Container::default() };
        container.ports.push(workload::ContainerPort {
            name: "web".into(),
            container_port: 8080,
            ..Default::default()
        });
        assert_eq!(Probes::of(&container).unwrap().readiness, Some(Probe::ports(vec![8080])));
        let get = workload::HttpGetAction {
            path: "healthz?x=1".into(),
            port: Some(IntOrString::String("web".into())),
            ..Default::default()
        };
        let written = workload::Probe { http_get: Some(get), ..Default::default() };
        container.readiness_probe = Some(written.clone());
        let read = Probes::of(&container).unwrap().readiness.unwrap();
        let Action::Http { port, path, .. } = &read.action else { panic!("{read:?}") };
        assert_eq!((*port, path.as_str()), (8080, "/healthz?x=1"));
        assert_eq!((read.period, read.timeout), (Duration::from_secs(10), Duration::from_secs(1)));
        assert_eq!((read.successes, read.failures), (1, 3));
        container.ports.clear();
        let error = Probes::of(&container).unwrap_err();
        assert_eq!(error, "readinessProbe of container c: no port is called `web`");
    }
}
