//! Retries: HTTPRoute `retries`, with Istio's defaults.

use envoy_types::pb::envoy::config::route::v3::RetryPolicy;
use envoy_types::pb::envoy::config::route::v3::retry_policy::{
    RetryBackOff, RetryHostPredicate, RetryPriority, retry_host_predicate, retry_priority,
};
use envoy_types::pb::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;
use envoy_types::pb::envoy::extensions::retry::priority::previous_priorities::v3::PreviousPrioritiesConfig;
use ostro_api::virtual_service::HttpRetry;

use crate::encode::{any, duration, number};

const DEFAULT_CONDITIONS: &str =
    "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes";
const STATUS_CODES: &str = "retriable-status-codes";
const DEFAULT_ATTEMPTS: u32 = 2;
/// How often another host is looked for that has not been tried.
const HOST_ATTEMPTS: i64 = 5;
/// Priorities are weighed anew after this many retries.
const PRIORITY_UPDATES: i32 = 2;

/// The retries of a route: `rule`, or the mesh's default, or Istio's. `None` if they are turned off.
///
/// `hashed` says that the route has its endpoint chosen by hash: there the same host must be tried again.
pub fn policy(rule: Option<&HttpRetry>, mesh: Option<&HttpRetry>, hashed: bool) -> Option<RetryPolicy> {
    let Some(rule) = rule.or(mesh) else { return Some(default_policy(!hashed)) };
    if rule.attempts == 0 {
        return None;
    }
    let mut out = default_policy(rule.retry_ignore_previous_hosts.unwrap_or(!hashed));
    out.num_retries = number(rule.attempts);
    if !rule.retry_on.is_empty() {
        (out.retry_on, out.retriable_status_codes) = conditions(&rule.retry_on);
    }
    out.per_try_timeout = rule.per_try_timeout.filter(|timeout| !timeout.is_zero()).and_then(duration);
    if rule.retry_remote_localities == Some(true) {
        out.retry_priority = Some(RetryPriority {
            name: "envoy.retry_priorities.previous_priorities".to_owned(),
            config_type: Some(retry_priority::ConfigType::TypedConfig(any(&PreviousPrioritiesConfig {
                update_frequency: PRIORITY_UPDATES,
            }))),
        });
    }
    // Envoy refuses a base of zero.
    out.retry_back_off = rule
        .backoff
        .filter(|base| !base.is_zero())
        .map(|base| RetryBackOff { base_interval: duration(base), max_interval: None });
    Some(out)
}

fn default_policy(other_hosts: bool) -> RetryPolicy {
    let mut out = RetryPolicy {
        retry_on: DEFAULT_CONDITIONS.to_owned(),
        num_retries: number(DEFAULT_ATTEMPTS),
        ..Default::default()
    };
    if other_hosts {
        out.host_selection_retry_max_attempts = HOST_ATTEMPTS;
        out.retry_host_predicate.push(RetryHostPredicate {
            name: "envoy.retry_host_predicates.previous_hosts".to_owned(),
            config_type: Some(retry_host_predicate::ConfigType::TypedConfig(any(&PreviousHostsPredicate {}))),
        });
    }
    out
}

/// Conditions and status codes are written in one list; Envoy has them apart.
fn conditions(written: &str) -> (String, Vec<u32>) {
    let mut names: Vec<&str> = Vec::new();
    let mut codes = Vec::new();
    for part in written.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        match part.parse() {
            Ok(code) => codes.push(code),
            Err(_) => names.push(part),
        }
    }
    if !codes.is_empty() && !names.contains(&STATUS_CODES) {
        names.push(STATUS_CODES);
    }
    (names.join(","), codes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_silent_route_retries_twice_on_other_hosts() {
        let out = policy(None, None, false).unwrap();
        assert_eq!(out.num_retries.unwrap().value, 2);
        assert_eq!(out.retry_on, DEFAULT_CONDITIONS);
        assert_eq!((out.retry_host_predicate.len(), out.host_selection_retry_max_attempts), (1, 5));
    }

    #[test]
    fn hashed_routes_may_try_the_same_host_again() {
        let out = policy(None, None, true).unwrap();
        assert!(out.retry_host_predicate.is_empty());
        let asked = HttpRetry { attempts: 1, retry_ignore_previous_hosts: Some(true), ..Default::default() };
        assert_eq!(policy(Some(&asked), None, true).unwrap().retry_host_predicate.len(), 1);
    }

    #[test]
    fn no_attempts_turn_retries_off_even_where_the_mesh_has_a_default() {
        let mesh = HttpRetry { attempts: 7, ..Default::default() };
        assert_eq!(policy(Some(&HttpRetry::default()), Some(&mesh), false), None);
        assert_eq!(policy(None, Some(&mesh), false).unwrap().num_retries.unwrap().value, 7);
    }

    #[test]
    fn status_codes_are_taken_out_of_the_conditions() {
        assert_eq!(conditions("5xx, 409,,418"), ("5xx,retriable-status-codes".to_owned(), vec![409, 418]));
        assert_eq!(
            conditions("retriable-status-codes,503"),
            ("retriable-status-codes".to_owned(), vec![503]),
            "not named twice"
        );
        assert_eq!(conditions("reset"), ("reset".to_owned(), vec![]));
    }

    #[test]
    fn every_setting_arrives() {
        let rule = HttpRetry {
            attempts: 3,
            per_try_timeout: Some(Duration::from_secs(2)),
            retry_on: "gateway-error".into(),
            retry_remote_localities: Some(true),
            backoff: Some(Duration::from_millis(50)),
            ..Default::default()
        };
        let out = policy(Some(&rule), None, false).unwrap();
        assert_eq!(out.retry_on, "gateway-error");
        assert_eq!(out.per_try_timeout.unwrap().seconds, 2);
        assert_eq!(out.retry_priority.unwrap().name, "envoy.retry_priorities.previous_priorities");
        assert_eq!(out.retry_back_off.unwrap().base_interval.unwrap().nanos, 50_000_000);
    }
}
