//! The bootstrap: what a proxy is told before it listens to anybody.
//!
//! What it is: `envoy.config.bootstrap.v3.Bootstrap` taken apart. Static clusters, listeners and secrets stay messages: they are compiled
//! like those that come over xDS, one at a time. What it deliberately is not: a place where anything is opened or started.
//!
//! Invariant: each field is compiled, or refused by name, or has no effect that anybody could miss; what is taken and
//! has none that somebody could, is told in [`Bootstrap::notices`].

mod admin;
mod extensions;
mod overload;
mod runtime;
mod sources;
mod stats;

use std::time::Duration;

use envoy_types::pb::envoy::config::bootstrap::v3::Bootstrap as Proto;
use envoy_types::pb::envoy::config::bootstrap::v3::ClusterManager;
use envoy_types::pb::envoy::config::bootstrap::v3::bootstrap::{
    ApplicationLogConfig, StaticResources, StatsFlush, application_log_config,
};
use envoy_types::pb::envoy::config::cluster::v3::Cluster as ClusterProto;
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::config::listener::v3::Listener as ListenerProto;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::Secret as SecretProto;
use envoy_types::pb::google::protobuf;

use crate::Refusal;
use crate::cluster::Bind;
use crate::proto::duration;
use crate::refusal::Within;

pub use admin::AdminSettings;
pub use runtime::{Runtime, RuntimeLayer, RuntimeValue};
pub use sources::{AdsSettings, DynamicResources, Source, SourceSettings};
pub use stats::{HistogramBuckets, StatsMatcher, StatsSettings, StatsTag, TagValue};

/// How often statistics are merged if nothing is said.
const FLUSH_INTERVAL: Duration = Duration::from_secs(5);

/// A bootstrap, compiled.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    /// Who the proxy is, as it tells the control plane; what the command line adds is not in it.
    pub node: Node,
    /// The admin interface, if there is one.
    pub admin: Option<AdminSettings>,
    /// Clusters to begin with.
    pub clusters: Vec<ClusterProto>,
    /// Listeners to begin with.
    pub listeners: Vec<ListenerProto>,
    /// Secrets to begin with.
    pub secrets: Vec<SecretProto>,
    /// Where everything else comes from.
    pub dynamic: DynamicResources,
    /// Runtime keys and values.
    pub runtime: Runtime,
    /// Tags, names and buckets of statistics.
    pub stats: StatsSettings,
    /// How often statistics are merged; `None`: when somebody asks.
    pub flush_interval: Option<Duration>,
    /// Connections of clients that may be open at once, over all listeners.
    pub max_connections: Option<u64>,
    /// How upstream connections are bound, where their cluster does not say it.
    pub bind: Bind,
    /// The cluster this proxy is itself a part of; empty if it is told none.
    pub local_cluster: String,
    /// The log of the program is one JSON object for each line.
    pub logs_json: bool,
    /// What is taken and has no effect, a line each.
    pub notices: Vec<String>,
}

impl Bootstrap {
    /// Compiles a bootstrap.
    ///
    /// # Errors
    /// What is not supported, or what Envoy would refuse too; whoever wrote it is at fault.
    pub fn compile(proto: Proto) -> Result<Bootstrap, Refusal> {
        check(&proto)?;
        let mut notices = Vec::new();
        let StaticResources { listeners, clusters, secrets } = proto.static_resources.unwrap_or_default();
        let dynamic = proto.dynamic_resources.unwrap_or_default();
        let runtime = Runtime::compile(proto.layered_runtime.unwrap_or_default(), &mut notices);
        let runtime = runtime.within(|| "layered_runtime".to_owned())?;
        let manager = cluster_manager(proto.cluster_manager.unwrap_or_default());
        let manager = manager.within(|| "cluster_manager".to_owned())?;
        let bind = manager.upstream_bind_config.as_ref().map(Bind::compile).transpose();
        let bind = bind.within(|| "cluster_manager.upstream_bind_config".to_owned())?;
        let overload = proto.overload_manager.as_ref().map(overload::max_connections).transpose();
        let max_connections = overload.within(|| "overload_manager".to_owned())?.flatten();
        extensions::check(&proto.bootstrap_extensions).within(|| "bootstrap_extensions".to_owned())?;
        extensions::check_resolver(proto.typed_dns_resolver_config.as_ref())
            .within(|| "typed_dns_resolver_config".to_owned())?;
        extensions::check_regex_engine(proto.default_regex_engine.as_ref())
            .within(|| "default_regex_engine".to_owned())?;
        Ok(Bootstrap {
            node: proto.node.unwrap_or_default(),
            admin: AdminSettings::compile(proto.admin.unwrap_or_default()).within(|| "admin".to_owned())?,
            clusters,
            listeners,
            secrets,
            dynamic: DynamicResources::compile(dynamic).within(|| "dynamic_resources".to_owned())?,
            // The overload manager's limit replaces the runtime's.
            max_connections: max_connections.or_else(|| runtime.max_connections()),
            runtime,
            stats: StatsSettings::compile(proto.stats_config.unwrap_or_default())
                .within(|| "stats_config".to_owned())?,
            flush_interval: flush(proto.stats_flush_interval, proto.stats_flush)?,
            bind: bind.unwrap_or_default(),
            local_cluster: manager.local_cluster_name,
            logs_json: log_format(proto.application_log_config, &mut notices)?,
            notices,
        })
    }
}

/// Which field meets which fate. Carried ones have no effect here: watchdogs and the allocator are Envoy's own insides, our
/// statistics are always made when they are first used.
fn check(proto: &Proto) -> Result<(), Refusal> {
    fates!(proto: Proto {
        compiled:
            node,
            static_resources,
            dynamic_resources,
            cluster_manager,
            stats_config,
            stats_flush_interval,
            stats_flush,
            layered_runtime,
            admin,
            overload_manager,
            bootstrap_extensions,
            typed_dns_resolver_config,
            default_regex_engine,
            application_log_config;
        carried:
            deferred_stat_options,
            watchdog,
            watchdogs,
            grpc_async_client_manager_config,
            memory_allocator_manager,
            inline_headers;
        refused:
            node_context_params,
            hds_config,
            flags_path,
            stats_sinks,
            tracing,
            enable_dispatcher_stats,
            header_prefix,
            stats_server_version_override,
            use_tcp_for_dns_lookups,
            dns_resolution_config,
            fatal_actions,
            config_sources,
            default_config_source,
            default_socket_interface,
            certificate_provider_instances,
            perf_tracing_file_path,
            xds_delegate_extension,
            xds_config_tracker_extension,
            listener_manager,
            enable_worker_cpu_affinity,
            stats_eviction;
    });
    Ok(())
}

/// Clusters are made when they come: there is nothing to defer.
fn cluster_manager(proto: ClusterManager) -> Result<ClusterManager, Refusal> {
    {
        let proto = &proto;
        fates!(proto: ClusterManager {
            compiled: local_cluster_name, upstream_bind_config;
            carried: enable_deferred_cluster_creation;
            refused: outlier_detection, load_stats_config;
        });
    }
    Ok(proto)
}

fn flush(
    interval: Option<protobuf::Duration>,
    flush: Option<StatsFlush>,
) -> Result<Option<Duration>, Refusal> {
    match flush {
        Some(StatsFlush::StatsFlushOnAdmin(true)) if interval.is_none() => return Ok(None),
        Some(StatsFlush::StatsFlushOnAdmin(_)) => {
            return Err(Refusal::invalid(
                "stats_flush_on_admin must be true, and excludes stats_flush_interval",
            ));
        }
        None => {}
    }
    let interval =
        interval.as_ref().map(duration).transpose().within(|| "stats_flush_interval".to_owned())?;
    match interval {
        // Envoy's bounds.
        Some(interval) if interval < Duration::from_millis(1) || interval >= Duration::from_secs(300) => {
            Err(Refusal::invalid("stats_flush_interval must be at least 1 ms and less than 5 minutes"))
        }
        interval => Ok(Some(interval.unwrap_or(FLUSH_INTERVAL))),
    }
}

/// Whether the program's log is JSON. Which keys its lines have, or how its text looks, is ours.
fn log_format(config: Option<ApplicationLogConfig>, notices: &mut Vec<String>) -> Result<bool, Refusal> {
    use application_log_config::LogFormat as Outer;
    use application_log_config::log_format::LogFormat;
    let Some(ApplicationLogConfig { log_format }) = config else { return Ok(false) };
    match log_format {
        Some(Outer { log_format: Some(LogFormat::JsonFormat(_)) }) => Ok(true),
        Some(Outer { log_format: Some(LogFormat::TextFormat(_)) }) => {
            notices.push(
                "application_log_config.log_format.text_format: the log's text has a form of its own"
                    .to_owned(),
            );
            Ok(false)
        }
        Some(Outer { log_format: None }) | None => Ok(false),
    }
}

#[cfg(test)]
mod tests;
