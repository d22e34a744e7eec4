//! Protobuf's well-known types, read as Envoy reads them.

use std::time::Duration;

use envoy_types::pb::google::protobuf as pb;

use crate::Refusal;

/// A duration; a negative one is refused.
pub(crate) fn duration(proto: &pb::Duration) -> Result<Duration, Refusal> {
    let pb::Duration { seconds, nanos } = *proto;
    let seconds = u64::try_from(seconds).ok();
    let nanos = u32::try_from(nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
    let pair = seconds.zip(nanos);
    pair.map(|(s, n)| Duration::new(s, n)).ok_or_else(|| Refusal::invalid("a duration that is none"))
}

/// A limit on time: absent it is the default, zero is no limit.
pub(crate) fn time_limit(
    proto: Option<&pb::Duration>,
    default: Option<Duration>,
) -> Result<Option<Duration>, Refusal> {
    match proto {
        None => Ok(default),
        Some(proto) => duration(proto).map(|limit| Some(limit).filter(|limit| !limit.is_zero())),
    }
}

/// A limit on time that may be absent, zero being a value of its own: `Some(None)` is "no limit, whatever else says so".
pub(crate) fn time_override(proto: Option<&pb::Duration>) -> Result<Option<Option<Duration>>, Refusal> {
    proto.map(|proto| time_limit(Some(proto), None)).transpose()
}

/// A flag with a default.
pub(crate) fn flag(proto: Option<&pb::BoolValue>, default: bool) -> bool {
    proto.map_or(default, |flag| flag.value)
}

/// A number, if there is one.
pub(crate) fn number(proto: Option<&pb::UInt32Value>) -> Option<u32> {
    proto.map(|number| number.value)
}

/// An enumeration's value; one that the message does not define is refused, as by Envoy.
pub(crate) fn enumeration<E: TryFrom<i32>>(value: i32, field: &str) -> Result<E, Refusal> {
    E::try_from(value).map_err(|_| Refusal::invalid(format!("{field} {value}")))
}

/// A header's value in configuration.
pub(crate) fn header_value(text: &str, field: &str) -> Result<http::HeaderValue, Refusal> {
    http::HeaderValue::from_str(text).map_err(|_| Refusal::invalid(format!("{field} {text:?}")))
}

/// A header's name in configuration.
pub(crate) fn header_name(text: &str, field: &str) -> Result<http::HeaderName, Refusal> {
    http::HeaderName::from_bytes(text.as_bytes()).map_err(|_| Refusal::invalid(format!("{field} {text:?}")))
}

/// Without room that is not used. What is made of a list of messages may have the room that the messages had, which is
/// several times as much, and stays for as long as the configuration.
pub(crate) fn compact<T>(mut list: Vec<T>) -> Vec<T> {
    list.shrink_to_fit();
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_no_limit_and_nothing_is_the_default() {
        let hour = Some(Duration::from_secs(3600));
        let proto = |seconds, nanos| pb::Duration { seconds, nanos };
        assert_eq!(time_limit(None, hour), Ok(hour));
        assert_eq!(time_limit(Some(&proto(0, 0)), hour), Ok(None));
        assert_eq!(time_limit(Some(&proto(1, 5)), hour), Ok(Some(Duration::new(1, 5))));
        assert_eq!(time_override(Some(&proto(0, 0))), Ok(Some(None)));
        assert!(duration(&proto(-1, 0)).is_err() && duration(&proto(0, -1)).is_err());
    }
}
