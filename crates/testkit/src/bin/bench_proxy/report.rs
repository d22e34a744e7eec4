//! The numbers, for people and for programs.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use ostro_testkit::pinned::Processors;
use serde_json::{Map, Value, json};

use crate::options::Options;
use crate::site::Subject;

/// What is told as ratios of ours to Envoy's: its name, and what it is measured as.
const RATIOS: [(&str, &str); 13] = [
    ("throughput_http1", "hop http1 c16 rate"),
    ("throughput_http2", "hop http2 c16 rate"),
    ("throughput_tcp", "hop tcp c16 rate"),
    ("cpu_http1", "hop http1 c16 cpu"),
    ("cpu_http2", "hop http2 c16 cpu"),
    ("cpu_tcp", "hop tcp c16 cpu"),
    ("added_p50", "hop http1 paced added p50"),
    ("added_p99", "hop http1 paced added p99"),
    ("rss_idle", "rss idle"),
    ("rss_loaded", "rss loaded"),
    ("rss_5000_services", "services 5000 rss"),
    ("ready_5000_services", "services 5000 ready"),
    ("connections_per_second", "connections"),
];

/// Values of one measurement, round by round, by what was measured.
type Rounds = BTreeMap<Subject, Vec<f64>>;

/// Everything that is told.
pub struct Report {
    machine: Vec<(&'static str, String)>,
    measured: BTreeMap<String, (&'static str, Rounds)>,
}

impl Report {
    pub fn new(options: &Options, processors: Processors) -> Report {
        let envoy = version(&Subject::Envoy.program(&options.proxy));
        let machine = vec![
            ("processor", processor()),
            (
                "kernel",
                fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            ),
            ("proxies on processor", processors.proxy.to_string()),
            ("client and backend on processor", processors.rest.to_string()),
            ("load before", fs::read_to_string("/proc/loadavg").unwrap_or_default().trim().to_owned()),
            ("ours", format!("{} ({})", version(&options.proxy), options.proxy.display())),
            ("envoy", envoy),
            ("rounds", format!("{} of {:?} each", options.rounds, options.load)),
        ];
        Report { machine, measured: BTreeMap::new() }
    }

    pub fn head(&self) -> String {
        self.machine.iter().map(|(what, is)| format!("{what}: {is}\n")).collect()
    }

    /// Adds what a round measured.
    pub fn add(&mut self, what: &str, subject: Subject, unit: &'static str, value: f64) {
        println!("  {what}, {}: {value:.1} {unit}", subject.name());
        let (_, rounds) = self.measured.entry(what.to_owned()).or_insert_with(|| (unit, Rounds::new()));
        rounds.entry(subject).or_default().push(value);
    }

    /// Median of the ratios of ours to Envoy's, each of one round.
    fn ratio(&self, what: &str) -> Option<f64> {
        let (_, rounds) = self.measured.get(what)?;
        let (ours, envoy) = (rounds.get(&Subject::Ours)?, rounds.get(&Subject::Envoy)?);
        Some(median(ours.iter().zip(envoy).map(|(ours, envoy)| ours / envoy)))
    }

    /// Medians, and ratios of ours to Envoy's.
    pub fn summary(&self) -> String {
        let mut text = format!(
            "\nmedians\n{:<32} {:>12} {:>12} {:>12} {:>7}  unit\n",
            "", "direct", "ours", "envoy", "ratio"
        );
        for (what, (unit, rounds)) in &self.measured {
            let of = |subject| match rounds.get(&subject) {
                Some(values) => format!("{:.1}", median(values.iter().copied())),
                None => String::new(),
            };
            let [direct, ours, envoy] = [Subject::Direct, Subject::Ours, Subject::Envoy].map(of);
            let ratio = self.ratio(what).map_or(String::new(), |ratio| format!("{ratio:.3}"));
            text += &format!("{what:<32} {direct:>12} {ours:>12} {envoy:>12} {ratio:>7}  {unit}\n");
        }
        text += "\nratios, ours / envoy\n";
        for (name, what) in RATIOS {
            if let Some(ratio) = self.ratio(what) {
                text += &format!("  {name}: {ratio:.3}\n");
            }
        }
        text
    }

    pub fn json(&self) -> Value {
        let ratios: Map<String, Value> = RATIOS
            .iter()
            .filter_map(|(name, what)| Some(((*name).to_owned(), json!(self.ratio(what)?))))
            .collect();
        let machine: Map<String, Value> =
            self.machine.iter().map(|(what, is)| ((*what).to_owned(), json!(is))).collect();
        let measured: Map<String, Value> = self
            .measured
            .iter()
            .map(|(what, (unit, rounds))| {
                let by: Map<String, Value> = rounds
                    .iter()
                    .map(|(subject, values)| {
                        let middle = median(values.iter().copied());
                        (subject.name().to_owned(), json!({"median": middle, "rounds": values}))
                    })
                    .collect();
                (what.clone(), json!({"unit": unit, "by": by}))
            })
            .collect();
        json!({"ratios": ratios, "machine": machine, "measured": measured})
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn version(program: &std::path::Path) -> String {
    let output = Command::new(program).arg("--version").output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    String::from_utf8_lossy(&output.stdout).trim().rsplit("version: ").next().unwrap_or_default().to_owned()
}

fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let count = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default().matches("processor\t").count();
    format!("{count} of {}", name.trim_start_matches([' ', '\t', ':']))
}
