//! A document as a tree in which every node knows where it was written.

use std::fmt;
use std::sync::Arc;

/// A place in a file, both from 1; column 0 means the line as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark {
    pub line: u32,
    pub column: u32,
}

/// A value and its place. Aliases share nodes, hence the `Arc`s.
#[derive(Debug)]
pub(crate) struct Node {
    pub mark: Mark,
    pub value: Value,
    /// Nodes below and including this one, aliases counted each time they occur.
    pub size: usize,
    /// Levels below and including this one.
    pub depth: usize,
}

#[derive(Debug)]
pub(crate) enum Value {
    Scalar(Scalar),
    List(Vec<Arc<Node>>),
    Map(Map),
}

/// A scalar as it was written, and what YAML makes of it.
#[derive(Debug)]
pub(crate) struct Scalar {
    pub text: Box<str>,
    pub meaning: Meaning,
    /// A block scalar (`|`): its lines follow the mark's, one by one.
    pub literal: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Meaning {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text,
}

/// A mapping: entries as written, found by key in logarithmic time.
#[derive(Debug)]
pub(crate) struct Map {
    entries: Vec<Entry>,
    /// Positions in `entries`, ordered by key; of equal keys only the first.
    by_key: Vec<usize>,
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub key: Box<str>,
    pub mark: Mark,
    pub value: Arc<Node>,
}

impl Map {
    /// The mapping, and the positions of entries whose key is taken, each with the position of the
    /// entry that has it. Such entries are not reachable by key.
    pub fn new(entries: Vec<Entry>) -> (Self, Vec<(usize, usize)>) {
        let mut by_key: Vec<usize> = (0..entries.len()).collect();
        by_key.sort_by(|&a, &b| (&entries[a].key, a).cmp(&(&entries[b].key, b)));
        let mut duplicates = Vec::new();
        by_key.dedup_by(|later, first| {
            let same = entries[*later].key == entries[*first].key;
            if same {
                duplicates.push((*later, *first));
            }
            same
        });
        (Self { entries, by_key }, duplicates)
    }

    pub fn get(&self, key: &str) -> Option<&Entry> {
        let found = self.by_key.binary_search_by(|&at| (*self.entries[at].key).cmp(key)).ok()?;
        Some(&self.entries[self.by_key[found]])
    }

    /// In the order written, duplicates left out.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        let mut kept = self.by_key.clone();
        kept.sort_unstable();
        kept.into_iter().map(|at| &self.entries[at])
    }

    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }
}

/// How much of a value a complaint repeats.
const SHOWN_CHARS: usize = 60;

/// Text in quotes, cut to what a line has room for.
pub(crate) fn quoted(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

impl fmt::Display for Node {
    /// What was found, as a complaint says it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Value::List(items) if items.is_empty() => f.write_str("an empty list"),
            Value::List(_) => f.write_str("a list"),
            Value::Map(map) if map.entries.is_empty() => f.write_str("an empty mapping"),
            Value::Map(_) => f.write_str("a mapping"),
            Value::Scalar(scalar) => match scalar.meaning {
                Meaning::Null => f.write_str("null"),
                Meaning::Bool(_) => write!(f, "the boolean {}", scalar.text),
                Meaning::Int(_) | Meaning::Float(_) => write!(f, "the number {}", scalar.text),
                Meaning::Text => f.write_str(&quoted(&scalar.text)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str) -> Entry {
        let mark = Mark { line: 1, column: 1 };
        let value = Value::Scalar(Scalar { text: "".into(), meaning: Meaning::Null, literal: false });
        Entry { key: key.into(), mark, value: Arc::new(Node { mark, value, size: 1, depth: 1 }) }
    }

    #[test]
    fn the_first_of_two_equal_keys_wins_and_the_second_is_told() {
        let (map, duplicates) = Map::new(["b", "a", "b", "c", "b"].map(entry).into());
        assert_eq!(duplicates, [(2, 0), (4, 0)]);
        assert!(std::ptr::eq(map.get("b").unwrap(), &map.entries()[0]));
        assert_eq!(map.iter().map(|e| &*e.key).collect::<Vec<_>>(), ["b", "a", "c"]);
        assert!(map.get("d").is_none());
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        assert_eq!(quoted("a\"b"), "\"a\\\"b\"");
        let shown = quoted(&"ä".repeat(100));
        assert_eq!(shown, format!("\"{}\"...", "ä".repeat(SHOWN_CHARS)));
    }
}
