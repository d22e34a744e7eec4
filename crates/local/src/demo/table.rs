//! Outcomes as lines of a table.

use super::steps::Outcome;

/// The head of the table.
pub fn head() -> String {
    row("step", "whose", "asked", "wanted", "got", "") + "\n"
}

fn row(step: &str, whose: &str, asked: &str, wanted: &str, got: &str, verdict: &str) -> String {
    format!("{step:<37} {whose:<13} {asked:>5}  {wanted:<35} {got:<9} {verdict}")
}

/// The lines of one outcome.
pub fn render(outcome: &Outcome) -> String {
    let mut text = String::new();
    for (index, line) in outcome.lines.iter().enumerate() {
        let step = if index == 0 { outcome.title } else { "" };
        let mut verdict = if line.held { "ok".to_owned() } else { "WRONG".to_owned() };
        if index == 0 {
            match outcome.effect {
                Some(effect) => verdict.push_str(&format!(", seen after {} ms", effect.as_millis())),
                None => verdict.push_str(", NEVER SEEN IN FORCE"),
            }
        }
        let asked = line.count.to_string();
        text.push_str(&row(step, line.who, &asked, &line.wanted, &line.got, &verdict));
        text.push('\n');
    }
    text
}
