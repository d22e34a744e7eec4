//! The messages, their fields and their enumerations, in a table that is part of the program's text.
//!
//! Nothing is loaded: a look-up is a binary search in the file `table.bin`, which `tests/table.rs` makes from the
//! `.proto` files that the crate `envoy-types` carries and from those in the folder `proto` (Istio's filters), and compares with them. Pages nobody looks at are not resident.
//!
//! Layout, all numbers little-endian: magic `OEJ1`; counts of messages, fields, enumerations, values (u32 each); then
//! * messages by name: name offset u32, first field u32, name length u16, field count u16, special u8, 3 unused;
//! * fields, by number within their message: number u32, name offset u32, type u16 (index of the message or enumeration), kind u8, flags
//!   u8, name length u8, oneof u8 (0: none), 2 unused;
//! * enumerations: first value u32, count u16, 2 unused;
//! * values in order of declaration: number i32, name offset u32, name length u16, 2 unused;
//! * names; offsets count from their begin.

static TABLE: &[u8] = include_bytes!("../table.bin");

const HEADER: usize = 20;
const MESSAGE: usize = 16;
const FIELD: usize = 16;
const ENUM: usize = 8;
const VALUE: usize = 12;

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Double,
    Float,
    Int64,
    Uint64,
    Int32,
    Uint32,
    Fixed64,
    Fixed32,
    Sfixed64,
    Sfixed32,
    Sint64,
    Sint32,
    Bool,
    String,
    Bytes,
    Enum(Enum),
    Message(Message),
}

/// Messages that JSON writes in a way of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Special {
    Any,
    Struct,
    Value,
    ListValue,
    Duration,
    Timestamp,
    FieldMask,
    /// `BoolValue` and its like: as the one field it has.
    Wrapper,
}

/// A message type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Message(u16);

/// An enumeration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Enum(u16);

/// A field of a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    pub number: u32,
    pub name: &'static str,
    pub kind: Kind,
    /// Which oneof of its message it belongs to.
    pub oneof: Option<u8>,
    flags: u8,
}

impl Field {
    pub fn repeated(&self) -> bool {
        self.flags & 1 != 0
    }

    /// A map: repeated messages of a key (field 1) and a value (field 2).
    pub fn map(&self) -> bool {
        self.flags & 2 != 0
    }

    pub fn packed(&self) -> bool {
        self.flags & 4 != 0
    }

    /// Is a default value that is set something else than no value?
    pub fn presence(&self) -> bool {
        self.flags & 8 != 0
    }

    /// The name in lowerCamelCase, as JSON has it by default, and the one of the `.proto` file are both good.
    pub fn is_named(&self, key: &str) -> bool {
        self.name == key || is_camel_of(self.name, key)
    }
}

fn is_camel_of(snake: &str, camel: &str) -> bool {
    let mut camel = camel.bytes();
    let mut raise = false;
    for byte in snake.bytes() {
        if byte == b'_' {
            raise = true;
            continue;
        }
        let wanted = if raise { byte.to_ascii_uppercase() } else { byte };
        raise = false;
        if camel.next() != Some(wanted) {
            return false;
        }
    }
    camel.next().is_none()
}

impl Message {
    /// By full name.
    pub fn find(name: &str) -> Option<Message> {
        let (mut low, mut high) = (0, count(0));
        while low < high {
            let middle = low + (high - low) / 2;
            let message = Message(u16::try_from(middle).ok()?);
            match message.name().cmp(name) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Some(message),
            }
        }
        None
    }

    /// All of them, sorted by name.
    pub fn all() -> impl Iterator<Item = Message> {
        (0..count(0)).filter_map(|at| u16::try_from(at).ok().map(Message))
    }

    fn at(self) -> usize {
        HEADER + usize::from(self.0) * MESSAGE
    }

    /// Full name.
    pub fn name(self) -> &'static str {
        let at = self.at();
        text(u32_at(at), usize::from(u16_at(at + 8)))
    }

    pub fn special(self) -> Option<Special> {
        Some(match byte_at(self.at() + 12) {
            1 => Special::Any,
            2 => Special::Struct,
            3 => Special::Value,
            4 => Special::ListValue,
            5 => Special::Duration,
            6 => Special::Timestamp,
            7 => Special::FieldMask,
            8 => Special::Wrapper,
            _ => return None,
        })
    }

    /// In order of their numbers.
    pub fn fields(self) -> impl Iterator<Item = Field> {
        let first = index(u32_at(self.at() + 4));
        let fields = first..first + usize::from(u16_at(self.at() + 10));
        fields.map(field)
    }

    /// By either of its names.
    pub fn field_named(self, key: &str) -> Option<Field> {
        self.fields().find(|field| field.is_named(key))
    }

    pub fn field_numbered(self, number: u32) -> Option<Field> {
        self.fields().find(|field| field.number == number)
    }
}

impl Enum {
    fn values(self) -> impl Iterator<Item = (i32, &'static str)> {
        let at = enums_at() + usize::from(self.0) * ENUM;
        let first = index(u32_at(at));
        let values = enums_at() + count(2) * ENUM;
        (first..first + usize::from(u16_at(at + 4))).map(move |value| {
            let at = values + value * VALUE;
            (u32_at(at).cast_signed(), text(u32_at(at + 4), usize::from(u16_at(at + 8))))
        })
    }

    /// In order of declaration.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        self.values().map(|(_, name)| name)
    }

    /// The first name of a number.
    pub fn name_of(self, number: i32) -> Option<&'static str> {
        self.values().find(|(known, _)| *known == number).map(|(_, name)| name)
    }

    /// Protobuf's readers, Envoy's among them, do not mind case.
    pub fn number_of(self, name: &str) -> Option<i32> {
        self.values().find(|(_, known)| known.eq_ignore_ascii_case(name)).map(|(number, _)| number)
    }

    /// `google.protobuf.NullValue`, the only enumeration whose values are `null` in JSON.
    pub fn is_null_value(self) -> bool {
        self.number_of("NULL_VALUE").is_some()
    }
}

fn field(field: usize) -> Field {
    let at = fields_at() + field * FIELD;
    let of = u16_at(at + 8);
    let kind = match byte_at(at + 10) {
        1 => Kind::Double,
        2 => Kind::Float,
        3 => Kind::Int64,
        4 => Kind::Uint64,
        5 => Kind::Int32,
        6 => Kind::Fixed64,
        7 => Kind::Fixed32,
        8 => Kind::Bool,
        9 => Kind::String,
        11 => Kind::Message(Message(of)),
        13 => Kind::Uint32,
        14 => Kind::Enum(Enum(of)),
        15 => Kind::Sfixed32,
        16 => Kind::Sfixed64,
        17 => Kind::Sint32,
        18 => Kind::Sint64,
        // 12 is bytes; 10, groups, proto3 does not have.
        _ => Kind::Bytes,
    };
    let oneof = byte_at(at + 13);
    Field {
        number: u32_at(at),
        name: text(u32_at(at + 4), usize::from(byte_at(at + 12))),
        kind,
        oneof: (oneof != 0).then_some(oneof),
        flags: byte_at(at + 11),
    }
}

fn fields_at() -> usize {
    HEADER + count(0) * MESSAGE
}

fn enums_at() -> usize {
    fields_at() + count(1) * FIELD
}

fn text(offset: u32, length: usize) -> &'static str {
    let names = enums_at() + count(2) * ENUM + count(3) * VALUE;
    let start = names + index(offset);
    TABLE.get(start..start + length).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
}

/// Number of messages (0), fields (1), enumerations (2), values (3).
fn count(of: usize) -> usize {
    index(u32_at(4 + of * 4))
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or_default()
}

fn bytes_at<const N: usize>(at: usize) -> [u8; N] {
    TABLE.get(at..at + N).and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; N])
}

fn u32_at(at: usize) -> u32 {
    u32::from_le_bytes(bytes_at(at))
}

fn u16_at(at: usize) -> u16 {
    u16::from_le_bytes(bytes_at(at))
}

fn byte_at(at: usize) -> u8 {
    let [byte] = bytes_at(at);
    byte
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn camel_case_is_the_other_name() {
        assert!(
            is_camel_of("connect_timeout", "connectTimeout")
                && is_camel_of("http2_protocol", "http2Protocol")
        );
        for wrong in ["connect_timeout", "connecttimeout", "connectTimeoutX", "connectTime", ""] {
            assert!(!is_camel_of("connect_timeout", wrong), "{wrong}");
        }
    }

    #[test]
    fn a_message_is_found_by_name() {
        let cluster = Message::find("envoy.config.cluster.v3.Cluster").unwrap();
        assert_eq!(cluster.name(), "envoy.config.cluster.v3.Cluster");
        let timeout = cluster.field_named("connectTimeout").unwrap();
        assert_eq!((timeout.name, timeout.number), ("connect_timeout", 4));
        let Kind::Message(duration) = timeout.kind else { panic!("{timeout:?}") };
        assert_eq!(duration.special(), Some(Special::Duration));
        let Kind::Enum(policy) = cluster.field_named("lb_policy").unwrap().kind else { panic!("lb_policy") };
        assert_eq!((policy.number_of("RING_HASH"), policy.name_of(2)), (Some(2), Some("RING_HASH")));
        assert!(Message::find("envoy.config.cluster.v3.Clust").is_none() && Message::find("").is_none());
    }
}
