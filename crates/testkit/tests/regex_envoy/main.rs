//! Our regular expressions accept, refuse and match as stock Envoy's do.
//!
//! Envoy is asked twice. Which patterns it takes: each is a listener of its own in a file that Envoy follows, and the
//! config dump says which were refused. What they match: each accepted pattern guards a route, and
//! requests carry the values, in the path or (for bytes a path cannot carry) in a header.
//! `corpus.rs` has the hand-written patterns; the rest is generated from a fixed seed.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests may fail as tests do")]

mod ask;
mod corpus;

use std::collections::BTreeSet;

use ostro_engine::regex::{self, Matcher};

/// A pattern and the values to try on it.
struct Case {
    pattern: String,
    values: Vec<Vec<u8>>,
}

#[test]
fn regular_expressions_agree_with_envoy() {
    let mut cases = corpus::written();
    cases.extend(corpus::classes());
    cases.extend(corpus::generated());

    let refused_by_envoy = ask::refused(&cases);
    let mut disagree = Vec::new();
    let mut accepted: Vec<(&Case, Matcher)> = Vec::new();
    for (index, case) in cases.iter().enumerate() {
        match (regex::compile(&case.pattern), refused_by_envoy.get(&index)) {
            (Ok(matcher), None) => accepted.push((case, matcher)),
            (Err(_), Some(_)) => {}
            (ours, theirs) => {
                disagree.push(format!("{:?}: ours {:?}, Envoy {theirs:?}", short(&case.pattern), ours.err()));
            }
        }
    }
    assert!(disagree.is_empty(), "{} patterns judged differently:\n{}", disagree.len(), disagree.join("\n"));

    let patterns: Vec<&str> = accepted.iter().map(|(c, _)| c.pattern.as_str()).collect();
    let questions: Vec<(usize, &[u8])> = accepted
        .iter()
        .enumerate()
        .flat_map(|(i, (case, _))| case.values.iter().map(move |v| (i, v.as_slice())))
        .filter(|(_, v)| ask::can_carry(v))
        .collect();
    let answers = ask::matches(&patterns, &questions);
    let mut matched = 0;
    for ((index, value), theirs) in questions.iter().zip(&answers) {
        let (case, matcher) = &accepted[*index];
        let ours = matcher.matches(value);
        matched += usize::from(ours);
        if ours != *theirs {
            let value = String::from_utf8_lossy(value);
            disagree.push(format!("{:?} on {value:?}: ours {ours}, Envoy {theirs}", short(&case.pattern)));
        }
    }
    let distinct: BTreeSet<&str> = cases.iter().map(|c| c.pattern.as_str()).collect();
    println!(
        "{} patterns ({} refused), {} values tried, {matched} matched, {} disagreements",
        distinct.len(),
        refused_by_envoy.len(),
        questions.len(),
        disagree.len()
    );
    assert!(disagree.is_empty(), "{} of {}:\n{}", disagree.len(), questions.len(), disagree.join("\n"));
    // The corpus must go on meaning something: enough of everything.
    assert!(distinct.len() >= 500 && questions.len() >= 500);
    assert!(refused_by_envoy.len() >= 100 && matched * 20 >= questions.len());
}

fn short(pattern: &str) -> String {
    pattern.chars().take(80).collect()
}
