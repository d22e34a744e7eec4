//! A cluster's choice and limits: load balancer, outlier detection, circuit breakers, connection pool.

use envoy_types::pb::envoy::config::cluster::v3::{
    CircuitBreakers, Cluster, OutlierDetection as EnvoyOutlierDetection, UpstreamConnectionOptions,
    circuit_breakers::{Thresholds, thresholds},
    cluster::{
        CommonLbConfig, LbConfig, LbPolicy, LeastRequestLbConfig, MaglevLbConfig, RingHashLbConfig,
        RoundRobinLbConfig, SlowStartConfig,
        common_lb_config::{LocalityConfigSpecifier, LocalityWeightedLbConfig},
    },
};
use envoy_types::pb::envoy::config::core::v3::{RuntimeDouble, TcpKeepalive as EnvoyTcpKeepalive};
use envoy_types::pb::envoy::r#type::v3::Percent;
use ostro_api::destination_rule::{
    ConnectionPoolSettings, ConsistentHashLb, LoadBalancerSettings, OutlierDetection, RetryBudget, SimpleLb,
    TcpKeepalive,
};
use ostro_api::mesh_config::MeshConfig;

use crate::encode::{duration, number, number64};
use crate::locality;
use crate::policy::Policy;

/// Least number of virtual nodes of a hash ring, where the rule has none.
const RING_SIZE: u64 = 1_024;
/// Most of them, so that a rule cannot make a proxy refuse the cluster: Envoy's limit.
const RING_SIZE_MAX: u64 = 8 * 1_024 * 1_024;
/// Size of a Maglev table, where the rule has none.
const TABLE_SIZE: u64 = 65_537;
/// Percent of its weight that a new endpoint starts with.
const WARMUP_PERCENT: f64 = 10.0;

/// Everything of `policy` that does not depend on protocol or transport.
pub fn apply(cluster: &mut Cluster, policy: &Policy<'_>, mesh: &MeshConfig) {
    let pool = policy.connection_pool;
    let tcp = pool.and_then(|pool| pool.tcp.as_ref());
    cluster.connect_timeout =
        duration(tcp.and_then(|tcp| tcp.connect_timeout).unwrap_or(mesh.connect_timeout));
    cluster.upstream_connection_options =
        tcp.and_then(|tcp| tcp.tcp_keepalive.as_ref()).or(mesh.tcp_keepalive.as_ref()).map(keepalive);
    cluster.circuit_breakers = Some(circuit_breakers(pool, policy.retry_budget));
    if let Some(outlier) = policy.outlier_detection {
        cluster.outlier_detection = Some(outlier_detection(outlier));
        // Set even when 0: Envoy's own 50 % would send to ejected endpoints of small services.
        let threshold = Percent { value: f64::from(outlier.min_health_percent) };
        common(cluster).healthy_panic_threshold = Some(threshold);
    }
    if locality::is_weighted(policy, &mesh.locality_lb_setting) {
        let weighted = LocalityConfigSpecifier::LocalityWeightedLbConfig(LocalityWeightedLbConfig {});
        common(cluster).locality_config_specifier = Some(weighted);
    }
}

fn common(cluster: &mut Cluster) -> &mut CommonLbConfig {
    cluster.common_lb_config.get_or_insert_default()
}

/// Whether connections keep the address they were made to (`simple: PASSTHROUGH`).
pub fn is_passthrough(lb: Option<&LoadBalancerSettings>) -> bool {
    lb.and_then(|lb| lb.simple) == Some(SimpleLb::Passthrough)
}

/// Choice of endpoint, for clusters that choose.
pub fn load_balancer(cluster: &mut Cluster, lb: Option<&LoadBalancerSettings>) {
    if let Some(hash) = lb.and_then(|lb| lb.consistent_hash.as_ref()) {
        return consistent_hash(cluster, hash);
    }
    let slow_start = lb.and_then(slow_start);
    let (policy, config) = match lb.and_then(|lb| lb.simple).unwrap_or_default() {
        SimpleLb::RoundRobin => (
            LbPolicy::RoundRobin,
            slow_start.map(|slow| {
                LbConfig::RoundRobinLbConfig(RoundRobinLbConfig { slow_start_config: Some(slow) })
            }),
        ),
        SimpleLb::Random => (LbPolicy::Random, None),
        SimpleLb::Unspecified | SimpleLb::LeastConn | SimpleLb::LeastRequest | SimpleLb::Passthrough => (
            LbPolicy::LeastRequest,
            slow_start.map(|slow| {
                LbConfig::LeastRequestLbConfig(LeastRequestLbConfig {
                    slow_start_config: Some(slow),
                    ..Default::default()
                })
            }),
        ),
    };
    cluster.lb_policy = policy as i32;
    cluster.lb_config = config;
}

fn consistent_hash(cluster: &mut Cluster, hash: &ConsistentHashLb) {
    let (policy, config) = match (&hash.maglev, &hash.ring_hash) {
        (Some(maglev), _) => {
            let size = if maglev.table_size == 0 { TABLE_SIZE } else { maglev.table_size };
            (LbPolicy::Maglev, LbConfig::MaglevLbConfig(MaglevLbConfig { table_size: number64(size) }))
        }
        (None, ring) => {
            let asked = ring.as_ref().map_or(hash.minimum_ring_size, |ring| ring.minimum_ring_size);
            let size = if asked == 0 { RING_SIZE } else { asked.min(RING_SIZE_MAX) };
            let config = RingHashLbConfig { minimum_ring_size: number64(size), ..Default::default() };
            (LbPolicy::RingHash, LbConfig::RingHashLbConfig(config))
        }
    };
    cluster.lb_policy = policy as i32;
    cluster.lb_config = Some(config);
}

fn slow_start(lb: &LoadBalancerSettings) -> Option<SlowStartConfig> {
    let Some(warmup) = &lb.warmup else {
        let window = lb.warmup_duration_secs?;
        return Some(SlowStartConfig { slow_start_window: duration(window), ..Default::default() });
    };
    let window = warmup.duration?;
    Some(SlowStartConfig {
        slow_start_window: duration(window),
        aggression: warmup.aggression.map(|value| RuntimeDouble {
            default_value: value,
            runtime_key: "ostro.warmup.aggression".to_owned(),
        }),
        min_weight_percent: Some(Percent { value: warmup.minimum_percent.unwrap_or(WARMUP_PERCENT) }),
    })
}

fn keepalive(settings: &TcpKeepalive) -> UpstreamConnectionOptions {
    let seconds = |value: std::time::Duration| number(u32::try_from(value.as_secs()).unwrap_or(u32::MAX));
    UpstreamConnectionOptions {
        tcp_keepalive: Some(EnvoyTcpKeepalive {
            keepalive_probes: Some(settings.probes).filter(|probes| *probes > 0).and_then(number),
            keepalive_time: settings.time.and_then(seconds),
            keepalive_interval: settings.interval.and_then(seconds),
        }),
        ..Default::default()
    }
}

/// Limits of a cluster that nobody limits: none. Envoy's own defaults (1,024) would surprise.
pub fn unlimited() -> CircuitBreakers {
    circuit_breakers(None, None)
}

fn circuit_breakers(pool: Option<&ConnectionPoolSettings>, budget: Option<&RetryBudget>) -> CircuitBreakers {
    // Zero is how the schema says "unset".
    let limit = |value: Option<u32>| number(value.filter(|value| *value > 0).unwrap_or(u32::MAX));
    let tcp = pool.and_then(|pool| pool.tcp.as_ref());
    let http = pool.and_then(|pool| pool.http.as_ref());
    let thresholds = Thresholds {
        max_connections: limit(tcp.map(|tcp| tcp.max_connections)),
        max_pending_requests: limit(http.map(|http| http.http1_max_pending_requests)),
        max_requests: limit(http.map(|http| http.http2_max_requests)),
        max_retries: limit(http.map(|http| http.max_retries)),
        retry_budget: budget.map(|budget| thresholds::RetryBudget {
            budget_percent: Some(Percent { value: budget.percent.unwrap_or(20.0) }),
            min_retry_concurrency: number(Some(budget.min_retry_concurrency).filter(|n| *n > 0).unwrap_or(3)),
            budget_interval: budget.budget_interval.and_then(duration),
        }),
        ..Default::default()
    };
    CircuitBreakers { thresholds: vec![thresholds], ..Default::default() }
}

fn outlier_detection(outlier: &OutlierDetection) -> EnvoyOutlierDetection {
    let enforcing = |count: u32| number(if count > 0 { 100 } else { 0 });
    let mut detection = EnvoyOutlierDetection {
        interval: outlier.interval.and_then(duration),
        base_ejection_time: outlier.base_ejection_time.and_then(duration),
        max_ejection_percent: Some(outlier.max_ejection_percent).filter(|p| *p > 0).and_then(number),
        // Istio counts errors in a row; statistics over success rates stay off.
        enforcing_success_rate: number(0),
        ..Default::default()
    };
    if let Some(count) = outlier.consecutive_5xx_errors {
        detection.consecutive_5xx = number(count);
        detection.enforcing_consecutive_5xx = enforcing(count);
    }
    if let Some(count) = outlier.consecutive_gateway_errors {
        detection.consecutive_gateway_failure = number(count);
        detection.enforcing_consecutive_gateway_failure = enforcing(count);
    }
    if outlier.split_external_local_origin_errors {
        detection.split_external_local_origin_errors = true;
        detection.enforcing_local_origin_success_rate = number(0);
        if let Some(count) = outlier.consecutive_local_origin_failures.filter(|count| *count > 0) {
            detection.consecutive_local_origin_failure = number(count);
            detection.enforcing_consecutive_local_origin_failure = number(100);
        }
    }
    detection
}
