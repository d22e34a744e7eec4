//! How a proxy answers: the one place where an [`Attr`] is evaluated.
//!
//! Some answers depend on the snapshot as well ("its namespace, if that namespace has DestinationRules"); the keys they
//! read are handed to `note`, so that a change of those keys makes every proxy answer anew.
//!
//! Invariant: [`answer`] reads nothing of the snapshot but what [`keys`] names.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ostro_names::{Host, Name, Namespace};

use crate::key::Key;
use crate::model::EndpointAddress;
use crate::proxy::{Answer, Attr, Proxy, ProxyKind};
use crate::snapshot::{Hosts, Snapshot};

/// The answer for true.
pub fn yes() -> Answer {
    Name::new("yes")
}

fn no() -> Answer {
    Name::new("")
}

fn truth(value: bool) -> Answer {
    if value { yes() } else { no() }
}

/// The proxy's own words as an answer. Words that are too long, or new when the table of names is full
/// (`ostro_names::limits`), count as none: a peer does not make the table grow past its bound, and since generators see
/// nothing but answers, all whose words are dropped get the same.
fn said(words: &str) -> Answer {
    Name::try_new(words).unwrap_or_default()
}

/// Names to `note` every key on which the answer depends. Which those are depends on the question and the proxy alone.
pub fn keys(proxy: &Proxy, question: &Attr, note: &mut dyn FnMut(Key)) {
    match question {
        Attr::HostScope => note(Key::NamespaceHosts(proxy.namespace)),
        Attr::RouteScope => note(Key::NamespaceRouteHosts(proxy.namespace)),
        Attr::RuleScope(_) => note(Key::RuleHosts(proxy.namespace)),
        Attr::ServedPorts => proxy.addresses.iter().for_each(|address| note(Key::InstancesAt(*address))),
        Attr::Behind(host) => note(Key::Endpoints(*host)),
        Attr::ServiceScope(host) => note(Key::Services(*host)),
        Attr::Kind
        | Attr::Namespace
        | Attr::DnsDomain
        | Attr::Addresses
        | Attr::Families
        | Attr::Locality
        | Attr::LabelsContain(_)
        | Attr::Extension(_)
        | Attr::Label(_)
        | Attr::Lacks(_)
        | Attr::Metadata(_)
        | Attr::In(_) => {}
    }
}

/// Answers `question` for `proxy`, naming to `note` every key that the answer depends on.
pub fn answer(snapshot: &Snapshot, proxy: &Proxy, question: &Attr, note: &mut dyn FnMut(Key)) -> Answer {
    keys(proxy, question, note);
    match question {
        Attr::Kind => Name::new(match proxy.kind {
            ProxyKind::Sidecar => "sidecar",
            ProxyKind::Router => "router",
        }),
        Attr::Namespace => Name::new(proxy.namespace.as_str()),
        Attr::DnsDomain => said(&proxy.dns_domain),
        Attr::Addresses => {
            let texts: Vec<String> = proxy.addresses.iter().map(ToString::to_string).collect();
            said(&texts.join(","))
        }
        Attr::Families => {
            let mut families = String::new();
            for address in &proxy.addresses {
                let family = if address.is_ipv4() { '4' } else { '6' };
                if !families.contains(family) {
                    families.push(family);
                }
            }
            Name::new(&families)
        }
        Attr::Locality => {
            let place = &proxy.locality;
            said(&format!("{}/{}/{}", place.region, place.zone, place.subzone))
        }
        Attr::LabelsContain(labels) => {
            truth(labels.iter().all(|(key, value)| proxy.labels.get(key) == Some(value)))
        }
        Attr::Extension(name) => truth(proxy.extensions.contains(*name)),
        Attr::Label(key) => said(proxy.labels.get(key).map_or("", String::as_str)),
        Attr::Lacks(name) => truth(!proxy.extensions.is_empty() && !proxy.extensions.contains(*name)),
        Attr::Metadata(key) => said(proxy.metadata.get(*key).map_or("", String::as_str)),
        Attr::In(namespaces) => truth(namespaces.contains(&proxy.namespace)),
        Attr::HostScope => scope(proxy.namespace, !snapshot.namespace_hosts(proxy.namespace).is_empty()),
        Attr::RouteScope => {
            scope(proxy.namespace, !snapshot.namespace_route_hosts(proxy.namespace).is_empty())
        }
        Attr::RuleScope(host) => {
            let hosts = snapshot.rule_hosts(proxy.namespace);
            scope(proxy.namespace, matching_hosts(&hosts, *host).next().is_some())
        }
        Attr::ServedPorts => {
            let mut ports = BTreeSet::new();
            for address in &proxy.addresses {
                let instances = snapshot.instances_at(*address);
                ports.extend(instances.iter().map(|instance| (instance.port.number, instance.target_port)));
            }
            let texts: Vec<String> = ports.iter().map(|(port, target)| format!("{port}={target}")).collect();
            Name::new(&texts.join(","))
        }
        Attr::Behind(host) => {
            let endpoints = snapshot.endpoints(*host);
            let serves = |address: &IpAddr| {
                endpoints.iter().any(|endpoint| endpoint.address == EndpointAddress::Ip(*address))
            };
            let own: Vec<String> =
                proxy.addresses.iter().filter(|a| serves(a)).map(ToString::to_string).collect();
            said(&own.join(","))
        }
        Attr::ServiceScope(host) => {
            let services = snapshot.services(*host);
            scope(proxy.namespace, services.iter().any(|service| service.namespace == proxy.namespace))
        }
    }
}

fn scope(namespace: Namespace, has: bool) -> Answer {
    if has { Name::new(namespace.as_str()) } else { no() }
}

/// Which of `hosts` cover `host`: itself, then wildcards from the longest suffix to `*`.
pub fn matching_hosts(hosts: &Hosts, host: Host) -> impl Iterator<Item = Host> + use<> {
    let exact = hosts.contains(&host).then_some(host);
    let bare = host.as_str().strip_prefix('*').unwrap_or(host.as_str());
    // Wildcards sort together, right before what sorts after `*`: only they are looked at.
    let mut wildcards: Vec<Host> = hosts
        .range(Host::new("*")..Host::new("+"))
        .copied()
        .filter(|wildcard| *wildcard != host && bare.ends_with(wildcard.as_str().trim_start_matches('*')))
        .collect();
    wildcards.sort_by_key(|wildcard| std::cmp::Reverse(wildcard.as_str().len()));
    exact.into_iter().chain(wildcards)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_suffix_comes_first() {
        let hosts: Hosts = ["*", "*.com", "*.example.com", "a.example.com", "*-x.example.com", "b.com"]
            .map(Host::new)
            .into_iter()
            .collect();
        let matching =
            |host: &str| matching_hosts(&hosts, Host::new(host)).map(Host::as_str).collect::<Vec<_>>();
        assert_eq!(matching("a.example.com"), ["a.example.com", "*.example.com", "*.com", "*"]);
        assert_eq!(matching("b-x.example.com"), ["*-x.example.com", "*.example.com", "*.com", "*"]);
        assert_eq!(matching("*.example.com"), ["*.example.com", "*.com", "*"]);
        assert_eq!(matching("example.com"), ["*.com", "*"]);
        assert_eq!(matching("com"), ["*"]);
    }
}
