//! The list of cases that need something that is not built yet.
//!
//! A line is `name: reason`; `#` begins a comment.

use std::collections::BTreeMap;

use super::{Case, Verdict};

/// Cases that need something that is not built yet, with the reason.
#[derive(Clone, Debug, Default)]
pub struct Later {
    reasons: BTreeMap<String, String>,
}

impl Later {
    /// Reads a list; a malformed or repeated line is an error.
    pub fn parse(text: &str) -> Result<Later, String> {
        let mut reasons = BTreeMap::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some((name, reason)) = line.rsplit_once(": ") else {
                return Err(format!("line {}: not `name: reason`", number + 1));
            };
            if reasons.insert(name.to_owned(), reason.to_owned()).is_some() {
                return Err(format!("line {}: {name} twice", number + 1));
            }
        }
        Ok(Later { reasons })
    }

    /// Why the case has to wait, if it has to.
    pub fn reason(&self, name: &str) -> Option<&str> {
        self.reasons.get(name).map(String::as_str)
    }

    /// How many cases of this folder are listed.
    pub fn count(&self, folder: &str) -> usize {
        self.reasons.keys().filter(|name| name.split('/').next() == Some(folder)).count()
    }

    /// What the list says wrongly about these folders: cases that pass, names that no case has.
    pub(super) fn stale<'a>(&self, folders: impl Iterator<Item = (&'a str, &'a [Case])>) -> Vec<String> {
        let mut stale = Vec::new();
        for (folder, cases) in folders {
            for name in self.reasons.keys().filter(|n| n.split('/').next() == Some(folder)) {
                match cases.iter().find(|c| c.name == *name) {
                    None => stale.push(format!("{name}: listed, but there is no such case")),
                    Some(case) if case.verdict == Verdict::Passed => {
                        stale.push(format!("{name}: listed for later, but it passes"));
                    }
                    Some(_) => {}
                }
            }
        }
        stale
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(name: &str, verdict: Verdict) -> Case {
        Case { name: name.into(), verdict }
    }

    #[test]
    fn the_list_never_lies() {
        let later = Later::parse("# comment\n\nf/a: mTLS\nf/b: with: mTLS\nf/c: mTLS\ng/d: mTLS\n").unwrap();
        let cases = [case("f/a", Verdict::Failed(vec![])), case("f/b: with", Verdict::Passed)];
        assert_eq!(
            later.stale([("f", &cases[..])].into_iter()),
            ["f/b: with: listed for later, but it passes", "f/c: listed, but there is no such case"]
        );
        assert!(Later::parse("f/a").is_err());
        assert!(Later::parse("f/a: x\nf/a: y").is_err());
    }
}
