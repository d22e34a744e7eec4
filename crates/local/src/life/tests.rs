//! Lives in a world of scripts: what each instance of a program does, and what looks at it find. Time is tokio's,
//! paused: hours go by in an instant, and every moment is exact.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::*;
use crate::container::{Exit, Program};
use crate::probe::{Action, Probe, Probes};
use crate::status::{ContainerState, Waiting};

/// What an instance of a program does: ends after a time with a code, or runs until it is told to end.
#[derive(Clone, Copy)]
enum Does {
    Ends(u64, i32),
    Runs,
    /// It cannot be started.
    Missing,
}

#[derive(Clone)]
struct Script {
    began: Instant,
    /// By container: what its first, second... instance does; the last is repeated.
    programs: Arc<Vec<Vec<Does>>>,
    /// By container and the port that is looked at: between which seconds looks fail.
    ill: Arc<BTreeMap<(usize, u16), std::ops::Range<u64>>>,
    /// What happened when, in seconds.
    said: Arc<Mutex<Vec<(u64, String)>>>,
}

impl Script {
    fn new(programs: &[&[Does]]) -> Self {
        Self {
            began: Instant::now(),
            programs: Arc::new(programs.iter().map(|p| p.to_vec()).collect()),
            ill: Arc::default(),
            said: Arc::default(),
        }
    }

    fn ill(self, container: usize, port: u16, seconds: std::ops::Range<u64>) -> Self {
        let mut ill = (*self.ill).clone();
        ill.insert((container, port), seconds);
        Self { ill: Arc::new(ill), ..self }
    }

    fn say(&self, what: String) {
        self.said.lock().unwrap().push((self.began.elapsed().as_secs(), what));
    }

    fn said(&self) -> Vec<String> {
        self.said.lock().unwrap().iter().map(|(at, what)| format!("{at} {what}")).collect()
    }
}

struct Play {
    script: Script,
    container: usize,
    ends: Option<(Instant, i32)>,
}

impl Program for Play {
    async fn wait(&mut self) -> Exit {
        match self.ends {
            Some((at, code)) => {
                tokio::time::sleep_until(at).await;
                self.script.say(format!("{} ended", self.container));
                Exit { code, signal: None }
            }
            None => std::future::pending().await,
        }
    }

    async fn end(&mut self, _: Duration) -> Exit {
        self.script.say(format!("{} was ended", self.container));
        Exit { code: 143, signal: Some(15) }
    }

    fn last_lines(&self) -> Vec<String> {
        vec!["the last line".to_owned()]
    }
}

impl World for Script {
    type Program = Play;

    fn start(&self, container: usize, instance: u32) -> Result<Play, String> {
        let plays = &self.programs[container];
        let does = plays[usize::try_from(instance).unwrap().min(plays.len() - 1)];
        self.say(format!("{container} starts"));
        let ends = match does {
            Does::Ends(after, code) => Some((Instant::now() + Duration::from_secs(after), code)),
            Does::Runs => None,
            Does::Missing => return Err("no such program".to_owned()),
        };
        Ok(Play { script: self.clone(), container, ends })
    }

    async fn look(&self, container: usize, action: &Action) -> Result<(), String> {
        let Action::Tcp { port, .. } = action else { panic!("{action:?}") };
        let at = self.began.elapsed();
        let ill = self
            .ill
            .get(&(container, *port))
            .is_some_and(|ill| (Duration::from_secs(ill.start)..Duration::from_secs(ill.end)).contains(&at));
        if ill { Err("refused".to_owned()) } else { Ok(()) }
    }

    async fn drain(&self) {
        self.say("drains".to_owned());
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
}

fn container(name: &str, role: Role, restart: RestartPolicy) -> Container {
    let (probes, restarts_max) = (Probes::default(), None);
    Container {
        name: name.into(),
        image: String::new(),
        role,
        restart,
        restarts_max,
        probes,
        grace: Duration::from_secs(2),
    }
}

fn main_container(restart: RestartPolicy) -> Container {
    container("main", Role::Main, restart)
}

fn probe(port: u16) -> Option<Probe> {
    Some(Probe {
        action: Action::Tcp { host: String::new(), port },
        initial_delay: Duration::ZERO,
        period: Duration::from_secs(10),
        timeout: Duration::from_secs(1),
        successes: 1,
        failures: 3,
    })
}

/// A pod that lives, and the means to look at it.
struct Living {
    board: Board,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Living {
    fn begin(script: &Script, containers: Vec<Container>) -> Self {
        let board = Board::new(PodState::new(&containers));
        let stop = CancellationToken::new();
        let life = Life { world: script.clone(), containers, board: board.clone() };
        Self { task: tokio::spawn(life.run(stop.clone())), board, stop }
    }

    fn state(&self) -> PodState {
        self.board.borrow().clone()
    }

    /// Waits until the pod's state is as it should be.
    async fn until(&self, wanted: impl Fn(&PodState) -> bool) {
        let mut state = self.board.subscribe();
        let reached = tokio::time::timeout(Duration::from_secs(10_000), state.wait_for(|s| wanted(s))).await;
        assert!(reached.is_ok(), "{:#?}", self.state());
    }

    async fn end(self) -> PodState {
        self.stop.cancel();
        self.task.await.unwrap();
        self.board.borrow().clone()
    }
}

fn waits_for(state: &PodState, index: usize, wanted: Waiting) -> bool {
    matches!(&state.containers[index].state, ContainerState::Waiting { reason, .. } if *reason == wanted)
}

#[tokio::test(start_paused = true)]
async fn proxy_then_init_containers_in_order_then_the_rest_and_back() {
    let script = Script::new(&[
        &[Does::Runs],
        &[Does::Ends(3, 0)],
        &[Does::Runs],
        &[Does::Ends(1, 0)],
        &[Does::Runs],
        &[Does::Runs],
    ])
    .ill(0, 1, 0..2)
    .ill(2, 2, 0..7);
    let mut proxy = container("istio-proxy", Role::Proxy, RestartPolicy::Always);
    proxy.probes.startup = probe(1);
    let mut sidecar = container("side", Role::Sidecar, RestartPolicy::Always);
    sidecar.probes.startup = probe(2);
    let containers = vec![
        proxy,
        container("first", Role::Init, RestartPolicy::Always),
        sidecar,
        container("second", Role::Init, RestartPolicy::Always),
        main_container(RestartPolicy::Always),
        main_container(RestartPolicy::Always),
    ];
    let pod = Living::begin(&script, containers);
    pod.until(PodState::is_ready).await;
    let state = pod.end().await;
    assert_eq!(
        script.said(),
        [
            "0 0 starts",
            "2 1 starts",
            "5 1 ended",
            "5 2 starts",
            "7 3 starts",
            "8 3 ended",
            "8 4 starts",
            "8 5 starts",
            "8 drains",
            "13 4 was ended",
            "13 5 was ended",
            "13 2 was ended",
            "13 0 was ended",
        ]
    );
    assert_eq!(state.restarts(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_init_container_is_tried_until_it_succeeds() {
    let script = Script::new(&[&[Does::Ends(0, 1), Does::Ends(0, 1), Does::Ends(0, 0)], &[Does::Runs]]);
    let containers =
        vec![container("init", Role::Init, RestartPolicy::Always), main_container(RestartPolicy::Always)];
    let pod = Living::begin(&script, containers);
    pod.until(PodState::is_ready).await;
    // At once, then after a second.
    let starts: Vec<String> = script.said().into_iter().filter(|said| said.ends_with("0 starts")).collect();
    assert_eq!(starts, ["0 0 starts", "0 0 starts", "1 0 starts"]);
    assert_eq!(pod.state().containers[0].restarts, 2);
    pod.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_init_container_that_must_not_be_tried_again_fails_the_pod() {
    let script = Script::new(&[&[Does::Runs], &[Does::Ends(1, 3)], &[Does::Runs]]);
    let containers = vec![
        container("istio-proxy", Role::Proxy, RestartPolicy::Always),
        container("init", Role::Init, RestartPolicy::Never),
        main_container(RestartPolicy::Never),
    ];
    let pod = Living::begin(&script, containers);
    pod.until(|state| state.phase == Phase::Failed).await;
    pod.task.await.unwrap();
    assert_eq!(script.said().last().unwrap(), "1 0 was ended", "the proxy does not stay");
    assert!(script.said().iter().all(|said| !said.ends_with("2 starts")));
}

#[tokio::test(start_paused = true)]
async fn a_program_that_crashes_is_started_ever_later_and_the_state_says_why() {
    let script = Script::new(&[&[Does::Ends(0, 7)]]);
    let pod = Living::begin(&script, vec![main_container(RestartPolicy::Always)]);
    pod.until(|state| state.containers[0].restarts == 5).await;
    let starts: Vec<u64> = script
        .said
        .lock()
        .unwrap()
        .iter()
        .filter(|(_, what)| what == "0 starts")
        .map(|(at, _)| *at)
        .collect();
    assert_eq!(starts[..5], [0, 0, 1, 3, 7]);
    pod.until(|state| waits_for(state, 0, Waiting::CrashLoopBackOff)).await;
    let state = pod.state();
    let container = &state.containers[0];
    let ContainerState::Waiting { message, .. } = &container.state else { panic!("{container:?}") };
    assert_eq!(message, "back-off 16s; exit code 7; last line: the last line");
    let last = container.last.as_ref().unwrap();
    assert_eq!((last.exit_code, last.last_lines.len()), (7, 1));
    assert!(!state.is_ready() && state.phase == Phase::Running);
    pod.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_program_that_cannot_be_started_is_tried_again() {
    let script = Script::new(&[&[Does::Missing]]);
    let pod = Living::begin(&script, vec![main_container(RestartPolicy::Always)]);
    pod.until(|state| waits_for(state, 0, Waiting::RunContainerError)).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let tries = script.said().len();
    assert!((4..=6).contains(&tries), "at 0, 0, 1, 3, 7 s: {tries}");
    pod.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_job_completes_and_takes_its_proxy_and_sidecars_with_it() {
    let script = Script::new(&[&[Does::Runs], &[Does::Runs], &[Does::Ends(4, 1), Does::Ends(9, 0)]]);
    let containers = vec![
        container("istio-proxy", Role::Proxy, RestartPolicy::Always),
        container("side", Role::Sidecar, RestartPolicy::Always),
        main_container(RestartPolicy::OnFailure),
    ];
    let pod = Living::begin(&script, containers);
    pod.until(|state| state.phase == Phase::Succeeded).await;
    pod.task.await.unwrap();
    let said = script.said();
    assert_eq!(said[said.len() - 3..], ["13 2 ended", "13 1 was ended", "13 0 was ended"]);
    assert_eq!(pod.board.borrow().containers[2].restarts, 1);
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_programs_are_never_started_again_fails_with_the_worst() {
    let script = Script::new(&[&[Does::Ends(1, 0)], &[Does::Ends(2, 1)]]);
    let containers = vec![main_container(RestartPolicy::Never), main_container(RestartPolicy::Never)];
    let pod = Living::begin(&script, containers);
    pod.until(|state| state.phase == Phase::Failed).await;
    pod.task.await.unwrap();
    assert_eq!(script.said().len(), 4, "{:?}", script.said());
}

#[tokio::test(start_paused = true)]
async fn a_job_gives_up_after_as_many_failures_as_it_may_have() {
    let script = Script::new(&[&[Does::Ends(1, 1)], &[Does::Runs]]);
    let bounded = Container { restarts_max: Some(2), ..main_container(RestartPolicy::OnFailure) };
    let pod = Living::begin(&script, vec![bounded, main_container(RestartPolicy::OnFailure)]);
    pod.until(|state| state.phase == Phase::Failed).await;
    pod.task.await.unwrap();
    let starts = script.said().iter().filter(|said| said.ends_with("0 starts")).count();
    assert_eq!(starts, 3);
    assert!(script.said().last().unwrap().ends_with("1 was ended"), "the others end with it");
}

#[tokio::test(start_paused = true)]
async fn readiness_gates_the_pod_and_nothing_else() {
    let script = Script::new(&[&[Does::Runs]]).ill(0, 1, 15..75);
    let mut web = main_container(RestartPolicy::Always);
    web.probes.readiness = probe(1);
    let pod = Living::begin(&script, vec![web]);
    pod.until(PodState::is_ready).await;
    pod.until(|state| !state.is_ready()).await;
    assert_eq!(script.began.elapsed().as_secs(), 40, "the third look that fails");
    pod.until(PodState::is_ready).await;
    assert_eq!(script.began.elapsed().as_secs(), 75);
    assert_eq!(pod.end().await.restarts(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_program_that_does_not_live_is_started_again() {
    let script = Script::new(&[&[Does::Runs]]).ill(0, 1, 15..45);
    let mut web = main_container(RestartPolicy::Always);
    web.probes.liveness = probe(1);
    let pod = Living::begin(&script, vec![web]);
    pod.until(|state| state.containers[0].restarts == 1).await;
    assert_eq!(script.said(), ["0 0 starts", "40 0 was ended", "40 0 starts"]);
    let last = pod.state().containers[0].last.clone().unwrap();
    assert_eq!(last.reason.as_deref(), Some("liveness probe failed: refused"));
    pod.until(PodState::is_ready).await;
    pod.end().await;
}

#[tokio::test(start_paused = true)]
async fn until_a_program_has_started_the_other_probes_wait() {
    let script = Script::new(&[&[Does::Runs]]).ill(0, 1, 0..15).ill(0, 2, 0..14);
    let mut slow = main_container(RestartPolicy::Always);
    slow.probes = Probes { startup: probe(1), readiness: probe(3), liveness: probe(2) };
    let pod = Living::begin(&script, vec![slow]);
    pod.until(|state| state.containers[0].started).await;
    assert_eq!(script.began.elapsed().as_secs(), 15);
    pod.until(PodState::is_ready).await;
    assert_eq!(pod.end().await.restarts(), 0, "liveness failed only before");
}

#[tokio::test(start_paused = true)]
async fn a_program_that_takes_too_long_to_start_is_started_again() {
    let script = Script::new(&[&[Does::Runs]]).ill(0, 1, 0..21);
    let mut slow = main_container(RestartPolicy::Always);
    slow.probes.startup = probe(1);
    let pod = Living::begin(&script, vec![slow]);
    pod.until(|state| state.containers[0].restarts == 1).await;
    let last = pod.state().containers[0].last.clone().unwrap();
    assert_eq!(last.reason.as_deref(), Some("startup probe failed: refused"));
    assert_eq!(script.began.elapsed().as_secs(), 20);
    pod.end().await;
}

#[tokio::test(start_paused = true)]
async fn told_to_end_before_it_began_a_pod_ends() {
    let script = Script::new(&[&[Does::Runs], &[Does::Runs]]).ill(0, 1, 0..1_000_000);
    let mut proxy = container("istio-proxy", Role::Proxy, RestartPolicy::Always);
    proxy.probes.startup = Some(Probe { failures: u32::MAX, ..probe(1).unwrap() });
    let pod = Living::begin(&script, vec![proxy, main_container(RestartPolicy::Always)]);
    pod.until(|state| matches!(state.containers[0].state, ContainerState::Running { .. })).await;
    pod.end().await;
    assert_eq!(script.said(), ["0 0 starts", "0 0 was ended"]);
}
