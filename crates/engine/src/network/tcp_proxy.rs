//! `envoy.filters.network.tcp_proxy`: bytes carried to a cluster.

use std::net::IpAddr;
use std::time::Duration;

use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy as Proto;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::weighted_cluster::ClusterWeight;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::{
    ClusterSpecifier, TcpAccessLogOptions,
};
use envoy_types::pb::envoy::r#type::v3::HashPolicy;
use envoy_types::pb::envoy::r#type::v3::hash_policy::PolicySpecifier;

use crate::proto::{duration, number, time_limit};
use crate::refusal::Within;
use crate::{AccessLog, BackOff, Refusal, Weighted, hash};

/// Time without a byte where nothing is said.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

/// Bytes carried to a cluster.
#[derive(Clone, Debug)]
pub struct TcpProxy {
    clusters: Weighted,
    /// Name in statistics.
    pub stat_prefix: String,
    /// A connection on which nothing moves, either way, for so long is closed.
    pub idle_timeout: Option<Duration>,
    /// A connection that is so old is closed.
    pub max_duration: Option<Duration>,
    /// Attempts to connect before giving up; at least one.
    pub connect_attempts: u32,
    /// Waiting between them.
    pub back_off: Option<BackOff>,
    /// Logs of connections.
    pub access_logs: Vec<AccessLog>,
    /// Long connections are logged again and again after so long.
    pub log_flush_interval: Option<Duration>,
    /// They are logged when the upstream is connected, too.
    pub logs_on_connected: bool,
    /// They are logged when they begin, too.
    pub logs_on_start: bool,
    /// Do connections of one client address go to one host?
    pub hashes_source_ip: bool,
}

impl TcpProxy {
    pub(super) fn compile(proto: Proto) -> Result<TcpProxy, Refusal> {
        check(&proto)?;
        let options = proto.access_log_options.unwrap_or_default();
        let TcpAccessLogOptions {
            access_log_flush_interval,
            flush_access_log_on_connected,
            flush_access_log_on_start,
        } = options;
        let max_duration = proto.max_downstream_connection_duration.as_ref();
        let connect_attempts = number(proto.max_connect_attempts.as_ref()).unwrap_or(1);
        if connect_attempts == 0 {
            return Err(Refusal::invalid("max_connect_attempts 0"));
        }
        let back_off = proto.backoff_options.as_ref().map(BackOff::compile).transpose();
        Ok(TcpProxy {
            clusters: clusters(proto.cluster_specifier)?,
            stat_prefix: proto.stat_prefix,
            idle_timeout: time_limit(proto.idle_timeout.as_ref(), Some(IDLE_TIMEOUT))
                .within(|| "idle_timeout".to_owned())?,
            max_duration: max_duration
                .map(duration)
                .transpose()
                .within(|| "max_downstream_connection_duration".to_owned())?,
            connect_attempts,
            back_off: back_off.within(|| "backoff_options".to_owned())?,
            access_logs: AccessLog::compile_all(&proto.access_log)?,
            log_flush_interval: time_limit(access_log_flush_interval.as_ref(), None)?,
            logs_on_connected: flush_access_log_on_connected,
            logs_on_start: flush_access_log_on_start,
            hashes_source_ip: hashes_source_ip(&proto.hash_policy)?,
        })
    }

    /// The cluster for a connection; `random` decides among weighted ones.
    pub fn cluster(&self, random: u64) -> &str {
        self.clusters.pick(random)
    }

    /// All clusters it may choose, with their weights.
    pub fn clusters(&self) -> &Weighted {
        &self.clusters
    }

    /// What decides which host a client's connections go to, if anything does.
    pub fn hash(&self, source: IpAddr) -> Option<u64> {
        self.hashes_source_ip.then(|| hash::of_address(source))
    }
}

/// Which field meets which fate.
fn check(proto: &Proto) -> Result<(), Refusal> {
    fates!(proto: Proto {
        compiled:
            stat_prefix,
            cluster_specifier,
            idle_timeout,
            access_log,
            max_connect_attempts,
            backoff_options,
            hash_policy,
            max_downstream_connection_duration,
            access_log_options;
        refused:
            on_demand,
            downstream_idle_timeout,
            upstream_idle_timeout,
            metadata_match,
            tunneling_config,
            max_downstream_connection_duration_jitter_percentage,
            access_log_flush_interval,
            flush_access_log_on_connected,
            proxy_protocol_tlvs,
            proxy_protocol_tlv_merge_policy,
            upstream_connect_mode,
            max_early_data_bytes,
            check_drain_close;
    });
    Ok(())
}

fn clusters(specifier: Option<ClusterSpecifier>) -> Result<Weighted, Refusal> {
    match specifier {
        Some(ClusterSpecifier::Cluster(name)) => Weighted::compile([(name, 1)]),
        Some(ClusterSpecifier::WeightedClusters(all)) => {
            let mut shares = Vec::with_capacity(all.clusters.len());
            for cluster in all.clusters {
                let ClusterWeight { name, weight, metadata_match } = cluster;
                let metadata_match = &metadata_match;
                refuse_if_set!(metadata_match);
                shares.push((name, weight));
            }
            Weighted::compile(shares).within(|| "weighted_clusters".to_owned())
        }
        None => Err(Refusal::invalid("no cluster")),
    }
}

fn hashes_source_ip(policies: &[HashPolicy]) -> Result<bool, Refusal> {
    match policies {
        [] => Ok(false),
        [HashPolicy { policy_specifier: Some(PolicySpecifier::SourceIp(_)) }] => Ok(true),
        [HashPolicy { policy_specifier: Some(PolicySpecifier::FilterState(_)) }] => {
            Err(Refusal::unsupported("hash_policy.filter_state"))
        }
        [HashPolicy { policy_specifier: None }] => Err(Refusal::invalid("hash_policy of no kind")),
        _ => Err(Refusal::invalid("more than one hash_policy")),
    }
}
