//! Rules of Kubernetes' kinds, as far as a mesh depends on them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::decode::At;
use crate::hosts::{is_host, is_label};
use crate::kubernetes::{EndpointPort, EndpointSlice, Endpoints, IntOrString, Service, ServiceType};
use crate::validate::rules;
use crate::workload::{Container, Pod, PodSpec, Workload};

pub(super) fn service(at: &At<'_>, service: &Service) {
    let ports = at.field("ports");
    let headless = service.cluster_ip == "None";
    if service.ports.is_empty() && !headless && service.r#type != ServiceType::ExternalName {
        ports.complain("nothing", "at least one port (clusterIP: None and ExternalName need none)");
    }
    if !headless && !service.cluster_ip.is_empty() {
        rules::address(&at.field("clusterIP"), &service.cluster_ip);
    }
    for (index, address) in service.cluster_ips.iter().enumerate().filter(|(_, address)| *address != "None") {
        rules::address(&at.field("clusterIPs").item(index), address);
    }
    for (index, address) in service.external_ips.iter().enumerate() {
        rules::address(&at.field("externalIPs").item(index), address);
    }
    if service.r#type == ServiceType::ExternalName && !is_host(&service.external_name) {
        at.field("externalName").refuse("the DNS name that this service stands for");
    }
    service_ports(&ports, service);
}

fn service_ports(ports: &At<'_>, service: &Service) {
    let (mut names, mut numbers) = (BTreeSet::new(), BTreeSet::new());
    for (index, port) in service.ports.iter().enumerate() {
        let item = ports.item(index);
        rules::port(&item.field("port"), port.port);
        let name = item.field("name");
        if port.name.is_empty() {
            if service.ports.len() > 1 {
                name.complain("nothing", "a name: there are several ports");
            }
        } else if !is_label(&port.name) {
            name.refuse("a DNS label: lower case letters, digits and -, 63 at most");
        } else if !names.insert(&port.name) {
            // An API server refuses this, Istio does not: the first port of a name is the one meant.
            name.warn(format!("{:?} for the second time", port.name), "each name once");
        }
        if !numbers.insert((port.port, port.protocol)) {
            let found = format!("{} port {} for the second time", port.protocol.as_str(), port.port);
            item.field("port").complain(found, "each port once per protocol");
        }
        if let Some(target) = &port.target_port {
            int_or_string(&item.field("targetPort"), target);
        }
    }
}

fn int_or_string(at: &At<'_>, port: &IntOrString) {
    let good = match port {
        IntOrString::Int(number) => *number != 0,
        IntOrString::String(name) => is_label(name) && name.len() <= 15,
    };
    if !good {
        at.refuse("1 to 65535, or the name of a container's port (15 letters, digits and - at most)");
    }
}

pub(super) fn endpoint_slice(at: &At<'_>, slice: &EndpointSlice) {
    // An API server requires the type; files that never met one may leave it out.
    if !matches!(slice.address_type.as_str(), "" | "IPv4" | "IPv6" | "FQDN") {
        at.field("addressType").refuse("IPv4, IPv6, FQDN");
        return;
    }
    let endpoints = at.field("endpoints");
    for (index, endpoint) in slice.endpoints.iter().enumerate() {
        let item = endpoints.item(index);
        let addresses = item.field("addresses");
        if endpoint.addresses.is_empty() {
            addresses.complain("nothing", "an address");
        }
        for (index, address) in endpoint.addresses.iter().enumerate() {
            let good = match slice.address_type.as_str() {
                "IPv4" => address.parse::<IpAddr>().is_ok_and(|address| address.is_ipv4()),
                "IPv6" => address.parse::<IpAddr>().is_ok_and(|address| address.is_ipv6()),
                "FQDN" => is_host(address),
                _ => address.parse::<IpAddr>().is_ok(),
            };
            if !good {
                addresses.item(index).refuse(format!("an address {}", slice.address_type).trim_end());
            }
        }
    }
    endpoint_ports(&at.field("ports"), &slice.ports);
}

fn endpoint_ports(at: &At<'_>, ports: &[EndpointPort]) {
    for (index, port) in ports.iter().enumerate() {
        if port.port == Some(0) {
            at.item(index).field("port").refuse("a port, 1 to 65535");
        }
    }
}

pub(super) fn endpoints(at: &At<'_>, endpoints: &Endpoints) {
    let subsets = at.field("subsets");
    for (index, subset) in endpoints.subsets.iter().enumerate() {
        let item = subsets.item(index);
        for (field, addresses) in
            [("addresses", &subset.addresses), ("notReadyAddresses", &subset.not_ready_addresses)]
        {
            let list = item.field(field);
            for (index, address) in addresses.iter().enumerate() {
                rules::address(&list.item(index).field("ip"), &address.ip);
            }
        }
        endpoint_ports(&item.field("ports"), &subset.ports);
    }
}

pub(super) fn pod(at: &At<'_>, pod: &Pod) {
    pod_spec(&at.field("spec"), &pod.spec);
    let status = at.field("status");
    if !pod.status.pod_ip.is_empty() {
        rules::address(&status.field("podIP"), &pod.status.pod_ip);
    }
    for (index, address) in pod.status.pod_ips.iter().enumerate() {
        let list = status.field("podIPs");
        rules::address(&list.item(index).field("ip"), &address.ip);
    }
}

pub(super) fn workload(at: &At<'_>, workload: &Workload) {
    let template = at.field("template");
    pod_spec(&template.field("spec"), &workload.template.spec);
    let metadata = template.field("metadata");
    let labels = &workload.template.metadata.labels;
    crate::hosts::check_labels(&metadata.field("labels"), labels);
    for (key, value) in &workload.selector.match_labels {
        if labels.get(key) != Some(value) {
            let wanted = at.field("selector");
            let wanted = wanted.field("matchLabels");
            wanted.key(key).complain(
                format!("{value:?}, which the template's labels do not have"),
                "the template's labels",
            );
        }
    }
}

fn pod_spec(at: &At<'_>, spec: &PodSpec) {
    for (field, containers) in [("containers", &spec.containers), ("initContainers", &spec.init_containers)] {
        let list = at.field(field);
        for (index, container) in containers.iter().enumerate() {
            container_ports(&list.item(index), container);
        }
    }
}

fn container_ports(at: &At<'_>, container: &Container) {
    let list = at.field("ports");
    for (index, port) in container.ports.iter().enumerate() {
        rules::port(&list.item(index).field("containerPort"), port.container_port);
    }
}
