//! The numbers, for people and for programs, and whether they are as promised.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::Duration;

use ostro_testkit::footprint::Footprint;
use serde_json::{Value, json};

use crate::options::Options;
use crate::round::{Round, Site};

/// The promises: up, down, bytes of memory (PSS), for 100 pods of 40 services.
const UP_MAX: f64 = 20.0;
const DOWN_MAX: f64 = 5.0;
const PSS_MAX: f64 = 3.0 * 1024.0 * 1024.0 * 1024.0;
const MIB: f64 = 1024.0 * 1024.0;

/// Everything that is told.
pub struct Report {
    pods: usize,
    services: usize,
    user: &'static str,
    machine: Vec<(&'static str, String)>,
    pub rounds: Vec<Round>,
}

impl Report {
    pub fn new(options: &Options, site: &Site) -> Report {
        let version = |program: &str| {
            let output = Command::new(site.path(program)).arg("--version").output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            said.rsplit(' ').next().unwrap_or_default().to_owned()
        };
        let built = options.programs.display().to_string();
        let machine = vec![
            ("processor", processor()),
            ("memory", format!("{} MiB", meminfo("MemTotal:") >> 10)),
            ("kernel", fs::read_to_string("/proc/sys/kernel/osrelease").unwrap().trim().to_owned()),
            ("ostro", format!("{} of {built}", version("ostro"))),
            ("envoy", version("envoy")),
            ("proxies", options.proxy.to_string()),
        ];
        let user = if options.as_root { "root" } else { "an ordinary user" };
        Report { pods: options.pods, services: options.services, user, machine, rounds: Vec::new() }
    }

    pub fn head(&self) -> String {
        let mut text = format!(
            "{} pods of {} services, each with a proxy, and the ingress gateway; as {}\n",
            self.pods, self.services, self.user
        );
        for (what, is) in &self.machine {
            text += &format!("{what}: {is}\n");
        }
        text
    }

    /// Median, least and most over the rounds.
    fn over(&self, of: impl Fn(&Round) -> f64) -> [f64; 3] {
        let mut values: Vec<f64> = self.rounds.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        let middle = values[values.len() / 2];
        [middle, values[0], values[values.len() - 1]]
    }

    fn numbers(&self) -> Vec<(&'static str, &'static str, [f64; 3])> {
        let total = |round: &Round| Footprint::total(round.footprint.values());
        let seconds = |duration: Duration| duration.as_secs_f64();
        vec![
            ("first pod ready", "s", self.over(|round| seconds(round.first))),
            ("all pods ready", "s", self.over(|round| seconds(round.up))),
            ("all gone", "s", self.over(|round| seconds(round.down))),
            ("processor time until ready", "s", self.over(|round| total(round).cpu)),
            ("memory, PSS", "MiB", self.over(|round| total(round).pss as f64 / MIB)),
            ("memory, RSS", "MiB", self.over(|round| total(round).rss as f64 / MIB)),
            ("memory less available", "MiB", self.over(|round| round.less_available as f64 / MIB)),
        ]
    }

    pub fn summary(&self) -> String {
        let mut text = format!("medians of {} rounds (least, most):\n", self.rounds.len());
        for (what, unit, [middle, least, most]) in self.numbers() {
            text += &format!("  {what}: {middle:.2} {unit} ({least:.2}, {most:.2})\n");
        }
        text += "by program:\n";
        let programs: BTreeSet<&String> =
            self.rounds.iter().flat_map(|round| round.footprint.keys()).collect();
        for program in programs {
            let of = |round: &Round| round.footprint.get(program).copied().unwrap_or_default();
            let [count, pss, rss, cpu] = [
                self.over(|round| of(round).processes as f64)[0],
                self.over(|round| of(round).pss as f64 / MIB)[0],
                self.over(|round| of(round).rss as f64 / MIB)[0],
                self.over(|round| of(round).cpu)[0],
            ];
            text += &format!("  {count} {program}: PSS {pss:.0} MiB, RSS {rss:.0} MiB, {cpu:.1} s\n");
        }
        text
    }

    /// Which promises the medians miss. They are of 100 pods; of other sizes nothing is promised.
    pub fn missed(&self) -> Vec<String> {
        if (self.pods, self.services) != (100, 40) {
            return Vec::new();
        }
        let up = self.over(|round| round.up.as_secs_f64())[0];
        let down = self.over(|round| round.down.as_secs_f64())[0];
        let pss = self.over(|round| Footprint::total(round.footprint.values()).pss as f64)[0];
        let limits = [("up", up, UP_MAX), ("down", down, DOWN_MAX), ("PSS", pss, PSS_MAX)];
        let over = limits.into_iter().filter(|(_, is, most)| is >= most);
        over.map(|(what, is, most)| format!("{what}: {is:.1}, promised is less than {most:.1}")).collect()
    }

    pub fn json(&self) -> Value {
        let round = |round: &Round| {
            let of = |one: &Footprint| json!({"processes": one.processes, "pss": one.pss, "rss": one.rss, "cpu": one.cpu});
            let programs: serde_json::Map<String, Value> =
                round.footprint.iter().map(|(program, one)| (program.clone(), of(one))).collect();
            json!({
                "first": round.first.as_secs_f64(), "up": round.up.as_secs_f64(), "down": round.down.as_secs_f64(),
                "programs": programs, "lessAvailable": round.less_available, "load": round.load,
            })
        };
        let medians: serde_json::Map<String, Value> = self
            .numbers()
            .into_iter()
            .map(|(what, unit, [middle, least, most])| {
                (what.to_owned(), json!({"unit": unit, "median": middle, "least": least, "most": most}))
            })
            .collect();
        let machine: serde_json::Map<String, Value> =
            self.machine.iter().map(|(what, is)| ((*what).to_owned(), json!(is))).collect();
        json!({
            "pods": self.pods, "services": self.services, "as": self.user, "machine": machine, "medians": medians,
            "rounds": self.rounds.iter().map(round).collect::<Vec<_>>(), "missed": self.missed(),
        })
    }
}

/// One round, while the others are to come.
pub fn line(number: usize, round: &Round) -> String {
    let total = Footprint::total(round.footprint.values());
    format!(
        "round {}: up {:.2} s, PSS {:.0} MiB, {:.1} s of processor time, gone {:.2} s (load before: {:.2})",
        number + 1,
        round.up.as_secs_f64(),
        total.pss as f64 / MIB,
        total.cpu,
        round.down.as_secs_f64(),
        round.load
    )
}

fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let count = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{count} of {}", name.trim_start_matches([' ', '\t', ':']))
}

/// Of `/proc/meminfo`, KiB.
fn meminfo(key: &str) -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
    line.trim().trim_end_matches("kB").trim().parse().unwrap_or_default()
}
