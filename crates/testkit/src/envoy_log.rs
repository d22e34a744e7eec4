//! Whether a proxy complained: its log, Envoy's or that of ours, read for what concerns configuration.

use std::path::Path;

/// Loggers whose warnings are our fault until shown otherwise.
const LOGGERS: [&str; 4] = ["config", "upstream", "xds", "runtime"];

/// Lines that may stand there, each with the reason. At most five.
const ALLOWED: [(&str, &str); 3] = [
    (
        "DeltaAggregatedResources gRPC config stream to xds-grpc closed",
        "the control plane was stopped or killed by the test; Envoy says so at warning level",
    ),
    (
        "StreamAggregatedResources gRPC config stream to xds-grpc closed",
        "the same, over state-of-the-world ADS",
    ),
    ("no stream to the control plane; what is held stays in force", "the same, in our words"),
];

/// The complaints in one log: lines `[...][warning|error|critical][logger] ...` of the loggers that concern us, and lines
/// `TIME WARN|ERROR ...` of ours.
pub fn complaints(log: &str) -> Vec<&str> {
    log.lines()
        .filter(|line| is_of_envoy(line) || is_of_ours(line))
        .filter(|line| !ALLOWED.iter().any(|(allowed, _)| line.contains(allowed)))
        .collect()
}

fn is_of_envoy(line: &str) -> bool {
    let mut brackets = line.split('[').skip(1).filter_map(|part| part.split(']').next());
    let graded = brackets.any(|part| matches!(part, "warning" | "error" | "critical"));
    graded && brackets.next().is_some_and(|logger| LOGGERS.contains(&logger))
}

/// Anything that ours warns of, whatever it is about: or a panic of it.
fn is_of_ours(line: &str) -> bool {
    let mut words = line.split_ascii_whitespace();
    let is_time = |word: &str| word.ends_with('Z') && word.contains('T') && word.starts_with("20");
    let graded = words.next().is_some_and(is_time) && matches!(words.next(), Some("WARN" | "ERROR"));
    graded || line.contains("' panicked at ") || line.starts_with("error initializing configuration")
}

/// The complaints in every log of a proxy below `directory`, with the file they stand in.
pub fn complaints_below(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(directory) else { return found };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(complaints_below(&path));
        } else if is_log(&path) {
            let text = std::fs::read(&path).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            found.extend(complaints(&text).iter().map(|line| format!("{}: {line}", path.display())));
        }
    }
    found
}

/// Of an Envoy that the tests started themselves, or of a pod's.
fn is_log(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name == "envoy.log" || (name.starts_with("istio-proxy.") && name.ends_with(".log"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_concerns_us() {
        let log = "[2026-11-21 10:00:00.000][1][warning][config] [source/x.cc:1] gRPC config rejected\n\
                   [2026-11-21 10:00:00.000][1][warning][main] [source/x.cc:1] something of the machine\n\
                   [2026-11-21 10:00:00.000][1][info][upstream] [source/x.cc:1] cds: added\n\
                   [2026-11-21 10:00:00.000][1][warning][config] [source/x.cc:1] DeltaAggregatedResources gRPC config stream to xds-grpc closed: 14\n";
        assert_eq!(complaints(log).len(), 1);
        assert!(complaints(log)[0].contains("rejected"));
    }

    #[test]
    fn finds_what_ours_warns_of() {
        let log = "2026-11-28T22:36:45.123456Z  INFO ostro_proxy::server: hello\n\
                   2026-11-28T22:36:45.123456Z  WARN ostro_xds_client::store::deliver: refused kind=\"lds\"\n\
                   2026-11-28T22:36:45.123456Z  WARN ostro_xds_client::run: no stream to the control plane; what is held stays in force\n\
                   thread 'worker' panicked at src/x.rs:1:1:\n";
        let found = complaints(log);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("refused"));
    }
}
