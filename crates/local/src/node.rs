//! What a pod's proxy tells the control plane about itself: node metadata by Istio's keys.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ostro_agent::{Bootstrap, Kind, Locality};
use serde_json::{Map, Value, json};

use crate::link;
use crate::plan::PodPlan;
use crate::services::DOMAIN;

/// The generation of Istio's node metadata that this is written in.
const ISTIO_VERSION: &str = "1.32.0";

/// The bootstrap of the proxy of `plan`.
pub fn bootstrap(plan: &PodPlan, ip: Ipv4Addr, xds: SocketAddr, mark: Option<u32>) -> Bootstrap {
    let name = &plan.name;
    let kind = if plan.proxy.is_gateway() { Kind::Router } else { Kind::Sidecar };
    let app =
        plan.labels.get("service.istio.io/canonical-name").map_or(plan.workload.1.as_str(), String::as_str);
    Bootstrap {
        kind,
        ip: IpAddr::V4(ip),
        pod: name.name.clone(),
        namespace: name.namespace.clone(),
        domain: DOMAIN.to_owned(),
        service_cluster: format!("{app}.{}", name.namespace),
        locality: Locality::default(),
        metadata: metadata(plan, kind, ip),
        xds,
        mark,
    }
}

fn metadata(plan: &PodPlan, kind: Kind, ip: Ipv4Addr) -> Map<String, Value> {
    let (workload_kind, workload) = &plan.workload;
    let ports: Vec<Value> = plan
        .ports
        .iter()
        .map(|port| json!({"name": port.name, "containerPort": port.port, "protocol": port.protocol}))
        .collect();
    let containers: Vec<&str> = plan.containers.iter().map(|(name, _)| name.as_str()).collect();
    let owner = format!(
        "kubernetes://apis/apps/v1/namespaces/{}/{}s/{workload}",
        plan.name.namespace,
        workload_kind.as_str().to_ascii_lowercase()
    );
    let mut metadata = Map::new();
    let mut say = |key: &str, value: Value| metadata.insert(key.to_owned(), value);
    say("ISTIO_VERSION", json!(ISTIO_VERSION));
    say("CLUSTER_ID", json!("Kubernetes"));
    if link::has_ipv6() {
        say("INSTANCE_IPS", json!(format!("{ip},{}", link::v6(ip))));
    }
    say("MESH_ID", json!(DOMAIN));
    say("NODE_NAME", json!(crate::cluster::NODE));
    say("LABELS", json!(plan.labels));
    say("SERVICE_ACCOUNT", json!(plan.service_account));
    say("WORKLOAD_NAME", json!(workload));
    say("OWNER", json!(owner));
    say("APP_CONTAINERS", json!(containers.join(",")));
    // A string that holds JSON: so it is in Istio.
    say("POD_PORTS", json!(Value::from(ports).to_string()));
    if kind == Kind::Sidecar {
        say("INTERCEPTION_MODE", json!("REDIRECT"));
        // The mesh's name server tells programs the automatic addresses of ServiceEntries' hosts.
        say("DNS_CAPTURE", json!("true"));
        say("DNS_AUTO_ALLOCATE", json!("true"));
    }
    metadata
}
