//! The table as a document.

use super::ROOTS;
use super::walk::{Fate, FieldFate, walk};

const HEAD: &str = "# Fields

What becomes of every field of Envoy's messages (API of the crate `envoy-types` 0.7) in `ostro-proxy`. Generated: the test
`fields` of `crates/testkit` sets each field alone in a resource that is taken without it, asks the engine, and fails if
this file says something else; `OSTRO_BLESS=1 cargo nextest run -p ostro-testkit --test fields` writes it anew.

*read*: the engine makes something else of the resource, or finds the field wrong where it stands alone. *no effect*: it is taken, and changes nothing; Envoy's own
insides, notes for people, or a default spelled out. *refused*: the resource is refused (NACK) with these words.
A message stands once below each kind of resource, with the place where it is first found.
";

/// All of it.
pub fn render() -> String {
    let mut text = HEAD.to_owned();
    for root in &ROOTS {
        let short = root.message.rsplit('.').next().unwrap_or_default();
        text.push_str(&format!("\n## {short}\n"));
        for message in walk(root) {
            let place =
                if message.place.is_empty() { String::new() } else { format!(" (`{}`)", message.place) };
            text.push_str(&format!("\n### {}{place}\n\n", message.message));
            if message.fields.is_empty() {
                text.push_str("No fields.\n");
                continue;
            }
            text.push_str("| field | |\n|---|---|\n");
            message.fields.iter().for_each(|field| text.push_str(&row(field)));
        }
    }
    text
}

fn row(field: &FieldFate) -> String {
    let fate = match &field.fate {
        Fate::Read => "read".to_owned(),
        Fate::NoEffect => "no effect".to_owned(),
        // To be found wrong it must have been looked at.
        Fate::Refused(why) if !why.starts_with("not supported: ") => {
            format!("read (alone, {})", why.replace('|', "\\|").replace('\n', " "))
        }
        Fate::Refused(why) => format!("refused: {}", why.replace('|', "\\|").replace('\n', " ")),
    };
    let mut more = String::new();
    if !field.refused_values.is_empty() {
        more.push_str(&format!("; refused: {}", field.refused_values.join(", ")));
    }
    if !field.takes.is_empty() {
        more.push_str(&format!("; one of {}", field.takes.join(", ")));
    }
    format!("| {} | {fate}{more} |\n", field.name)
}
