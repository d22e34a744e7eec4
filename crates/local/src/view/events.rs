//! The mesh's story as a list of changes, and the two forms in which a pipe gets it.
//!
//! The forms are documented in docs/local.md, and scripts rely on them: fields may be added, nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use super::model::{PodRow, Standing};

/// What a pod waits for is told after it has waited this long: pods that come up as they should are two
/// lines each.
pub const WAITING_AFTER: Duration = Duration::from_secs(5);

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The mesh begins to come up.
    Starting,
    /// An address of the host, and what answers there.
    Address {
        /// `ingress`, `control`, ...
        what: &'static str,
        /// A URL or an address.
        url: String,
    },
    /// Something to try.
    Try {
        /// What it does.
        what: &'static str,
        /// The line that does it.
        command: String,
    },
    /// A pod was made.
    PodStarting {
        /// The pod.
        pod: String,
        /// Its address.
        address: String,
    },
    /// A pod has not been ready for a while.
    PodWaiting {
        /// The pod.
        pod: String,
        /// What it waits for.
        reason: String,
    },
    /// A pod takes requests.
    PodReady(String),
    /// A pod has done its work.
    PodDone(String),
    /// A pod is on its way out.
    PodEnding(String),
    /// A pod took requests and does not any more.
    PodUnready {
        /// The pod.
        pod: String,
        /// Why.
        reason: String,
    },
    /// A pod is gone.
    PodEnded(String),
    /// Something the files ask for cannot be run.
    Problem(String),
    /// That is no longer so.
    Solved(String),
    /// Every pod takes requests; how many there are.
    Ready(usize),
    /// Some pod does not any more.
    Unready,
    /// The mesh is gone.
    Ended,
}

impl Event {
    /// One line, without a line end. The first word says what it is about.
    pub fn plain(&self, mesh: &str) -> String {
        let line = match self {
            Event::Starting => format!("mesh {mesh} starting"),
            Event::Address { what, url } => format!("{what} {url}"),
            Event::Try { command, .. } => format!("try {command}"),
            Event::PodStarting { pod, address } => format!("pod {pod} starting {address}"),
            Event::PodWaiting { pod, reason } => format!("pod {pod} waiting {reason}"),
            Event::PodReady(pod) => format!("pod {pod} ready"),
            Event::PodDone(pod) => format!("pod {pod} done"),
            Event::PodEnding(pod) => format!("pod {pod} ending"),
            Event::PodUnready { pod, reason } => format!("pod {pod} unready {reason}"),
            Event::PodEnded(pod) => format!("pod {pod} ended"),
            Event::Problem(text) => format!("problem {text}"),
            Event::Solved(text) => format!("solved {text}"),
            Event::Ready(pods) => format!("mesh {mesh} ready {pods}"),
            Event::Unready => format!("mesh {mesh} unready"),
            Event::Ended => format!("mesh {mesh} ended"),
        };
        // One change, one line, whatever a file or a program put into a text.
        line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
    }

    /// One JSON object.
    pub fn json(&self, mesh: &str) -> Value {
        match self {
            Event::Starting => json!({"event": "mesh", "mesh": mesh, "state": "starting"}),
            Event::Address { what, url } => json!({"event": "address", "of": what, "url": url}),
            Event::Try { what, command } => json!({"event": "try", "what": what, "command": command}),
            Event::PodStarting { pod, address } => pod_json(pod, "starting", [("address", address)]),
            Event::PodWaiting { pod, reason } => pod_json(pod, "waiting", [("reason", reason)]),
            Event::PodReady(pod) => pod_json(pod, "ready", []),
            Event::PodDone(pod) => pod_json(pod, "done", []),
            Event::PodEnding(pod) => pod_json(pod, "ending", []),
            Event::PodUnready { pod, reason } => pod_json(pod, "unready", [("reason", reason)]),
            Event::PodEnded(pod) => pod_json(pod, "ended", []),
            Event::Problem(text) => json!({"event": "problem", "text": text}),
            Event::Solved(text) => json!({"event": "solved", "text": text}),
            Event::Ready(pods) => json!({"event": "mesh", "mesh": mesh, "state": "ready", "pods": pods}),
            Event::Unready => json!({"event": "mesh", "mesh": mesh, "state": "unready"}),
            Event::Ended => json!({"event": "mesh", "mesh": mesh, "state": "ended"}),
        }
    }
}

fn pod_json<const N: usize>(pod: &str, state: &str, more: [(&str, &String); N]) -> Value {
    let (namespace, name) = pod.split_once('/').unwrap_or(("", pod));
    let mut value = json!({"event": "pod", "namespace": namespace, "name": name, "state": state});
    for (key, text) in more {
        value[key] = json!(text);
    }
    value
}

/// Where a pod's story has come to.
#[derive(Clone, Debug)]
struct Told {
    standing: Standing,
    since: Duration,
    waiting: Option<String>,
}

/// Tells changes: give it the mesh again and again, it says what is new.
///
/// A pod's story is told from its beginning however late it is first seen, so that the same mesh gives the
/// same lines (their order between pods aside) however quick it came up.
#[derive(Debug, Default)]
pub struct Teller {
    pods: BTreeMap<String, Told>,
    problems: BTreeSet<String>,
    ready: bool,
}

impl Teller {
    /// What is new at `now`, on any clock that never goes back. `complete`: there is a pod for everything
    /// that is asked for.
    pub fn tell(
        &mut self,
        pods: &[PodRow],
        problems: &[String],
        complete: bool,
        now: Duration,
    ) -> Vec<Event> {
        let mut events = Vec::new();
        for pod in pods {
            self.pod(pod, now, &mut events);
        }
        let there: BTreeSet<String> = pods.iter().map(full_name).collect();
        self.pods.retain(|pod, _| {
            let stays = there.contains(pod);
            if !stays {
                events.push(Event::PodEnded(pod.clone()));
            }
            stays
        });
        let problems: BTreeSet<String> = problems.iter().cloned().collect();
        events.extend(problems.difference(&self.problems).cloned().map(Event::Problem));
        events.extend(self.problems.difference(&problems).cloned().map(Event::Solved));
        self.problems = problems;
        let ready = complete && pods.iter().all(|pod| pod.standing != Standing::Waiting);
        match (self.ready, ready) {
            (false, true) => {
                let staying = pods.iter().filter(|pod| pod.standing != Standing::Ending);
                events.push(Event::Ready(staying.count()));
            }
            (true, false) => events.push(Event::Unready),
            _ => {}
        }
        self.ready = ready;
        events
    }

    fn pod(&mut self, pod: &PodRow, now: Duration, events: &mut Vec<Event>) {
        let name = full_name(pod);
        let told = self.pods.entry(name.clone()).or_insert_with(|| {
            events.push(Event::PodStarting { pod: name.clone(), address: pod.address.clone() });
            Told { standing: Standing::Waiting, since: now, waiting: None }
        });
        match (told.standing, pod.standing) {
            (Standing::Waiting, Standing::Waiting) => {
                let long = now.saturating_sub(told.since) >= WAITING_AFTER;
                if long && told.waiting.as_ref() != Some(&pod.state) {
                    told.waiting = Some(pod.state.clone());
                    events.push(Event::PodWaiting { pod: name, reason: pod.state.clone() });
                }
                return;
            }
            (was, is) if was == is => return,
            (_, Standing::Ready) => events.push(Event::PodReady(name)),
            (_, Standing::Done) => events.push(Event::PodDone(name)),
            (_, Standing::Ending) => events.push(Event::PodEnding(name)),
            (_, Standing::Waiting) => events.push(Event::PodUnready { pod: name, reason: pod.state.clone() }),
        }
        *told = Told { standing: pod.standing, since: now, waiting: None };
    }
}

fn full_name(pod: &PodRow) -> String {
    format!("{}/{}", pod.namespace, pod.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, state: &str) -> PodRow {
        PodRow {
            namespace: "default".into(),
            name: name.into(),
            address: "10.244.0.2".into(),
            standing: if state == "ready" { Standing::Ready } else { Standing::Waiting },
            state: state.into(),
            ..PodRow::default()
        }
    }

    fn lines(events: &[Event]) -> Vec<String> {
        events.iter().map(|event| event.plain("m")).collect()
    }

    #[test]
    fn a_story_is_told_from_its_beginning() {
        let mut teller = Teller::default();
        let quick = teller.tell(&[pod("a", "ready")], &[], true, Duration::ZERO);
        assert_eq!(
            lines(&quick),
            ["pod default/a starting 10.244.0.2", "pod default/a ready", "mesh m ready 1"]
        );
        assert!(teller.tell(&[pod("a", "ready")], &[], true, Duration::ZERO).is_empty());
        let down = teller.tell(&[pod("a", "container a: ended with 1")], &[], true, Duration::ZERO);
        assert_eq!(lines(&down), ["pod default/a unready container a: ended with 1", "mesh m unready"]);
        assert_eq!(lines(&teller.tell(&[], &[], false, Duration::ZERO)), ["pod default/a ended"]);
    }

    #[test]
    fn what_is_waited_for_is_told_once_and_only_if_it_takes_long() {
        let mut teller = Teller::default();
        let mut at =
            |second, state| lines(&teller.tell(&[pod("a", state)], &[], true, Duration::from_secs(second)));
        assert_eq!(at(0, "x").len(), 1);
        assert!(at(4, "x").is_empty());
        assert_eq!(at(5, "x"), ["pod default/a waiting x"]);
        assert!(at(6, "x").is_empty());
        assert_eq!(at(7, "y\n z"), ["pod default/a waiting y  z"]);
    }

    #[test]
    fn problems_come_and_go() {
        let mut teller = Teller::default();
        let wrong = ["no image".to_owned()];
        let events = teller.tell(&[], &wrong, false, Duration::ZERO);
        assert_eq!(lines(&events), ["problem no image"]);
        let events = teller.tell(&[], &[], true, Duration::ZERO);
        assert_eq!(lines(&events), ["solved no image", "mesh m ready 0"]);
    }

    #[test]
    fn json_tells_the_same() {
        let event = Event::PodWaiting { pod: "default/a".into(), reason: "x".into() };
        let expected = r#"{"event":"pod","namespace":"default","name":"a","state":"waiting","reason":"x"}"#;
        assert_eq!(event.json("m").to_string(), expected);
        assert_eq!(
            Event::Ready(2).json("m").to_string(),
            r#"{"event":"mesh","mesh":"m","state":"ready","pods":2}"#
        );
    }
}
