//! The store against a naive model, and each rule by an example.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::EdsClusterConfig;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use prost::Message;

use super::*;
use crate::consumer::{Accepted, Need, Offered, Phase};
use crate::delivery::{Delivery, Fault, Item};

mod model;

/// Compiles what a test made, and remembers what is in force.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    pub active: BTreeMap<Key, Bytes>,
    pub committed: BTreeMap<Key, Bytes>,
    pub phases: Vec<Phase>,
    pub compiled: usize,
    /// What every need waits for at most.
    pub fetch_timeout: Option<Duration>,
}

impl Consumer for Recorder {
    type Compiled = Bytes;

    fn compile(&mut self, offered: &Offered<'_>) -> Result<Accepted<Bytes>, String> {
        self.compiled += 1;
        let (tag, needs): (String, Vec<(Kind, String)>) = match offered.kind {
            Kind::CLUSTER => {
                let cluster = Cluster::decode(&**offered.bytes).map_err(|error| error.to_string())?;
                let service = cluster.eds_cluster_config.map(|eds| (Kind::ENDPOINT, eds.service_name));
                (cluster.alt_stat_name, service.into_iter().collect())
            }
            Kind::LISTENER => {
                // Tests write the routes that a listener needs into its statistics' prefix.
                let listener = Listener::decode(&**offered.bytes).map_err(|error| error.to_string())?;
                let routes = listener.stat_prefix.split(' ').filter(|route| !route.is_empty());
                let (bad, routes): (Vec<&str>, Vec<&str>) = routes.partition(|word| *word == "bad");
                (bad.concat(), routes.into_iter().map(|route| (Kind::ROUTE, route.to_owned())).collect())
            }
            Kind::ENDPOINT => {
                let assignment =
                    ClusterLoadAssignment::decode(&**offered.bytes).map_err(|error| error.to_string())?;
                let bad = assignment.named_endpoints.contains_key("bad");
                (if bad { "bad".to_owned() } else { String::new() }, Vec::new())
            }
            Kind::ROUTE => {
                let route =
                    RouteConfiguration::decode(&**offered.bytes).map_err(|error| error.to_string())?;
                (route.internal_only_headers.concat(), Vec::new())
            }
            _ => return Err("of no kind that is tested".into()),
        };
        if tag == "bad" {
            return Err("is bad".into());
        }
        let need = |(kind, name): (Kind, String)| Need {
            kind,
            name: name.into(),
            source: Source::Ads,
            fetch_timeout: self.fetch_timeout,
        };
        Ok(Accepted { compiled: offered.bytes.clone(), needs: needs.into_iter().map(need).collect() })
    }

    fn set(&mut self, kind: Kind, name: &Arc<str>, compiled: Bytes) {
        self.active.insert((kind, name.clone()), compiled);
    }

    fn remove(&mut self, kind: Kind, name: &Arc<str>) {
        assert!(self.active.remove(&(kind, name.clone())).is_some(), "{kind:?} {name} was not in force");
    }

    fn commit(&mut self) {
        assert_ne!(self.committed, self.active, "nothing has changed");
        self.committed = self.active.clone();
    }

    fn phase(&mut self, phase: Phase) {
        assert_eq!(self.committed, self.active, "what came before can be seen");
        self.phases.push(phase);
    }
}

pub(super) fn cluster(name: &str, tag: &str, service: Option<&str>) -> Bytes {
    let eds =
        service.map(|name| EdsClusterConfig { service_name: name.into(), ..EdsClusterConfig::default() });
    let cluster = Cluster {
        name: name.into(),
        alt_stat_name: tag.into(),
        eds_cluster_config: eds,
        ..Cluster::default()
    };
    cluster.encode_to_vec().into()
}

pub(super) fn listener(name: &str, words: &str) -> Bytes {
    let listener = Listener { name: name.into(), stat_prefix: words.into(), ..Listener::default() };
    listener.encode_to_vec().into()
}

pub(super) fn endpoints(name: &str, tag: &str) -> Bytes {
    let named = (!tag.is_empty()).then(|| (tag.to_owned(), Default::default()));
    let assignment = ClusterLoadAssignment {
        cluster_name: name.into(),
        named_endpoints: named.into_iter().collect(),
        ..ClusterLoadAssignment::default()
    };
    assignment.encode_to_vec().into()
}

pub(super) fn routes(name: &str, tag: &str) -> Bytes {
    let headers = (!tag.is_empty()).then(|| tag.to_owned()).into_iter().collect();
    let routes = RouteConfiguration {
        name: name.into(),
        internal_only_headers: headers,
        ..RouteConfiguration::default()
    };
    routes.encode_to_vec().into()
}

pub(super) fn wildcards(fetch_timeout: Option<Duration>) -> Vec<Wildcard> {
    [Kind::CLUSTER, Kind::LISTENER].map(|kind| Wildcard { kind, source: Source::Ads, fetch_timeout }).into()
}

/// A store that began, with the time as tests tell it.
struct Bench {
    store: Store<Recorder>,
    now: Moment,
    version: u32,
}

impl Bench {
    fn new(wildcards: Vec<Wildcard>) -> Bench {
        let mut bench =
            Bench { store: Store::new(Recorder::default(), wildcards), now: Moment::now(), version: 0 };
        bench.store.begin(bench.now);
        bench
    }

    fn items(&mut self, resources: &[(&str, Bytes)]) -> Vec<Item> {
        self.version += 1;
        let version: Arc<str> = self.version.to_string().into();
        let item = |(name, bytes): &(&str, Bytes)| Item {
            name: Arc::from(*name),
            version: version.clone(),
            bytes: Some(bytes.clone()),
            ttl: None,
        };
        resources.iter().map(item).collect()
    }

    fn delta(&mut self, kind: Kind, resources: &[(&str, Bytes)], removed: &[&str]) -> Outcome {
        let items = self.items(resources);
        let removed = removed.iter().map(|name| (*name).to_owned()).collect();
        let delivery =
            Delivery { version: self.version.to_string().into(), items, removed, ..Delivery::default() };
        self.store.deliver(kind, Origin::Ads, delivery, None, self.now)
    }

    fn world(&mut self, kind: Kind, resources: &[(&str, Bytes)]) -> Outcome {
        let items = self.items(resources);
        let delivery =
            Delivery { version: self.version.to_string().into(), whole: true, items, ..Delivery::default() };
        self.store.deliver(kind, Origin::Ads, delivery, None, self.now)
    }

    fn pass(&mut self, time: Duration) {
        self.now.monotonic += time;
        self.store.tick(self.now);
    }

    fn in_force(&self) -> Vec<String> {
        self.store.consumer.committed.keys().map(|(kind, name)| format!("{} {name}", kind.short())).collect()
    }

    fn asks(&mut self) -> Vec<String> {
        let name = |(kind, name): &Key| format!("{} {name}", kind.short());
        let text = |ask: &Ask| match ask {
            Ask::All(kind, _) => format!("all {}", kind.short()),
            Ask::Want(key, _) => format!("+{}", name(key)),
            Ask::Unwant(key, _) => format!("-{}", name(key)),
        };
        self.store.take_asks().iter().map(text).collect()
    }

    fn record(&self, kind: Kind, name: &str) -> Arc<crate::Record> {
        self.store.records.get(kind, name).unwrap()
    }
}

#[test]
fn a_start_in_order() {
    let mut bench = Bench::new(wildcards(None));
    assert_eq!(bench.asks(), ["all cds"]);
    bench.delta(Kind::CLUSTER, &[("a", cluster("a", "", Some("x"))), ("b", cluster("b", "", None))], &[]);
    assert_eq!((bench.asks(), bench.in_force()), (vec!["+eds x".to_owned()], vec!["cds b".to_owned()]));
    assert_eq!(
        bench.store.records.unready(),
        [((Kind::CLUSTER, "a".into()), vec![(Kind::ENDPOINT, "x".into())])]
    );
    bench.delta(Kind::ENDPOINT, &[("x", endpoints("x", ""))], &[]);
    assert_eq!(bench.in_force(), ["cds a", "cds b", "eds x"]);
    assert_eq!(
        (bench.asks(), bench.store.consumer.phases.clone()),
        (vec!["all lds".to_owned()], vec![Phase::Listeners])
    );
    bench.delta(Kind::LISTENER, &[("l", listener("l", "r s"))], &[]);
    assert_eq!(bench.asks(), ["+rds r", "+rds s"]);
    bench.delta(Kind::ROUTE, &[("r", routes("r", "")), ("unasked", routes("unasked", ""))], &[]);
    assert!(!bench.in_force().contains(&"lds l".to_owned()));
    bench.delta(Kind::ROUTE, &[("s", routes("s", ""))], &[]);
    assert_eq!(bench.in_force(), ["cds a", "cds b", "eds x", "lds l", "rds r", "rds s"]);
    assert_eq!(bench.store.records.phase(), Phase::Live);
}

#[test]
fn the_old_one_serves_until_the_new_one_is_warm() {
    let mut bench = Bench::new(wildcards(None));
    bench.delta(Kind::CLUSTER, &[("a", cluster("a", "1", Some("x")))], &[]);
    bench.delta(Kind::ENDPOINT, &[("x", endpoints("x", ""))], &[]);
    bench.delta(Kind::LISTENER, &[], &[]);
    let old = cluster("a", "1", Some("x"));
    bench.delta(Kind::CLUSTER, &[("a", cluster("a", "2", Some("y")))], &[]);
    assert_eq!(bench.store.consumer.active[&(Kind::CLUSTER, "a".into())], old);
    assert!(bench.store.holds(Kind::CLUSTER), "the control plane is not told yet");
    bench.asks();
    let record = bench.record(Kind::CLUSTER, "a");
    assert_eq!(
        (&*record.active.as_ref().unwrap().version, &*record.warming.as_ref().unwrap().version),
        ("1", "4")
    );
    bench.delta(Kind::ENDPOINT, &[("y", endpoints("y", ""))], &[]);
    assert_eq!(bench.store.consumer.active[&(Kind::CLUSTER, "a".into())], cluster("a", "2", Some("y")));
    assert_eq!(bench.in_force(), ["cds a", "eds y"]);
    assert!(!bench.store.holds(Kind::CLUSTER));
    assert_eq!(bench.asks(), ["-eds x"]);
    // Endpoints that are held are enough for a version that needs the same.
    bench.delta(Kind::CLUSTER, &[("a", cluster("a", "3", Some("y")))], &[]);
    assert_eq!(bench.store.consumer.active[&(Kind::CLUSTER, "a".into())], cluster("a", "3", Some("y")));
    // Back to what is in force while another waits: the other need not.
    bench.delta(Kind::CLUSTER, &[("a", cluster("a", "4", Some("z")))], &[]);
    bench.asks();
    let compiled = bench.store.consumer.compiled;
    bench.delta(Kind::CLUSTER, &[("a", cluster("a", "3", Some("y")))], &[]);
    assert_eq!((bench.asks(), bench.store.consumer.compiled), (vec!["-eds z".to_owned()], compiled));
    assert!(bench.record(Kind::CLUSTER, "a").warming.is_none());
    // What waits and what is in force go together.
    bench.delta(Kind::CLUSTER, &[("a", cluster("a", "5", Some("z")))], &[]);
    bench.delta(Kind::CLUSTER, &[], &["a"]);
    assert!(bench.in_force().is_empty() && bench.store.records.count(Kind::CLUSTER) == 0);
    assert_eq!(bench.asks(), ["+eds z", "-eds y", "-eds z"]);
}

#[test]
fn good_resources_are_taken_and_bad_ones_named() {
    let mut bench = Bench::new(wildcards(None));
    let outcome = bench.world(
        Kind::CLUSTER,
        &[("a", cluster("a", "", None)), ("b", cluster("b", "bad", None)), ("c", cluster("c", "bad", None))],
    );
    let reason = "Error adding/updating cluster(s) b: is bad, c: is bad";
    assert_eq!(outcome.reason(Kind::CLUSTER).unwrap(), reason);
    assert_eq!(bench.in_force(), ["cds a"]);
    let record = bench.record(Kind::CLUSTER, "b");
    assert_eq!(
        (record.status, record.failure.as_ref().unwrap().details.as_str()),
        (Status::Nacked, "is bad")
    );
    assert_eq!(bench.store.versions(Kind::CLUSTER), BTreeMap::from([("a".into(), "1".into())]));
    // A bad version does not disturb a good one, and is not gone from the world for being bad.
    let outcome = bench.world(Kind::CLUSTER, &[("a", cluster("a", "bad", None))]);
    assert_eq!(outcome.reason(Kind::CLUSTER).unwrap(), "Error adding/updating cluster(s) a: is bad");
    assert_eq!(bench.in_force(), ["cds a"]);
    let record = bench.record(Kind::CLUSTER, "a");
    assert_eq!((&*record.active.as_ref().unwrap().version, record.status), ("1", Status::Nacked));
    bench.world(Kind::CLUSTER, &[("a", cluster("a", "good", None))]);
    assert!(bench.record(Kind::CLUSTER, "a").failure.is_none());
    assert_eq!(bench.store.records.count(Kind::CLUSTER), 1, "what was refused and is gone is forgotten");
    let mut counted = BTreeMap::new();
    bench.store.records.counters(Kind::CLUSTER).each(&mut |name, value| {
        counted.insert(name, value);
    });
    assert_eq!((counted["update_success"], counted["update_rejected"], counted["update_attempt"]), (1, 2, 4));
    assert_eq!((counted["config_reload"], bench.store.records.version(Kind::CLUSTER).as_str()), (1, "3"));
}

#[test]
fn a_resource_without_a_name_takes_nothing_away() {
    let mut bench = Bench::new(wildcards(None));
    bench.world(Kind::CLUSTER, &[("a", cluster("a", "", None))]);
    let fault = Fault { name: None, reason: "cannot be decoded".into() };
    let delivery = Delivery { whole: true, faults: vec![fault], ..Delivery::default() };
    let outcome = bench.store.deliver(Kind::CLUSTER, Origin::Ads, delivery, None, bench.now);
    assert_eq!(
        outcome.reason(Kind::CLUSTER).unwrap(),
        "Error adding/updating cluster(s) ?: cannot be decoded"
    );
    assert_eq!(bench.in_force(), ["cds a"]);
    bench.world(Kind::CLUSTER, &[]);
    assert!(bench.in_force().is_empty());
}

#[test]
fn refusals_and_time_outs_end_a_wait() {
    let mut bench = Bench::new(wildcards(None));
    bench.store.consumer.fetch_timeout = Some(Duration::from_secs(15));
    bench.delta(
        Kind::CLUSTER,
        &[
            ("a", cluster("a", "", Some("x"))),
            ("b", cluster("b", "", Some("y"))),
            ("c", cluster("c", "", Some("z"))),
        ],
        &[],
    );
    let outcome = bench.delta(Kind::ENDPOINT, &[("x", endpoints("x", "bad"))], &["y"]);
    assert_eq!(
        outcome.reason(Kind::ENDPOINT).unwrap(),
        "Error adding/updating cluster load assignment(s) x: is bad"
    );
    assert_eq!(bench.in_force(), ["cds a", "cds b"]);
    assert_eq!(bench.record(Kind::ENDPOINT, "y").status, Status::DoesNotExist);
    bench.pass(Duration::from_millis(14_999));
    assert_eq!(bench.in_force(), ["cds a", "cds b"]);
    bench.pass(Duration::from_millis(1));
    assert_eq!(bench.in_force(), ["cds a", "cds b", "cds c"]);
    assert_eq!(
        (bench.record(Kind::ENDPOINT, "z").status, bench.store.next_deadline()),
        (Status::TimedOut, None)
    );
    // What comes late is in force all the same; and endpoints that are taken away stay.
    bench.delta(Kind::ENDPOINT, &[("z", endpoints("z", ""))], &[]);
    bench.delta(Kind::ENDPOINT, &[], &["z"]);
    assert!(bench.in_force().contains(&"eds z".to_owned()));
    // Of routes a removal is no answer.
    bench.delta(Kind::LISTENER, &[("l", listener("l", "r"))], &[]);
    bench.delta(Kind::ROUTE, &[], &["r"]);
    assert!(!bench.in_force().contains(&"lds l".to_owned()));
    bench.pass(Duration::from_secs(15));
    assert!(bench.in_force().contains(&"lds l".to_owned()));
}

#[test]
fn a_start_without_answers() {
    let mut bench = Bench::new(wildcards(Some(Duration::from_secs(15))));
    bench.pass(Duration::from_secs(15));
    assert_eq!(
        (bench.store.consumer.phases.clone(), bench.asks()),
        (vec![Phase::Listeners], vec!["all cds".into(), "all lds".into()])
    );
    bench.pass(Duration::from_secs(15));
    assert_eq!(bench.store.consumer.phases, [Phase::Listeners, Phase::Live]);
    let mut for_ever = Bench::new(wildcards(None));
    for_ever.pass(Duration::from_secs(100_000));
    assert!(for_ever.store.consumer.phases.is_empty() && for_ever.store.next_deadline().is_none());
}

#[test]
fn static_resources() {
    let now = Moment::now();
    let mut store = Store::new(Recorder::default(), wildcards(None));
    store.add_static(Kind::LISTENER, listener("l", ""), now).unwrap();
    store.add_static(Kind::CLUSTER, cluster("a", "", Some("x")), now).unwrap();
    store.add_static(Kind::ENDPOINT, endpoints("x", ""), now).unwrap();
    store.add_static(Kind::LISTENER, listener("", ""), now).unwrap();
    assert_eq!(store.add_static(Kind::CLUSTER, cluster("b", "bad", None), now), Err("is bad".into()));
    let twice = store.add_static(Kind::CLUSTER, cluster("a", "", None), now);
    assert_eq!(twice, Err("there is another cluster \"a\"".into()));
    let mut bench = Bench { store, now, version: 0 };
    bench.store.begin(now);
    assert_eq!(
        (bench.in_force(), bench.asks()),
        (vec!["cds a".into(), "eds x".into()], vec!["all cds".to_owned()])
    );
    bench.world(Kind::CLUSTER, &[("a", cluster("a", "other", None)), ("c", cluster("c", "", None))]);
    assert_eq!(bench.in_force(), ["cds a", "cds c", "eds x", "lds l", "lds static-lds-1"]);
    bench.world(Kind::LISTENER, &[]);
    bench.delta(Kind::CLUSTER, &[], &["a"]);
    assert_eq!(bench.in_force(), ["cds a", "cds c", "eds x", "lds l", "lds static-lds-1"]);
    assert_eq!(bench.store.consumer.active[&(Kind::CLUSTER, "a".into())], cluster("a", "", Some("x")));
    assert_eq!(bench.store.versions(Kind::CLUSTER).len(), 1, "only what the control plane gave");
}

#[test]
fn resources_that_live_for_a_time() {
    let mut bench = Bench::new(wildcards(None));
    let lives = |bytes: Option<Bytes>, version: &str, seconds: Option<u64>| Delivery {
        items: vec![Item {
            name: "a".into(),
            version: version.into(),
            bytes,
            ttl: seconds.map(Duration::from_secs),
        }],
        ..Delivery::default()
    };
    let deliver = |bench: &mut Bench, delivery| {
        bench.store.deliver(Kind::CLUSTER, Origin::Ads, delivery, None, bench.now).reason(Kind::CLUSTER)
    };
    assert_eq!(deliver(&mut bench, lives(Some(cluster("a", "", None)), "1", Some(10))), None);
    bench.pass(Duration::from_secs(9));
    assert_eq!(deliver(&mut bench, lives(None, "1", Some(10))), None);
    bench.pass(Duration::from_secs(9));
    assert_eq!(bench.in_force(), ["cds a"]);
    assert!(deliver(&mut bench, lives(None, "2", Some(10))).unwrap().contains("not held in this version"));
    bench.pass(Duration::from_secs(1));
    assert!(bench.in_force().is_empty() && bench.store.next_deadline().is_none());
    // Said again without an end, it has none.
    deliver(&mut bench, lives(Some(cluster("a", "", None)), "1", Some(10)));
    deliver(&mut bench, lives(Some(cluster("a", "", None)), "1", None));
    assert_eq!(bench.store.next_deadline(), None);
}

#[test]
fn explicit_interests() {
    let mut bench = Bench::new(wildcards(None));
    let key: Key = (Kind::ENDPOINT, "x".into());
    bench.store.interest(&key, true, bench.now);
    bench.store.interest(&key, true, bench.now);
    assert_eq!(bench.asks(), ["all cds", "+eds x"]);
    bench.delta(Kind::CLUSTER, &[("a", cluster("a", "", Some("x")))], &[]);
    bench.delta(Kind::ENDPOINT, &[("x", endpoints("x", ""))], &[]);
    bench.store.interest(&key, false, bench.now);
    bench.store.interest(&key, false, bench.now);
    assert_eq!(
        (bench.asks(), bench.in_force()),
        (vec!["all lds".to_owned()], vec!["cds a".into(), "eds x".into()])
    );
    bench.delta(Kind::CLUSTER, &[], &["a"]);
    assert_eq!((bench.asks(), bench.in_force()), (vec!["-eds x".to_owned()], vec![]));
}

#[test]
fn one_resource_has_one_source() {
    let mut bench = Bench::new(wildcards(None));
    bench.delta(Kind::CLUSTER, &[("a", cluster("a", "", Some("x")))], &[]);
    let path = PathSource { path: "/x".into(), watched_directory: None };
    let need =
        Need { kind: Kind::ENDPOINT, name: "x".into(), source: Source::Path(path), fetch_timeout: None };
    let accepted = Accepted { compiled: Bytes::new(), needs: vec![need.clone()] };
    let error = bench.store.with_sources(accepted).unwrap_err();
    assert_eq!(error, "eds \"x\" is to be had from another source, as something else has it");
    let other = Need { name: "y".into(), ..need };
    let accepted = Accepted { compiled: Bytes::new(), needs: vec![other.clone()] };
    bench.store.with_sources(accepted).unwrap();
    assert_eq!(bench.store.source_of(&(Kind::ENDPOINT, "y".into())), other.source);
}

#[test]
fn the_same_bytes_are_compiled_once() {
    let mut bench = Bench::new(wildcards(None));
    for _ in 0..3 {
        assert_eq!(bench.world(Kind::CLUSTER, &[("a", cluster("a", "", None))]).refused, []);
    }
    assert_eq!(bench.store.consumer.compiled, 1);
    assert_eq!(&*bench.store.versions(Kind::CLUSTER)["a"], "3");
    let record = bench.record(Kind::CLUSTER, "a");
    assert_eq!(record.active.as_ref().unwrap().updated, bench.now.wall);
    // What is refused is not remembered as taken.
    for _ in 0..2 {
        assert_eq!(bench.world(Kind::CLUSTER, &[("a", cluster("a", "bad", None))]).refused.len(), 1);
    }
    assert_eq!(BTreeSet::from_iter(bench.in_force()), BTreeSet::from(["cds a".to_owned()]));
}
