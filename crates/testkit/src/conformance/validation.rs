//! Folder `validation`: documents that must be accepted, and documents that must be refused.

use std::path::Path;

use ostro_api::{Kind, Severity};

use super::{Case, Verdict, files, place, read};

/// Names the expectation of a document that must be refused.
const EXPECTATION: &str = "_err:";

/// Every document of every file is a case, named by its number in the file.
pub(super) fn run(dir: &Path) -> Result<Vec<Case>, String> {
    let mut cases = Vec::new();
    for path in files(dir)? {
        let text = String::from_utf8(read(&path)?).map_err(|e| format!("{}: {e}", path.display()))?;
        let documents = documents(&text);
        for (number, document) in documents.iter().enumerate() {
            let name = format!("{}/{}", place(dir, &path), number + 1);
            cases.push(Case { verdict: judge(&name, document), name });
        }
    }
    Ok(cases)
}

fn judge(name: &str, document: &str) -> Verdict {
    let must_be_refused = document.lines().any(|l| l.starts_with(EXPECTATION));
    let parsed = ostro_api::parse_file(name, without_expectation(document).as_bytes());
    let errors: Vec<_> = parsed.complaints.iter().filter(|c| c.severity == Severity::Error).collect();
    if let Some(kind) = parsed.objects.iter().find_map(|o| match o.meta.kind {
        Kind::Other(kind) => Some(kind.as_str()),
        _ => None,
    }) {
        return Verdict::NotRead(kind.to_owned());
    }
    match (must_be_refused, errors.first()) {
        (true, Some(_)) => Verdict::Passed,
        (false, None) if parsed.objects.len() == 1 => Verdict::Passed,
        (false, None) => Verdict::Failed(vec![format!("expected one object, got {}", parsed.objects.len())]),
        (false, Some(_)) => {
            Verdict::Failed(errors.iter().map(|e| format!("expected acceptance, got {e}")).collect())
        }
        (true, None) => {
            let expected = document.lines().find(|l| l.starts_with(EXPECTATION)).unwrap_or_default();
            Verdict::Failed(vec![format!("expected refusal ({expected}), got acceptance")])
        }
    }
}

/// The documents of a file that have more than comments in them.
fn documents(text: &str) -> Vec<String> {
    let mut documents = vec![String::new()];
    for line in text.lines() {
        if line == "---" || line.starts_with("--- ") {
            documents.push(String::new());
        } else if let Some(last) = documents.last_mut() {
            last.push_str(line);
            last.push('\n');
        }
    }
    let has_content =
        |d: &String| d.lines().any(|l| !l.trim().is_empty() && !l.trim_start().starts_with('#'));
    documents.into_iter().filter(has_content).collect()
}

/// The document without its expectation, which is a field of its own beside `apiVersion`. Lines stay where
/// they are.
fn without_expectation(document: &str) -> String {
    let mut within = false;
    let mut kept = String::new();
    for line in document.lines() {
        within = line.starts_with(EXPECTATION) || (within && line.starts_with([' ', '\t']));
        kept.push_str(if within { "" } else { line });
        kept.push('\n');
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_judged_without_their_expectation() {
        let text = "# head\n_err: 'x'\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
                    metadata: {name: a}\nspec: {}\n---\n# nothing\n---\napiVersion: v1\nkind: ServiceAccount\n\
                    metadata: {name: a}\n";
        let documents = documents(text);
        assert_eq!(documents.len(), 2);
        assert_eq!(judge("a", &documents[0]), Verdict::Passed);
        assert_eq!(judge("b", &documents[1]), Verdict::Passed);
        assert!(matches!(judge("c", &without_expectation(&documents[0])), Verdict::Failed(_)));
        let other = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a}\n";
        assert_eq!(judge("d", other), Verdict::NotRead("AuthorizationPolicy.security.istio.io".into()));
    }
}
