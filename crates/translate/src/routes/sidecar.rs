//! Route configurations of sidecars by name: `<port>`, `<host>:<port>`, `http_proxy`, which are Istio's names.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::{
    DirectResponseAction, Route, RouteConfiguration, VirtualHost,
};
use ostro_api::mesh_config::OutboundMode;
use ostro_mesh::View;
use ostro_names::{Host, Name};

use super::domains::Domain;
use super::encoded::{EncodedVirtualHost, VirtualHosts};
use super::join;
use super::{action, configuration, matching};
use crate::{encode, names};

/// The route configuration of the HTTP proxy port.
pub const HTTP_PROXY: &str = "http_proxy";

/// Up to this many hosts on a port, proxies of namespaces that have none of them share a route configuration. Beyond,
/// short names make it differ for nearly every namespace anyway, and the namespace itself, asked once and first, answers
/// the many narrow questions that virtual hosts ask.
const NARROW_HOSTS: usize = 16;

/// What a route configuration's name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RouteName {
    /// Shared by everything on a port.
    Port(u16),
    /// One service's alone.
    Service(Host, u16),
    HttpProxy,
}

impl RouteName {
    fn parse(name: &str) -> Option<Self> {
        if name == HTTP_PROXY {
            return Some(Self::HttpProxy);
        }
        if let Ok(port) = name.parse() {
            return Some(Self::Port(port));
        }
        let (host, port) = name.rsplit_once(':')?;
        // Interned, so that the absence of the service is noted and its arrival makes the routes.
        Some(Self::Service(Host::try_new(host).ok()?, port.parse().ok()?))
    }
}

/// The route configuration of this name, encoded. A name that means nothing has an empty one, so that a listener that
/// still refers to it is not stuck.
pub fn content(view: &View<'_>, source: &mut dyn VirtualHosts, name: Name) -> Bytes {
    let text = name.as_str();
    let head = configuration(text, Vec::new());
    match RouteName::parse(text) {
        Some(RouteName::Port(port)) => by_port(view, source, head, port),
        Some(RouteName::Service(host, port)) => {
            let all = Domain { text: "*".to_owned(), short: false };
            let alone = source.get(view, host, port).map(|host| Arc::new(host.claiming(&[all])));
            join::configuration(&head, &join::assign(alone.as_slice()), None)
        }
        Some(RouteName::HttpProxy) => http_proxy(view, source, head),
        None => encode::bytes(&head),
    }
}

fn by_port(view: &View<'_>, source: &mut dyn VirtualHosts, head: RouteConfiguration, port: u16) -> Bytes {
    if view.hosts_on_port(port).len() > NARROW_HOSTS {
        view.namespace();
    }
    let hosts = on_port(view, source, port);
    finish(view, &head, &hosts)
}

/// The virtual hosts on `port`, by host.
fn on_port(view: &View<'_>, source: &mut dyn VirtualHosts, port: u16) -> Vec<Arc<EncodedVirtualHost>> {
    let services = view.hosts_on_port(port);
    let mut out = Vec::with_capacity(services.len());
    out.extend(services.iter().filter_map(|host| source.get(view, *host, port)));
    let mut others = hosts_without_service(view, port, &out);
    others.retain(|host| !services.contains(host));
    if !others.is_empty() {
        out.extend(others.into_iter().filter_map(|host| source.get(view, host, port)));
        out.sort_by_key(|virtual_host| virtual_host.host);
    }
    out
}

/// Hosts of VirtualServices that may have a virtual host of their own on this port, distinct.
fn hosts_without_service(view: &View<'_>, port: u16, services: &[Arc<EncodedVirtualHost>]) -> Vec<Host> {
    let hosts: BTreeSet<Host> = if port == 80 {
        let (public, own) = view.mesh_route_hosts();
        public.iter().chain(own.iter()).copied().collect()
    } else {
        services.iter().flat_map(|virtual_host| &virtual_host.rule_hosts).copied().collect()
    };
    hosts.into_iter().collect()
}

fn http_proxy(view: &View<'_>, source: &mut dyn VirtualHosts, head: RouteConfiguration) -> Bytes {
    view.namespace();
    let (public, own) = view.visible_hosts();
    let mut ports = BTreeSet::from([80]);
    for host in public.iter().chain(own.iter()) {
        let services = view.services(*host);
        ports.extend(services.iter().flat_map(|service| &service.ports).map(|port| port.number));
    }
    let mut all = Vec::new();
    for port in ports {
        all.extend(on_port(view, source, port).iter().map(|host| with_port(host)));
    }
    all.sort_by_key(|virtual_host| (virtual_host.host, virtual_host.port));
    // Here the port in the authority tells services apart.
    let head = RouteConfiguration { ignore_port_in_host_matching: false, ..head };
    finish(view, &head, &all)
}

/// The virtual host as it is where all ports share a table.
fn with_port(host: &EncodedVirtualHost) -> Arc<EncodedVirtualHost> {
    let domains = host.claims().map(|(text, short)| (String::from_utf8_lossy(text.bytes), short));
    let domains: Vec<_> = domains.collect();
    let explicit = domains.iter().map(|(text, short)| (format!("{text}:{}", host.port), *short));
    // Port 80 goes without saying.
    let implicit = domains.iter().filter(|_| host.port == 80).map(|(text, short)| (text.to_string(), *short));
    let claims = explicit.chain(implicit).map(|(text, short)| Domain { text, short });
    Arc::new(host.claiming(&claims.collect::<Vec<_>>()))
}

/// Closes with the answer to everything else.
fn finish(view: &View<'_>, head: &RouteConfiguration, hosts: &[Arc<EncodedVirtualHost>]) -> Bytes {
    let assignment = join::assign(hosts);
    let last = (!assignment.takes_all).then(|| catch_all(view));
    join::configuration(head, &assignment, last.as_ref())
}

/// What becomes of requests for hosts that the mesh does not know.
fn catch_all(view: &View<'_>) -> VirtualHost {
    let (name, action) = match view.mesh_config().outbound_traffic_policy.mode {
        OutboundMode::RegistryOnly => {
            let refusal = DirectResponseAction { status: 502, ..Default::default() };
            ("block_all", Action::DirectResponse(refusal))
        }
        OutboundMode::AllowAny | OutboundMode::AllowAnyDynamicDns => {
            let cluster = names::PASSTHROUGH_CLUSTER.to_owned();
            ("allow_any", Action::Route(action::to_cluster(cluster, std::time::Duration::ZERO)))
        }
    };
    VirtualHost {
        name: name.to_owned(),
        domains: vec!["*".to_owned()],
        routes: vec![Route {
            name: name.to_owned(),
            r#match: Some(matching::route_match(None)),
            action: Some(action),
            ..Default::default()
        }],
        include_request_attempt_count: true,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_port_service_or_proxy() {
        let host = Host::new("web.default.svc.cluster.local");
        let cases = [
            ("80", Some(RouteName::Port(80))),
            ("web.default.svc.cluster.local:8080", Some(RouteName::Service(host, 8080))),
            ("http_proxy", Some(RouteName::HttpProxy)),
            ("65536", None),
            ("web", None),
            ("web:port", None),
            ("", None),
        ];
        for (name, expected) in cases {
            assert_eq!(RouteName::parse(name), expected, "{name}");
        }
    }
}
