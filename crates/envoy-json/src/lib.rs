//! Floor 0: Envoy's messages as proto3 JSON, to and from wire bytes.
//!
//! What it is: a transcoder. It reads JSON straight into the bytes of a message and writes bytes straight out as JSON, guided by
//! a table of Envoy's message types that is part of the program ([`table`]'s doc); `google.protobuf.Any` is packed
//! and unpacked by its `@type`. What it deliberately is not: reflection; there are no descriptors, no dynamic messages, nothing
//! is built on the heap that outlives a call. Nor does it judge: whether a message makes sense is `engine`'s to say.
//!
//! Source of the rules: the ProtoJSON format of protobuf's documentation. As Envoy has it: fields are read by
//! either name and written in `snake_case`, unknown fields are refused, `null` is no value.
//!
//! Invariants: nothing that is read can panic here or nest deeper than [`DEPTH_MAX`]; what is written of accepted JSON
//! says the same as that JSON; fields come out in the order of their numbers.

mod error;
mod known;
mod number;
mod parse;
mod print;
mod sink;
mod table;
mod wire;

use prost::Name;
use serde_json::Value;

pub use error::{JsonError, JsonReason, WireError};
pub use parse::Unknown;
pub use sink::Style;
use sink::{Text, Tree};

/// Longest JSON text that is read, in bytes: a bootstrap with everything static is some hundred kB.
pub const TEXT_BYTES_MAX: usize = 16 << 20;

/// Deepest nesting of messages, lists and structs: protobuf's own limit for decoding.
pub const DEPTH_MAX: usize = 100;

/// Unknown fields whose paths are told, where they are not refused.
pub const UNKNOWN_TOLD_MAX: usize = 64;

/// A message from JSON text.
///
/// # Errors
/// If the text is no JSON, says something the message has no field for, or says it in a wrong way. The writer of the text is at fault.
pub fn from_json<M: prost::Message + Name + Default>(text: &str) -> Result<M, JsonError> {
    from_value(&to_value(text)?, Unknown::Refuse)
}

/// JSON text as a tree, within [`TEXT_BYTES_MAX`].
///
/// # Errors
/// If the text is too long or no JSON.
pub fn to_value(text: &str) -> Result<Value, JsonError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(JsonError::new(
            String::new(),
            JsonReason::Size { bytes: text.len(), max: TEXT_BYTES_MAX },
        ));
    }
    serde_json::from_str(text).map_err(|e| JsonError::new(String::new(), JsonReason::Syntax(e.to_string())))
}

/// A message from a JSON tree.
///
/// # Errors
/// As [`from_json`]; unknown fields only if `unknown` says so.
pub fn from_value<M: prost::Message + Name + Default>(
    value: &Value,
    unknown: Unknown<'_>,
) -> Result<M, JsonError> {
    let wire = to_wire(&M::full_name(), value, unknown)?;
    M::decode(wire.as_slice()).map_err(|e| JsonError::new(String::new(), JsonReason::Decode(e.to_string())))
}

/// The wire bytes of the message of this full name or type URL, from a JSON tree.
///
/// # Errors
/// As [`from_value`]; and if there is no such message.
pub fn to_wire(message: &str, value: &Value, unknown: Unknown<'_>) -> Result<Vec<u8>, JsonError> {
    parse::message(message, value, unknown)
}

/// Is there a message of this full name or type URL?
pub fn knows(message: &str) -> bool {
    table::Message::find(full_name(message)).is_some()
}

/// What a field of a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldInfo {
    /// It has many values: a list or a map.
    pub is_list: bool,
    /// Full name of the message that its values are, if they are messages.
    pub message: Option<&'static str>,
}

/// The field of this name, in either way, of the message of this full name or type URL.
pub fn field(message: &str, name: &str) -> Option<FieldInfo> {
    let field = table::Message::find(full_name(message))?.field_named(name)?;
    let message = match field.kind {
        table::Kind::Message(message) => Some(message.name()),
        _ => None,
    };
    Some(FieldInfo { is_list: field.repeated(), message })
}

/// What the values of a field are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Numbers of any sort.
    Number,
    /// `true` or `false`.
    Flag,
    /// Text.
    Text,
    /// Bytes.
    Bytes,
    /// Names of an enumeration.
    Enumeration(Enumeration),
    /// Messages of this full name.
    Message(&'static str),
}

/// An enumeration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enumeration(table::Enum);

impl Enumeration {
    /// The names of its values, in order of declaration.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        self.0.names()
    }
}

/// A field, for whoever walks messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldShape {
    /// Its name in the `.proto` file.
    pub name: &'static str,
    /// It has many values: a list, or a map.
    pub is_list: bool,
    /// It is a map: its values are messages of a key and a value.
    pub is_map: bool,
    /// Which oneof of its message it belongs to: others of the same exclude it.
    pub oneof: Option<u8>,
    /// What its values are.
    pub content: Content,
}

/// The full names of all messages, sorted.
pub fn messages() -> impl Iterator<Item = &'static str> {
    table::Message::all().map(table::Message::name)
}

/// The fields of the message of this full name or type URL, by number; none if there is no such message.
pub fn fields(message: &str) -> Vec<FieldShape> {
    let fields = table::Message::find(full_name(message)).map(table::Message::fields);
    let shape = |field: table::Field| FieldShape {
        name: field.name,
        is_list: field.repeated(),
        is_map: field.map(),
        oneof: field.oneof,
        content: match field.kind {
            table::Kind::Bool => Content::Flag,
            table::Kind::String => Content::Text,
            table::Kind::Bytes => Content::Bytes,
            table::Kind::Enum(of) => Content::Enumeration(Enumeration(of)),
            table::Kind::Message(message) => Content::Message(message.name()),
            _ => Content::Number,
        },
    };
    fields.into_iter().flatten().map(shape).collect()
}

/// A moment, in seconds since 1970 and nanoseconds, as JSON has it; nothing outside the years 1 to 9999.
pub fn timestamp(seconds: i64, nanos: i32) -> Option<String> {
    known::timestamp(seconds, nanos)
}

/// A message as a JSON tree.
///
/// # Errors
/// If its bytes are not what its type says: only an `Any` within it can be so.
pub fn message_to_value<M: prost::Message + Name>(message: &M) -> Result<Value, WireError> {
    wire_to_value(&M::full_name(), &message.encode_to_vec())
}

/// The bytes of the message of this full name or type URL as a JSON tree.
///
/// # Errors
/// If there is no such message, or these bytes are none.
pub fn wire_to_value(message: &str, wire: &[u8]) -> Result<Value, WireError> {
    let mut tree = Tree::default();
    print::message(message, wire, &mut tree)?;
    Ok(tree.finish())
}

/// What an `Any` of this type URL and value holds, as a JSON tree; [`write_any`] says how.
pub fn any_to_value(type_url: &str, wire: &[u8]) -> Value {
    let mut tree = Tree::default();
    if print::any(type_url, wire, &mut tree).is_err() {
        tree = Tree::default();
        print::opaque(type_url, wire, &mut tree);
    }
    tree.finish()
}

/// Appends what an `Any` of this type URL and value holds as JSON text: `@type` first, then the fields. A message of a type that
/// the table lacks, or bytes that are none of it, are written as `@type` and `value`, in base64.
///
/// `level` is how deep in a document the text will stand, for [`Style::Pretty`].
pub fn write_any(out: &mut Vec<u8>, type_url: &str, wire: &[u8], style: Style, level: usize) {
    let before = out.len();
    if print::any(type_url, wire, &mut Text::new(out, style, level)).is_err() {
        out.truncate(before);
        print::opaque(type_url, wire, &mut Text::new(out, style, level));
    }
}

/// Appends a message as JSON text; see [`write_any`].
///
/// # Errors
/// As [`wire_to_value`]; `out` is as it was then.
pub fn write_message(
    out: &mut Vec<u8>,
    message: &str,
    wire: &[u8],
    style: Style,
    level: usize,
) -> Result<(), WireError> {
    let before = out.len();
    let written = print::message(message, wire, &mut Text::new(out, style, level));
    if written.is_err() {
        out.truncate(before);
    }
    written
}

/// Appends a JSON tree as text.
pub fn write_value(out: &mut Vec<u8>, value: &Value, style: Style, level: usize) {
    sink::value(value, &mut Text::new(out, style, level));
}

/// What follows the last `/` of a type URL.
fn full_name(type_url: &str) -> &str {
    type_url.rsplit_once('/').map_or(type_url, |(_, name)| name)
}
