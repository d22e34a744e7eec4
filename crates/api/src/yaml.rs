//! Text to trees: builds each document's tree under a budget.
//!
//! What YAML allows and a
//! configuration should not contain (anchors that refer to themselves, keys that are not text,
//! duplicate keys, application tags) is a fault with a place.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use ostro_names::limits;
use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput, Tag};

use crate::complaint::Severity;
use crate::scalar::resolve;
use crate::tree::{Entry, Map, Mark, Meaning, Node, Scalar, Value, quoted};

/// Something wrong with the text itself.
#[derive(Debug)]
pub(crate) struct Fault {
    pub mark: Mark,
    pub path: String,
    pub found: String,
    pub allowed: String,
    pub severity: Severity,
}

impl Fault {
    pub fn error(mark: Mark, found: impl Into<String>, allowed: impl Into<String>) -> Self {
        Self {
            mark,
            path: String::new(),
            found: found.into(),
            allowed: allowed.into(),
            severity: Severity::Error,
        }
    }
}

/// A document of a file: its tree, unless it could not be built, and what is wrong with its text.
#[derive(Debug)]
pub(crate) struct Document {
    pub root: Option<Arc<Node>>,
    pub faults: Vec<Fault>,
}

/// Where a text that is parsed stands in its file.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place {
    /// It begins after so many lines of the file.
    Lines(u32),
    /// It is a block scalar's content that begins after so many lines; columns mean nothing.
    Inside(u32),
    /// All of it stands at one place.
    At(Mark),
}

impl Place {
    fn mark(self, span: &Span) -> Mark {
        let line = u32::try_from(span.start.line()).unwrap_or(u32::MAX);
        let column = u32::try_from(span.start.col()).unwrap_or(u32::MAX).saturating_add(1);
        match self {
            Self::Lines(before) => Mark { line: line.saturating_add(before), column },
            Self::Inside(before) => Mark { line: line.saturating_add(before), column: 0 },
            Self::At(mark) => mark,
        }
    }
}

/// Stands behind a `::` that ends a plain scalar in a flow collection while it is parsed.
const KEEPER: char = '\u{e000}';

/// In `[fd00::]`, YAML 1.2 takes the last colon for that of a mapping; kubectl's YAML takes it for
/// the address's, and so do we: a character that is taken out of every scalar again keeps it there.
fn keep_addresses(text: &str) -> Cow<'_, str> {
    const ENDS: [&str; 3] = ["::]", "::,", "::}"];
    if !ENDS.iter().any(|end| text.contains(end)) || text.contains(KEEPER) {
        return Cow::Borrowed(text);
    }
    let keep = |text: String, end: &str| {
        let (colons, closing) = end.split_at(2);
        text.replace(end, &format!("{colons}{KEEPER}{closing}"))
    };
    Cow::Owned(ENDS.iter().fold(text.to_owned(), |text, end| keep(text, end)))
}

/// What a scanner of YAML holds at once: a flow collection is a run of tokens until it is closed.
fn check_flow(text: &str, place: Place) -> Result<(), Fault> {
    let commas = text.bytes().filter(|&b| b == b',').count();
    if commas <= limits::DOCUMENT_COMMAS {
        return Ok(());
    }
    let allowed = format!("{} in a document: split it, or write it as JSON", limits::DOCUMENT_COMMAS);
    let start = saphyr_parser::Marker::new(0, 1, 0);
    Err(Fault::error(place.mark(&Span::empty(start)), format!("a document with {commas} commas"), allowed))
}

/// Builds the documents of a text. `nodes` is what is left of the file's budget.
pub(crate) fn parse(text: &str, place: Place, nodes: &mut usize) -> Vec<Document> {
    if let Err(fault) = check_flow(text, place) {
        return vec![Document { root: None, faults: vec![fault] }];
    }
    let mut documents = Vec::new();
    let text = keep_addresses(text);
    let mut parser = Parser::new_from_str(&text);
    let mut builder = Builder::new(place, *nodes);
    loop {
        match builder.step(&mut parser) {
            Ok(Step::More) => {}
            Ok(Step::Document) => {
                *nodes = nodes.saturating_sub(builder.used);
                let done = std::mem::replace(&mut builder, Builder::new(place, *nodes));
                if done.root.is_some() || !done.faults.is_empty() {
                    documents.push(Document { root: done.root, faults: done.faults });
                }
            }
            Ok(Step::End) => return documents,
            Err(fault) => {
                *nodes = nodes.saturating_sub(builder.used);
                let mut faults = builder.faults;
                faults.push(fault);
                documents.push(Document { root: None, faults });
                return documents;
            }
        }
    }
}

enum Step {
    More,
    Document,
    End,
}

/// A collection that is not closed yet.
struct Frame {
    mark: Mark,
    anchor: usize,
    items: Items,
    size: usize,
    depth: usize,
}

enum Items {
    List(Vec<Arc<Node>>),
    Map { entries: Vec<Entry>, key: Option<(Box<str>, Mark, bool)>, merges: Vec<Arc<Node>> },
}

struct Builder {
    place: Place,
    frames: Vec<Frame>,
    anchors: HashMap<usize, Arc<Node>>,
    aliases: usize,
    used: usize,
    budget: usize,
    root: Option<Arc<Node>>,
    faults: Vec<Fault>,
}

impl Builder {
    fn new(place: Place, file_budget: usize) -> Self {
        Self {
            place,
            frames: Vec::new(),
            anchors: HashMap::new(),
            aliases: 0,
            used: 0,
            budget: file_budget.min(limits::DOCUMENT_NODES),
            root: None,
            faults: Vec::new(),
        }
    }

    fn step(&mut self, parser: &mut Parser<'_, StrInput<'_>>) -> Result<Step, Fault> {
        let (event, span) = match parser.next_event() {
            None => return Ok(Step::End),
            Some(Ok(event)) => event,
            Some(Err(error)) => {
                let mark = self.place.mark(&Span::empty(*error.marker()));
                let found = format!("broken YAML: {}", error.info());
                return Err(Fault {
                    path: self.path(),
                    ..Fault::error(mark, found, "well-formed YAML or JSON")
                });
            }
        };
        let mark = self.place.mark(&span);
        match event {
            Event::StreamEnd => return Ok(Step::End),
            Event::DocumentEnd => return Ok(Step::Document),
            Event::Nothing | Event::StreamStart | Event::DocumentStart(_) => {}
            Event::Alias(anchor) => self.alias(mark, anchor)?,
            Event::Scalar(text, style, anchor, tag) => {
                let text = if text.contains(KEEPER) { text.replace("::\u{e000}", "::").into() } else { text };
                let meaning = self.meaning(mark, &text, style, tag.as_deref());
                let literal = style == ScalarStyle::Literal;
                let scalar = Scalar { text: text.into(), meaning, literal };
                self.leaf(mark, anchor, scalar)?;
            }
            Event::SequenceStart(anchor, tag) => {
                self.check_tag(mark, tag.as_deref(), "seq");
                self.open(mark, anchor, Items::List(Vec::new()))?;
            }
            Event::MappingStart(anchor, tag) => {
                self.check_tag(mark, tag.as_deref(), "map");
                self.open(mark, anchor, Items::Map { entries: Vec::new(), key: None, merges: Vec::new() })?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.close()?,
        }
        Ok(Step::More)
    }

    /// Counts nodes against the budget.
    fn spend(&mut self, mark: Mark, nodes: usize) -> Result<(), Fault> {
        self.used = self.used.saturating_add(nodes);
        if self.used <= self.budget {
            return Ok(());
        }
        let found = "more values than the budget of a document or file, aliases expanded";
        let allowed = format!(
            "{} in a document, {} in a file: split it, or use fewer aliases",
            limits::DOCUMENT_NODES,
            limits::FILE_NODES
        );
        Err(Fault { path: self.path(), ..Fault::error(mark, found, allowed) })
    }

    fn check_depth(&self, mark: Mark, below: usize) -> Result<(), Fault> {
        if self.frames.len() + below <= limits::DOCUMENT_DEPTH {
            return Ok(());
        }
        let allowed = format!("{} levels", limits::DOCUMENT_DEPTH);
        Err(Fault::error(mark, format!("more than {} levels of nesting", limits::DOCUMENT_DEPTH), allowed))
    }

    fn open(&mut self, mark: Mark, anchor: usize, items: Items) -> Result<(), Fault> {
        self.spend(mark, 1)?;
        self.check_depth(mark, 1)?;
        if let Some(Frame { items: Items::Map { key: None, .. }, .. }) = self.frames.last() {
            let fault = Fault::error(mark, "a list or mapping as a key", "text as a key");
            return Err(Fault { path: self.path(), ..fault });
        }
        self.frames.push(Frame { mark, anchor, items, size: 1, depth: 1 });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Fault> {
        let Some(frame) = self.frames.pop() else { return Ok(()) };
        let Frame { mark, anchor, items, mut size, mut depth } = frame;
        let value = match items {
            Items::List(items) => Value::List(items),
            Items::Map { mut entries, merges, .. } => {
                for merged in merges {
                    let (more, deep) = self.merge(&mut entries, &merged)?;
                    size += more;
                    depth = depth.max(deep);
                }
                Value::Map(self.map(entries))
            }
        };
        self.attach(anchor, Arc::new(Node { mark, value, size, depth }));
        Ok(())
    }

    /// Takes over the entries of a merged mapping (`<<`) that are not there yet.
    fn merge(&mut self, entries: &mut Vec<Entry>, merged: &Node) -> Result<(usize, usize), Fault> {
        let sources: Vec<&Node> = match &merged.value {
            Value::List(items) => items.iter().map(|item| &**item).collect(),
            _ => vec![merged],
        };
        let (mut size, mut depth) = (0, 0);
        let mut taken: HashSet<Box<str>> = entries.iter().map(|entry| entry.key.clone()).collect();
        for source in sources {
            let Value::Map(map) = &source.value else {
                self.note(merged.mark, format!("{source} to merge"), "a mapping, or a list of mappings");
                continue;
            };
            for entry in map.iter() {
                self.spend(merged.mark, entry.value.size)?;
                if !taken.insert(entry.key.clone()) {
                    continue;
                }
                size += entry.value.size;
                depth = depth.max(entry.value.depth + 1);
                entries.push(Entry { key: entry.key.clone(), mark: entry.mark, value: entry.value.clone() });
            }
        }
        Ok((size, depth))
    }

    fn map(&mut self, entries: Vec<Entry>) -> Map {
        let (map, duplicates) = Map::new(entries);
        for (later, first) in duplicates {
            let (later, first) = (&map.entries()[later], &map.entries()[first]);
            let path = join(&self.path(), &later.key);
            let found = format!("the key {} for the second time", quoted(&later.key));
            let allowed = format!("each key once (the first is in line {})", first.mark.line);
            self.faults.push(Fault { path, ..Fault::error(later.mark, found, allowed) });
        }
        map
    }

    fn alias(&mut self, mark: Mark, anchor: usize) -> Result<(), Fault> {
        self.aliases += 1;
        if self.aliases > limits::DOCUMENT_ALIASES {
            let allowed = format!("{} in a document", limits::DOCUMENT_ALIASES);
            return Err(Fault::error(
                mark,
                format!("more than {} aliases", limits::DOCUMENT_ALIASES),
                allowed,
            ));
        }
        let Some(target) = self.anchors.get(&anchor).cloned() else {
            let fault =
                Fault::error(mark, "an alias inside the value it stands for", "an alias to an earlier value");
            return Err(Fault { path: self.path(), ..fault });
        };
        self.spend(mark, target.size)?;
        self.check_depth(mark, target.depth)?;
        if let Value::Scalar(scalar) = &target.value
            && self.awaits_key()
        {
            let copy = Scalar { text: scalar.text.clone(), ..*scalar };
            self.set_key(mark, copy);
            return Ok(());
        }
        if self.awaits_key() {
            return Err(Fault::error(mark, "a list or mapping as a key", "text as a key"));
        }
        self.attach(0, target);
        Ok(())
    }

    fn leaf(&mut self, mark: Mark, anchor: usize, scalar: Scalar) -> Result<(), Fault> {
        self.spend(mark, 1)?;
        if self.awaits_key() {
            if anchor != 0 {
                let copy = Scalar { text: scalar.text.clone(), ..scalar };
                let node = Node { mark, value: Value::Scalar(copy), size: 1, depth: 1 };
                self.anchors.insert(anchor, Arc::new(node));
            }
            self.set_key(mark, scalar);
        } else {
            self.attach(anchor, Arc::new(Node { mark, value: Value::Scalar(scalar), size: 1, depth: 1 }));
        }
        Ok(())
    }

    fn awaits_key(&self) -> bool {
        matches!(self.frames.last(), Some(Frame { items: Items::Map { key: None, .. }, .. }))
    }

    /// A key is text; numbers and booleans become text as kubectl makes them.
    fn set_key(&mut self, mark: Mark, scalar: Scalar) {
        let text: Box<str> = match scalar.meaning {
            Meaning::Text | Meaning::Float(_) | Meaning::Null => scalar.text.clone(),
            Meaning::Int(int) => int.to_string().into(),
            Meaning::Bool(truth) => {
                let found = format!("the boolean {} as a key, read as \"{truth}\"", scalar.text);
                let allowed = format!("a key in quotes: \"{}\"", scalar.text);
                let fault = Fault::error(mark, found, allowed);
                let path = self.path();
                self.faults.push(Fault { path, severity: Severity::Warning, ..fault });
                truth.to_string().into()
            }
        };
        let merge = &*scalar.text == "<<" && scalar.meaning == Meaning::Text;
        if let Some(Frame { items: Items::Map { key, .. }, .. }) = self.frames.last_mut() {
            *key = Some((text, mark, merge));
        }
    }

    /// Puts a finished node where it belongs.
    fn attach(&mut self, anchor: usize, node: Arc<Node>) {
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(frame) = self.frames.last_mut() else {
            self.root = Some(node);
            return;
        };
        frame.size += node.size;
        frame.depth = frame.depth.max(node.depth + 1);
        match &mut frame.items {
            Items::List(items) => items.push(node),
            Items::Map { entries, key, merges } => match key.take() {
                Some((_, _, true)) => merges.push(node),
                Some((key, mark, false)) => entries.push(Entry { key, mark, value: node }),
                None => {}
            },
        }
    }

    fn meaning(&mut self, mark: Mark, text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Meaning {
        let untagged = if style == ScalarStyle::Plain { resolve(text) } else { Meaning::Text };
        let Some(tag) = tag else { return untagged };
        match tag.suffix.as_str() {
            "str" if tag.is_yaml_core_schema() => Meaning::Text,
            "null" | "bool" | "int" | "float" if tag.is_yaml_core_schema() => resolve(text),
            // `!` alone means "as it stands".
            "" if tag.handle == "!" || tag.handle.is_empty() => Meaning::Text,
            _ => {
                self.refuse_tag(mark, tag);
                untagged
            }
        }
    }

    fn check_tag(&mut self, mark: Mark, tag: Option<&Tag>, core: &str) {
        if let Some(tag) = tag
            && !(tag.is_yaml_core_schema() && tag.suffix == core)
        {
            self.refuse_tag(mark, tag);
        }
    }

    fn refuse_tag(&mut self, mark: Mark, tag: &Tag) {
        let tag = format!("the tag {}", quoted(&format!("{}{}", tag.handle, tag.suffix)));
        self.note(mark, tag, "no tag, !!str, !!int, !!bool, !!float, !!null, !!seq or !!map");
    }

    fn note(&mut self, mark: Mark, found: impl Into<String>, allowed: impl Into<String>) {
        let path = self.path();
        self.faults.push(Fault { path, ..Fault::error(mark, found, allowed) });
    }

    /// Where in the document we are.
    fn path(&self) -> String {
        let mut path = String::new();
        for frame in &self.frames {
            match &frame.items {
                Items::List(items) => path.push_str(&format!("[{}]", items.len())),
                Items::Map { key: Some((key, ..)), .. } => path = join(&path, key),
                Items::Map { key: None, .. } => {}
            }
        }
        path
    }
}

pub(crate) fn join(path: &str, key: &str) -> String {
    let key = crate::text::clip(key);
    if path.is_empty() { key.into_owned() } else { format!("{path}.{key}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Document {
        let mut nodes = limits::FILE_NODES;
        let mut all = parse(text, Place::Lines(0), &mut nodes);
        assert_eq!(all.len(), 1, "{text:?}");
        all.remove(0)
    }

    fn show(node: &Node) -> String {
        match &node.value {
            Value::Scalar(scalar) if scalar.meaning == Meaning::Text => format!("{:?}", scalar.text),
            Value::Scalar(scalar) => scalar.text.to_string(),
            Value::List(items) => {
                format!("[{}]", items.iter().map(|i| show(i)).collect::<Vec<_>>().join(", "))
            }
            Value::Map(map) => {
                let entries: Vec<_> = map.iter().map(|e| format!("{}: {}", e.key, show(&e.value))).collect();
                format!("{{{}}}", entries.join(", "))
            }
        }
    }

    #[test]
    fn values_know_where_they_stand() {
        let document = one("a:\n  - b: x\n    c: \"y\"\n");
        let root = document.root.unwrap();
        let Value::Map(map) = &root.value else { panic!() };
        let Value::List(items) = &map.get("a").unwrap().value.value else { panic!() };
        let Value::Map(inner) = &items[0].value else { panic!() };
        assert_eq!(inner.get("c").unwrap().mark, Mark { line: 3, column: 5 });
        assert_eq!(inner.get("c").unwrap().value.mark, Mark { line: 3, column: 8 });
    }

    #[test]
    fn json_is_yaml_with_its_tabs_and_escapes() {
        let document = one("{\n\t\"a\": [1, true, null, \"x\\/y\\u00e9\\n\"],\n\t\"b\":{\"c\":1.5}\n}\n");
        assert_eq!(show(&document.root.unwrap()), r#"{a: [1, true, null, "x/yé\n"], b: {c: 1.5}}"#);
    }

    #[test]
    fn an_address_may_end_in_colons_anywhere() {
        let document = one("[1.2.3.4, 001:db8::]\n");
        assert_eq!(show(&document.root.unwrap()), r#"["1.2.3.4", "001:db8::"]"#);
        let document = one("{a: [fd00::, \"x::]\"], b: fd00::}\n");
        assert_eq!(show(&document.root.unwrap()), r#"{a: ["fd00::", "x::]"], b: "fd00::"}"#);
    }

    #[test]
    fn anchors_and_merges_are_expanded() {
        let document = one("a: &x {p: 1, q: 2}\nb:\n  <<: *x\n  q: 3\nc: *x\nd: {<<: [{r: 1}, *x]}\n");
        let expected = "{a: {p: 1, q: 2}, b: {q: 3, p: 1}, c: {p: 1, q: 2}, d: {r: 1, p: 1, q: 2}}";
        assert_eq!(show(&document.root.unwrap()), expected);
        assert!(document.faults.is_empty(), "{:?}", document.faults);
    }

    #[test]
    fn an_alias_bomb_is_refused_before_it_is_expanded() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..20 {
            let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
            text.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
        }
        let document = one(&text);
        assert!(document.root.is_none());
        assert!(document.faults[0].found.contains("aliases expanded"), "{:?}", document.faults);
    }

    #[test]
    fn an_alias_may_not_contain_itself() {
        let document = one("a: &x\n  b: *x\n");
        assert!(document.root.is_none());
        assert_eq!(document.faults[0].mark, Mark { line: 2, column: 6 });
    }
}
