//! Clusters, as far as routing needs to know them: that they exist, and where their endpoints come from.

use envoy_types::pb::envoy::config::cluster::v3::Cluster as Proto;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};

use crate::Refusal;
use crate::refusal::Within;

/// A cluster.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Name in xDS.
    pub name: String,
    /// Where its endpoints come from.
    pub discovery: Discovery,
    /// The whole message: balancing, limits, health, transport.
    pub rest: Box<Proto>,
}

/// Where endpoints come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Discovery {
    /// Written in the cluster.
    Static,
    /// Every address a name resolves to.
    StrictDns,
    /// One address of a name at a time.
    LogicalDns,
    /// The endpoint discovery service, under this name.
    Eds(String),
    /// Where the connection was going.
    OriginalDestination,
}

impl Cluster {
    /// Compiles a cluster.
    pub fn compile(proto: Proto) -> Result<Cluster, Refusal> {
        let place = format!("cluster {}", proto.name);
        check(&proto).and_then(|()| discovery(&proto)).within(|| place).map(|discovery| Cluster {
            name: proto.name.clone(),
            discovery,
            rest: Box::new(proto),
        })
    }
}

fn discovery(proto: &Proto) -> Result<Discovery, Refusal> {
    let kind = match &proto.cluster_discovery_type {
        None => DiscoveryType::Static,
        Some(ClusterDiscoveryType::Type(kind)) => DiscoveryType::try_from(*kind)
            .map_err(|_| Refusal::unsupported(format!("discovery type {kind}")))?,
        Some(ClusterDiscoveryType::ClusterType(custom)) => {
            return Err(Refusal::unsupported(format!("cluster type {}", custom.name)));
        }
    };
    Ok(match kind {
        DiscoveryType::Static => Discovery::Static,
        DiscoveryType::StrictDns => Discovery::StrictDns,
        DiscoveryType::LogicalDns => Discovery::LogicalDns,
        DiscoveryType::OriginalDst => Discovery::OriginalDestination,
        DiscoveryType::Eds => {
            let service =
                proto.eds_cluster_config.as_ref().map(|e| e.service_name.clone()).unwrap_or_default();
            Discovery::Eds(if service.is_empty() { proto.name.clone() } else { service })
        }
    })
}

/// Which field meets which fate; [`Cluster::rest`] has what is carried.
fn check(proto: &Proto) -> Result<(), Refusal> {
    fates!(proto: Proto {
        compiled:
            name,
            cluster_discovery_type,
            eds_cluster_config;
        carried:
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
            wait_for_warm_on_init;
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
            filters,
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
