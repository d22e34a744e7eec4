//! What of a cluster may be open or waiting at once: circuit breakers.

use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::CircuitBreakers;
use envoy_types::pb::envoy::config::cluster::v3::circuit_breakers::Thresholds as Proto;
use envoy_types::pb::envoy::config::cluster::v3::circuit_breakers::thresholds::RetryBudget as ProtoBudget;

use crate::proto::number;
use crate::refusal::Within;
use crate::wire::{duration_or, percent};
use crate::{Priority, Refusal};

/// Envoy's default for connections, pending requests and requests.
const DEFAULT_LIMIT: u32 = 1_024;
/// Envoy's default for retries.
const DEFAULT_RETRIES: u32 = 3;
/// Envoy's default for a retry budget's share, in percent.
const BUDGET_PERCENT: f64 = 20.0;
/// Envoy's default for the retries that a budget always allows.
const BUDGET_LEAST: u32 = 3;

/// Limits of both priorities, and of each host.
#[derive(Clone, Debug, PartialEq)]
pub struct Thresholds {
    /// Of requests of default priority.
    pub default: BreakerThresholds,
    /// Of requests of high priority.
    pub high: BreakerThresholds,
    /// Connections to one host, by priority.
    pub host_connections: [Option<u32>; 2],
}

/// Limits of one priority.
#[derive(Clone, Debug, PartialEq)]
pub struct BreakerThresholds {
    /// Connections.
    pub connections: u32,
    /// Requests that wait for a connection.
    pub pending: u32,
    /// Requests.
    pub requests: u32,
    /// Retries at once, unless there is a budget.
    pub retries: u32,
    /// Retries at once, as a share of what is in flight.
    pub budget: Option<RetryBudget>,
    /// Connection pools, over all workers.
    pub pools: u32,
    /// How much is left is shown in statistics.
    pub tracks_remaining: bool,
}

/// Retries as a share of what is in flight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryBudget {
    /// Percent of requests active and pending.
    pub percent: f64,
    /// Retries that are allowed whatever the share is.
    pub least: u32,
    /// Requests count for at least so long after they began; zero: while they are in flight.
    pub interval: Duration,
}

impl Default for BreakerThresholds {
    fn default() -> BreakerThresholds {
        BreakerThresholds {
            connections: DEFAULT_LIMIT,
            pending: DEFAULT_LIMIT,
            requests: DEFAULT_LIMIT,
            retries: DEFAULT_RETRIES,
            budget: None,
            pools: u32::MAX,
            tracks_remaining: false,
        }
    }
}

impl Thresholds {
    /// Limits of a priority.
    pub fn of(&self, priority: Priority) -> &BreakerThresholds {
        match priority {
            Priority::Default => &self.default,
            Priority::High => &self.high,
        }
    }

    /// Reads the limits. The first of a priority counts, as in Envoy.
    pub(super) fn compile(proto: Option<&CircuitBreakers>) -> Result<Thresholds, Refusal> {
        let mut all = [None, None];
        let mut host_connections = [None, None];
        if let Some(CircuitBreakers { thresholds, per_host_thresholds }) = proto {
            for (place, thresholds) in thresholds.iter().enumerate() {
                let within = || format!("thresholds[{place}]");
                let slot = slot(&mut all, Priority::compile(thresholds.priority).within(within)?);
                let compiled = BreakerThresholds::compile(thresholds).within(within)?;
                slot.get_or_insert(compiled);
            }
            for (place, thresholds) in per_host_thresholds.iter().enumerate() {
                let within = || format!("per_host_thresholds[{place}]");
                let slot =
                    slot(&mut host_connections, Priority::compile(thresholds.priority).within(within)?);
                let limit = per_host(thresholds).within(within)?;
                *slot = slot.or(limit);
            }
        }
        let [default, high] = all.map(Option::unwrap_or_default);
        Ok(Thresholds { default, high, host_connections })
    }
}

fn slot<T>(slots: &mut [Option<T>; 2], priority: Priority) -> &mut Option<T> {
    let [default, high] = slots;
    match priority {
        Priority::Default => default,
        Priority::High => high,
    }
}

fn per_host(proto: &Proto) -> Result<Option<u32>, Refusal> {
    let Proto {
        priority: _,
        max_connections,
        max_pending_requests,
        max_requests,
        max_retries,
        retry_budget,
        track_remaining,
        max_connection_pools,
    } = proto;
    refuse_if_set!(
        max_pending_requests,
        max_requests,
        max_retries,
        retry_budget,
        track_remaining,
        max_connection_pools
    );
    Ok(number(max_connections.as_ref()))
}

impl BreakerThresholds {
    fn compile(proto: &Proto) -> Result<BreakerThresholds, Refusal> {
        let Proto {
            priority: _,
            max_connections,
            max_pending_requests,
            max_requests,
            max_retries,
            retry_budget,
            track_remaining,
            max_connection_pools,
        } = proto;
        let limit = |value: &Option<_>, default| number(value.as_ref()).unwrap_or(default);
        Ok(BreakerThresholds {
            connections: limit(max_connections, DEFAULT_LIMIT),
            pending: limit(max_pending_requests, DEFAULT_LIMIT),
            requests: limit(max_requests, DEFAULT_LIMIT),
            retries: limit(max_retries, DEFAULT_RETRIES),
            budget: retry_budget.as_ref().map(budget).transpose().within(|| "retry_budget".into())?,
            pools: limit(max_connection_pools, u32::MAX),
            tracks_remaining: *track_remaining,
        })
    }
}

fn budget(proto: &ProtoBudget) -> Result<RetryBudget, Refusal> {
    let ProtoBudget { budget_percent, budget_interval, min_retry_concurrency } = proto;
    Ok(RetryBudget {
        percent: percent("budget_percent", budget_percent.as_ref())?.unwrap_or(BUDGET_PERCENT),
        least: number(min_retry_concurrency.as_ref()).unwrap_or(BUDGET_LEAST),
        interval: duration_or("budget_interval", budget_interval.as_ref(), Duration::ZERO)?,
    })
}
