//! The endpoints part of `/config_dump`: clusters' hosts as they are, in the form of a `ClusterLoadAssignment`.

use serde_json::{Map, Value, json};

use super::clusters::{address_json, locality_json};
use super::{ClusterStatus, HostStatus};

/// An element of `EndpointsConfigDump`.
pub(super) fn element(cluster: &ClusterStatus) -> Map<String, Value> {
    let mut config = Map::new();
    config.insert(
        "@type".to_owned(),
        json!("type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"),
    );
    let name = if cluster.endpoint_name.is_empty() { &cluster.name } else { &cluster.endpoint_name };
    config.insert("cluster_name".to_owned(), json!(name));
    let localities = localities(&cluster.hosts);
    if !localities.is_empty() {
        config.insert("endpoints".to_owned(), Value::Array(localities));
    }
    config.insert("policy".to_owned(), json!({"overprovisioning_factor": cluster.overprovisioning}));
    let mut element = Map::new();
    element.insert("endpoint_config".to_owned(), Value::Object(config));
    element
}

/// Hosts of one locality and priority stand together, in the order of the first of each.
fn localities(hosts: &[HostStatus]) -> Vec<Value> {
    let mut groups: Vec<(&[String; 3], u32, Vec<Value>)> = Vec::new();
    for host in hosts {
        let known = groups
            .iter_mut()
            .find(|(locality, priority, _)| (*locality, *priority) == (&host.locality, host.priority));
        match known {
            Some((.., members)) => members.push(endpoint(host)),
            None => groups.push((&host.locality, host.priority, vec![endpoint(host)])),
        }
    }
    let group = |(locality, priority, members): (&[String; 3], u32, Vec<Value>)| {
        let mut group = Map::new();
        group.insert("locality".to_owned(), locality_json(locality));
        group.insert("lb_endpoints".to_owned(), Value::Array(members));
        if priority > 0 {
            group.insert("priority".to_owned(), json!(priority));
        }
        Value::Object(group)
    };
    groups.into_iter().map(group).collect()
}

fn endpoint(host: &HostStatus) -> Value {
    let mut endpoint = json!({"address": address_json(&host.address), "health_check_config": {}});
    if !host.hostname.is_empty() {
        endpoint["hostname"] = json!(host.hostname);
    }
    json!({"endpoint": endpoint, "health_status": host.eds_health, "load_balancing_weight": host.weight})
}
