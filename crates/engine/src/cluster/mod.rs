//! Clusters compiled: where hosts come from, how one is chosen, what it may be asked, and how it is spoken to.
//!
//! What it is: Envoy's `Cluster` and `ClusterLoadAssignment` as small immutable structures, one file per concern. What it
//! deliberately is not: state. Hosts, their health and what is in flight live in [`crate::balance`].
//!
//! Invariant: every field of a message is compiled, carried or refused by name; defaults are Envoy's.

mod assignment;
mod balancing;
mod bind;
mod discovery;
mod filters;
mod health_check;
mod http;
mod outlier;
mod thresholds;
mod transport;

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::upstream_connection_options::HappyEyeballsConfig;
use envoy_types::pb::envoy::config::cluster::v3::{Cluster as Proto, UpstreamConnectionOptions};

pub use assignment::{
    Assignment, Endpoint, EndpointAddress, HealthCheckTarget, Locality, LocalityEndpoints, StatedHealth,
};
pub use balancing::{Balancing, ConsistentHash, LeastRequest, LocalityChoice, Policy, Selection, SlowStart};
pub use bind::Bind;
pub use discovery::{Discovery, DnsFamily, DnsSettings, OriginalDestination};
pub use health_check::{GrpcProbe, HealthCheck, HttpProbe, Intervals, Payload, Probe, StatusRange, TcpProbe};
pub use http::{UpstreamHttp, UpstreamProtocol};
pub use outlier::{Enforcing, OutlierSettings};
pub use thresholds::{BreakerThresholds, RetryBudget, Thresholds};
pub use transport::{Transport, TransportSocket, TransportSockets};

use crate::istio::MetadataExchange;
use crate::proto::{flag, number};
use crate::refusal::Within;
use crate::wire::{duration_or, positive};
use crate::{Metadata, Refusal, TcpKeepalive};

/// Envoy's default for `connect_timeout`.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Envoy's default for `per_connection_buffer_limit_bytes`.
const BUFFER_LIMIT: u32 = 1 << 20;
/// Envoy's default for `cleanup_interval`.
const CLEANUP_INTERVAL: Duration = Duration::from_secs(5);

/// A cluster.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Name in xDS.
    pub name: Arc<str>,
    /// Name in statistics: `alt_stat_name`, or the name.
    pub stat_name: Arc<str>,
    /// Where its endpoints come from.
    pub discovery: Discovery,
    /// How names are resolved, for clusters that do.
    pub dns: DnsSettings,
    /// Until a connection is established, TLS included.
    pub connect_timeout: Duration,
    /// Bytes buffered per connection and direction before reading stops.
    pub buffer_limit: u32,
    /// How HTTP is spoken to it.
    pub http: UpstreamHttp,
    /// What may be open or waiting at once.
    pub thresholds: Thresholds,
    /// When a host is ejected for how it behaves.
    pub outlier: Option<OutlierSettings>,
    /// How hosts are asked for their health: at most one way, as in Envoy.
    pub health_checks: Arc<[HealthCheck]>,
    /// How a host is chosen.
    pub balancing: Balancing,
    /// What connections are wrapped in.
    pub transport: TransportSockets,
    /// Keepalive of its connections.
    pub keepalive: Option<TcpKeepalive>,
    /// Where connections come from, if it says so itself.
    pub bind: Option<Bind>,
    /// Endpoints written in the cluster: addresses, or names to be resolved.
    pub assignment: Option<Arc<Assignment>>,
    /// What is noted about it.
    pub metadata: Metadata,
    /// Original destinations unused for so long are forgotten.
    pub cleanup_interval: Duration,
    /// Connections to a host that fails its health checks are closed.
    pub closes_on_health_failure: bool,
    /// Hosts that are removed go at once, healthy or not.
    pub ignores_health_on_removal: bool,
    /// The proxy waits for it to be warm before it says it is ready.
    pub waits_for_warm: bool,
    /// How its connections, those that carry bytes, learn who is at their other end.
    pub exchange: Option<MetadataExchange>,
}

impl Cluster {
    /// Compiles a cluster.
    pub fn compile(proto: Proto) -> Result<Cluster, Refusal> {
        let place = format!("cluster {}", proto.name);
        compile(proto).within(|| place)
    }

    /// Whether a host is known by itself, before anybody says which there are.
    pub fn is_original_destination(&self) -> bool {
        matches!(self.discovery, Discovery::OriginalDestination(_))
    }
}

fn compile(mut proto: Proto) -> Result<Cluster, Refusal> {
    check(&proto)?;
    if proto.name.is_empty() {
        return Err(Refusal::invalid("name is empty"));
    }
    let assignment = proto.load_assignment.take();
    let assignment =
        assignment.map(|assignment| Assignment::compile(assignment).within(|| "load_assignment".into()));
    let assignment = assignment.transpose()?.map(Arc::new);
    let discovery = Discovery::compile(&proto)?;
    discovery::check_assignment(&discovery, assignment.as_deref())?;
    let name: Arc<str> = proto.name.as_str().into();
    #[allow(deprecated, reason = "the older place of the limit, read by Envoy where the new one is not set")]
    let old_requests_limit = number(proto.max_requests_per_connection.as_ref()).filter(|limit| *limit > 0);
    Ok(Cluster {
        stat_name: match proto.alt_stat_name.as_str() {
            "" => name.clone(),
            alternative => alternative.into(),
        },
        name,
        dns: DnsSettings::compile(&proto)?,
        connect_timeout: positive("connect_timeout", proto.connect_timeout.as_ref())?
            .unwrap_or(CONNECT_TIMEOUT),
        buffer_limit: number(proto.per_connection_buffer_limit_bytes.as_ref()).unwrap_or(BUFFER_LIMIT),
        http: UpstreamHttp::compile(&proto.typed_extension_protocol_options, old_requests_limit)
            .within(|| "typed_extension_protocol_options".into())?,
        thresholds: Thresholds::compile(proto.circuit_breakers.as_ref())
            .within(|| "circuit_breakers".into())?,
        outlier: proto
            .outlier_detection
            .as_ref()
            .map(OutlierSettings::compile)
            .transpose()
            .within(|| "outlier_detection".into())?,
        health_checks: health_check::compile(&proto.health_checks)?.into(),
        balancing: Balancing::compile(&proto, &discovery)?,
        transport: TransportSockets::compile(&proto)?,
        keepalive: keepalive(proto.upstream_connection_options.as_ref())?,
        bind: proto
            .upstream_bind_config
            .as_ref()
            .map(Bind::compile)
            .transpose()
            .within(|| "upstream_bind_config".into())?,
        assignment,
        metadata: Metadata::compile(proto.metadata.take()),
        cleanup_interval: duration_or("cleanup_interval", proto.cleanup_interval.as_ref(), CLEANUP_INTERVAL)?,
        closes_on_health_failure: proto.close_connections_on_host_health_failure,
        ignores_health_on_removal: proto.ignore_health_on_host_removal,
        waits_for_warm: flag(proto.wait_for_warm_on_init.as_ref(), true),
        exchange: filters::compile(&proto.filters)?,
        discovery,
    })
}

fn keepalive(proto: Option<&UpstreamConnectionOptions>) -> Result<Option<TcpKeepalive>, Refusal> {
    let Some(options) = proto else { return Ok(None) };
    let UpstreamConnectionOptions {
        tcp_keepalive,
        set_local_interface_name_on_upstream_connections,
        happy_eyeballs_config,
    } = options;
    refuse_if_set!(set_local_interface_name_on_upstream_connections);
    // Envoy's own default, spelled out, asks for nothing.
    let happy_eyeballs_config = happy_eyeballs_config.as_ref().filter(|eyes| {
        let HappyEyeballsConfig { first_address_family_version, first_address_family_count } = eyes;
        *first_address_family_version != 0
            || number(first_address_family_count.as_ref()).is_some_and(|count| count != 1)
    });
    let happy_eyeballs_config = &happy_eyeballs_config;
    refuse_if_set!(happy_eyeballs_config);
    Ok(tcp_keepalive.as_ref().map(TcpKeepalive::compile))
}

/// Which field meets which fate.
fn check(proto: &Proto) -> Result<(), Refusal> {
    fates!(proto: Proto {
        compiled:
            name,
            cluster_discovery_type,
            eds_cluster_config,
            transport_socket_matches,
            transport_socket,
            alt_stat_name,
            connect_timeout,
            per_connection_buffer_limit_bytes,
            lb_policy,
            lb_config,
            load_balancing_policy,
            load_assignment,
            health_checks,
            max_requests_per_connection,
            circuit_breakers,
            typed_extension_protocol_options,
            dns_refresh_rate,
            dns_jitter,
            dns_failure_refresh_rate,
            respect_dns_ttl,
            dns_lookup_family,
            typed_dns_resolver_config,
            outlier_detection,
            cleanup_interval,
            upstream_bind_config,
            common_lb_config,
            metadata,
            upstream_connection_options,
            close_connections_on_host_health_failure,
            ignore_health_on_host_removal,
            wait_for_warm_on_init,
            filters;
        carried:;
        refused:
            transport_socket_matcher,
            stats_matcher,
            per_connection_buffer_high_watermark_timeout,
            upstream_http_protocol_options,
            common_http_protocol_options,
            http_protocol_options,
            http2_protocol_options,
            dns_resolvers,
            use_tcp_for_dns_lookups,
            dns_resolution_config,
            lb_subset_config,
            protocol_selection,
            lrs_server,
            lrs_report_endpoint_metrics,
            track_timeout_budgets,
            upstream_config,
            track_cluster_stats,
            preconnect_policy,
            connection_pool_per_downstream_connection,
            queuing_policies;
    });
    Ok(())
}
