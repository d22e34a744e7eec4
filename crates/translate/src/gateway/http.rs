//! Route configurations of gateways by name: `http.<port>` for all plaintext servers of a port, `https...` for one
//! server behind TLS. The names are Istio's.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::route::v3::virtual_host::TlsRequirementType;
use envoy_types::pb::envoy::config::route::v3::{Route, RouteConfiguration, VirtualHost};
use ostro_mesh::View;
use ostro_names::Name;

use super::hosts::common;
use super::servers::{self, Bound};
use crate::routes::{Place, configuration, http};

/// The route configuration of this name; an empty one if no server has it any more, so that a draining listener that
/// still refers to it is not stuck.
pub fn route_configuration(view: &View<'_>, name: Name) -> RouteConfiguration {
    let ports = servers::ports(view);
    let servers = ports.iter().flat_map(|port| &port.servers);
    let served: Vec<&Bound> =
        servers.filter(|server| server.route_name().as_deref() == Some(name.as_str())).collect();
    let hosts = match served.first() {
        None => Vec::new(),
        Some(first) => virtual_hosts(view, &served, first.written_port()),
    };
    configuration(name.as_str(), hosts)
}

fn virtual_hosts(view: &View<'_>, servers: &[&Bound], port: u16) -> Vec<VirtualHost> {
    let mut hosts: BTreeMap<String, VirtualHost> = BTreeMap::new();
    for server in servers {
        add_routes(view, server, &mut hosts);
        if server.server.tls.as_ref().is_some_and(|tls| tls.https_redirect) {
            for (_, host) in server.hosts() {
                entry(&mut hosts, &host.to_ascii_lowercase(), server).require_tls =
                    TlsRequirementType::All as i32;
            }
        }
    }
    if hosts.is_empty() {
        // No routes: everything is 404, as for a host that no VirtualService serves.
        return vec![VirtualHost {
            name: format!("blackhole:{port}"),
            domains: vec!["*".to_owned()],
            ..Default::default()
        }];
    }
    let mut out: Vec<VirtualHost> = hosts.into_values().collect();
    for host in &mut out {
        host.routes = catch_all_last(std::mem::take(&mut host.routes));
    }
    out.sort_by(|a, b| a.name.cmp(&b.name));
    out
}

/// Adds the routes of every VirtualService bound to the server's Gateway, oldest first.
fn add_routes(view: &View<'_>, server: &Bound, hosts: &mut BTreeMap<String, VirtualHost>) {
    let gateway = server.gateway_name();
    let Ok(name) = Name::try_new(&gateway) else { return };
    let place = Place { gateway, port: server.written_port(), tls: server.server.tls.is_some() };
    let redirects = server.server.tls.as_ref().is_some_and(|tls| tls.https_redirect);
    for rules in view.gateway_routes(name) {
        let common = common(server, &rules);
        if common.is_empty() {
            continue;
        }
        let routes = http::routes(view, &rules, &place);
        if routes.is_empty() {
            continue;
        }
        for host in common {
            let entry = entry(hosts, &host, server);
            entry.routes.extend(routes.iter().cloned());
            if redirects {
                entry.require_tls = TlsRequirementType::All as i32;
            }
        }
    }
}

fn entry<'h>(
    hosts: &'h mut BTreeMap<String, VirtualHost>,
    host: &str,
    server: &Bound,
) -> &'h mut VirtualHost {
    hosts.entry(host.to_owned()).or_insert_with(|| VirtualHost {
        name: format!("{host}:{}", server.written_port()),
        domains: vec![host.to_owned()],
        include_request_attempt_count: true,
        ..Default::default()
    })
}

/// Routes of several VirtualServices in order, but the ones that take everything last, of which only the first is ever
/// reached. So Istio merges the VirtualServices of one host at a gateway.
fn catch_all_last(routes: Vec<Route>) -> Vec<Route> {
    let (last, mut out): (Vec<Route>, Vec<Route>) = routes.into_iter().partition(http::is_catch_all);
    out.extend(last.into_iter().next());
    out
}
