//! What a mesh needs of this machine, tried; and for what is missing, the cause and the command that mends it.
//!
//! What it is: a list of checks, each of which does the thing itself (makes the namespaces, loads rules, binds the
//! port) and tells what was tried, what the kernel said, what follows from that, and how to mend it.
//! What it deliberately is not: a list of versions and settings that ought to be right. Settings are read only to say
//! *why* something was refused.
//!
//! What changes the process that does it (namespaces) is tried in a child: the program itself, called as
//! `ostro doctor --try` ([`attempt`]), which goes the way that `ostro up` goes.

mod attempt;
mod cause;
mod limits;
mod things;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use attempt::attempt;

/// What the mesh is to be, as far as checks depend on it.
#[derive(Clone, Debug)]
pub struct Wants {
    /// The `ostro` binary, which is called to try things.
    pub ostro: PathBuf,
    /// Stock Envoy, if somebody wants it; or why none was found.
    pub envoy: Option<Result<PathBuf, String>>,
    /// Where sample programs are.
    pub programs: PathBuf,
    /// Where the mesh will keep its state.
    pub state: PathBuf,
    /// Addresses of the host it will listen on.
    pub ports: Vec<(&'static str, SocketAddr)>,
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Not tried, because it needs something else that is missing.
    Skipped,
    /// A mesh comes up, with less than it could have.
    Warning,
    /// No mesh comes up.
    Missing,
}

/// A command, and the machine it is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fix {
    /// `Ubuntu`, `Docker`...; `any` for a command that is the same everywhere.
    pub on: String,
    /// To be typed as it is.
    pub command: String,
}

impl Fix {
    fn new(on: &str, command: impl Into<String>) -> Self {
        Self { on: on.to_owned(), command: command.into() }
    }
}

/// A check's outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Name of what is needed; stable.
    pub piece: String,
    /// How it came out.
    pub verdict: Verdict,
    /// What was done.
    pub tried: String,
    /// What the kernel (or a program) said; empty if all is well.
    pub said: String,
    /// Why, and what follows; empty if all is well.
    pub means: String,
    /// How to mend it, one of these.
    pub fixes: Vec<Fix>,
}

impl Finding {
    fn ok(piece: &str, tried: impl Into<String>) -> Self {
        Self::of(piece, Verdict::Ok, tried)
    }

    fn of(piece: &str, verdict: Verdict, tried: impl Into<String>) -> Self {
        Self {
            piece: piece.to_owned(),
            verdict,
            tried: tried.into(),
            said: String::new(),
            means: String::new(),
            fixes: Vec::new(),
        }
    }

    fn said(mut self, said: impl ToString) -> Self {
        self.said = said.to_string();
        self
    }

    fn means(mut self, means: impl Into<String>) -> Self {
        self.means = means.into();
        self
    }

    fn fix(mut self, on: &str, command: impl Into<String>) -> Self {
        self.fixes.push(Fix::new(on, command));
        self
    }
}

/// Tries everything. Takes a second or so.
pub fn examine(wants: &Wants) -> Vec<Finding> {
    let mut findings = attempt::sandboxed(&wants.ostro);
    findings.extend(limits::all());
    findings.extend([limits::memory(), limits::disk(&wants.state)]);
    findings.extend(wants.envoy.as_ref().map(things::envoy));
    findings.push(things::programs(&wants.programs));
    findings.extend(wants.ports.iter().map(|(what, address)| things::port(what, *address)));
    findings
}

/// Those that a mesh cannot come up without.
pub fn missing(findings: &[Finding]) -> impl Iterator<Item = &Finding> {
    findings.iter().filter(|finding| finding.verdict == Verdict::Missing)
}

/// Findings for people: one line for what is well, a paragraph for what is not.
pub fn render<'a>(findings: impl IntoIterator<Item = &'a Finding>) -> String {
    let mut text = String::new();
    for finding in findings {
        let word = match finding.verdict {
            Verdict::Ok => "ok",
            Verdict::Skipped => "skipped",
            Verdict::Warning => "warning",
            Verdict::Missing => "MISSING",
        };
        line(&mut text, format_args!("{word:<8} {:<12} {}", finding.piece, finding.tried));
        for (label, said) in [("said", &finding.said), ("means", &finding.means)] {
            if !said.is_empty() {
                line(&mut text, format_args!("  {label:<6} {said}"));
            }
        }
        for fix in &finding.fixes {
            line(&mut text, format_args!("  fix    {}:  {}", fix.on, fix.command));
        }
    }
    text
}

fn line(text: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{what}");
}

/// The nearest directory above `path` that is there.
fn nearest(path: &Path) -> &Path {
    path.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/"))
}
