//! The document of differences: `docs/protocol.md` has a row for each case in which ours does otherwise on purpose.

use std::fmt::Write as _;

use ostro_testkit::envoy;

use crate::FAMILIES;

/// What comes after it is made from the cases. `OSTRO_BLESS=1` writes it anew.
const MARK: &str = "<!-- from here on written by the suite -->\n";

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}

fn code(text: &str) -> String {
    format!("`{}`", text.replace('|', "\\|").replace('`', "'"))
}

fn table() -> String {
    let mut text = String::from("\n| family | cases | that differ |\n|---|---|---|\n");
    let mut rows = String::new();
    for (name, family) in FAMILIES {
        let family = family();
        let differing: Vec<_> = family.cases.iter().filter(|case| case.differs()).collect();
        writeln!(text, "| {name} | {} | {} |", family.cases.len(), differing.len()).expect("memory");
        for case in differing {
            let Some((ours, reason)) = &case.ours else { continue };
            let ours: Vec<String> = ours.iter().map(|outcome| code(outcome)).collect();
            writeln!(
                rows,
                "| {name}: {} | {} | {} | {} |",
                cell(&case.name),
                code(case.envoy()),
                ours.join(" or "),
                cell(reason)
            )
            .expect("memory");
        }
    }
    text.push_str("\n| case | stock Envoy | ours | why |\n|---|---|---|---|\n");
    text + &rows
}

#[test]
fn every_difference_is_in_the_document() {
    let path = envoy::workspace().join("docs/protocol.md");
    let document = std::fs::read_to_string(&path).expect("docs/protocol.md");
    let (prose, written) = document.split_once(MARK).expect("the mark in docs/protocol.md");
    let table = table();
    if std::env::var_os("OSTRO_BLESS").is_some() {
        std::fs::write(&path, format!("{prose}{MARK}{table}")).expect("write docs/protocol.md");
        return;
    }
    assert!(written == table, "docs/protocol.md is not what the cases say: OSTRO_BLESS=1 writes it anew");
}
