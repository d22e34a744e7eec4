//! What is shown, as data: pods, and edges with rates and quantiles over the last seconds.
//!
//! Samples go in with the time they were taken at; what comes out depends on nothing else.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::envoy_stats::{Counters, Destination};

/// Rates and quantiles are over this long. Envoy itself brings its histograms up to date every five seconds.
pub const WINDOW: Duration = Duration::from_secs(10);
/// Edges (of pods, before they are added up) that are kept; what comes later is counted, not shown.
pub const EDGES_MAX: usize = 4_096;
/// Samples of one edge: one a second, and the one before the window.
const SAMPLES_MAX: usize = 12;

/// How a pod stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// It does not take requests (yet).
    #[default]
    Waiting,
    /// It takes requests.
    Ready,
    /// It has done its work, as a Job's pods do.
    Done,
    /// It is on its way out.
    Ending,
}

/// A pod, as it is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodRow {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Name of the workload it is of.
    pub workload: String,
    /// Its address.
    pub address: String,
    /// `sidecar`, `gateway` or `none`.
    pub proxy: &'static str,
    /// How it stands.
    pub standing: Standing,
    /// That in a few words: `ready`, or what it waits for.
    pub state: String,
    /// How often a program of it was started again.
    pub restarts: u32,
}

/// Whether connections of an edge are TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// No connection was seen.
    Unknown,
    /// None of them.
    No,
    /// Some of them.
    Some,
    /// All of them.
    Yes,
}

/// Requests from one workload to one service, over the last [`WINDOW`].
#[derive(Clone, Debug, PartialEq)]
pub struct Edge {
    /// Namespace and name of the calling workload.
    pub source: (String, String),
    /// The called service.
    pub destination: Destination,
    /// Requests each second; connections where there are no requests to count (see `by_connection`).
    pub rate: f64,
    /// The rate is of connections.
    pub by_connection: bool,
    /// Share of requests not answered with 500 to 599; `None` without requests.
    pub success: Option<f64>,
    /// Half of the requests took no longer, in milliseconds; `None` without requests.
    pub p50: Option<f64>,
    /// 99 of 100 took no longer, in milliseconds.
    pub p99: Option<f64>,
    /// Since the proxies started.
    pub tls: Tls,
}

/// One proxy's counters at one moment.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Namespace and name of the pod.
    pub pod: (String, String),
    /// Name of its workload.
    pub workload: String,
    /// Its counters.
    pub counters: BTreeMap<Destination, Counters>,
}

type EdgeKey = ((String, String), Destination);

#[derive(Debug)]
struct History {
    workload: String,
    samples: VecDeque<(Duration, Counters)>,
}

/// Everything that is shown.
#[derive(Debug, Default)]
pub struct Model {
    pods: Vec<PodRow>,
    problems: Vec<String>,
    complete: bool,
    histories: BTreeMap<EdgeKey, History>,
    not_kept: BTreeSet<(String, String)>,
}

impl Model {
    /// Replaces the pods; edges of pods that are gone go with them.
    pub fn set_pods(&mut self, pods: Vec<PodRow>, problems: Vec<String>, complete: bool) {
        let names: BTreeSet<(&str, &str)> =
            pods.iter().map(|pod| (pod.namespace.as_str(), pod.name.as_str())).collect();
        let alive = |pod: &(String, String)| names.contains(&(pod.0.as_str(), pod.1.as_str()));
        self.histories.retain(|(pod, _), _| alive(pod));
        self.not_kept.retain(alive);
        self.pods = pods;
        self.problems = problems;
        self.complete = complete;
    }

    /// Takes a sample in; `at` is any clock that never goes back.
    pub fn sample(&mut self, at: Duration, sample: Sample) {
        for (destination, counters) in sample.counters {
            let key = (sample.pod.clone(), destination);
            let full = self.histories.len() >= EDGES_MAX;
            if full && !self.histories.contains_key(&key) {
                self.not_kept.insert(sample.pod.clone());
                continue;
            }
            let new = || History { workload: sample.workload.clone(), samples: VecDeque::new() };
            self.histories.entry(key).or_insert_with(new).push(at, counters);
        }
    }

    /// The pods.
    pub fn pods(&self) -> &[PodRow] {
        &self.pods
    }

    /// What the files ask for and cannot be run.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// Every file was read, there is a pod for everything they ask for, and all of them take requests.
    pub fn is_ready(&self) -> bool {
        self.complete && self.pods.iter().all(|pod| pod.standing != Standing::Waiting)
    }

    /// There is a pod for everything that is asked for.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Rows of the longer table.
    pub fn longest(&self, now: Duration) -> usize {
        self.pods.len().max(self.edges(now).len())
    }

    /// Pods of which not every edge is kept, for want of room.
    pub fn not_kept(&self) -> usize {
        self.not_kept.len()
    }

    /// Edges between workloads and services, in order of their names. Those without a request in the
    /// window are among them, with a rate of 0.
    pub fn edges(&self, now: Duration) -> Vec<Edge> {
        let mut sums: BTreeMap<((String, String), &Destination), Sum> = BTreeMap::new();
        for (((namespace, _), destination), history) in &self.histories {
            let key = ((namespace.clone(), history.workload.clone()), destination);
            sums.entry(key).or_default().add(history, now);
        }
        sums.into_iter().map(|((source, destination), sum)| sum.edge(source, destination.clone())).collect()
    }
}

impl History {
    fn push(&mut self, at: Duration, counters: Counters) {
        if self.samples.back().is_some_and(|(_, last)| counters.since(last).is_none()) {
            self.samples.clear();
        }
        if self.samples.len() >= SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back((at, counters));
    }

    /// What was counted in the window before `now`, and how long that is.
    fn window(&self, now: Duration) -> Option<(Duration, Counters)> {
        let start = now.saturating_sub(WINDOW);
        let (last_at, last) = self.samples.back()?;
        let (first_at, first) = self.samples.iter().find(|(at, _)| *at >= start)?;
        let span = last_at.checked_sub(*first_at).filter(|span| !span.is_zero())?;
        Some((span, last.since(first)?))
    }
}

/// The pods of a workload added up.
#[derive(Default)]
struct Sum {
    counted: Counters,
    request_rate: f64,
    connection_rate: f64,
    ever: Counters,
}

impl Sum {
    fn add(&mut self, history: &History, now: Duration) {
        if let Some((span, counted)) = history.window(now) {
            self.request_rate += counted.completed as f64 / span.as_secs_f64();
            self.connection_rate += counted.connections as f64 / span.as_secs_f64();
            self.counted.add(&counted);
        }
        if let Some((_, last)) = history.samples.back() {
            self.ever.add(last);
        }
    }

    fn edge(self, source: (String, String), destination: Destination) -> Edge {
        let requests = self.counted.completed;
        let by_connection = self.ever.completed == 0;
        Edge {
            source,
            destination,
            rate: if by_connection { self.connection_rate } else { self.request_rate },
            by_connection,
            success: (requests > 0)
                .then(|| requests.saturating_sub(self.counted.failed) as f64 / requests as f64),
            p50: quantile(&self.counted.times, 0.5),
            p99: quantile(&self.counted.times, 0.99),
            tls: match (self.ever.handshakes, self.ever.connections) {
                (_, 0) => Tls::Unknown,
                (0, _) => Tls::No,
                (tls, all) if tls < all => Tls::Some,
                _ => Tls::Yes,
            },
        }
    }
}

/// The value that a share `q` of what cumulative `buckets` hold does not exceed, taken to lie evenly within
/// its bucket.
fn quantile(buckets: &[(f64, u64)], q: f64) -> Option<f64> {
    let total = buckets.last().map(|(_, count)| *count).filter(|count| *count > 0)?;
    let rank = q * total as f64;
    let (mut lower, mut below) = (0.0, 0);
    for (bound, count) in buckets {
        if *count as f64 >= rank && *count > below {
            let share = (rank - below as f64) / (count - below) as f64;
            return Some(lower + (bound - lower) * share.clamp(0.0, 1.0));
        }
        (lower, below) = (*bound, *count);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn pod(name: &str) -> PodRow {
        PodRow { namespace: "default".into(), name: name.into(), ..PodRow::default() }
    }

    fn to(host: &str) -> Destination {
        Destination { host: host.into(), port: 80 }
    }

    fn sample(pod: &str, host: &str, completed: u64, failed: u64) -> Sample {
        let counters = Counters {
            completed,
            failed,
            connections: completed.min(1),
            handshakes: 0,
            times: vec![(10.0, completed / 2), (20.0, completed)],
        };
        Sample {
            pod: ("default".into(), pod.into()),
            workload: "web".into(),
            counters: BTreeMap::from([(to(host), counters)]),
        }
    }

    #[test]
    fn rates_are_of_the_window_and_pods_of_a_workload_are_added_up() {
        let mut model = Model::default();
        for second in 0..30_u64 {
            let at = SECOND * second as u32;
            model.sample(at, sample("web-0", "db", second * 10, 0));
            model.sample(at, sample("web-1", "db", second * 30, second * 10));
        }
        let edges = model.edges(SECOND * 29);
        let [edge] = edges.as_slice() else { panic!("{edges:?}") };
        assert_eq!(edge.source, ("default".to_owned(), "web".to_owned()));
        assert_eq!((edge.rate, edge.by_connection), (40.0, false));
        assert_eq!(edge.success, Some(0.75));
        assert_eq!((edge.p50, edge.p99), (Some(10.0), Some(19.8)));
        assert_eq!(edge.tls, Tls::No);
    }

    #[test]
    fn traffic_that_has_ceased_shows_as_none() {
        let mut model = Model::default();
        model.sample(Duration::ZERO, sample("web-0", "db", 100, 0));
        model.sample(SECOND, sample("web-0", "db", 200, 0));
        for second in 2..15 {
            model.sample(SECOND * second, sample("web-0", "db", 200, 0));
        }
        let edges = model.edges(SECOND * 14);
        assert_eq!((edges[0].rate, edges[0].success, edges[0].p50), (0.0, None, None));
    }

    #[test]
    fn one_sample_has_no_rate_and_a_restart_begins_anew() {
        let mut model = Model::default();
        model.sample(SECOND, sample("web-0", "db", 1_000, 0));
        assert_eq!(model.edges(SECOND)[0].rate, 0.0);
        model.sample(SECOND * 2, sample("web-0", "db", 10, 0));
        assert_eq!(model.edges(SECOND * 2)[0].rate, 0.0, "not 990 fewer");
        model.sample(SECOND * 3, sample("web-0", "db", 15, 0));
        assert_eq!(model.edges(SECOND * 3)[0].rate, 5.0);
    }

    #[test]
    fn edges_go_with_their_pods_and_are_bounded() {
        let mut model = Model::default();
        model.set_pods(vec![pod("web-0")], Vec::new(), true);
        for host in 0..EDGES_MAX + 3 {
            model.sample(SECOND, sample("web-0", &format!("h{host}"), 1, 0));
        }
        assert_eq!((model.edges(SECOND).len(), model.not_kept()), (EDGES_MAX, 1));
        model.set_pods(vec![pod("web-1")], Vec::new(), true);
        assert_eq!((model.edges(SECOND).len(), model.not_kept()), (0, 0));
    }

    #[test]
    fn connections_are_counted_where_there_are_no_requests() {
        let mut model = Model::default();
        for (second, connections) in [(0, 0), (2, 8)] {
            let counters = Counters { connections, handshakes: connections, ..Counters::default() };
            let sample =
                Sample { counters: BTreeMap::from([(to("mysql"), counters)]), ..sample("a", "b", 0, 0) };
            model.sample(SECOND * second, sample);
        }
        let edges = model.edges(SECOND * 2);
        assert_eq!((edges[0].rate, edges[0].by_connection, edges[0].success), (4.0, true, None));
        assert_eq!(edges[0].tls, Tls::Yes);
    }

    #[test]
    fn quantiles_lie_within_their_bucket() {
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(quantile(&[(1.0, 0), (5.0, 0)], 0.5), None);
        assert_eq!(quantile(&[(1.0, 0), (5.0, 4)], 0.5), Some(3.0));
        assert_eq!(quantile(&[(1.0, 100), (5.0, 100)], 0.99), Some(0.99));
    }
}
