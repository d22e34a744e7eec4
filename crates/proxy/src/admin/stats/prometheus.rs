//! Statistics in Prometheus' text format: those of one name together, told apart by their tags.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::general::general;
use super::{CUSTOM, Kind, Wanted};
use crate::admin::Admin;
use crate::admin::answer::Out;
use crate::stats::{QUANTILES, Reading, Seen, SeriesName, Tag};

/// Samples by the name of their metric.
#[derive(Default)]
struct Metrics(BTreeMap<String, String>);

pub(super) fn write(admin: &Admin, wanted: &Wanted, is_summary: bool, with_texts: bool, out: &mut Out) {
    let (mut counters, mut gauges, mut texts) = (Metrics::default(), Metrics::default(), Metrics::default());
    wanted.read_labelled(admin, Kind::Numbers, &mut |name, series, reading| {
        let (metric, labels) = named(admin, name, series);
        let (metrics, value) = match reading {
            Reading::Counter(value) => (&mut counters, value),
            Reading::Gauge(value) => (&mut gauges, value),
            Reading::Text(_) | Reading::Histogram(_) => return,
        };
        metrics.add(&metric, "", &labels, &value);
    });
    counters.write("counter", out);
    gauges.write("gauge", out);
    if with_texts {
        wanted.read(admin, Kind::Texts, &mut |name, reading| {
            let Reading::Text(text) = reading else { return };
            let (metric, labels) = named(admin, name, None);
            let mut all = labels;
            label(&mut all, "text_value", &text);
            texts.add(&metric, "", &all, &0);
        });
        texts.write("gauge", out);
    }
    let mut histograms = Metrics::default();
    wanted.read_labelled(admin, Kind::Histograms, &mut |name, series, reading| {
        let Reading::Histogram(seen) = reading else { return };
        let (metric, labels) = named(admin, name, series);
        if is_summary {
            histograms.add_summary(&metric, &labels, &seen);
        } else {
            histograms.add_histogram(&metric, &labels, &seen, admin.buckets.of(name));
        }
    });
    histograms.write(if is_summary { "summary" } else { "histogram" }, out);
}

impl Metrics {
    fn add(&mut self, metric: &str, suffix: &str, labels: &str, value: &dyn std::fmt::Display) {
        let samples = match self.0.get_mut(metric) {
            Some(samples) => samples,
            None => self.0.entry(metric.to_owned()).or_default(),
        };
        // Writing to a string does not fail.
        let _ = writeln!(samples, "{metric}{suffix}{{{labels}}} {value}");
    }

    fn add_histogram(&mut self, metric: &str, labels: &str, seen: &Seen, bounds: &[f64]) {
        let bucket = |bound: &str| {
            let mut all = labels.to_owned();
            label(&mut all, "le", bound);
            all
        };
        for (bound, count) in bounds.iter().zip(seen.cumulative(bounds)) {
            self.add(metric, "_bucket", &bucket(&bound.to_string()), &count);
        }
        self.add(metric, "_bucket", &bucket("+Inf"), &seen.count());
        self.add(metric, "_sum", labels, &seen.sum());
        self.add(metric, "_count", labels, &seen.count());
    }

    fn add_summary(&mut self, metric: &str, labels: &str, seen: &Seen) {
        let values = seen.quantiles().unwrap_or([f64::NAN; QUANTILES.len()]);
        for (quantile, value) in QUANTILES.iter().zip(values) {
            let mut all = labels.to_owned();
            label(&mut all, "quantile", &quantile.to_string());
            self.add(metric, "", &all, &general(value));
        }
        self.add(metric, "_sum", labels, &seen.sum());
        self.add(metric, "_count", labels, &seen.count());
    }

    fn write(self, kind: &str, out: &mut Out) {
        for (metric, samples) in self.0 {
            out.text(&format!("# TYPE {metric} {kind}\n"));
            out.text(&samples);
        }
    }
}

/// The name of the metric, and its labels as text.
fn named(admin: &Admin, name: &str, series: Option<&SeriesName>) -> (String, String) {
    let mut labels = String::new();
    if let Some(series) = series {
        series.labels.iter().for_each(|(name, value)| label(&mut labels, &sanitized(name), value));
        return (series.metric.to_owned(), labels);
    }
    let (rest, tags) = admin.tags.extract(name);
    for (tag, value) in &tags as &[Tag] {
        label(&mut labels, &sanitized(tag), value);
    }
    let metric = match rest.strip_prefix(CUSTOM) {
        Some(rest) => sanitized(rest),
        None => format!("envoy_{}", sanitized(&rest)),
    };
    (metric, labels)
}

fn label(labels: &mut String, name: &str, value: &str) {
    if !labels.is_empty() {
        labels.push(',');
    }
    let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let _ = write!(labels, "{name}=\"{value}\"");
}

fn sanitized(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect()
}
