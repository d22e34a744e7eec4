//! From tree to types: a cursor that knows its path and place, and what each type takes from it.
//!
//! A type that does not like what it finds says so and answers with its default; the object is
//! refused as a whole at the end, so every complaint of a document comes at once.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashSet};
use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ostro_names::limits;

use crate::complaint::{Complaint, Severity};
use crate::kubernetes::IntOrString;
use crate::object::{ObjectKey, Timestamp};
use crate::text;
use crate::tree::{Mark, Meaning, Node, Scalar, Value, quoted};
use crate::virtual_service::StringMatch;
use crate::volume::Base64;
use crate::workload::Quantity;
use crate::yaml::Fault;

/// A value that a document can hold.
pub(crate) trait Decode: Sized {
    /// Reads a value that is there and not null; complains and answers with a default otherwise.
    fn decode(at: &At<'_>) -> Self;
}

/// Where complaints go.
pub(crate) struct Sink {
    file: Arc<str>,
    object: Cell<Option<ObjectKey>>,
    complaints: RefCell<Vec<Complaint>>,
    /// Complaints beyond [`limits::FILE_COMPLAINTS`].
    dropped: Cell<usize>,
    /// Errors since the last [`Sink::begin`].
    errors: Cell<usize>,
    /// Paths that could not be read: a default stands there, which rules must not judge.
    unread: RefCell<HashSet<String>>,
}

impl Sink {
    pub fn new(file: Arc<str>) -> Self {
        Self {
            file,
            object: Cell::new(None),
            complaints: RefCell::default(),
            dropped: Cell::new(0),
            errors: Cell::new(0),
            unread: RefCell::default(),
        }
    }

    pub fn file(&self) -> &Arc<str> {
        &self.file
    }

    /// What follows is about another object, whose key is not known yet.
    pub fn begin(&self) {
        self.object.set(None);
        self.errors.set(0);
        self.unread.borrow_mut().clear();
    }

    /// What follows judges what was read. Places complained about since `first` hold defaults now:
    /// they, and what is below them, are past judging.
    pub fn judge(&self, first: usize) {
        let complaints = self.complaints.borrow();
        let errors = complaints.iter().skip(first).filter(|complaint| complaint.severity == Severity::Error);
        self.unread.borrow_mut().extend(errors.map(|complaint| complaint.path.clone()));
    }

    fn is_unread(&self, path: &str) -> bool {
        let unread = self.unread.borrow();
        !unread.is_empty()
            && (unread.contains(path)
                || path
                    .match_indices(['.', '['])
                    .any(|(end, _)| unread.contains(path.get(..end).unwrap_or_default())))
    }

    /// What follows, and what was said since `first`, is about this object.
    pub fn name(&self, object: ObjectKey, first: usize) {
        self.object.set(Some(object));
        for complaint in self.complaints.borrow_mut().iter_mut().skip(first) {
            complaint.object = Some(object);
        }
    }

    /// How many complaints there are.
    pub fn len(&self) -> usize {
        self.complaints.borrow().len()
    }

    /// Whether the current object is refused.
    pub fn refused(&self) -> bool {
        self.errors.get() > 0
    }

    pub fn fault(&self, fault: Fault) {
        let Fault { mark, path, found, allowed, severity } = fault;
        self.say(mark, path, found, allowed, severity);
    }

    fn say(&self, mark: Mark, path: String, found: String, allowed: String, severity: Severity) {
        if self.is_unread(&path) {
            return;
        }
        if severity == Severity::Error {
            self.errors.set(self.errors.get() + 1);
        }
        let mut complaints = self.complaints.borrow_mut();
        if complaints.len() >= limits::FILE_COMPLAINTS {
            self.dropped.set(self.dropped.get() + 1);
            return;
        }
        complaints.push(Complaint {
            file: self.file.clone(),
            line: mark.line,
            column: mark.column,
            object: self.object.get(),
            path,
            found,
            allowed,
            severity,
        });
    }

    /// All complaints, in the order of the file.
    pub fn finish(self) -> Vec<Complaint> {
        let mut complaints = self.complaints.into_inner();
        complaints.sort_by(|a, b| (a.line, a.column, &a.path).cmp(&(b.line, b.column, &b.path)));
        if self.dropped.get() > 0 {
            complaints.push(Complaint {
                file: self.file,
                line: 0,
                column: 0,
                object: None,
                path: String::new(),
                found: format!("{} more complaints", self.dropped.get()),
                allowed: format!("none; the first {} are shown", limits::FILE_COMPLAINTS),
                severity: Severity::Error,
            });
        }
        complaints
    }
}

/// How a cursor came here from the one above.
#[derive(Clone, Copy)]
enum Step<'a> {
    Root,
    Field(&'a str),
    Index(usize),
    Key(&'a str),
}

/// A cursor on a place in a document, whether or not anything is there.
#[derive(Clone, Copy)]
pub(crate) struct At<'a> {
    sink: &'a Sink,
    up: Option<&'a At<'a>>,
    step: Step<'a>,
    node: Option<&'a Node>,
    /// Of the node, or of the nearest one above it.
    mark: Mark,
}

impl<'a> At<'a> {
    pub fn root(sink: &'a Sink, node: &'a Node) -> Self {
        Self { sink, up: None, step: Step::Root, node: Some(node), mark: node.mark }
    }

    /// The same place in the path, another tree: for a document inside a scalar.
    pub fn graft(&self, node: &'a Node) -> Self {
        Self { node: Some(node), mark: node.mark, ..*self }
    }

    pub fn sink(&self) -> &'a Sink {
        self.sink
    }

    pub fn mark(&self) -> Mark {
        self.mark
    }

    /// A field of the mapping here.
    pub fn field(&'a self, name: &'a str) -> At<'a> {
        self.below(Step::Field(name), name)
    }

    /// An entry of the map here, whose keys are data.
    pub fn key(&'a self, key: &'a str) -> At<'a> {
        self.below(Step::Key(key), key)
    }

    fn below(&'a self, step: Step<'a>, key: &str) -> At<'a> {
        let entry = match self.node.map(|node| &node.value) {
            Some(Value::Map(map)) => map.get(key),
            _ => None,
        };
        let node = entry.map(|entry| &*entry.value);
        let mark = node.map_or(self.mark, |node| node.mark);
        At { sink: self.sink, up: Some(self), step, node, mark }
    }

    /// An item of the list here.
    pub fn item(&'a self, index: usize) -> At<'a> {
        let node = self.items().get(index).map(|node| &**node);
        let mark = node.map_or(self.mark, |node| node.mark);
        At { sink: self.sink, up: Some(self), step: Step::Index(index), node, mark }
    }

    fn items(&self) -> &'a [Arc<Node>] {
        match self.node.map(|node| &node.value) {
            Some(Value::List(items)) => items,
            _ => &[],
        }
    }

    /// How many items the list here has.
    pub fn len(&self) -> usize {
        self.items().len()
    }

    /// Whether anything but null is here.
    pub fn is_set(&self) -> bool {
        self.scalar().map_or(self.node.is_some(), |scalar| scalar.meaning != Meaning::Null)
    }

    pub fn is_list(&self) -> bool {
        matches!(self.node, Some(Node { value: Value::List(_), .. }))
    }

    pub fn scalar(&self) -> Option<&'a Scalar> {
        match self.node.map(|node| &node.value) {
            Some(Value::Scalar(scalar)) => Some(scalar),
            _ => None,
        }
    }

    /// The text here, if text is here.
    pub fn text(&self) -> Option<&'a str> {
        self.scalar().filter(|scalar| scalar.meaning == Meaning::Text).map(|scalar| &*scalar.text)
    }

    /// The value of a field, if it is there.
    pub fn read<T: Decode>(&self, name: &str) -> Option<T> {
        let at = self.field(name);
        at.is_set().then(|| T::decode(&at))
    }

    /// What is here is not allowed.
    pub fn refuse(&self, allowed: impl Into<String>) {
        let found = self.node.map_or_else(|| "nothing".to_owned(), Node::to_string);
        self.complain(found, allowed);
    }

    /// Something about what is here is not allowed.
    pub fn complain(&self, found: impl Into<String>, allowed: impl Into<String>) {
        self.sink.say(self.mark, self.to_string(), found.into(), allowed.into(), Severity::Error);
    }

    /// Something about what is here is allowed and probably not meant.
    pub fn warn(&self, found: impl Into<String>, allowed: impl Into<String>) {
        self.sink.say(self.mark, self.to_string(), found.into(), allowed.into(), Severity::Warning);
    }

    /// Whether a mapping is here; complains if not and, if strict, about fields it should not have.
    pub fn is_mapping(&self, fields: &[&str], accepted: &[&str], strict: bool) -> bool {
        let Some(Node { value: Value::Map(map), .. }) = self.node else {
            self.refuse("a mapping");
            return false;
        };
        if strict {
            for entry in map.iter() {
                let key = &*entry.key;
                if !fields.contains(&key) && !accepted.contains(&key) {
                    let at =
                        At { mark: entry.mark, node: None, up: Some(self), step: Step::Field(key), ..*self };
                    let allowed = text::suggest(key, fields);
                    at.complain(format!("the unknown field {}", quoted(key)), allowed);
                }
            }
        }
        true
    }

    /// One of some words.
    pub fn choice<T: Copy + Default>(&self, words: &[(&str, T)]) -> T {
        let chosen = self.text().and_then(|text| words.iter().find(|(word, _)| *word == text));
        if let Some((_, value)) = chosen {
            return *value;
        }
        let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        self.refuse(all.join(", "));
        T::default()
    }

    /// A whole number within bounds.
    fn integer(&self, least: i128, most: i128) -> i128 {
        match self.scalar().map(|scalar| scalar.meaning) {
            Some(Meaning::Int(int)) if (least..=most).contains(&int) => int,
            _ => {
                self.refuse(format!("a whole number, {least} to {most}"));
                0
            }
        }
    }
}

impl fmt::Display for At<'_> {
    /// `spec.http[0].headers[x-user]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut nested = false;
        if let Some(up) = self.up {
            let above = up.to_string();
            nested = !above.is_empty();
            f.write_str(&above)?;
        }
        match self.step {
            Step::Root => Ok(()),
            Step::Field(name) => {
                if nested {
                    f.write_char('.')?;
                }
                f.write_str(&text::clip(name))
            }
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Key(key) => write!(f, "[{}]", text::clip(key)),
        }
    }
}

impl Decode for String {
    fn decode(at: &At<'_>) -> Self {
        if let Some(text) = at.text() {
            return text.to_owned();
        }
        match at.scalar() {
            Some(scalar) => {
                at.refuse(format!("text; in quotes it is text: \"{}\"", text::clip(&scalar.text)))
            }
            None => at.refuse("text"),
        }
        Self::new()
    }
}

impl Decode for bool {
    fn decode(at: &At<'_>) -> Self {
        if let Some(Scalar { meaning: Meaning::Bool(truth), .. }) = at.scalar() {
            return *truth;
        }
        at.refuse("true, false (without quotes)");
        false
    }
}

macro_rules! integers {
    ($($int:ty),*) => {$(
        impl Decode for $int {
            fn decode(at: &At<'_>) -> Self {
                let int = at.integer(i128::from(Self::MIN), i128::from(Self::MAX));
                Self::try_from(int).unwrap_or_default()
            }
        }
    )*};
}
integers!(u32, i32, u64);

impl Decode for u16 {
    /// Every number of this size in these schemas is a port; some may be 0, which means none.
    fn decode(at: &At<'_>) -> Self {
        match at.scalar().map(|scalar| scalar.meaning) {
            Some(Meaning::Int(int)) if Self::try_from(int).is_ok() => Self::try_from(int).unwrap_or_default(),
            _ => {
                at.refuse("a port, 1 to 65535");
                0
            }
        }
    }
}

impl Decode for f64 {
    fn decode(at: &At<'_>) -> Self {
        match at.scalar().map(|scalar| scalar.meaning) {
            // Numbers of more than 53 bits lose precision here as in every JSON reader.
            Some(Meaning::Int(int)) => int as f64,
            Some(Meaning::Float(float)) if float.is_finite() => float,
            _ => {
                at.refuse("a number");
                0.0
            }
        }
    }
}

impl<T: Decode> Decode for Option<T> {
    fn decode(at: &At<'_>) -> Self {
        Some(T::decode(at))
    }
}

impl<T: Decode> Decode for Vec<T> {
    fn decode(at: &At<'_>) -> Self {
        if !at.is_list() {
            at.refuse("a list");
            return Self::new();
        }
        let mut items = Self::with_capacity(at.len());
        for index in 0..at.len() {
            // A null is decoded too, and refused: an item's index is its index in the document.
            items.push(T::decode(&at.item(index)));
        }
        items
    }
}

impl<T: Decode> Decode for BTreeMap<String, T> {
    fn decode(at: &At<'_>) -> Self {
        let Some(Node { value: Value::Map(map), .. }) = at.node else {
            at.refuse("a mapping");
            return Self::new();
        };
        let mut decoded = Self::new();
        for entry in map.iter() {
            let value = at.key(&entry.key);
            if value.is_set() {
                decoded.insert(entry.key.to_string(), T::decode(&value));
            } else {
                value.refuse("a value");
            }
        }
        decoded
    }
}

impl Decode for Duration {
    fn decode(at: &At<'_>) -> Self {
        let duration = at.text().and_then(text::duration);
        duration.unwrap_or_else(|| {
            at.refuse("a duration such as 1h, 1m30s, 1.5s or 10ms");
            Self::ZERO
        })
    }
}

impl Decode for Timestamp {
    fn decode(at: &At<'_>) -> Self {
        let timestamp = at.text().and_then(text::timestamp);
        timestamp.unwrap_or_else(|| {
            at.refuse("a time such as 2026-01-31T12:00:00Z");
            Self(0)
        })
    }
}

impl Decode for IntOrString {
    fn decode(at: &At<'_>) -> Self {
        match at.scalar().map(|scalar| scalar.meaning) {
            Some(Meaning::Int(_)) => Self::Int(u16::decode(at)),
            Some(Meaning::Text) => Self::String(String::decode(at)),
            _ => {
                at.refuse("a port's number or name");
                Self::Int(0)
            }
        }
    }
}

impl Decode for Base64 {
    fn decode(at: &At<'_>) -> Self {
        // Long values are folded over lines, as base64 tools print them.
        let packed = |text: &str| text.split_ascii_whitespace().collect::<String>();
        let bytes = at.text().and_then(|text| STANDARD.decode(packed(text)).ok());
        Self(bytes.unwrap_or_else(|| {
            at.complain("a value that is not", "base 64 (of a Secret: or text under stringData)");
            Vec::new()
        }))
    }
}

impl Decode for Quantity {
    fn decode(at: &At<'_>) -> Self {
        match at.scalar() {
            Some(scalar) if !matches!(scalar.meaning, Meaning::Null | Meaning::Bool(_)) => {
                Self(scalar.text.to_string())
            }
            _ => {
                at.refuse("an amount such as 2, 100m or 1Gi");
                Self("0".to_owned())
            }
        }
    }
}

impl Decode for StringMatch {
    fn decode(at: &At<'_>) -> Self {
        const KINDS: [&str; 3] = ["exact", "prefix", "regex"];
        if !at.is_mapping(&KINDS, &[], true) {
            return Self::Any;
        }
        if KINDS.iter().filter(|kind| at.field(kind).is_set()).count() > 1 {
            at.complain("several of exact, prefix, regex", "one of them");
        }
        let exact = at.read("exact").map(Self::Exact);
        let prefix = at.read("prefix").map(Self::Prefix);
        let regex = at.read("regex").map(Self::Regex);
        exact.or(prefix).or(regex).unwrap_or_default()
    }
}
