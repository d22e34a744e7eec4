//! Moments as text: the directives of `strftime` that logs use, and Envoy's for fractions of a second.

use std::time::Duration;

use super::digits;
use crate::Refusal;

/// What Envoy writes where no format is given.
const DEFAULT: &str = "%Y-%m-%dT%H:%M:%S.%3fZ";
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const DAY_SECONDS: u64 = 86_400;

/// A format of moments.
#[derive(Clone, Debug)]
pub(super) struct TimeFormat {
    parts: Box<[Part]>,
}

#[derive(Clone, Debug)]
enum Part {
    Text(Box<str>),
    Year,
    Month,
    MonthName,
    Day,
    DayPadded,
    DayName,
    Hour,
    Minute,
    Second,
    /// Digits of the fraction of a second.
    Fraction(u32),
    /// Since the epoch, in units of ten to the minus so many seconds.
    Epoch(u32),
    Zone,
    Offset,
}

impl TimeFormat {
    /// Compiles a format; the empty one is [`DEFAULT`].
    pub(super) fn compile(text: &str) -> Result<TimeFormat, Refusal> {
        let text = if text.is_empty() { DEFAULT } else { text };
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('%') {
            if !before.is_empty() {
                parts.push(Part::Text(before.into()));
            }
            rest = directive(after, &mut parts)
                .ok_or_else(|| Refusal::unsupported(format!("time format {text:?}")))?;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.into()));
        }
        Ok(TimeFormat { parts: parts.into() })
    }

    /// Adds a moment, since the epoch, to `out`. UTC.
    pub(super) fn write(&self, moment: Duration, out: &mut Vec<u8>) {
        let civil = Civil::of(moment);
        for part in &self.parts {
            part.write(&civil, moment, out);
        }
    }
}

/// Reads the directive that `text` begins with, behind its percent sign; gives what follows it.
fn directive<'a>(text: &'a str, parts: &mut Vec<Part>) -> Option<&'a str> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let width: Option<u32> = text.get(..digits)?.parse().ok();
    if width.is_some_and(|width| !(1..=9).contains(&width)) {
        return None;
    }
    let kind = text.get(digits..)?.chars().next()?;
    let two = |first, between: &str, second, parts: &mut Vec<Part>| {
        parts.extend([first, Part::Text(between.into()), second]);
    };
    match (kind, width) {
        ('f', width) => parts.push(Part::Fraction(width.unwrap_or(9))),
        ('s', width) => parts.push(Part::Epoch(width.unwrap_or(0))),
        (_, Some(_)) => return None,
        ('Y', _) => parts.push(Part::Year),
        ('m', _) => parts.push(Part::Month),
        ('b' | 'h', _) => parts.push(Part::MonthName),
        ('d', _) => parts.push(Part::Day),
        ('e', _) => parts.push(Part::DayPadded),
        ('a', _) => parts.push(Part::DayName),
        ('H', _) => parts.push(Part::Hour),
        ('M', _) => parts.push(Part::Minute),
        ('S', _) => parts.push(Part::Second),
        ('Z', _) => parts.push(Part::Zone),
        ('z', _) => parts.push(Part::Offset),
        ('%', _) => parts.push(Part::Text("%".into())),
        ('n', _) => parts.push(Part::Text("\n".into())),
        ('F', _) => {
            two(Part::Year, "-", Part::Month, parts);
            parts.extend([Part::Text("-".into()), Part::Day]);
        }
        ('T', _) => {
            two(Part::Hour, ":", Part::Minute, parts);
            parts.extend([Part::Text(":".into()), Part::Second]);
        }
        _ => return None,
    }
    text.get(digits + kind.len_utf8()..)
}

impl Part {
    fn write(&self, civil: &Civil, moment: Duration, out: &mut Vec<u8>) {
        match self {
            Part::Text(text) => out.extend_from_slice(text.as_bytes()),
            Part::Year => digits::number(civil.year, 4, out),
            Part::Month => digits::number(civil.month, 2, out),
            Part::MonthName => {
                let name = MONTHS.get(civil.month as usize - 1).copied().unwrap_or_default();
                out.extend_from_slice(name.as_bytes());
            }
            Part::Day => digits::number(civil.day, 2, out),
            Part::DayPadded => {
                if civil.day < 10 {
                    out.push(b' ');
                }
                digits::number(civil.day, 1, out);
            }
            Part::DayName => {
                let days = moment.as_secs() / DAY_SECONDS;
                let name = DAYS.get((days % 7) as usize).copied().unwrap_or_default();
                out.extend_from_slice(name.as_bytes());
            }
            Part::Hour => digits::number(civil.second_of_day / 3600, 2, out),
            Part::Minute => digits::number(civil.second_of_day / 60 % 60, 2, out),
            Part::Second => digits::number(civil.second_of_day % 60, 2, out),
            Part::Fraction(width) => {
                let fraction = moment.subsec_nanos() / 10_u32.pow(9 - width);
                digits::number(fraction.into(), *width as usize, out);
            }
            Part::Epoch(width) => {
                let count = moment.as_nanos() / 10_u128.pow(9 - width);
                // What is more does not fit into any clock.
                digits::number(u64::try_from(count).unwrap_or(u64::MAX), 1, out);
            }
            Part::Zone => out.extend_from_slice(b"UTC"),
            Part::Offset => out.extend_from_slice(b"+0000"),
        }
    }
}

/// A day of the Gregorian calendar, and the second in it.
struct Civil {
    year: u64,
    month: u64,
    day: u64,
    second_of_day: u64,
}

impl Civil {
    /// Counts in eras of 400 years that begin on the first of March, so that leap days come last.
    fn of(moment: Duration) -> Civil {
        let days = moment.as_secs() / DAY_SECONDS + 719_468;
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * day_of_year + 2) / 153;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        Civil {
            year: era * 400 + year_of_era + u64::from(month <= 2),
            month,
            day: day_of_year - (153 * from_march + 2) / 5 + 1,
            second_of_day: moment.as_secs() % DAY_SECONDS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(format: &str, seconds: u64) -> String {
        let mut out = Vec::new();
        TimeFormat::compile(format).unwrap().write(Duration::from_secs(seconds), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn days_of_the_calendar() {
        for (seconds, wanted) in [
            (0, "1970-01-01 00:00:00 Thu"),
            (951_782_400, "2000-02-29 00:00:00 Tue"),
            (951_868_799, "2000-02-29 23:59:59 Tue"),
            (951_868_800, "2000-03-01 00:00:00 Wed"),
            (4_107_542_400, "2100-03-01 00:00:00 Mon"),
            (1_735_689_599, "2024-12-31 23:59:59 Tue"),
        ] {
            assert_eq!(written("%F %T %a", seconds), wanted);
        }
    }

    #[test]
    fn fractions_and_epochs() {
        let mut out = Vec::new();
        let format = TimeFormat::compile("%s %3s %6s %9s %3f %1f %f").unwrap();
        format.write(Duration::from_nanos(1_234_567_890), &mut out);
        assert_eq!(&out[..], b"1 1234 1234567 1234567890 234 2 234567890");
        assert!(TimeFormat::compile("%Q").is_err());
        assert!(TimeFormat::compile("%0f").is_err());
    }
}
