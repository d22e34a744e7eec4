//! Counters of outlier detection, by Envoy's names.

use super::Detection;
use crate::balance::Counter;

/// Counters of a cluster's outlier detection (`cluster.<name>.outlier_detection.`).
#[derive(Debug, Default)]
#[allow(missing_docs, reason = "the names are Envoy's, and Envoy's documentation is theirs")]
pub struct OutlierCounters {
    /// Hosts that are out: a gauge.
    pub ejections_active: Counter,
    pub ejections_overflow: Counter,
    pub ejections_enforced_total: Counter,
    /// Envoy's older counter: of 5xx in a row and success rates, enforced or not.
    pub ejections_total: Counter,
    pub ejections_detected_consecutive_5xx: Counter,
    pub ejections_detected_consecutive_gateway_failure: Counter,
    pub ejections_detected_consecutive_local_origin_failure: Counter,
    pub ejections_detected_success_rate: Counter,
    pub ejections_detected_local_origin_success_rate: Counter,
    pub ejections_detected_failure_percentage: Counter,
    pub ejections_detected_local_origin_failure_percentage: Counter,
    pub ejections_enforced_consecutive_5xx: Counter,
    pub ejections_enforced_consecutive_gateway_failure: Counter,
    pub ejections_enforced_consecutive_local_origin_failure: Counter,
    pub ejections_enforced_success_rate: Counter,
    pub ejections_enforced_local_origin_success_rate: Counter,
    pub ejections_enforced_failure_percentage: Counter,
    pub ejections_enforced_local_origin_failure_percentage: Counter,
    /// Envoy's older counter.
    pub ejections_consecutive_5xx: Counter,
    /// Envoy's older counter.
    pub ejections_success_rate: Counter,
}

impl OutlierCounters {
    pub(super) fn detected(&self, detection: Detection) -> &Counter {
        match detection {
            Detection::Consecutive5xx => {
                self.ejections_consecutive_5xx.inc();
                &self.ejections_detected_consecutive_5xx
            }
            Detection::ConsecutiveGatewayFailure => &self.ejections_detected_consecutive_gateway_failure,
            Detection::ConsecutiveLocalOriginFailure => {
                &self.ejections_detected_consecutive_local_origin_failure
            }
            Detection::SuccessRate => &self.ejections_detected_success_rate,
            Detection::SuccessRateLocalOrigin => &self.ejections_detected_local_origin_success_rate,
            Detection::FailurePercentage => &self.ejections_detected_failure_percentage,
            Detection::FailurePercentageLocalOrigin => {
                &self.ejections_detected_local_origin_failure_percentage
            }
        }
    }

    pub(super) fn enforced(&self, detection: Detection) -> &Counter {
        match detection {
            Detection::Consecutive5xx => &self.ejections_enforced_consecutive_5xx,
            Detection::ConsecutiveGatewayFailure => &self.ejections_enforced_consecutive_gateway_failure,
            Detection::ConsecutiveLocalOriginFailure => {
                &self.ejections_enforced_consecutive_local_origin_failure
            }
            Detection::SuccessRate => &self.ejections_enforced_success_rate,
            Detection::SuccessRateLocalOrigin => &self.ejections_enforced_local_origin_success_rate,
            Detection::FailurePercentage => &self.ejections_enforced_failure_percentage,
            Detection::FailurePercentageLocalOrigin => {
                &self.ejections_enforced_local_origin_failure_percentage
            }
        }
    }
}
