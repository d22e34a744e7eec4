//! The runner of foreign cases, on cases of our own: what is right passes, what is wrong is found, and the list of
//! what comes later cannot lie.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test by panicking")]

use std::path::Path;

use ostro_agent::DataPlane;
use ostro_testkit::conformance::{Case, Later, Report, Verdict, run};
use ostro_testkit::mix::Mix;

/// No case of these folders has a proxy.
const MIX: Mix = Mix::All(DataPlane::Ostro);
const FOLDERS: [&str; 2] = ["simulation", "validation"];

fn report(later: &str) -> (Report, Later) {
    let later = Later::parse(later).unwrap();
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    (run(&dir, &FOLDERS.map(str::to_owned), &later, MIX), later)
}

fn case<'a>(report: &'a Report, name: &str) -> &'a Case {
    report.folders.iter().flat_map(|(_, cases)| cases).find(|case| case.name == name).unwrap()
}

#[test]
fn sidecars_do_with_connections_what_our_cases_say() {
    let (report, _) = report("");
    let cases: Vec<&Case> = report.folders.iter().flat_map(|(_, cases)| cases).collect();
    let ours: Vec<&&Case> = cases.iter().filter(|c| c.name.starts_with("simulation/sidecar/")).collect();
    assert!(ours.len() >= 4);
    for case in ours {
        assert_eq!(case.verdict, Verdict::Passed, "{}", case.name);
    }
}

#[test]
fn what_is_wrong_is_found_and_said() {
    let (report, later) = report("");
    let Verdict::Failed(why) = &case(&report, "simulation/wrong/wrong cluster").verdict else { panic!() };
    assert!(why[0].contains(r#"cluster: expected "BlackHoleCluster", got "PassthroughCluster""#), "{why:?}");
    let Verdict::Failed(why) = &case(&report, "simulation/wrong/error that is not expected").verdict else {
        panic!()
    };
    assert!(why[0].contains(r#"error: expected "", got "no-listener""#), "{why:?}");
    let needs = &case(&report, "simulation/wrong/needs something").verdict;
    assert_eq!(*needs, Verdict::NotRead("PeerAuthentication.security.istio.io".to_owned()));
    assert_eq!(case(&report, "validation/service/1").verdict, Verdict::Passed);
    assert_eq!(case(&report, "validation/service/2").verdict, Verdict::Passed);
    assert!(matches!(case(&report, "validation/service/3").verdict, Verdict::Failed(_)));
    assert!(!report.is_good(&later));
    let text = report.text(&later);
    assert!(text.contains("simulation: 4 passed, 3 failed, 0 needs-later (0 listed)"), "{text}");
    assert!(text.contains("validation: 2 passed, 1 failed, 0 needs-later (0 listed)"), "{text}");
}

#[test]
fn a_true_list_makes_a_good_report_and_an_untrue_one_does_not() {
    let list = "simulation/wrong/wrong cluster: x\nsimulation/wrong/error that is not expected: x\n\
                simulation/wrong/needs something: x\nvalidation/service/3: x\n";
    let (good, later) = report(list);
    assert!(good.is_good(&later), "{}", good.text(&later));
    for untrue in ["validation/service/1: x", "validation/service/none: x"] {
        let (bad, later) = report(&format!("{list}{untrue}\n"));
        assert!(!bad.is_good(&later));
        assert_eq!(bad.stale.len(), 1);
    }
}

#[test]
fn a_folder_without_cases_is_not_a_success() {
    let later = Later::default();
    let report =
        run(Path::new("/nonexistent"), &["simulation".to_owned(), "unheard-of".to_owned()], &later, MIX);
    assert_eq!(report.broken.len(), 2);
    assert!(!report.is_good(&later));
}

#[test]
fn capture_rules_are_judged_by_what_packets_meet() {
    let later = Later::default();
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let report = run(&dir, &["capture".to_owned()], &later, MIX);
    assert_eq!(report.broken, Vec::<String>::new());
    let verdict = |name: &str| &case(&report, &format!("capture/sidecar-iptables/{name}")).verdict;
    assert_eq!(*verdict("equal"), Verdict::Passed, "other rules that do the same");
    let Verdict::Failed(why) = verdict("another port") else { panic!() };
    assert!(why[0].contains("expected \"pod at ") && why[0].contains("(listener 15006)"), "{why:?}");
    assert!(why[0].contains("got \"pod at ") && why[0].contains("(listener 15001)"), "{why:?}");
    assert_eq!(*verdict("a setting from the future"), Verdict::NotRead("setting BRAND_NEW".to_owned()));
}

#[test]
fn ours_treat_packets_as_istios_documented_rules_do() {
    let later = Later::default();
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let report = run(&dir, &["capture".to_owned()], &later, MIX);
    let cases = report.folders.iter().flat_map(|(_, cases)| cases);
    let documented = ["capture/sidecar-redirect-iptables/", "capture/sidecar-tproxy-iptables/"];
    let ours: Vec<&Case> =
        cases.filter(|case| documented.iter().any(|of| case.name.starts_with(of))).collect();
    assert_eq!(ours.len(), 5);
    for case in ours {
        assert_eq!(case.verdict, Verdict::Passed, "{}", case.name);
    }
}
