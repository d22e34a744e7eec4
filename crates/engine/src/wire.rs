//! Protobuf's wrapped values within the bounds that Envoy's validation sets.

use std::time::Duration;

use envoy_types::pb::envoy::r#type::v3::Percent;
use envoy_types::pb::google::protobuf::{Duration as ProtoDuration, UInt32Value};

use crate::Refusal;
use crate::proto::{duration, number};
use crate::refusal::Within;

/// A duration with a default; `field` is where it stands.
pub(crate) fn duration_or(
    field: &str,
    value: Option<&ProtoDuration>,
    default: Duration,
) -> Result<Duration, Refusal> {
    value.map_or(Ok(default), duration).within(|| field.to_owned())
}

/// A duration that is more than zero, if there is one.
pub(crate) fn positive(field: &str, value: Option<&ProtoDuration>) -> Result<Option<Duration>, Refusal> {
    match value.map(duration).transpose().within(|| field.to_owned())? {
        Some(zero) if zero.is_zero() => Err(Refusal::invalid("must be more than 0").within(field)),
        other => Ok(other),
    }
}

/// A duration that must be there and be more than zero.
pub(crate) fn required(field: &str, value: Option<&ProtoDuration>) -> Result<Duration, Refusal> {
    positive(field, value)?.ok_or_else(|| Refusal::invalid("must be set").within(field))
}

/// A wrapped number within bounds.
pub(crate) fn bounded(
    field: &str,
    value: Option<&UInt32Value>,
    bounds: std::ops::RangeInclusive<u32>,
) -> Result<Option<u32>, Refusal> {
    match number(value) {
        Some(value) if !bounds.contains(&value) => {
            let (least, most) = (bounds.start(), bounds.end());
            Err(Refusal::invalid(format!("{value} is not between {least} and {most}")).within(field))
        }
        value => Ok(value),
    }
}

/// A percentage, between 0 and 100.
pub(crate) fn percent(field: &str, value: Option<&Percent>) -> Result<Option<f64>, Refusal> {
    match value.map(|percent| percent.value) {
        Some(value) if !(0.0..=100.0).contains(&value) => {
            Err(Refusal::invalid(format!("{value} is no percentage")).within(field))
        }
        value => Ok(value),
    }
}
