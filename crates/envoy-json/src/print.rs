//! Wire bytes to JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::error::WireError;
use crate::parse::TYPE;
use crate::sink::Sink;
use crate::table::{Field, Kind, Message, Special};
use crate::wire::{Malformed, Raw, Reader, last, unzigzag};
use crate::{DEPTH_MAX, full_name, known, number};

/// A message of this full name or type URL.
pub(crate) fn message(name: &str, wire: &[u8], sink: &mut impl Sink) -> Result<(), WireError> {
    let message = Message::find(full_name(name)).ok_or_else(|| WireError::UnknownType(name.to_owned()))?;
    Printer { depth: 0 }.message(message, wire, sink)
}

/// An Any of this type URL and value.
pub(crate) fn any(type_url: &str, wire: &[u8], sink: &mut impl Sink) -> Result<(), WireError> {
    Printer { depth: 0 }.unpacked(type_url, wire, sink)
}

/// What is left of an Any whose type is not known.
pub(crate) fn opaque(type_url: &str, wire: &[u8], sink: &mut impl Sink) {
    sink.begin_object();
    sink.key(TYPE);
    sink.string(type_url);
    sink.key("value");
    sink.string(&STANDARD.encode(wire));
    sink.end_object();
}

struct Printer {
    depth: usize,
}

/// The fields of a message, known ones only, in the order of their numbers.
type Fields<'a> = Vec<(Field, Raw<'a>)>;

impl Printer {
    fn message(&mut self, message: Message, wire: &[u8], sink: &mut impl Sink) -> Result<(), WireError> {
        if self.depth >= DEPTH_MAX {
            return Err(WireError::Depth);
        }
        self.depth += 1;
        match message.special() {
            Some(special) => self.special(message, special, wire, sink)?,
            None => {
                sink.begin_object();
                self.members(message, wire, sink)?;
                sink.end_object();
            }
        }
        self.depth -= 1;
        Ok(())
    }

    /// Keys and values of a message's fields.
    fn members(&mut self, message: Message, wire: &[u8], sink: &mut impl Sink) -> Result<(), WireError> {
        let fields = fields(message, wire).map_err(|Malformed| WireError::Malformed(message.name()))?;
        for group in fields.chunk_by(|(a, _), (b, _)| a.number == b.number) {
            let Some((field, _)) = group.first() else { continue };
            self.field(*field, group, sink).map_err(|error| match error {
                Fault::Malformed => WireError::Malformed(message.name()),
                Fault::Within(error) => error,
            })?;
        }
        Ok(())
    }

    /// A field, all of whose values are given.
    fn field(
        &mut self,
        field: Field,
        values: &[(Field, Raw<'_>)],
        sink: &mut impl Sink,
    ) -> Result<(), Fault> {
        if field.map() {
            sink.key(field.name);
            sink.begin_object();
            for (_, entry) in values {
                self.entry(field, *entry, sink)?;
            }
            sink.end_object();
        } else if field.repeated() {
            sink.key(field.name);
            sink.begin_list();
            for (_, value) in values {
                self.item(field, *value, sink)?;
            }
            sink.end_list();
        } else if let (Kind::Message(message), [_, _, ..]) = (field.kind, values) {
            // Parts of one message: to append is to merge.
            let mut merged = Vec::new();
            for (_, value) in values {
                merged.extend_from_slice(bytes(*value)?);
            }
            sink.key(field.name);
            self.message(message, &merged, sink)?;
        } else if let Some((_, value)) = values.last()
            && (field.presence() || !is_default(*value))
        {
            sink.key(field.name);
            self.single(field.kind, *value, sink)?;
        }
        Ok(())
    }

    fn entry(&mut self, field: Field, entry: Raw<'_>, sink: &mut impl Sink) -> Result<(), Fault> {
        let Kind::Message(message) = field.kind else { return Err(Fault::Malformed) };
        let wire = bytes(entry)?;
        let (Some(key), Some(value)) = (message.field_numbered(1), message.field_numbered(2)) else {
            return Err(Fault::Malformed);
        };
        let text = match scalar(key.kind, last(wire, 1)?.unwrap_or_else(|| default(key.kind)))? {
            Value::String(text) => text,
            other => other.to_string(),
        };
        sink.key(&text);
        self.single(value.kind, last(wire, 2)?.unwrap_or_else(|| default(value.kind)), sink)
    }

    /// A value of a list, or many of them packed.
    fn item(&mut self, field: Field, value: Raw<'_>, sink: &mut impl Sink) -> Result<(), Fault> {
        let scalar = !matches!(field.kind, Kind::String | Kind::Bytes | Kind::Message(_));
        let (true, Raw::Bytes(packed)) = (scalar, value) else { return self.single(field.kind, value, sink) };
        let mut reader = Reader::new(packed);
        while !reader.is_empty() {
            let value = match default(field.kind) {
                Raw::Fixed64(_) => Raw::Fixed64(reader.fixed64()?),
                Raw::Fixed32(_) => Raw::Fixed32(reader.fixed32()?),
                _ => Raw::Varint(reader.varint()?),
            };
            self.single(field.kind, value, sink)?;
        }
        Ok(())
    }

    fn single(&mut self, kind: Kind, value: Raw<'_>, sink: &mut impl Sink) -> Result<(), Fault> {
        match kind {
            Kind::Message(message) => self.message(message, bytes(value)?, sink)?,
            Kind::String => sink.string(&String::from_utf8_lossy(bytes(value)?)),
            kind => sink.scalar(scalar(kind, value)?),
        }
        Ok(())
    }

    fn special(
        &mut self,
        message: Message,
        special: Special,
        wire: &[u8],
        sink: &mut impl Sink,
    ) -> Result<(), WireError> {
        let done = match special {
            Special::Any => self.any(wire, sink),
            Special::Struct => self.structure(wire, sink),
            Special::Value => self.value(wire, sink),
            Special::ListValue => self.list(wire, sink),
            Special::Duration => seconds_and_nanos(wire).map(|(seconds, nanos)| {
                sink.string(&known::duration(seconds, nanos));
            }),
            Special::Timestamp => seconds_and_nanos(wire).and_then(|(seconds, nanos)| {
                sink.string(&known::timestamp(seconds, nanos).ok_or(Fault::Malformed)?);
                Ok(())
            }),
            Special::FieldMask => mask(wire).map(|paths| sink.string(&paths)),
            Special::Wrapper => self.wrapper(message, wire, sink),
        };
        done.map_err(|fault| match fault {
            Fault::Malformed => WireError::Malformed(message.name()),
            Fault::Within(error) => error,
        })
    }

    fn wrapper(&mut self, message: Message, wire: &[u8], sink: &mut impl Sink) -> Result<(), Fault> {
        let field = message.field_numbered(1).ok_or(Fault::Malformed)?;
        let value = last(wire, 1)?.unwrap_or_else(|| default(field.kind));
        self.single(field.kind, value, sink)
    }

    fn any(&mut self, wire: &[u8], sink: &mut impl Sink) -> Result<(), Fault> {
        let type_url = last(wire, 1)?.map_or(Ok(&[][..]), bytes)?;
        let content = last(wire, 2)?.map_or(Ok(&[][..]), bytes)?;
        if type_url.is_empty() && content.is_empty() {
            sink.begin_object();
            sink.end_object();
            return Ok(());
        }
        self.unpacked(&String::from_utf8_lossy(type_url), content, sink)?;
        Ok(())
    }

    fn unpacked(&mut self, type_url: &str, wire: &[u8], sink: &mut impl Sink) -> Result<(), WireError> {
        let Some(message) = Message::find(full_name(type_url)) else {
            opaque(type_url, wire, sink);
            return Ok(());
        };
        sink.begin_object();
        sink.key(TYPE);
        sink.string(type_url);
        if message.special().is_some() {
            sink.key("value");
            self.message(message, wire, sink)?;
        } else {
            self.members(message, wire, sink)?;
        }
        sink.end_object();
        Ok(())
    }

    fn structure(&mut self, wire: &[u8], sink: &mut impl Sink) -> Result<(), Fault> {
        sink.begin_object();
        let mut reader = Reader::new(wire);
        while let Some((number, entry)) = reader.field()? {
            if number == 1 {
                let entry = bytes(entry)?;
                let key = last(entry, 1)?.map_or(Ok(&[][..]), bytes)?;
                sink.key(&String::from_utf8_lossy(key));
                let value = last(entry, 2)?.map_or(Ok(&[][..]), bytes)?;
                self.nested_value(value, sink)?;
            }
        }
        sink.end_object();
        Ok(())
    }

    fn list(&mut self, wire: &[u8], sink: &mut impl Sink) -> Result<(), Fault> {
        sink.begin_list();
        let mut reader = Reader::new(wire);
        while let Some((number, item)) = reader.field()? {
            if number == 1 {
                self.nested_value(bytes(item)?, sink)?;
            }
        }
        sink.end_list();
        Ok(())
    }

    fn nested_value(&mut self, wire: &[u8], sink: &mut impl Sink) -> Result<(), Fault> {
        if self.depth >= DEPTH_MAX {
            return Err(Fault::Within(WireError::Depth));
        }
        self.depth += 1;
        self.value(wire, sink)?;
        self.depth -= 1;
        Ok(())
    }

    /// The last one said of the kinds of a `google.protobuf.Value`.
    fn value(&mut self, wire: &[u8], sink: &mut impl Sink) -> Result<(), Fault> {
        let mut reader = Reader::new(wire);
        let mut found = None;
        while let Some(field) = reader.field()? {
            if (1..=6).contains(&field.0) {
                found = Some(field);
            }
        }
        match found {
            Some((2, value)) => sink.scalar(scalar(Kind::Double, value)?),
            Some((3, value)) => sink.string(&String::from_utf8_lossy(bytes(value)?)),
            Some((4, value)) => sink.scalar(scalar(Kind::Bool, value)?),
            Some((5, value)) => self.structure(bytes(value)?, sink)?,
            Some((6, value)) => self.list(bytes(value)?, sink)?,
            _ => sink.scalar(Value::Null),
        }
        Ok(())
    }
}

/// What is wrong: with this message, or with one within it that has said so.
enum Fault {
    Malformed,
    Within(WireError),
}

impl From<Malformed> for Fault {
    fn from(Malformed: Malformed) -> Self {
        Fault::Malformed
    }
}

impl From<WireError> for Fault {
    fn from(error: WireError) -> Self {
        Fault::Within(error)
    }
}

/// Of the fields of a oneof the last one counts.
fn fields(message: Message, wire: &[u8]) -> Result<Fields<'_>, Malformed> {
    let mut found: Fields<'_> = Vec::new();
    let mut reader = Reader::new(wire);
    while let Some((number, value)) = reader.field()? {
        let Some(field) = message.field_numbered(number) else { continue };
        if field.oneof.is_some() {
            found.retain(|(other, _)| other.oneof != field.oneof || other.number == number);
        }
        found.push((field, value));
    }
    found.sort_by_key(|(field, _)| field.number);
    Ok(found)
}

fn bytes(value: Raw<'_>) -> Result<&[u8], Fault> {
    match value {
        Raw::Bytes(bytes) => Ok(bytes),
        _ => Err(Fault::Malformed),
    }
}

fn is_default(value: Raw<'_>) -> bool {
    matches!(value, Raw::Varint(0) | Raw::Fixed32(0) | Raw::Fixed64(0) | Raw::Bytes([]))
}

/// What a field has if nothing is said.
fn default(kind: Kind) -> Raw<'static> {
    match kind {
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => Raw::Fixed64(0),
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => Raw::Fixed32(0),
        Kind::String | Kind::Bytes | Kind::Message(_) => Raw::Bytes(&[]),
        _ => Raw::Varint(0),
    }
}

fn scalar(kind: Kind, value: Raw<'_>) -> Result<Value, Fault> {
    #[allow(
        clippy::cast_possible_truncation,
        reason = "32-bit fields keep the low bits of what is sent, as everywhere"
    )]
    Ok(match (kind, value) {
        (Kind::Double, Raw::Fixed64(bits)) => number::from_floating(f64::from_bits(bits)),
        (Kind::Float, Raw::Fixed32(bits)) => number::from_single(f32::from_bits(bits)),
        (Kind::Int64, Raw::Varint(n)) => Value::from(n.cast_signed().to_string()),
        (Kind::Uint64, Raw::Varint(n)) | (Kind::Fixed64, Raw::Fixed64(n)) => Value::from(n.to_string()),
        (Kind::Sint64, Raw::Varint(n)) => Value::from(unzigzag(n).to_string()),
        (Kind::Sfixed64, Raw::Fixed64(n)) => Value::from(n.cast_signed().to_string()),
        (Kind::Int32, Raw::Varint(n)) => Value::from(n as i32),
        (Kind::Uint32, Raw::Varint(n)) => Value::from(n as u32),
        (Kind::Sint32, Raw::Varint(n)) => Value::from(unzigzag(n) as i32),
        (Kind::Fixed32, Raw::Fixed32(n)) => Value::from(n),
        (Kind::Sfixed32, Raw::Fixed32(n)) => Value::from(n.cast_signed()),
        (Kind::Bool, Raw::Varint(n)) => Value::from(n != 0),
        (Kind::String, Raw::Bytes(text)) => Value::from(String::from_utf8_lossy(text)),
        (Kind::Bytes, Raw::Bytes(bytes)) => Value::from(STANDARD.encode(bytes)),
        (Kind::Enum(of), Raw::Varint(_)) if of.is_null_value() => Value::Null,
        (Kind::Enum(of), Raw::Varint(n)) => {
            of.name_of(n as i32).map_or_else(|| Value::from(n as i32), Value::from)
        }
        _ => return Err(Fault::Malformed),
    })
}

fn seconds_and_nanos(wire: &[u8]) -> Result<(i64, i32), Fault> {
    let part = |number| match last(wire, number)? {
        None => Ok(0),
        Some(Raw::Varint(n)) => Ok(n.cast_signed()),
        Some(_) => Err(Fault::Malformed),
    };
    #[allow(clippy::cast_possible_truncation, reason = "a 32-bit field keeps the low bits of what is sent")]
    Ok((part(1)?, part(2)? as i32))
}

fn mask(wire: &[u8]) -> Result<String, Fault> {
    let mut paths = Vec::new();
    let mut reader = Reader::new(wire);
    while let Some((number, path)) = reader.field()? {
        if number == 1 {
            paths.push(known::camel(&String::from_utf8_lossy(bytes(path)?)));
        }
    }
    Ok(paths.join(","))
}
