//! What becomes of a request that matched: destinations by weight with rewrites and mirrors, redirect, or an answer from
//! the proxy (HTTPRoute `route`, `rewrite`, `mirrors`, `redirect`, `directResponse`).

use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::{DataSource, data_source};
use envoy_types::pb::envoy::config::route::v3::redirect_action::{
    PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier,
};
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::{
    ClusterSpecifier, HostRewriteSpecifier, MaxStreamDuration, RequestMirrorPolicy,
};
use envoy_types::pb::envoy::config::route::v3::weighted_cluster::{ClusterWeight, cluster_weight};
use envoy_types::pb::envoy::config::route::v3::{
    DirectResponseAction, RedirectAction, Route, RouteAction, WeightedCluster,
};
use envoy_types::pb::envoy::r#type::matcher::v3::RegexMatchAndSubstitute;
use ostro_api::virtual_service::{
    Destination, HttpDirectResponse, HttpRedirect, HttpRoute, HttpRouteDestination, RedirectPort,
};
use ostro_mesh::View;
use ostro_names::Namespace;

use super::headers::{self, Operations};
use super::{Place, base64, destination, fraction, hash, matching, retry};
use crate::encode::{duration, number};
use crate::names;

/// Bodies of direct responses end here, for Envoy refuses the whole configuration over a larger one.
pub const MAX_BODY_BYTES: u32 = 1 << 20;
/// A redirect's `uri` that begins so replaces the matched prefix, not the whole path.
const PREFIX_OPERATOR: &str = "%PREFIX()%";

/// Gives `out` its action: that of `rule`, whose short names were written in `namespace`.
pub fn apply(view: &View<'_>, place: &Place, rule: &HttpRoute, namespace: Namespace, out: &mut Route) {
    let operations = headers::operations(rule.headers.as_ref());
    let authority = operations.authority.clone();
    add_headers(out, operations);
    out.action = Some(if let Some(redirect) = &rule.redirect {
        Action::Redirect(self::redirect(redirect, place))
    } else if let Some(response) = &rule.direct_response {
        Action::DirectResponse(direct_response(response))
    } else {
        forward(view, place, rule, namespace, authority, out)
    });
}

fn add_headers(out: &mut Route, operations: Operations) {
    out.request_headers_to_add.extend(operations.request_add);
    out.request_headers_to_remove.extend(operations.request_remove);
    out.response_headers_to_add.extend(operations.response_add);
    out.response_headers_to_remove.extend(operations.response_remove);
}

/// A route to one cluster, with the timeout (none if zero) that every route states. Where gRPC's own timeout header
/// asks for less, that holds.
pub fn to_cluster(cluster: String, timeout: Duration) -> RouteAction {
    RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster)),
        timeout: duration(timeout),
        max_stream_duration: Some(MaxStreamDuration {
            grpc_timeout_header_max: duration(timeout),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn forward(
    view: &View<'_>,
    place: &Place,
    rule: &HttpRoute,
    namespace: Namespace,
    authority: Option<String>,
    out: &mut Route,
) -> Action {
    let mut action = to_cluster(String::new(), rule.timeout.unwrap_or_default());
    rewrite(rule, authority, &mut action);
    match rule.route.as_slice() {
        [only] => single(view, place, only, namespace, &mut action, out),
        several => weighted(view, place, several, namespace, &mut action),
    }
    if matches!(&action.cluster_specifier, Some(ClusterSpecifier::WeightedClusters(w)) if w.clusters.is_empty())
    {
        // Destinations without any weight take no request; Envoy refuses an empty list of them.
        return Action::DirectResponse(DirectResponseAction { status: 503, ..Default::default() });
    }
    let mesh = view.mesh_config().default_http_retry_policy.as_ref();
    action.retry_policy = retry::policy(rule.retries.as_ref(), mesh, !action.hash_policy.is_empty());
    action.request_mirror_policies = mirrors(view, place, rule, namespace);
    Action::Route(action)
}

fn rewrite(rule: &HttpRoute, authority: Option<String>, action: &mut RouteAction) {
    let mut authority = authority;
    if let Some(rewrite) = &rule.rewrite {
        if let Some(regex) = &rewrite.uri_regex_rewrite {
            action.regex_rewrite = Some(RegexMatchAndSubstitute {
                pattern: Some(matching::regex(&regex.r#match)),
                substitution: regex.rewrite.clone(),
            });
        } else {
            action.prefix_rewrite = rewrite.uri.clone();
        }
        if !rewrite.authority.is_empty() {
            authority = Some(rewrite.authority.clone());
        }
    }
    action.host_rewrite_specifier = authority.map(HostRewriteSpecifier::HostRewriteLiteral);
}

fn single(
    view: &View<'_>,
    place: &Place,
    rule: &HttpRouteDestination,
    namespace: Namespace,
    action: &mut RouteAction,
    out: &mut Route,
) {
    let operations = headers::operations(rule.headers.as_ref());
    if action.host_rewrite_specifier.is_none() {
        action.host_rewrite_specifier =
            operations.authority.clone().map(HostRewriteSpecifier::HostRewriteLiteral);
    }
    add_headers(out, operations);
    let cluster = cluster(view, place, rule.destination.as_ref(), namespace, action);
    action.cluster_specifier = Some(ClusterSpecifier::Cluster(cluster));
}

fn weighted(
    view: &View<'_>,
    place: &Place,
    rules: &[HttpRouteDestination],
    namespace: Namespace,
    action: &mut RouteAction,
) {
    let mut clusters = Vec::new();
    for rule in rules.iter().filter(|rule| rule.weight > 0) {
        let operations = headers::operations(rule.headers.as_ref());
        let own = operations.authority.filter(|_| action.host_rewrite_specifier.is_none());
        clusters.push(ClusterWeight {
            name: cluster(view, place, rule.destination.as_ref(), namespace, action),
            weight: number(rule.weight),
            request_headers_to_add: operations.request_add,
            request_headers_to_remove: operations.request_remove,
            response_headers_to_add: operations.response_add,
            response_headers_to_remove: operations.response_remove,
            host_rewrite_specifier: own.map(cluster_weight::HostRewriteSpecifier::HostRewriteLiteral),
            ..Default::default()
        });
    }
    fit(&mut clusters);
    action.cluster_specifier =
        Some(ClusterSpecifier::WeightedClusters(WeightedCluster { clusters, ..Default::default() }));
}

/// Scales weights down until their sum is one that Envoy takes.
fn fit(clusters: &mut [ClusterWeight]) {
    let sum: u64 = clusters.iter().filter_map(|cluster| cluster.weight).map(|w| u64::from(w.value)).sum();
    let factor = u32::try_from(sum / u64::from(u32::MAX) + 1).unwrap_or(u32::MAX);
    if factor > 1 {
        clusters.iter_mut().filter_map(|cluster| cluster.weight.as_mut()).for_each(|w| w.value /= factor);
    }
}

/// The cluster of a destination; what its requests are hashed by is added to the action.
fn cluster(
    view: &View<'_>,
    place: &Place,
    destination: Option<&Destination>,
    namespace: Namespace,
    action: &mut RouteAction,
) -> String {
    let target = destination.filter(|destination| !destination.host.is_empty());
    let Some(target) = target.and_then(|to| destination::target(view, to, namespace, place.port)) else {
        return names::BLACK_HOLE_CLUSTER.to_owned();
    };
    if let Some(service) = &target.service {
        let policy = hash::policy(view, service, target.port, &target.subset);
        let new = policy.filter(|policy| !action.hash_policy.contains(policy));
        action.hash_policy.extend(new);
    }
    target.cluster
}

fn mirrors(
    view: &View<'_>,
    place: &Place,
    rule: &HttpRoute,
    namespace: Namespace,
) -> Vec<RequestMirrorPolicy> {
    let percent = rule.mirror_percentage.as_ref().map(|percent| percent.value);
    let single = rule.mirror.iter().map(|mirror| (mirror, percent.or(rule.mirror_percent.map(f64::from))));
    let several = rule.mirrors.iter().filter_map(|mirror| {
        let percent = mirror.percentage.as_ref().map(|percent| percent.value);
        mirror.destination.as_ref().map(|destination| (destination, percent))
    });
    let takes_none = |percent: Option<f64>| percent.is_some_and(|percent| percent <= 0.0);
    single
        .chain(several)
        .filter(|(_, percent)| !takes_none(*percent))
        .filter_map(|(mirror, percent)| {
            let target = destination::target(view, mirror, namespace, place.port)?;
            Some(RequestMirrorPolicy {
                cluster: target.cluster,
                runtime_fraction: Some(fraction::runtime(percent)),
                // The mirror sees the host that the client named, without `-shadow`.
                disable_shadow_host_suffix_append: true,
                ..Default::default()
            })
        })
        .collect()
}

fn redirect(rule: &HttpRedirect, place: &Place) -> RedirectAction {
    let scheme = match rule.scheme.as_str() {
        "" if place.tls => "https",
        "" => "http",
        written => written,
    };
    let port = match (rule.port, rule.derive_port) {
        (Some(port), _) => port,
        (None, Some(RedirectPort::FromRequestPort)) => place.port,
        (None, _) => 0,
    };
    let is_default = (port == 80 && scheme == "http") || (port == 443 && scheme == "https");
    let path = if !rule.prefix_rewrite.is_empty() {
        Some(PathRewriteSpecifier::PrefixRewrite(rule.prefix_rewrite.clone()))
    } else if let Some(rest) = rule.uri.strip_prefix(PREFIX_OPERATOR) {
        Some(PathRewriteSpecifier::PrefixRewrite(rest.to_owned()))
    } else {
        (!rule.uri.is_empty()).then(|| PathRewriteSpecifier::PathRedirect(rule.uri.clone()))
    };
    RedirectAction {
        host_redirect: rule.authority.clone(),
        port_redirect: if is_default { 0 } else { u32::from(port) },
        response_code: redirect_code(rule.redirect_code) as i32,
        scheme_rewrite_specifier: (!rule.scheme.is_empty())
            .then(|| SchemeRewriteSpecifier::SchemeRedirect(rule.scheme.clone())),
        path_rewrite_specifier: path,
        ..Default::default()
    }
}

fn redirect_code(written: u32) -> RedirectResponseCode {
    match written {
        302 => RedirectResponseCode::Found,
        303 => RedirectResponseCode::SeeOther,
        307 => RedirectResponseCode::TemporaryRedirect,
        308 => RedirectResponseCode::PermanentRedirect,
        _ => RedirectResponseCode::MovedPermanently,
    }
}

fn direct_response(rule: &HttpDirectResponse) -> DirectResponseAction {
    let specifier = rule.body.as_ref().and_then(|body| match (&body.string, &body.bytes) {
        (Some(text), _) => Some(data_source::Specifier::InlineString(text.clone())),
        (None, Some(bytes)) => base64::decode(bytes).map(data_source::Specifier::InlineBytes),
        (None, None) => None,
    });
    let fits = |specifier: &data_source::Specifier| match specifier {
        data_source::Specifier::InlineString(text) => text.len() <= MAX_BODY_BYTES as usize,
        data_source::Specifier::InlineBytes(bytes) => bytes.len() <= MAX_BODY_BYTES as usize,
        _ => true,
    };
    DirectResponseAction {
        // Envoy gives no final answer below 200.
        status: if (200..600).contains(&rule.status) { rule.status } else { 500 },
        body: specifier
            .filter(fits)
            .map(|specifier| DataSource { specifier: Some(specifier), ..Default::default() }),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(port: u16, tls: bool) -> Place {
        Place { gateway: "mesh".into(), port, tls }
    }

    #[test]
    fn a_redirects_port_is_left_out_where_it_is_the_schemes() {
        let from_request = |scheme: &str| HttpRedirect {
            scheme: scheme.into(),
            derive_port: Some(RedirectPort::FromRequestPort),
            ..Default::default()
        };
        let cases = [
            (from_request("https"), place(80, false), 80),
            (from_request(""), place(80, false), 0),
            (from_request(""), place(8080, false), 8080),
            (from_request(""), place(443, true), 0),
            (HttpRedirect { port: Some(8443), ..Default::default() }, place(80, false), 8443),
            (HttpRedirect::default(), place(8080, false), 0),
        ];
        for (rule, place, expected) in cases {
            assert_eq!(redirect(&rule, &place).port_redirect, expected, "{rule:?} {place:?}");
        }
    }

    #[test]
    fn a_redirects_path_is_whole_or_a_prefix() {
        let path = |uri: &str, prefix: &str| {
            let rule = HttpRedirect { uri: uri.into(), prefix_rewrite: prefix.into(), ..Default::default() };
            redirect(&rule, &place(80, false)).path_rewrite_specifier
        };
        assert_eq!(path("", ""), None, "kept");
        assert_eq!(path("/new", ""), Some(PathRewriteSpecifier::PathRedirect("/new".into())));
        assert_eq!(path("%PREFIX()%/new", ""), Some(PathRewriteSpecifier::PrefixRewrite("/new".into())));
        assert_eq!(path("", "/new/"), Some(PathRewriteSpecifier::PrefixRewrite("/new/".into())));
    }

    #[test]
    fn statuses_that_envoy_refuses_become_faults_of_ours() {
        for (written, expected) in [(200, 200), (404, 404), (599, 599), (100, 500), (600, 500)] {
            let rule = HttpDirectResponse { status: written, ..Default::default() };
            assert_eq!(direct_response(&rule).status, expected);
        }
    }

    #[test]
    fn weights_are_scaled_only_when_their_sum_is_too_large() {
        let weights = |values: &[u32]| {
            let mut clusters: Vec<ClusterWeight> = values
                .iter()
                .map(|value| ClusterWeight { weight: number(*value), ..Default::default() })
                .collect();
            fit(&mut clusters);
            clusters.iter().map(|cluster| cluster.weight.unwrap().value).collect::<Vec<u32>>()
        };
        assert_eq!(weights(&[80, 10, 10]), [80, 10, 10]);
        assert_eq!(weights(&[u32::MAX, u32::MAX]), [u32::MAX / 3, u32::MAX / 3]);
    }
}
