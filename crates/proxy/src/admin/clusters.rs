//! `/clusters`: hosts, and how they do.

use std::io::Write as _;
use std::sync::Arc;

use regex::Regex;
use serde_json::{Map, Value, json};

use super::answer::{Answer, Out};
use super::listeners::socket_address;
use super::query::Query;
use super::subject::HostAddress;
use super::{Admin, ClusterStatus, HostStatus, Thresholds};
use ostro_envoy_json::{Style, write_value};

pub(super) fn clusters(admin: &Arc<Admin>, query: &Query) -> Answer {
    let filter = match query.get("filter").map(Regex::new).transpose() {
        Ok(filter) => filter,
        Err(_) => return Answer::bad("Invalid re2 regex"),
    };
    let admin = Arc::clone(admin);
    let wanted =
        move |cluster: &ClusterStatus| filter.as_ref().is_none_or(|filter| filter.is_match(&cluster.name));
    if query.get("format") == Some("json") {
        return Answer::written_json(move |out| write_json(&admin, &wanted, out));
    }
    Answer::written_text(move |out| {
        admin.subject.clusters(&mut |cluster| {
            if wanted(cluster) && !out.is_closed() {
                write_text(cluster, out);
            }
        });
    })
}

/// The default of Envoy's rates that are not known.
const UNKNOWN_RATE: f64 = -1.0;

fn write_text(cluster: &ClusterStatus, out: &mut Out) {
    let name = &cluster.name;
    // Writing to `Out` does not fail.
    let _ = writeln!(out, "{name}::observability_name::{}", cluster.stat_name);
    if cluster.ejects {
        for of in [
            "success_rate_average",
            "success_rate_ejection_threshold",
            "local_origin_success_rate_average",
            "local_origin_success_rate_ejection_threshold",
        ] {
            let _ = writeln!(out, "{name}::outlier::{of}::{UNKNOWN_RATE}");
        }
    }
    for (priority, thresholds) in ["default_priority", "high_priority"].iter().zip(&cluster.thresholds) {
        for (limit, value) in limits(thresholds) {
            let _ = writeln!(out, "{name}::{priority}::{limit}::{value}");
        }
    }
    let _ = writeln!(out, "{name}::added_via_api::{}", cluster.is_dynamic);
    if !cluster.endpoint_name.is_empty() {
        let _ = writeln!(out, "{name}::eds_service_name::{}", cluster.endpoint_name);
    }
    for host in &cluster.hosts {
        write_host(name, host, out);
    }
}

fn limits(of: &Thresholds) -> [(&'static str, u64); 4] {
    [
        ("max_connections", of.connections),
        ("max_pending_requests", of.pending),
        ("max_requests", of.requests),
        ("max_retries", of.retries),
    ]
}

fn write_host(cluster: &str, host: &HostStatus, out: &mut Out) {
    let address = &host.address;
    let mut line = |key: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(out, "{cluster}::{address}::{key}::{value}");
    };
    for (name, value) in [
        ("cx_active", host.cx_active),
        ("cx_connect_fail", host.cx_connect_fail),
        ("cx_total", host.cx_total),
        ("rq_active", host.rq_active),
        ("rq_error", host.rq_error),
        ("rq_pending_active", host.rq_pending_active),
        ("rq_success", host.rq_success),
        ("rq_timeout", host.rq_timeout),
        ("rq_total", host.rq_total),
    ] {
        line(name, &value);
    }
    line("hostname", &host.hostname);
    let flags: String = host.flags.iter().map(|flag| format!("/{flag}")).collect();
    line("health_flags", &if flags.is_empty() { "healthy" } else { &flags });
    line("weight", &host.weight);
    let [region, zone, sub_zone] = &host.locality;
    line("region", region);
    line("zone", zone);
    line("sub_zone", sub_zone);
    line("canary", &host.is_canary);
    line("priority", &host.priority);
    line("success_rate", &host.success_rate.unwrap_or(UNKNOWN_RATE));
    line("local_origin_success_rate", &UNKNOWN_RATE);
}

/// `envoy.admin.v3.Clusters`, one cluster at a time.
fn write_json(admin: &Admin, wanted: &dyn Fn(&ClusterStatus) -> bool, out: &mut Out) {
    let mut any = false;
    out.text("{");
    admin.subject.clusters(&mut |cluster| {
        if !wanted(cluster) || out.is_closed() {
            return;
        }
        out.text(if any { ",\n  " } else { "\n \"cluster_statuses\": [\n  " });
        any = true;
        out.with(|buffer| write_value(buffer, &cluster_json(cluster), Style::Pretty, 2));
    });
    out.text(if any { "\n ]\n}\n" } else { "}\n" });
}

/// Fields in the order of their numbers; defaults are not written.
fn cluster_json(cluster: &ClusterStatus) -> Value {
    let mut status = Map::new();
    status.insert("name".to_owned(), json!(cluster.name));
    if cluster.is_dynamic {
        status.insert("added_via_api".to_owned(), json!(true));
    }
    if !cluster.hosts.is_empty() {
        status.insert("host_statuses".to_owned(), cluster.hosts.iter().map(host_json).collect());
    }
    let mut thresholds: Vec<Value> = Vec::new();
    for (priority, of) in [None, Some("HIGH")].into_iter().zip(&cluster.thresholds) {
        let mut entry = Map::new();
        entry.extend(priority.map(|priority| ("priority".to_owned(), json!(priority))));
        entry.extend(limits(of).map(|(limit, value)| (limit.to_owned(), json!(value))));
        thresholds.push(Value::Object(entry));
    }
    status.insert("circuit_breakers".to_owned(), json!({"thresholds": thresholds}));
    status.insert("observability_name".to_owned(), json!(cluster.stat_name));
    if !cluster.endpoint_name.is_empty() {
        status.insert("eds_service_name".to_owned(), json!(cluster.endpoint_name));
    }
    Value::Object(status)
}

fn host_json(host: &HostStatus) -> Value {
    let stat = |kind: Option<&str>, name: &str, value: u64| {
        let mut stat = Map::new();
        stat.extend(kind.map(|kind| ("type".to_owned(), json!(kind))));
        if value > 0 {
            stat.insert("value".to_owned(), json!(value.to_string()));
        }
        stat.insert("name".to_owned(), json!(name));
        Value::Object(stat)
    };
    let stats = [
        stat(None, "cx_connect_fail", host.cx_connect_fail),
        stat(None, "cx_total", host.cx_total),
        stat(None, "rq_error", host.rq_error),
        stat(None, "rq_success", host.rq_success),
        stat(None, "rq_timeout", host.rq_timeout),
        stat(None, "rq_total", host.rq_total),
        stat(Some("GAUGE"), "cx_active", host.cx_active),
        stat(Some("GAUGE"), "rq_active", host.rq_active),
        stat(Some("GAUGE"), "rq_pending_active", host.rq_pending_active),
    ];
    let mut health: Map<String, Value> = host
        .flags
        .iter()
        .filter(|flag| !flag.ends_with("eds_health") && **flag != "eds_status_draining")
        .map(|flag| ((*flag).to_owned(), json!(true)))
        .collect();
    health.insert("eds_health_status".to_owned(), json!(host.eds_health));
    let mut status = Map::new();
    status.insert("address".to_owned(), address_json(&host.address));
    status.insert("stats".to_owned(), json!(stats));
    status.insert("health_status".to_owned(), Value::Object(health));
    if let Some(rate) = host.success_rate {
        status.insert("success_rate".to_owned(), json!({"value": rate}));
    }
    status.insert("weight".to_owned(), json!(host.weight));
    if !host.hostname.is_empty() {
        status.insert("hostname".to_owned(), json!(host.hostname));
    }
    if host.priority > 0 {
        status.insert("priority".to_owned(), json!(host.priority));
    }
    status.insert("locality".to_owned(), locality_json(&host.locality));
    Value::Object(status)
}

/// An `envoy.config.core.v3.Address`.
pub(super) fn address_json(address: &HostAddress) -> Value {
    match address {
        HostAddress::Socket(address) => socket_address(*address),
        HostAddress::Pipe(path) => json!({"pipe": {"path": path}}),
    }
}

/// An `envoy.config.core.v3.Locality`.
pub(super) fn locality_json(locality: &[String; 3]) -> Value {
    let names = ["region", "zone", "sub_zone"].iter().zip(locality);
    let set = names.filter(|(_, value)| !value.is_empty());
    set.map(|(name, value)| ((*name).to_owned(), json!(value))).collect::<Map<_, _>>().into()
}
