//! Who is there: everything of a mesh that a machine could be left with.
//!
//! Processes are told by a word in the environment of those who hold a mesh, and by their process namespace; namespaces by
//! being theirs and nobody else's. Needs root, to look into the processes of others.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The variable that carries the word.
pub const VARIABLE: &str = "OSTRO_CENSUS";

const NAMESPACES: [&str; 6] = ["net", "mnt", "pid", "user", "uts", "ipc"];

/// The living processes that have this word, and those in their process namespaces: programs of pods are started with an
/// environment of their own.
pub fn processes(word: &str) -> BTreeSet<u32> {
    let entry = format!("{VARIABLE}={word}");
    let has = |pid: &u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|found| found == entry.as_bytes())
    };
    let home = |pid: &u32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let own = fs::read_link("/proc/self/ns/pid").ok();
    let all = pids();
    let marked: BTreeSet<u32> = all.iter().copied().filter(has).collect();
    let homes: BTreeSet<PathBuf> =
        marked.iter().filter_map(home).filter(|home| Some(home) != own.as_ref()).collect();
    let with_them = all.into_iter().filter(|pid| home(pid).is_some_and(|home| homes.contains(&home)));
    with_them.filter(|pid| !is_over(*pid)).chain(marked.iter().copied()).collect()
}

/// The first word of a process' command line, without directories.
pub fn program(pid: u32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let first = line.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(first).rsplit('/').next().unwrap_or_default().to_owned()
}

/// Gone, or only waiting to be reaped by whoever inherited it.
pub fn is_over(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
}

fn pids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The namespaces that any of the processes' threads is in, and this process is not.
pub fn namespaces(processes: &BTreeSet<u32>) -> BTreeSet<PathBuf> {
    let own: BTreeSet<PathBuf> = of_task(Path::new("/proc/self")).into_iter().collect();
    let tasks = processes.iter().filter_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).ok());
    let all = tasks.flatten().flatten().flat_map(|task| of_task(&task.path()));
    all.filter(|namespace| !own.contains(namespace)).collect()
}

fn of_task(task: &Path) -> Vec<PathBuf> {
    NAMESPACES.iter().filter_map(|kind| fs::read_link(task.join("ns").join(kind)).ok()).collect()
}

/// Those of the namespaces that anybody living is in.
pub fn inhabited(namespaces: &BTreeSet<PathBuf>) -> BTreeSet<PathBuf> {
    let everybody = pids().into_iter().filter(|pid| !is_over(*pid)).collect();
    self::namespaces(&everybody).intersection(namespaces).cloned().collect()
}

/// What the host itself has, which a mesh must not add to: mounts, links, rules, sockets below `directory`.
#[derive(Debug, PartialEq, Eq)]
pub struct Host {
    mounts: BTreeSet<String>,
    links: BTreeSet<String>,
    rules: String,
    sockets: BTreeSet<String>,
}

impl Host {
    /// As it is now.
    pub fn look(directory: &Path) -> Host {
        let lines = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let field = |path: &str, at: usize| -> BTreeSet<String> {
            lines(path)
                .lines()
                .filter_map(|line| line.split_whitespace().nth(at))
                .map(str::to_owned)
                .collect()
        };
        let below = directory.to_string_lossy().into_owned();
        let rules = Command::new("nft").args(["list", "ruleset"]).output().expect("nft runs");
        Host {
            mounts: field("/proc/self/mountinfo", 4),
            links: field("/proc/net/dev", 0).into_iter().filter(|name| name.ends_with(':')).collect(),
            rules: without_counts(&String::from_utf8_lossy(&rules.stdout)),
            sockets: field("/proc/net/unix", 7).into_iter().filter(|path| path.starts_with(&below)).collect(),
        }
    }
}

/// Rules without what their counters have counted: other people's rules, those of a container engine, count on.
fn without_counts(rules: &str) -> String {
    let mut words = rules.split(' ');
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        kept.push(word);
        if matches!(word, "packets" | "bytes") {
            words.next();
        }
    }
    kept.join(" ")
}

#[cfg(test)]
mod tests {
    use super::without_counts;

    #[test]
    fn counters_do_not_count() {
        let rules = |n| format!("chain x {{\n\t\tcounter packets {n} bytes {n} jump y\n\t}}\n");
        assert_eq!(without_counts(&rules(1)), without_counts(&rules(22)));
        assert!(without_counts(&rules(1)).contains("jump y"));
    }
}
