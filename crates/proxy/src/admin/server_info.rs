//! `/server_info`, `/certs` and `/init_dump`: the process, its certificates, and what it waits for.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ostro_envoy_json::wire_to_value;
use serde_json::{Map, Value, json};

use super::Admin;
use super::answer::Answer;
use super::config_dump::moment;
use super::query::Query;
use super::subject::CertificateDetails;
use crate::Options;

/// `revision/version/state of the sources/kind of build/TLS library`, as Envoy has it.
pub(super) fn version() -> String {
    let kind = if cfg!(debug_assertions) { "DEBUG" } else { "RELEASE" };
    format!("ostro/{}/Clean/{kind}/aws-lc", env!("CARGO_PKG_VERSION"))
}

pub(super) fn server_info(admin: &Arc<Admin>, _: &Query) -> Answer {
    let uptime = format!("{}s", admin.started.elapsed().as_secs());
    Answer::json(&json!({
        "version": version(),
        "state": admin.subject.state().as_str(),
        "uptime_current_epoch": uptime,
        "uptime_all_epochs": uptime,
        "hot_restart_version": "disabled",
        "command_line_options": admin.command_line,
        "node": node(admin),
        "hot_restart_initializing": false,
    }))
}

/// The command line as `envoy.admin.v3.CommandLineOptions`.
pub(crate) fn command_line(options: &Options, workers: u32) -> Value {
    let path = |path: &Option<std::path::PathBuf>| {
        path.as_deref().map(|path| path.display().to_string()).unwrap_or_default()
    };
    json!({
        "base_id": "0",
        "concurrency": workers,
        "config_path": path(&options.config_path),
        "config_yaml": options.config_yaml.clone().unwrap_or_default(),
        "allow_unknown_static_fields": options.takes_unknown_fields(),
        "admin_address_path": path(&options.admin_address_path),
        "local_address_ip_version": options.local_address_ip_version,
        "log_level": options.log_level,
        "component_log_level": options.component_log_level.clone().unwrap_or_default(),
        "log_path": path(&options.log_path),
        "service_cluster": options.service_cluster,
        "service_node": options.service_node,
        "service_zone": options.service_zone,
        "file_flush_interval": duration(options.flush_interval()),
        "drain_time": duration(options.drain_time()),
        "mode": "Serve",
        "disable_hot_restart": true,
        "restart_epoch": 0,
        "drain_strategy": if options.drain_strategy == "immediate" { "Immediate" } else { "Gradual" },
    })
}

/// A `google.protobuf.Duration`.
fn duration(of: Duration) -> String {
    match of.subsec_millis() {
        0 => format!("{}s", of.as_secs()),
        millis => format!("{}.{millis:03}s", of.as_secs()),
    }
}

/// The node as the bootstrap has it.
fn node(admin: &Admin) -> Value {
    let bootstrap = wire_to_value("envoy.config.bootstrap.v3.Bootstrap", admin.subject.bootstrap().bytes);
    let node = bootstrap.ok().and_then(|mut bootstrap| bootstrap.get_mut("node").map(Value::take));
    let mut all = Map::new();
    // Here Envoy writes defaults, too.
    for (key, default) in [
        ("id", json!("")),
        ("cluster", json!("")),
        ("user_agent_name", json!("")),
        ("extensions", json!([])),
        ("client_features", json!([])),
        ("listening_addresses", json!([])),
        ("dynamic_parameters", json!({})),
    ] {
        all.insert(key.to_owned(), default);
    }
    if let Some(Value::Object(node)) = node {
        all.extend(node);
    }
    Value::Object(all)
}

pub(super) fn certs(admin: &Arc<Admin>, _: &Query) -> Answer {
    let now = SystemTime::now();
    let details =
        |all: &[CertificateDetails]| all.iter().map(|details| certificate(details, now)).collect::<Value>();
    let certificates: Vec<Value> = admin
        .subject
        .certificates()
        .iter()
        .map(|certificate| json!({"ca_cert": details(&certificate.authorities), "cert_chain": details(&certificate.chain)}))
        .collect();
    Answer::json(&json!({"certificates": certificates}))
}

/// An `envoy.admin.v3.CertificateDetails`.
fn certificate(details: &CertificateDetails, now: SystemTime) -> Value {
    const DAY: u64 = 24 * 60 * 60;
    let days = details.expires.duration_since(now).map_or(0, |left| left.as_secs() / DAY);
    let uris = details.uris.iter().map(|uri| json!({"uri": uri}));
    let names = details.dns_names.iter().map(|name| json!({"dns": name}));
    json!({
        "path": details.path,
        "serial_number": details.serial_number,
        "subject_alt_names": uris.chain(names).collect::<Vec<_>>(),
        "days_until_expiration": days.to_string(),
        "valid_from": moment(details.valid_from),
        "expiration_time": moment(details.expires),
    })
}

/// `envoy.admin.v3.UnreadyTargetsDumps`
pub(super) fn init_dump(admin: &Arc<Admin>, _: &Query) -> Answer {
    let unready = admin.subject.unready();
    if unready.is_empty() {
        return Answer::json(&json!({}));
    }
    let dump = |(name, targets): &(String, Vec<String>)| json!({"name": name, "target_names": targets});
    Answer::json(&json!({"unready_targets_dumps": unready.iter().map(dump).collect::<Vec<_>>()}))
}
