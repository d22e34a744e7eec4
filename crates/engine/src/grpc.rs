//! gRPC as far as a proxy reads it: statuses (`grpc-status`) and the timeout a client asks for (`grpc-timeout`).
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
