//! Statistics as JSON: `{"stats": [{"name", "value"}.., {"histograms": ..}]}`, in one line.

use std::io::Write as _;

use ostro_envoy_json::{Style, write_value};
use serde_json::{Value, json};

use super::{Kind, Mode, Wanted, disjoint};
use crate::admin::Admin;
use crate::admin::answer::Out;
use crate::stats::{QUANTILES, Reading, Seen};

pub(super) fn write(admin: &Admin, wanted: &Wanted, mode: Mode, out: &mut Out) {
    let mut list = List { out, any: false };
    list.out.text("{\"stats\":[");
    for kind in [Kind::Texts, Kind::Numbers] {
        wanted.read(admin, kind, &mut |name, reading| {
            list.comma();
            let name = Value::from(name);
            // Writing to `Out` does not fail.
            let _ = match reading {
                Reading::Counter(value) | Reading::Gauge(value) => {
                    write!(list.out, "{{\"name\":{name},\"value\":{value}}}")
                }
                Reading::Text(text) => {
                    write!(list.out, "{{\"name\":{name},\"value\":{}}}", Value::from(text))
                }
                Reading::Histogram(_) => Ok(()),
            };
        });
    }
    histograms(admin, wanted, mode, &mut list);
    list.out.text("]}");
}

/// Puts commas between elements.
struct List<'o> {
    out: &'o mut Out,
    any: bool,
}

impl List<'_> {
    fn comma(&mut self) {
        if std::mem::replace(&mut self.any, true) {
            self.out.text(",");
        }
    }

    fn value(&mut self, value: &Value) {
        self.comma();
        self.out.with(|buffer| write_value(buffer, value, Style::Compact, 0));
    }
}

/// All of them in one element, of a shape for each mode; none if there are none.
fn histograms(admin: &Admin, wanted: &Wanted, mode: Mode, list: &mut List<'_>) {
    let quantiles: Vec<Value> = QUANTILES.iter().map(|quantile| number(quantile * 100.0)).collect();
    let quantiles = Value::from(quantiles);
    let (begin, end) = match mode {
        Mode::Summary => (
            format!("{{\"histograms\":{{\"supported_quantiles\":{quantiles},\"computed_quantiles\":["),
            "]}}",
        ),
        Mode::Detailed => {
            (format!("{{\"histograms\":{{\"supported_percentiles\":{quantiles},\"details\":["), "]}}")
        }
        Mode::Cumulative | Mode::Disjoint => ("{\"histograms\":[".to_owned(), "]}"),
    };
    let mut has_begun = false;
    wanted.read(admin, Kind::Histograms, &mut |name, reading| {
        let Reading::Histogram(seen) = reading else { return };
        if !std::mem::replace(&mut has_begun, true) {
            list.comma();
            list.out.text(&begin);
            list.any = false;
        }
        list.value(&histogram(name, &seen, admin.buckets.of(name), mode));
    });
    if has_begun {
        list.out.text(end);
    }
}

fn histogram(name: &str, seen: &Seen, bounds: &[f64], mode: Mode) -> Value {
    // Quantiles of nothing are nothing.
    let values = match seen.quantiles() {
        Some(quantiles) => quantiles.map(number),
        None => std::array::from_fn(|_| Value::Null),
    };
    let values: Vec<Value> =
        values.into_iter().map(|value| json!({"cumulative": value, "interval": value})).collect();
    let buckets = |counts: Vec<u64>| -> Value {
        let bucket = |(bound, count): (&f64, u64)| json!({"upper_bound": number(*bound), "interval": count, "cumulative": count});
        bounds.iter().zip(counts).map(bucket).collect()
    };
    match mode {
        Mode::Summary => json!({"name": name, "values": values}),
        Mode::Cumulative => json!({"name": name, "buckets": buckets(seen.cumulative(bounds))}),
        Mode::Disjoint => json!({"name": name, "buckets": buckets(disjoint(&seen.cumulative(bounds)))}),
        Mode::Detailed => {
            let bin = |(least, width, count)| json!({"lower_bound": number(least), "width": number(width), "count": count});
            let bins: Vec<Value> = seen.bins().map(bin).collect();
            json!({"name": name, "totals": bins, "intervals": bins, "percentiles": values})
        }
    }
}

/// A whole number without a fraction.
fn number(value: f64) -> Value {
    // Quantiles are sums of small fractions: what is beyond nine digits is noise.
    let value = (value * 1e9).round() / 1e9;
    #[allow(clippy::cast_possible_truncation, reason = "checked to be whole and small enough")]
    if value.fract() == 0.0 && value.abs() < 1e15 { json!(value as i64) } else { json!(value) }
}
