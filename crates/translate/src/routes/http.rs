//! The http rules of one VirtualService as Envoy routes, for one proxy and one port.

use envoy_types::pb::envoy::config::core::v3::Metadata;
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::ClusterSpecifier;
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::config::route::v3::{Decorator, Route};
use ostro_api::virtual_service::{HttpMatchRequest, HttpRoute};
use ostro_mesh::model::{RouteRules, Visibility};
use ostro_mesh::{View, gateway_name};
use ostro_names::Namespace;

use super::delegate::{self, Rule};
use super::{MESH, Place, action, cors, fault, matching};
use crate::encode::{any, metadata, sorted_map, structure, text};
use crate::names::ClusterName;

/// The routes that `rules` give at `place`, in order. After one that takes every request there is no other.
pub fn routes(view: &View<'_>, rules: &RouteRules, place: &Place) -> Vec<Route> {
    let mut out = Vec::new();
    for rule in delegate::expand(view, rules) {
        if rule.route.r#match.is_empty() {
            out.push(route(view, rules, &rule, None, place));
            return out;
        }
        for conditions in &rule.route.r#match {
            if !applies(view, conditions, rules.age.namespace, place) {
                continue;
            }
            let route = route(view, rules, &rule, Some(conditions), place);
            let last = is_catch_all(&route);
            out.push(route);
            if last {
                return out;
            }
        }
    }
    out
}

/// Whether a route takes every request.
pub fn is_catch_all(route: &Route) -> bool {
    route.r#match.as_ref().is_some_and(matching::is_catch_all)
}

/// Whether a match concerns this proxy at all: its port, gateways and source.
///
/// Sources are workloads, so at a gateway they count only where the match does not name the gateway, as in Istio.
fn applies(view: &View<'_>, conditions: &HttpMatchRequest, namespace: Namespace, place: &Place) -> bool {
    if conditions.port.is_some_and(|port| port != place.port) {
        return false;
    }
    let names_place = |written: &String| {
        gateway_name(written, namespace).is_some_and(|name| name.as_str() == place.gateway)
    };
    let gateways = &conditions.gateways;
    if !gateways.is_empty() {
        let named = gateways.iter().any(names_place);
        if !named || place.gateway != MESH {
            return named;
        }
    }
    let from_namespace = || match conditions.source_namespace.as_str() {
        "" => true,
        // A namespace that cannot be a name is nobody's.
        written => Namespace::try_new(written)
            .is_ok_and(|namespace| view.sees(&Visibility::Namespaces(vec![namespace]))),
    };
    view.labels_contain(&conditions.source_labels) && from_namespace()
}

fn route(
    view: &View<'_>,
    rules: &RouteRules,
    rule: &Rule<'_>,
    conditions: Option<&HttpMatchRequest>,
    place: &Place,
) -> Route {
    let mut out = Route {
        name: name(&rule.route, conditions),
        r#match: Some(matching::route_match(conditions)),
        metadata: Some(origin(rules)),
        stat_prefix: conditions.map(|conditions| conditions.stat_prefix.clone()).unwrap_or_default(),
        ..Default::default()
    };
    action::apply(view, place, &rule.route, rule.namespace, &mut out);
    out.decorator = Some(Decorator { operation: operation(&out, rules, place), ..Default::default() });
    let mut filters = Vec::new();
    if let Some(fault) = rule.route.fault.as_ref().and_then(fault::fault) {
        filters.push((fault::FILTER, any(&fault)));
    }
    if let Some(policy) = &rule.route.cors_policy {
        filters.push((cors::FILTER, any(&cors::policy(policy))));
    }
    out.typed_per_filter_config = sorted_map(filters);
    out
}

fn name(rule: &HttpRoute, conditions: Option<&HttpMatchRequest>) -> String {
    match conditions.map_or("", |conditions| conditions.name.as_str()) {
        "" => rule.name.clone(),
        own => format!("{}.{own}", rule.name),
    }
}

/// The object that a route was written in.
fn origin(rules: &RouteRules) -> Metadata {
    let path = format!(
        "/apis/networking.istio.io/v1/namespaces/{}/virtual-service/{}",
        rules.age.namespace, rules.age.name
    );
    metadata(vec![("istio", structure(vec![("config", text(&path))]))])
}

/// What a trace calls requests of this route: the destination, if there is one, and the path.
fn operation(route: &Route, rules: &RouteRules, place: &Place) -> String {
    let path = match route.r#match.as_ref().and_then(|conditions| conditions.path_specifier.as_ref()) {
        Some(PathSpecifier::Prefix(prefix)) => format!("{prefix}*"),
        Some(PathSpecifier::Path(path)) => path.clone(),
        Some(PathSpecifier::SafeRegex(regex)) => regex.regex.clone(),
        _ => "/*".to_owned(),
    };
    if let Some(Action::Route(action)) = &route.action
        && let Some(ClusterSpecifier::Cluster(cluster)) = &action.cluster_specifier
        && let Some(ClusterName::Outbound { port, host, .. }) = ClusterName::parse(cluster)
    {
        return format!("{host}:{port}{path}");
    }
    format!("{}:{}{path}", rules.age.name, place.port)
}
