//! JSON to wire bytes.

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Map, Value};

use crate::error::{JsonError, JsonReason};
use crate::table::{Enum, Field, Kind, Message, Special};
use crate::wire::{Made, zigzag};
use crate::{DEPTH_MAX, UNKNOWN_TOLD_MAX, full_name, known, number};

/// What becomes of fields that a message does not have.
#[derive(Debug)]
pub enum Unknown<'a> {
    /// They are an error, as in Envoy's static configuration.
    Refuse,
    /// They are left out; the paths of the first [`UNKNOWN_TOLD_MAX`] are added here.
    Collect(&'a mut Vec<String>),
}

/// The bytes of a message.
pub(crate) fn message(name: &str, value: &Value, unknown: Unknown<'_>) -> Result<Vec<u8>, JsonError> {
    let mut parser = Parser { path: Vec::new(), unknown };
    let Some(message) = Message::find(full_name(name)) else {
        return Err(parser.error(JsonReason::UnknownType(name.to_owned())));
    };
    parser.message(message, value)
}

enum Segment<'v> {
    Field(&'v str),
    Index(usize),
}

struct Parser<'v, 'u> {
    path: Vec<Segment<'v>>,
    unknown: Unknown<'u>,
}

impl<'v> Parser<'v, '_> {
    fn at(&self) -> String {
        let mut out = String::new();
        for segment in &self.path {
            match segment {
                Segment::Field(name) => {
                    if !out.is_empty() {
                        out.push('.');
                    }
                    out.push_str(name);
                }
                Segment::Index(index) => out.push_str(&format!("[{index}]")),
            }
        }
        out
    }

    fn error(&self, reason: JsonReason) -> JsonError {
        JsonError::new(self.at(), reason)
    }

    fn expected(&self, wanted: &'static str, found: &Value) -> JsonError {
        self.error(JsonReason::Expected { wanted, found: shortened(found) })
    }

    fn within<T>(
        &mut self,
        segment: Segment<'v>,
        inner: impl FnOnce(&mut Self) -> Result<T, JsonError>,
    ) -> Result<T, JsonError> {
        if self.path.len() + 1 >= DEPTH_MAX {
            return Err(self.error(JsonReason::Depth));
        }
        self.path.push(segment);
        let done = inner(self)?;
        self.path.pop();
        Ok(done)
    }

    /// The content of a message; a special one by its own rules.
    fn message(&mut self, message: Message, value: &'v Value) -> Result<Vec<u8>, JsonError> {
        match message.special() {
            Some(special) => self.special(message, special, value),
            None => match value {
                Value::Object(members) => self.members(message, members, None),
                _ => Err(self.expected("an object", value)),
            },
        }
    }

    /// The fields of a message, in the order of their numbers; `skip` is a key that is none of them.
    fn members(
        &mut self,
        message: Message,
        members: &'v Map<String, Value>,
        skip: Option<&str>,
    ) -> Result<Vec<u8>, JsonError> {
        let mut fields: Vec<(Field, &'v str, &'v Value)> = Vec::with_capacity(members.len());
        for (key, value) in members.iter().filter(|(key, _)| Some(key.as_str()) != skip) {
            match message.field_named(key) {
                None => self.within(Segment::Field(key), |parser| parser.unknown_field(message))?,
                Some(field) if value.is_null() && !takes_null(field) => {}
                Some(field) => fields.push((field, key, value)),
            }
        }
        fields.sort_by_key(|(field, ..)| field.number);
        // By both of its names: the later one counts, as in Envoy.
        fields.reverse();
        fields.dedup_by_key(|(field, ..)| field.number);
        fields.reverse();
        self.check_exclusion(&fields)?;
        let mut out = Vec::new();
        for (field, key, value) in fields {
            self.within(Segment::Field(key), |parser| parser.field(field, value, &mut out))?;
        }
        Ok(out)
    }

    fn unknown_field(&mut self, message: Message) -> Result<(), JsonError> {
        let path = self.at();
        match &mut self.unknown {
            Unknown::Refuse => Err(JsonError::new(path, JsonReason::UnknownField(message.name()))),
            Unknown::Collect(told) => {
                if told.len() < UNKNOWN_TOLD_MAX {
                    told.push(path);
                }
                Ok(())
            }
        }
    }

    /// No two fields of one oneof.
    fn check_exclusion(&mut self, fields: &[(Field, &'v str, &'v Value)]) -> Result<(), JsonError> {
        for (at, (field, key, _)) in
            fields.iter().enumerate().filter(|(_, (field, ..))| field.oneof.is_some())
        {
            if let Some((other, ..)) = fields.iter().take(at).find(|(other, ..)| other.oneof == field.oneof) {
                let reason = JsonReason::Excludes(other.name);
                return self.within(Segment::Field(key), |parser| Err(parser.error(reason)));
            }
        }
        Ok(())
    }

    fn field(&mut self, field: Field, value: &'v Value, out: &mut Vec<u8>) -> Result<(), JsonError> {
        if field.map() {
            return self.map(field, value, out);
        }
        if !field.repeated() {
            let made = self.single(field.kind, value)?;
            if field.presence() || !made.is_default() {
                made.write(field.number, out);
            }
            return Ok(());
        }
        // Envoy takes a single value for a list of one.
        let items = match value {
            Value::Array(items) => items,
            other => std::slice::from_ref(other),
        };
        let mut packed = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let made = self.within(Segment::Index(index), |parser| parser.element(field.kind, item))?;
            if field.packed() {
                made.write_bare(&mut packed);
            } else {
                made.write(field.number, out);
            }
        }
        if !packed.is_empty() {
            Made::Bytes(packed).write(field.number, out);
        }
        Ok(())
    }

    fn map(&mut self, field: Field, value: &'v Value, out: &mut Vec<u8>) -> Result<(), JsonError> {
        let Value::Object(members) = value else { return Err(self.expected("an object", value)) };
        let Kind::Message(entry) = field.kind else { return Ok(()) };
        let (Some(key_field), Some(value_field)) = (entry.field_numbered(1), entry.field_numbered(2)) else {
            return Ok(());
        };
        for (key, member) in members {
            let entry = self.within(Segment::Field(key), |parser| {
                let mut entry = Vec::new();
                parser.map_key(key_field.kind, key)?.write(1, &mut entry);
                parser.element(value_field.kind, member)?.write(2, &mut entry);
                Ok(entry)
            })?;
            Made::Bytes(entry).write(field.number, out);
        }
        Ok(())
    }

    fn map_key(&self, kind: Kind, key: &str) -> Result<Made, JsonError> {
        match kind {
            Kind::String => Ok(Made::Bytes(key.as_bytes().to_vec())),
            Kind::Bool => match key {
                "true" => Ok(Made::Varint(1)),
                "false" => Ok(Made::Varint(0)),
                _ => Err(self.expected("true or false", &Value::from(key))),
            },
            kind => self.integer(kind, &Value::from(key)),
        }
    }

    /// One value of a list or map; `null` is a message that says nothing.
    fn element(&mut self, kind: Kind, value: &'v Value) -> Result<Made, JsonError> {
        match (kind, value) {
            (Kind::Message(message), Value::Null) if message.special() != Some(Special::Value) => {
                Ok(Made::Bytes(Vec::new()))
            }
            _ => self.single(kind, value),
        }
    }

    /// One value of a field.
    fn single(&mut self, kind: Kind, value: &'v Value) -> Result<Made, JsonError> {
        match kind {
            Kind::Message(message) => self.message(message, value).map(Made::Bytes),
            Kind::Enum(of) => self.enumeration(of, value),
            Kind::String => match value {
                Value::String(text) => Ok(Made::Bytes(text.as_bytes().to_vec())),
                _ => Err(self.expected("a string", value)),
            },
            Kind::Bytes => match value {
                Value::String(text) => decode_base64(text)
                    .map(Made::Bytes)
                    .ok_or_else(|| self.expected("bytes in base64", value)),
                _ => Err(self.expected("bytes in base64", value)),
            },
            Kind::Bool => flag(value)
                .map(|flag| Made::Varint(u64::from(flag)))
                .ok_or_else(|| self.expected("true or false", value)),
            Kind::Double => self.floating(value).map(|value| Made::Fixed64(value.to_bits())),
            Kind::Float => {
                let wide = self.floating(value)?;
                #[allow(
                    clippy::cast_possible_truncation,
                    reason = "what does not fit becomes infinite, which is seen"
                )]
                let narrow = wide as f32;
                if narrow.is_infinite() && wide.is_finite() {
                    return Err(self.error(JsonReason::Range(shortened(value))));
                }
                Ok(Made::Fixed32(narrow.to_bits()))
            }
            kind => self.integer(kind, value),
        }
    }

    fn floating(&self, value: &Value) -> Result<f64, JsonError> {
        number::floating(value).ok_or_else(|| self.expected("a number", value))
    }

    fn enumeration(&self, of: Enum, value: &Value) -> Result<Made, JsonError> {
        let number = match value {
            Value::String(name) => of
                .number_of(name)
                .or_else(|| name.parse().ok())
                .ok_or_else(|| self.error(JsonReason::UnknownValue(name.clone())))?,
            Value::Null if of.is_null_value() => 0,
            Value::Number(_) => {
                let number =
                    number::whole(value).ok_or_else(|| self.expected("a name or whole number", value))?;
                i32::try_from(number).map_err(|_| self.error(JsonReason::Range(shortened(value))))?
            }
            _ => return Err(self.expected("a name", value)),
        };
        Ok(Made::Varint(i64::from(number).cast_unsigned()))
    }

    fn integer(&self, kind: Kind, value: &Value) -> Result<Made, JsonError> {
        let number = number::whole(value).ok_or_else(|| self.expected("a whole number", value))?;
        let made = match kind {
            Kind::Int32 => i32::try_from(number).ok().map(|n| Made::Varint(i64::from(n).cast_unsigned())),
            Kind::Int64 => i64::try_from(number).ok().map(|n| Made::Varint(n.cast_unsigned())),
            Kind::Uint32 => u32::try_from(number).ok().map(|n| Made::Varint(u64::from(n))),
            Kind::Uint64 => u64::try_from(number).ok().map(Made::Varint),
            Kind::Sint32 => i32::try_from(number).ok().map(|n| Made::Varint(zigzag(i64::from(n)))),
            Kind::Sint64 => i64::try_from(number).ok().map(|n| Made::Varint(zigzag(n))),
            Kind::Fixed32 => u32::try_from(number).ok().map(Made::Fixed32),
            Kind::Fixed64 => u64::try_from(number).ok().map(Made::Fixed64),
            Kind::Sfixed32 => i32::try_from(number).ok().map(|n| Made::Fixed32(n.cast_unsigned())),
            Kind::Sfixed64 => i64::try_from(number).ok().map(|n| Made::Fixed64(n.cast_unsigned())),
            // The others are not asked for.
            _ => None,
        };
        made.ok_or_else(|| self.error(JsonReason::Range(shortened(value))))
    }

    fn special(
        &mut self,
        message: Message,
        special: Special,
        value: &'v Value,
    ) -> Result<Vec<u8>, JsonError> {
        match (special, value) {
            (Special::Any, Value::Object(members)) => self.any(members),
            (Special::Any, _) => Err(self.expected("an object with @type", value)),
            (Special::Struct, Value::Object(members)) => self.structure(members),
            (Special::Struct, _) => Err(self.expected("an object", value)),
            (Special::ListValue, Value::Array(items)) => self.list(items),
            (Special::ListValue, _) => Err(self.expected("a list", value)),
            (Special::Value, _) => self.value(value),
            (Special::Duration, Value::String(text)) => known::parse_duration(text)
                .map(seconds_and_nanos)
                .ok_or_else(|| self.expected("a duration like 1.5s", value)),
            // The message's own fields are taken, too.
            (Special::Duration | Special::Timestamp, Value::Object(members)) => {
                self.members(message, members, None)
            }
            (Special::Duration, _) => Err(self.expected("a duration like 1.5s", value)),
            (Special::Timestamp, Value::String(text)) => known::parse_timestamp(text)
                .map(seconds_and_nanos)
                .ok_or_else(|| self.expected("a moment like 2000-01-01T00:00:00Z", value)),
            (Special::Timestamp, _) => Err(self.expected("a moment like 2000-01-01T00:00:00Z", value)),
            (Special::FieldMask, Value::String(text)) => {
                field_mask(text).ok_or_else(|| self.expected("paths in camelCase", value))
            }
            (Special::FieldMask, _) => Err(self.expected("paths in camelCase", value)),
            (Special::Wrapper, _) => {
                let mut out = Vec::new();
                if let Some(field) = message.field_numbered(1) {
                    self.field(field, value, &mut out)?;
                }
                Ok(out)
            }
        }
    }

    /// A message packed with its type. `{}` is an Any of nothing.
    fn any(&mut self, members: &'v Map<String, Value>) -> Result<Vec<u8>, JsonError> {
        let mut out = Vec::new();
        if members.is_empty() {
            return Ok(out);
        }
        let Some(Value::String(type_url)) = members.get(TYPE) else {
            return Err(self.expected("a message type in @type", members.get(TYPE).unwrap_or(&Value::Null)));
        };
        let Some(message) =
            Message::find(full_name(type_url)).filter(|_| type_url.find('/').is_some_and(|at| at > 0))
        else {
            return self.within(Segment::Field(TYPE), |parser| {
                Err(parser.error(JsonReason::UnknownType(type_url.clone())))
            });
        };
        let content = match message.special() {
            None => self.members(message, members, Some(TYPE))?,
            Some(special) => {
                let Some(value) = members.get("value") else {
                    return Err(self.expected("the message in \"value\"", &Value::Null));
                };
                if let Some(other) = members.keys().find(|key| *key != TYPE && *key != "value") {
                    self.within(Segment::Field(other), |parser| parser.unknown_field(message))?;
                }
                self.within(Segment::Field("value"), |parser| parser.special(message, special, value))?
            }
        };
        Made::Bytes(type_url.as_bytes().to_vec()).write(1, &mut out);
        if !content.is_empty() {
            Made::Bytes(content).write(2, &mut out);
        }
        Ok(out)
    }

    /// `google.protobuf.Struct`: any object.
    fn structure(&mut self, members: &'v Map<String, Value>) -> Result<Vec<u8>, JsonError> {
        let mut out = Vec::new();
        for (key, member) in members {
            let value = self.within(Segment::Field(key), |parser| parser.value(member))?;
            let mut entry = Vec::new();
            Made::Bytes(key.as_bytes().to_vec()).write(1, &mut entry);
            Made::Bytes(value).write(2, &mut entry);
            Made::Bytes(entry).write(1, &mut out);
        }
        Ok(out)
    }

    fn list(&mut self, items: &'v [Value]) -> Result<Vec<u8>, JsonError> {
        let mut out = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let value = self.within(Segment::Index(index), |parser| parser.value(item))?;
            Made::Bytes(value).write(1, &mut out);
        }
        Ok(out)
    }

    /// `google.protobuf.Value`: any JSON.
    fn value(&mut self, value: &'v Value) -> Result<Vec<u8>, JsonError> {
        let mut out = Vec::new();
        match value {
            Value::Null => Made::Varint(0).write(1, &mut out),
            Value::Number(_) => {
                let number = number::floating(value).ok_or_else(|| self.expected("a number", value))?;
                Made::Fixed64(number.to_bits()).write(2, &mut out);
            }
            Value::String(text) => Made::Bytes(text.as_bytes().to_vec()).write(3, &mut out),
            Value::Bool(value) => Made::Varint(u64::from(*value)).write(4, &mut out),
            Value::Object(members) => Made::Bytes(self.structure(members)?).write(5, &mut out),
            Value::Array(items) => Made::Bytes(self.list(items)?).write(6, &mut out),
        }
        Ok(out)
    }
}

/// Key of the type URL in the JSON of an Any.
pub(crate) const TYPE: &str = "@type";

/// Is `null` a value of this field, and not the lack of one?
fn takes_null(field: Field) -> bool {
    match field.kind {
        Kind::Message(message) => !field.repeated() && message.special() == Some(Special::Value),
        Kind::Enum(of) => !field.repeated() && of.is_null_value(),
        _ => false,
    }
}

/// `true` and `false`, or words for them.
fn flag(value: &Value) -> Option<bool> {
    let is_one_of = |words: [&str; 5], word: &str| words.iter().any(|known| known.eq_ignore_ascii_case(word));
    match value {
        Value::Bool(flag) => Some(*flag),
        Value::String(word) if is_one_of(["true", "t", "yes", "y", "1"], word) => Some(true),
        Value::String(word) if is_one_of(["false", "f", "no", "n", "0"], word) => Some(false),
        _ => None,
    }
}

fn seconds_and_nanos((seconds, nanos): (i64, i32)) -> Vec<u8> {
    let mut out = Vec::new();
    for (number, value) in [(1, seconds), (2, i64::from(nanos))] {
        if value != 0 {
            Made::Varint(value.cast_unsigned()).write(number, &mut out);
        }
    }
    out
}

fn field_mask(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    for path in text.split(',').filter(|path| !path.is_empty()) {
        Made::Bytes(known::snake(path)?.into_bytes()).write(1, &mut out);
    }
    Some(out)
}

/// Both alphabets, with and without padding.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    let alphabet = if text.contains(['-', '_']) { URL_SAFE } else { STANDARD };
    GeneralPurpose::new(&alphabet, LENIENT).decode(text).ok()
}

/// A value for a message: its begin.
fn shortened(value: &Value) -> String {
    const SHOWN: usize = 40;
    match value {
        Value::Object(_) => "an object".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Null => "nothing".to_owned(),
        value => {
            let text = value.to_string();
            match text.char_indices().nth(SHOWN) {
                Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
                None => text,
            }
        }
    }
}
