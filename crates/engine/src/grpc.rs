//! gRPC as far as a proxy reads it: statuses (`grpc-status`), the timeout a client asks for (`grpc-timeout`), and where
//! messages begin.
//!
//! Sources: gRPC's "gRPC over HTTP2" and "HTTP to gRPC Status Code Mapping".

use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};

use crate::Headers;

/// Its name says it.
pub const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// Why the status is what it is.
pub const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// How long the client waits.
pub const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Whether these are the headers of a request of gRPC-Web, in either encoding.
pub fn is_web(headers: &Headers) -> bool {
    let of = headers.get(&http::header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    of.strip_prefix(b"application/grpc-web")
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b'-' | b';')))
}

/// The status that headers or trailers say.
pub fn status(headers: &Headers) -> Option<u32> {
    headers.get(&GRPC_STATUS)?.to_str().ok()?.parse().ok()
}

/// The status that an HTTP status stands for, where a response says none of its own.
pub fn status_of_http(status: StatusCode) -> u32 {
    match status.as_u16() {
        200 => 0,
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// The HTTP status that a gRPC status stands for, for clients that are not gRPC's.
pub fn http_of_status(status: u32) -> StatusCode {
    match status {
        0 => StatusCode::OK,
        // Envoy's 499 for a client that gave up.
        1 => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        3 | 9 | 11 => StatusCode::BAD_REQUEST,
        4 => StatusCode::GATEWAY_TIMEOUT,
        5 => StatusCode::NOT_FOUND,
        6 | 10 => StatusCode::CONFLICT,
        7 => StatusCode::FORBIDDEN,
        8 => StatusCode::TOO_MANY_REQUESTS,
        12 => StatusCode::NOT_IMPLEMENTED,
        14 => StatusCode::SERVICE_UNAVAILABLE,
        16 => StatusCode::UNAUTHORIZED,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The timeout a client asks for: at most eight digits and a unit.
pub fn timeout(headers: &Headers) -> Option<Duration> {
    let text = headers.get(&GRPC_TIMEOUT)?.as_bytes();
    let (unit, digits) = text.split_last()?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0_u64, |number, digit| number * 10 + u64::from(digit - b'0'));
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// A timeout as a `grpc-timeout`, in the smallest unit that its eight digits hold.
pub fn timeout_value(timeout: Duration) -> HeaderValue {
    let units = [(1_u128, 'm'), (1000, 'S'), (60_000, 'M'), (3_600_000, 'H')];
    let millis = timeout.as_millis();
    let fits = units.into_iter().find(|(size, _)| millis / size <= 99_999_999);
    let (size, unit) = fits.unwrap_or((3_600_000, 'H'));
    let text = format!("{}{unit}", (millis / size).min(99_999_999));
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("0m"))
}

/// Bytes in front of a message: whether it is compressed, and its length.
const PREFIX_BYTES: u8 = 5;

/// Counts the messages of a body, as its parts pass.
#[derive(Clone, Copy, Debug, Default)]
pub struct MessageCounter {
    /// Messages that have begun.
    count: u64,
    /// Bytes of the prefix that have come.
    prefix: u8,
    /// As far as it is known; then bytes of the message that are still to come.
    length: u32,
    /// The body is not gRPC's: no more is counted.
    is_odd: bool,
}

impl MessageCounter {
    /// The next part of the body.
    pub fn push(&mut self, mut part: &[u8]) {
        while !self.is_odd {
            if self.prefix == PREFIX_BYTES {
                let skipped = part.len().min(usize::try_from(self.length).unwrap_or(usize::MAX));
                part = part.get(skipped..).unwrap_or_default();
                self.length -= u32::try_from(skipped).unwrap_or(self.length);
                if self.length > 0 {
                    return;
                }
                self.prefix = 0;
            }
            let Some((byte, rest)) = part.split_first() else { return };
            part = rest;
            match self.prefix {
                // The flag: compressed or not.
                0 if *byte > 1 => self.is_odd = true,
                0 => self.count += 1,
                _ => self.length = self.length << 8 | u32::from(*byte),
            }
            self.prefix += 1;
        }
    }

    /// Messages that have begun.
    pub fn count(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_however_they_are_cut() {
        let body = b"\0\0\0\0\x03abc\x01\0\0\0\0\0\0\0\x01\x02".to_vec();
        let long = [&body[..], &[b'x'; 300]].concat();
        for size in [1, 2, 3, 5, 7, 400] {
            let mut counter = MessageCounter::default();
            long.chunks(size).for_each(|part| counter.push(part));
            assert_eq!(counter.count(), 3, "{size}");
        }
        let mut odd = MessageCounter::default();
        odd.push(b"\x02\0\0\0\0\0");
        assert_eq!(odd.count(), 0);
    }

    #[test]
    fn timeouts_have_units() {
        let asked = |text: &str| {
            timeout(&[(GRPC_TIMEOUT, HeaderValue::from_str(text).unwrap())].into_iter().collect())
        };
        assert_eq!(asked("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(asked("15M"), Some(Duration::from_secs(900)));
        assert_eq!(asked("99999999S"), Some(Duration::from_secs(99_999_999)));
        assert_eq!(asked("5m"), Some(Duration::from_millis(5)));
        assert_eq!(asked("5u"), Some(Duration::from_micros(5)));
        assert_eq!(asked("5n"), Some(Duration::from_nanos(5)));
        for wrong in ["", "S", "5", "5s", "123456789S", "-5S", "5 S"] {
            assert_eq!(asked(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn timeouts_are_written_in_eight_digits() {
        for (millis, wanted) in [(0, "0m"), (5, "5m"), (99_999_999, "99999999m"), (100_000_000, "100000S")] {
            assert_eq!(timeout_value(Duration::from_millis(millis)), wanted);
        }
    }

    #[test]
    fn http_stands_for_grpc_and_back() {
        assert_eq!(status_of_http(StatusCode::NOT_FOUND), 12);
        assert_eq!(status_of_http(StatusCode::IM_A_TEAPOT), 2);
        assert_eq!(http_of_status(14), 503);
        assert_eq!(http_of_status(1), 499);
        assert_eq!(http_of_status(99), 500);
    }

    #[test]
    fn grpc_web_is_told_by_its_content_type() {
        let is = |text: &'static str| {
            let mut headers = Headers::default();
            headers.append(http::header::CONTENT_TYPE, HeaderValue::from_static(text));
            is_web(&headers)
        };
        assert!(
            is("application/grpc-web") && is("application/grpc-web+proto") && is("application/grpc-web-text")
        );
        assert!(!is("application/grpc") && !is("application/grpc-website") && !is_web(&Headers::default()));
    }
}
