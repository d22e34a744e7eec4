//! The id of a request (`x-request-id`), as Envoy makes and reads it: a UUID of version 4 whose first digit of the third
//! group says whether, and why, the request is traced.

use http::{HeaderName, HeaderValue};

use crate::Request;

/// The header's name.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Length of a UUID.
const LENGTH: usize = 36;
/// Where the digit of the trace reason is.
const REASON: usize = 14;

/// Whether a request is traced, and at whose wish.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TraceReason {
    /// It is not.
    #[default]
    NotTraced,
    /// It is part of a sample.
    Sampled,
    /// The client says so (`x-client-trace-id`).
    ClientForced,
    /// A service inside says so (`x-envoy-force-trace`).
    ServiceForced,
}

impl TraceReason {
    fn digit(self) -> u8 {
        match self {
            TraceReason::NotTraced => b'4',
            TraceReason::Sampled => b'9',
            TraceReason::ServiceForced => b'a',
            TraceReason::ClientForced => b'b',
        }
    }
}

/// An id of the right form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestId([u8; LENGTH]);

impl RequestId {
    /// A new id of these random bits.
    pub fn new(mut random: [u8; 16]) -> RequestId {
        // Version 4, variant 1 (RFC 9562, 5.4).
        random[6] = random[6] & 0x0f | 0x40;
        random[8] = random[8] & 0x3f | 0x80;
        let mut text = [b'-'; LENGTH];
        let mut place = 0;
        for (number, byte) in random.into_iter().enumerate() {
            if matches!(number, 4 | 6 | 8 | 10) {
                place += 1;
            }
            for digit in [byte >> 4, byte & 0xf] {
                if let Some(at) = text.get_mut(place) {
                    *at = b"0123456789abcdef".get(usize::from(digit)).copied().unwrap_or(b'0');
                }
                place += 1;
            }
        }
        RequestId(text)
    }

    /// The id that a request has, if it is of the right form.
    pub fn of(request: &Request) -> Option<RequestId> {
        RequestId::parse(request.headers.get(&X_REQUEST_ID)?.as_bytes())
    }

    /// Reads an id; of its form only the length and the first eight digits matter, as for Envoy.
    pub fn parse(text: &[u8]) -> Option<RequestId> {
        let text: [u8; LENGTH] = text.try_into().ok()?;
        let id = RequestId(text);
        id.first_digits().map(|_| id)
    }

    fn first_digits(&self) -> Option<u64> {
        self.0.first_chunk::<8>()?.iter().try_fold(0, |number, digit| {
            char::from(*digit).to_digit(16).map(|digit| number << 4 | u64::from(digit))
        })
    }

    /// A number to sample by, the same for everybody who sees the id.
    pub fn number(&self) -> u64 {
        self.first_digits().unwrap_or_default()
    }

    /// Why the request is traced, by its id.
    pub fn reason(&self) -> TraceReason {
        match self.0.get(REASON) {
            Some(b'9') => TraceReason::Sampled,
            Some(b'a') => TraceReason::ServiceForced,
            Some(b'b') => TraceReason::ClientForced,
            _ => TraceReason::NotTraced,
        }
    }

    /// The same id with another reason.
    pub fn with_reason(mut self, reason: TraceReason) -> RequestId {
        if let Some(digit) = self.0.get_mut(REASON) {
            *digit = reason.digit();
        }
        self
    }

    /// The id as the value of a header.
    pub fn value(&self) -> HeaderValue {
        HeaderValue::from_bytes(&self.0).unwrap_or(HeaderValue::from_static(""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_ids_are_of_version_4_and_not_traced() {
        let id = RequestId::new([0xff; 16]);
        assert_eq!(id.value(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(id.reason(), TraceReason::NotTraced);
        assert_eq!(RequestId::new([0; 16]).value(), "00000000-0000-4000-8000-000000000000");
        assert_eq!(RequestId::parse(id.value().as_bytes()), Some(id));
    }

    #[test]
    fn the_reason_is_a_digit() {
        let id = RequestId::new([1; 16]);
        for reason in [TraceReason::Sampled, TraceReason::ServiceForced, TraceReason::ClientForced] {
            assert_eq!(id.with_reason(reason).reason(), reason);
            assert_eq!(id.with_reason(reason).with_reason(TraceReason::NotTraced), id);
        }
        assert_eq!(id.with_reason(TraceReason::Sampled).value(), "01010101-0101-9101-8101-010101010101");
    }

    #[test]
    fn samples_go_by_the_first_digits() {
        let id = RequestId::parse(b"0000000a-xxxx-xxxx-xxxx-xxxxxxxxxxxx").unwrap();
        assert_eq!(id.number(), 10);
        assert_eq!(RequestId::parse(b"0000000g-0000-4000-8000-000000000000"), None);
        assert_eq!(RequestId::parse(b"short"), None);
    }
}
