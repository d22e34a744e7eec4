//! What a plain scalar means, as kubectl reads it: YAML 1.1, so `yes`, `on` and `y` are booleans.

use crate::tree::Meaning;

/// The meaning of an unquoted scalar.
pub(crate) fn resolve(text: &str) -> Meaning {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Meaning::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "y" | "Y" | "on" | "On" | "ON" => {
            return Meaning::Bool(true);
        }
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "n" | "N" | "off" | "Off" | "OFF" => {
            return Meaning::Bool(false);
        }
        ".nan" | ".NaN" | ".NAN" => return Meaning::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Meaning::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Meaning::Float(f64::NEG_INFINITY),
        _ => {}
    }
    // Only these can begin a number; most scalars end here.
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return Meaning::Text;
    }
    if let Some(int) = integer(text) {
        return Meaning::Int(int);
    }
    float(text).map_or(Meaning::Text, Meaning::Float)
}

/// Decimal, `0x`, `0o`, `0b` or, with a leading zero, octal; underscores between digits count for
/// nothing. What does not fit 64 bits is no integer.
fn integer(text: &str) -> Option<i128> {
    let plain = text.replace('_', "");
    let (negative, digits) = match plain.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, plain.strip_prefix('+').unwrap_or(&plain)),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, digits.get(2..)?),
        [b'0', b'o' | b'O', ..] => (8, digits.get(2..)?),
        [b'0', b'b' | b'B', ..] => (2, digits.get(2..)?),
        [b'0', _, ..] => (8, digits.get(1..)?),
        _ => (10, digits),
    };
    if !digits.starts_with(|c: char| c.is_ascii_hexdigit()) {
        return None;
    }
    let magnitude = i128::from(u64::from_str_radix(digits, radix).ok()?);
    Some(if negative { -magnitude } else { magnitude })
}

fn float(text: &str) -> Option<f64> {
    // Rust's parser also takes `inf`, `nan` and `infinity`; YAML's does not.
    let numeric = |c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | 'e' | 'E');
    text.chars().all(numeric).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_mean_what_kubectl_takes_them_for() {
        let table = [
            ("", Meaning::Null),
            ("~", Meaning::Null),
            ("yes", Meaning::Bool(true)),
            ("Off", Meaning::Bool(false)),
            ("y", Meaning::Bool(true)),
            ("yEs", Meaning::Text),
            ("0", Meaning::Int(0)),
            ("-7", Meaning::Int(-7)),
            ("+7", Meaning::Int(7)),
            ("0x1F", Meaning::Int(31)),
            ("0b11", Meaning::Int(3)),
            ("0777", Meaning::Int(511)),
            ("089", Meaning::Float(89.0)),
            ("1_000", Meaning::Int(1000)),
            ("18446744073709551615", Meaning::Int(u64::MAX as i128)),
            ("1.5", Meaning::Float(1.5)),
            (".5", Meaning::Float(0.5)),
            ("1e3", Meaning::Float(1000.0)),
            ("1.2.3", Meaning::Text),
            ("1.2.3.4", Meaning::Text),
            ("12:30", Meaning::Text),
            ("2026-01-01", Meaning::Text),
            ("-", Meaning::Text),
            ("+-7", Meaning::Text),
            ("0x", Meaning::Text),
            ("inf", Meaning::Text),
            ("10s", Meaning::Text),
            ("v1", Meaning::Text),
        ];
        for (text, meaning) in table {
            assert_eq!(resolve(text), meaning, "{text:?}");
        }
        assert!(matches!(resolve(".NaN"), Meaning::Float(nan) if nan.is_nan()));
    }
}
