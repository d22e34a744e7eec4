//! Opaque traffic of gateways: VirtualServices' `tcp` rules by port, and `tls` rules by server name.

use envoy_types::pb::envoy::config::listener::v3::Filter;
use ostro_mesh::{View, gateway_name};
use ostro_names::{Name, Namespace};

use super::hosts::common;
use super::servers::Bound;
use crate::tcp_routes;

/// Where the connections of `server` go: by the first `tcp` rule, of the oldest VirtualService, that concerns it. `None`
/// if there is none.
pub fn opaque(view: &View<'_>, server: &Bound) -> Option<Vec<Filter>> {
    let name = Name::try_new(&server.gateway_name()).ok()?;
    view.gateway_routes(name).into_iter().filter(|rules| !common(server, rules).is_empty()).find_map(
        |rules| {
            let namespace = rules.age.namespace;
            let concerned = rules.spec.tcp.iter().find(|route| {
                let mut conditions = route.r#match.iter();
                route.r#match.is_empty()
                    || conditions
                        .any(|condition| concerns(server, condition.port, &condition.gateways, namespace))
            })?;
            Some(tcp_routes::routed(view, &concerned.route, namespace, server.written_port()))
        },
    )
}

/// Connections that are passed on unopened.
pub struct Passed {
    /// For which server names; possibly with a `*` in front.
    pub names: Vec<String>,
    pub filters: Vec<Filter>,
}

/// Where the TLS connections of `server` go, by server name: one entry for each `tls` match that concerns it.
pub fn passed_through(view: &View<'_>, server: &Bound) -> Vec<Passed> {
    let Ok(name) = Name::try_new(&server.gateway_name()) else { return Vec::new() };
    let mut out = Vec::new();
    for rules in view.gateway_routes(name).iter().filter(|rules| !common(server, rules).is_empty()) {
        let namespace = rules.age.namespace;
        for route in &rules.spec.tls {
            for condition in &route.r#match {
                if concerns(server, condition.port, &condition.gateways, namespace) {
                    out.push(Passed {
                        names: condition.sni_hosts.iter().map(|name| name.to_ascii_lowercase()).collect(),
                        filters: tcp_routes::routed(view, &route.route, namespace, server.written_port()),
                    });
                }
            }
        }
    }
    out
}

/// Whether a match is about this server: its port and its Gateway.
fn concerns(server: &Bound, port: Option<u16>, gateways: &[String], namespace: Namespace) -> bool {
    let own = server.gateway_name();
    let names_own =
        |written: &String| gateway_name(written, namespace).is_some_and(|name| name.as_str() == own);
    port.is_none_or(|port| port == server.written_port())
        && (gateways.is_empty() || gateways.iter().any(names_own))
}
