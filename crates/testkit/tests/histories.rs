//! Whatever happened before: what each proxy holds is what a control plane started afresh on the same accepted set would
//! give it.
//!
//! A real control plane follows real files, one object each, that are written, changed, damaged and taken away; real
//! streams carry what it says.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::google::protobuf::{Struct, Value, value::Kind};
use ostro_control::{ControlPlane, Options, Settings, Timing};
use ostro_names::Name;
use ostro_testkit::ads::{Client, Holding, References};
use ostro_testkit::universe;
use ostro_translate::ResourceType;
use proptest::prelude::*;
use tempfile::TempDir;

/// How long it may take until everybody has what they should have. Generous: tests share two cores.
const SETTLE_MAX: Duration = Duration::from_secs(30);
/// How often it is looked whether they have.
const LOOK: Duration = Duration::from_millis(20);

/// What happens to one object's file.
#[derive(Debug, Clone, Copy)]
enum Event {
    Write(prop::sample::Index, prop::sample::Index),
    /// As an editor leaves a file that it has not finished writing.
    Truncate(prop::sample::Index, prop::sample::Index),
    /// Something that no object says.
    Misspell(prop::sample::Index, prop::sample::Index),
    Delete(prop::sample::Index),
}

fn event() -> impl Strategy<Value = Event> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        5 => (index(), index()).prop_map(|(object, version)| Event::Write(object, version)),
        1 => (index(), index()).prop_map(|(object, version)| Event::Truncate(object, version)),
        1 => (index(), index()).prop_map(|(object, version)| Event::Misspell(object, version)),
        2 => index().prop_map(Event::Delete),
    ]
}

/// The files that a control plane follows, and the set that it should have accepted.
struct Files {
    directory: TempDir,
    accepted: BTreeMap<usize, String>,
}

impl Files {
    fn new() -> Self {
        Files { directory: tempfile::tempdir().unwrap(), accepted: BTreeMap::new() }
    }

    fn config(&self) -> std::path::PathBuf {
        self.directory.path().join("config")
    }

    /// Writes a Service that everybody sees, after everything else: who has it has been told of what came before.
    fn mark(&mut self, step: usize) {
        let object = universe::versions().len();
        let text = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{namespace: a, name: marker-{step}}}\nspec: {{ports: [{{port: 80}}]}}\n"
        );
        write(&self.config(), object, &text);
        self.accepted.insert(object, text);
    }

    fn happen(&mut self, event: Event) {
        let versions = universe::versions();
        let chosen = |object: prop::sample::Index, version: prop::sample::Index| {
            let object = object.index(versions.len());
            (object, version.get(&versions[object]).text.clone())
        };
        match event {
            Event::Write(object, version) => {
                let (object, text) = chosen(object, version);
                write(&self.config(), object, &text);
                self.accepted.insert(object, text);
            }
            Event::Truncate(object, version) => {
                let (object, text) = chosen(object, version);
                write(&self.config(), object, text.trim_end().trim_end_matches(['}', ']']));
            }
            Event::Misspell(object, version) => {
                let (object, text) = chosen(object, version);
                write(&self.config(), object, &text.replacen("metadata: {", "metadata: {labels: 7, ", 1));
            }
            Event::Delete(object) => {
                let object = object.index(versions.len());
                // There may be none.
                let _ = std::fs::remove_file(self.config().join(format!("{object}.yaml")));
                self.accepted.remove(&object);
            }
        }
    }

    /// A directory with the accepted set and nothing else.
    fn afresh(&self) -> Files {
        let files = Files::new();
        std::fs::create_dir(files.config()).unwrap();
        for (object, text) in &self.accepted {
            write(&files.config(), *object, text);
        }
        files
    }
}

fn write(directory: &Path, object: usize, text: &str) {
    let temporary = directory.join(format!(".{object}.tmp"));
    std::fs::write(&temporary, text).unwrap();
    std::fs::rename(temporary, directory.join(format!("{object}.yaml"))).unwrap();
}

async fn control(files: &Files) -> ControlPlane {
    let options = Options {
        paths: vec![files.config()],
        state: Some(files.directory.path().join("state")),
        xds: "127.0.0.1:0".parse().unwrap(),
        http: Vec::new(),
        settings: Settings::default(),
        timing: Timing::default(),
        version: "test",
    };
    ControlPlane::start(options).await.unwrap()
}

fn nodes() -> Vec<Node> {
    let node = |kind: &str, address: &str, namespace: &str, labels: &[(&str, &str)]| {
        let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
        let labels = labels.iter().map(|(key, value)| (key.to_string(), text(value))).collect();
        let labels = Value { kind: Some(Kind::StructValue(Struct { fields: labels })) };
        Node {
            id: format!("{kind}~{address}~p.{namespace}~{namespace}.svc.cluster.local"),
            metadata: Some(Struct { fields: [("LABELS".to_owned(), labels)].into() }),
            ..Node::default()
        }
    };
    vec![
        node("sidecar", "10.1.0.1", "a", &[("app", "web")]),
        node("sidecar", "10.1.0.2", "b", &[]),
        node("sidecar", "10.7.0.1", "c", &[("app", "web")]),
        node("router", "10.1.0.3", "b", &[("istio", "ingress")]),
    ]
}

async fn clients(control: &ControlPlane) -> Vec<Client> {
    let references = Arc::new(References::default());
    let mut clients = Vec::new();
    for node in nodes() {
        clients.push(Client::connect(control.xds(), node, Holding::new(), references.clone(), true).await);
    }
    clients
}

async fn eventually(mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + SETTLE_MAX;
    while Instant::now() < deadline {
        if condition() {
            return true;
        }
        tokio::time::sleep(LOOK).await;
    }
    false
}

/// What proxies are given by a control plane that has never known anything but the accepted set.
async fn expected(files: &Files) -> Vec<Holding> {
    let files = files.afresh();
    let control = control(&files).await;
    let clients = clients(&control).await;
    assert!(eventually(|| clients.iter().all(Client::is_complete)).await, "a fresh start says everything");
    clients.iter().map(Client::held).collect()
}

/// Names by which two holdings differ.
fn differing(one: &Holding, other: &Holding) -> Vec<(ResourceType, Name)> {
    let names = one.keys().chain(other.keys()).copied();
    let mut names: Vec<_> = names.filter(|name| one.get(name) != other.get(name)).collect();
    names.sort();
    names.dedup();
    names
}

impl Event {
    fn object(self) -> usize {
        let (Event::Write(object, _)
        | Event::Truncate(object, _)
        | Event::Misspell(object, _)
        | Event::Delete(object)) = self;
        object.index(universe::versions().len())
    }
}

async fn history(steps: Vec<Vec<Event>>) -> Result<(), TestCaseError> {
    let mut files = Files::new();
    std::fs::create_dir(files.config()).unwrap();
    let control = control(&files).await;
    let clients = clients(&control).await;
    for (number, step) in steps.into_iter().enumerate() {
        // A version that is overwritten at once may never be seen, and then is not what damage leaves in force.
        let mut touched = BTreeSet::new();
        for event in step.iter().filter(|event| touched.insert(event.object())) {
            files.happen(*event);
        }
        files.mark(number);
        let expected = expected(&files).await;
        let agree = || clients.iter().zip(&expected).all(|(client, expected)| client.held() == *expected);
        let agreed = eventually(agree).await;
        for (client, expected) in clients.iter().zip(&expected) {
            let held = client.held();
            prop_assert!(
                agreed || held == *expected,
                "proxies differ in {:?} after {step:?}",
                differing(&held, expected)
            );
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, failure_persistence: None, max_shrink_iters: 0, ..ProptestConfig::default() })]

    #[test]
    fn proxies_hold_what_a_fresh_start_would_give_them(
        start in prop::collection::vec(event(), 20..60),
        steps in prop::collection::vec(prop::collection::vec(event(), 1..6), 1..5),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let steps = std::iter::once(start).chain(steps).collect();
        runtime.block_on(history(steps))?;
    }
}
