//! Active health checks, step by step.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::OutlierDetection;
use envoy_types::pb::envoy::config::core::v3::health_check::{
    GrpcHealthCheck, HealthChecker, HttpHealthCheck, Payload, TcpHealthCheck, payload,
};
use envoy_types::pb::envoy::config::core::v3::{HeaderValue as ProtoHeader, HeaderValueOption, HealthCheck};
use envoy_types::pb::envoy::r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern};
use envoy_types::pb::envoy::r#type::v3::Int64Range;
use http::header::HeaderName;
use http::{HeaderValue, StatusCode};
use ostro_engine::balance::{Health, NothingResolved};
use ostro_engine::cluster::Probe;
use ostro_engine::health_check::{Checker, ProbeResult, Transition};
use ostro_engine::outlier::Outcome;
use ostro_engine::{Headers, Host, Priority, Upstream};
use support::{Locality, cluster, endpoints, number, seconds, upstream};

const NOW: Duration = Duration::from_secs(1_000);

fn check(checker: HealthChecker) -> HealthCheck {
    HealthCheck {
        timeout: seconds(2),
        interval: seconds(10),
        unhealthy_threshold: number(3),
        healthy_threshold: number(2),
        unhealthy_interval: seconds(20),
        unhealthy_edge_interval: seconds(5),
        healthy_edge_interval: seconds(7),
        health_checker: Some(checker),
        ..Default::default()
    }
}

fn http() -> HttpHealthCheck {
    HttpHealthCheck { path: "/healthz".to_owned(), ..Default::default() }
}

fn checked(check: HealthCheck) -> (Arc<Upstream>, Arc<Host>, Checker) {
    let mut proto = cluster("c");
    proto.health_checks = vec![check];
    proto.outlier_detection = Some(OutlierDetection {
        consecutive_5xx: number(1),
        max_ejection_percent: number(100),
        ..Default::default()
    });
    let upstream = upstream(proto, &endpoints(&[Locality::of(&[1, 1])]));
    let host = Arc::clone(upstream.snapshot().hosts().next().unwrap());
    let checker = Checker::new(&upstream, Arc::clone(&host), NOW, 0).unwrap();
    (upstream, host, checker)
}

fn step(checker: &mut Checker, result: ProbeResult) -> (Transition, u64) {
    checker.begin(NOW);
    let transition = checker.finish(result, NOW, 0);
    (transition, (checker.next() - NOW).as_secs())
}

#[test]
fn thresholds_decide_and_intervals_follow() {
    let (upstream, host, mut checker) = checked(check(HealthChecker::HttpHealthCheck(http())));
    assert_eq!((host.health(), checker.next()), (Health::Unhealthy, NOW));
    assert_eq!(checker.begin(NOW), NOW + Duration::from_secs(2));
    // The first check alone makes it healthy; without traffic the next is far off.
    assert_eq!(step(&mut checker, ProbeResult::Healthy), (Transition::Changed, 60));
    assert_eq!(host.health(), Health::Healthy);
    upstream.refresh(NOW);
    assert_eq!(upstream.snapshot().membership().healthy, 1);
    drop(upstream.connect(&host, Priority::Default).unwrap());
    assert_eq!(step(&mut checker, ProbeResult::Healthy), (Transition::Unchanged, 10));
    assert_eq!(step(&mut checker, ProbeResult::Timeout), (Transition::Pending, 5));
    assert_eq!(step(&mut checker, ProbeResult::Network), (Transition::Pending, 5));
    assert_eq!(step(&mut checker, ProbeResult::Healthy), (Transition::Unchanged, 10));
    assert_eq!(step(&mut checker, ProbeResult::Network), (Transition::Pending, 5));
    assert_eq!(step(&mut checker, ProbeResult::Retriable), (Transition::Pending, 5));
    assert_eq!(step(&mut checker, ProbeResult::Network), (Transition::Changed, 20));
    assert_eq!(step(&mut checker, ProbeResult::Network), (Transition::Unchanged, 20));
    assert_eq!(step(&mut checker, ProbeResult::Healthy), (Transition::Pending, 7));
    assert_eq!(host.health(), Health::Unhealthy);
    assert_eq!(step(&mut checker, ProbeResult::Healthy), (Transition::Changed, 10));
    // What the host says itself counts at once.
    assert_eq!(step(&mut checker, ProbeResult::Unhealthy), (Transition::Changed, 20));
    let stats = &upstream.health_stats;
    assert_eq!((stats.attempt.get(), stats.success.get(), stats.failure.get()), (13, 5, 7));
    assert_eq!((stats.network_failure.get(), stats.healthy.get()), (5, 0));
}

#[test]
fn an_immediate_failure_leaves_the_host_out_of_everything_until_it_passes() {
    let (upstream, host, mut checker) = checked(check(HealthChecker::HttpHealthCheck(http())));
    step(&mut checker, ProbeResult::Healthy);
    assert!(upstream.health_failed(&host));
    upstream.refresh(NOW);
    let counts = upstream.snapshot().membership();
    assert_eq!((counts.total, counts.excluded, counts.healthy), (2, 1, 0));
    assert_eq!(upstream.health_stats.passive_failure.get(), 1);
    step(&mut checker, ProbeResult::Healthy);
    assert_eq!(step(&mut checker, ProbeResult::Healthy).0, Transition::Changed);
    upstream.refresh(NOW);
    assert_eq!(upstream.snapshot().membership().excluded, 0);
    assert_eq!(step(&mut checker, ProbeResult::ImmediateFail).0, Transition::Changed);
    assert!(host.flags().words().eq(["failed_active_hc", "excluded_via_immediate_hc_fail"]));
}

#[test]
fn a_degraded_host_is_second_choice_and_a_passed_check_ends_an_ejection() {
    let (upstream, host, mut checker) = checked(check(HealthChecker::HttpHealthCheck(http())));
    assert_eq!(step(&mut checker, ProbeResult::Degraded).0, Transition::Changed);
    assert_eq!(host.health(), Health::Degraded);
    assert_eq!(upstream.health_stats.degraded.get(), 1);
    assert_eq!(step(&mut checker, ProbeResult::Healthy).0, Transition::Changed);
    assert_eq!(host.health(), Health::Healthy);
    assert!(upstream.report(&host, Outcome::Status(500), NOW, 0));
    assert_eq!(host.health(), Health::Unhealthy);
    assert_eq!(step(&mut checker, ProbeResult::Healthy).0, Transition::Changed);
    assert_eq!(host.health(), Health::Healthy);
}

#[test]
fn a_host_that_is_removed_stays_as_long_as_it_passes() {
    let (upstream, host, mut checker) = checked(check(HealthChecker::HttpHealthCheck(http())));
    step(&mut checker, ProbeResult::Healthy);
    let fewer = endpoints(&[Locality { first: 1, ..Locality::of(&[1]) }]);
    assert!(upstream.set_endpoints(&fewer, &NothingResolved, NOW).removed.is_empty());
    assert_eq!(upstream.snapshot().membership().total, 2);
    assert!(host.flags().words().eq(["pending_dynamic_removal"]) && !host.is_gone());
    step(&mut checker, ProbeResult::Unhealthy);
    upstream.refresh(NOW);
    assert_eq!(upstream.snapshot().membership().total, 1);
    assert!(host.is_gone());
}

#[test]
fn jitter_spreads_probes() {
    let jittery = HealthCheck {
        initial_jitter: seconds(4),
        interval_jitter: seconds(2),
        interval_jitter_percent: 50,
        no_traffic_interval: seconds(10),
        ..check(HealthChecker::HttpHealthCheck(http()))
    };
    let (upstream, host, _) = checked(jittery);
    let mut checker = Checker::new(&upstream, host, NOW, 3_999).unwrap();
    assert_eq!(checker.next(), NOW + Duration::from_millis(3_999));
    checker.begin(NOW);
    // 4 s of at most 5 by percentage, 1.5 s of at most 2.
    checker.finish(ProbeResult::Healthy, NOW, 1_500 << 32 | 4_000);
    assert_eq!(checker.next(), NOW + Duration::from_millis(15_500));
}

#[test]
fn answers_to_http_probes_are_judged_by_status_body_and_name() {
    let range = |start, end| Int64Range { start, end };
    let text = |text: &str| Payload { payload: Some(payload::Payload::Text(text.to_owned())) };
    let probe = HttpHealthCheck {
        host: "checked.test".to_owned(),
        expected_statuses: vec![range(200, 205)],
        retriable_statuses: vec![range(429, 430)],
        // "ok", then "!".
        receive: vec![text("6f6b"), text("21")],
        service_name_matcher: Some(StringMatcher {
            match_pattern: Some(MatchPattern::Prefix("mine".to_owned())),
            ..Default::default()
        }),
        request_headers_to_add: vec![HeaderValueOption {
            header: Some(ProtoHeader { key: "x-a".to_owned(), value: "b".to_owned(), ..Default::default() }),
            ..Default::default()
        }],
        ..http()
    };
    let (_, _, checker) = checked(check(HealthChecker::HttpHealthCheck(probe)));
    let Probe::Http(probe) = &checker.settings().probe else { panic!() };
    let (request, body) = checker.http_request(probe);
    assert_eq!((request.host(), request.path.to_str().unwrap(), body.len()), ("checked.test", "/healthz", 0));
    let headers: Vec<_> =
        request.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    assert_eq!(headers, [("user-agent", "Envoy/HC"), ("x-a", "b")]);
    let judge = |status: u16, names: &[(&'static str, &'static str)], body: &[u8]| {
        let headers: Headers = names
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        checker.judge_http(probe, StatusCode::from_u16(status).unwrap(), &headers, body)
    };
    let mine = ("x-envoy-upstream-healthchecked-cluster", "mine-1");
    assert_eq!(judge(204, &[mine], b"ok then!"), ProbeResult::Healthy);
    assert_eq!(judge(204, &[mine, ("x-envoy-degraded", "")], b"ok!"), ProbeResult::Degraded);
    assert_eq!(judge(204, &[mine], b"! ok"), ProbeResult::Unhealthy);
    assert_eq!(judge(204, &[], b"ok!"), ProbeResult::Unhealthy);
    assert_eq!(judge(205, &[mine], b"ok!"), ProbeResult::Unhealthy);
    assert_eq!(judge(429, &[mine], b""), ProbeResult::Retriable);
    assert_eq!(
        judge(503, &[("x-envoy-immediate-health-check-fail", "true")], b""),
        ProbeResult::ImmediateFail
    );
}

#[test]
fn answers_to_tcp_probes_are_looked_through_in_order() {
    let text = |text: &str| Payload { payload: Some(payload::Payload::Text(text.to_owned())) };
    let probe = TcpHealthCheck {
        send: Some(text("01")),
        receive: vec![text("02"), text("0304")],
        ..Default::default()
    };
    let (_, _, checker) = checked(check(HealthChecker::TcpHealthCheck(probe)));
    let Probe::Tcp(probe) = &checker.settings().probe else { panic!() };
    assert_eq!(probe.judge(&[3, 4, 2]), None);
    assert_eq!(probe.judge(&[0, 2, 9, 3, 4, 9]), Some(ProbeResult::Healthy));
    let (_, _, checker) = checked(check(HealthChecker::TcpHealthCheck(TcpHealthCheck::default())));
    let Probe::Tcp(probe) = &checker.settings().probe else { panic!() };
    assert_eq!(probe.judge(&[]), Some(ProbeResult::Healthy), "a connection is enough");
}

#[test]
fn answers_to_grpc_probes_are_one_message() {
    let probe = GrpcHealthCheck { service_name: "ab".to_owned(), ..Default::default() };
    let (_, _, checker) = checked(check(HealthChecker::GrpcHealthCheck(probe)));
    let Probe::Grpc(probe) = &checker.settings().probe else { panic!() };
    let (request, body) = checker.grpc_request(probe);
    assert_eq!((request.method.as_str(), request.host(), request.is_grpc()), ("POST", "c", true));
    assert_eq!(&body[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
    let zero = HeaderValue::from_static("0");
    let judge = |code: Option<&HeaderValue>, body: &[u8]| checker.judge_grpc(StatusCode::OK, code, body);
    assert_eq!(judge(Some(&zero), &[0, 0, 0, 0, 2, 8, 1]), ProbeResult::Healthy);
    assert_eq!(judge(Some(&zero), &[0, 0, 0, 0, 2, 8, 2]), ProbeResult::Unhealthy);
    assert_eq!(judge(Some(&zero), &[0, 0, 0, 0, 9, 8, 1]), ProbeResult::Unhealthy);
    assert_eq!(judge(Some(&HeaderValue::from_static("12")), &[]), ProbeResult::Unhealthy);
    assert_eq!(judge(None, &[0, 0, 0, 0, 2, 8, 1]), ProbeResult::Unhealthy);
}
