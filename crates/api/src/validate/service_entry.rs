//! Rules of a ServiceEntry and of a WorkloadEntry.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::decode::At;
use crate::hosts::{HOST, check_labels, is_host, is_partial_wildcard};
use crate::object::Meta;
use crate::service_entry::{LabelsSelector, Resolution, ServiceEntry, WorkloadEntry};
use crate::validate::rules::{self, PROTOCOLS, Protocol, protocol};

/// Istio's schema has lists of no more than this many.
const ITEMS: usize = 256;

pub(super) fn check(at: &At<'_>, meta: &Meta, entry: &ServiceEntry) {
    if let Some(selector) = &entry.workload_selector {
        workload_selector(&at.field("workloadSelector"), selector);
        if !entry.endpoints.is_empty() {
            at.field("endpoints").complain("endpoints beside workloadSelector", "one of them");
        }
    }
    hosts(at, entry);
    for (index, address) in entry.addresses.iter().enumerate() {
        let list = at.field("addresses");
        rules::subnet(&list.item(index), address);
    }
    if entry.addresses.iter().any(|a| a.contains('/'))
        && !matches!(entry.resolution, Resolution::None | Resolution::Static)
    {
        at.field("addresses")
            .complain("a block of addresses", "addresses; blocks for the resolutions NONE, STATIC");
    }
    for (name, length) in [("hosts", entry.hosts.len()), ("addresses", entry.addresses.len())] {
        if length > ITEMS {
            at.field(name).complain(format!("{length} items"), format!("{ITEMS}"));
        }
    }
    ports(at, entry);
    resolution(at, entry);
    several_hosts(at, entry);
    let export = rules::Export { nobody: true, own_only: false };
    rules::export_to(&at.field("exportTo"), meta, &entry.export_to, &export);
}

fn workload_selector(at: &At<'_>, selector: &LabelsSelector) {
    let labels = at.field("labels");
    if selector.labels.is_empty() {
        at.warn("a selector without labels", "labels: it selects the whole namespace");
    }
    for (key, value) in &selector.labels {
        if key.contains('*') || value.contains('*') {
            labels.key(key).complain("a wildcard in a selector", "labels as they are");
        }
    }
    let plain: std::collections::BTreeMap<String, String> = selector
        .labels
        .iter()
        .filter(|(key, value)| !key.contains('*') && !value.contains('*'))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    check_labels(&labels, &plain);
}

fn hosts(at: &At<'_>, entry: &ServiceEntry) {
    let list = at.field("hosts");
    if entry.hosts.is_empty() {
        list.complain("nothing", "at least one host");
    }
    for (index, host) in entry.hosts.iter().enumerate() {
        let item = list.item(index);
        if host == "*" {
            item.refuse("a narrower host: a ServiceEntry cannot be for every host");
            continue;
        }
        rules::wildcard_host(&item, host);
        if is_partial_wildcard(host) {
            item.warn(format!("the partial wildcard {host:?}, which matches nothing"), "*.domain");
        }
    }
}

fn ports(at: &At<'_>, entry: &ServiceEntry) {
    let list = at.field("ports");
    let (mut names, mut numbers) = (BTreeSet::new(), BTreeSet::new());
    for (index, port) in entry.ports.iter().enumerate() {
        let item = list.item(index);
        rules::port(&item.field("number"), port.number);
        rules::port_name(&item.field("name"), &port.name);
        if port.target_port == Some(0) {
            item.field("targetPort").refuse("a port, 1 to 65535");
        }
        if !port.protocol.is_empty() && protocol(&port.protocol).is_none() {
            item.field("protocol").refuse(format!("{PROTOCOLS}, UDP"));
        }
        if !names.insert(&port.name) {
            item.field("name").complain(format!("{:?} for the second time", port.name), "each name once");
        }
        if !numbers.insert(port.number) {
            item.field("number")
                .complain(format!("the port {} for the second time", port.number), "each port once");
        }
    }
}

/// Which endpoints go with which resolution.
fn resolution(at: &At<'_>, entry: &ServiceEntry) {
    let endpoints = at.field("endpoints");
    let names: BTreeSet<&str> = entry.ports.iter().map(|port| port.name.as_str()).collect();
    match entry.resolution {
        Resolution::None | Resolution::DynamicDns => {
            if !entry.endpoints.is_empty() {
                let found = format!("endpoints with the resolution {}", entry.resolution.as_str());
                endpoints.complain(found, "none; or the resolution STATIC, DNS");
            }
            if entry.workload_selector.is_some() {
                at.field("workloadSelector")
                    .warn("a workloadSelector without effect", "the resolution STATIC");
            }
        }
        Resolution::Static => {
            if entry.endpoints.is_empty() && entry.workload_selector.is_none() {
                endpoints.warn("no endpoints for the resolution STATIC", "endpoints or a workloadSelector");
            }
            for (index, endpoint) in entry.endpoints.iter().enumerate() {
                let item = endpoints.item(index);
                check_endpoint(&item, endpoint, Some(&names), false);
            }
        }
        Resolution::Dns | Resolution::DnsRoundRobin => {
            if entry.endpoints.is_empty() && entry.workload_selector.is_none() {
                for (index, host) in entry.hosts.iter().enumerate() {
                    if !is_host(host) {
                        let allowed = "a full DNS name, which can be resolved; or endpoints";
                        at.field("hosts").item(index).refuse(allowed);
                    }
                }
            }
            if entry.resolution == Resolution::DnsRoundRobin && entry.endpoints.len() > 1 {
                endpoints.complain("several endpoints for DNS_ROUND_ROBIN", "one at most");
            }
            for (index, endpoint) in entry.endpoints.iter().enumerate() {
                let item = endpoints.item(index);
                if endpoint.address.starts_with("unix://") || endpoint.address.is_empty() {
                    item.field("address").refuse(format!("{HOST}; an IP address"));
                }
                check_endpoint(&item, endpoint, Some(&names), true);
            }
        }
    }
}

/// Plain TCP does not say which host it is for.
fn several_hosts(at: &At<'_>, entry: &ServiceEntry) {
    if entry.hosts.len() < 2 || entry.resolution == Resolution::None {
        return;
    }
    for (index, port) in entry.ports.iter().enumerate() {
        if !matches!(protocol(&port.protocol), Some(Protocol::Http | Protocol::Tls)) {
            let list = at.field("ports");
            let allowed = "one host, or ports of HTTP and TLS alone, or the resolution NONE";
            list.item(index)
                .complain("a port whose protocol does not name the host, for several hosts", allowed);
            return;
        }
    }
}

pub(super) fn workload_entry(at: &At<'_>, entry: &WorkloadEntry) {
    check_endpoint(at, entry, None, true);
}

/// `ports` are the names a service has, where the service is known.
fn check_endpoint(at: &At<'_>, entry: &WorkloadEntry, ports: Option<&BTreeSet<&str>>, names: bool) {
    let address = at.field("address");
    if let Some(path) = entry.address.strip_prefix("unix://") {
        rules::unix_path(&address, path);
        if !entry.ports.is_empty() {
            at.field("ports").complain("ports of a Unix socket", "no ports");
        }
        if ports.is_some_and(|ports| ports.len() != 1) {
            address.complain("a Unix socket for a service of several ports", "a service of one port");
        }
    } else if entry.address.is_empty() {
        if entry.network.is_empty() {
            address.complain("nothing", "an address; it may be missing where network is set");
        } else {
            address.warn("no address", "an address: without it the network's gateway is used");
        }
    } else if entry.address.parse::<IpAddr>().is_err() && !(names && is_host(&entry.address)) {
        address.refuse(if names {
            format!("an IP address; {HOST}; unix://path")
        } else {
            "an IP address".to_owned()
        });
    }
    let map = at.field("ports");
    for (name, port) in &entry.ports {
        let item = map.key(name);
        if !crate::hosts::is_mixed_label(name) {
            item.complain(
                format!("the port name {}", crate::tree::quoted(name)),
                "letters, digits and -, 63 at most",
            );
        } else if ports.is_some_and(|ports| !ports.contains(name.as_str())) {
            item.complain(format!("the port name {name:?}"), "a name among the ServiceEntry's ports");
        }
        rules::port(&item, *port);
    }
    check_labels(&at.field("labels"), &entry.labels);
}
