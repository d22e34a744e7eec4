//! Outcomes as lines of a table.

use super::steps::Outcome;

/// The head of the table.
pub const HEAD: &str =
    "step                                   whose         asked  wanted                          got   ";

/// The lines of one outcome.
pub fn render(outcome: &Outcome) -> String {
    let mut text = String::new();
    for (index, line) in outcome.lines.iter().enumerate() {
        let title = if index == 0 { outcome.title } else { "" };
        let verdict = if line.held { "ok" } else { "WRONG" };
        text.push_str(&format!(
            "{title:<38} {:<13} {:>5}  {:<31} {:<5} {verdict}",
            line.who, line.count, line.wanted, line.got
        ));
        if index == 0 {
            match outcome.effect {
                Some(effect) => text.push_str(&format!("   in force after {} ms", effect.as_millis())),
                None => text.push_str("   NEVER IN FORCE"),
            }
        }
        text.push('\n');
    }
    text
}
