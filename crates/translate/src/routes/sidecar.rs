//! Route configurations of sidecars by name: `<port>`, `<host>:<port>`, `http_proxy` (CONTRACT 2.4, 2.7).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::{
    DirectResponseAction, Route, RouteConfiguration, VirtualHost,
};
use ostro_api::mesh_config::OutboundMode;
use ostro_mesh::View;
use ostro_mesh::model::{Age, RouteRules};
use ostro_names::{Host, Name};

use super::virtual_host::{self, Draft};
use super::{action, configuration, matching};
use crate::names;

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

/// The route configuration of this name. A name that means nothing has an empty one, so that a listener that still refers
/// to it is not stuck (CONTRACT 12.4).
pub fn route_configuration(view: &View<'_>, name: Name) -> RouteConfiguration {
    let text = name.as_str();
    match RouteName::parse(text) {
        Some(RouteName::Port(port)) => configuration(text, by_port(view, port)),
        Some(RouteName::Service(host, port)) => {
            let alone = virtual_host::draft(view, host, port);
            configuration(text, alone.map(|draft| draft.with_domains(vec!["*".into()])).into_iter().collect())
        }
        Some(RouteName::HttpProxy) => RouteConfiguration {
            // Here the port in the authority tells services apart.
            ignore_port_in_host_matching: false,
            ..configuration(text, http_proxy(view))
        },
        None => configuration(text, Vec::new()),
    }
}

fn by_port(view: &View<'_>, port: u16) -> Vec<VirtualHost> {
    if view.hosts_on_port(port).len() > NARROW_HOSTS {
        view.namespace();
    }
    let plain = |draft: &Draft| draft.domains.iter().map(|d| (d.text.clone(), d.short)).collect();
    finish(view, assign(drafts(view, port).into_values().collect(), plain))
}

/// The virtual hosts on `port`, before domains are settled between them.
fn drafts(view: &View<'_>, port: u16) -> BTreeMap<Host, Draft> {
    let mut out = BTreeMap::new();
    for host in view.hosts_on_port(port).iter() {
        out.extend(virtual_host::draft(view, *host, port).map(|draft| (*host, draft)));
    }
    for host in hosts_without_service(view, port, &out) {
        if !out.contains_key(&host) {
            out.extend(virtual_host::draft(view, host, port).map(|draft| (host, draft)));
        }
    }
    out
}

/// Hosts of VirtualServices that may have a virtual host of their own on this port.
fn hosts_without_service(view: &View<'_>, port: u16, services: &BTreeMap<Host, Draft>) -> BTreeSet<Host> {
    if port == 80 {
        let (public, own) = view.mesh_route_hosts();
        return public.iter().chain(own.iter()).copied().collect();
    }
    let rules = services.values().flat_map(|draft| &draft.rules);
    rules.flat_map(|rules| rules.hosts.iter().copied()).collect()
}

fn http_proxy(view: &View<'_>) -> Vec<VirtualHost> {
    view.namespace();
    let (public, own) = view.visible_hosts();
    let mut ports = BTreeSet::from([80]);
    for host in public.iter().chain(own.iter()) {
        let services = view.services(*host);
        ports.extend(services.iter().flat_map(|service| &service.ports).map(|port| port.number));
    }
    let all = ports.into_iter().flat_map(|port| drafts(view, port).into_values()).collect();
    let with_port = |draft: &Draft| {
        let port = draft.port;
        let explicit = draft.domains.iter().map(|d| (format!("{}:{port}", d.text), d.short));
        // Port 80 goes without saying.
        let implicit = draft.domains.iter().filter(|_| port == 80).map(|d| (d.text.clone(), d.short));
        explicit.chain(implicit).collect()
    };
    finish(view, assign(all, with_port))
}

/// Gives every domain to the first that claims it: virtual hosts of older VirtualServices, then services by age. A
/// short name gives way to a host that is called so in full.
fn assign(mut drafts: Vec<Draft>, claims: impl Fn(&Draft) -> Vec<(String, bool)>) -> Vec<VirtualHost> {
    drafts.sort_by_key(|draft| (precedence(draft), draft.host, draft.port));
    let full: BTreeSet<&'static str> = drafts.iter().map(|draft| draft.host.as_str()).collect();
    let mut taken: BTreeSet<String> = BTreeSet::new();
    let mut out = Vec::new();
    for draft in drafts {
        let mut domains = Vec::new();
        for (text, short) in claims(&draft) {
            if !(short && full.contains(text.as_str())) && taken.insert(text.clone()) {
                domains.push(text);
            }
        }
        if !domains.is_empty() {
            out.push(draft.with_domains(domains));
        }
    }
    out
}

fn precedence(draft: &Draft) -> (bool, Option<Age>) {
    let rules: Option<&Arc<RouteRules>> = draft.chosen.as_ref();
    let age = rules.map(|rules| rules.age).or(draft.service.as_ref().map(|service| service.age));
    (rules.is_none(), age)
}

/// Sorts by name and closes with the answer to everything else.
fn finish(view: &View<'_>, mut hosts: Vec<VirtualHost>) -> Vec<VirtualHost> {
    hosts.sort_by(|a, b| a.name.cmp(&b.name));
    if !hosts.iter().any(|host| host.domains.iter().any(|domain| domain == "*")) {
        hosts.push(catch_all(view));
    }
    hosts
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
