//! The ledger's rules, one by one, and its law: order of reading does not matter.

use super::*;
use ostro_api::{Kind, Meta, Origin, Spec};
use ostro_names::{Name, Namespace};
use proptest::prelude::*;

fn key(name: &str) -> ObjectKey {
    ObjectKey { kind: Kind::ServiceAccount, namespace: Namespace::new("ns"), name: Name::new(name) }
}

/// A version of an object: the text it came from is told by a label.
fn object(file: &str, line: u32, name: &str, version: &str) -> Object {
    Object {
        meta: Meta {
            kind: Kind::ServiceAccount,
            name: Name::new(name),
            namespace: Namespace::new("ns"),
            labels: BTreeMap::from([("version".into(), version.into())]),
            annotations: BTreeMap::new(),
            creation_timestamp: None,
            uid: String::new(),
            deletion_timestamp: None,
        },
        origin: Origin { file: file.into(), line },
        spec: Spec::ServiceAccount,
    }
}

fn wrong(file: &str, line: u32, object: Option<&str>) -> Complaint {
    Complaint {
        file: file.into(),
        line,
        column: 0,
        object: object.map(key),
        path: "spec".into(),
        found: "nonsense".into(),
        allowed: "sense".into(),
        severity: Severity::Error,
    }
}

fn read(ledger: &mut Ledger, file: &str, objects: &[(&str, &str)], complaints: &[Complaint]) -> Claims {
    let objects = objects.iter().enumerate();
    let objects =
        objects.map(|(i, (name, version))| object(file, 1 + 10 * i as u32, name, version)).collect();
    ledger.fold(&file.into(), Reading::Text { objects, complaints: complaints.to_vec() })
}

fn upserts(update: &Update) -> Vec<(String, String)> {
    let told = |object: &Arc<Object>| (object.origin.to_string(), object.meta.labels["version"].clone());
    update.upserts.iter().map(told).collect()
}

fn told(origin: &str, version: &str) -> (String, String) {
    (origin.into(), version.into())
}

#[test]
fn what_a_file_no_longer_holds_is_deleted() {
    let mut ledger = Ledger::default();
    read(&mut ledger, "a", &[("x", "1"), ("y", "1")], &[]);
    assert_eq!(upserts(&ledger.settle()), [told("a:1", "1"), told("a:11", "1")]);
    read(&mut ledger, "a", &[("x", "2")], &[]);
    let update = ledger.settle();
    assert_eq!(upserts(&update), [told("a:1", "2")]);
    assert_eq!(update.deletes, [key("y")]);
    ledger.fold(&"a".into(), Reading::Gone);
    assert_eq!(ledger.settle().deletes, [key("x")]);
    assert!(ledger.is_empty() && ledger.files.is_empty() && ledger.claimants.is_empty());
}

#[test]
fn an_equal_reading_says_nothing() {
    let mut ledger = Ledger::default();
    read(&mut ledger, "a", &[("x", "1")], &[wrong("a", 20, Some("y"))]);
    assert!(!ledger.settle().is_empty());
    read(&mut ledger, "a", &[("x", "1")], &[wrong("a", 20, Some("y"))]);
    assert_eq!(ledger.settle(), Update::default());
}

#[test]
fn an_object_that_no_longer_validates_keeps_its_last_good_version() {
    let mut ledger = Ledger::default();
    read(&mut ledger, "a", &[("x", "1"), ("y", "1"), ("z", "1")], &[]);
    ledger.settle();
    let claims = read(&mut ledger, "a", &[("x", "2")], &[wrong("a", 11, Some("y"))]);
    assert_eq!(claims, Claims { accepted: vec![key("x")], kept: vec![key("y")] });
    let update = ledger.settle();
    assert_eq!(upserts(&update), [told("a:1", "2")]);
    assert_eq!(update.deletes, [key("z")], "z is no longer in the file, and what is wrong is not about z");
    assert_eq!(update.complaints, [wrong("a", 11, Some("y"))]);
}

#[test]
fn a_text_that_cannot_be_made_out_takes_nothing_away() {
    let mut ledger = Ledger::default();
    read(&mut ledger, "a", &[("x", "1"), ("y", "1")], &[]);
    ledger.settle();
    let claims = read(&mut ledger, "a", &[("x", "2")], &[wrong("a", 3, None)]);
    assert_eq!(claims.kept, [key("y")]);
    let update = ledger.settle();
    assert_eq!((upserts(&update), update.deletes), (vec![told("a:1", "2")], vec![]));
    let claims = ledger.fold(&"a".into(), Reading::Unreadable(wrong("a", 0, None)));
    assert_eq!(claims, Claims { accepted: vec![], kept: vec![key("x"), key("y")] });
    assert_eq!(ledger.settle().deletes, []);
    read(&mut ledger, "a", &[], &[]);
    assert_eq!(ledger.settle().deletes, [key("x"), key("y")]);
}

#[test]
fn a_warning_costs_nobody_anything() {
    let mut ledger = Ledger::default();
    read(&mut ledger, "a", &[("x", "1"), ("y", "1")], &[]);
    ledger.settle();
    let warning = Complaint { severity: Severity::Warning, ..wrong("a", 1, None) };
    read(&mut ledger, "a", &[("x", "1")], std::slice::from_ref(&warning));
    let update = ledger.settle();
    assert_eq!((update.deletes, update.complaints), (vec![key("y")], vec![warning]));
}

#[test]
fn of_two_files_the_first_by_path_holds_and_the_other_takes_over() {
    let mut ledger = Ledger::default();
    read(&mut ledger, "b", &[("x", "from b")], &[]);
    ledger.settle();
    read(&mut ledger, "a", &[("x", "from a")], &[]);
    let update = ledger.settle();
    assert_eq!(upserts(&update), [told("a:1", "from a")]);
    let complaint = update.complaints.first().unwrap().to_string();
    assert!(
        complaint.starts_with("b:1: ServiceAccount ns/x: ") && complaint.contains("at a:1"),
        "{complaint}"
    );
    read(&mut ledger, "b", &[("x", "changed in b")], &[]);
    assert_eq!(ledger.settle(), Update::default(), "the same complaint is not made twice");
    ledger.fold(&"a".into(), Reading::Gone);
    let update = ledger.settle();
    assert_eq!((upserts(&update), update.deletes), (vec![told("b:1", "changed in b")], vec![]));
}

#[test]
fn a_restart_keeps_what_is_invalid_now_and_forgets_what_is_gone() {
    let mut ledger = Ledger::default();
    ledger.recall(&"a".into(), vec![object("a", 1, "x", "old"), object("a", 5, "y", "old")]);
    read(&mut ledger, "a", &[], &[wrong("a", 1, Some("x"))]);
    let update = ledger.settle();
    assert_eq!((upserts(&update), update.deletes), (vec![told("a:1", "old")], vec![]));
}

/// One step in a file's life: which of four objects it holds, which of them wrongly, and whether it can be
/// read at all.
#[derive(Clone, Debug)]
enum Step {
    Text { good: [bool; 4], bad: [bool; 4] },
    Garbled,
    Gone,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (any::<[bool; 4]>(), any::<[bool; 4]>()).prop_map(|(good, bad)| Step::Text { good, bad }),
        1 => Just(Step::Garbled),
        1 => Just(Step::Gone),
    ]
}

fn take(ledger: &mut Ledger, file: &str, version: usize, step: &Step) {
    let names = ["p", "q", "r", "s"];
    match step {
        Step::Garbled => _ = read(ledger, file, &[], &[wrong(file, 1, None)]),
        Step::Gone => _ = ledger.fold(&file.into(), Reading::Gone),
        Step::Text { good, bad } => {
            let version = format!("{file}{version}");
            let objects: Vec<_> = (0..4).filter(|i| good[*i]).map(|i| (names[i], version.as_str())).collect();
            let wrong: Vec<_> =
                (0..4).filter(|i| bad[*i] && !good[*i]).map(|i| wrong(file, 9, Some(names[i]))).collect();
            read(ledger, file, &objects, &wrong);
        }
    }
}

/// What the stream of updates adds up to.
fn apply(state: &mut BTreeMap<ObjectKey, Arc<Object>>, update: &Update) {
    for key in &update.deletes {
        assert!(state.remove(key).is_some(), "{key} deleted although it was not in force");
    }
    for object in &update.upserts {
        assert_ne!(state.get(&object.key()), Some(object), "{} upserted without a change", object.key());
        state.insert(object.key(), object.clone());
    }
}

proptest! {
    /// Files interleaved in any way, settled at any time: the stream adds up to what is in force, and to what
    /// the same files read one after the other would have given.
    #[test]
    fn the_stream_adds_up_whatever_the_order(
        steps in proptest::collection::vec((0..3usize, step(), any::<bool>()), 0..40),
    ) {
        let files = ["a", "b", "c"];
        let (mut together, mut apart) = (Ledger::default(), Ledger::default());
        let mut state = BTreeMap::new();
        for (version, (file, step, settle)) in steps.iter().enumerate() {
            take(&mut together, files[*file], version, step);
            if *settle {
                apply(&mut state, &together.settle());
            }
        }
        apply(&mut state, &together.settle());
        for (index, file) in files.iter().enumerate().rev() {
            for (version, (_, step, _)) in steps.iter().enumerate().filter(|(_, (of, ..))| *of == index) {
                take(&mut apart, file, version, step);
            }
        }
        apart.settle();
        prop_assert_eq!(&state, &together.in_force);
        prop_assert_eq!(&state, &apart.in_force);
    }
}
