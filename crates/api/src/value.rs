//! Documents without a schema of ours (the local runner's image map), as plain values.

use std::sync::Arc;

use ostro_names::limits;
use serde_json::{Map, Number, Value};

use crate::complaint::Complaint;
use crate::decode::Sink;
use crate::tree::{self, Meaning, Node, Scalar};

/// The first document of a YAML or JSON text, under the same budget as every other; `Null` if there is
/// none. What is wrong with the text is in the complaints.
pub fn parse_value(file: impl Into<Arc<str>>, bytes: &[u8]) -> (Value, Vec<Complaint>) {
    let sink = Sink::new(file.into());
    let mut value = Value::Null;
    let mut nodes = limits::FILE_NODES;
    if let Some(chunk) = crate::chunk::split(bytes).into_iter().next() {
        for document in
            crate::parse::documents(chunk.bytes, chunk.lines_before, &mut nodes).into_iter().take(1)
        {
            document.faults.into_iter().for_each(|fault| sink.fault(fault));
            value = document.root.as_deref().map_or(Value::Null, plain);
        }
    }
    (value, sink.finish())
}

/// Every object of a text as a plain value, the items of lists one by one: for keeping it in another place. What
/// is wrong with the text, [`parse_file`](crate::parse_file) says.
pub fn parse_objects(bytes: &[u8]) -> Vec<Value> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if bytes.len() > limits::FILE_BYTES {
        return Vec::new();
    }
    let mut nodes = limits::FILE_NODES;
    let mut values = Vec::new();
    for chunk in crate::chunk::split(bytes) {
        for document in crate::parse::documents(chunk.bytes, chunk.lines_before, &mut nodes) {
            match document.root.as_deref().map_or(Value::Null, plain) {
                Value::Null => {}
                mut list if is_list(&list) => {
                    let items = list.get_mut("items").and_then(Value::as_array_mut);
                    values.extend(items.map(std::mem::take).unwrap_or_default());
                }
                value => values.push(value),
            }
        }
    }
    values
}

fn is_list(value: &Value) -> bool {
    let kind = value.get("kind").and_then(Value::as_str);
    kind.is_some_and(|kind| kind.ends_with("List")) && value.get("items").is_none_or(Value::is_array)
}

/// Depth and size are bounded where the tree is built.
fn plain(node: &Node) -> Value {
    match &node.value {
        tree::Value::Scalar(scalar) => plain_scalar(scalar),
        tree::Value::List(items) => items.iter().map(|item| plain(item)).collect(),
        tree::Value::Map(map) => {
            let entries = map.iter().map(|entry| (entry.key.to_string(), plain(&entry.value)));
            Value::Object(entries.collect::<Map<_, _>>())
        }
    }
}

fn plain_scalar(scalar: &Scalar) -> Value {
    let text = || Value::from(scalar.text.as_ref());
    match scalar.meaning {
        Meaning::Null => Value::Null,
        Meaning::Bool(value) => Value::Bool(value),
        Meaning::Int(value) => Number::from_i128(value).map_or_else(text, Value::Number),
        Meaning::Float(value) => Number::from_f64(value).map_or_else(text, Value::Number),
        Meaning::Text => text(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_keep_their_meaning_and_faults_are_told() {
        let text = b"images:\n- match: \"*/x\"\n  args: [a, 1, true]\n  env: {K: v}\n";
        let (value, complaints) = parse_value("images.yaml", text);
        assert!(complaints.is_empty(), "{complaints:?}");
        assert_eq!(value, json!({"images": [{"match": "*/x", "args": ["a", 1, true], "env": {"K": "v"}}]}));
        let (_, complaints) = parse_value("images.yaml", b"images: [\n");
        assert_eq!(complaints.len(), 1);
    }
}
