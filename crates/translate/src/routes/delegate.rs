//! Delegation: routes of a VirtualService that go on in another (HTTPRoute `delegate`).
//!
//! The result is as if the root had been written with the delegates' routes in it. A delegate is a VirtualService
//! without hosts that the root's namespace sees; delegates do not delegate further.

use std::borrow::Cow;
use std::collections::BTreeMap;

use ostro_api::virtual_service::{
    Delegate, Destination, HttpMatchRequest, HttpRoute, HttpRouteDestination, StringMatch,
};
use ostro_mesh::View;
use ostro_mesh::model::RouteRules;
use ostro_names::{Name, Namespace};

use super::destination::resolve;

/// One http rule, and the namespace in which its short names were written.
#[derive(Debug, Clone)]
pub struct Rule<'a> {
    pub route: Cow<'a, HttpRoute>,
    pub namespace: Namespace,
}

/// The http rules of `rules` with all delegation carried out. A delegate that is missing, hidden or in conflict with
/// the root's conditions contributes nothing.
pub fn expand<'a>(view: &View<'_>, rules: &'a RouteRules) -> Vec<Rule<'a>> {
    let mut out = Vec::new();
    for route in &rules.spec.http {
        match &route.delegate {
            None => out.push(Rule { route: Cow::Borrowed(route), namespace: rules.age.namespace }),
            Some(delegate) => out.extend(delegated(view, rules, route, delegate)),
        }
    }
    out
}

fn delegated<'a>(
    view: &View<'_>,
    rules: &RouteRules,
    root: &HttpRoute,
    delegate: &Delegate,
) -> Vec<Rule<'a>> {
    let own = rules.age.namespace;
    let namespace = match delegate.namespace.as_str() {
        "" => Some(own),
        written => Namespace::try_new(written).ok(),
    };
    let (Some(namespace), Ok(name)) = (namespace, Name::try_new(&delegate.name)) else { return Vec::new() };
    let Some(target) = view.virtual_service(namespace, name) else { return Vec::new() };
    if !target.hosts.is_empty() || !target.visibility.admits(own) {
        return Vec::new();
    }
    let root = absolute(view, root.clone(), own);
    let leaves = target.spec.http.iter().filter(|leaf| leaf.delegate.is_none());
    leaves
        .filter_map(|leaf| merge(&root, absolute(view, leaf.clone(), namespace)))
        .map(|route| Rule { route: Cow::Owned(route), namespace })
        .collect()
}

/// The route with its destinations' short names made full, so that it means the same in any namespace.
fn absolute(view: &View<'_>, mut route: HttpRoute, namespace: Namespace) -> HttpRoute {
    let make_full = |destination: &mut Destination| {
        if let Some(host) = resolve(view, &destination.host, namespace) {
            destination.host = host.as_str().to_owned();
        }
    };
    let weighted = |destination: &mut HttpRouteDestination| {
        destination.destination.iter_mut().for_each(make_full);
    };
    route.route.iter_mut().for_each(weighted);
    route.mirror.iter_mut().for_each(make_full);
    route.mirrors.iter_mut().filter_map(|mirror| mirror.destination.as_mut()).for_each(make_full);
    route
}

/// The delegate's route under the root's; `None` if their conditions cannot both hold.
fn merge(root: &HttpRoute, leaf: HttpRoute) -> Option<HttpRoute> {
    let conditions = merge_matches(&root.r#match, &leaf.r#match)?;
    Some(HttpRoute {
        name: join_names(&root.name, &leaf.name),
        r#match: conditions,
        rewrite: leaf.rewrite.or_else(|| root.rewrite.clone()),
        direct_response: leaf.direct_response.or_else(|| root.direct_response.clone()),
        timeout: leaf.timeout.or(root.timeout),
        retries: leaf.retries.or_else(|| root.retries.clone()),
        fault: leaf.fault.or_else(|| root.fault.clone()),
        mirror: leaf.mirror.or_else(|| root.mirror.clone()),
        mirrors: if leaf.mirrors.is_empty() { root.mirrors.clone() } else { leaf.mirrors },
        mirror_percent: leaf.mirror_percent.or(root.mirror_percent),
        mirror_percentage: leaf.mirror_percentage.or_else(|| root.mirror_percentage.clone()),
        cors_policy: leaf.cors_policy.or_else(|| root.cors_policy.clone()),
        headers: leaf.headers.or_else(|| root.headers.clone()),
        ..leaf
    })
}

fn join_names(root: &str, leaf: &str) -> String {
    match (root, leaf) {
        ("", name) | (name, "") => name.to_owned(),
        (root, leaf) => format!("{root}-{leaf}"),
    }
}

/// Every condition of the leaf, narrowed by every root condition it does not contradict. A leaf condition that
/// contradicts all of the root's makes the whole route a conflict.
fn merge_matches(root: &[HttpMatchRequest], leaf: &[HttpMatchRequest]) -> Option<Vec<HttpMatchRequest>> {
    if root.is_empty() {
        return Some(leaf.to_vec());
    }
    if leaf.is_empty() {
        return Some(root.to_vec());
    }
    let mut out = Vec::new();
    for narrow in leaf {
        let before = out.len();
        out.extend(root.iter().filter(|wide| !conflict(wide, narrow)).map(|wide| merge_match(wide, narrow)));
        if out.len() == before {
            return None;
        }
    }
    Some(out)
}

fn merge_match(root: &HttpMatchRequest, leaf: &HttpMatchRequest) -> HttpMatchRequest {
    fn union<V: Clone>(root: &BTreeMap<String, V>, leaf: &BTreeMap<String, V>) -> BTreeMap<String, V> {
        root.iter().chain(leaf).map(|(key, value)| (key.clone(), value.clone())).collect()
    }
    let or_root = |leaf: &String, root: &String| if leaf.is_empty() { root.clone() } else { leaf.clone() };
    HttpMatchRequest {
        name: join_names(&root.name, &leaf.name),
        uri: leaf.uri.clone().or_else(|| root.uri.clone()),
        scheme: leaf.scheme.clone().or_else(|| root.scheme.clone()),
        method: leaf.method.clone().or_else(|| root.method.clone()),
        authority: leaf.authority.clone().or_else(|| root.authority.clone()),
        headers: union(&root.headers, &leaf.headers),
        without_headers: union(&root.without_headers, &leaf.without_headers),
        query_params: union(&root.query_params, &leaf.query_params),
        source_labels: union(&root.source_labels, &leaf.source_labels),
        port: leaf.port.or(root.port),
        gateways: if leaf.gateways.is_empty() { root.gateways.clone() } else { leaf.gateways.clone() },
        source_namespace: or_root(&leaf.source_namespace, &root.source_namespace),
        stat_prefix: or_root(&leaf.stat_prefix, &root.stat_prefix),
        ignore_uri_case: leaf.ignore_uri_case,
    }
}

/// Whether a request cannot meet both, as far as that can be told from what is written.
fn conflict(root: &HttpMatchRequest, leaf: &HttpMatchRequest) -> bool {
    let strings = [
        (&root.uri, &leaf.uri),
        (&root.scheme, &leaf.scheme),
        (&root.method, &leaf.method),
        (&root.authority, &leaf.authority),
    ];
    let maps = [
        (&root.headers, &leaf.headers),
        (&root.without_headers, &leaf.without_headers),
        (&root.query_params, &leaf.query_params),
    ];
    let labels = leaf.source_labels.iter();
    strings.into_iter().any(|(wide, narrow)| string_conflict(wide.as_ref(), narrow.as_ref()))
        || maps.into_iter().any(|(wide, narrow)| {
            narrow.iter().any(|(name, rule)| string_conflict(wide.get(name), Some(rule)))
        })
        || root.ignore_uri_case != leaf.ignore_uri_case
        || matches!((root.port, leaf.port), (Some(wide), Some(narrow)) if wide != narrow)
        || labels
            .into_iter()
            .any(|(key, value)| root.source_labels.get(key).is_some_and(|wide| wide != value))
        || differ(&root.source_namespace, &leaf.source_namespace)
        || (!root.gateways.is_empty() && leaf.gateways.iter().any(|name| !root.gateways.contains(name)))
}

fn differ(root: &str, leaf: &str) -> bool {
    !root.is_empty() && !leaf.is_empty() && root != leaf
}

/// Whether `leaf` is not a narrowing of `root`. Regular expressions are not compared: two of them conflict.
fn string_conflict(root: Option<&StringMatch>, leaf: Option<&StringMatch>) -> bool {
    use StringMatch::{Any, Exact, Prefix, Regex};
    match (root, leaf) {
        (None | Some(Any), _) | (_, None | Some(Any)) => false,
        (Some(Regex(_)), Some(_)) | (Some(_), Some(Regex(_))) => true,
        (Some(Exact(wide)), Some(Exact(narrow))) => wide != narrow,
        (Some(Exact(_)), Some(Prefix(_))) => true,
        (Some(Prefix(wide)), Some(Exact(narrow) | Prefix(narrow))) => !narrow.starts_with(wide.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn uri(rule: StringMatch) -> HttpMatchRequest {
        HttpMatchRequest { uri: Some(rule), ..Default::default() }
    }

    fn prefix(text: &str) -> StringMatch {
        StringMatch::Prefix(text.into())
    }

    fn exact(text: &str) -> StringMatch {
        StringMatch::Exact(text.into())
    }

    #[test]
    fn a_leaf_must_narrow_the_root() {
        let regex = || StringMatch::Regex(".*".into());
        let cases = [
            (prefix("/shop"), prefix("/shop/cart"), false),
            (prefix("/shop"), exact("/shop/cart"), false),
            (prefix("/shop/cart"), prefix("/shop"), true),
            (prefix("/shop"), exact("/"), true),
            (exact("/shop"), exact("/shop"), false),
            (exact("/shop"), prefix("/shop"), true),
            (exact("/shop"), exact("/cart"), true),
            (regex(), exact("/shop"), true),
            (prefix("/shop"), regex(), true),
            (StringMatch::Any, exact("/shop"), false),
        ];
        for (root, leaf, expected) in cases {
            assert_eq!(string_conflict(Some(&root), Some(&leaf)), expected, "{root:?} {leaf:?}");
        }
    }

    #[test]
    fn conditions_multiply_where_they_agree() {
        let root = [uri(prefix("/a")), uri(prefix("/b"))];
        let leaf = [uri(prefix("/a/1")), uri(exact("/b/2"))];
        let merged = merge_matches(&root, &leaf).unwrap();
        let uris: Vec<StringMatch> = merged.into_iter().filter_map(|m| m.uri).collect();
        assert_eq!(uris, [prefix("/a/1"), exact("/b/2")]);
        // One leaf condition that contradicts every root condition drops the route.
        assert_eq!(merge_matches(&root, &[uri(prefix("/a/1")), uri(prefix("/c"))]), None);
    }

    #[test]
    fn silence_on_either_side_takes_the_others_conditions() {
        let some = [uri(prefix("/a"))];
        assert_eq!(merge_matches(&[], &some).unwrap(), some);
        assert_eq!(merge_matches(&some, &[]).unwrap(), some);
    }

    #[test]
    fn a_leaf_inherits_what_it_does_not_say() {
        let root = HttpRoute {
            name: "root".into(),
            timeout: Some(Duration::from_secs(5)),
            r#match: vec![uri(prefix("/a"))],
            ..Default::default()
        };
        let leaf = HttpRoute { name: "leaf".into(), ..Default::default() };
        let merged = merge(&root, leaf).unwrap();
        assert_eq!((merged.name.as_str(), merged.timeout), ("root-leaf", Some(Duration::from_secs(5))));
        let own = HttpRoute { timeout: Some(Duration::from_secs(1)), ..Default::default() };
        assert_eq!(merge(&root, own).unwrap().timeout, Some(Duration::from_secs(1)));
    }

    #[test]
    fn other_conditions_that_exclude_each_other_conflict() {
        let port = |port| HttpMatchRequest { port: Some(port), ..Default::default() };
        assert!(conflict(&port(80), &port(81)) && !conflict(&port(80), &port(80)));
        let gateways = |names: &[&str]| HttpMatchRequest {
            gateways: names.iter().map(|name| (*name).to_owned()).collect(),
            ..Default::default()
        };
        assert!(conflict(&gateways(&["mesh"]), &gateways(&["mesh", "edge"])));
        assert!(!conflict(&gateways(&["mesh", "edge"]), &gateways(&["edge"])));
        let namespace = |name: &str| HttpMatchRequest { source_namespace: name.into(), ..Default::default() };
        assert!(conflict(&namespace("a"), &namespace("b")) && !conflict(&namespace("a"), &namespace("")));
    }
}
