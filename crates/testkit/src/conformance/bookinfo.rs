//! Folder `bookinfo`: manifests that people use. Every object must be accepted.
//!
//! What they make a mesh do is not written down here; the suites of `control` and `local` say it, with real Envoys.

use std::path::Path;

use ostro_api::Severity;

use super::{Case, Verdict, files, place, read};

/// Every file is a case.
pub(super) fn run(dir: &Path) -> Result<Vec<Case>, String> {
    files(dir)?.iter().map(|path| Ok(Case { name: place(dir, path), verdict: judge(path)? })).collect()
}

fn judge(path: &Path) -> Result<Verdict, String> {
    let parsed = ostro_api::parse_file(path.display().to_string(), &read(path)?);
    let errors: Vec<String> = parsed
        .complaints
        .iter()
        .filter(|c| c.severity == Severity::Error)
        .map(|c| format!("expected acceptance, got {c}"))
        .collect();
    Ok(match (errors.is_empty(), parsed.objects.is_empty()) {
        (true, false) => Verdict::Passed,
        (true, true) => Verdict::Failed(vec!["expected objects, got none".to_owned()]),
        (false, _) => Verdict::Failed(errors),
    })
}
