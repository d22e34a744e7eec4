//! Circuit breakers: exact over all workers, whatever the moment.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod support;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::task::{Wake, Waker};
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::CircuitBreakers;
use envoy_types::pb::envoy::config::cluster::v3::circuit_breakers::Thresholds;
use envoy_types::pb::envoy::config::cluster::v3::circuit_breakers::thresholds::RetryBudget;
use envoy_types::pb::envoy::r#type::v3::Percent;
use ostro_engine::breakers::Overflow;
use ostro_engine::{Host, Priority, Upstream};
use support::{Locality, cluster, endpoints, number, upstream};

const NOW: Duration = Duration::from_secs(1_000);
const DEFAULT: Priority = Priority::Default;

fn limited(thresholds: Thresholds) -> (Arc<Upstream>, Arc<Host>) {
    let mut proto = cluster("c");
    proto.circuit_breakers = Some(CircuitBreakers { thresholds: vec![thresholds], ..Default::default() });
    let upstream = upstream(proto, &endpoints(&[Locality::of(&[1, 1])]));
    let host = Arc::clone(upstream.snapshot().hosts().next().unwrap());
    (upstream, host)
}

#[test]
fn four_workers_never_have_two_of_one() {
    let limits = Thresholds {
        max_connections: number(1),
        max_pending_requests: number(2),
        max_requests: number(3),
        max_retries: number(1),
        ..Default::default()
    };
    let (upstream, host) = limited(limits);
    let most: Arc<[AtomicU64; 4]> = Arc::default();
    let barrier = Arc::new(Barrier::new(4));
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let (upstream, host) = (Arc::clone(&upstream), Arc::clone(&host));
            let (most, barrier) = (Arc::clone(&most), Arc::clone(&barrier));
            std::thread::spawn(move || {
                barrier.wait();
                for _ in 0..20_000 {
                    let connection = upstream.connect(&host, DEFAULT);
                    let pending = upstream.pend(DEFAULT);
                    let request = upstream.request(&host, DEFAULT, NOW);
                    let retry = upstream.retry(DEFAULT, NOW);
                    let held = [connection.is_ok(), pending.is_ok(), request.is_ok(), retry.is_ok()];
                    for (place, held) in held.into_iter().enumerate() {
                        if held {
                            most[place].fetch_add(1, Ordering::SeqCst);
                        }
                    }
                    let seen: Vec<_> = most.iter().map(|count| count.load(Ordering::SeqCst)).collect();
                    assert!(seen[0] <= 1 && seen[1] <= 2 && seen[2] <= 3 && seen[3] <= 1, "{seen:?}");
                    for (place, held) in held.into_iter().enumerate() {
                        if held {
                            most[place].fetch_sub(1, Ordering::SeqCst);
                        }
                    }
                }
            })
        })
        .collect();
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    let gauges = upstream.breakers.gauges(DEFAULT, NOW);
    assert_eq!((gauges.connections, gauges.pending, gauges.requests, gauges.retries), (0, 0, 0, 0));
    assert_eq!((host.state.cx_active.get(), host.state.rq_active.get()), (0, 0));
}

#[test]
fn gauges_say_what_is_open_and_priorities_are_apart() {
    let limits = Thresholds { max_connections: number(1), track_remaining: true, ..Default::default() };
    let (upstream, host) = limited(limits);
    let gauges = upstream.breakers.gauges(DEFAULT, NOW);
    assert!(!gauges.cx_open && gauges.remaining.unwrap().cx == 1);
    let permit = upstream.connect(&host, DEFAULT).unwrap();
    assert_eq!(upstream.connect(&host, DEFAULT).unwrap_err(), Overflow::Connections);
    let gauges = upstream.breakers.gauges(DEFAULT, NOW);
    assert!(gauges.cx_open && gauges.remaining.unwrap().cx == 0);
    assert_eq!(gauges.remaining.unwrap().rq, 1_024);
    // High priority has limits of its own: the defaults.
    let _other = upstream.connect(&host, Priority::High).unwrap();
    assert_eq!(host.state.cx_active.get(), 2);
    drop(permit);
    assert!(!upstream.breakers.gauges(DEFAULT, NOW).cx_open);
}

#[test]
fn a_host_has_a_limit_of_its_own() {
    let mut proto = cluster("c");
    proto.circuit_breakers = Some(CircuitBreakers {
        per_host_thresholds: vec![Thresholds { max_connections: number(1), ..Default::default() }],
        ..Default::default()
    });
    let upstream = upstream(proto, &endpoints(&[Locality::of(&[1, 1])]));
    let hosts: Vec<_> = upstream.snapshot().hosts().cloned().collect();
    let _permit = upstream.connect(&hosts[0], DEFAULT).unwrap();
    assert_eq!(upstream.connect(&hosts[0], DEFAULT).unwrap_err(), Overflow::HostConnections);
    assert!(upstream.connect(&hosts[1], DEFAULT).is_ok());
    assert_eq!(upstream.breakers.gauges(DEFAULT, NOW).connections, 1);
}

#[test]
fn a_budget_is_a_share_of_what_is_in_flight() {
    let budget = RetryBudget {
        budget_percent: Some(Percent { value: 25.0 }),
        min_retry_concurrency: number(2),
        budget_interval: None,
    };
    let (upstream, host) = limited(Thresholds { retry_budget: Some(budget), ..Default::default() });
    let count = || {
        let permits: Vec<_> = std::iter::from_fn(|| upstream.retry(DEFAULT, NOW).ok()).collect();
        permits.len()
    };
    assert_eq!(count(), 2);
    let requests: Vec<_> = (0..17).map(|_| upstream.request(&host, DEFAULT, NOW).unwrap()).collect();
    let pending: Vec<_> = (0..3).map(|_| upstream.pend(DEFAULT).unwrap()).collect();
    assert_eq!(count(), 5);
    drop((requests, pending));
    assert_eq!(count(), 2);
}

#[test]
fn a_budget_counts_requests_for_an_interval() {
    let budget = RetryBudget {
        budget_percent: Some(Percent { value: 50.0 }),
        min_retry_concurrency: number(1),
        budget_interval: support::seconds(8),
    };
    let (upstream, host) = limited(Thresholds { retry_budget: Some(budget), ..Default::default() });
    let count = |later: u64| {
        let now = NOW + Duration::from_secs(later);
        let permits: Vec<_> = std::iter::from_fn(|| upstream.retry(DEFAULT, now).ok()).collect();
        permits.len()
    };
    for _ in 0..10 {
        drop(upstream.request(&host, DEFAULT, NOW).unwrap());
    }
    assert_eq!(count(0), 5);
    assert_eq!(count(7), 5);
    assert_eq!(count(10), 1);
}

struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn who_waits_for_a_connection_is_woken_when_one_ends() {
    let (upstream, host) = limited(Thresholds { max_connections: number(1), ..Default::default() });
    let wakes = [Arc::new(Count(AtomicUsize::new(0))), Arc::new(Count(AtomicUsize::new(0)))];
    let wakers = wakes.clone().map(Waker::from);
    let counts = || wakes.each_ref().map(|count| count.0.load(Ordering::SeqCst));
    let permit = upstream.connect(&host, DEFAULT).unwrap();
    let first = upstream.breakers.wait_for_connection(DEFAULT, &wakers[0]);
    let second = upstream.breakers.wait_for_connection(DEFAULT, &wakers[1]);
    assert!(upstream.breakers.is_connection_wanted(DEFAULT));
    assert_eq!(counts(), [0, 0]);
    drop(permit);
    assert_eq!(counts(), [1, 0]);
    // The first gives up instead: its turn goes on.
    drop(first);
    assert_eq!(counts(), [1, 1]);
    let permit = upstream.connect(&host, DEFAULT).unwrap();
    drop(second);
    assert!(!upstream.breakers.is_connection_wanted(DEFAULT));
    drop(permit);
    assert_eq!(counts(), [1, 1]);
    // With room already, there is nothing to wait for.
    let _third = upstream.breakers.wait_for_connection(DEFAULT, &wakers[0]);
    assert_eq!(counts(), [2, 1]);
}

#[test]
fn a_higher_limit_counts_what_is_open_and_wakes_who_waits() {
    let (upstream, host) = limited(Thresholds { max_connections: number(1), ..Default::default() });
    let wakes = Arc::new(Count(AtomicUsize::new(0)));
    let _permit = upstream.connect(&host, DEFAULT).unwrap();
    let _wait = upstream.breakers.wait_for_connection(DEFAULT, &Waker::from(Arc::clone(&wakes)));
    let mut cluster = (*upstream.cluster).clone();
    cluster.thresholds.default.connections = 2;
    let next = Upstream::replacing(Arc::new(cluster), &upstream, NOW);
    assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
    let _second = next.connect(&host, DEFAULT).unwrap();
    assert_eq!(next.connect(&host, DEFAULT).unwrap_err(), Overflow::Connections);
}
