//! Whatever bytes come, nothing panics, every complaint stands in the file, and neighbours live.

#[path = "malformed/cases.rs"]
#[allow(dead_code, reason = "only the documents of the table are used here, as seeds")]
mod cases;

use ostro_api::{Parsed, parse_file, parse_mesh_config};
use proptest::prelude::*;

const BEFORE: &str = "{apiVersion: v1, kind: ServiceAccount, metadata: {name: before}}\n---\n";
const AFTER: &str = "\n---\n{apiVersion: v1, kind: ServiceAccount, metadata: {name: after}}\n";

/// Pieces that YAML, JSON and our schemas are made of.
const PIECES: &[&str] = &[
    "\n",
    "\n  ",
    "\n    ",
    "\n- ",
    "\n  - ",
    ": ",
    ", ",
    "[",
    "]",
    "{",
    "}",
    "\"",
    "'",
    "|\n",
    ">-\n",
    "&a ",
    "*a",
    "<<: *a",
    "!!str ",
    "!x ",
    "# ",
    "? ",
    "---\n",
    "...\n",
    "\t",
    "\r\n",
    "\u{feff}",
    "%YAML 1.2\n",
    "::",
    "\\u",
    "\0",
    "apiVersion: v1",
    "networking.istio.io/v1",
    "kind: ",
    "VirtualService",
    "DestinationRule",
    "Gateway",
    "List",
    "metadata: {name: a}",
    "spec:",
    "hosts: [a, '*.b']",
    "http:",
    "route:",
    "match:",
    "weight: -1",
    "port: ",
    "80",
    "1e999",
    "0x",
    "-",
    "yes",
    "~",
    "null",
    "10s",
    "regex: '('",
    "destination: {host: a}",
    "items:",
    "data:",
    "mesh: |",
];

fn pieces() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(PIECES), 0..60).prop_map(|pieces| pieces.concat())
}

/// A document of the table with a few bytes changed, taken out or put in.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let documents: Vec<String> = cases::all()
        .into_iter()
        .map(|case| case.document)
        .filter(|document| document.len() < 2_000)
        .collect();
    let edits = prop::collection::vec((any::<prop::sample::Index>(), 0..3_u8, any::<u8>()), 1..6);
    (prop::sample::select(documents), edits).prop_map(|(document, edits)| {
        let mut bytes = document.into_bytes();
        for (place, edit, byte) in edits {
            let at = place.index(bytes.len() + 1);
            match edit {
                0 => bytes.insert(at, byte),
                1 if at < bytes.len() => bytes[at] = byte,
                _ if at < bytes.len() => drop(bytes.remove(at)),
                _ => {}
            }
        }
        bytes
    })
}

fn check(bytes: &[u8]) -> Result<(), TestCaseError> {
    let parsed = parse_file("a.yaml", bytes);
    // Carriage returns alone end lines for YAML too.
    let lines = bytes.iter().filter(|b| matches!(b, b'\n' | b'\r')).count() + 2;
    for complaint in &parsed.complaints {
        prop_assert!(complaint.line as usize <= lines, "{complaint}");
        prop_assert!(!complaint.to_string().contains('\n'), "{complaint}");
        prop_assert!(!complaint.found.is_empty(), "{complaint:?}");
    }
    prop_assert_eq!(parse_file("a.yaml", bytes), parsed, "not the same twice");
    parse_mesh_config("mesh", bytes);
    Ok(())
}

fn names(parsed: &Parsed) -> Vec<&'static str> {
    parsed.objects.iter().map(|object| object.meta.name.as_str()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        check(&bytes)?;
    }

    #[test]
    fn arbitrary_yaml_does_not_panic(text in pieces()) {
        check(text.as_bytes())?;
    }

    #[test]
    fn mutated_documents_do_not_panic(bytes in mutated()) {
        check(&bytes)?;
    }

    #[test]
    fn neighbours_live_whatever_stands_between(bytes in mutated()) {
        let file = [BEFORE.as_bytes(), &bytes, AFTER.as_bytes()].concat();
        let parsed = parse_file("a.yaml", &file);
        let names = names(&parsed);
        prop_assert!(names.contains(&"before") && names.contains(&"after"), "{:?}", parsed.complaints);
    }
}
