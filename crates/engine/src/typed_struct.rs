//! Messages that come as JSON: xDS's `TypedStruct`, by its old name and its new one. Istio sends its own filters so, and
//! people's patches may send any.

use std::borrow::Cow;

use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Any, Struct, Value as ProtoValue};
use ostro_envoy_json::Unknown;
use prost::Message as _;
use serde_json::{Map, Number, Value};

use crate::Refusal;

/// Type URLs of a message as JSON.
const TYPE_URLS: [&str; 2] =
    ["type.googleapis.com/xds.type.v3.TypedStruct", "type.googleapis.com/udpa.type.v1.TypedStruct"];

/// `xds.type.v3.TypedStruct`; the older one has the same fields.
#[derive(Clone, PartialEq, prost::Message)]
struct TypedStruct {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(message, optional, tag = "2")]
    value: Option<Struct>,
}

/// The message that was meant: what comes as JSON in wire form, everything else as it is.
pub(crate) fn open(any: &Any) -> Result<Cow<'_, Any>, Refusal> {
    if !TYPE_URLS.contains(&any.type_url.as_str()) {
        return Ok(Cow::Borrowed(any));
    }
    let undecodable = |error| Refusal::invalid(format!("{}: {error}", any.type_url));
    let TypedStruct { type_url, value } = TypedStruct::decode(any.value.as_slice()).map_err(undecodable)?;
    if !ostro_envoy_json::knows(&type_url) {
        return Err(Refusal::unsupported(type_url));
    }
    let json = object(value.unwrap_or_default());
    let value = ostro_envoy_json::to_wire(&type_url, &json, Unknown::Refuse)
        .map_err(|error| Refusal::unsupported(format!("{type_url}: {error}")))?;
    Ok(Cow::Owned(Any { type_url, value }))
}

fn object(of: Struct) -> Value {
    Value::Object(of.fields.into_iter().map(|(key, value)| (key, json(value))).collect::<Map<_, _>>())
}

fn json(value: ProtoValue) -> Value {
    match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(flag)) => Value::Bool(flag),
        Some(Kind::StringValue(text)) => Value::String(text),
        Some(Kind::NumberValue(number)) => numeral(number),
        Some(Kind::StructValue(inner)) => object(inner),
        Some(Kind::ListValue(list)) => list.values.into_iter().map(json).collect(),
    }
}

/// Whole numbers as such: fields of integers take no others.
fn numeral(number: f64) -> Value {
    /// Beyond this, neighbouring whole numbers are one `f64`.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() <= EXACT {
        #[allow(clippy::cast_possible_truncation, reason = "it is whole, and small enough to be exact")]
        return Value::from(number as i64);
    }
    Number::from_f64(number).map_or(Value::Null, Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(type_url: &str, json: Value) -> Any {
        let text = serde_json::json!({"type_url": type_url, "value": json});
        let value = ostro_envoy_json::to_wire("udpa.type.v1.TypedStruct", &text, Unknown::Refuse).unwrap();
        Any { type_url: TYPE_URLS[1].to_owned(), value }
    }

    #[test]
    fn what_comes_as_json_is_the_message_it_means() {
        let url = "type.googleapis.com/stats.PluginConfig";
        let config =
            serde_json::json!({"disable_host_header_fallback": true, "tcp_reporting_duration": "15s"});
        let opened = open(&typed(url, config)).unwrap().into_owned();
        assert_eq!(opened.type_url, url);
        assert_eq!(opened.value, [0x30, 1, 0x3a, 2, 8, 15]);
        let plain = Any { type_url: url.to_owned(), value: Vec::new() };
        assert_eq!(*open(&plain).unwrap(), plain);
    }

    #[test]
    fn a_field_that_is_not_known_is_refused_by_name() {
        let url = "type.googleapis.com/stats.PluginConfig";
        let refusal = open(&typed(url, serde_json::json!({"stat_prefix": "istio"}))).unwrap_err();
        assert!(refusal.to_string().contains("stat_prefix"), "{refusal}");
        let refusal = open(&typed("type.googleapis.com/odd.Filter", serde_json::json!({}))).unwrap_err();
        assert_eq!(refusal.to_string(), "not supported: type.googleapis.com/odd.Filter");
    }
}
