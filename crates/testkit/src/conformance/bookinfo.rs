//! Folder `bookinfo`: manifests that people use. Every object must be accepted, and on a whole mesh every file must do
//! what the table in [`crate::bookinfo`] says (cases `bookinfo/live/...`; they need root).

use std::path::Path;

use ostro_api::Severity;

use crate::bookinfo;
use crate::mix::Mix;

use super::{Case, Verdict, files, place, read};

/// Every file is a case.
pub(super) fn run(dir: &Path, mix: Mix) -> Result<Vec<Case>, String> {
    let accepted =
        files(dir)?.into_iter().map(|path| Ok(Case { name: place(dir, &path), verdict: judge(&path)? }));
    let mut cases = accepted.collect::<Result<Vec<_>, String>>()?;
    cases.extend(live(dir, mix)?);
    Ok(cases)
}

fn live(dir: &Path, mix: Mix) -> Result<Vec<Case>, String> {
    let runtime = tokio::runtime::Runtime::new().map_err(|e| e.to_string())?;
    let name = |path: &str| format!("bookinfo/live/{}", path.trim_end_matches(".yaml"));
    let run = runtime.block_on(bookinfo::run(dir, mix))?.into_iter().map(|case| Case {
        name: name(&case.name),
        verdict: if case.wrong.is_empty() { Verdict::Passed } else { Verdict::Failed(case.wrong) },
    });
    let later = bookinfo::later(mix)
        .map(|(path, why)| Case { name: name(&path), verdict: Verdict::NotRead(why.into()) });
    Ok(run.chain(later).collect())
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
