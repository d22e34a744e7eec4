//! Retries: what is a reason to, how often, how long after.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod support;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::CircuitBreakers;
use envoy_types::pb::envoy::config::cluster::v3::circuit_breakers::Thresholds;
use http::{HeaderName, HeaderValue, StatusCode};
use ostro_engine::retry::{Denied, Reset, Retries, Verdict};
use ostro_engine::{
    Choice, Headers, Picker, Priority, RateLimitedBackOff, ResetFormat, ResponseFlags, RetryOn, RetryPolicy,
    Upstream,
};
use support::{Locality, cluster, endpoints, number, upstream};

const NOW: Duration = Duration::from_secs(1_000);
/// A random number that makes every wait as long as it can be.
const LONGEST: u64 = u64::MAX / 3;

fn limited(retries: u32) -> Arc<Upstream> {
    let mut proto = cluster("c");
    let thresholds = Thresholds { max_retries: number(retries), ..Default::default() };
    proto.circuit_breakers = Some(CircuitBreakers { thresholds: vec![thresholds], ..Default::default() });
    upstream(proto, &endpoints(&[Locality::of(&[1, 1, 1])]))
}

fn policy(on: &str, retries: u32) -> RetryPolicy {
    RetryPolicy { on: RetryOn::parse(on), retries, ..RetryPolicy::default() }
}

fn retries<'a>(policy: &'a RetryPolicy, upstream: &Arc<Upstream>) -> Retries<'a> {
    Retries::new(Some(Cow::Borrowed(policy)), Arc::clone(upstream), Priority::Default)
}

fn headers(all: &[(&'static str, &'static str)]) -> Headers {
    let fields =
        all.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    fields.collect()
}

fn is_retried(policy: &RetryPolicy, status: u16, fields: &[(&'static str, &'static str)]) -> bool {
    let mut retries = retries(policy, &limited(3));
    let status = StatusCode::from_u16(status).unwrap();
    match retries.on_response(status, &headers(fields), NOW, NOW, 0) {
        Verdict::Retry { .. } => true,
        Verdict::No(denied) => {
            assert_eq!(denied, Denied::NotRetriable);
            false
        }
    }
}

#[test]
fn responses_are_reasons_as_the_policy_says() {
    let on = |list: &str| policy(list, 1);
    for (list, yes, no) in [
        ("5xx", vec![500, 503, 599], vec![200, 409, 499]),
        ("gateway-error", vec![502, 503, 504], vec![500, 501, 505]),
        ("retriable-4xx", vec![409], vec![400, 408, 429]),
        ("reset,connect-failure,refused-stream", vec![], vec![503, 409]),
        ("", vec![], vec![503]),
    ] {
        assert!(yes.into_iter().all(|status| is_retried(&on(list), status, &[])), "{list}");
        assert!(!no.into_iter().any(|status| is_retried(&on(list), status, &[])), "{list}");
    }
    let statuses = RetryPolicy { statuses: vec![418], ..on("retriable-status-codes") };
    assert!(is_retried(&statuses, 418, &[]) && !is_retried(&statuses, 503, &[]));
    assert!(!is_retried(&RetryPolicy { statuses: vec![418], ..on("5xx") }, 418, &[]));
}

#[test]
fn rate_limits_of_an_envoy_are_a_reason_of_their_own() {
    let limited = [("x-envoy-ratelimited", "true")];
    assert!(!is_retried(&policy("5xx,retriable-4xx", 1), 503, &limited));
    assert!(is_retried(&policy("envoy-ratelimited", 1), 429, &limited));
}

#[test]
fn grpc_statuses_are_reasons_when_they_come_with_the_headers() {
    for (word, status) in [
        ("cancelled", "1"),
        ("deadline-exceeded", "4"),
        ("resource-exhausted", "8"),
        ("internal", "13"),
        ("unavailable", "14"),
    ] {
        for other in ["0", "1", "4", "8", "13", "14", "5"] {
            assert_eq!(
                is_retried(&policy(word, 1), 200, &[("grpc-status", other)]),
                other == status,
                "{word}"
            );
        }
    }
}

#[test]
fn resets_are_reasons_as_the_policy_says() {
    let retried = |list: &str, reset, began| {
        let policy = policy(list, 1);
        let verdict = retries(&policy, &limited(3)).on_reset(reset, began, NOW, 0);
        matches!(verdict, Verdict::Retry { .. })
    };
    let all = [
        Reset::ConnectFailure,
        Reset::ConnectTimeout,
        Reset::RefusedStream,
        Reset::Remote,
        Reset::Termination,
        Reset::ProtocolError,
        Reset::Local,
    ];
    for list in ["5xx", "gateway-error", "reset"] {
        assert!(all.into_iter().all(|reset| retried(list, reset, true)), "{list}");
        assert!(!retried(list, Reset::Overflow, false), "{list}");
    }
    let connecting = [Reset::ConnectFailure, Reset::ConnectTimeout];
    for reset in all {
        assert_eq!(retried("connect-failure", reset, false), connecting.contains(&reset));
        assert_eq!(retried("refused-stream", reset, true), reset == Reset::RefusedStream);
        assert!(!retried("retriable-4xx,envoy-ratelimited,unavailable", reset, false));
        assert!(
            retried("reset-before-request", reset, false) && !retried("reset-before-request", reset, true)
        );
    }
}

#[test]
fn retries_end_at_their_limit_and_waits_grow_up_to_theirs() {
    let policy = policy("5xx", 5);
    let upstream = limited(1);
    let mut retries = retries(&policy, &upstream);
    let mut longest = Vec::new();
    for _ in 0..5 {
        let all = (0..250).map(|random| policy.back_off.wait(retries.retried(), random));
        let most = all.max().unwrap();
        let Verdict::Retry { after, rate_limited: false } = retries.on_per_try_timeout(true, NOW, LONGEST)
        else {
            panic!()
        };
        assert!(after <= most);
        longest.push(most.as_millis());
        assert_eq!(upstream.breakers.gauges(Priority::Default, NOW).retries, 1);
    }
    assert_eq!(longest, [24, 49, 99, 199, 249]);
    let verdict = retries.on_reset(Reset::Remote, true, NOW, 0);
    assert_eq!(verdict, Verdict::No(Denied::LimitReached));
    assert_eq!(Denied::LimitReached.flags(), ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED);
    assert_eq!(upstream.breakers.gauges(Priority::Default, NOW).retries, 0, "nothing is tried any more");
}

#[test]
fn too_many_retries_at_once_are_none() {
    let policy = policy("5xx", 3);
    let upstream = limited(1);
    let mut first = retries(&policy, &upstream);
    let mut second = retries(&policy, &upstream);
    assert!(matches!(first.on_reset(Reset::Remote, true, NOW, 0), Verdict::Retry { .. }));
    assert_eq!(second.on_reset(Reset::Remote, true, NOW, 0), Verdict::No(Denied::Overflow));
    let ok = first.on_response(StatusCode::OK, &Headers::default(), NOW, NOW, 0);
    assert_eq!((ok, first.retried()), (Verdict::No(Denied::NotRetriable), 1));
    assert!(matches!(second.on_reset(Reset::Remote, true, NOW, 0), Verdict::Retry { .. }));
    drop(second);
    assert_eq!(upstream.breakers.gauges(Priority::Default, NOW).retries, 0);
}

#[test]
fn a_response_may_say_when_to_come_back() {
    let reset = |name, format| (HeaderName::from_static(name), format);
    let policy = RetryPolicy {
        statuses: vec![429],
        rate_limited: Some(RateLimitedBackOff {
            reset_headers: vec![
                reset("retry-after", ResetFormat::Seconds),
                reset("x-reset", ResetFormat::UnixTimestamp),
            ],
            max: Duration::from_secs(60),
        }),
        ..policy("retriable-status-codes", 9)
    };
    let upstream = limited(3);
    let mut retries = retries(&policy, &upstream);
    let unix = Duration::from_secs(1_700_000_000);
    let mut after = |fields: &[(&'static str, &'static str)], random| match retries.on_response(
        StatusCode::TOO_MANY_REQUESTS,
        &headers(fields),
        NOW,
        unix,
        random,
    ) {
        Verdict::Retry { after, rate_limited } => (after.as_millis(), rate_limited),
        denied => panic!("{denied:?}"),
    };
    assert_eq!(after(&[("retry-after", "10")], 0), (10_000, true));
    assert_eq!(after(&[("retry-after", "10")], 4_999), (14_999, true));
    assert_eq!(after(&[("retry-after", "61"), ("x-reset", "1700000020")], 0), (20_000, true));
    // Too late, in the past, or no number: as ever.
    for fields in [[("retry-after", "61")], [("x-reset", "1699999999")], [("retry-after", "soon")]] {
        assert_eq!(after(&fields, 0), (0, false));
    }
}

#[test]
fn each_retry_goes_to_another_host_if_the_policy_says() {
    let policy = RetryPolicy { avoids_previous_hosts: true, host_attempts: 5, ..policy("reset", 2) };
    let upstream = limited(3);
    let mut picker = Picker::new(Arc::clone(&upstream), 1);
    let mut retries = retries(&policy, &upstream);
    let mut hosts = Vec::new();
    loop {
        let choice = Choice { tried: Some(retries.tried()), ..Choice::default() };
        let host = picker.choose(&choice, NOW, &mut || 3).unwrap();
        retries.attempting(&host);
        hosts.push(host.id());
        match retries.on_reset(Reset::Termination, true, NOW, 0) {
            Verdict::Retry { .. } => {}
            Verdict::No(denied) => {
                assert_eq!(denied, Denied::LimitReached);
                break;
            }
        }
    }
    hosts.sort();
    hosts.dedup();
    assert_eq!(hosts.len(), 3);
}

#[test]
fn without_a_policy_nothing_is_tried_again() {
    let upstream = limited(3);
    let mut retries = Retries::new(None, upstream, Priority::Default);
    let verdict = retries.on_reset(Reset::ConnectFailure, false, NOW, 0);
    assert_eq!(verdict, Verdict::No(Denied::NotRetriable));
    assert!(retries.policy().is_none());
}
