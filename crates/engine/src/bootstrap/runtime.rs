//! Runtime: keys and values in layers, a later one over an earlier one.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::bootstrap::v3::LayeredRuntime as Proto;
use envoy_types::pb::envoy::config::bootstrap::v3::runtime_layer::LayerSpecifier;
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Struct, Value};

use crate::Refusal;
use crate::refusal::Within;

/// Keys that mean something here, or that say what is so anyway.
const KNOWN: &[&str] =
    &[MAX_CONNECTIONS, "re2.max_program_size.error_level", "re2.max_program_size.warn_level"];
const MAX_CONNECTIONS: &str = "overload.global_downstream_max_connections";

/// All layers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Runtime {
    /// The one that counts most comes last.
    pub layers: Vec<RuntimeLayer>,
}

/// One layer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuntimeLayer {
    /// Its name.
    pub name: String,
    /// Dotted keys.
    pub values: BTreeMap<String, RuntimeValue>,
    /// It is written through the admin interface.
    pub is_admin: bool,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum RuntimeValue {
    /// A number.
    Number(f64),
    /// Yes or no.
    Flag(bool),
    /// Text; numbers are often written so.
    Text(String),
    /// `{numerator, denominator}`, as text.
    Fraction(String),
}

impl std::fmt::Display for RuntimeValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RuntimeValue::Number(number) => write!(f, "{number}"),
            RuntimeValue::Flag(flag) => write!(f, "{flag}"),
            RuntimeValue::Text(text) | RuntimeValue::Fraction(text) => f.write_str(text),
        }
    }
}

impl Runtime {
    pub(super) fn compile(proto: Proto, notices: &mut Vec<String>) -> Result<Runtime, Refusal> {
        let mut layers: Vec<RuntimeLayer> = Vec::new();
        for (i, layer) in proto.layers.into_iter().enumerate() {
            if layer.name.is_empty() || layers.iter().any(|known| known.name == layer.name) {
                return Err(Refusal::invalid(format!("layer name {:?}", layer.name)));
            }
            let mut compiled = RuntimeLayer { name: layer.name, ..RuntimeLayer::default() };
            match layer.layer_specifier {
                Some(LayerSpecifier::StaticLayer(values)) => {
                    flatten("", values, &mut compiled.values).within(|| format!("layers[{i}]"))?;
                }
                Some(LayerSpecifier::AdminLayer(_)) if layers.iter().any(|layer| layer.is_admin) => {
                    return Err(Refusal::invalid("more than one admin layer"));
                }
                Some(LayerSpecifier::AdminLayer(_)) => compiled.is_admin = true,
                Some(LayerSpecifier::DiskLayer(_)) => return Err(Refusal::unsupported("disk_layer")),
                Some(LayerSpecifier::RtdsLayer(_)) => return Err(Refusal::unsupported("rtds_layer")),
                None => return Err(Refusal::invalid(format!("layer {:?} is of no kind", compiled.name))),
            }
            layers.push(compiled);
        }
        let runtime = Runtime { layers };
        let unknown = runtime.keys().into_iter().filter(|key| !KNOWN.contains(key));
        notices.extend(unknown.map(|key| format!("layered_runtime: {key} has no effect")));
        Ok(runtime)
    }

    /// Every key there is, in order.
    pub fn keys(&self) -> Vec<&str> {
        let mut keys: Vec<&str> =
            self.layers.iter().flat_map(|layer| layer.values.keys()).map(String::as_str).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// The value of a key: the last layer's that has one.
    pub fn get(&self, key: &str) -> Option<&RuntimeValue> {
        self.layers.iter().rev().find_map(|layer| layer.values.get(key))
    }

    pub(super) fn max_connections(&self) -> Option<u64> {
        match self.get(MAX_CONNECTIONS)? {
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "checked to be in range"
            )]
            RuntimeValue::Number(number) if (0.0..1e15).contains(number) => Some(*number as u64),
            RuntimeValue::Text(text) => text.parse().ok(),
            _ => None,
        }
    }
}

/// Objects within the layer are parts of keys; those that have a numerator are fractions.
fn flatten(prefix: &str, values: Struct, out: &mut BTreeMap<String, RuntimeValue>) -> Result<(), Refusal> {
    for (key, value) in values.fields {
        let key = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
        let value = match value.kind {
            Some(Kind::NumberValue(number)) => RuntimeValue::Number(number),
            Some(Kind::BoolValue(flag)) => RuntimeValue::Flag(flag),
            Some(Kind::StringValue(text)) => RuntimeValue::Text(text),
            Some(Kind::StructValue(inner)) => match fraction(&inner) {
                Some(fraction) => RuntimeValue::Fraction(fraction),
                None => {
                    flatten(&key, inner, out)?;
                    continue;
                }
            },
            Some(Kind::NullValue(_) | Kind::ListValue(_)) | None => {
                return Err(Refusal::invalid(format!("runtime key {key} has no value that can be one")));
            }
        };
        out.insert(key, value);
    }
    Ok(())
}

fn fraction(value: &Struct) -> Option<String> {
    let Value { kind: Some(Kind::NumberValue(numerator)) } = value.fields.get("numerator")? else {
        return None;
    };
    let denominator = match value.fields.get("denominator").and_then(|value| value.kind.as_ref()) {
        Some(Kind::StringValue(name)) => name.as_str(),
        _ => "HUNDRED",
    };
    Some(format!("{{\"numerator\":{numerator},\"denominator\":\"{denominator}\"}}"))
}
