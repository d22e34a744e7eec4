//! Rules of a VirtualService, but for its HTTP rules.

use crate::decode::At;
use crate::hosts::{is_subset, is_wildcard_host, overlap};
use crate::object::Meta;
use crate::validate::http_route::{self, Owner};
use crate::validate::rules;
use crate::virtual_service::{
    Destination, L4MatchAttributes, RouteDestination, TcpRoute, TlsMatchAttributes, TlsRoute, VirtualService,
};
use std::collections::BTreeSet;
use std::net::IpAddr;

pub(super) fn check(at: &At<'_>, meta: &Meta, service: &VirtualService) {
    // Without hosts it is a delegate: others go on in it.
    let owner = if service.hosts.is_empty() {
        Owner::Delegate
    } else if service.gateways.is_empty() || service.gateways.iter().any(|name| name == "mesh") {
        Owner::Mesh
    } else {
        Owner::Gateways
    };
    if owner == Owner::Delegate {
        for name in ["gateways", "tls", "tcp"] {
            let field = at.field(name);
            if field.len() > 0 {
                field.complain(
                    format!("{name} in a VirtualService without hosts"),
                    "hosts; a delegate has http only",
                );
            }
        }
    }
    if service.http.is_empty() && service.tls.is_empty() && service.tcp.is_empty() {
        at.complain("no rule", "http, tls or tcp");
    }
    hosts(at, service, owner);
    rules::gateways(&at.field("gateways"), &service.gateways);
    let export = rules::Export { nobody: false, own_only: false };
    rules::export_to(&at.field("exportTo"), meta, &service.export_to, &export);
    for (index, route) in service.http.iter().enumerate() {
        http_route::check(&at.field("http").item(index), route, owner);
    }
    for (index, route) in service.tls.iter().enumerate() {
        tls_route(&at.field("tls").item(index), route, service, owner);
    }
    for (index, route) in service.tcp.iter().enumerate() {
        tcp_route(&at.field("tcp").item(index), route);
    }
}

fn hosts(at: &At<'_>, service: &VirtualService, owner: Owner) {
    let list = at.field("hosts");
    let by_name = service.tls.iter().flat_map(|route| &route.r#match).any(|m| !m.sni_hosts.is_empty());
    let mut all_good = true;
    for (index, host) in service.hosts.iter().enumerate() {
        let item = list.item(index);
        let encoded = owner == Owner::Gateways && by_name && is_encoded(host);
        if host == "*" && owner == Owner::Mesh {
            item.refuse("a narrower host: rules of the mesh do not apply to every host");
            all_good = false;
        } else if !encoded && !is_wildcard_host(host) && host.parse::<IpAddr>().is_err() {
            item.refuse(format!("{}; a * in front; an IP address", crate::hosts::HOST));
            all_good = false;
        }
    }
    if all_good {
        duplicate_hosts(&list, &service.hosts);
    }
}

/// Hosts a wildcard is compared with, and wildcards a host is; past it only equal hosts are found.
const HOSTS_COMPARED: usize = 256;

/// Two hosts of which one covers the other are duplicates too: `*.com` and `*.foo.com`.
fn duplicate_hosts(list: &At<'_>, hosts: &[String]) {
    let mut seen = BTreeSet::new();
    let mut wildcards: Vec<&String> = Vec::new();
    for (index, host) in hosts.iter().enumerate() {
        // Without a wildcard on either side, only equal hosts overlap.
        let covers = |earlier: &&String| overlap(earlier, host);
        let earlier = if !seen.insert(host) {
            Some(host)
        } else if host.starts_with('*') {
            hosts.iter().take(index.min(HOSTS_COMPARED)).find(covers)
        } else {
            wildcards.iter().copied().find(covers)
        };
        if let Some(earlier) = earlier {
            let found = format!("{host:?}, a duplicate of {earlier:?}");
            list.item(index).complain(found, "hosts of which none covers another");
        }
        if host.starts_with('*') && wildcards.len() < HOSTS_COMPARED {
            wildcards.push(host);
        }
    }
}

/// A server name that Istio makes for AUTO_PASSTHROUGH: `outbound_.80_._.host`.
fn is_encoded(host: &str) -> bool {
    let mut parts = host.split('_');
    let (direction, port, _, name) = (parts.next(), parts.next(), parts.next(), parts.next());
    direction == Some("outbound")
        && port.is_some_and(|port| port.contains(|c: char| c.is_ascii_digit()))
        && name.is_some_and(|name| name.contains(|c: char| c.is_ascii_alphabetic()))
}

fn tls_route(at: &At<'_>, route: &TlsRoute, service: &VirtualService, owner: Owner) {
    if route.r#match.is_empty() {
        at.field("match").complain("nothing", "at least one match");
    }
    for (index, matches) in route.r#match.iter().enumerate() {
        tls_match(&at.field("match").item(index), matches, service, owner);
    }
    destinations(&at.field("route"), &route.route);
}

fn tls_match(at: &At<'_>, matches: &TlsMatchAttributes, service: &VirtualService, owner: Owner) {
    let names = at.field("sniHosts");
    if matches.sni_hosts.is_empty() {
        names.complain("nothing", "at least one server name");
    }
    for (index, name) in matches.sni_hosts.iter().enumerate() {
        let item = names.item(index);
        if name.parse::<IpAddr>().is_ok() {
            item.warn(
                format!("the address {name}"),
                "a name: most clients send no server name for an address",
            );
        } else if !(is_wildcard_host(name) || (owner == Owner::Gateways && is_encoded(name))) {
            item.refuse(format!("{}; a * in front", crate::hosts::HOST));
        } else if !service.hosts.iter().any(|host| is_subset(name, host)) {
            item.refuse("a name that one of the VirtualService's hosts covers");
        }
    }
    subnets(&at.field("destinationSubnets"), &matches.destination_subnets);
    crate::hosts::check_labels(&at.field("sourceLabels"), &matches.source_labels);
    rules::gateways(&at.field("gateways"), &matches.gateways);
}

fn tcp_route(at: &At<'_>, route: &TcpRoute) {
    for (index, matches) in route.r#match.iter().enumerate() {
        tcp_match(&at.field("match").item(index), matches);
    }
    destinations(&at.field("route"), &route.route);
}

fn tcp_match(at: &At<'_>, matches: &L4MatchAttributes) {
    subnets(&at.field("destinationSubnets"), &matches.destination_subnets);
    crate::hosts::check_labels(&at.field("sourceLabels"), &matches.source_labels);
    rules::gateways(&at.field("gateways"), &matches.gateways);
}

fn subnets(at: &At<'_>, subnets: &[String]) {
    for (index, subnet) in subnets.iter().enumerate() {
        rules::subnet(&at.item(index), subnet);
    }
}

fn destinations(at: &At<'_>, destinations: &[RouteDestination]) {
    if destinations.is_empty() {
        at.complain("nothing", "at least one destination");
    }
    for (index, target) in destinations.iter().enumerate() {
        destination(&at.item(index).field("destination"), target.destination.as_ref());
    }
    weights(at, destinations.iter().map(|target| target.weight));
}

/// Several destinations whose weights are all 0 would get nothing at all.
pub(super) fn weights(at: &At<'_>, weights: impl ExactSizeIterator<Item = u32>) {
    let count = weights.len();
    let mut sum: u64 = 0;
    for (index, weight) in weights.enumerate() {
        if i32::try_from(weight).is_err() {
            at.item(index).field("weight").refuse("0 to 2147483647");
        }
        sum += u64::from(weight);
    }
    if count > 1 && sum == 0 {
        at.complain("weights that are all 0", "at least one weight above 0");
    } else if u32::try_from(sum).is_err() {
        at.complain("weights of more than 4294967295 together", "a smaller sum");
    }
}

/// A destination that must be there.
pub(super) fn destination(at: &At<'_>, destination: Option<&Destination>) {
    let Some(destination) = destination else {
        at.complain("nothing", "a destination with a host");
        return;
    };
    if destination.host == "*" {
        at.field("host").refuse("one host");
    } else {
        rules::wildcard_host(&at.field("host"), &destination.host);
    }
    if !destination.subset.is_empty() {
        rules::subset_name(&at.field("subset"), &destination.subset);
    }
    if let Some(port) = &destination.port {
        rules::port(&at.field("port").field("number"), port.number);
    }
}
