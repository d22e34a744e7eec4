//! When a host is ejected for how it behaves: outlier detection's settings.

use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::OutlierDetection as Proto;

use crate::Refusal;
use crate::proto::{flag, number};
use crate::wire::{bounded, duration_or, positive};

/// When a host is ejected, and for how long (Envoy's `OutlierDetection`).
#[derive(Clone, Debug, PartialEq)]
pub struct OutlierSettings {
    /// Between two sweeps.
    pub interval: Duration,
    /// A first ejection lasts so long; each further one that much more.
    pub base_ejection_time: Duration,
    /// No ejection lasts longer (nor shorter than the base).
    pub max_ejection_time: Duration,
    /// Random addition to an ejection.
    pub max_jitter: Duration,
    /// Percent of hosts that may be out at once.
    pub max_ejection_percent: u32,
    /// One host may be out whatever the percentage says.
    pub always_ejects_one: bool,
    /// Responses of 5xx in a row.
    pub consecutive_5xx: u32,
    /// Responses of 502, 503 and 504 in a row.
    pub consecutive_gateway_failure: u32,
    /// Failures to reach it in a row, if they are told apart.
    pub consecutive_local_origin_failure: u32,
    /// Failures to reach a host are told apart from what it answers.
    pub splits_local_origin: bool,
    /// Hosts with enough requests that there must be for success rates to be compared.
    pub success_rate_hosts: u32,
    /// Requests in an interval that are enough.
    pub success_rate_volume: u32,
    /// Standard deviations below the mean at which a host is an outlier, times 1000.
    pub success_rate_stdev_factor: u32,
    /// Percent of failures at which a host is an outlier.
    pub failure_percentage_threshold: u32,
    /// Hosts with enough requests that there must be.
    pub failure_percentage_hosts: u32,
    /// Requests in an interval that are enough.
    pub failure_percentage_volume: u32,
    /// How often what is detected is acted upon.
    pub enforcing: Enforcing,
    /// A passed health check ends an ejection.
    pub health_check_unejects: bool,
}

/// Percent of detections that lead to an ejection, by what was detected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enforcing {
    /// Of [`OutlierSettings::consecutive_5xx`].
    pub consecutive_5xx: u32,
    /// Of [`OutlierSettings::consecutive_gateway_failure`].
    pub consecutive_gateway_failure: u32,
    /// Of [`OutlierSettings::consecutive_local_origin_failure`].
    pub consecutive_local_origin_failure: u32,
    /// Of success rates.
    pub success_rate: u32,
    /// Of success rates of reaching it.
    pub local_origin_success_rate: u32,
    /// Of failure percentages.
    pub failure_percentage: u32,
    /// Of failure percentages of reaching it.
    pub failure_percentage_local_origin: u32,
}

impl OutlierSettings {
    /// Reads the settings, with Envoy's defaults.
    pub(super) fn compile(proto: &Proto) -> Result<OutlierSettings, Refusal> {
        refuse(proto)?;
        let percent = |field, value: &Option<_>, default| {
            bounded(field, value.as_ref(), 0..=100).map(|value| value.unwrap_or(default))
        };
        let count = |value: &Option<_>, default| number(value.as_ref()).unwrap_or(default);
        let time = |field, value: &Option<_>, seconds| {
            positive(field, value.as_ref()).map(|value| value.unwrap_or(Duration::from_secs(seconds)))
        };
        let base_ejection_time = time("base_ejection_time", &proto.base_ejection_time, 30)?;
        Ok(OutlierSettings {
            interval: time("interval", &proto.interval, 10)?,
            base_ejection_time,
            max_ejection_time: time("max_ejection_time", &proto.max_ejection_time, 300)?
                .max(base_ejection_time),
            max_jitter: duration_or(
                "max_ejection_time_jitter",
                proto.max_ejection_time_jitter.as_ref(),
                Duration::ZERO,
            )?,
            max_ejection_percent: percent("max_ejection_percent", &proto.max_ejection_percent, 10)?,
            always_ejects_one: flag(proto.always_eject_one_host.as_ref(), false),
            consecutive_5xx: count(&proto.consecutive_5xx, 5),
            consecutive_gateway_failure: count(&proto.consecutive_gateway_failure, 5),
            consecutive_local_origin_failure: count(&proto.consecutive_local_origin_failure, 5),
            splits_local_origin: proto.split_external_local_origin_errors,
            success_rate_hosts: count(&proto.success_rate_minimum_hosts, 5),
            success_rate_volume: count(&proto.success_rate_request_volume, 100),
            success_rate_stdev_factor: count(&proto.success_rate_stdev_factor, 1_900),
            failure_percentage_threshold: percent(
                "failure_percentage_threshold",
                &proto.failure_percentage_threshold,
                85,
            )?,
            failure_percentage_hosts: count(&proto.failure_percentage_minimum_hosts, 5),
            failure_percentage_volume: count(&proto.failure_percentage_request_volume, 50),
            enforcing: Enforcing::compile(proto)?,
            health_check_unejects: flag(proto.successful_active_health_check_uneject_host.as_ref(), true),
        })
    }
}

impl Enforcing {
    fn compile(proto: &Proto) -> Result<Enforcing, Refusal> {
        let percent = |field, value: &Option<_>, default| {
            bounded(field, value.as_ref(), 0..=100).map(|value| value.unwrap_or(default))
        };
        Ok(Enforcing {
            consecutive_5xx: percent("enforcing_consecutive_5xx", &proto.enforcing_consecutive_5xx, 100)?,
            consecutive_gateway_failure: percent(
                "enforcing_consecutive_gateway_failure",
                &proto.enforcing_consecutive_gateway_failure,
                0,
            )?,
            consecutive_local_origin_failure: percent(
                "enforcing_consecutive_local_origin_failure",
                &proto.enforcing_consecutive_local_origin_failure,
                100,
            )?,
            success_rate: percent("enforcing_success_rate", &proto.enforcing_success_rate, 100)?,
            local_origin_success_rate: percent(
                "enforcing_local_origin_success_rate",
                &proto.enforcing_local_origin_success_rate,
                100,
            )?,
            failure_percentage: percent(
                "enforcing_failure_percentage",
                &proto.enforcing_failure_percentage,
                0,
            )?,
            failure_percentage_local_origin: percent(
                "enforcing_failure_percentage_local_origin",
                &proto.enforcing_failure_percentage_local_origin,
                0,
            )?,
        })
    }
}

fn refuse(proto: &Proto) -> Result<(), Refusal> {
    fates!(proto: Proto {
        compiled:
            consecutive_5xx,
            interval,
            base_ejection_time,
            max_ejection_percent,
            enforcing_consecutive_5xx,
            enforcing_success_rate,
            success_rate_minimum_hosts,
            success_rate_request_volume,
            success_rate_stdev_factor,
            consecutive_gateway_failure,
            enforcing_consecutive_gateway_failure,
            split_external_local_origin_errors,
            consecutive_local_origin_failure,
            enforcing_consecutive_local_origin_failure,
            enforcing_local_origin_success_rate,
            failure_percentage_threshold,
            enforcing_failure_percentage,
            enforcing_failure_percentage_local_origin,
            failure_percentage_minimum_hosts,
            failure_percentage_request_volume,
            max_ejection_time,
            max_ejection_time_jitter,
            successful_active_health_check_uneject_host,
            always_eject_one_host;
        carried:;
        refused:
            monitors,
            detect_degraded_hosts;
    });
    Ok(())
}
