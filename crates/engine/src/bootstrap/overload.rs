//! The overload manager, of which there is one thing: the limit of clients' connections.

use envoy_types::pb::envoy::config::overload::v3::resource_monitor::ConfigType;
use envoy_types::pb::envoy::config::overload::v3::{OverloadManager as Proto, ResourceMonitor};
use envoy_types::pb::envoy::extensions::resource_monitors::downstream_connections::v3::DownstreamConnectionsConfig;

use crate::Refusal;
use crate::refusal::{Within, is, unpack};

/// How many connections of clients may be open at once.
pub(super) fn max_connections(proto: &Proto) -> Result<Option<u64>, Refusal> {
    fates!(proto: Proto {
        compiled: resource_monitors;
        // How often monitors look; ours counts.
        carried: refresh_interval;
        refused: actions, loadshed_points, buffer_factory_config;
    });
    let mut max = None;
    for (i, monitor) in proto.resource_monitors.iter().enumerate() {
        max = Some(limit(monitor).within(|| format!("resource_monitors[{i}]"))?);
    }
    Ok(max)
}

fn limit(monitor: &ResourceMonitor) -> Result<u64, Refusal> {
    match &monitor.config_type {
        Some(ConfigType::TypedConfig(config)) if is::<DownstreamConnectionsConfig>(config) => {
            let DownstreamConnectionsConfig { max_active_downstream_connections: max } = unpack(config)?;
            let positive = u64::try_from(max).ok().filter(|max| *max > 0);
            positive.ok_or_else(|| Refusal::invalid(format!("max_active_downstream_connections {max}")))
        }
        _ => Err(Refusal::unsupported(monitor.name.clone())),
    }
}
