//! Foreign cases: a directory of what others wrote down, run on what we built.
//!
//! What it is: one runner per folder, each of which turns files into named cases and every case into a verdict. What it
//! deliberately is not: the judge of which folders there are; a directory with other cases in the same formats runs
//! just as well.
//!
//! A case may be listed as needing something that is not built yet ([`later`]). A listed case that passes is a failure, and
//! so is a listed name that no file has: the list can only shrink, and never lies.

mod bookinfo;
mod capture;
mod later;
mod metrics;
mod routing;
mod shapes;
mod simulation;
mod validation;

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::mix::Mix;

pub use capture::disagreements as capture_disagreements;
pub use later::Later;

/// Folders that have a runner, in the order they run by default. `shapes` is none: it is whatever of a directory ends as
/// Envoy's resources.
pub const FOLDERS: [&str; 7] =
    ["simulation", "routing", "bookinfo", "validation", "capture", "metrics", "shapes"];

/// A foreign case, run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// `folder/file/name`.
    pub name: String,
    /// How it went.
    pub verdict: Verdict,
}

/// How a case went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As expected.
    Passed,
    /// Each line says what was asked, expected and got.
    Failed(Vec<String>),
    /// It is about something that is not read yet (a kind of object), so there is nothing to judge.
    NotRead(String),
}

/// What a run of several folders came to.
#[derive(Debug, Default)]
pub struct Report {
    /// Folder, and its cases.
    pub folders: Vec<(String, Vec<Case>)>,
    /// Names of passed cases that are listed for later, and of listed ones that no file has.
    pub stale: Vec<String>,
    /// What keeps a folder from being run at all.
    pub broken: Vec<String>,
}

/// Counts of one folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// As expected.
    pub passed: usize,
    /// Not as expected, and not listed.
    pub failed: usize,
    /// Listed for later.
    pub later: usize,
}

/// Runs folders of a directory against a list of what comes later. Where there are proxies, they are those of `mix`.
pub fn run(dir: &Path, folders: &[String], later: &Later, mix: Mix) -> Report {
    let mut report = Report::default();
    for folder in folders {
        let cases = match folder.as_str() {
            "simulation" => simulation::run(&dir.join(folder)),
            "routing" => routing::run(&dir.join(folder), mix),
            "bookinfo" => bookinfo::run(&dir.join(folder), mix),
            "validation" => validation::run(&dir.join(folder)),
            "capture" => capture::run(&dir.join(folder)),
            "metrics" => metrics::run(&dir.join(folder)),
            "shapes" => shapes::run(dir),
            _ => Err(format!("no runner for folder {folder}; there are {}", FOLDERS.join(", "))),
        };
        match cases {
            Ok(cases) if cases.is_empty() => report.broken.push(format!("{folder}: no cases")),
            Ok(cases) => report.folders.push((folder.clone(), cases)),
            Err(error) => report.broken.push(format!("{folder}: {error}")),
        }
    }
    report.stale = later.stale(report.folders.iter().map(|(f, c)| (f.as_str(), c.as_slice())));
    report
}

impl Report {
    /// Counts of a folder's cases.
    pub fn count(cases: &[Case], later: &Later) -> Count {
        let mut count = Count::default();
        for case in cases {
            match &case.verdict {
                _ if later.reason(&case.name).is_some() => count.later += 1,
                Verdict::Passed => count.passed += 1,
                Verdict::Failed(_) | Verdict::NotRead(_) => count.failed += 1,
            }
        }
        count
    }

    /// Did everything pass that is not listed, and is the list true?
    pub fn is_good(&self, later: &Later) -> bool {
        let failed = |(_, cases): &(String, Vec<Case>)| Report::count(cases, later).failed;
        self.stale.is_empty() && self.broken.is_empty() && self.folders.iter().all(|f| failed(f) == 0)
    }

    /// The report as text: failures, then a line per folder.
    pub fn text(&self, later: &Later) -> String {
        let mut lines = Vec::new();
        for (_, cases) in &self.folders {
            for case in cases.iter().filter(|c| later.reason(&c.name).is_none()) {
                match &case.verdict {
                    Verdict::Passed => {}
                    Verdict::Failed(why) => {
                        lines.extend(why.iter().map(|w| format!("FAILED {}: {w}", case.name)))
                    }
                    Verdict::NotRead(what) => lines.push(format!("FAILED {}: {what} is not read", case.name)),
                }
            }
        }
        lines.extend(self.stale.iter().map(|s| format!("STALE  {s}")));
        lines.extend(self.broken.iter().map(|b| format!("BROKEN {b}")));
        for (folder, cases) in &self.folders {
            let Count { passed, failed, later: waiting } = Report::count(cases, later);
            let listed = later.count(folder);
            lines.push(format!(
                "{folder}: {passed} passed, {failed} failed, {waiting} needs-later ({listed} listed)"
            ));
        }
        lines.join("\n")
    }
}

/// The YAML files of a folder and everything below it, by path, sorted.
fn files(dir: &Path) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        let entries = std::fs::read_dir(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        for entry in entries {
            let path = entry.map_err(|e| format!("{}: {e}", dir.display()))?.path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|e| e == "yaml" || e == "yml") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))
}

/// The first document of a file, as a value.
fn value(path: &Path) -> Result<Value, String> {
    let (value, complaints) = ostro_api::parse_value(path.display().to_string(), &read(path)?);
    match complaints.first() {
        None => Ok(value),
        Some(complaint) => Err(complaint.to_string()),
    }
}

/// `folder/file` of a path within a folder's directory.
fn place(dir: &Path, path: &Path) -> String {
    let folder = dir.file_name().unwrap_or_default().to_string_lossy();
    let within = path.strip_prefix(dir).unwrap_or(path).with_extension("");
    format!("{folder}/{}", within.display())
}
