//! Folder `metrics`: what proxies count of traffic, one metric family for each case.
//!
//! `context.yaml` says who stands at the ends, and in words which traffic there is; two of our own proxies carry it.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Case, Verdict, place, value};
use crate::own_proxy::OwnProxy;
use crate::pair::{Pair, Sides};
use crate::prometheus::{Labels, families};

/// How long counters may take to be what they are to be.
const COUNTED_MAX: Duration = Duration::from_secs(20);
/// Between two looks at them.
const LOOK: Duration = Duration::from_millis(50);
/// Numbers as words.
const NUMBERS: [&str; 13] = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
];

pub(super) fn run(dir: &Path) -> Result<Vec<Case>, String> {
    let context_path = dir.join("context.yaml");
    let context = value(&context_path)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let mut cases = Vec::new();
    for case in context["cases"].as_array().into_iter().flatten() {
        let name = case["name"].as_str().unwrap_or_default();
        let verdict = match Traffic::read(case["traffic"].as_str().unwrap_or_default()) {
            Err(what) => Verdict::NotRead(what),
            Ok(traffic) => {
                let expected = value(&dir.join(case["expected"].as_str().unwrap_or_default()))?;
                match runtime.block_on(play(&context, case, &traffic, &expected)) {
                    Ok(()) => Verdict::Passed,
                    Err(wrong) => Verdict::Failed(wrong),
                }
            }
        };
        cases.push(Case { name: format!("{}/{name}", place(dir, &context_path)), verdict });
    }
    Ok(cases)
}

/// What passes between the proxies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Traffic {
    Http { count: usize, http2: bool, status: u16 },
    Grpc { count: usize, status: u32 },
    Tcp { count: usize },
}

impl Traffic {
    /// Reads what is said in words: a number, a protocol, a status. `Err`: what of it cannot be played.
    fn read(text: &str) -> Result<Traffic, String> {
        let lower = text.to_lowercase();
        let words: Vec<&str> =
            lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty()).collect();
        if lower.contains("mutual tls") {
            return Err("mutual TLS between proxies".to_owned());
        }
        let first = words.first().copied().unwrap_or_default();
        let count = first.parse().ok().or_else(|| NUMBERS.iter().position(|number| *number == first));
        let count = count.ok_or_else(|| format!("traffic {text:?}"))?;
        let after = |word: &str| words.windows(2).find(|pair| pair[0] == word).map(|pair| pair[1]);
        if words.contains(&"grpc") {
            let status = after("status").and_then(|status| status.parse().ok()).unwrap_or(0);
            return Ok(Traffic::Grpc { count, status });
        }
        if words.contains(&"tcp") {
            return Ok(Traffic::Tcp { count });
        }
        if words.contains(&"http") || words.contains(&"get") {
            let before = words
                .windows(2)
                .find(|pair| pair[1].starts_with("answer") || pair[1].starts_with("response"));
            let status = before.and_then(|pair| pair[0].parse().ok()).unwrap_or(200);
            return Ok(Traffic::Http { count, http2: lower.contains("http/2"), status });
        }
        Err(format!("traffic {text:?}"))
    }

    async fn pass(self, pair: &Pair, host: &str) -> Result<(), String> {
        match self {
            Traffic::Http { count, http2, status } => {
                for _ in 0..count {
                    let got = pair.get(host, status, http2).await?;
                    if got != status {
                        return Err(format!("status: expected {status}, got {got}"));
                    }
                }
            }
            Traffic::Grpc { count, status } => {
                for _ in 0..count {
                    let called = pair.call(1, status).await?;
                    if called.grpc_status.as_deref() != Some(&status.to_string()) {
                        return Err(format!("gRPC status: expected {status}, got {called:?}"));
                    }
                }
            }
            Traffic::Tcp { count } => {
                for _ in 0..count {
                    pair.connect(b"some data").await?;
                }
            }
        }
        Ok(())
    }
}

async fn play(context: &Value, case: &Value, traffic: &Traffic, expected: &Value) -> Result<(), Vec<String>> {
    let one = |wrong: String| vec![wrong];
    let side = |name: &str| {
        let metadata = context["nodeMetadata"][name].clone();
        let text = |key: &str| metadata[key].as_str().unwrap_or_default().to_owned();
        let id = format!(
            "sidecar~10.52.0.34~{}.{}~{}.svc.cluster.local",
            text("NAME"),
            text("NAMESPACE"),
            text("NAMESPACE")
        );
        (id, metadata)
    };
    let service = case["destinationService"].as_str().unwrap_or_default().to_owned();
    let (client, server) = (side("client"), side("server"));
    let sides = Sides { client, server, service: service.clone(), metrics: Value::Array(Vec::new()) };
    let pair = Pair::start(&sides).await.map_err(one)?;
    traffic.pass(&pair, &service).await.map_err(one)?;
    let proxy = match case["scrapedFrom"].as_str().unwrap_or_default() {
        from if from.contains("client") => &pair.client,
        from if from.contains("server") => &pair.server,
        from => return Err(vec![format!("scraped from {from:?}")]),
    };
    let deadline = Instant::now() + COUNTED_MAX;
    loop {
        match compare(proxy, expected) {
            Ok(()) => return Ok(()),
            Err(wrong) if Instant::now() > deadline => return Err(wrong),
            Err(_) => tokio::time::sleep(LOOK).await,
        }
    }
}

/// Name, type, label sets and values of the family.
fn compare(proxy: &OwnProxy, expected: &Value) -> Result<(), Vec<String>> {
    let (_, text) = proxy.get("/stats/prometheus").map_err(|error| vec![error.to_string()])?;
    let name = expected["name"].as_str().unwrap_or_default();
    let families = families(&text);
    let Some(family) = families.get(name) else { return Err(vec![format!("there is no {name}")]) };
    let mut wrong = Vec::new();
    let kind = expected["type"].as_str().unwrap_or_default().to_lowercase();
    if family.kind != kind {
        wrong.push(format!("type: expected {kind}, got {}", family.kind));
    }
    let count = format!("{name}_count");
    let own = |sample: &str| sample == name || kind == "histogram" && sample == count;
    let got: Vec<(&Labels, f64)> = family
        .samples
        .iter()
        .filter(|(sample, ..)| own(sample))
        .map(|(_, labels, value)| (labels, *value))
        .collect();
    let metrics = expected["metric"].as_array().map(Vec::as_slice).unwrap_or_default();
    if metrics.len() != got.len() {
        wrong.push(format!("label sets: expected {}, got {}", metrics.len(), got.len()));
    }
    for metric in metrics {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let labels: Labels = metric["label"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|label| (text(&label["name"]), text(&label["value"])))
            .collect();
        let value = match kind.as_str() {
            "histogram" => metric["histogram"]["sample_count"].as_f64(),
            kind => metric[kind]["value"].as_f64(),
        };
        match got.iter().find(|(own, _)| **own == labels) {
            Some((_, got)) if Some(*got) == value => {}
            Some((_, got)) => wrong.push(format!("value: expected {value:?}, got {got}")),
            None => wrong.extend(got.iter().map(|(got, _)| differing(&labels, got))),
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

fn differing(expected: &Labels, got: &Labels) -> String {
    let mut wrong: Vec<String> = expected
        .iter()
        .filter(|(name, value)| got.get(*name) != Some(value))
        .map(|(name, value)| format!("{name}: expected {value:?}, got {:?}", got.get(name)))
        .collect();
    let more = got.iter().filter(|(name, _)| !expected.contains_key(*name));
    wrong.extend(more.map(|(name, value)| format!("{name}: not expected, got {value:?}")));
    wrong.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_is_read_from_words() {
        let read = |text: &str| Traffic::read(text);
        assert_eq!(
            read("ten HTTP/1.1 GET requests, 200 answers; plaintext"),
            Ok(Traffic::Http { count: 10, http2: false, status: 200 })
        );
        assert_eq!(
            read("3 HTTP/2 GET requests, 503 answers"),
            Ok(Traffic::Http { count: 3, http2: true, status: 503 })
        );
        assert_eq!(
            read("ten unary gRPC requests answered with status 7 (permission denied)"),
            Ok(Traffic::Grpc { count: 10, status: 7 })
        );
        assert_eq!(read("two TCP connections"), Ok(Traffic::Tcp { count: 2 }));
        assert!(read("ten TCP connections, mutual TLS between the proxies").is_err());
        assert!(read("").is_err());
    }
}
