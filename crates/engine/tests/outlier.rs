//! Outlier detection: who is ejected, for how long, and how many at most.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod support;

use std::sync::{Arc, Barrier};
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::OutlierDetection;
use ostro_engine::balance::Health;
use ostro_engine::outlier::{Outcome, OutlierCounters};
use ostro_engine::{Choice, Host, Picker, Upstream};
use support::{Locality, cluster, endpoints, number, seconds, upstream};

const NOW: Duration = Duration::from_secs(1_000);
const OK: Outcome = Outcome::Status(200);
const ERROR: Outcome = Outcome::Status(500);
const GATEWAY: Outcome = Outcome::Status(503);

fn detecting(hosts: usize, settings: OutlierDetection) -> (Arc<Upstream>, Vec<Arc<Host>>) {
    let mut proto = cluster("c");
    proto.outlier_detection = Some(settings);
    let upstream = upstream(proto, &endpoints(&[Locality::of(&vec![1; hosts])]));
    let hosts = upstream.snapshot().hosts().cloned().collect();
    // The first sweep begins the first interval.
    assert!(!upstream.tick(NOW, 0));
    (upstream, hosts)
}

/// Errors in a row only.
fn in_a_row(limit: u32, most: u32) -> OutlierDetection {
    OutlierDetection {
        consecutive_5xx: number(limit),
        max_ejection_percent: number(most),
        enforcing_success_rate: number(0),
        ..Default::default()
    }
}

fn report(upstream: &Upstream, host: &Host, outcomes: &[Outcome]) -> bool {
    outcomes.iter().filter(|outcome| upstream.report(host, **outcome, NOW, 0)).count() > 0
}

fn stats(upstream: &Upstream) -> &OutlierCounters {
    upstream.outlier.as_ref().unwrap().stats()
}

#[test]
fn errors_in_a_row_eject_and_time_lets_back_in() {
    let (upstream, hosts) = detecting(2, in_a_row(3, 50));
    assert!(!report(&upstream, &hosts[0], &[ERROR, ERROR, OK, ERROR, ERROR]));
    assert!(report(&upstream, &hosts[0], &[ERROR]));
    upstream.refresh(NOW);
    assert_eq!((hosts[0].health(), upstream.snapshot().membership().healthy), (Health::Unhealthy, 1));
    let mut picker = Picker::new(Arc::clone(&upstream), 0);
    let mut choose = || picker.choose(&Choice::default(), NOW, &mut || 1).unwrap().id();
    assert!((0..10).all(|_| choose() == hosts[1].id()));
    assert_eq!(
        (stats(&upstream).ejections_active.get(), stats(&upstream).ejections_enforced_total.get()),
        (1, 1)
    );
    // 30 s; sweeps come every 10 s.
    assert!(!upstream.tick(NOW + Duration::from_secs(29), 0));
    assert!(upstream.tick(NOW + Duration::from_secs(39), 0));
    assert_eq!((hosts[0].health(), upstream.snapshot().membership().healthy), (Health::Healthy, 2));
    assert_eq!(stats(&upstream).ejections_active.get(), 0);
    // It takes a whole row again.
    assert!(!report(&upstream, &hosts[0], &[ERROR, ERROR]));
}

#[test]
fn each_ejection_is_longer_and_good_conduct_makes_the_next_shorter() {
    let settings = OutlierDetection { max_ejection_time: seconds(60), ..in_a_row(1, 100) };
    let (upstream, hosts) = detecting(1, settings);
    let mut now = NOW;
    let out_for = |now: &mut Duration| {
        assert!(upstream.report(&hosts[0], ERROR, *now, 0));
        let began = *now;
        while hosts[0].health() != Health::Healthy {
            *now += Duration::from_secs(10);
            upstream.tick(*now, 0);
        }
        (*now - began).as_secs()
    };
    assert_eq!(out_for(&mut now), 30);
    assert_eq!(out_for(&mut now), 60);
    assert_eq!(out_for(&mut now), 60, "the most there is");
    for _ in 0..3 {
        now += Duration::from_secs(10);
        upstream.tick(now, 0);
    }
    assert_eq!(out_for(&mut now), 30);
}

#[test]
fn jitter_makes_it_longer() {
    let settings = OutlierDetection { max_ejection_time_jitter: seconds(20), ..in_a_row(1, 100) };
    let (upstream, hosts) = detecting(1, settings);
    // The upper half of the number is the jitter, in milliseconds.
    assert!(upstream.report(&hosts[0], ERROR, NOW, 15_000 << 32));
    assert!(!upstream.tick(NOW + Duration::from_secs(44), 0));
    assert!(upstream.tick(NOW + Duration::from_secs(54), 0));
}

#[test]
fn no_more_are_out_than_may_be() {
    let (upstream, hosts) = detecting(10, in_a_row(1, 25));
    let ejected = hosts.iter().filter(|host| report(&upstream, host, &[ERROR])).count();
    assert_eq!((ejected, stats(&upstream).ejections_overflow.get()), (2, 8));
    // By default not one of 9, unless one always may be.
    let (upstream, hosts) = detecting(9, in_a_row(1, 10));
    assert!(!report(&upstream, &hosts[0], &[ERROR]));
    let always = OutlierDetection {
        always_eject_one_host: Some(envoy_types::pb::google::protobuf::BoolValue { value: true }),
        ..in_a_row(1, 10)
    };
    let (upstream, hosts) = detecting(9, always);
    assert!(report(&upstream, &hosts[0], &[ERROR]) && !report(&upstream, &hosts[1], &[ERROR]));
}

#[test]
fn eight_workers_eject_no_more_than_may_be() {
    for _ in 0..20 {
        let (upstream, hosts) = detecting(20, in_a_row(2, 30));
        let barrier = Arc::new(Barrier::new(8));
        let workers: Vec<_> = (0..8)
            .map(|_| {
                let (upstream, hosts, barrier) = (Arc::clone(&upstream), hosts.clone(), Arc::clone(&barrier));
                std::thread::spawn(move || {
                    barrier.wait();
                    hosts.iter().map(|host| usize::from(report(&upstream, host, &[ERROR; 4]))).sum::<usize>()
                })
            })
            .collect();
        let ejected: usize = workers.into_iter().map(|worker| worker.join().unwrap()).sum();
        let out = hosts.iter().filter(|host| host.health() == Health::Unhealthy).count();
        assert_eq!((ejected, out, stats(&upstream).ejections_active.get()), (6, 6, 6));
    }
}

#[test]
fn gateway_errors_are_a_row_of_their_own() {
    let settings = OutlierDetection {
        consecutive_gateway_failure: number(2),
        enforcing_consecutive_gateway_failure: number(100),
        enforcing_consecutive_5xx: number(0),
        ..in_a_row(3, 100)
    };
    let (upstream, hosts) = detecting(2, settings);
    assert!(!report(&upstream, &hosts[0], &[GATEWAY, ERROR, GATEWAY]));
    assert_eq!(stats(&upstream).ejections_detected_consecutive_5xx.get(), 1);
    assert_eq!(stats(&upstream).ejections_enforced_consecutive_5xx.get(), 0);
    assert!(report(&upstream, &hosts[0], &[GATEWAY]));
    // What cannot be reached counts as 503, unless that is told apart.
    assert!(report(&upstream, &hosts[1], &[Outcome::ConnectFailed, Outcome::Timeout]));
}

#[test]
fn what_cannot_be_reached_is_told_apart() {
    let settings = OutlierDetection {
        split_external_local_origin_errors: true,
        consecutive_local_origin_failure: number(2),
        ..in_a_row(2, 100)
    };
    let (upstream, hosts) = detecting(2, settings);
    let failed = Outcome::ConnectFailed;
    assert!(!report(&upstream, &hosts[0], &[failed, ERROR, Outcome::Connected, failed]));
    assert!(report(&upstream, &hosts[0], &[Outcome::Timeout]));
    assert_eq!(stats(&upstream).ejections_enforced_consecutive_local_origin_failure.get(), 1);
    assert!(report(&upstream, &hosts[1], &[Outcome::RequestFailed, failed, ERROR]));
}

#[test]
fn success_rates_far_below_the_others_are_ejected() {
    let settings = OutlierDetection {
        consecutive_5xx: number(1_000),
        max_ejection_percent: number(50),
        success_rate_minimum_hosts: number(5),
        success_rate_request_volume: number(100),
        ..Default::default()
    };
    let (upstream, hosts) = detecting(7, settings);
    let requests = |upstream: &Upstream, hosts: &[Arc<Host>]| {
        for (place, host) in hosts.iter().enumerate() {
            for number in 0..100 {
                let bad = place == 3 && number % 2 == 0 || number % 50 == 0;
                upstream.report(host, if bad { ERROR } else { OK }, NOW, 0);
            }
        }
    };
    requests(&upstream, &hosts[..4]);
    assert!(!upstream.tick(NOW + Duration::from_secs(10), 0), "four hosts are too few to compare");
    requests(&upstream, &hosts);
    assert!(upstream.tick(NOW + Duration::from_secs(20), 0));
    assert_eq!(hosts[3].health(), Health::Unhealthy);
    assert_eq!(hosts.iter().filter(|host| host.health() == Health::Healthy).count(), 6);
    assert_eq!((hosts[3].state.success_rate(), hosts[0].state.success_rate()), (Some(50.0), Some(98.0)));
    assert_eq!(stats(&upstream).ejections_enforced_success_rate.get(), 1);
}

#[test]
fn failure_percentages_above_the_threshold_are_ejected() {
    let settings = OutlierDetection {
        failure_percentage_threshold: number(60),
        enforcing_failure_percentage: number(100),
        failure_percentage_minimum_hosts: number(2),
        failure_percentage_request_volume: number(10),
        enforcing_success_rate: number(0),
        consecutive_5xx: number(1_000),
        max_ejection_percent: number(100),
        ..Default::default()
    };
    let (upstream, hosts) = detecting(2, settings);
    for number in 0..10 {
        upstream.report(&hosts[0], if number < 6 { ERROR } else { OK }, NOW, 0);
        upstream.report(&hosts[1], if number < 5 { ERROR } else { OK }, NOW, 0);
    }
    assert!(upstream.tick(NOW + Duration::from_secs(10), 0));
    assert_eq!((hosts[0].health(), hosts[1].health()), (Health::Unhealthy, Health::Healthy));
    assert_eq!(stats(&upstream).ejections_enforced_failure_percentage.get(), 1);
}

#[test]
fn hosts_that_leave_no_longer_count_as_ejected_and_stay_out_over_updates_if_they_do_not() {
    let (upstream, hosts) = detecting(4, in_a_row(1, 50));
    assert!(report(&upstream, &hosts[0], &[ERROR]) && report(&upstream, &hosts[3], &[ERROR]));
    upstream.set_endpoints(
        &endpoints(&[Locality::of(&[1, 1])]),
        &ostro_engine::balance::NothingResolved,
        NOW,
    );
    assert_eq!(stats(&upstream).ejections_active.get(), 1);
    assert_eq!(upstream.snapshot().membership().healthy, 1);
    let next = Upstream::replacing(Arc::clone(&upstream.cluster), &upstream, NOW);
    assert_eq!(next.snapshot().membership().healthy, 1);
    assert_eq!(stats(&next).ejections_active.get(), 1);
}
