//! Cases and families, and their running.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Mutex;

use super::process::{Launch, Proxy, Subject};
use super::site::{Site, bootstrap};
use super::stage::Stage;
use super::wire::Done;

/// What a case does: plays client and upstream, and notes what it sees.
type Script = Box<dyn Fn(&mut Stage<'_>) -> Done + Send + Sync>;
type Arrange = Box<dyn Fn(&mut Site) + Send + Sync>;

/// One question, and its answer.
pub struct Case {
    pub name: String,
    arrange: Arrange,
    script: Script,
    /// What Envoy is expected to do; the first is what ours is held to.
    expected: Vec<String>,
    /// What ours does instead, any of these, and why.
    pub ours: Option<(Vec<String>, String)>,
}

/// A case: `arrange` changes the configuration it runs under, `script` plays it, `expected` is what it must have seen,
/// its notes joined by `, `.
pub fn case(
    name: &str,
    arrange: impl Fn(&mut Site) + Send + Sync + 'static,
    script: impl Fn(&mut Stage<'_>) -> Done + Send + Sync + 'static,
    expected: &str,
) -> Case {
    Case {
        name: name.to_owned(),
        arrange: Box::new(arrange),
        script: Box::new(script),
        expected: vec![expected.to_owned()],
        ours: None,
    }
}

impl Case {
    /// Another outcome that is as good, for either proxy.
    pub fn or(mut self, outcome: &str) -> Case {
        self.expected.push(outcome.to_owned());
        self
    }

    /// A documented difference: what ours does, and the reason.
    pub fn ours(self, outcome: &str, reason: &str) -> Case {
        self.ours_any(&[outcome], reason)
    }

    /// The same where a rule leaves a choice: the first is preferred.
    pub fn ours_any(mut self, outcomes: &[&str], reason: &str) -> Case {
        let outcomes = outcomes.iter().map(|outcome| (*outcome).to_owned()).collect();
        self.ours = Some((outcomes, reason.to_owned()));
        self
    }

    /// Whether ours does what Envoy is not expected to do.
    pub fn differs(&self) -> bool {
        let is_envoys = |outcome: &String| self.expected.contains(outcome);
        self.ours.as_ref().is_some_and(|(outcomes, _)| !outcomes.first().is_some_and(is_envoys))
    }

    /// What Envoy does.
    pub fn envoy(&self) -> &str {
        &self.expected[0]
    }

    fn accepts(&self, subject: Subject, seen: &str) -> bool {
        match (&self.ours, subject) {
            (Some((outcomes, _)), Subject::Ours) => outcomes.iter().any(|outcome| outcome == seen),
            _ => self.expected.iter().any(|outcome| outcome == seen),
        }
    }

    fn wanted(&self, subject: Subject) -> &str {
        match (&self.ours, subject) {
            (Some((outcomes, _)), Subject::Ours) => &outcomes[0],
            _ => &self.expected[0],
        }
    }
}

/// Cases of one concern, run against one process, or one process each.
pub struct Family {
    pub name: &'static str,
    pub cases: Vec<Case>,
    launch: Launch,
    own_process: bool,
    at_once: usize,
}

impl Family {
    pub fn new(name: &'static str, cases: Vec<Case>) -> Family {
        Family { name, cases, launch: Launch::default(), own_process: false, at_once: 12 }
    }

    /// `--concurrency`; 1 without it.
    pub fn workers(mut self, workers: u32) -> Family {
        self.launch.workers = workers;
        self
    }

    /// `--drain-time-s`; 600 without it.
    pub fn drain_time(mut self, seconds: u32) -> Family {
        self.launch.drain_time = seconds;
        self
    }

    /// Each case has a process of its own, because it ends or drains it or weighs it.
    pub fn own_process(mut self) -> Family {
        self.own_process = true;
        self
    }

    /// At most so many cases at once.
    pub fn at_once(mut self, cases: usize) -> Family {
        self.at_once = cases;
        self
    }
}

/// Families that ours is held to, from the checked-in list.
pub fn listed() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("protocol-ours.txt");
    let text = std::fs::read_to_string(&path).expect("crates/testkit/protocol-ours.txt");
    text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')).map(str::to_owned).collect()
}

fn wanted(family: &Family, subject: Subject) -> bool {
    match (std::env::var("OSTRO_SUBJECTS").as_deref(), subject) {
        (Ok("both"), _) | (Ok("envoy"), Subject::Envoy) | (Ok("ours"), Subject::Ours) => true,
        (Ok("envoy" | "ours"), _) => false,
        (Ok(other), _) => panic!("OSTRO_SUBJECTS={other}: envoy, ours or both"),
        (Err(_), Subject::Envoy) => true,
        (Err(_), Subject::Ours) => listed().iter().any(|name| name == family.name),
    }
}

/// Runs a family against a subject.
///
/// # Panics
/// With a line per case that saw something else than expected.
pub fn run(family: &Family, subject: Subject) {
    if !wanted(family, subject) {
        println!("{subject}: {} is not asked (OSTRO_SUBJECTS, protocol-ours.txt)", family.name);
        return;
    }
    let only = std::env::var("OSTRO_CASE").ok();
    let chosen: Vec<(usize, &Case)> = family
        .cases
        .iter()
        .enumerate()
        .filter(|(_, case)| only.as_ref().is_none_or(|words| case.name.contains(words.as_str())))
        .collect();
    let seen = match family.own_process {
        true => chosen.iter().flat_map(|case| play(family, subject, std::slice::from_ref(case))).collect(),
        false => play(family, subject, &chosen),
    };
    let mut wrong = Vec::new();
    for ((_, case), seen) in chosen.iter().zip(&seen) {
        let good = case.accepts(subject, seen);
        if only.is_some() {
            println!(
                "    {subject}: {} case {}: {} {seen}",
                family.name,
                case.name,
                if good { "saw" } else { "SAW" }
            );
        }
        if !good {
            let expected = case.wanted(subject);
            wrong.push(format!(
                "    {subject}: {} case {}: expected {expected}; saw {seen}",
                family.name, case.name
            ));
        }
    }
    println!("{subject}: {}: {} of {} cases as expected", family.name, seen.len() - wrong.len(), seen.len());
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), seen.len(), wrong.join("\n"));
}

/// Plays cases against one process; what each saw, in their order.
fn play(family: &Family, subject: Subject, cases: &[(usize, &Case)]) -> Vec<String> {
    let mut sites: Vec<Site> = Vec::new();
    for (number, case) in cases {
        let mut site = Site::new(format!("{}-{number}", family.name));
        (case.arrange)(&mut site);
        sites.push(site);
    }
    if cases.is_empty() {
        return Vec::new();
    }
    let proxy = Proxy::start(subject, &family.launch, |logs| bootstrap(&sites, logs));
    let queue: Mutex<VecDeque<usize>> = Mutex::new((0..cases.len()).collect());
    let seen: Mutex<Vec<String>> = Mutex::new(vec![String::new(); cases.len()]);
    let worker = || {
        loop {
            let next = queue.lock().unwrap().pop_front();
            let Some(index) = next else { return };
            let mut stage = Stage::new(&proxy, &sites[index]);
            let done = (cases[index].1.script)(&mut stage);
            seen.lock().unwrap()[index] = stage.told(done);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..family.at_once.min(cases.len()) {
            scope.spawn(worker);
        }
    });
    if let Some(how) = proxy.died() {
        println!("    {subject}: {} THE PROCESS DIED: {how}\n{}", family.name, proxy.last_words());
    }
    seen.into_inner().unwrap()
}
