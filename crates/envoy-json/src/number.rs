//! Numbers in JSON: whole ones also as text or with an exponent, floating ones also by name.

use serde_json::{Number, Value};

/// A whole number, however it is written.
pub(crate) fn whole(value: &Value) -> Option<i128> {
    match value {
        Value::Number(number) => number
            .as_i64()
            .map(i128::from)
            .or_else(|| number.as_u64().map(i128::from))
            .or_else(|| number.as_f64().and_then(exact)),
        Value::String(text) => whole_text(text),
        _ => None,
    }
}

/// The same, of text.
pub(crate) fn whole_text(text: &str) -> Option<i128> {
    // Rust would take a plus sign too.
    let digits = text.strip_prefix('-').unwrap_or(text);
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().or_else(|| text.parse().ok().and_then(exact))
}

/// A floating number without a fraction, within what any field can hold.
fn exact(value: f64) -> Option<i128> {
    #[allow(clippy::cast_possible_truncation, reason = "checked to be whole and small enough")]
    (value.fract() == 0.0 && value.abs() < 2e19).then_some(value as i128)
}

/// A floating number; JSON has no words for some of them.
pub(crate) fn floating(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ if text.ends_with(|c: char| c.is_ascii_digit()) => text.parse().ok(),
            _ => None,
        },
        _ => None,
    }
}

/// The way back. Whole numbers are written without a fraction, as Envoy does.
pub(crate) fn from_floating(value: f64) -> Value {
    if value.is_nan() {
        return Value::from("NaN");
    }
    if value.is_infinite() {
        return Value::from(if value > 0.0 { "Infinity" } else { "-Infinity" });
    }
    if value.fract() == 0.0 && value.abs() < 1e15 && !(value == 0.0 && value.is_sign_negative()) {
        #[allow(clippy::cast_possible_truncation, reason = "checked to be whole and small enough")]
        return Value::from(value as i64);
    }
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}

/// A single-precision number with no more digits than tell it from its neighbours.
pub(crate) fn from_single(value: f32) -> Value {
    let shortest = value.to_string().parse::<f64>();
    from_floating(shortest.unwrap_or_else(|_| f64::from(value)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn whole_numbers_come_in_several_dresses() {
        for good in [json!(1000), json!("1000"), json!(1e3), json!("1e3"), json!(1000.0)] {
            assert_eq!(whole(&good), Some(1000), "{good}");
        }
        assert_eq!(whole(&json!(u64::MAX)), Some(i128::from(u64::MAX)));
        assert_eq!(whole(&json!("-9223372036854775808")), Some(i128::from(i64::MIN)));
        for bad in [json!(1.5), json!("+1"), json!(""), json!("0x10"), json!(true), json!(1e300), json!(" 1")]
        {
            assert_eq!(whole(&bad), None, "{bad}");
        }
    }

    #[test]
    fn floating_numbers_are_written_short() {
        assert_eq!(from_single(0.1).to_string(), "0.1");
        assert_eq!(from_floating(100.0).to_string(), "100");
        assert_eq!(from_floating(1e300).to_string(), "1e+300");
        assert_eq!(from_floating(f64::NEG_INFINITY), json!("-Infinity"));
        assert_eq!(floating(&json!("inf")), None);
        assert_eq!(floating(&json!("-1.5e3")), Some(-1500.0));
    }
}
