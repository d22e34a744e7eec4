//! Malformed documents: each is told where it stands and disturbs nothing else.
//!
//! Every document of the table is put between two good ones. The complaint must stand in the expected
//! line and column of the bad document (column 0: wherever in the line) and say the expected things;
//! the good ones must be accepted.

mod cases;

use cases::{Case, rule};
use ostro_api::{Complaint, Parsed, Severity, parse_file};

const BEFORE: &str = "\
apiVersion: v1
kind: Service
metadata: {name: before}
spec:
  ports:
  - {name: http, port: 80}
";
const AFTER: &str = "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: after
spec:
  hosts: [before]
  http:
  - route:
    - destination: {host: before}
";

fn errors(parsed: &Parsed) -> Vec<&Complaint> {
    parsed.complaints.iter().filter(|complaint| complaint.severity == Severity::Error).collect()
}

/// What is wrong with our answer to a case; empty if nothing is.
fn failures(case: &Case) -> Vec<String> {
    let file = format!("{BEFORE}---\n{}\n---\n{AFTER}", case.document);
    let lines_before = BEFORE.lines().count() as u32 + 1;
    let parsed = parse_file("bad.yaml", file.as_bytes());
    let names: Vec<String> = parsed.objects.iter().map(|object| object.key().to_string()).collect();
    let mut failures = Vec::new();
    for neighbour in ["Service default/before", "VirtualService default/after"] {
        if !names.iter().any(|name| name == neighbour) {
            failures.push(format!("{}: {neighbour} is lost: {names:?}", case.name));
        }
    }
    if names.iter().any(|name| name.ends_with("/bad")) {
        failures.push(format!("{}: accepted", case.name));
    }
    let (line, column) = (case.place.0 + lines_before, case.place.1);
    let told = errors(&parsed).into_iter().any(|complaint| {
        let text = complaint.to_string();
        complaint.line == line
            && (column == 0 || complaint.column == column)
            && text.starts_with(&format!("bad.yaml:{line}"))
            && !text.contains('\n')
            && case.says.iter().all(|part| text.contains(part))
    });
    if !told {
        let said: Vec<String> = parsed.complaints.iter().map(Complaint::to_string).collect();
        failures.push(format!(
            "{}: expected {line}:{column} {:?}, got\n  {}",
            case.name,
            case.says,
            said.join("\n  ")
        ));
    }
    failures
}

#[test]
fn every_malformed_document_is_told_where_it_stands_and_its_neighbours_live() {
    let cases = cases::all();
    assert!(cases.len() >= 75, "the table has shrunk to {}", cases.len());
    let failures: Vec<String> = cases.iter().flat_map(failures).collect();
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), cases.len(), failures.join("\n"));
}

#[test]
fn all_complaints_of_a_document_come_at_once() {
    let document = rule(
        "macth: []\ntimeout: 10\nretries: {attempts: 1, retryOn: never}\nroute:\n\
         - {destination: {host: a_b}, weight: -1}\n- {destination: {host: x, port: {number: 70000}}, weight: 5}",
    );
    let parsed = parse_file("bad.yaml", document.as_bytes());
    let paths: Vec<&str> = errors(&parsed).into_iter().map(|complaint| complaint.path.as_str()).collect();
    let expected = [
        "spec.http[0].macth",
        "spec.http[0].timeout",
        "spec.http[0].retries.retryOn",
        "spec.http[0].route[0].destination.host",
        "spec.http[0].route[0].weight",
        "spec.http[0].route[1].destination.port.number",
    ];
    assert_eq!(paths, expected);
    assert!(parsed.objects.is_empty());
    let keys: Vec<String> = parsed.complaints.iter().map(|c| c.object.unwrap().to_string()).collect();
    assert_eq!(keys, vec!["VirtualService default/bad"; expected.len()]);
}

#[test]
fn a_complaint_is_one_line_that_says_everything() {
    let document = rule("route: [{destination: {host: x}, weight: -1}]");
    let parsed = parse_file("dir/bad.yaml", document.as_bytes());
    let said: Vec<String> = parsed.complaints.iter().map(Complaint::to_string).collect();
    let expected = "dir/bad.yaml:7:46: VirtualService default/bad: spec.http[0].route[0].weight: the number -1; \
                    allowed: a whole number, 0 to 4294967295";
    assert_eq!(said, [expected]);
}

#[test]
fn invalid_utf_8_harms_its_document_alone() {
    let mut file = format!("{BEFORE}---\napiVersion: v1\nkind: Ser").into_bytes();
    file.extend(b"\xff\xfevice\n---\n");
    file.extend(AFTER.as_bytes());
    let parsed = parse_file("bad.yaml", &file);
    assert_eq!(parsed.objects.len(), 2);
    let said = parsed.complaints[0].to_string();
    assert_eq!(said, "bad.yaml:9:10: the byte 0xff, which is not UTF-8; allowed: UTF-8");
}

#[test]
fn a_file_of_50_mib_is_refused_where_the_limit_ends() {
    let mut file = String::from(BEFORE);
    while file.len() < 50 << 20 {
        file.push_str("# filler filler filler filler filler filler filler filler filler filler filler\n");
    }
    let parsed = parse_file("big.yaml", file.as_bytes());
    assert!(parsed.objects.is_empty());
    assert_eq!(parsed.complaints.len(), 1);
    let said = parsed.complaints[0].to_string();
    assert!(parsed.complaints[0].line > 100_000 && said.contains("10 MiB"), "{said}");
}

#[test]
fn windows_line_ends_and_byte_order_marks_change_nothing() {
    let plain = parse_file("a.yaml", format!("{BEFORE}---\n{AFTER}").as_bytes());
    let windows = format!("\u{feff}{BEFORE}---\n{AFTER}").replace('\n', "\r\n");
    assert_eq!(parse_file("a.yaml", windows.as_bytes()), plain);
    assert_eq!(plain.objects.len(), 2);
}

#[test]
fn windows_line_ends_count_like_others_in_complaints() {
    let document = rule("timeout: 10");
    let plain = parse_file("a.yaml", document.as_bytes());
    assert_eq!(parse_file("a.yaml", document.replace('\n', "\r\n").as_bytes()), plain);
    assert_eq!(errors(&plain).len(), 2);
}

#[test]
fn empty_files_and_empty_documents_say_nothing() {
    for text in ["", "\n\n", "---\n---\n", "# nothing\n---\n# here\n", "null\n", "---\n~\n---\n", "\u{feff}"]
    {
        assert_eq!(parse_file("a.yaml", text.as_bytes()), Parsed::default(), "{text:?}");
    }
}

#[test]
fn too_many_objects_are_cut_with_a_word() {
    let file: String = (0..20_010)
        .map(|i| format!("---\n{{apiVersion: v1, kind: Namespace, metadata: {{name: n{i}}}}}\n"))
        .collect();
    let parsed = parse_file("a.yaml", file.as_bytes());
    assert_eq!(parsed.objects.len(), 20_000);
    assert_eq!(parsed.complaints.len(), 1);
    assert_eq!(parsed.complaints[0].line, 40_002);
}

#[test]
fn too_many_complaints_are_cut_with_a_word() {
    let file = "---\n{apiVersion: v1, kind: Service}\n".repeat(2_000);
    let parsed = parse_file("a.yaml", file.as_bytes());
    assert_eq!(parsed.complaints.len(), 1_001);
    assert!(parsed.complaints[1_000].to_string().contains("1000 more complaints"));
}

#[test]
fn a_key_of_several_lines_does_not_break_the_line_of_a_complaint() {
    let parsed = parse_file("a.yaml", b"\"a\\nb\":\n  c: x: y\n");
    assert_eq!(parsed.complaints.len(), 1);
    let said = parsed.complaints[0].to_string();
    assert!(said.starts_with("a.yaml:2:7: a\u{fffd}b: broken YAML") && !said.contains('\n'), "{said:?}");
}
