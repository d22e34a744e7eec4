//! Services, given the pods that run: their addresses, their endpoints, and the names pods find them by.
//! Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::Ipv4Addr;

use ostro_api::kubernetes::{IntOrString, Service, ServicePort, ServiceType, TransportProtocol};
use ostro_api::service_entry::ServiceEntry;
use ostro_api::{Object, Spec};
use ostro_mesh::vip;
use serde_json::{Value, json};

use crate::plan::{PodPlan, Proxy};

/// The mesh's DNS domain.
pub const DOMAIN: &str = "cluster.local";

/// The port by which a gateway's service takes plain HTTP.
const HTTP_PORT: u16 = 80;

/// A pod as services see it.
#[derive(Clone, Debug)]
pub struct Live<'a> {
    /// What it is.
    pub plan: &'a PodPlan,
    /// Its address.
    pub ip: Ipv4Addr,
    /// It takes requests.
    pub ready: bool,
    /// It is on its way out.
    pub terminating: bool,
}

/// A service and the place it was written at.
pub struct Known<'a> {
    namespace: &'static str,
    name: &'static str,
    service: &'a Service,
}

/// The services among `objects`, by namespace and name.
pub fn services<'a>(objects: impl IntoIterator<Item = &'a Object>) -> Vec<Known<'a>> {
    let mut known: Vec<Known<'a>> = objects
        .into_iter()
        .filter_map(|object| match &object.spec {
            Spec::Service(service) => Some(Known {
                namespace: object.meta.namespace.as_str(),
                name: object.meta.name.as_str(),
                service,
            }),
            _ => None,
        })
        .collect();
    known.sort_by_key(|known| (known.namespace, known.name));
    known
}

/// Addresses by (namespace, name): the stated ones, and one for each service that states none.
pub fn addresses<'a>(services: &'a [Known<'a>]) -> BTreeMap<vip::ServiceName<'a>, Ipv4Addr> {
    let mut addresses = BTreeMap::new();
    let mut wanting = Vec::new();
    for Known { namespace, name, service } in services {
        if let Ok(stated) = service.cluster_ip.parse() {
            addresses.insert((*namespace, *name), stated);
        } else if service.cluster_ip.is_empty() && service.r#type != ServiceType::ExternalName {
            wanting.push((*namespace, *name));
        }
    }
    let given: BTreeSet<Ipv4Addr> = addresses.values().copied().collect();
    addresses.extend(vip::assign(wanting, &given));
    addresses
}

/// EndpointSlices of every service with a selector, by file name. Pods whose ports differ (a port by name)
/// are in slices of their own, as in Kubernetes.
pub fn endpoint_slices(services: &[Known<'_>], pods: &[Live<'_>]) -> BTreeMap<String, Value> {
    let mut slices = BTreeMap::new();
    for known in services {
        let Known { namespace, name, service } = known;
        if service.selector.is_empty() || service.r#type == ServiceType::ExternalName {
            continue;
        }
        let mut groups: BTreeMap<Vec<Option<u16>>, Vec<Value>> = BTreeMap::new();
        for pod in pods.iter().filter(|pod| selects(known, pod.plan)) {
            let ports = service.ports.iter().map(|port| target(port, pod.plan)).collect();
            groups.entry(ports).or_default().push(endpoint(pod, service));
        }
        for (number, (ports, endpoints)) in (1..).zip(groups) {
            let slice = format!("{name}-{number}");
            let object = json!({
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {
                    "name": slice,
                    "namespace": namespace,
                    "labels": {"kubernetes.io/service-name": name},
                },
                "addressType": "IPv4",
                "ports": slice_ports(&service.ports, &ports),
                "endpoints": endpoints,
            });
            slices.insert(format!("endpointslice.{namespace}.{slice}.json"), object);
        }
    }
    slices
}

fn selects(known: &Known<'_>, pod: &PodPlan) -> bool {
    pod.name.namespace == known.namespace
        && known.service.selector.iter().all(|(key, value)| pod.labels.get(key) == Some(value))
}

/// The pod's port behind a service's port; none if it is meant by a name the pod does not have.
fn target(port: &ServicePort, pod: &PodPlan) -> Option<u16> {
    match &port.target_port {
        None => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) => {
            pod.ports.iter().find(|p| p.name == *name && p.protocol == port.protocol.as_str()).map(|p| p.port)
        }
    }
}

fn slice_ports(ports: &[ServicePort], targets: &[Option<u16>]) -> Vec<Value> {
    let pairs = ports.iter().zip(targets);
    let entry = |(port, target): (&ServicePort, &Option<u16>)| {
        let mut entry = json!({"name": port.name, "port": (*target)?, "protocol": port.protocol.as_str()});
        if !port.app_protocol.is_empty() {
            entry["appProtocol"] = json!(port.app_protocol);
        }
        Some(entry)
    };
    pairs.filter_map(entry).collect()
}

fn endpoint(pod: &Live<'_>, service: &Service) -> Value {
    let serving = pod.ready;
    let ready = (serving || service.publish_not_ready_addresses) && !pod.terminating;
    json!({
        "addresses": [pod.ip.to_string()],
        "conditions": {"ready": ready, "serving": serving, "terminating": pod.terminating},
        "nodeName": crate::cluster::NODE,
        "targetRef": {"kind": "Pod", "namespace": pod.plan.name.namespace, "name": pod.plan.name.name},
    })
}

/// `/etc/hosts` of a pod in `namespace` called `pod`: itself, then every service by every name that
/// Kubernetes' DNS knows it by. A headless service is its ready pods.
pub fn hosts(
    services: &[Known<'_>],
    entries: &[&ServiceEntry],
    pods: &[Live<'_>],
    (pod, pod_ip, namespace): (&str, Ipv4Addr, &str),
) -> String {
    let mut text = format!("127.0.0.1 localhost\n{pod_ip} {pod}\n");
    let addresses = addresses(services);
    for known in services {
        let Known { namespace: home, name, service } = known;
        let names = host_names(name, home, namespace);
        if let Some(address) = addresses.get(&(*home, *name)) {
            line(&mut text, *address, &names);
        } else if service.r#type == ServiceType::ExternalName {
            if let Some(address) = external(&service.external_name, &addresses) {
                line(&mut text, address, &names);
            }
        } else {
            headless(&mut text, known, pods, &names);
        }
    }
    for entry in entries {
        let address = entry.addresses.iter().find_map(|a| a.trim_end_matches("/32").parse::<Ipv4Addr>().ok());
        let names: Vec<&str> =
            entry.hosts.iter().map(AsRef::as_ref).filter(|h: &&str| !h.contains('*')).collect();
        if let Some(address) = address
            && !names.is_empty()
        {
            line(&mut text, address, &names.join(" "));
        }
    }
    text
}

fn headless(text: &mut String, known: &Known<'_>, pods: &[Live<'_>], names: &str) {
    let counts = |pod: &&Live<'_>| {
        selects(known, pod.plan)
            && !pod.terminating
            && (pod.ready || known.service.publish_not_ready_addresses)
    };
    for pod in pods.iter().filter(counts) {
        line(text, pod.ip, names);
        if pod.plan.subdomain == known.name {
            let own = &pod.plan.name.name;
            let (service, namespace) = (known.name, known.namespace);
            let names = format!(
                "{own}.{service}.{namespace}.svc.{DOMAIN} {own}.{service}.{namespace}.svc {own}.{service}.{namespace} {own}.{service}"
            );
            line(text, pod.ip, &names);
        }
    }
}

fn line(text: &mut String, address: Ipv4Addr, names: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{address} {names}");
}

/// The address of the service of this mesh that an ExternalName is an alias of.
fn external(host: &str, addresses: &BTreeMap<vip::ServiceName<'_>, Ipv4Addr>) -> Option<Ipv4Addr> {
    let rest = host.trim_end_matches('.').strip_suffix(DOMAIN)?.strip_suffix(".svc.")?;
    let (name, namespace) = rest.split_once('.')?;
    addresses.get(&(namespace, name)).copied()
}

fn host_names(name: &str, home: &str, from: &str) -> String {
    let mut names = format!("{name}.{home}.svc.{DOMAIN} {name}.{home}.svc {name}.{home}");
    if home == from {
        let _ = write!(names, " {name}");
    }
    names
}

/// Where the way in from outside leads: the HTTP port of the first service that selects a gateway, at its
/// ready pods.
pub fn ingress_backends(services: &[Known<'_>], pods: &[Live<'_>]) -> Vec<(Ipv4Addr, u16)> {
    let gateways: Vec<&Live<'_>> = pods.iter().filter(|pod| pod.plan.proxy == Proxy::Gateway).collect();
    let leads_in = |known: &&Known<'_>| {
        !known.service.selector.is_empty() && gateways.iter().any(|pod| selects(known, pod.plan))
    };
    let Some(known) = services.iter().find(leads_in) else { return Vec::new() };
    let tcp = || known.service.ports.iter().filter(|port| port.protocol == TransportProtocol::Tcp);
    let Some(port) = tcp().find(|port| port.port == HTTP_PORT).or_else(|| tcp().next()) else {
        return Vec::new();
    };
    let ready = gateways.iter().filter(|pod| pod.ready && !pod.terminating && selects(known, pod.plan));
    ready.filter_map(|pod| Some((pod.ip, target(port, pod.plan)?))).collect()
}
