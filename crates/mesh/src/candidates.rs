//! Where endpoints come from: EndpointSlices, Endpoints, WorkloadEntries, Pods, and names to be resolved.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ostro_api::kubernetes::{self, EndpointAddress as ListedAddress, IntOrString, ObjectReference};
use ostro_api::service_entry::{ServiceEntry, ServiceEntryPort, WorkloadEntry};
use ostro_api::{Kind, Meta, Object, ObjectKey, Spec};
use ostro_names::{Name, Namespace};

use crate::endpoints::{Candidate, Lookup};
use crate::model::{EndpointAddress, Locality, Protocol, Resolution, Service};
use crate::objects::Objects;
use crate::workloads::{self, Workload};

/// The endpoints that are the same for all hosts of an object, in a fixed order.
pub(crate) fn shared(
    object: &Object,
    service: &Service,
    objects: &Objects,
    lookups: &mut BTreeSet<Lookup>,
) -> Vec<Candidate> {
    match &object.spec {
        Spec::Service(_) if matches!(service.resolution, Resolution::Alias(_)) => Vec::new(),
        Spec::Service(spec) => of_service(&object.meta, spec, service, objects, lookups),
        Spec::ServiceEntry(spec) => of_entry(&object.meta, spec, service, objects, lookups),
        _ => Vec::new(),
    }
}

/// The host as its own endpoint, where a ServiceEntry names none and leaves it to DNS.
pub(crate) fn host_itself(object: &Object, service: &Service) -> Vec<Candidate> {
    let Spec::ServiceEntry(spec) = &object.spec else { return Vec::new() };
    let resolved = matches!(service.resolution, Resolution::Dns | Resolution::DnsRoundRobin);
    if !resolved || !spec.endpoints.is_empty() || spec.workload_selector.is_some() {
        return Vec::new();
    }
    let host = service.host.as_str();
    if host.starts_with('*') {
        return Vec::new();
    }
    let candidate = |(port, number)| Candidate {
        port,
        address: host.parse().map_or_else(|_| EndpointAddress::Dns(host.to_owned()), EndpointAddress::Ip),
        number,
        ready: true,
        weight: 1,
        locality: Arc::default(),
        workload: None,
    };
    entry_ports(spec, service, &BTreeMap::new()).map(candidate).collect()
}

// Kubernetes.

/// An address of a Service with the port that it serves: (index of the service port, address, port).
type Place = (usize, IpAddr, u16);

fn of_service(
    meta: &Meta,
    spec: &kubernetes::Service,
    service: &Service,
    objects: &Objects,
    lookups: &mut BTreeSet<Lookup>,
) -> Vec<Candidate> {
    let mut finder = Finder { namespace: meta.namespace, objects, lookups };
    let mut places: BTreeMap<Place, Candidate> = BTreeMap::new();
    let mut slices = objects.slices(meta.namespace, meta.name).peekable();
    if slices.peek().is_some() {
        for slice in slices {
            if let Spec::EndpointSlice(slice) = &slice.spec {
                of_slice(slice, service, &mut finder, &mut places);
            }
        }
    } else {
        let key = ObjectKey { kind: Kind::Endpoints, namespace: meta.namespace, name: meta.name };
        if let Some(Spec::Endpoints(listed)) = objects.get(&key).map(|object| &object.spec) {
            of_endpoints(listed, service, &mut finder, &mut places);
        }
    }
    of_selected_entries(meta, spec, service, objects, &mut places);
    places.into_values().collect()
}

/// Adds a candidate. An address can be in two slices while it moves from one to the other: ready in one is ready.
fn add(places: &mut BTreeMap<Place, Candidate>, address: IpAddr, candidate: Candidate) {
    let place = (candidate.port, address, candidate.number);
    if places.get(&place).is_none_or(|known| !known.ready && candidate.ready) {
        places.insert(place, candidate);
    }
}

/// An address as an EndpointSlice or Endpoints lists it.
struct Listed {
    address: IpAddr,
    ready: bool,
    locality: Arc<Locality>,
    workload: Option<Arc<Workload>>,
}

/// Adds a listed address for every service port that is listed beside it.
fn add_listed(
    places: &mut BTreeMap<Place, Candidate>,
    ports: &[kubernetes::EndpointPort],
    service: &Service,
    listed: &Listed,
) {
    for (port, number) in matching(ports, service) {
        let candidate = Candidate {
            port,
            address: EndpointAddress::Ip(listed.address),
            number,
            ready: listed.ready,
            weight: 1,
            locality: listed.locality.clone(),
            workload: listed.workload.clone(),
        };
        add(places, listed.address, candidate);
    }
}

fn of_slice(
    slice: &kubernetes::EndpointSlice,
    service: &Service,
    finder: &mut Finder<'_>,
    places: &mut BTreeMap<Place, Candidate>,
) {
    for endpoint in &slice.endpoints {
        // "Interchangeable; consumers use the first." A name (address type FQDN) is not an address, and left out.
        let Some(Ok(address)) = endpoint.addresses.first().map(|text| text.parse()) else { continue };
        let workload = finder.workload(endpoint.target_ref.as_ref(), address);
        let locality = finder.locality(workload.as_deref(), &endpoint.node_name, &endpoint.zone);
        let ready = endpoint.conditions.ready.unwrap_or(true);
        add_listed(places, &slice.ports, service, &Listed { address, ready, locality, workload });
    }
}

fn of_endpoints(
    listed: &kubernetes::Endpoints,
    service: &Service,
    finder: &mut Finder<'_>,
    places: &mut BTreeMap<Place, Candidate>,
) {
    for subset in &listed.subsets {
        let ready = subset.addresses.iter().map(|address| (address, true));
        let unready = subset.not_ready_addresses.iter().map(|address| (address, false));
        for (ListedAddress { ip, node_name, target_ref, .. }, ready) in ready.chain(unready) {
            let Ok(address) = ip.parse() else { continue };
            let workload = finder.workload(target_ref.as_ref(), address);
            let locality = finder.locality(workload.as_deref(), node_name, "");
            add_listed(places, &subset.ports, service, &Listed { address, ready, locality, workload });
        }
    }
}

/// The service ports that are served, by name: (index of the service port, port at the endpoint).
fn matching<'a>(
    listed: &'a [kubernetes::EndpointPort],
    service: &'a Service,
) -> impl Iterator<Item = (usize, u16)> + 'a {
    let carried = |(index, port): (usize, &'a crate::model::ServicePort)| {
        let tcp = |listed: &&kubernetes::EndpointPort| listed.protocol == kubernetes::TransportProtocol::Tcp;
        let served = listed.iter().filter(tcp).find(|listed| port.name == listed.name.as_str())?;
        (port.protocol != Protocol::Udp).then_some((index, served.port?))
    };
    service.ports.iter().enumerate().filter_map(carried)
}

/// WorkloadEntries that a Service's selector picks, as if they were pods.
fn of_selected_entries(
    meta: &Meta,
    spec: &kubernetes::Service,
    service: &Service,
    objects: &Objects,
    places: &mut BTreeMap<Place, Candidate>,
) {
    if spec.selector.is_empty() {
        return;
    }
    for (key, workload) in objects.selected(meta.namespace, &spec.selector) {
        let Some(Spec::WorkloadEntry(entry)) = objects.get(key).map(|object| &object.spec) else { continue };
        let Ok(address) = entry.address.parse() else { continue };
        for (index, port) in service.ports.iter().enumerate() {
            let Some(written) = spec.ports.get(index).filter(|_| port.protocol != Protocol::Udp) else {
                continue;
            };
            let named = entry.ports.get(port.name.as_str()).copied();
            let number = named.unwrap_or(match written.target_port {
                Some(IntOrString::Int(number)) => number,
                _ => port.number,
            });
            add(
                places,
                address,
                entry_candidate(index, EndpointAddress::Ip(address), number, entry, workload),
            );
        }
    }
}

/// Finds workloads and places, and notes what was looked up.
struct Finder<'a> {
    namespace: Namespace,
    objects: &'a Objects,
    lookups: &'a mut BTreeSet<Lookup>,
}

impl Finder<'_> {
    /// The pod that is referred to, else the one with the address.
    fn workload(&mut self, target: Option<&ObjectReference>, address: IpAddr) -> Option<Arc<Workload>> {
        if let Some(target) = target.filter(|target| target.kind == "Pod") {
            let name = Name::try_new(&target.name).ok()?;
            let namespace = match target.namespace.as_str() {
                "" => self.namespace,
                namespace => Namespace::try_new(namespace).ok()?,
            };
            let key = ObjectKey { kind: Kind::Pod, namespace, name };
            self.lookups.insert(Lookup::Pod(key));
            return self.objects.workload(&key).cloned();
        }
        self.lookups.insert(Lookup::PodAt(address));
        self.objects.workload_at(address).cloned()
    }

    /// Where the workload says it is, else where its node is, else the zone its endpoint names.
    fn locality(&mut self, workload: Option<&Workload>, node: &str, zone: &str) -> Arc<Locality> {
        if let Some(own) = workload.and_then(|workload| workload.locality.clone()) {
            return own;
        }
        let node = Name::try_new(node).ok().filter(|node| !node.is_empty());
        if let Some(node) = node.or_else(|| workload.and_then(|workload| workload.node)) {
            self.lookups.insert(Lookup::Node(node));
            if let Some(locality) = self.objects.node(node) {
                return locality.clone();
            }
        }
        Arc::new(Locality { zone: zone.to_owned(), ..Locality::default() })
    }
}

// ServiceEntries.

fn of_entry(
    meta: &Meta,
    spec: &ServiceEntry,
    service: &Service,
    objects: &Objects,
    lookups: &mut BTreeSet<Lookup>,
) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    for entry in &spec.endpoints {
        let workload = Arc::new(workloads::of_entry(meta, entry, entry.labels.clone()));
        candidates.extend(of_workload_entry(spec, service, entry, &workload));
    }
    let Some(selector) = &spec.workload_selector else { return candidates };
    let mut finder = Finder { namespace: meta.namespace, objects, lookups };
    for (key, workload) in objects.selected(meta.namespace, &selector.labels) {
        match objects.get(key).map(|object| &object.spec) {
            Some(Spec::WorkloadEntry(entry)) => {
                candidates.extend(of_workload_entry(spec, service, entry, workload));
            }
            Some(Spec::Pod(_)) => candidates.extend(of_selected_pod(spec, service, workload, &mut finder)),
            _ => {}
        }
    }
    candidates
}

fn of_workload_entry(
    spec: &ServiceEntry,
    service: &Service,
    entry: &WorkloadEntry,
    workload: &Arc<Workload>,
) -> Vec<Candidate> {
    let Some(address) = endpoint_address(&entry.address) else { return Vec::new() };
    let unix = matches!(address, EndpointAddress::Unix(_));
    entry_ports(spec, service, &entry.ports)
        .map(|(port, number)| {
            entry_candidate(port, address.clone(), if unix { 0 } else { number }, entry, workload)
        })
        .collect()
}

fn entry_candidate(
    port: usize,
    address: EndpointAddress,
    number: u16,
    entry: &WorkloadEntry,
    workload: &Arc<Workload>,
) -> Candidate {
    Candidate {
        port,
        address,
        number,
        ready: workload.ready,
        weight: entry.weight,
        locality: workload.locality.clone().unwrap_or_default(),
        workload: Some(workload.clone()),
    }
}

fn of_selected_pod(
    spec: &ServiceEntry,
    service: &Service,
    workload: &Arc<Workload>,
    finder: &mut Finder<'_>,
) -> Vec<Candidate> {
    let Some(address) = workload.pod_addresses.first() else { return Vec::new() };
    let locality = finder.locality(Some(workload), "", "");
    let candidate = |(port, number)| Candidate {
        port,
        address: EndpointAddress::Ip(*address),
        number,
        ready: workload.ready,
        weight: 1,
        locality: locality.clone(),
        workload: Some(workload.clone()),
    };
    entry_ports(spec, service, &BTreeMap::new()).map(candidate).collect()
}

/// (Index of the service port, port at the endpoint): as the endpoint says, else the service's target port.
fn entry_ports<'a>(
    spec: &'a ServiceEntry,
    service: &'a Service,
    own: &'a BTreeMap<String, u16>,
) -> impl Iterator<Item = (usize, u16)> + 'a {
    let number = |(index, port): (usize, &'a ServiceEntryPort)| {
        let carried = service.ports.get(index)?.protocol != Protocol::Udp;
        carried.then(|| (index, own.get(&port.name).copied().or(port.target_port).unwrap_or(port.number)))
    };
    spec.ports.iter().enumerate().filter_map(number)
}

fn endpoint_address(text: &str) -> Option<EndpointAddress> {
    if text.is_empty() {
        return None;
    }
    if let Some(path) = text.strip_prefix("unix://") {
        return Some(EndpointAddress::Unix(path.to_owned()));
    }
    Some(text.parse().map_or_else(|_| EndpointAddress::Dns(text.to_owned()), EndpointAddress::Ip))
}
