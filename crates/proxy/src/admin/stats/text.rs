//! Statistics as text: `name: value`, a line each; texts first, histograms last.

use std::io::Write as _;

use super::general::general;
use super::{Kind, Mode, Wanted, disjoint};
use crate::admin::Admin;
use crate::admin::answer::Out;
use crate::stats::{QUANTILES, Reading, Seen};

pub(super) fn write(admin: &Admin, wanted: &Wanted, mode: Mode, out: &mut Out) {
    for kind in [Kind::Texts, Kind::Numbers, Kind::Histograms] {
        wanted.read(admin, kind, &mut |name, reading| {
            // Writing to `Out` does not fail.
            let _ = match reading {
                Reading::Counter(value) | Reading::Gauge(value) => writeln!(out, "{name}: {value}"),
                Reading::Text(text) => writeln!(out, "{name}: \"{}\"", escaped(&text)),
                Reading::Histogram(seen) => histogram(name, &seen, admin.buckets.of(name), mode, out),
            };
        });
    }
}

/// Text that cannot break a page it is shown in.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn histogram(name: &str, seen: &Seen, bounds: &[f64], mode: Mode, out: &mut Out) -> std::io::Result<()> {
    let Some(quantiles) = seen.quantiles() else { return writeln!(out, "{name}: No recorded values") };
    let summary = QUANTILES.iter().zip(quantiles).map(|(quantile, value)| {
        let value = general(value);
        format!("P{}({value},{value})", general(quantile * 100.0))
    });
    let summary: Vec<String> = summary.collect();
    let counts = |counts: Vec<u64>| {
        let count = |(bound, count): (&f64, u64)| format!("B{}({count},{count})", general(*bound));
        bounds.iter().zip(counts).map(count).collect::<Vec<_>>().join(" ")
    };
    match mode {
        Mode::Summary => writeln!(out, "{name}: {}", summary.join(" ")),
        Mode::Cumulative => writeln!(out, "{name}: {}", counts(seen.cumulative(bounds))),
        Mode::Disjoint => writeln!(out, "{name}: {}", counts(disjoint(&seen.cumulative(bounds)))),
        Mode::Detailed => {
            let bin = |(least, width, count)| format!("{},{}:{count}", general(least), general(width));
            let bins = seen.bins().map(bin).collect::<Vec<_>>().join(", ");
            writeln!(out, "{name}:\n  totals={bins}\n  intervals={bins}\n  summary={}", summary.join(" "))
        }
    }
}
