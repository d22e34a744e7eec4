//! The table is what the `.proto` files of `envoy-types`, and ours, say. `OSTRO_BLESS=1` writes it anew.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test's helpers fail the test by panicking")]

mod protos;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use prost_reflect::prost_types::field_descriptor_proto::{Label, Type};
use prost_reflect::prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet,
};

#[test]
fn the_table_is_current() {
    let bytes = write(&Types::of(&protos::compile()));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("table.bin");
    if std::env::var_os("OSTRO_BLESS").is_some() {
        std::fs::write(&path, &bytes).unwrap();
    }
    let current = std::fs::read(&path).unwrap();
    assert!(current == bytes, "table.bin is not what the .proto files say: run this test with OSTRO_BLESS=1");
}

/// Messages and enumerations by full name.
#[derive(Default)]
struct Types {
    messages: BTreeMap<String, DescriptorProto>,
    enums: BTreeMap<String, EnumDescriptorProto>,
    /// Messages of proto2: whatever is not repeated has presence.
    old: HashSet<String>,
}

impl Types {
    fn of(set: &FileDescriptorSet) -> Types {
        let mut types = Types::default();
        for file in &set.file {
            for message in &file.message_type {
                types.message(file.package(), message, file.syntax() != "proto3");
            }
            for of in &file.enum_type {
                types.enums.insert(format!("{}.{}", file.package(), of.name()), of.clone());
            }
        }
        types
    }

    fn message(&mut self, outer: &str, message: &DescriptorProto, is_old: bool) {
        let name = format!("{outer}.{}", message.name());
        for nested in &message.nested_type {
            self.message(&name, nested, is_old);
        }
        for of in &message.enum_type {
            self.enums.insert(format!("{name}.{}", of.name()), of.clone());
        }
        if is_old {
            self.old.insert(name.clone());
        }
        self.messages.insert(name, message.clone());
    }

    fn is_map(&self, field: &FieldDescriptorProto) -> bool {
        let message = self.messages.get(field.type_name().trim_start_matches('.'));
        message.and_then(|message| message.options.as_ref()).is_some_and(|options| options.map_entry())
    }
}

/// Names, each once.
#[derive(Default)]
struct Names {
    text: String,
    known: HashMap<String, u32>,
}

impl Names {
    fn add(&mut self, name: &str) -> [u8; 4] {
        let offset = *self.known.entry(name.to_owned()).or_insert_with(|| {
            let offset = self.text.len().try_into().unwrap();
            self.text.push_str(name);
            offset
        });
        offset.to_le_bytes()
    }
}

/// The layout is told in `src/table.rs`.
fn write(types: &Types) -> Vec<u8> {
    let message_at: HashMap<&str, u16> =
        types.messages.keys().zip(0..).map(|(name, at)| (name.as_str(), at)).collect();
    let enum_at: HashMap<&str, u16> =
        types.enums.keys().zip(0..).map(|(name, at)| (name.as_str(), at)).collect();
    let mut names = Names::default();
    let (mut messages, mut fields, mut enums, mut values) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut field_count, mut value_count) = (0u32, 0u32);
    for (name, message) in &types.messages {
        messages.extend(names.add(name));
        messages.extend(field_count.to_le_bytes());
        messages.extend(u16::try_from(name.len()).unwrap().to_le_bytes());
        messages.extend(u16::try_from(message.field.len()).unwrap().to_le_bytes());
        messages.extend([special(name), 0, 0, 0]);
        let mut sorted: Vec<&FieldDescriptorProto> = message.field.iter().collect();
        sorted.sort_by_key(|field| field.number());
        for field in sorted {
            let of = field.type_name().trim_start_matches('.');
            let of = message_at.get(of).or_else(|| enum_at.get(of)).copied();
            assert!(of.is_some() || field.type_name().is_empty(), "{name}: {field:?}");
            fields.extend(u32::try_from(field.number()).unwrap().to_le_bytes());
            fields.extend(names.add(field.name()));
            fields.extend(of.unwrap_or_default().to_le_bytes());
            fields.extend([u8::try_from(field.r#type.unwrap()).unwrap(), flags(types, name, field)]);
            fields.extend([u8::try_from(field.name().len()).unwrap(), oneof(field), 0, 0]);
            field_count += 1;
        }
    }
    for of in types.enums.values() {
        enums.extend(value_count.to_le_bytes());
        enums.extend(u16::try_from(of.value.len()).unwrap().to_le_bytes());
        enums.extend([0, 0]);
        for value in &of.value {
            values.extend(value.number().to_le_bytes());
            values.extend(names.add(value.name()));
            values.extend(u16::try_from(value.name().len()).unwrap().to_le_bytes());
            values.extend([0, 0]);
            value_count += 1;
        }
    }
    let counts = [types.messages.len(), field_count as usize, types.enums.len(), value_count as usize];
    let mut bytes = b"OEJ1".to_vec();
    for count in counts {
        bytes.extend(u32::try_from(count).unwrap().to_le_bytes());
    }
    for part in [messages, fields, enums, values, names.text.into_bytes()] {
        bytes.extend(part);
    }
    bytes
}

/// A field of an `optional`'s own oneof has presence, and nothing it could exclude.
fn oneof(field: &FieldDescriptorProto) -> u8 {
    match field.oneof_index {
        Some(at) if !field.proto3_optional() => u8::try_from(at + 1).unwrap(),
        _ => 0,
    }
}

fn flags(types: &Types, message: &str, field: &FieldDescriptorProto) -> u8 {
    let repeated = field.label() == Label::Repeated;
    let scalar = !matches!(field.r#type(), Type::String | Type::Bytes | Type::Message | Type::Group);
    let packed =
        repeated && scalar && field.options.as_ref().is_none_or(|options| options.packed != Some(false));
    let presence = !repeated
        && (field.oneof_index.is_some() || field.r#type() == Type::Message || types.old.contains(message));
    u8::from(repeated)
        | u8::from(repeated && types.is_map(field)) << 1
        | u8::from(packed) << 2
        | u8::from(presence) << 3
}

fn special(message: &str) -> u8 {
    let Some(name) = message.strip_prefix("google.protobuf.") else { return 0 };
    match name {
        "Any" => 1,
        "Struct" => 2,
        "Value" => 3,
        "ListValue" => 4,
        "Duration" => 5,
        "Timestamp" => 6,
        "FieldMask" => 7,
        "BoolValue" | "BytesValue" | "DoubleValue" | "FloatValue" | "Int32Value" | "Int64Value"
        | "StringValue" | "UInt32Value" | "UInt64Value" => 8,
        _ => 0,
    }
}
