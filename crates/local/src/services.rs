//! Services, given the pods that run: their addresses and their endpoints. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ostro_api::kubernetes::{IntOrString, Service, ServicePort, ServiceType, TransportProtocol};
use ostro_api::{Object, Spec};
use ostro_capture::rules::Protocol;
use ostro_capture::services::{Destinations, Virtual};
use ostro_mesh::vip;
use serde_json::{Value, json};

use crate::link;
use crate::plan::PodPlan;

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

impl Live<'_> {
    /// Its address of the same family as `like`.
    fn address(&self, like: IpAddr) -> IpAddr {
        if like.is_ipv6() { link::v6(self.ip).into() } else { self.ip.into() }
    }
}

/// A service and the place it was written at.
pub struct Known<'a> {
    pub(crate) namespace: &'static str,
    pub(crate) name: &'static str,
    pub(crate) service: &'a Service,
}

impl Known<'_> {
    /// Its namespace.
    pub fn namespace(&self) -> &'static str {
        self.namespace
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Its ports that take connections.
    pub fn tcp_ports(&self) -> Vec<u16> {
        let tcp = |port: &&ServicePort| port.protocol == TransportProtocol::Tcp;
        self.service.ports.iter().filter(tcp).map(|port| port.port).collect()
    }
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

/// All addresses of every service that has any, of the families it asks for.
pub fn cluster_ips<'a>(services: &'a [Known<'a>]) -> BTreeMap<vip::ServiceName<'a>, Vec<IpAddr>> {
    let first = addresses(services);
    let all = |known: &Known<'a>| {
        let Known { namespace, name, service } = known;
        let mut all: Vec<IpAddr> = service.cluster_ips.iter().filter_map(|text| text.parse().ok()).collect();
        if let Ok(stated) = service.cluster_ip.parse()
            && !all.contains(&stated)
        {
            all.insert(0, stated);
        }
        if all.is_empty() {
            let given = first.get(&(*namespace, *name))?;
            all = vip::of_families(service, (*given).into());
        }
        Some(((*namespace, *name), all))
    };
    services.iter().filter_map(all).collect()
}

/// What connections to services' addresses lead to, by address, transport and port: the ready pods. Services whose pods
/// are all away lead nowhere, which is told apart from addresses that no service has.
pub fn destinations(services: &[Known<'_>], pods: &[Live<'_>]) -> Destinations {
    let cluster_ips = cluster_ips(services);
    let mut out = Destinations::new();
    for known in services.iter().filter(|known| !known.service.selector.is_empty()) {
        let Some(addresses) = cluster_ips.get(&(known.namespace, known.name)) else { continue };
        for (address, port) in
            addresses.iter().flat_map(|ip| known.service.ports.iter().map(move |p| (ip, p)))
        {
            let pods =
                pods.iter().filter(|pod| selects(known, pod.plan) && takes_requests(pod, known.service));
            let backends =
                pods.filter_map(|pod| Some(SocketAddr::new(pod.address(*address), target(port, pod.plan)?)));
            let protocol = match port.protocol {
                TransportProtocol::Tcp => Protocol::Tcp,
                TransportProtocol::Udp => Protocol::Udp,
                TransportProtocol::Sctp => continue,
            };
            let at = Virtual { address: *address, protocol, port: port.port };
            out.entry(at).or_default().extend(backends);
        }
    }
    out
}

fn takes_requests(pod: &Live<'_>, service: &Service) -> bool {
    (pod.ready || service.publish_not_ready_addresses) && !pod.terminating
}

/// EndpointSlices of every service with a selector, by file name: for each family that the service asks for, and for
/// pods whose ports differ (a port by name), one of its own, as in Kubernetes.
pub fn endpoint_slices(services: &[Known<'_>], pods: &[Live<'_>]) -> BTreeMap<String, Value> {
    let mut slices = BTreeMap::new();
    for known in services {
        let Known { namespace, name, service } = known;
        if service.selector.is_empty() || service.r#type == ServiceType::ExternalName {
            continue;
        }
        let mut groups: BTreeMap<(Family, Vec<Option<u16>>), Vec<Value>> = BTreeMap::new();
        for pod in pods.iter().filter(|pod| selects(known, pod.plan)) {
            let ports: Vec<Option<u16>> = service.ports.iter().map(|port| target(port, pod.plan)).collect();
            for family in families(service) {
                groups.entry((family, ports.clone())).or_default().push(endpoint(pod, family, service));
            }
        }
        for (number, ((family, ports), endpoints)) in (1..).zip(groups) {
            let slice = format!("{name}-{number}");
            let object = json!({
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {
                    "name": slice,
                    "namespace": namespace,
                    "labels": {"kubernetes.io/service-name": name},
                },
                "addressType": family.as_str(),
                "ports": slice_ports(&service.ports, &ports),
                "endpoints": endpoints,
            });
            slices.insert(format!("endpointslice.{namespace}.{slice}.json"), object);
        }
    }
    slices
}

/// As EndpointSlices call them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    /// Whose family is that of an address.
    pub(crate) fn of(address: &IpAddr) -> Self {
        if address.is_ipv6() { Self::V6 } else { Self::V4 }
    }

    fn as_str(self) -> &'static str {
        match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        }
    }
}

/// The families a service asks for, by its addresses if it states them.
pub(crate) fn families(service: &Service) -> BTreeSet<Family> {
    let stated = std::iter::once(&service.cluster_ip).chain(&service.cluster_ips);
    let mut addresses: Vec<IpAddr> = stated.filter_map(|text| text.parse().ok()).collect();
    if addresses.is_empty() {
        addresses = vip::of_families(service, vip::LOCAL_RANGE.addr());
    }
    addresses.iter().map(Family::of).collect()
}

/// Whether a pod is one of a service's.
pub(crate) fn selects(known: &Known<'_>, pod: &PodPlan) -> bool {
    pod.name.namespace == known.namespace
        && known.service.selector.iter().all(|(key, value)| pod.labels.get(key) == Some(value))
}

/// The pod's port behind a service's port; none if it is meant by a name the pod does not have.
pub(crate) fn target(port: &ServicePort, pod: &PodPlan) -> Option<u16> {
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

fn endpoint(pod: &Live<'_>, family: Family, service: &Service) -> Value {
    let serving = pod.ready;
    let ready = (serving || service.publish_not_ready_addresses) && !pod.terminating;
    json!({
        "addresses": [match family {
            Family::V4 => pod.ip.to_string(),
            Family::V6 => link::v6(pod.ip).to_string(),
        }],
        "conditions": {"ready": ready, "serving": serving, "terminating": pod.terminating},
        "nodeName": crate::cluster::NODE,
        "targetRef": {"kind": "Pod", "namespace": pod.plan.name.namespace, "name": pod.plan.name.name},
    })
}

/// Where the way in from outside leads: the HTTP port of the first service that selects a gateway, at its
/// ready pods.
pub fn ingress_backends(services: &[Known<'_>], pods: &[Live<'_>]) -> Vec<(Ipv4Addr, u16)> {
    let gateways: Vec<&Live<'_>> = pods.iter().filter(|pod| pod.plan.proxy.is_gateway()).collect();
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

/// Where a service's port leads from outside: its ready pods' ports.
pub fn backends(
    services: &[Known<'_>],
    pods: &[Live<'_>],
    (namespace, name): (&str, &str),
    port: u16,
) -> Vec<(Ipv4Addr, u16)> {
    let is_meant = |known: &&Known<'_>| known.namespace == namespace && known.name == name;
    let Some(known) = services.iter().find(is_meant).filter(|known| !known.service.selector.is_empty())
    else {
        return Vec::new();
    };
    let tcp = |wanted: &&ServicePort| wanted.protocol == TransportProtocol::Tcp && wanted.port == port;
    let Some(port) = known.service.ports.iter().find(tcp) else { return Vec::new() };
    let ready = pods.iter().filter(|pod| pod.ready && !pod.terminating && selects(known, pod.plan));
    ready.filter_map(|pod| Some((pod.ip, target(port, pod.plan)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::Images;
    use crate::plan::plan;
    use ostro_api::parse_file;

    const YAML: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: main}, {name: raw, port: 90}]
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {clusterIP: None, selector: {app: web}, ports: [{name: tcp, port: 5432}]}
---
apiVersion: v1
kind: Service
metadata: {name: alias, namespace: shop}
spec: {type: ExternalName, externalName: web.shop.svc.cluster.local}
---
apiVersion: v1
kind: Service
metadata: {name: fixed, namespace: other}
spec: {clusterIP: 10.96.7.7, ports: [{port: 1}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: c, image: x, ports: [{name: main, containerPort: 8080}]}
"#;

    fn with_mesh(check: impl FnOnce(&[Known<'_>], &[Live<'_>])) {
        let parsed = parse_file("shop.yaml", YAML.as_bytes());
        assert!(parsed.complaints.is_empty(), "{:?}", parsed.complaints);
        let map = serde_json::json!({"images": [{"match": "x", "program": "x"}]});
        let (pods, _) =
            plan(&parsed.objects, &Images::from_value(map).unwrap(), ostro_agent::DataPlane::Ostro);
        let live: Vec<Live<'_>> = pods
            .values()
            .zip(2..)
            .map(|(plan, host)| Live {
                plan,
                ip: Ipv4Addr::new(10, 244, 0, host),
                ready: host == 2,
                terminating: false,
            })
            .collect();
        check(&services(&parsed.objects), &live);
    }

    #[test]
    fn endpoints_have_the_pods_own_ports_and_readiness() {
        with_mesh(|services, pods| {
            let slices = endpoint_slices(services, pods);
            let names: Vec<&str> = slices.keys().map(String::as_str).collect();
            assert_eq!(names, ["endpointslice.shop.db-1.json", "endpointslice.shop.web-1.json"]);
            let web = &slices["endpointslice.shop.web-1.json"];
            assert_eq!(web["ports"][0]["port"], 8080, "by name, through the container's port");
            assert_eq!(web["ports"][1]["port"], 90);
            let ready: Vec<_> =
                web["endpoints"].as_array().unwrap().iter().map(|e| &e["conditions"]["ready"]).collect();
            assert_eq!(ready, [true, false]);
        });
    }

    #[test]
    fn connections_to_a_service_lead_to_its_ready_pods() {
        with_mesh(|services, pods| {
            let destinations = destinations(services, pods);
            let of = |name: &str, port: u16| -> Vec<String> {
                let address = addresses(services)[&("shop", name)];
                let at = Virtual { address: address.into(), protocol: Protocol::Tcp, port };
                destinations[&at].iter().map(ToString::to_string).collect()
            };
            assert_eq!(of("web", 80), ["10.244.0.2:8080"]);
            assert_eq!(of("web", 90), ["10.244.0.2:90"]);
            assert!(destinations.keys().all(|at| at.port != 5432), "headless services have no address");
            assert!(
                destinations.keys().all(|at| at.port != 1),
                "without a selector others say where it leads"
            );
        });
    }

    #[test]
    fn a_service_of_both_families_has_addresses_and_endpoints_of_both() {
        let yaml = YAML.replace(
            "spec:\n  selector: {app: web}",
            "spec:\n  ipFamilyPolicy: PreferDualStack\n  selector: {app: web}",
        );
        let parsed = parse_file("shop.yaml", yaml.as_bytes());
        let map = serde_json::json!({"images": [{"match": "x", "program": "x"}]});
        let (pods, _) =
            plan(&parsed.objects, &Images::from_value(map).unwrap(), ostro_agent::DataPlane::Ostro);
        let live: Vec<Live<'_>> = pods
            .values()
            .map(|plan| Live { plan, ip: Ipv4Addr::new(10, 244, 0, 9), ready: true, terminating: false })
            .collect();
        let known = services(&parsed.objects);
        let families: Vec<bool> = cluster_ips(&known)[&("shop", "web")].iter().map(IpAddr::is_ipv6).collect();
        assert_eq!(families, [false, true]);
        let slices = endpoint_slices(&known, &live);
        assert_eq!(slices["endpointslice.shop.web-2.json"]["addressType"], "IPv6");
        assert_eq!(slices["endpointslice.shop.web-2.json"]["endpoints"][0]["addresses"][0], "fd00:10:244::9");
        let six =
            destinations(&known, &live).into_iter().find(|(at, _)| at.address.is_ipv6() && at.port == 80);
        assert_eq!(six.unwrap().1[0], "[fd00:10:244::9]:8080".parse().unwrap());
    }

    #[test]
    fn pods_on_their_way_out_take_no_new_requests() {
        with_mesh(|services, pods| {
            let leaving: Vec<Live<'_>> = pods.iter().map(|pod| Live { terminating: true, ..*pod }).collect();
            let slices = endpoint_slices(services, &leaving);
            let conditions = &slices["endpointslice.shop.web-1.json"]["endpoints"][0]["conditions"];
            assert_eq!(*conditions, json!({"ready": false, "serving": true, "terminating": true}));
        });
    }
}
