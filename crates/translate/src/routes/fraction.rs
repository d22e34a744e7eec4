//! Percentages in Envoy's exact form.

use envoy_types::pb::envoy::config::core::v3::RuntimeFractionalPercent;
use envoy_types::pb::envoy::r#type::v3::FractionalPercent;
use envoy_types::pb::envoy::r#type::v3::fractional_percent::DenominatorType;

/// Parts of a million in one percent.
const PER_PERCENT: f64 = 10_000.0;
const MILLION: f64 = 1_000_000.0;

/// A percentage to four decimals; all if there is none.
pub fn of_percent(percent: Option<f64>) -> FractionalPercent {
    let parts = (percent.unwrap_or(100.0) * PER_PERCENT).round().clamp(0.0, MILLION);
    FractionalPercent { numerator: parts as u32, denominator: DenominatorType::Million as i32 }
}

/// The same where Envoy lets its operator override the value at run time.
pub fn runtime(percent: Option<f64>) -> RuntimeFractionalPercent {
    RuntimeFractionalPercent { default_value: Some(of_percent(percent)), ..Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_decimals_are_exact_and_the_ends_are_kept() {
        let cases = [
            (None, 1_000_000),
            (Some(100.0), 1_000_000),
            (Some(0.0), 0),
            (Some(0.0001), 1),
            (Some(33.3333), 333_333),
            (Some(29.0), 290_000),
            (Some(-1.0), 0),
            (Some(250.0), 1_000_000),
            (Some(f64::NAN), 0),
        ];
        for (percent, parts) in cases {
            assert_eq!(of_percent(percent).numerator, parts, "{percent:?}");
        }
    }
}
