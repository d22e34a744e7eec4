//! A proxy's statistics, as far as edges are made of them.
//!
//! Envoy's JSON form (`/stats?format=json&histogram_buckets=cumulative`) is
//! `{"stats": [{"name", "value"}.., {"histograms": [{"name", "buckets": [{"upper_bound", "cumulative"}..]}]}]}`.
//! Names are `cluster.CLUSTER;.COUNTER`: the control plane ends each cluster's stat name with `;`.

use std::collections::BTreeMap;

use serde::Deserialize;

/// What is asked of a proxy's admin interface: five numbers of each cluster that was used.
pub const PATH: &str = "/stats?format=json&usedonly&histogram_buckets=cumulative&filter=^cluster\\..*;\\.(upstream_rq_completed|upstream_rq_5xx|upstream_rq_time|upstream_cx_total|ssl\\.handshake)$";

/// Clusters of one proxy that are read; what a proxy has beyond that is not shown.
pub const CLUSTERS_MAX: usize = 1_024;
/// Buckets of one histogram. Envoy's own have 19.
const BUCKETS_MAX: usize = 64;

/// Where requests go.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Destination {
    /// Host of the service, or `(outside)` for what is no service of the mesh.
    pub host: String,
    /// Its port; 0 where there is none.
    pub port: u16,
}

/// What a proxy has counted since it started, for one destination.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counters {
    /// Requests answered, by the destination or in its stead.
    pub completed: u64,
    /// Those of them answered with 500 to 599.
    pub failed: u64,
    /// Connections opened.
    pub connections: u64,
    /// Those of them that are TLS.
    pub handshakes: u64,
    /// Upper bound of each bucket in milliseconds, and answers that took no longer (cumulative).
    pub times: Vec<(f64, u64)>,
}

impl Counters {
    /// Adds another subset's counters of the same destination.
    pub fn add(&mut self, other: &Self) {
        self.completed += other.completed;
        self.failed += other.failed;
        self.connections += other.connections;
        self.handshakes += other.handshakes;
        if self.times.is_empty() {
            self.times.clone_from(&other.times);
            return;
        }
        // The same proxy has the same bounds for all its clusters; should it not, the first one's count.
        for (mine, theirs) in self.times.iter_mut().zip(&other.times).filter(|(a, b)| a.0 == b.0) {
            mine.1 += theirs.1;
        }
    }

    /// What was counted since `earlier`; `None` if this proxy has counted less, having been started anew.
    pub fn since(&self, earlier: &Self) -> Option<Self> {
        let times = match earlier.times.is_empty() {
            true => self.times.clone(),
            false => {
                let pairs = self.times.iter().zip(&earlier.times);
                pairs.map(|(a, b)| Some((a.0, a.1.checked_sub(b.1)?))).collect::<Option<_>>()?
            }
        };
        Some(Self {
            completed: self.completed.checked_sub(earlier.completed)?,
            failed: self.failed.checked_sub(earlier.failed)?,
            connections: self.connections.checked_sub(earlier.connections)?,
            handshakes: self.handshakes.checked_sub(earlier.handshakes)?,
            times,
        })
    }
}

#[derive(Deserialize)]
struct Answer {
    stats: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Counter { name: String, value: u64 },
    Histograms { histograms: Vec<Histogram> },
    // Text readouts and whatever else Envoy may add.
    Other(serde::de::IgnoredAny),
}

#[derive(Deserialize)]
struct Histogram {
    name: String,
    #[serde(default)]
    buckets: Vec<Bucket>,
}

#[derive(Deserialize)]
struct Bucket {
    upper_bound: f64,
    cumulative: u64,
}

/// Reads an answer to [`PATH`]. Subsets of a destination are added up.
pub fn read(body: &[u8]) -> Result<BTreeMap<Destination, Counters>, serde_json::Error> {
    let answer: Answer = serde_json::from_slice(body)?;
    let mut clusters: BTreeMap<String, Counters> = BTreeMap::new();
    for entry in answer.stats {
        match entry {
            Entry::Counter { name, value } => {
                let Some((counters, what)) = of_cluster(&mut clusters, &name) else { continue };
                match what {
                    "upstream_rq_completed" => counters.completed = value,
                    "upstream_rq_5xx" => counters.failed = value,
                    "upstream_cx_total" => counters.connections = value,
                    "ssl.handshake" => counters.handshakes = value,
                    _ => {}
                }
            }
            Entry::Histograms { histograms } => {
                for histogram in histograms {
                    let Some((counters, _)) = of_cluster(&mut clusters, &histogram.name) else { continue };
                    let buckets = histogram.buckets.iter().take(BUCKETS_MAX);
                    counters.times = buckets.map(|bucket| (bucket.upper_bound, bucket.cumulative)).collect();
                }
            }
            Entry::Other(_) => {}
        }
    }
    let mut found: BTreeMap<Destination, Counters> = BTreeMap::new();
    for (cluster, counters) in &clusters {
        if let Some(destination) = destination(cluster) {
            found.entry(destination).or_default().add(counters);
        }
    }
    Ok(found)
}

/// The counters of the cluster that `name` is about, and what it counts.
fn of_cluster<'a, 'n>(
    clusters: &'a mut BTreeMap<String, Counters>,
    name: &'n str,
) -> Option<(&'a mut Counters, &'n str)> {
    let (cluster, what) = name.strip_prefix("cluster.")?.rsplit_once(";.")?;
    if clusters.len() >= CLUSTERS_MAX && !clusters.contains_key(cluster) {
        return None;
    }
    Some((clusters.entry(cluster.to_owned()).or_default(), what))
}

/// The bootstrap's own clusters: how a proxy reaches the control plane, itself and its agent.
const OWN: [&str; 3] = ["xds-grpc", "prometheus_stats", "agent"];

/// Where a cluster leads; `None` for the way in, for nowhere, and for a proxy's own business.
fn destination(cluster: &str) -> Option<Destination> {
    let not_out = ["inbound", "Inbound", "BlackHole"];
    if OWN.contains(&cluster) || not_out.iter().any(|start| cluster.starts_with(start)) {
        return None;
    }
    if cluster == "PassthroughCluster" {
        return Some(Destination { host: "(outside)".to_owned(), port: 0 });
    }
    let mut parts = cluster.splitn(4, '|');
    let named = match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some("outbound"), Some(port), Some(_subset), Some(host)) => {
            port.parse().ok().map(|port| (host, port))
        }
        _ => None,
    };
    // Somebody's own pattern of stat names: shown as it is.
    let (host, port) = named.unwrap_or((cluster, 0));
    Some(Destination { host: host.to_owned(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(cluster: &str, buckets: &[(f64, u64)]) -> serde_json::Value {
        let buckets: Vec<_> = buckets
            .iter()
            .map(|(bound, count)| serde_json::json!({"upper_bound": bound, "interval": 0, "cumulative": count}))
            .collect();
        serde_json::json!({"name": format!("cluster.{cluster};.upstream_rq_time"), "buckets": buckets})
    }

    #[test]
    fn subsets_are_one_destination_and_the_way_in_is_none() {
        let body = serde_json::json!({"stats": [
            {"name": "cluster.outbound|9080|v1|reviews.default.svc.cluster.local;.upstream_rq_completed", "value": 7},
            {"name": "cluster.outbound|9080|v1|reviews.default.svc.cluster.local;.upstream_rq_5xx", "value": 2},
            {"name": "cluster.outbound|9080||reviews.default.svc.cluster.local;.upstream_rq_completed", "value": 3},
            {"name": "cluster.outbound|9080||reviews.default.svc.cluster.local;.ssl.handshake", "value": 1},
            {"name": "cluster.outbound|9080||reviews.default.svc.cluster.local;.version_text", "value": "a"},
            {"name": "cluster.inbound|9080||;.upstream_rq_completed", "value": 9},
            {"name": "cluster.xds-grpc;.upstream_cx_total", "value": 1},
            {"name": "cluster.PassthroughCluster;.upstream_cx_total", "value": 4},
            {"name": "cluster.own-name;.upstream_cx_total", "value": 5},
            {"histograms": [
                histogram("outbound|9080|v1|reviews.default.svc.cluster.local", &[(1.0, 1), (5.0, 7)]),
                histogram("outbound|9080||reviews.default.svc.cluster.local", &[(1.0, 2), (5.0, 3)]),
            ]},
        ]});
        let found = read(body.to_string().as_bytes()).unwrap();
        let names: Vec<_> = found.keys().map(|key| (key.host.as_str(), key.port)).collect();
        assert_eq!(names, [("(outside)", 0), ("own-name", 0), ("reviews.default.svc.cluster.local", 9080)]);
        let reviews = found.values().last().unwrap();
        let expected = Counters {
            completed: 10,
            failed: 2,
            handshakes: 1,
            times: vec![(1.0, 3), (5.0, 10)],
            connections: 0,
        };
        assert_eq!(*reviews, expected);
    }

    #[test]
    fn a_proxy_cannot_fill_the_memory_with_clusters() {
        let stats: Vec<_> = (0..CLUSTERS_MAX + 50)
            .map(|n| serde_json::json!({"name": format!("cluster.c{n};.upstream_rq_completed"), "value": 1}))
            .collect();
        let found = read(serde_json::json!({"stats": stats}).to_string().as_bytes()).unwrap();
        assert_eq!(found.len(), CLUSTERS_MAX);
    }

    #[test]
    fn what_is_not_json_is_an_error() {
        assert!(read(b"upstream_rq: 3").is_err());
    }

    #[test]
    fn a_restarted_proxy_has_no_difference() {
        let early = Counters { completed: 5, ..Counters::default() };
        let late = Counters { completed: 9, times: vec![(1.0, 4)], ..Counters::default() };
        assert_eq!(late.since(&early).unwrap().completed, 4);
        assert_eq!(late.since(&early).unwrap().times, [(1.0, 4)]);
        assert_eq!(early.since(&late), None);
    }
}
