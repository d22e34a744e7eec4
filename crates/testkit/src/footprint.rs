//! What a mesh's processes take of a machine: memory and processor time, by sort of process, from `/proc`.
//!
//! Two numbers of memory, neither of which is all of the truth: PSS divides a page among those who share it, so that the sum
//! is what goes away with the mesh; RSS counts it whole for everybody, so that a hundred Envoys have the program
//! text of one a hundred times. What the kernel keeps for namespaces, sockets and pipes is in neither.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::census;

/// Ticks a second in what the kernel tells programs (USER_HZ), on every architecture that Rust knows.
const TICKS: f64 = 100.0;

/// Of one sort of process, or of all.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Footprint {
    /// How many processes.
    pub processes: usize,
    /// Proportional set size, bytes.
    pub pss: u64,
    /// Resident set size, bytes.
    pub rss: u64,
    /// Processor time since they began, seconds.
    pub cpu: f64,
}

impl Footprint {
    fn add(&mut self, other: &Footprint) {
        self.processes += other.processes;
        self.pss += other.pss;
        self.rss += other.rss;
        self.cpu += other.cpu;
    }

    /// The sum.
    pub fn total<'a>(all: impl IntoIterator<Item = &'a Footprint>) -> Footprint {
        let mut total = Footprint::default();
        all.into_iter().for_each(|one| total.add(one));
        total
    }
}

/// Those of the processes that live, by what they are: the program's name, and of `ostro control` both words. Needs the
/// right to look into them.
pub fn by_program(processes: &BTreeSet<u32>) -> BTreeMap<String, Footprint> {
    let mut found: BTreeMap<String, Footprint> = BTreeMap::new();
    for pid in processes {
        if let Some(one) = of(*pid) {
            found.entry(sort(*pid)).or_default().add(&one);
        }
    }
    found
}

fn sort(pid: u32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let second = line.split(|byte| *byte == 0).nth(1).unwrap_or_default();
    match census::program(pid) {
        name if name == "ostro" && second == b"control" => "ostro control".to_owned(),
        name => name,
    }
}

fn of(pid: u32) -> Option<Footprint> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let bytes = |key: &str| {
        let line = rollup.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|kb| kb << 10)
    };
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // After the name, which may hold anything: state is field 3, user and system time are 14 and 15.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
    let cpu = (ticks(11)? + ticks(12)?) as f64 / TICKS;
    Some(Footprint { processes: 1, pss: bytes("Pss:")?, rss: bytes("Rss:")?, cpu })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_takes_something() {
        let all = by_program(&BTreeSet::from([std::process::id()]));
        let one = Footprint::total(all.values());
        assert_eq!(one.processes, 1);
        assert!(one.pss > 0 && one.pss <= one.rss, "{one:?}");
    }
}
