//! `/stats` and `/stats/prometheus`.
//!
//! Unlike Envoy: figures of a histogram's last interval are those since the start; names are in order within a scope, and scopes in order, but
//! a scope's name may come before that of another that it begins with, and what the engine counts of clusters comes last; Prometheus is not told of scopes in which nothing was counted yet.

mod general;
mod json;
mod prometheus;
mod rows;
mod text;

use std::sync::Arc;

use ostro_engine::bootstrap::{HistogramBuckets, StatsSettings};
use regex::Regex;

use super::Admin;
use super::answer::Answer;
use super::query::Query;
use crate::stats::{BOUNDS, Reading, SeriesName};

/// What the names of statistics with labels of their own begin with; Prometheus is not told of it.
const CUSTOM: &str = "istiocustom.";

/// Upper bounds of histograms.
pub(crate) struct Buckets(Vec<HistogramBuckets>);

impl Buckets {
    /// As configured.
    pub fn new(settings: &StatsSettings) -> Buckets {
        Buckets(settings.buckets.clone())
    }

    /// Those of a histogram of this name.
    fn of(&self, name: &str) -> &[f64] {
        let configured = self.0.iter().find(|buckets| buckets.names.matches(name.as_bytes()));
        configured.map_or(&BOUNDS, |buckets| &buckets.bounds)
    }
}

/// How histograms are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Quantiles.
    Summary,
    /// Counts up to each bound.
    Cumulative,
    /// Counts between bounds.
    Disjoint,
    /// All bins.
    Detailed,
}

/// A kind of statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Texts,
    Numbers,
    Histograms,
}

/// Which statistics are asked for.
struct Wanted {
    used_only: bool,
    filter: Option<Regex>,
    is_inverted: bool,
    shows_texts: bool,
    shows_counters: bool,
    shows_gauges: bool,
    shows_histograms: bool,
    /// Leaves out scopes in which nothing was counted yet.
    skips_idle: bool,
}

impl Wanted {
    fn of(query: &Query) -> Result<Wanted, Answer> {
        let filter = query.get("filter").filter(|pattern| !pattern.is_empty()).map(Regex::new).transpose();
        let filter = filter.map_err(|error| Answer::bad(format!("Invalid re2 regex: {error}\n")))?;
        let (texts, counters, gauges, histograms) = match query.get("type").unwrap_or_default() {
            "" | "All" => (true, true, true, true),
            "TextReadouts" => (true, false, false, false),
            "Counters" => (false, true, false, false),
            "Gauges" => (false, false, true, false),
            "Histograms" => (false, false, false, true),
            _ => return Err(Answer::bad("invalid &type= param\n")),
        };
        Ok(Wanted {
            used_only: query.has("usedonly"),
            filter,
            is_inverted: query.has("invert_filter"),
            shows_texts: texts,
            shows_counters: counters,
            shows_gauges: gauges,
            shows_histograms: histograms,
            skips_idle: false,
        })
    }

    fn is_named(&self, name: &str) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.is_match(name) != self.is_inverted)
    }

    fn is_shown(&self, reading: &Reading) -> bool {
        let kind = match reading {
            Reading::Text(_) => self.shows_texts,
            Reading::Counter(_) => self.shows_counters,
            Reading::Gauge(_) => self.shows_gauges,
            Reading::Histogram(_) => self.shows_histograms,
        };
        kind && (!self.used_only || reading.is_used())
    }

    /// Whether anything of a kind is shown at all.
    fn shows(&self, kind: Kind) -> bool {
        match kind {
            Kind::Texts => self.shows_texts,
            Kind::Numbers => self.shows_counters || self.shows_gauges,
            Kind::Histograms => self.shows_histograms,
        }
    }

    /// Tells the statistics of a kind that are wanted.
    fn read(&self, admin: &Admin, kind: Kind, tell: &mut dyn FnMut(&str, Reading)) {
        self.read_labelled(admin, kind, &mut |name, _, reading| tell(name, reading));
    }

    /// The same, with the labels of those that have their own.
    fn read_labelled(
        &self,
        admin: &Admin,
        kind: Kind,
        tell: &mut dyn FnMut(&str, Option<&SeriesName>, Reading),
    ) {
        if !self.shows(kind) {
            return;
        }
        rows::read(admin, self.used_only || self.skips_idle, &mut |name, series, reading| {
            let is_of_kind = kind
                == match reading {
                    Reading::Text(_) => Kind::Texts,
                    Reading::Counter(_) | Reading::Gauge(_) => Kind::Numbers,
                    Reading::Histogram(_) => Kind::Histograms,
                };
            if is_of_kind && self.is_shown(&reading) && self.is_named(name) {
                tell(name, series, reading);
            }
        });
    }
}

pub(super) fn stats(admin: &Arc<Admin>, query: &Query) -> Answer {
    if query.get("format") == Some("prometheus") {
        return prometheus(admin, query);
    }
    let wanted = match Wanted::of(query) {
        Ok(wanted) => wanted,
        Err(answer) => return answer,
    };
    let mode = match query.get("histogram_buckets").unwrap_or_default() {
        "" | "summary" => Mode::Summary,
        "cumulative" => Mode::Cumulative,
        "disjoint" => Mode::Disjoint,
        "detailed" => Mode::Detailed,
        _ => return Answer::bad("usage: /stats?histogram_buckets=(cumulative|disjoint|detailed|summary)\n"),
    };
    let admin = Arc::clone(admin);
    match query.get("format").unwrap_or_default() {
        "" | "text" => Answer::written_text(move |out| text::write(&admin, &wanted, mode, out)),
        "json" => Answer::written_json(move |out| json::write(&admin, &wanted, mode, out)),
        _ => Answer::bad("usage: /stats?format=(json|prometheus|text)\n\n"),
    }
}

pub(super) fn prometheus(admin: &Arc<Admin>, query: &Query) -> Answer {
    let wanted = match Wanted::of(query) {
        Ok(wanted) => Wanted { skips_idle: true, ..wanted },
        Err(answer) => return answer,
    };
    let is_summary = match query.get("histogram_buckets").unwrap_or_default() {
        "" | "cumulative" => false,
        "summary" => true,
        _ => return Answer::bad("unsupported prometheus histogram bucket mode"),
    };
    let with_texts = query.has("text_readouts");
    let admin = Arc::clone(admin);
    Answer::written_text(move |out| prometheus::write(&admin, &wanted, is_summary, with_texts, out))
}

/// Counts of values between bounds, of counts up to bounds.
fn disjoint(cumulative: &[u64]) -> Vec<u64> {
    let before = std::iter::once(&0).chain(cumulative);
    cumulative.iter().zip(before).map(|(up_to, before)| up_to - before).collect()
}
