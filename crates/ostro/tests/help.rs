//! The help text of every command, as it is in `tests/help`. `OSTRO_BLESS=1` writes what differs.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::{env, fs};

/// The help text of a command, by its words after `ostro`.
fn help(words: &[String]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ostro"));
    let output = command.args(words).arg("--help").env_clear().output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The subcommands that a help text lists.
fn listed(text: &str) -> Vec<String> {
    let list =
        text.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // What is further in goes on with the line before.
    let names = list.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    names.filter(|name| !name.is_empty() && *name != "help").map(str::to_owned).collect()
}

/// All help texts, by the names of their files.
fn all() -> BTreeMap<String, String> {
    let mut texts = BTreeMap::new();
    let mut due = vec![Vec::new()];
    while let Some(words) = due.pop() {
        let text = help(&words);
        due.extend(listed(&text).into_iter().map(|name| [words.clone(), vec![name]].concat()));
        let name = [vec!["ostro".to_owned()], words].concat().join("-");
        texts.insert(format!("{name}.txt"), text);
    }
    texts
}

#[test]
fn every_command_has_its_help_text_and_examples() {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/help");
    let texts = all();
    assert!(texts.len() > 15, "{:?}", texts.keys());
    let mut differing = Vec::new();
    for (name, text) in &texts {
        let path = place.join(name);
        if fs::read_to_string(&path).unwrap_or_default() != *text {
            match env::var_os("OSTRO_BLESS") {
                Some(_) => fs::write(&path, text).unwrap(),
                None => differing.push(format!("--- {name} is not:\n{text}")),
            }
        }
    }
    assert!(differing.is_empty(), "OSTRO_BLESS=1 writes them down.\n{}", differing.join("\n"));
    let files: BTreeSet<String> = fs::read_dir(&place)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(files, texts.keys().cloned().collect(), "files in {}", place.display());
    for (name, text) in texts.iter().filter(|(name, _)| name.matches('-').count() == 1) {
        assert!(text.contains("\nExamples:\n  ostro "), "{name} has no examples");
        assert!(
            text.lines().all(|line| line.chars().count() <= 120),
            "{name} has a line that is too long to read"
        );
    }
}

#[test]
fn a_short_help_and_the_version_are_there() {
    let output =
        |word: &str| Command::new(env!("CARGO_BIN_EXE_ostro")).arg(word).env_clear().output().unwrap();
    let short = String::from_utf8(output("-h").stdout).unwrap();
    assert!(short.starts_with("A service mesh that speaks Istio's API and Envoy's xDS\n"), "{short}");
    let version = String::from_utf8(output("--version").stdout).unwrap();
    assert_eq!(version.trim(), format!("ostro {}", env!("CARGO_PKG_VERSION")));
}
