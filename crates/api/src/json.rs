//! JSON text to a tree. JSON is YAML too, and this reads what [`crate::yaml`] would; it is apart because
//! JSON has escapes that YAML lacks (surrogate pairs) and comes in files of one huge line, which a
//! YAML scanner cannot read without holding all of it as tokens.

use std::sync::Arc;

use ostro_names::limits;

use crate::tree::{Entry, Map, Mark, Meaning, Node, Scalar, Value, quoted};
use crate::yaml::{Document, Fault, join};

/// Whether a text begins as a JSON object does. Flow YAML may too: `{a: b}` is no JSON.
pub(crate) fn looks_like_json(text: &str) -> bool {
    text.trim_start().strip_prefix('{').is_some_and(|rest| rest.trim_start().starts_with(['"', '}']))
}

/// Reads JSON values one after the other. None if the text turns out to be no JSON, whatever else it
/// is; `nodes` is what is left of the file's budget.
pub(crate) fn parse(text: &str, lines_before: u32, nodes: &mut usize) -> Option<Vec<Document>> {
    let mut documents = Vec::new();
    let mut reader = Reader {
        rest: text,
        line: lines_before.saturating_add(1),
        column: 1,
        path: Vec::new(),
        faults: Vec::new(),
        left: 0,
    };
    loop {
        reader.skip_blanks();
        if reader.rest.is_empty() {
            return Some(documents);
        }
        let budget = (*nodes).min(limits::DOCUMENT_NODES);
        reader.left = budget;
        let root = match reader.value(1) {
            Ok(node) => Some(node),
            Err(Stop::NoJson) => return None,
            Err(Stop::Fault(fault)) => {
                reader.faults.push(fault);
                None
            }
        };
        *nodes = nodes.saturating_sub(budget - reader.left);
        let failed = root.is_none();
        documents.push(Document { root, faults: std::mem::take(&mut reader.faults) });
        if failed {
            return Some(documents);
        }
    }
}

/// Why reading stopped.
enum Stop {
    /// This is no JSON; YAML may know what it is, or can say what is wrong.
    NoJson,
    /// It is beyond a limit.
    Fault(Fault),
}

struct Reader<'a> {
    rest: &'a str,
    line: u32,
    column: u32,
    path: Vec<String>,
    faults: Vec<Fault>,
    /// Nodes that the budget still allows.
    left: usize,
}

impl Reader<'_> {
    fn mark(&self) -> Mark {
        Mark { line: self.line, column: self.column }
    }

    /// Moves on by so many bytes, none of which is a line break.
    fn skip(&mut self, bytes: usize) {
        let (passed, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, ""));
        self.column = self.column.saturating_add(u32::try_from(passed.chars().count()).unwrap_or(u32::MAX));
        self.rest = rest;
    }

    fn skip_blanks(&mut self) {
        loop {
            let blanks = self.rest.len() - self.rest.trim_start_matches([' ', '\t', '\r']).len();
            self.skip(blanks);
            let Some(rest) = self.rest.strip_prefix('\n') else { return };
            self.rest = rest;
            self.line = self.line.saturating_add(1);
            self.column = 1;
        }
    }

    fn take(&mut self, token: &str) -> bool {
        let found = self.rest.starts_with(token);
        if found {
            self.skip(token.len());
        }
        found
    }

    fn expect(&mut self, token: &str) -> Result<(), Stop> {
        if self.take(token) { Ok(()) } else { Err(Stop::NoJson) }
    }

    fn fault(&self, found: &str, allowed: String) -> Stop {
        Stop::Fault(Fault { path: self.path.concat(), ..Fault::error(self.mark(), found, allowed) })
    }

    fn value(&mut self, depth: usize) -> Result<Arc<Node>, Stop> {
        self.skip_blanks();
        let mark = self.mark();
        if depth > limits::DOCUMENT_DEPTH {
            let found = format!("more than {} levels of nesting", limits::DOCUMENT_DEPTH);
            return Err(self.fault(&found, format!("{} levels", limits::DOCUMENT_DEPTH)));
        }
        let Some(left) = self.left.checked_sub(1) else {
            let allowed = format!(
                "{} in a document, {} in a file: split it",
                limits::DOCUMENT_NODES,
                limits::FILE_NODES
            );
            return Err(self.fault("more values than the budget of a document or file", allowed));
        };
        self.left = left;
        let value = match self.rest.bytes().next() {
            Some(b'{') => self.object(depth)?,
            Some(b'[') => self.array(depth)?,
            Some(b'"') => {
                Value::Scalar(Scalar { text: self.string()?.into(), meaning: Meaning::Text, literal: false })
            }
            _ => Value::Scalar(self.word()?),
        };
        let below: (usize, usize) = match &value {
            Value::Scalar(_) => (0, 0),
            Value::List(items) => sizes(items.iter()),
            Value::Map(map) => sizes(map.entries().iter().map(|entry| &entry.value)),
        };
        Ok(Arc::new(Node { mark, value, size: below.0 + 1, depth: below.1 + 1 }))
    }

    fn array(&mut self, depth: usize) -> Result<Value, Stop> {
        self.expect("[")?;
        let mut items = Vec::new();
        self.skip_blanks();
        if self.take("]") {
            return Ok(Value::List(items));
        }
        loop {
            self.path.push(format!("[{}]", items.len()));
            items.push(self.value(depth + 1)?);
            self.path.pop();
            self.skip_blanks();
            if self.take("]") {
                return Ok(Value::List(items));
            }
            self.expect(",")?;
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value, Stop> {
        self.expect("{")?;
        let mut entries = Vec::new();
        self.skip_blanks();
        if self.take("}") {
            return Ok(Value::Map(self.map(entries)));
        }
        loop {
            self.skip_blanks();
            let mark = self.mark();
            let key = self.string()?;
            self.skip_blanks();
            self.expect(":")?;
            let dot = if self.path.is_empty() { "" } else { "." };
            self.path.push(format!("{dot}{}", crate::text::clip(&key)));
            let value = self.value(depth + 1)?;
            self.path.pop();
            entries.push(Entry { key: key.into(), mark, value });
            self.skip_blanks();
            if self.take("}") {
                return Ok(Value::Map(self.map(entries)));
            }
            self.expect(",")?;
        }
    }

    fn map(&mut self, entries: Vec<Entry>) -> Map {
        let (map, duplicates) = Map::new(entries);
        for (later, first) in duplicates {
            let (later, first) = (&map.entries()[later], &map.entries()[first]);
            let path = join(&self.path.concat(), &later.key);
            let found = format!("the key {} for the second time", quoted(&later.key));
            let allowed = format!("each key once (the first is in line {})", first.mark.line);
            self.faults.push(Fault { path, ..Fault::error(later.mark, found, allowed) });
        }
        map
    }

    /// `true`, `false`, `null` or a number.
    fn word(&mut self) -> Result<Scalar, Stop> {
        let end = self.rest.find([',', ']', '}', ' ', '\t', '\r', '\n']).unwrap_or(self.rest.len());
        let word = self.rest.get(..end).unwrap_or_default();
        // What JSON writes without quotes means the same in YAML.
        let json = matches!(word, "true" | "false" | "null")
            || word.starts_with(|c: char| c.is_ascii_digit() || c == '-');
        let meaning = crate::scalar::resolve(word);
        if !json || meaning == Meaning::Text {
            return Err(Stop::NoJson);
        }
        let scalar = Scalar { text: word.into(), meaning, literal: false };
        self.skip(end);
        Ok(scalar)
    }

    fn string(&mut self) -> Result<String, Stop> {
        self.expect("\"")?;
        let mut text = String::new();
        loop {
            let end =
                self.rest.find(|c: char| matches!(c, '"' | '\\') || c.is_control()).ok_or(Stop::NoJson)?;
            text.push_str(self.rest.get(..end).unwrap_or_default());
            self.skip(end);
            if self.take("\"") {
                return Ok(text);
            }
            self.expect("\\")?;
            text.push(self.escape()?);
        }
    }

    fn escape(&mut self) -> Result<char, Stop> {
        let kind = self.rest.chars().next().ok_or(Stop::NoJson)?;
        self.skip(kind.len_utf8());
        Ok(match kind {
            '"' | '\\' | '/' => kind,
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => return self.unicode(),
            _ => return Err(Stop::NoJson),
        })
    }

    /// One UTF-16 unit, or two that belong together. A lone half becomes U+FFFD, as in Go.
    fn unicode(&mut self) -> Result<char, Stop> {
        let first = self.unit()?;
        let mut units = vec![first];
        let is_half = (0xd800..0xdc00).contains(&first);
        if is_half && self.rest.starts_with("\\u") {
            let before = (self.rest, self.column);
            self.skip(2);
            let second = self.unit()?;
            if (0xdc00..0xe000).contains(&second) {
                units.push(second);
            } else {
                (self.rest, self.column) = before;
            }
        }
        Ok(char::decode_utf16(units).next().and_then(Result::ok).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn unit(&mut self) -> Result<u16, Stop> {
        let digits = self.rest.get(..4).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        let unit = digits.and_then(|digits| u16::from_str_radix(digits, 16).ok()).ok_or(Stop::NoJson)?;
        self.skip(4);
        Ok(unit)
    }
}

/// Size and depth of nodes together.
fn sizes<'a>(nodes: impl Iterator<Item = &'a Arc<Node>>) -> (usize, usize) {
    nodes.fold((0, 0), |(size, depth), node| (size + node.size, depth.max(node.depth)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Vec<Document>> {
        parse(text, 0, &mut limits::FILE_NODES.clone())
    }

    fn text_at<'a>(node: &'a Node, key: &str) -> &'a str {
        let Value::Map(map) = &node.value else { panic!() };
        let Value::Scalar(scalar) = &map.get(key).unwrap().value.value else { panic!() };
        &scalar.text
    }

    #[test]
    fn escapes_are_those_of_json() {
        let text = r#"{"a": "\ud83d\ude00 \u00e9 \/ \" \\ \n", "b": "\ud83d\u0041", "c": "\ude00"}"#;
        let documents = read(text).unwrap();
        let root = documents[0].root.as_ref().unwrap();
        assert_eq!(text_at(root, "a"), "😀 é / \" \\ \n");
        assert_eq!(text_at(root, "b"), "\u{fffd}A");
        assert_eq!(text_at(root, "c"), "\u{fffd}");
    }

    #[test]
    fn marks_count_lines_and_characters() {
        let documents = read("{\n\t\"ä\": [1,\r\n  {\"b\": true}]}\n{\"c\": null}").unwrap();
        assert_eq!(documents.len(), 2);
        let Value::Map(map) = &documents[0].root.as_ref().unwrap().value else { panic!() };
        let Value::List(items) = &map.get("ä").unwrap().value.value else { panic!() };
        assert_eq!(items[0].mark, Mark { line: 2, column: 8 });
        assert_eq!(items[1].mark, Mark { line: 3, column: 3 });
        assert_eq!(documents[1].root.as_ref().unwrap().mark, Mark { line: 4, column: 1 });
    }

    #[test]
    fn what_is_no_json_is_left_to_yaml() {
        for text in [
            "{a: b}",
            "{\"a\": b}",
            "{\"a\": 1,}",
            "{\"a\": 'b'}",
            "{\"a\": \"x",
            "{\"a\" \"b\"}",
            "{\"a\": .5}",
        ] {
            assert!(read(text).is_none(), "{text}");
        }
        assert!(looks_like_json(" {\n \"a\": 1}") && !looks_like_json("{a: 1}") && !looks_like_json("a: 1"));
    }

    #[test]
    fn depth_and_duplicates_are_told() {
        let deep = format!("{{\"a\": {}", "[".repeat(1_000_000));
        assert!(read(&deep).unwrap()[0].faults[0].found.contains("64 levels"));
        let documents = read("{\"a\": {\"b\": 1,\n\"b\": 2}}").unwrap();
        let fault = &documents[0].faults[0];
        assert_eq!((fault.path.as_str(), fault.mark), ("a.b", Mark { line: 2, column: 1 }));
    }
}
