//! Prometheus' text format, as far as metrics are compared.

use std::collections::BTreeMap;

/// Labels of a sample.
pub type Labels = BTreeMap<String, String>;

/// A metric family as it was scraped.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Family {
    /// `counter`, `gauge`, `histogram`.
    pub kind: String,
    /// Samples: name (with `_count` and its like), labels, value.
    pub samples: Vec<(String, Labels, f64)>,
}

impl Family {
    /// The sum of the samples of the family's own name whose labels include these.
    pub fn sum(&self, labels: &[(&str, &str)]) -> f64 {
        let has =
            |own: &Labels| labels.iter().all(|(name, value)| own.get(*name).is_some_and(|own| own == value));
        self.samples.iter().filter(|(_, own, _)| has(own)).map(|(.., value)| value).sum()
    }
}

/// Families by name. Lines that are none are passed over.
pub fn families(text: &str) -> BTreeMap<String, Family> {
    let mut all: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap_or((rest, ""));
            name.clone_into(&mut current);
            kind.clone_into(&mut all.entry(current.clone()).or_default().kind);
        } else if let Some(sample) = sample(line) {
            all.entry(current.clone()).or_default().samples.push(sample);
        }
    }
    all
}

fn sample(line: &str) -> Option<(String, Labels, f64)> {
    if line.starts_with('#') {
        return None;
    }
    let (rest, value) = line.rsplit_once(' ')?;
    let value = value.parse().ok()?;
    let Some((name, labels)) = rest.split_once('{') else {
        return Some((rest.to_owned(), Labels::new(), value));
    };
    let mut found = Labels::new();
    let mut rest = labels.strip_suffix('}')?;
    while !rest.is_empty() {
        let (label, tail) = rest.split_once("=\"")?;
        let (text, tail) = quoted(tail)?;
        found.insert(label.to_owned(), text);
        rest = tail.strip_prefix(',').unwrap_or(tail);
    }
    Some((name.to_owned(), found, value))
}

/// The text up to the closing quote, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut out = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((out, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => out.push('\n'),
                other => out.push(other),
            },
            other => out.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_have_samples_with_labels() {
        let text =
            "# TYPE a counter\na{x=\"1\",y=\"q\\\"}, \\n\"} 7\na{} 2\n# TYPE h histogram\nh_count{} 3\nodd\n";
        let families = families(text);
        assert_eq!(families["a"].kind, "counter");
        assert_eq!(families["a"].samples[0].1["y"], "q\"}, \n");
        assert_eq!(families["a"].sum(&[]), 9.0);
        assert_eq!(families["a"].sum(&[("x", "1")]), 7.0);
        assert_eq!(families["h"].samples, [("h_count".to_owned(), Labels::new(), 3.0)]);
    }
}
