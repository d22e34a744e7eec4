//! `docs/fields.md` says what becomes of every field of Envoy's messages; it is what the engine says when it is asked.
//! `OSTRO_BLESS=1` writes it anew.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use ostro_testkit::envoy::workspace;
use ostro_testkit::fields::render;

#[test]
fn the_table_of_fields_is_true() {
    let path = workspace().join("docs/fields.md");
    let true_now = render();
    if std::env::var_os("OSTRO_BLESS").is_some() {
        std::fs::write(&path, &true_now).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap();
    let differs = |(written, now): &(&str, &str)| written != now;
    let first = written.lines().zip(true_now.lines()).enumerate().find(|(_, lines)| differs(lines));
    assert!(
        written == true_now,
        "docs/fields.md is not true any more, first {first:#?}: run this test with OSTRO_BLESS=1, and look at what changed"
    );
}
