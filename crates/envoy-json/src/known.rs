//! Durations, moments and field masks as text.

/// Seconds and nanoseconds of `1.5s`; at most nine digits after the point, at most about 10,000 years.
pub(crate) fn parse_duration(text: &str) -> Option<(i64, i32)> {
    let number = text.strip_suffix('s')?;
    let (negative, number) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let seconds: i64 = digits(whole)?;
    let nanos = nanos(fraction)?;
    if seconds > DURATION_SECONDS_MAX || (seconds == DURATION_SECONDS_MAX && nanos > 0) {
        return None;
    }
    Some(if negative { (-seconds, -nanos) } else { (seconds, nanos) })
}

const DURATION_SECONDS_MAX: i64 = 315_576_000_000;

/// The way back.
pub(crate) fn duration(seconds: i64, nanos: i32) -> String {
    let sign = if seconds < 0 || nanos < 0 { "-" } else { "" };
    format!("{sign}{}{}s", seconds.unsigned_abs(), fraction(nanos.unsigned_abs()))
}

fn digits(text: &str) -> Option<i64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

fn nanos(fraction: &str) -> Option<i32> {
    if fraction.is_empty() {
        return Some(0);
    }
    if fraction.len() > 9 {
        return None;
    }
    let value = i32::try_from(digits(fraction)?).ok()?;
    let missing = u32::try_from(9 - fraction.len()).ok()?;
    value.checked_mul(10_i32.pow(missing))
}

/// Nothing, or a point and 3, 6 or 9 digits.
fn fraction(nanos: u32) -> String {
    match nanos {
        0 => String::new(),
        _ if nanos.is_multiple_of(1_000_000) => format!(".{:03}", nanos / 1_000_000),
        _ if nanos.is_multiple_of(1_000) => format!(".{:06}", nanos / 1_000),
        _ => format!(".{nanos:09}"),
    }
}

/// Seconds since 1970 and nanoseconds of `2026-01-02T03:04:05.678Z`, or with an offset.
pub(crate) fn parse_timestamp(text: &str) -> Option<(i64, i32)> {
    let (date, rest) = text.split_at_checked(10)?;
    let mut date_parts = date.splitn(3, '-');
    let (year, month, day) = (date_parts.next()?, date_parts.next()?, date_parts.next()?);
    if year.len() != 4 || month.len() != 2 || day.len() != 2 {
        return None;
    }
    let (year, month, day) = (digits(year)?, digits(month)?, digits(day)?);
    let (clock, rest) = rest.strip_prefix('T')?.split_at_checked(8)?;
    let seconds = parse_clock(clock)?;
    let zone = rest.find(['Z', '+', '-'])?;
    let (fraction, zone) = rest.split_at(zone);
    let nanos = match fraction.strip_prefix('.') {
        Some(fraction) if !fraction.is_empty() => nanos(fraction)?,
        None if fraction.is_empty() => 0,
        _ => return None,
    };
    let days = days_from_civil(year, month, day)?;
    let total = days * 86_400 + seconds - parse_zone(zone)?;
    (TIMESTAMP_MIN..=TIMESTAMP_MAX).contains(&total).then_some((total, nanos))
}

/// The years 1 to 9999.
const TIMESTAMP_MIN: i64 = -62_135_596_800;
const TIMESTAMP_MAX: i64 = 253_402_300_799;

fn parse_clock(text: &str) -> Option<i64> {
    let mut parts = text.splitn(3, ':');
    let mut part = |max: i64| {
        let part = parts.next().filter(|part| part.len() == 2)?;
        digits(part).filter(|value| *value <= max)
    };
    Some(part(23)? * 3_600 + part(59)? * 60 + part(59)?)
}

/// Seconds that a zone is ahead of UTC.
fn parse_zone(text: &str) -> Option<i64> {
    if text == "Z" {
        return Some(0);
    }
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = text.get(1..)?.split_once(':')?;
    if hours.len() != 2 || minutes.len() != 2 {
        return None;
    }
    let (hours, minutes) = (digits(hours)?, digits(minutes)?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3_600 + minutes * 60))
}

/// The way back; nothing for a moment outside the years 1 to 9999.
pub(crate) fn timestamp(seconds: i64, nanos: i32) -> Option<String> {
    let nanos = u32::try_from(nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    if !(TIMESTAMP_MIN..=TIMESTAMP_MAX).contains(&seconds) {
        return None;
    }
    let (days, clock) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil_from_days(days);
    let (hour, minute, second) = (clock / 3_600, clock / 60 % 60, clock % 60);
    let fraction = fraction(nanos);
    Some(format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z"))
}

/// Days since 1970-01-01 of the proleptic Gregorian calendar. Years begin in March here, so that the leap day is the last.
fn days_from_civil(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return None,
    };
    if day < 1 || day > length {
        return None;
    }
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * month + 2) / 5 + day - 1;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + carry, month, day)
}

/// `fooBar.baz` to `foo_bar.baz`; nothing for a path that is in snake case already, which JSON does not have.
pub(crate) fn snake(path: &str) -> Option<String> {
    let mut out = String::with_capacity(path.len() + 4);
    for c in path.chars() {
        match c {
            '_' => return None,
            c if c.is_ascii_uppercase() => {
                out.push('_');
                out.push(c.to_ascii_lowercase());
            }
            c => out.push(c),
        }
    }
    Some(out)
}

/// The way back.
pub(crate) fn camel(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut raise = false;
    for c in path.chars() {
        match c {
            '_' => raise = true,
            c if raise => {
                out.push(c.to_ascii_uppercase());
                raise = false;
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_go_both_ways() {
        for (text, parts, back) in [
            ("0s", (0, 0), "0s"),
            ("0.25s", (0, 250_000_000), "0.250s"),
            ("-1.5s", (-1, -500_000_000), "-1.500s"),
            ("1.000001s", (1, 1_000), "1.000001s"),
            ("1.000000001s", (1, 1), "1.000000001s"),
            ("315576000000s", (315_576_000_000, 0), "315576000000s"),
        ] {
            assert_eq!(parse_duration(text), Some(parts), "{text}");
            assert_eq!(duration(parts.0, parts.1), back);
        }
        for bad in
            ["", "s", "1", "1m", "1.s1", "+1s", "1.0000000001s", "315576000001s", "1e3s", "--1s", ".5s"]
        {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn moments_go_both_ways() {
        for (text, parts) in [
            ("1970-01-01T00:00:00Z", (0, 0)),
            ("2000-02-29T23:59:59.500Z", (951_868_799, 500_000_000)),
            ("0001-01-01T00:00:00Z", (TIMESTAMP_MIN, 0)),
            ("9999-12-31T23:59:59.999999999Z", (TIMESTAMP_MAX, 999_999_999)),
            ("1969-12-31T23:59:59.000001Z", (-1, 1_000)),
        ] {
            assert_eq!(parse_timestamp(text), Some(parts), "{text}");
            assert_eq!(timestamp(parts.0, parts.1).as_deref(), Some(text));
        }
        assert_eq!(parse_timestamp("1970-01-01T01:00:00+01:00"), Some((0, 0)));
        for bad in [
            "",
            "1970-01-01",
            "1970-02-29T00:00:00Z",
            "1970-01-01T24:00:00Z",
            "1970-01-01T00:00:00",
            "é970-01-01T00:00:00Z",
        ] {
            assert_eq!(parse_timestamp(bad), None, "{bad}");
        }
    }

    #[test]
    fn every_day_has_a_date_of_its_own() {
        for days in -719_162..2_932_897 {
            let (year, month, day) = civil_from_days(days);
            assert_eq!(days_from_civil(year, month, day), Some(days));
        }
    }

    #[test]
    fn masks_change_their_case() {
        assert_eq!(snake("fooBar.baz").as_deref(), Some("foo_bar.baz"));
        assert_eq!(camel("foo_bar.baz"), "fooBar.baz");
        assert_eq!(snake("foo_bar"), None);
    }
}
