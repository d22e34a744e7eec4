//! Numbers as C's `%g` writes them: six digits, no zeros at the end, an exponent where the number is very large or small.

/// A number, shortly.
pub(super) fn general(value: f64) -> String {
    const DIGITS: i32 = 6;
    if !value.is_finite() {
        return if value.is_nan() { "nan".to_owned() } else { value.to_string() };
    }
    // Rounded to its digits first: 999999.5 has one more.
    let scientific = format!("{value:.5e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..DIGITS).contains(&exponent) {
        let decimals = usize::try_from(DIGITS - 1 - exponent).unwrap_or_default();
        return trimmed(&format!("{value:.decimals$}")).to_owned();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", trimmed(mantissa), exponent.abs())
}

/// Without zeros behind the point.
fn trimmed(number: &str) -> &str {
    if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, wanted) in [
            (0.0, "0"),
            (0.5, "0.5"),
            (1.025, "1.025"),
            (99.5, "99.5"),
            (1_000.0, "1000"),
            (600_000.0, "600000"),
            (1_800_000.0, "1.8e+06"),
            (999_999.5, "1e+06"),
            (123_456.7, "123457"),
            (0.000_01, "1e-05"),
            (-1.0, "-1"),
            (f64::NAN, "nan"),
        ] {
            assert_eq!(general(value), wanted);
        }
    }
}
