//! What was sent to a proxy against what it says is in force.

use std::collections::{BTreeMap, BTreeSet};

use envoy_types::pb::envoy::config::core::v3::address::Address;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use ostro_envoy_json::any_to_value;
use ostro_translate::ResourceType;
use prost::Message as _;
use serde_json::Value;

use crate::second::Resource;

/// Where `/config_dump` has the resources of a kind: part, list, path to the resource.
const PLACES: [(ResourceType, &str, &str, &[&str]); 3] = [
    (ResourceType::Cluster, "ClustersConfigDump", "dynamic_active_clusters", &["cluster"]),
    (ResourceType::Listener, "ListenersConfigDump", "dynamic_listeners", &["active_state", "listener"]),
    (ResourceType::Route, "RoutesConfigDump", "dynamic_route_configs", &["route_config"]),
];

/// Where a dump says something else than what was sent: what is missing, changed, or there without having been sent.
/// Of endpoints the addresses are compared, which is all that a dump has as it came.
pub fn differences(dump: &Value, sent: &[Resource]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (kind, part, list, path) in PLACES {
        let found = resources(dump, part, list, path);
        let wanted = sent.iter().filter(|resource| resource.kind == kind);
        let wanted: BTreeMap<&str, Value> = wanted
            .map(|resource| (resource.name.as_str(), any_to_value(kind.type_url(), &resource.bytes)))
            .collect();
        compare(kind.short(), &wanted, &found, &mut wrong);
    }
    let endpoints = sent.iter().filter(|resource| resource.kind == ResourceType::Endpoint);
    let wanted = endpoints.map(|resource| {
        let assignment =
            ClusterLoadAssignment::decode(&resource.bytes[..]).expect("what was sent is a message");
        (resource.name.as_str(), addresses(&assignment))
    });
    let found = resources(dump, "EndpointsConfigDump", "dynamic_endpoint_configs", &["endpoint_config"]);
    let found: BTreeMap<&str, BTreeSet<String>> =
        found.into_iter().map(|(name, value)| (name, dumped_addresses(value))).collect();
    let found: BTreeMap<&str, &BTreeSet<String>> = found.iter().map(|(name, all)| (*name, all)).collect();
    for (name, addresses) in wanted {
        match found.get(name) {
            Some(there) if **there == addresses => {}
            Some(there) => wrong.push(format!("eds {name}: sent {addresses:?}, in force {there:?}")),
            None => wrong.push(format!("eds {name}: not in force")),
        }
    }
    wrong
}

fn compare(
    kind: &str,
    wanted: &BTreeMap<&str, Value>,
    found: &BTreeMap<&str, &Value>,
    wrong: &mut Vec<String>,
) {
    for (name, resource) in wanted {
        match found.get(name) {
            Some(there) if *there == resource => {}
            Some(there) => wrong.push(format!("{kind} {name}: sent {resource}, in force {there}")),
            None => wrong.push(format!("{kind} {name}: not in force")),
        }
    }
    wrong.extend(
        found
            .keys()
            .filter(|name| !wanted.contains_key(**name))
            .map(|name| format!("{kind} {name}: in force, and was not sent")),
    );
}

/// Resources of a dump by name.
fn resources<'d>(dump: &'d Value, part: &str, list: &str, path: &[&str]) -> BTreeMap<&'d str, &'d Value> {
    let parts = dump["configs"].as_array().into_iter().flatten();
    let of_type = parts.filter(|found| found["@type"].as_str().is_some_and(|name| name.ends_with(part)));
    let elements = of_type.flat_map(|found| found[list].as_array().into_iter().flatten());
    let inner = |element: &'d Value| path.iter().try_fold(element, |at, key| at.get(key));
    let named = |resource: &'d Value| {
        let name = resource.get("name").or_else(|| resource.get("cluster_name"))?;
        Some((name.as_str()?, resource))
    };
    elements.filter_map(inner).filter_map(named).collect()
}

fn addresses(assignment: &ClusterLoadAssignment) -> BTreeSet<String> {
    let endpoints = assignment.endpoints.iter().flat_map(|locality| &locality.lb_endpoints);
    let address = |host: &HostIdentifier| {
        let HostIdentifier::Endpoint(endpoint) = host else { return None };
        match endpoint.address.as_ref()?.address.as_ref()? {
            Address::SocketAddress(socket) => match socket.port_specifier {
                Some(PortSpecifier::PortValue(port)) => Some(format!("{} {port}", socket.address)),
                _ => None,
            },
            Address::Pipe(pipe) => Some(pipe.path.clone()),
            Address::EnvoyInternalAddress(_) => None,
        }
    };
    endpoints.filter_map(|endpoint| address(endpoint.host_identifier.as_ref()?)).collect()
}

fn dumped_addresses(assignment: &Value) -> BTreeSet<String> {
    let localities = assignment["endpoints"].as_array().into_iter().flatten();
    let endpoints = localities.flat_map(|locality| locality["lb_endpoints"].as_array().into_iter().flatten());
    let address = |endpoint: &Value| {
        let address = &endpoint["endpoint"]["address"];
        let socket = &address["socket_address"];
        let host = socket["address"].as_str().map(|ip| format!("{ip} {}", socket["port_value"]));
        host.or_else(|| Some(address["pipe"]["path"].as_str()?.to_owned()))
    };
    endpoints.filter_map(address).collect()
}
