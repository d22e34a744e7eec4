//! Small formats inside text: durations, times, and help with misspelt names.

use std::borrow::Cow;
use std::time::Duration;

use crate::complaint::DID_YOU_MEAN;
use crate::object::Timestamp;
use crate::similar::distance;

/// A duration as Go writes it: `1h30m`, `1.5s`, `10ms`. None if it is not one, or negative.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let text = text.strip_prefix('+').unwrap_or(text);
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|&end| end > 0)?;
        let (number, after) = rest.split_at(digits);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        nanos = nanos.checked_add(parts(number, unit)?)?;
        rest = after;
    }
    // Go's durations end at 2^63 nanoseconds, some 292 years.
    let nanos = u64::try_from(nanos).ok().filter(|nanos| i64::try_from(*nanos).is_ok())?;
    (!text.is_empty()).then(|| Duration::from_nanos(nanos))
}

/// Nanoseconds of a number with a unit.
fn parts(number: &str, unit: &str) -> Option<u128> {
    let unit: u128 = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut nanos = whole.checked_mul(unit)?;
    let mut scale = unit;
    for digit in fraction.bytes() {
        scale /= 10;
        nanos = nanos.checked_add(u128::from(digit - b'0') * scale)?;
    }
    Some(nanos)
}

/// A time by RFC 3339; fractions of a second are dropped.
pub(crate) fn timestamp(text: &str) -> Option<Timestamp> {
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = text.get(from..to)?;
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
    };
    let sign_at =
        |at: usize, sign: &str| text.get(at..at + sign.len()).is_some_and(|s| s.eq_ignore_ascii_case(sign));
    if !(sign_at(4, "-") && sign_at(7, "-") && sign_at(10, "T") && sign_at(13, ":") && sign_at(16, ":")) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let rest = text.get(19..)?;
    let zone = rest.strip_prefix('.').map_or(rest, |f| f.trim_start_matches(|c: char| c.is_ascii_digit()));
    let offset = match zone.as_bytes() {
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), ..] if zone.len() == 6 && zone.as_bytes().get(3) == Some(&b':') => {
            let start = text.len() - 6;
            let seconds = number(start + 1, start + 3)? * 3600 + number(start + 4, start + 6)? * 60;
            if *sign == b'+' { seconds } else { -seconds }
        }
        _ => return None,
    };
    Some(Timestamp(days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset))
}

/// Days from 1970-01-01 in the Gregorian calendar; years begin in March here, so that the leap day
/// is the last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// What could be written instead of an unknown word.
pub(crate) fn suggest(word: &str, known: &[&str]) -> String {
    const LISTED: usize = 30;
    let lower = word.to_lowercase();
    let near = known.iter().map(|name| (distance(&lower, &name.to_lowercase()), *name)).min();
    if let Some((distance, name)) = near
        && distance <= 1 + name.len().min(word.len()) / 4
    {
        return format!("{DID_YOU_MEAN}{name}?");
    }
    let mut listed: Vec<&str> = known.iter().copied().take(LISTED).collect();
    if known.len() > LISTED {
        listed.push("...");
    }
    listed.join(", ")
}

/// A key or name in a path, cut to what a line has room for.
pub(crate) fn clip(text: &str) -> Cow<'_, str> {
    const SHOWN_CHARS: usize = 80;
    let odd = |c: char| c.is_control();
    match text.char_indices().nth(SHOWN_CHARS) {
        None if !text.contains(odd) => Cow::Borrowed(text),
        None => text.replace(odd, "\u{fffd}").into(),
        Some((end, _)) => format!("{}...", text[..end].replace(odd, "\u{fffd}")).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_go() {
        let table = [
            ("10s", Some(10_000)),
            ("1h30m", Some(5_400_000)),
            ("1.5s", Some(1_500)),
            (".5s", Some(500)),
            ("1.s", Some(1_000)),
            ("100ms", Some(100)),
            ("0", Some(0)),
            ("0s", Some(0)),
            ("+1s", Some(1_000)),
            ("-1s", None),
            ("", None),
            ("10", None),
            ("s", None),
            ("1d", None),
            ("1s ", None),
            ("1.2.3s", None),
            (".s", None),
            ("999999999999h", None),
            ("99999999999999999999999999999999999999999s", None),
        ];
        for (text, millis) in table {
            assert_eq!(duration(text), millis.map(Duration::from_millis), "{text:?}");
        }
        assert_eq!(duration("1us"), Some(Duration::from_micros(1)));
        assert_eq!(duration("0.0000000019s"), Some(Duration::from_nanos(1)));
    }

    #[test]
    fn times_are_those_of_rfc_3339() {
        let table = [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-03-01T00:00:00Z", Some(951_868_800)),
            ("2024-02-29T12:30:45Z", Some(1_709_209_845)),
            ("2024-02-29T12:30:45.123456Z", Some(1_709_209_845)),
            ("2024-02-29T14:30:45+02:00", Some(1_709_209_845)),
            ("2024-02-29 12:30:45Z", None),
            ("2024-13-01T00:00:00Z", None),
            ("2024-02-29T12:30:45", None),
            ("2024-02-29", None),
            ("tomorrow", None),
            ("ä024-02-29T12:30:45Z", None),
        ];
        for (text, seconds) in table {
            assert_eq!(timestamp(text), seconds.map(Timestamp), "{text:?}");
        }
    }

    #[test]
    fn a_near_miss_is_suggested_and_a_far_one_is_shown_the_list() {
        let known = ["hosts", "gateways", "http"];
        assert_eq!(suggest("host", &known), "did you mean hosts?");
        assert_eq!(suggest("Gateways", &known), "did you mean gateways?");
        assert_eq!(suggest("banana", &known), "hosts, gateways, http");
        assert_eq!(suggest("", &[]), "");
    }
}
