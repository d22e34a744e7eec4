//! How a host is chosen, as configured: the old fields and the load balancing policies that replace them.

use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::cluster::common_lb_config::{
    ConsistentHashingLbConfig as OldHashing, LocalityConfigSpecifier as OldLocality,
    ZoneAwareLbConfig as OldZoneAware,
};
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    CommonLbConfig, LbConfig, LbPolicy, LeastRequestLbConfig, MaglevLbConfig, RingHashLbConfig,
    RoundRobinLbConfig, SlowStartConfig, ring_hash_lb_config,
};
use envoy_types::pb::envoy::config::cluster::v3::{Cluster as Proto, LoadBalancingPolicy};
use envoy_types::pb::envoy::config::core::v3::{RuntimeDouble, TypedExtensionConfig};
use envoy_types::pb::envoy::extensions::load_balancing_policies as policies;
use envoy_types::pb::envoy::extensions::load_balancing_policies::common::v3 as common;
use envoy_types::pb::envoy::extensions::load_balancing_policies::common::v3::locality_lb_config::{
    LocalityConfigSpecifier, LocalityWeightedLbConfig, ZoneAwareLbConfig,
};
use envoy_types::pb::envoy::r#type::v3::Percent;
use envoy_types::pb::google::protobuf::{Any, Duration as ProtoDuration, UInt32Value, UInt64Value};

use super::Discovery;
use crate::Refusal;
use crate::proto::{duration, enumeration, flag};
use crate::refusal::{Within, is, unpack};
use crate::wire::{bounded, duration_or, percent};

/// Envoy's default for `healthy_panic_threshold`.
const PANIC_PERCENT: f64 = 50.0;
/// Envoy's default for `update_merge_window`.
const MERGE_WINDOW: Duration = Duration::from_secs(1);
/// Envoy's default for `choice_count`.
const CHOICES: u32 = 2;
/// Envoy's default for the least weight of a host in slow start.
const SLOW_START_PERCENT: f64 = 10.0;
/// Envoy's default for `minimum_ring_size`.
const RING_SIZE: u64 = 1_024;
/// Envoy's limit for both sizes of a ring, and its default for the larger.
const RING_SIZE_MAX: u64 = 8 << 20;
/// Envoy's default for `table_size`.
const TABLE_SIZE: u64 = 65_537;
/// Envoy's limit for it.
const TABLE_SIZE_MAX: u64 = 5_000_011;

/// How a host is chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Balancing {
    /// Among the hosts of a priority.
    pub policy: Policy,
    /// Between localities.
    pub locality: LocalityChoice,
    /// Percent of hosts: with fewer healthy, all are used.
    pub panic_threshold: u32,
    /// In panic no host is chosen at all.
    pub fails_in_panic: bool,
    /// Hosts that have not passed a health check yet count neither as healthy nor as unhealthy.
    pub ignores_new_hosts: bool,
    /// Connections are closed when hosts come or go.
    pub closes_on_host_set_change: bool,
    /// Changes of health, weight and metadata may be held together for so long.
    pub update_merge_window: Duration,
}

/// How a host is chosen among those of a priority.
#[derive(Clone, Debug, PartialEq)]
pub enum Policy {
    /// In turn, by weight.
    RoundRobin(Option<SlowStart>),
    /// The one with fewer requests.
    LeastRequest(LeastRequest),
    /// Any.
    Random,
    /// By hash, on a ring.
    RingHash {
        /// Places on the ring, at least.
        least: u64,
        /// Places on the ring, at most.
        most: u64,
        /// What all choices by hash share.
        hash: ConsistentHash,
    },
    /// By hash, in a table.
    Maglev {
        /// Places in the table: a prime.
        size: u64,
        /// What all choices by hash share.
        hash: ConsistentHash,
    },
    /// Where the connection was going.
    OriginalDestination,
}

/// Settings of the choice by requests in flight.
#[derive(Clone, Debug, PartialEq)]
pub struct LeastRequest {
    /// Hosts that are compared.
    pub choices: u32,
    /// How much requests in flight take from a host's weight: `weight / (active + 1) ^ bias`.
    pub bias: f64,
    /// Which hosts are compared, where weights are equal.
    pub selection: Selection,
    /// How new hosts begin.
    pub slow_start: Option<SlowStart>,
}

/// Which hosts are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Some at random.
    Choices,
    /// All.
    All,
}

/// What choices by hash share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConsistentHash {
    /// Places come from host names, not from addresses.
    pub by_hostname: bool,
    /// A host takes at most this percentage of the average load; 100 or more.
    pub balance_factor: Option<u32>,
}

/// How new hosts begin: with part of their weight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlowStart {
    /// Until a host has its whole weight.
    pub window: Duration,
    /// The weight is multiplied with `(time / window) ^ (1 / aggression)`.
    pub aggression: f64,
    /// But at least with this.
    pub least: f64,
}

/// How a locality is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalityChoice {
    /// Localities do not matter. Envoy's zone aware routing comes to this where no local cluster is configured, which
    /// Istio never does.
    Any,
    /// By the weights of localities.
    Weighted,
}

impl Policy {
    fn hashes_hostnames(&self) -> bool {
        match self {
            Policy::RingHash { hash, .. } | Policy::Maglev { hash, .. } => hash.by_hostname,
            Policy::RoundRobin(_)
            | Policy::LeastRequest(_)
            | Policy::Random
            | Policy::OriginalDestination => false,
        }
    }
}

impl Balancing {
    pub(super) fn compile(proto: &Proto, discovery: &Discovery) -> Result<Balancing, Refusal> {
        let mut balancing =
            Balancing::of_common(proto.common_lb_config.as_ref()).within(|| "common_lb_config".into())?;
        let kind = enumeration(proto.lb_policy, "lb_policy")?;
        match &proto.load_balancing_policy {
            Some(policies) => {
                if proto.common_lb_config.as_ref().is_some_and(|common| {
                    common.locality_config_specifier.is_some()
                        || common.consistent_hashing_lb_config.is_some()
                }) {
                    return Err(Refusal::invalid("load_balancing_policy beside fields that it replaces"));
                }
                balancing.take(policies).within(|| "load_balancing_policy".into())?;
            }
            None if kind == LbPolicy::LoadBalancingPolicyConfig => {
                return Err(Refusal::invalid("no load_balancing_policy"));
            }
            None => balancing.policy = old_policy(kind, proto.lb_config.as_ref(), &balancing.policy)?,
        }
        let original = matches!(discovery, Discovery::OriginalDestination(_));
        if original != (balancing.policy == Policy::OriginalDestination) {
            return Err(Refusal::invalid("CLUSTER_PROVIDED goes with ORIGINAL_DST, and nothing else"));
        }
        if *discovery == Discovery::Static && balancing.policy.hashes_hostnames() {
            return Err(Refusal::invalid("use_hostname_for_hashing in a STATIC cluster"));
        }
        Ok(balancing)
    }

    /// The fields that all policies share. What consistent hashing says is kept in a policy until that is known.
    fn of_common(proto: Option<&CommonLbConfig>) -> Result<Balancing, Refusal> {
        let default = CommonLbConfig::default();
        let CommonLbConfig {
            healthy_panic_threshold,
            update_merge_window,
            ignore_new_hosts_until_first_hc,
            close_connections_on_host_set_change,
            consistent_hashing_lb_config,
            override_host_status,
            locality_config_specifier,
        } = proto.unwrap_or(&default);
        refuse_if_set!(override_host_status);
        let panic = percent("healthy_panic_threshold", healthy_panic_threshold.as_ref())?;
        let (locality, fails_in_panic) = match locality_config_specifier {
            None => (LocalityChoice::Any, false),
            Some(OldLocality::ZoneAwareLbConfig(OldZoneAware {
                routing_enabled: _,
                min_cluster_size: _,
                fail_traffic_on_panic,
            })) => (LocalityChoice::Any, *fail_traffic_on_panic),
            Some(OldLocality::LocalityWeightedLbConfig(_)) => (LocalityChoice::Weighted, false),
        };
        let hash = match consistent_hashing_lb_config {
            None => ConsistentHash::default(),
            Some(OldHashing { use_hostname_for_hashing, hash_balance_factor }) => {
                consistent(*use_hostname_for_hashing, hash_balance_factor.as_ref())?
            }
        };
        Ok(Balancing {
            policy: Policy::Maglev { size: TABLE_SIZE, hash },
            locality,
            panic_threshold: panic.unwrap_or(PANIC_PERCENT).round() as u32,
            fails_in_panic,
            ignores_new_hosts: *ignore_new_hosts_until_first_hc,
            closes_on_host_set_change: *close_connections_on_host_set_change,
            update_merge_window: duration_or(
                "update_merge_window",
                update_merge_window.as_ref(),
                MERGE_WINDOW,
            )?,
        })
    }

    /// The first policy of the list that we know.
    fn take(&mut self, list: &LoadBalancingPolicy) -> Result<(), Refusal> {
        let LoadBalancingPolicy { policies } = list;
        let mut unknown = Vec::new();
        for policy in policies {
            let Some(TypedExtensionConfig { name, typed_config: Some(config) }) =
                &policy.typed_extension_config
            else {
                return Err(Refusal::invalid("a policy without configuration"));
            };
            match self.extension(config).within(|| name.clone())? {
                Some(policy) => {
                    self.policy = policy;
                    return Ok(());
                }
                None => unknown.push(config.type_url.as_str()),
            }
        }
        match unknown.is_empty() {
            true => Err(Refusal::invalid("no policies")),
            false => Err(Refusal::unsupported(unknown.join(", "))),
        }
    }

    /// The policy of an extension; `None` if we do not know it.
    fn extension(&mut self, config: &Any) -> Result<Option<Policy>, Refusal> {
        if is::<policies::round_robin::v3::RoundRobin>(config) {
            let policies::round_robin::v3::RoundRobin { slow_start_config, locality_lb_config } =
                unpack(config)?;
            self.locality_of(locality_lb_config)?;
            return Ok(Some(Policy::RoundRobin(extension_slow_start(slow_start_config.as_ref())?)));
        }
        if is::<policies::least_request::v3::LeastRequest>(config) {
            return self.extension_least_request(unpack(config)?).map(Some);
        }
        if is::<policies::random::v3::Random>(config) {
            let policies::random::v3::Random { locality_lb_config } = unpack(config)?;
            self.locality_of(locality_lb_config)?;
            return Ok(Some(Policy::Random));
        }
        if is::<policies::ring_hash::v3::RingHash>(config) {
            return self.extension_ring(unpack(config)?).map(Some);
        }
        if is::<policies::maglev::v3::Maglev>(config) {
            let policies::maglev::v3::Maglev {
                table_size,
                consistent_hashing_lb_config,
                locality_weighted_lb_config,
            } = unpack(config)?;
            self.weighted_if(locality_weighted_lb_config);
            return maglev(table_size.as_ref(), extension_hash(consistent_hashing_lb_config)?).map(Some);
        }
        if is::<policies::cluster_provided::v3::ClusterProvided>(config) {
            return Ok(Some(Policy::OriginalDestination));
        }
        if is::<policies::wrr_locality::v3::WrrLocality>(config) {
            let policies::wrr_locality::v3::WrrLocality { endpoint_picking_policy } = unpack(config)?;
            let inner =
                endpoint_picking_policy.ok_or_else(|| Refusal::invalid("no endpoint_picking_policy"))?;
            self.take(&inner).within(|| "endpoint_picking_policy".into())?;
            self.locality = LocalityChoice::Weighted;
            return Ok(Some(self.policy.clone()));
        }
        Ok(None)
    }

    fn locality_of(&mut self, config: Option<common::LocalityLbConfig>) -> Result<(), Refusal> {
        match config.and_then(|config| config.locality_config_specifier) {
            None => {}
            Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(LocalityWeightedLbConfig {})) => {
                self.locality = LocalityChoice::Weighted;
            }
            Some(LocalityConfigSpecifier::ZoneAwareLbConfig(zone)) => {
                #[allow(deprecated, reason = "it means nothing either without a local cluster")]
                let ZoneAwareLbConfig {
                    routing_enabled: _,
                    min_cluster_size: _,
                    fail_traffic_on_panic,
                    force_locality_direct_routing: _,
                    force_local_zone: _,
                    locality_basis: _,
                } = zone;
                self.fails_in_panic = fail_traffic_on_panic;
            }
        }
        Ok(())
    }

    fn weighted_if(&mut self, config: Option<LocalityWeightedLbConfig>) {
        if config.is_some() {
            self.locality = LocalityChoice::Weighted;
        }
    }

    fn extension_least_request(
        &mut self,
        proto: policies::least_request::v3::LeastRequest,
    ) -> Result<Policy, Refusal> {
        use policies::least_request::v3::least_request::SelectionMethod;
        #[allow(deprecated, reason = "the older name of FULL_SCAN")]
        let policies::least_request::v3::LeastRequest {
            choice_count,
            active_request_bias,
            slow_start_config,
            locality_lb_config,
            enable_full_scan,
            selection_method,
        } = proto;
        self.locality_of(locality_lb_config)?;
        let scans = flag(enable_full_scan.as_ref(), false)
            || enumeration::<SelectionMethod>(selection_method, "selection_method")?
                == SelectionMethod::FullScan;
        let slow_start = extension_slow_start(slow_start_config.as_ref())?;
        least_request(choice_count.as_ref(), active_request_bias.as_ref(), slow_start, scans)
    }

    fn extension_ring(&mut self, proto: policies::ring_hash::v3::RingHash) -> Result<Policy, Refusal> {
        use policies::ring_hash::v3::ring_hash::HashFunction;
        #[allow(deprecated, reason = "older places of what consistent_hashing_lb_config has")]
        let policies::ring_hash::v3::RingHash {
            hash_function,
            minimum_ring_size,
            maximum_ring_size,
            use_hostname_for_hashing,
            hash_balance_factor,
            consistent_hashing_lb_config,
            locality_weighted_lb_config,
        } = proto;
        self.weighted_if(locality_weighted_lb_config);
        if enumeration::<HashFunction>(hash_function, "hash_function")? == HashFunction::MurmurHash2 {
            return Err(Refusal::unsupported("MURMUR_HASH_2"));
        }
        let hash = match consistent_hashing_lb_config {
            None => consistent(use_hostname_for_hashing, hash_balance_factor.as_ref())?,
            some => extension_hash(some)?,
        };
        ring(minimum_ring_size.as_ref(), maximum_ring_size.as_ref(), hash)
    }
}

/// The policy of the old fields. `common` has what consistent hashing says.
fn old_policy(kind: LbPolicy, config: Option<&LbConfig>, common: &Policy) -> Result<Policy, Refusal> {
    let hash = match common {
        Policy::Maglev { hash, .. } => *hash,
        _ => ConsistentHash::default(),
    };
    match (kind, config) {
        (LbPolicy::RoundRobin, None) => Ok(Policy::RoundRobin(None)),
        (
            LbPolicy::RoundRobin,
            Some(LbConfig::RoundRobinLbConfig(RoundRobinLbConfig { slow_start_config })),
        ) => Ok(Policy::RoundRobin(old_slow_start(slow_start_config.as_ref())?)),
        (LbPolicy::LeastRequest, None) => least_request(None, None, None, false),
        (LbPolicy::LeastRequest, Some(LbConfig::LeastRequestLbConfig(config))) => {
            let LeastRequestLbConfig { choice_count, active_request_bias, slow_start_config } = config;
            let slow_start = old_slow_start(slow_start_config.as_ref())?;
            least_request(choice_count.as_ref(), active_request_bias.as_ref(), slow_start, false)
        }
        (LbPolicy::Random, None) => Ok(Policy::Random),
        (LbPolicy::RingHash, None) => ring(None, None, hash),
        (LbPolicy::RingHash, Some(LbConfig::RingHashLbConfig(config))) => {
            use ring_hash_lb_config::HashFunction;
            let RingHashLbConfig { minimum_ring_size, hash_function, maximum_ring_size } = config;
            if enumeration::<HashFunction>(*hash_function, "hash_function")? == HashFunction::MurmurHash2 {
                return Err(Refusal::unsupported("MURMUR_HASH_2"));
            }
            ring(minimum_ring_size.as_ref(), maximum_ring_size.as_ref(), hash)
        }
        (LbPolicy::Maglev, None) => maglev(None, hash),
        (LbPolicy::Maglev, Some(LbConfig::MaglevLbConfig(MaglevLbConfig { table_size }))) => {
            maglev(table_size.as_ref(), hash)
        }
        (LbPolicy::ClusterProvided, None | Some(LbConfig::OriginalDstLbConfig(_))) => {
            Ok(Policy::OriginalDestination)
        }
        (kind, _) => {
            Err(Refusal::invalid(format!("lb_policy {} with another's lb_config", kind.as_str_name())))
        }
    }
}

fn least_request(
    choices: Option<&UInt32Value>,
    bias: Option<&RuntimeDouble>,
    slow_start: Option<SlowStart>,
    scans: bool,
) -> Result<Policy, Refusal> {
    let bias = bias.map_or(1.0, |RuntimeDouble { default_value, runtime_key: _ }| *default_value);
    if !bias.is_finite() || bias < 0.0 {
        return Err(Refusal::invalid(format!("active_request_bias {bias}")));
    }
    Ok(Policy::LeastRequest(LeastRequest {
        choices: bounded("choice_count", choices, 2..=u32::MAX)?.unwrap_or(CHOICES),
        bias,
        selection: if scans { Selection::All } else { Selection::Choices },
        slow_start,
    }))
}

fn consistent(by_hostname: bool, factor: Option<&UInt32Value>) -> Result<ConsistentHash, Refusal> {
    let balance_factor = bounded("hash_balance_factor", factor, 100..=u32::MAX)?;
    Ok(ConsistentHash { by_hostname, balance_factor })
}

fn extension_hash(proto: Option<common::ConsistentHashingLbConfig>) -> Result<ConsistentHash, Refusal> {
    let Some(common::ConsistentHashingLbConfig {
        use_hostname_for_hashing,
        hash_balance_factor,
        hash_policy,
    }) = proto
    else {
        return Ok(ConsistentHash::default());
    };
    let hash_policy = &hash_policy;
    refuse_if_set!(hash_policy);
    consistent(use_hostname_for_hashing, hash_balance_factor.as_ref())
}

fn ring(
    least: Option<&UInt64Value>,
    most: Option<&UInt64Value>,
    hash: ConsistentHash,
) -> Result<Policy, Refusal> {
    let least = least.map_or(RING_SIZE, |size| size.value);
    let most = most.map_or(RING_SIZE_MAX, |size| size.value);
    if least > most || most > RING_SIZE_MAX || most == 0 {
        return Err(Refusal::invalid(format!("ring size from {least} to {most}")));
    }
    Ok(Policy::RingHash { least, most, hash })
}

fn maglev(size: Option<&UInt64Value>, hash: ConsistentHash) -> Result<Policy, Refusal> {
    let size = size.map_or(TABLE_SIZE, |size| size.value);
    if size > TABLE_SIZE_MAX || !is_prime(size) {
        return Err(Refusal::invalid(format!("table_size {size} is no prime up to {TABLE_SIZE_MAX}")));
    }
    Ok(Policy::Maglev { size, hash })
}

fn is_prime(number: u64) -> bool {
    number > 1
        && (2..)
            .take_while(|divisor| divisor * divisor <= number)
            .all(|divisor| !number.is_multiple_of(divisor))
}

fn old_slow_start(proto: Option<&SlowStartConfig>) -> Result<Option<SlowStart>, Refusal> {
    let Some(SlowStartConfig { slow_start_window, aggression, min_weight_percent }) = proto else {
        return Ok(None);
    };
    slow_start(slow_start_window.as_ref(), aggression.as_ref(), min_weight_percent.as_ref())
}

fn extension_slow_start(proto: Option<&common::SlowStartConfig>) -> Result<Option<SlowStart>, Refusal> {
    let Some(common::SlowStartConfig { slow_start_window, aggression, min_weight_percent }) = proto else {
        return Ok(None);
    };
    slow_start(slow_start_window.as_ref(), aggression.as_ref(), min_weight_percent.as_ref())
}

fn slow_start(
    window: Option<&ProtoDuration>,
    aggression: Option<&RuntimeDouble>,
    least: Option<&Percent>,
) -> Result<Option<SlowStart>, Refusal> {
    let read = || {
        let window = window.map(duration).transpose()?.filter(|window| !window.is_zero());
        let least = percent("min_weight_percent", least)?.unwrap_or(SLOW_START_PERCENT) / 100.0;
        // Envoy's way with what is no sensible exponent.
        let aggression = aggression.map_or(1.0, |value| value.default_value);
        let aggression = if aggression > 0.0 { aggression } else { 1.0 };
        Ok(window.map(|window| SlowStart { window, aggression, least }))
    };
    read().within(|| "slow_start_config".into())
}
