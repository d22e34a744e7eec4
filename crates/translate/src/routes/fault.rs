//! Fault injection: delays and aborts, HTTPRoute `fault`.

use envoy_types::pb::envoy::extensions::filters::common::fault::v3::{FaultDelay, fault_delay};
use envoy_types::pb::envoy::extensions::filters::http::fault::v3::{FaultAbort, HttpFault, fault_abort};
use ostro_api::virtual_service::{
    FaultAbort as AbortRule, FaultDelay as DelayRule, GRPC_STATUSES, HttpFaultInjection,
};

use super::fraction;
use crate::encode::duration;

/// The filter that carries faults out; routes configure it by this name.
pub const FILTER: &str = "envoy.filters.http.fault";

/// The faults of a route; `None` if the rule comes to nothing that Envoy can do.
pub fn fault(rule: &HttpFaultInjection) -> Option<HttpFault> {
    let delay = rule.delay.as_ref().and_then(delay);
    let abort = rule.abort.as_ref().and_then(abort);
    (delay.is_some() || abort.is_some()).then(|| HttpFault { delay, abort, ..Default::default() })
}

fn delay(rule: &DelayRule) -> Option<FaultDelay> {
    // Envoy refuses a delay of zero.
    let wait = rule.fixed_delay.filter(|wait| !wait.is_zero()).and_then(duration)?;
    let percent = rule.percentage.as_ref().map(|percent| percent.value);
    // Zero of the deprecated whole percents is the same as unset.
    let percent = percent.or((rule.percent > 0).then_some(f64::from(rule.percent)));
    Some(FaultDelay {
        percentage: Some(fraction::of_percent(percent)),
        fault_delay_secifier: Some(fault_delay::FaultDelaySecifier::FixedDelay(wait)),
    })
}

fn abort(rule: &AbortRule) -> Option<FaultAbort> {
    let error = match (&rule.http_status, &rule.grpc_status) {
        (Some(status), _) if (200..600).contains(status) => fault_abort::ErrorType::HttpStatus(*status),
        (_, Some(status)) => fault_abort::ErrorType::GrpcStatus(grpc_status(status)?),
        _ => return None,
    };
    Some(FaultAbort {
        percentage: Some(fraction::of_percent(rule.percentage.as_ref().map(|percent| percent.value))),
        error_type: Some(error),
        ..Default::default()
    })
}

/// The number of a gRPC status, from its name or from the number itself.
fn grpc_status(written: &str) -> Option<u32> {
    let named =
        GRPC_STATUSES.iter().position(|name| name.eq_ignore_ascii_case(written)).map(|code| code as u32);
    named.or_else(|| written.parse().ok().filter(|code| (*code as usize) < GRPC_STATUSES.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ostro_api::virtual_service::Percent;
    use std::time::Duration;

    fn delayed(rule: DelayRule) -> HttpFaultInjection {
        HttpFaultInjection { delay: Some(rule), abort: None }
    }

    #[test]
    fn without_a_percentage_every_request_is_hit() {
        let rule = delayed(DelayRule { fixed_delay: Some(Duration::from_secs(7)), ..Default::default() });
        let delay = fault(&rule).unwrap().delay.unwrap();
        assert_eq!(delay.percentage, Some(fraction::of_percent(Some(100.0))));
        assert_eq!(
            delay.fault_delay_secifier,
            Some(fault_delay::FaultDelaySecifier::FixedDelay(duration(Duration::from_secs(7)).unwrap()))
        );
    }

    #[test]
    fn both_forms_of_the_percentage_count_and_the_new_one_wins() {
        let wait = Some(Duration::from_secs(1));
        let old = delayed(DelayRule { fixed_delay: wait, percent: 30, ..Default::default() });
        assert_eq!(fault(&old).unwrap().delay.unwrap().percentage, Some(fraction::of_percent(Some(30.0))));
        let none = delayed(DelayRule {
            fixed_delay: wait,
            percent: 30,
            percentage: Some(Percent { value: 0.0 }),
            ..Default::default()
        });
        assert_eq!(fault(&none).unwrap().delay.unwrap().percentage.unwrap().numerator, 0);
    }

    #[test]
    fn what_envoy_refuses_is_no_fault() {
        let zero = delayed(DelayRule { fixed_delay: Some(Duration::ZERO), ..Default::default() });
        assert_eq!(fault(&zero), None);
        for status in [0, 100, 600] {
            let rule = HttpFaultInjection {
                delay: None,
                abort: Some(AbortRule { http_status: Some(status), ..Default::default() }),
            };
            assert_eq!(fault(&rule), None, "{status}");
        }
    }

    #[test]
    fn grpc_statuses_by_name_and_number() {
        let cases = [
            ("UNAVAILABLE", Some(14)),
            ("unavailable", Some(14)),
            ("14", Some(14)),
            ("17", None),
            ("NO", None),
        ];
        for (written, code) in cases {
            assert_eq!(grpc_status(written), code, "{written}");
        }
    }
}
