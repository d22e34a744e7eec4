//! `/runtime`: keys, and their value in each layer.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::Admin;
use super::answer::Answer;
use super::query::Query;

pub(super) fn runtime(admin: &Arc<Admin>, _: &Query) -> Answer {
    let runtime = &admin.runtime;
    let text = |value: Option<&_>| value.map(ToString::to_string).unwrap_or_default();
    let mut entries = Map::new();
    for key in runtime.keys() {
        let layers: Vec<String> = runtime.layers.iter().map(|layer| text(layer.values.get(key))).collect();
        entries
            .insert(key.to_owned(), json!({"final_value": text(runtime.get(key)), "layer_values": layers}));
    }
    let layers: Vec<&str> = runtime.layers.iter().map(|layer| layer.name.as_str()).collect();
    Answer::json(&json!({"layers": layers, "entries": Value::Object(entries)}))
}
