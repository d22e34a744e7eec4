//! `ostro validate` as a user runs it: exit status, lines, JSON.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test by panicking")]

use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const GOOD: &str = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: good}\n";
const BAD: &str = "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: bad}
spec:
  hosts: [reviews]
  http:
  - route:
    - destination: {host: reviews}
      weight: heavy
    tiemout: 1s
";
const POLICY: &str = "\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: closed}
spec: {}
";

fn validate(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ostro")).arg("validate").args(args).current_dir(dir).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn files_without_errors_exit_0() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("good.yaml"), [GOOD, POLICY].join("---\n")).unwrap();
    let output = validate(dir.path(), &["good.yaml"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = text(&output);
    assert!(text.contains("1 file: 2 objects accepted, 0 errors"), "{text}");
    assert!(
        text.contains(
            "note: good.yaml:5: AuthorizationPolicy.security.istio.io default/closed: NOT ENFORCED"
        ),
        "{text}"
    );
}

#[test]
fn every_complaint_has_its_place_and_exit_is_1() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("conf")).unwrap();
    fs::write(dir.path().join("conf/bad.yaml"), BAD).unwrap();
    fs::write(dir.path().join("conf/good.yaml"), GOOD).unwrap();
    let output = validate(dir.path(), &["conf", "nowhere"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = text(&output);
    for expected in
        ["conf/bad.yaml:9:", "spec.http[0].route[0].weight", "\"heavy\"", "conf/bad.yaml:10:", "tiemout"]
    {
        assert!(text.contains(expected), "{expected} in:\n{text}");
    }
    assert!(text.contains("error: nowhere: nothing there"), "{text}");
    assert!(text.contains("2 files: 1 object accepted, 3 errors"), "{text}");
}

#[test]
fn json_says_the_same() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("bad.yaml"), BAD).unwrap();
    let output = validate(dir.path(), &["-o", "json", "bad.yaml"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((said["files"].as_u64(), said["errors"].as_u64()), (Some(1), Some(2)), "{said:#}");
    let complaint = &said["complaints"][0];
    assert_eq!(complaint["file"], "bad.yaml");
    assert_eq!(complaint["line"], 9);
    assert_eq!(complaint["object"], "VirtualService default/bad");
}
