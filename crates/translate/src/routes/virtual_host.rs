//! One virtual host of sidecars: what requests for a host on a port meet.

use std::sync::Arc;

use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::{Decorator, Route, VirtualHost};
use ostro_mesh::model::{Age, ListenerClass, Resolution, RouteRules, Service};
use ostro_mesh::{Hosts, View};
use ostro_names::Host;
use prost::Message;

use super::domains::{self, Domain};
use super::encoded::EncodedVirtualHost;
use super::{MESH, Place, action, destination, hash, http, matching, retry};
use crate::service;

/// The virtual host for `host` on `port`, if HTTP is spoken there: a service's, or that of a VirtualService for a host
/// that is no service. The latter has one on port 80, and where a service of the same VirtualService has the port.
pub fn encoded(view: &View<'_>, host: Host, port: u16) -> Option<EncodedVirtualHost> {
    draft(view, host, port).map(Draft::encode)
}

struct Draft {
    host: Host,
    port: u16,
    domains: Vec<Domain>,
    routes: Vec<Route>,
    /// Of the service, unless the host is a VirtualService's alone.
    service: Option<Age>,
    /// The VirtualServices for this host, oldest first.
    rules: Vec<Arc<RouteRules>>,
    /// Which of them gave the routes.
    chosen: Option<Age>,
}

impl Draft {
    fn encode(self) -> EncodedVirtualHost {
        let body = VirtualHost {
            name: format!("{}:{}", self.host, self.port),
            routes: self.routes,
            include_request_attempt_count: true,
            ..Default::default()
        };
        let mut rule_hosts: Vec<Host> = self.rules.iter().flat_map(|rules| &rules.hosts).copied().collect();
        rule_hosts.sort_unstable();
        rule_hosts.dedup();
        let precedence = (self.chosen.is_none(), self.chosen.or(self.service));
        let at = (self.host, self.port);
        EncodedVirtualHost::new(at, body.encode_to_vec(), &self.domains, precedence, rule_hosts)
    }
}

fn draft(view: &View<'_>, host: Host, port: u16) -> Option<Draft> {
    let services = own_services(view, host);
    if let Some(service) = services.iter().find(|service| speaks_http(service, port)) {
        return Some(of_service(view, service, port));
    }
    if services.iter().any(|service| service.port(port).is_some()) {
        return None;
    }
    of_rules(view, host, port)
}

/// The services declared under `host` that can be reached under it: aliases are names of others, and hosts that the
/// proxy would have to resolve as requests name them have no cluster.
fn own_services(view: &View<'_>, host: Host) -> Vec<Arc<Service>> {
    let mut services = service::meant(view, host);
    services.retain(|service| !matches!(service.resolution, Resolution::Alias(_) | Resolution::DynamicDns));
    services
}

fn speaks_http(service: &Service, port: u16) -> bool {
    let class = service.port(port).and_then(|port| port.protocol.class());
    matches!(class, Some(ListenerClass::Http | ListenerClass::Auto))
}

fn of_service(view: &View<'_>, service: &Service, port: u16) -> Draft {
    let rules = rules_for(view, service.host);
    let (chosen, routes) = match choose(view, &rules, port) {
        Some((chosen, routes)) => (Some(chosen), routes),
        None => (None, vec![default_route(view, service, port)]),
    };
    let domains = domains::of_service(view, service, &view.aliases(service.host));
    Draft { host: service.host, port, domains, routes, service: Some(service.age), rules, chosen }
}

fn of_rules(view: &View<'_>, host: Host, port: u16) -> Option<Draft> {
    let (public, own) = view.mesh_route_hosts();
    if !public.contains(&host) && !own.contains(&host) {
        return None;
    }
    if host.as_str().starts_with('*') && covers_service(view, host, port) {
        // The services have virtual hosts of their own with these routes.
        return None;
    }
    let mut rules = view.mesh_routes(host);
    rules.retain(|rules| port == 80 || rules.hosts.iter().any(|host| serves_http(view, *host, port)));
    let (chosen, routes) = choose(view, &rules, port)?;
    let domains = domains::of_host(host);
    Some(Draft { host, port, domains, routes, service: None, rules, chosen: Some(chosen) })
}

/// The oldest rules that have routes for this proxy and port, and the routes.
fn choose(view: &View<'_>, rules: &[Arc<RouteRules>], port: u16) -> Option<(Age, Vec<Route>)> {
    let place = Place { gateway: MESH.to_owned(), port, tls: false };
    rules.iter().find_map(|rules| {
        let routes = http::routes(view, rules, &place);
        (!routes.is_empty()).then_some((rules.age, routes))
    })
}

/// The VirtualServices for exactly `host`, or else for the longest wildcard that covers it.
fn rules_for(view: &View<'_>, host: Host) -> Vec<Arc<RouteRules>> {
    let (public, own) = view.mesh_route_hosts();
    let exact = (public.contains(&host) || own.contains(&host)).then_some(host);
    match exact.or_else(|| longest_wildcard([&public, &own], host)) {
        Some(written) => view.mesh_routes(written),
        None => Vec::new(),
    }
}

fn longest_wildcard(sets: [&Hosts; 2], host: Host) -> Option<Host> {
    let star = Host::new("*");
    let wildcards = sets.into_iter().flat_map(|set| {
        set.range(star..).copied().take_while(|candidate| candidate.as_str().starts_with('*'))
    });
    wildcards.filter(|candidate| covers(*candidate, host)).max_by_key(|candidate| candidate.as_str().len())
}

/// Whether `wildcard` covers `host`. A wildcard does not cover itself.
fn covers(wildcard: Host, host: Host) -> bool {
    let suffix = wildcard.as_str().strip_prefix('*');
    let bare = host.as_str().trim_start_matches('*');
    wildcard != host && suffix.is_some_and(|suffix| bare.ends_with(suffix))
}

fn covers_service(view: &View<'_>, wildcard: Host, port: u16) -> bool {
    let hosts = view.hosts_on_port(port);
    hosts.iter().any(|host| {
        covers(wildcard, *host)
            && own_services(view, *host).iter().any(|service| service.port(port).is_some())
    })
}

/// Whether `host`, as written in a VirtualService, stands for a service that speaks HTTP on `port`.
fn serves_http(view: &View<'_>, host: Host, port: u16) -> bool {
    let serves = |host: Host| own_services(view, host).iter().any(|service| speaks_http(service, port));
    if host.as_str().starts_with('*') {
        return view.hosts_on_port(port).iter().any(|service| covers(host, *service) && serves(*service));
    }
    serves(host)
}

/// The route of a service without a VirtualService.
fn default_route(view: &View<'_>, service: &Service, port: u16) -> Route {
    let mut forward = action::to_cluster(destination::cluster(service.host, port), std::time::Duration::ZERO);
    forward.hash_policy.extend(hash::policy(view, service, port, ""));
    let mesh = view.mesh_config().default_http_retry_policy.as_ref();
    forward.retry_policy = retry::policy(None, mesh, !forward.hash_policy.is_empty());
    Route {
        name: "default".to_owned(),
        r#match: Some(matching::route_match(None)),
        decorator: Some(Decorator { operation: format!("{}:{port}/*", service.host), ..Default::default() }),
        action: Some(Action::Route(forward)),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_cover_what_ends_like_them() {
        let cases = [
            ("*.example.com", "a.example.com", true),
            ("*.example.com", "example.com", false),
            ("*.com", "*.example.com", true),
            ("*.example.com", "*.example.com", false),
            ("*.example.com", "*.com", false),
            ("*", "anything", true),
            ("example.com", "example.com", false),
        ];
        for (wildcard, host, expected) in cases {
            assert_eq!(covers(Host::new(wildcard), Host::new(host)), expected, "{wildcard} {host}");
        }
    }

    #[test]
    fn the_longest_wildcard_wins_whichever_set_it_is_in() {
        let set = |hosts: &[&str]| hosts.iter().map(|host| Host::new(host)).collect::<Hosts>();
        let public = set(&["!odd", "*", "*.com", "z.example.com"]);
        let own = set(&["*.example.com"]);
        let host = Host::new("a.example.com");
        assert_eq!(longest_wildcard([&public, &own], host), Some(Host::new("*.example.com")));
        assert_eq!(longest_wildcard([&public, &Hosts::default()], host), Some(Host::new("*.com")));
        assert_eq!(longest_wildcard([&Hosts::default(), &own], Host::new("b.org")), None);
    }
}
