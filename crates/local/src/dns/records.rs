//! A zone from services, pods and ServiceEntries: Kubernetes' DNS specification, and Istio's name table.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hickory_proto::rr::rdata::SRV;
use hickory_proto::rr::{LowerName, Name};
use ostro_api::kubernetes::{EndpointPort, Service, ServicePort, ServiceType, TransportProtocol};
use ostro_api::service_entry::ServiceEntry;
use ostro_api::{Object, Spec};

use super::zone::{Entry, Node, Resident, Zone};
use crate::link;
use crate::services::{self, DOMAIN, Family, Known, Live};

/// The version of the specification, as it is to be told.
const SPECIFICATION: &str = "1.1.0";
/// Which service an EndpointSlice is of.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";
/// Weight of every server of a service; they are equal.
const WEIGHT: u16 = 100;

/// Everything that the mesh has names for; `dual` says that there are IPv6 addresses. Pure.
pub fn zone<'a>(
    objects: impl IntoIterator<Item = &'a Object> + Clone,
    pods: &[Live<'_>],
    dual: bool,
) -> Zone {
    let mut zone = Zone::default();
    let pods: Vec<Homed<'_>> =
        pods.iter().map(|pod| Homed { pod, addresses: addresses_of(pod, dual) }).collect();
    let known = services::services(objects.clone());
    let addresses = services::cluster_ips(&known);
    zone.node(DOMAIN);
    zone.node(&format!("dns-version.{DOMAIN}")).text = Some(SPECIFICATION);
    for known in &known {
        match addresses.get(&(known.namespace, known.name)) {
            _ if known.service.r#type == ServiceType::ExternalName => zone.alias(known),
            Some(addresses) => {
                let there = |address: &&IpAddr| dual || address.is_ipv4();
                zone.service(known, addresses.iter().filter(there).copied().collect());
            }
            None => zone.headless(known, &endpoints(known, objects.clone(), &pods)),
        }
    }
    for pod in &pods {
        zone.pod(pod);
    }
    let automatic = ostro_mesh::automatic_addresses(objects.clone());
    for object in objects {
        if let Spec::ServiceEntry(entry) = &object.spec {
            zone.declare(object, entry, &automatic);
        }
    }
    zone
}

/// A pod and its addresses.
struct Homed<'a> {
    pod: &'a Live<'a>,
    addresses: Vec<IpAddr>,
}

fn addresses_of(pod: &Live<'_>, dual: bool) -> Vec<IpAddr> {
    let second = dual.then_some(IpAddr::V6(link::v6(pod.ip)));
    [IpAddr::V4(pod.ip)].into_iter().chain(second).collect()
}

/// One endpoint of a headless service.
struct Endpoint {
    addresses: Vec<IpAddr>,
    /// Empty: it has none, and is named by its address.
    hostname: String,
    /// Name, protocol, number.
    ports: Vec<(String, TransportProtocol, u16)>,
}

/// The endpoints a headless service tells of.
fn endpoints<'a>(
    known: &Known<'_>,
    objects: impl IntoIterator<Item = &'a Object>,
    pods: &[Homed<'_>],
) -> Vec<Endpoint> {
    if known.service.selector.is_empty() {
        return objects.into_iter().flat_map(|object| written_endpoints(known, object)).collect();
    }
    let counts = |Homed { pod, .. }: &&Homed<'_>| {
        let ready = pod.ready || known.service.publish_not_ready_addresses;
        services::selects(known, pod.plan) && ready && !pod.terminating
    };
    let port = |port: &ServicePort, pod: &Live<'_>| {
        Some((port.name.clone(), port.protocol, services::target(port, pod.plan)?))
    };
    let endpoint = |Homed { pod, addresses }: &Homed<'_>| Endpoint {
        addresses: in_families(known.service, addresses),
        hostname: if pod.plan.subdomain == known.name { pod.plan.hostname.clone() } else { String::new() },
        ports: known.service.ports.iter().filter_map(|p| port(p, pod)).collect(),
    };
    pods.iter().filter(counts).map(endpoint).collect()
}

/// Of a service without selector: endpoints that the user wrote.
fn written_endpoints(known: &Known<'_>, object: &Object) -> Vec<Endpoint> {
    if object.meta.namespace.as_str() != known.namespace {
        return Vec::new();
    }
    let port = |port: &EndpointPort| Some((port.name.clone(), port.protocol, port.port?));
    match &object.spec {
        Spec::EndpointSlice(slice)
            if object.meta.labels.get(SERVICE_LABEL).is_some_and(|s| s == known.name) =>
        {
            let ready = slice.endpoints.iter().filter(|endpoint| {
                known.service.publish_not_ready_addresses || endpoint.conditions.ready.unwrap_or(true)
            });
            let endpoint = |endpoint: &ostro_api::kubernetes::Endpoint| Endpoint {
                addresses: endpoint.addresses.iter().filter_map(|a| a.parse().ok()).collect(),
                hostname: endpoint.hostname.clone(),
                ports: slice.ports.iter().filter_map(port).collect(),
            };
            ready.map(endpoint).collect()
        }
        Spec::Endpoints(endpoints) if object.meta.name.as_str() == known.name => {
            let of = |subset: &ostro_api::kubernetes::EndpointSubset| {
                let unready =
                    subset.not_ready_addresses.iter().filter(|_| known.service.publish_not_ready_addresses);
                let ports: Vec<_> = subset.ports.iter().filter_map(port).collect();
                let endpoint = |address: &ostro_api::kubernetes::EndpointAddress| Endpoint {
                    addresses: address.ip.parse().into_iter().collect(),
                    hostname: address.hostname.clone(),
                    ports: ports.clone(),
                };
                subset.addresses.iter().chain(unready).map(endpoint).collect::<Vec<_>>()
            };
            endpoints.subsets.iter().flat_map(of).collect()
        }
        _ => Vec::new(),
    }
}

/// Those addresses that are of a service's families.
fn in_families(service: &Service, addresses: &[IpAddr]) -> Vec<IpAddr> {
    let families = services::families(service);
    addresses.iter().filter(|address| families.contains(&Family::of(address))).copied().collect()
}

/// What stands in a name for an address.
fn dashed(address: IpAddr) -> String {
    address.to_string().replace(['.', ':'], "-")
}

/// Absolute, without its last dot; none if it cannot be a name.
fn name(text: &str) -> Option<Name> {
    Name::from_ascii(format!("{}.", text.trim_end_matches('.'))).ok()
}

impl Zone {
    /// The node of a name; a name that cannot be one gets a node that nobody finds.
    fn node(&mut self, text: &str) -> &mut Node {
        self.names.entry(LowerName::new(&name(text).unwrap_or_default())).or_default()
    }

    fn pointer(&mut self, address: IpAddr, text: &str) {
        if let Some(name) = name(text) {
            self.pointers.entry(address).or_default().insert(name);
        }
    }

    fn alias(&mut self, known: &Known<'_>) {
        let alias = name(&known.service.external_name);
        self.node(&host(known)).alias = alias;
    }

    /// A service with addresses of its own.
    fn service(&mut self, known: &Known<'_>, addresses: Vec<IpAddr>) {
        let host = host(known);
        self.node(&host).addresses.extend(&addresses);
        for address in addresses {
            self.pointer(address, &host);
        }
        for port in &known.service.ports {
            self.server(&host, (&port.name, port.protocol, port.port), &host);
        }
    }

    /// A service that is its endpoints.
    fn headless(&mut self, known: &Known<'_>, endpoints: &[Endpoint]) {
        let host = host(known);
        self.node(&host);
        for endpoint in endpoints {
            let Some(first) = endpoint.addresses.first() else { continue };
            let label = match endpoint.hostname.as_str() {
                "" => dashed(*first),
                hostname => hostname.to_owned(),
            };
            let own = format!("{label}.{host}");
            self.node(&host).addresses.extend(&endpoint.addresses);
            self.node(&own).addresses.extend(&endpoint.addresses);
            for address in &endpoint.addresses {
                self.pointer(*address, &own);
            }
            for (name, protocol, port) in &endpoint.ports {
                self.server(&host, (name, *protocol, *port), &own);
            }
        }
    }

    /// `_port._protocol.host` leads to `target`; ports without a name have no such record.
    fn server(&mut self, host: &str, (port, protocol, number): (&str, TransportProtocol, u16), target: &str) {
        if port.is_empty() {
            return;
        }
        let Some(target) = name(target) else { return };
        let protocol = protocol.as_str().to_ascii_lowercase();
        let server = SRV::new(0, WEIGHT, number, target);
        let servers = &mut self.node(&format!("_{port}._{protocol}.{host}")).servers;
        if !servers.contains(&server) {
            servers.push(server);
        }
    }

    /// A pod by its address: what it is called, who it is that asks, and, failing any other name, whose
    /// address it is.
    fn pod(&mut self, Homed { pod, addresses }: &Homed<'_>) {
        let namespace = &pod.plan.name.namespace;
        for address in addresses.iter().copied() {
            let text = format!("{}.{namespace}.pod.{DOMAIN}", dashed(address));
            self.node(&text).addresses.insert(address);
            if !self.pointers.contains_key(&address) {
                self.pointer(address, &text);
            }
            let sidecar = pod.plan.proxy.is_sidecar();
            self.residents.insert(address, Resident { namespace: namespace.clone(), sidecar });
        }
    }

    /// The hosts of a ServiceEntry: at the addresses it states, else at the automatic one.
    fn declare(
        &mut self,
        object: &Object,
        entry: &ServiceEntry,
        automatic: &BTreeMap<(&'static str, &'static str), IpAddr>,
    ) {
        let namespace = object.meta.namespace.as_str();
        let stated: BTreeSet<IpAddr> = entry.addresses.iter().filter_map(|text| single(text)).collect();
        for host in &entry.hosts {
            let mut addresses = stated.clone();
            if entry.addresses.is_empty() {
                addresses.extend(automatic.get(&(namespace, host.as_str())));
            }
            let Some(name) = name(host).filter(|_| !addresses.is_empty()) else { continue };
            let entry = Entry { namespace, export_to: entry.export_to.clone(), addresses };
            self.entries.entry(LowerName::new(&name)).or_default().push(entry);
        }
    }
}

/// An address, or a block of one.
fn single(text: &str) -> Option<IpAddr> {
    let block = |text: &str| text.parse::<ipnet::IpNet>().ok();
    let whole = |block: &ipnet::IpNet| block.prefix_len() == block.max_prefix_len();
    text.parse().ok().or_else(|| block(text).filter(whole).map(|block| block.addr()))
}

fn host(known: &Known<'_>) -> String {
    format!("{}.{}.svc.{DOMAIN}", known.name, known.namespace)
}
