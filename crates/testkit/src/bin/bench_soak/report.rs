//! What came of it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::load::Counts;
use crate::options::Options;

/// Growth of memory over the last part that is taken for none, MiB in ten minutes.
const GROWTH_MAX: f64 = 0.5;
/// The last part of a run of half an hour; of a shorter one, the last two thirds.
const LAST: Duration = Duration::from_secs(20 * 60);
const MIB: f64 = 1024.0 * 1024.0;

/// One look at the proxy.
#[derive(Clone, Copy)]
pub struct Sample {
    pub after: Duration,
    pub rss: u64,
    pub descriptors: usize,
}

/// Everything that is told.
pub struct Report {
    lasts: Duration,
    pub descriptors_before: usize,
    descriptors_after: usize,
    samples: Vec<Sample>,
    panics: Vec<String>,
    refusals: u64,
    traffic: Vec<(&'static str, [u64; 2])>,
    why: Vec<(String, u64)>,
}

impl Report {
    pub fn new(options: &Options, descriptors_before: usize) -> Report {
        println!("{} minutes; {descriptors_before} descriptors before", options.lasts.as_secs_f64() / 60.0);
        Report {
            lasts: options.lasts,
            descriptors_before,
            descriptors_after: 0,
            samples: Vec::new(),
            panics: Vec::new(),
            refusals: 0,
            traffic: Vec::new(),
            why: Vec::new(),
        }
    }

    pub fn add(&mut self, sample: Sample, counts: &Counts) {
        let all: [u64; 2] = counts.by.borrow().values().fold([0, 0], |[a, b], [x, y]| [a + x, b + y]);
        println!(
            "{:>6.0} s: {:.2} MiB, {} descriptors, {} answered, {} not",
            sample.after.as_secs_f64(),
            sample.rss as f64 / MIB,
            sample.descriptors,
            all[0],
            all[1]
        );
        self.samples.push(sample);
    }

    pub fn end(&mut self, descriptors: usize, said: &str, counts: &Counts, refusals: u64) {
        self.descriptors_after = descriptors;
        self.refusals = refusals;
        self.panics = said.lines().filter(|line| line.contains("panicked")).map(str::to_owned).collect();
        self.traffic = counts.by.borrow().iter().map(|(sort, counts)| (*sort, *counts)).collect();
        self.why = counts.why.borrow().iter().map(|(why, count)| (why.clone(), *count)).collect();
    }

    /// MiB in ten minutes over the last part: the slope of the line that fits best.
    pub fn growth(&self) -> f64 {
        let last = LAST.min(self.lasts * 2 / 3);
        let from = self.lasts.saturating_sub(last);
        let of = |sample: &&Sample| sample.after >= from;
        let points: Vec<(f64, f64)> = self
            .samples
            .iter()
            .filter(of)
            .map(|s| (s.after.as_secs_f64() / 600.0, s.rss as f64 / MIB))
            .collect();
        let count = points.len() as f64;
        let (x, y) = points.iter().fold((0.0, 0.0), |(a, b), (x, y)| (a + x / count, b + y / count));
        let along: f64 = points.iter().map(|(px, py)| (px - x) * (py - y)).sum();
        let spread: f64 = points.iter().map(|(px, _)| (px - x).powi(2)).sum();
        if spread > 0.0 { along / spread } else { 0.0 }
    }

    pub fn summary(&self) -> String {
        let mut text = String::new();
        for (sort, [good, bad]) in &self.traffic {
            text += &format!("{sort}: {good} answered, {bad} not\n");
        }
        for (why, count) in &self.why {
            text += &format!("  {count} of {why}\n");
        }
        text += &format!(
            "memory over the last part: {:+.3} MiB in 10 minutes\ndescriptors: {} before, {} after\n\
             panics: {}\nrefused configurations: {}\n",
            self.growth(),
            self.descriptors_before,
            self.descriptors_after,
            self.panics.len(),
            self.refusals
        );
        text
    }

    /// What is not as it should be.
    pub fn missed(&self) -> Vec<String> {
        let mut missed = self.panics.clone();
        if self.descriptors_after > self.descriptors_before {
            missed.push(format!("{} descriptors are left", self.descriptors_after - self.descriptors_before));
        }
        if self.growth() > GROWTH_MAX {
            missed.push(format!("memory grew by {:.3} MiB in 10 minutes", self.growth()));
        }
        if self.refusals > 0 {
            missed.push(format!("{} configurations were refused", self.refusals));
        }
        missed
    }

    pub fn json(&self) -> Value {
        let sample =
            |s: &Sample| json!({"s": s.after.as_secs_f64(), "rss": s.rss, "descriptors": s.descriptors});
        let traffic: serde_json::Map<String, Value> = self
            .traffic
            .iter()
            .map(|(sort, [good, bad])| ((*sort).to_owned(), json!({"answered": good, "not": bad})))
            .collect();
        json!({
            "minutes": self.lasts.as_secs_f64() / 60.0,
            "growth_mib_per_10_minutes": self.growth(),
            "descriptors": {"before": self.descriptors_before, "after": self.descriptors_after},
            "panics": self.panics, "refusals": self.refusals, "traffic": traffic,
            "samples": self.samples.iter().map(sample).collect::<Vec<_>>(),
        })
    }
}
