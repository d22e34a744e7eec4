//! Every message of Envoy's API, filled at random: what we read and write is what `prost-reflect` reads and writes.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test's helpers fail the test by panicking")]

mod protos;

use ostro_envoy_json::{Style, Unknown, any_to_value, to_wire, wire_to_value, write_message};
use prost::Message as _;
use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, EnumDescriptor, FieldDescriptor, Kind,
    MessageDescriptor, SerializeOptions,
};
use serde_json::{Map, Value, json};

/// Messages within messages that are filled.
const DEPTH: usize = 3;
const ROUNDS: u64 = 3;

#[test]
fn all_messages_go_both_ways_as_reflection_has_it() {
    let pool = DescriptorPool::from_file_descriptor_set(protos::compile()).unwrap();
    let mut seen = 0;
    for message in pool.all_messages().filter(|m| m.parent_file().syntax() == prost_reflect::Syntax::Proto3) {
        if message.is_map_entry() || message.full_name() == "google.protobuf.Any" {
            continue;
        }
        for round in 0..ROUNDS {
            let mut dice = Dice(round.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ message.full_name().len() as u64);
            let tree = fill(&message, &mut dice, DEPTH);
            compare(&message, &tree);
            seen += 1;
        }
    }
    assert!(seen > 4_000, "only {seen} messages");
}

fn compare(message: &MessageDescriptor, tree: &Value) {
    let name = message.full_name();
    let wire = to_wire(name, tree, Unknown::Refuse).unwrap_or_else(|e| panic!("{name}: {e}\n{tree:#}"));
    let theirs = DynamicMessage::deserialize_with_options(message.clone(), tree, &DeserializeOptions::new())
        .unwrap_or_else(|e| panic!("{name}: {e}\n{tree:#}"));
    let ours = DynamicMessage::decode(message.clone(), wire.as_slice()).unwrap();
    // Read again: a default value that was set is not equal to one that was not.
    let theirs = DynamicMessage::decode(message.clone(), theirs.encode_to_vec().as_slice()).unwrap();
    // Not `assert_eq`: descriptors of messages that contain themselves are shown without end.
    assert!(ours == theirs, "{name}\n{tree:#}\n{:?}\n{:?}", ours.encode_to_vec(), theirs.encode_to_vec());

    // What others encode has its own order of map entries and packs as it likes.
    let wire = theirs.encode_to_vec();
    let options = SerializeOptions::new().use_proto_field_name(true).skip_default_fields(true);
    let wanted = theirs.serialize_with_options(serde_json::value::Serializer, &options).unwrap();
    let found = wire_to_value(name, &wire).unwrap_or_else(|e| panic!("{name}: {e}\n{tree:#}"));
    assert_eq!(numbers(found.clone()), numbers(wanted), "{name}\n{tree:#}");
    for style in [Style::Compact, Style::Pretty] {
        let mut text = Vec::new();
        write_message(&mut text, name, &wire, style, 0).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&text).unwrap(), found, "{name}");
    }
    if found.get("value").is_none() && found.is_object() {
        let mut unpacked = any_to_value(&format!("type.googleapis.com/{name}"), &wire);
        let type_url = unpacked.as_object_mut().unwrap().remove("@type");
        assert_eq!(type_url, Some(json!(format!("type.googleapis.com/{name}"))));
        if message.package_name() != "google.protobuf" {
            assert_eq!(numbers(unpacked), numbers(found));
        }
    }
}

/// `1.0` and `1` are one number, written in two ways.
fn numbers(value: Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(items) => items.into_iter().map(numbers).collect(),
        Value::Object(members) => members.into_iter().map(|(key, value)| (key, numbers(value))).collect(),
        other => other,
    }
}

/// A generator that is the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.roll(of.len() as u64)).unwrap()].clone()
    }
}

fn fill(message: &MessageDescriptor, dice: &mut Dice, depth: usize) -> Value {
    if let Some(value) = special(message, dice, depth) {
        return value;
    }
    let mut members = Map::new();
    let mut oneofs = Vec::new();
    for field in message.fields() {
        if dice.roll(3) > 0 || (depth == 0 && matches!(field.kind(), Kind::Message(_))) {
            continue;
        }
        if let Some(oneof) = field.containing_oneof() {
            if oneofs.contains(&oneof.name().to_owned()) {
                continue;
            }
            oneofs.push(oneof.name().to_owned());
        }
        let key = if dice.roll(2) == 0 { field.name() } else { field.json_name() };
        members.insert(key.to_owned(), filled(&field, dice, depth));
    }
    Value::Object(members)
}

fn filled(field: &FieldDescriptor, dice: &mut Dice, depth: usize) -> Value {
    if field.is_map() {
        let Kind::Message(entry) = field.kind() else { unreachable!() };
        let (key, value) = (entry.map_entry_key_field(), entry.map_entry_value_field());
        // One entry: the order of several is nobody's.
        let key = match one(&key.kind(), dice, 0) {
            Value::String(text) => text,
            other => other.to_string(),
        };
        return json!({key: one(&value.kind(), dice, depth.saturating_sub(1))});
    }
    if field.is_list() {
        let length = dice.roll(3);
        return (0..length).map(|_| one(&field.kind(), dice, depth.saturating_sub(1))).collect();
    }
    one(&field.kind(), dice, depth.saturating_sub(1))
}

fn one(kind: &Kind, dice: &mut Dice, depth: usize) -> Value {
    match kind {
        Kind::Double => dice.pick(&[json!(0), json!(1.5), json!(-1e300), json!("2.5")]),
        Kind::Float => dice.pick(&[json!(0), json!(0.5), json!(-16777216), json!(0.0009765625)]),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
            dice.pick(&[json!(0), json!(-1), json!(i32::MIN), json!(i32::MAX), json!("7")])
        }
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => dice.pick(&[
            json!(0),
            json!(-1),
            json!(i64::MIN.to_string()),
            json!(i64::MAX.to_string()),
            json!(12),
        ]),
        Kind::Uint32 | Kind::Fixed32 => dice.pick(&[json!(0), json!(1), json!(u32::MAX), json!("300")]),
        Kind::Uint64 | Kind::Fixed64 => {
            dice.pick(&[json!(0), json!(1), json!(u64::MAX.to_string()), json!(300)])
        }
        Kind::Bool => dice.pick(&[json!(true), json!(false)]),
        Kind::String => dice.pick(&[json!(""), json!("text"), json!("ünïcode \"\n\u{1}")]),
        Kind::Bytes => dice.pick(&[json!(""), json!("AAEC"), json!("/+8="), json!("_-8")]),
        Kind::Enum(of) => enumeration(of, dice),
        Kind::Message(message) => fill(message, dice, depth),
    }
}

fn enumeration(of: &EnumDescriptor, dice: &mut Dice) -> Value {
    if of.full_name() == "google.protobuf.NullValue" {
        return Value::Null;
    }
    let values: Vec<_> = of.values().collect();
    let value = dice.pick(&values);
    if dice.roll(4) == 0 { json!(value.number()) } else { json!(value.name()) }
}

fn special(message: &MessageDescriptor, dice: &mut Dice, depth: usize) -> Option<Value> {
    Some(match message.full_name().strip_prefix("google.protobuf.")? {
        "Any" => any(message, dice, depth),
        // One member: the order of several is nobody's.
        "Struct" => json!({"b": {"c": [one_value(dice), one_value(dice)]}}),
        "Value" => one_value(dice),
        "ListValue" => json!([one_value(dice), [], one_value(dice)]),
        "Duration" => dice.pick(&[json!("0s"), json!("1.5s"), json!("-3.000001s"), json!("86400s")]),
        "Timestamp" => dice.pick(&[json!("2026-01-02T03:04:05Z"), json!("1969-12-31T23:59:59.250Z")]),
        "FieldMask" => dice.pick(&[json!(""), json!("a,fooBar.baz")]),
        name if name.ends_with("Value") && message.fields().len() == 1 => {
            let field = message.fields().next().unwrap();
            one(&field.kind(), dice, depth)
        }
        _ => return None,
    })
}

fn one_value(dice: &mut Dice) -> Value {
    dice.pick(&[
        json!(null),
        json!(1),
        json!(-2.5),
        json!("x"),
        json!(true),
        json!({}),
        json!([]),
        json!({"d": [1]}),
    ])
}

fn any(any: &MessageDescriptor, dice: &mut Dice, depth: usize) -> Value {
    let pool = any.parent_pool();
    if depth == 0 || dice.roll(4) == 0 {
        return json!({"@type": "type.googleapis.com/google.protobuf.Duration", "value": "1s"});
    }
    let names = [
        "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "envoy.extensions.filters.http.router.v3.Router",
        "envoy.config.core.v3.Address",
        "google.protobuf.Struct",
        "google.protobuf.StringValue",
    ];
    let name = dice.pick(&names);
    let content = fill(&pool.get_message_by_name(name).unwrap(), dice, depth - 1);
    let type_url = format!("type.googleapis.com/{name}");
    if name.starts_with("google.") {
        return json!({"@type": type_url, "value": content});
    }
    let Value::Object(mut members) = content else { unreachable!() };
    members.insert("@type".to_owned(), json!(type_url));
    Value::Object(members)
}
