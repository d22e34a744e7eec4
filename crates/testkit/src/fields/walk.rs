//! The walk over the fields of a resource.

use std::collections::BTreeSet;

use ostro_envoy_json::{Content, FieldShape, Unknown, fields, messages, to_wire};
use serde_json::{Map, Value, json};

use super::ROOTS;
use super::examples::{alternatives, example, key};
use super::roots::{Opinion, Root};

/// What becomes of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// What the engine makes of the resource is another with it.
    Read,
    /// It is taken, and nothing is another.
    NoEffect,
    /// No value is taken, for this reason.
    Refused(String),
}

/// One field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldFate {
    /// Its name.
    pub name: &'static str,
    /// What becomes of it.
    pub fate: Fate,
    /// Values of an enumeration that are refused although others are not.
    pub refused_values: Vec<&'static str>,
    /// Of an `Any`: messages that are taken in it.
    pub takes: Vec<&'static str>,
}

/// The fields of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageFates {
    /// Full name.
    pub message: &'static str,
    /// Where it was found first: fields, from the resource on.
    pub place: String,
    /// By number.
    pub fields: Vec<FieldFate>,
}

/// An `Any` that takes more messages than this is not looked into.
const TAKES_MAX: usize = 60;

/// Messages that JSON writes in a way of their own, and those that are nothing but a value.
const PLAIN: &str = "google.protobuf.";
const ANY: &str = "google.protobuf.Any";

/// All messages of a resource, in the order in which they are found.
pub fn walk(root: &Root) -> Vec<MessageFates> {
    let whole = example(root.message);
    let mut walk =
        Walk { root, seen: BTreeSet::from([root.message]), found: Vec::new(), extensions: extensions() };
    let base =
        walk.ask(&whole).unwrap_or_else(|why| panic!("the example of {} is refused: {why}", root.message));
    let mut waiting = vec![Place { message: root.message, whole, base, pointer: String::new() }];
    let mut at = 0;
    while let Some(place) = waiting.get(at).cloned() {
        let next = walk.visit(&place);
        waiting.extend(next);
        at += 1;
    }
    read_what_holds(&mut walk.found);
    walk.found
}

/// A message within an example.
#[derive(Clone)]
struct Place {
    message: &'static str,
    whole: Value,
    /// What the engine makes of the whole.
    base: String,
    /// Where in the whole it is, as a JSON pointer.
    pointer: String,
}

struct Walk<'r> {
    root: &'r Root,
    seen: BTreeSet<&'static str>,
    found: Vec<MessageFates>,
    extensions: Vec<&'static str>,
}

/// Messages that may stand in an `Any`.
fn extensions() -> Vec<&'static str> {
    let is_nested = |name: &str| {
        let parent = name.rsplit('.').nth(1).unwrap_or_default();
        parent.starts_with(|first: char| first.is_ascii_uppercase())
    };
    let all = messages().filter(|name| name.starts_with("envoy.extensions.") && !is_nested(name));
    all.chain(["google.protobuf.Struct", "google.protobuf.StringValue"]).collect()
}

impl Walk<'_> {
    fn ask(&self, whole: &Value) -> Opinion {
        (self.root.ask)(whole)
    }

    fn says_the_same(&self, one: &Value, other: &Value) -> bool {
        let wire = |whole| to_wire(self.root.message, whole, Unknown::Refuse).ok();
        wire(one) == wire(other)
    }

    /// Sets each field of a message; the messages that were found in it.
    fn visit(&mut self, place: &Place) -> Vec<Place> {
        let mut found = MessageFates {
            message: place.message,
            place: place.pointer.replace("/0", "").trim_start_matches('/').replace('/', "."),
            fields: Vec::new(),
        };
        let mut next = Vec::new();
        let shapes = fields(place.message);
        for shape in &shapes {
            let fate = match shape.content {
                Content::Message(ANY) => self.visit_any(place, &shapes, shape, &mut next),
                _ => self.visit_field(place, &shapes, shape, &mut next),
            };
            found.fields.push(fate);
        }
        self.found.push(found);
        next
    }

    fn visit_field(
        &mut self,
        place: &Place,
        shapes: &[FieldShape],
        shape: &FieldShape,
        next: &mut Vec<Place>,
    ) -> FieldFate {
        let (content, entry) = content_of(shape);
        let mut tried = Tried::default();
        let mut refused_values = Vec::new();
        let mut child = None;
        for value in values(content) {
            let (whole, pointer) = set(place, shapes, shape, entry, value.clone());
            // A default value says nothing; what the example has already is seen when it is gone.
            let opinion = match self.says_the_same(&whole, &place.whole) {
                false => self.ask(&whole),
                true => {
                    let is_gone = without(place, shape);
                    if self.says_the_same(&is_gone, &place.whole) {
                        continue;
                    }
                    tried.changed |= self.ask(&is_gone).ok().as_ref() != Some(&place.base);
                    Ok(place.base.clone())
                }
            };
            if let (Content::Enumeration(of), Err(why)) = (content, &opinion)
                && is_unsupported(why)
            {
                refused_values.extend(of.names().find(|name| value == *name));
            }
            if let (Ok(base), Content::Message(message), None) = (&opinion, content, &child) {
                child = Some(Place { message, whole, base: base.clone(), pointer });
            }
            tried.note(opinion, &place.base);
        }
        if let Some(child) = child
            && is_walked(self.root, child.message)
            && self.seen.insert(child.message)
        {
            next.push(child);
        }
        let fate = tried.fate();
        if matches!(fate, Fate::Refused(_)) {
            refused_values.clear();
        }
        FieldFate { name: shape.name, fate, refused_values, takes: Vec::new() }
    }

    /// An `Any`: every extension there is, is tried in it.
    fn visit_any(
        &mut self,
        place: &Place,
        shapes: &[FieldShape],
        shape: &FieldShape,
        next: &mut Vec<Place>,
    ) -> FieldFate {
        let (_, entry) = content_of(shape);
        let mut tried = Tried::default();
        let (mut takes, mut within) = (Vec::new(), Vec::new());
        for extension in self.extensions.clone() {
            for inner in values(Content::Message(extension)) {
                let (whole, pointer) = set(place, shapes, shape, entry, packed(extension, inner));
                let opinion = self.ask(&whole);
                // Of others it is said that they are not supported, by their name.
                let is_known = opinion.as_ref().err().is_none_or(|why| !why.contains(extension));
                if opinion.is_ok() && !takes.contains(&extension) {
                    takes.push(extension);
                    let base = opinion.clone().unwrap_or_default();
                    within.push(Place { message: extension, whole, base, pointer });
                }
                if is_known {
                    tried.note(opinion, &place.base);
                } else if let Err(why) = opinion {
                    tried.others = Some(words(&why).replace(extension, "NAME"));
                }
            }
        }
        if takes.len() > TAKES_MAX {
            // Nobody looks into it.
            takes = vec!["anything"];
            within.clear();
        }
        for place in within {
            if is_walked(self.root, place.message) && self.seen.insert(place.message) {
                next.push(place);
            }
        }
        FieldFate { name: shape.name, fate: tried.fate(), refused_values: Vec::new(), takes }
    }
}

/// Is a message walked? Other resources are walked by themselves, values are not messages.
fn is_walked(root: &Root, message: &str) -> bool {
    let is_other = ROOTS.iter().any(|other| other.message == message && other.message != root.message);
    !is_other && !message.starts_with(PLAIN)
}

fn packed(extension: &str, inner: Value) -> Value {
    let mut members =
        Map::from_iter([("@type".to_owned(), format!("type.googleapis.com/{extension}").into())]);
    match inner {
        Value::Object(inner) if !extension.starts_with(PLAIN) => members.extend(inner),
        value => drop(members.insert("value".to_owned(), value)),
    }
    Value::Object(members)
}

/// The content of a field, and of a map that of its values with the key to use.
fn content_of(shape: &FieldShape) -> (Content, Option<&'static str>) {
    match shape.content {
        Content::Message(entry) if shape.is_map => {
            let value = fields(entry).into_iter().find(|field| field.name == "value");
            (value.map_or(shape.content, |value| value.content), Some(key(entry)))
        }
        content => (content, None),
    }
}

/// The whole with a field of the place set to this value, and nothing that it excludes; and where the value is.
fn set(
    place: &Place,
    shapes: &[FieldShape],
    shape: &FieldShape,
    key: Option<&'static str>,
    value: Value,
) -> (Value, String) {
    let mut whole = place.whole.clone();
    let mut pointer = format!("{}/{}", place.pointer, shape.name);
    let value = match (key, shape.is_list) {
        (Some(key), _) => {
            pointer.push_str(&format!("/{key}"));
            json!({key: value})
        }
        (None, true) => {
            pointer.push_str("/0");
            json!([value])
        }
        (None, false) => value,
    };
    let members = whole.pointer_mut(&place.pointer).and_then(Value::as_object_mut).expect("a message");
    if shape.oneof.is_some() {
        let excluded = shapes.iter().filter(|other| other.oneof == shape.oneof);
        excluded.for_each(|other| drop(members.remove(other.name)));
    }
    members.insert(shape.name.to_owned(), value);
    (whole, pointer)
}

/// Values to try.
fn values(content: Content) -> Vec<Value> {
    let texts = [
        "probe",
        "/probe",
        "%PROTOCOL%",
        "127.0.0.1",
        "GET",
        "envoy.filters.network.http_connection_manager",
    ];
    let numbers = [json!(7), json!(1), json!(100), json!(100_000), json!(0)];
    match content {
        Content::Number => numbers.to_vec(),
        Content::Flag => vec![json!(true), json!(false)],
        Content::Text => texts.map(Value::from).to_vec(),
        Content::Bytes => vec![json!("cHJvYmU=")],
        Content::Enumeration(of) => {
            let names: Vec<&str> = of.names().collect();
            names.iter().rev().map(|name| json!(name)).collect()
        }
        Content::Message(message) => match message.strip_prefix(PLAIN) {
            Some("Duration") => vec![json!("7s"), json!("0.25s"), json!("90s")],
            Some("Timestamp") => vec![json!("2026-01-01T00:00:00Z")],
            Some("FieldMask") => vec![json!("a")],
            Some("Struct") => vec![json!({"probe": "%PROTOCOL%"})],
            Some("Value") => vec![json!("probe")],
            Some("ListValue") => vec![json!(["probe"])],
            Some("BoolValue") => values(Content::Flag),
            Some("StringValue") => values(Content::Text),
            Some("BytesValue") => values(Content::Bytes),
            Some(name) if name.ends_with("Value") => values(Content::Number),
            Some("Empty") => vec![json!({})],
            _ => alternatives(message),
        },
    }
}

/// The whole without a field of the place.
fn without(place: &Place, shape: &FieldShape) -> Value {
    let mut whole = place.whole.clone();
    if let Some(members) = whole.pointer_mut(&place.pointer).and_then(Value::as_object_mut) {
        members.remove(shape.name);
    }
    whole
}

/// A message in which something is read is read itself.
fn read_what_holds(found: &mut [MessageFates]) {
    loop {
        let is_read = |message: &MessageFates| message.fields.iter().any(|field| field.fate == Fate::Read);
        let read: BTreeSet<&str> = found.iter().filter(|one| is_read(one)).map(|one| one.message).collect();
        let mut more = Vec::new();
        for (at, message) in found.iter().enumerate() {
            for (place, field) in message.fields.iter().enumerate() {
                let shape = fields(message.message).into_iter().find(|shape| shape.name == field.name);
                let holds = shape.map(|shape| content_of(&shape).0);
                if let (Fate::NoEffect, Some(Content::Message(inner))) = (&field.fate, holds)
                    && read.contains(inner)
                {
                    more.push((at, place));
                }
            }
        }
        if more.is_empty() {
            return;
        }
        more.into_iter().for_each(|(at, place)| found[at].fields[place].fate = Fate::Read);
    }
}

fn is_unsupported(why: &str) -> bool {
    why.contains("not supported: ")
}

/// The end of a refusal: what about it, without where.
fn words(why: &str) -> String {
    let start = ["not supported: ", "invalid: "].iter().filter_map(|word| why.rfind(word)).max();
    why[start.unwrap_or(0)..].to_owned()
}

/// What was said of all values of a field.
#[derive(Default)]
struct Tried {
    changed: bool,
    taken: bool,
    refusal: Option<String>,
    /// What is said of extensions that are not known.
    others: Option<String>,
}

impl Tried {
    fn note(&mut self, opinion: Opinion, base: &str) {
        match opinion {
            Ok(now) => {
                self.taken = true;
                self.changed |= now != base;
            }
            // What is not supported says more than what is wrong with a value.
            Err(why) if self.refusal.is_none() || is_unsupported(&why) => self.refusal = Some(words(&why)),
            Err(_) => {}
        }
    }

    fn fate(self) -> Fate {
        match (self.changed, self.taken, self.refusal.or(self.others)) {
            (true, ..) => Fate::Read,
            (_, true, _) => Fate::NoEffect,
            (_, _, why) => Fate::Refused(why.unwrap_or_else(|| "nothing was tried".to_owned())),
        }
    }
}
