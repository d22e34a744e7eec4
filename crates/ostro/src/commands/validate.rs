//! `ostro validate`: what the control plane would say about files, without a mesh.

use super::Outcome;
use clap::ValueEnum;
use ostro_api::{Complaint, Severity};
use ostro_sources::check::{Checked, check};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Options of `ostro validate`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Exit status 1 if anything is refused, or if there is nothing to check.

Examples:
  ostro validate shop/
  ostro validate --json a.yaml b.yaml")]
pub struct Args {
    /// Files, or directories searched for .yaml, .yml and .json.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// How to print what was found.
    #[arg(short, long, default_value = "text", value_name = "FORMAT")]
    output: Output,
    /// Print one JSON object, as -o json does (docs/local.md says what is in it).
    #[arg(long, conflicts_with = "output")]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A line for each complaint, and a summary.
    Text,
    /// One JSON object.
    Json,
}

impl Args {
    /// Prints every complaint; exit status 1 if there is an error.
    pub fn run(self) -> Outcome {
        let checked = check(&self.paths);
        let mut out = io::stdout().lock();
        let printed = match self.json || self.output == Output::Json {
            false => print_text(&mut out, &checked),
            true => writeln!(out, "{:#}", as_json(&checked)),
        };
        match printed {
            // Whoever reads has seen enough (`| head`): the exit status still tells.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            printed => printed?,
        }
        Ok(if checked.errors() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn print_text(out: &mut impl Write, checked: &Checked) -> io::Result<()> {
    for complaint in &checked.complaints {
        writeln!(out, "{}: {complaint}", severity(complaint))?;
    }
    for notice in &checked.notices {
        writeln!(out, "note: {notice}")?;
    }
    let warnings = checked.complaints.len() - checked.errors();
    writeln!(
        out,
        "{}: {} accepted, {}, {}",
        counted(checked.files, "file"),
        counted(checked.objects.len(), "object"),
        counted(checked.errors(), "error"),
        counted(warnings, "warning"),
    )
}

fn counted(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

fn as_json(checked: &Checked) -> Value {
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for object in &checked.objects {
        *kinds.entry(object.meta.kind.as_str()).or_default() += 1;
    }
    json!({
        "files": checked.files,
        "accepted": kinds,
        "errors": checked.errors(),
        "complaints": checked.complaints.iter().map(complaint_as_json).collect::<Vec<_>>(),
        "notes": checked.notices.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

fn complaint_as_json(complaint: &Complaint) -> Value {
    json!({
        "severity": severity(complaint),
        "file": complaint.file.as_ref(),
        "line": complaint.line,
        "column": complaint.column,
        "object": complaint.object.map(|key| key.to_string()),
        "path": complaint.path,
        "found": complaint.found,
        "allowed": complaint.allowed,
    })
}

fn severity(complaint: &Complaint) -> &'static str {
    match complaint.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}
