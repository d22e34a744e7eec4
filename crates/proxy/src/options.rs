//! The command line, as launchers of an `envoy` binary write it.
//!
//! Flags that concern what this proxy does not have (hot restart, core dumps) are taken and do nothing; others that are
//! not known are refused, as Envoy refuses them.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

/// What the command line says.
#[derive(Clone, Debug, Parser)]
#[command(name = "ostro-proxy", version, about = "Ostro's L7 proxy, configured as Envoy is")]
pub struct Options {
    /// Path of the bootstrap configuration (JSON or YAML)
    #[arg(short = 'c', long)]
    pub config_path: Option<PathBuf>,
    /// Bootstrap configuration as YAML or JSON, laid over that of the file
    #[arg(long)]
    pub config_yaml: Option<String>,
    /// Whether to serve, or only to look at the configuration
    #[arg(long, value_enum, default_value_t = Mode::Serve)]
    pub mode: Mode,
    /// Number of worker threads; by default, one for each processor
    #[arg(long)]
    pub concurrency: Option<u32>,
    /// Cluster name of the node
    #[arg(long, default_value = "")]
    pub service_cluster: String,
    /// Id of the node
    #[arg(long, default_value = "")]
    pub service_node: String,
    /// Zone of the node
    #[arg(long, default_value = "")]
    pub service_zone: String,
    /// trace, debug, info, warning, error, critical or off
    #[arg(short = 'l', long, default_value = "info")]
    pub log_level: String,
    /// Levels by component: `upstream:debug,http:trace`
    #[arg(long)]
    pub component_log_level: Option<String>,
    /// File of the application log; by default, standard error
    #[arg(long)]
    pub log_path: Option<PathBuf>,
    /// How long connections may go on when their listener is drained, in seconds
    #[arg(long, default_value_t = 600)]
    pub drain_time_s: u64,
    /// How connections are drained
    #[arg(long, default_value = "gradual")]
    pub drain_strategy: String,
    /// How often access logs are written out, in milliseconds
    #[arg(long, default_value_t = 1000)]
    pub file_flush_interval_msec: u64,
    /// File to which the address of the admin interface is written
    #[arg(long)]
    pub admin_address_path: Option<PathBuf>,
    /// v4 or v6: what a local address is
    #[arg(long, default_value = "v4")]
    pub local_address_ip_version: String,
    /// Take fields of the bootstrap that are not known
    #[arg(long)]
    pub allow_unknown_static_fields: bool,
    /// Take fields of the bootstrap that are not known
    #[arg(long)]
    pub allow_unknown_fields: bool,
    #[command(flatten)]
    idle: Idle,
}

/// Flags that are taken and do nothing here.
#[derive(Clone, Debug, clap::Args)]
struct Idle {
    #[arg(long, hide = true)]
    parent_shutdown_time_s: Option<u64>,
    #[arg(long, hide = true)]
    base_id: Option<u64>,
    #[arg(long, hide = true)]
    base_id_path: Option<PathBuf>,
    #[arg(long, hide = true)]
    use_dynamic_base_id: bool,
    #[arg(long, hide = true)]
    skip_hot_restart_on_no_parent: bool,
    #[arg(long, hide = true)]
    skip_hot_restart_parent_stats: bool,
    #[arg(long, hide = true)]
    restart_epoch: Option<u64>,
    #[arg(long, hide = true)]
    disable_hot_restart: bool,
    #[arg(long, hide = true)]
    hot_restart_version: bool,
    #[arg(long, hide = true)]
    log_format: Option<String>,
    #[arg(long, hide = true)]
    log_format_escaped: bool,
    #[arg(long, hide = true)]
    enable_fine_grain_logging: bool,
    #[arg(long, hide = true)]
    reject_unknown_dynamic_fields: bool,
    #[arg(long, hide = true)]
    ignore_unknown_dynamic_fields: bool,
    #[arg(long, hide = true)]
    skip_deprecated_logs: bool,
    #[arg(long, hide = true)]
    enable_mutex_tracing: bool,
    #[arg(long, hide = true)]
    enable_core_dump: bool,
    #[arg(long, hide = true)]
    cpuset_threads: bool,
    #[arg(long, hide = true)]
    disable_extensions: Option<String>,
    #[arg(long, hide = true)]
    socket_path: Option<String>,
    #[arg(long, hide = true)]
    socket_mode: Option<String>,
    #[arg(long, hide = true)]
    stats_tag: Vec<String>,
}

/// What the process is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// It serves.
    Serve,
    /// It says whether the configuration is good.
    Validate,
    /// The same.
    #[value(name = "init_only")]
    InitOnly,
}

impl Options {
    /// How long connections may go on when their listener is drained.
    pub fn drain_time(&self) -> Duration {
        Duration::from_secs(self.drain_time_s)
    }

    /// Whether the bootstrap may have fields that are not known.
    pub fn takes_unknown_fields(&self) -> bool {
        self.allow_unknown_static_fields || self.allow_unknown_fields
    }

    /// How often access logs are written out.
    pub fn flush_interval(&self) -> Duration {
        Duration::from_millis(self.file_flush_interval_msec.max(1))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test's helpers fail the test by panicking")]

    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn what_istio_s_launcher_writes_is_understood() {
        Options::command().debug_assert();
        let line = "envoy -c etc/istio/proxy/envoy-rev.json --drain-time-s 45 --drain-strategy immediate \
            --local-address-ip-version v4 --file-flush-interval-msec 1000 --disable-hot-restart \
            --allow-unknown-static-fields -l warning --component-log-level misc:error --concurrency 2";
        let options = Options::try_parse_from(line.split_whitespace()).unwrap();
        assert_eq!(options.concurrency, Some(2));
        assert_eq!(options.drain_time(), Duration::from_secs(45));
        assert!(Options::try_parse_from(["envoy", "--no-such-flag"]).is_err());
    }
}
