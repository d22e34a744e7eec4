//! Which service a request or connection was for, by the cluster it went to, and what a cluster says of metadata
//! exchange.

use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Struct, Value};

use crate::{Cluster, Metadata};

const NAMESPACE: &str = "istio";
const BLACK_HOLE: &str = "BlackHoleCluster";
const PASSTHROUGH: &str = "PassthroughCluster";
/// Clusters that stand for no service: they are told by their own names.
const NAMELESS: [&str; 5] = [
    BLACK_HOLE,
    PASSTHROUGH,
    "InboundPassthroughCluster",
    "InboundPassthroughClusterIpv4",
    "InboundPassthroughClusterIpv6",
];

/// What a cluster's metadata says to Istio's filters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterFacts {
    /// Its own name, where it stands for no service.
    nameless: Option<&'static str>,
    /// The service, if it says one.
    service: Option<Service>,
    /// Is it outside the mesh?
    is_external: bool,
    /// Is nothing to be told to it?
    disables_exchange: bool,
    /// Are its application protocols as they are configured?
    keeps_alpn: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Service {
    host: Option<Box<str>>,
    name: Option<Box<str>>,
    namespace: Option<Box<str>>,
}

/// What kind of route a request took, as far as its name says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RouteKind {
    /// One for a service.
    #[default]
    Service,
    /// The one that refuses what nobody has declared.
    BlockAll,
    /// The one that lets through what nobody has declared.
    AllowAny,
}

impl RouteKind {
    /// Of a route's name.
    pub fn of(name: &str) -> RouteKind {
        match name {
            "block_all" => RouteKind::BlockAll,
            "allow_any" => RouteKind::AllowAny,
            _ => RouteKind::Service,
        }
    }
}

/// A destination, as labels say it; what is not known is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Destination<'a> {
    /// Full name of the service.
    pub host: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
}

impl ClusterFacts {
    /// Reads a cluster.
    pub fn of(cluster: &Cluster) -> ClusterFacts {
        let flag = |key: &str| {
            let value = cluster.metadata.get(NAMESPACE, &[key]);
            value.is_some_and(|value| matches!(value.kind, Some(Kind::BoolValue(true))))
        };
        let alpn = cluster.metadata.get(NAMESPACE, &["alpn_override"]);
        ClusterFacts {
            nameless: NAMELESS.into_iter().find(|name| **name == *cluster.name),
            service: service(&cluster.metadata),
            is_external: flag("external"),
            disables_exchange: flag("disable_mx"),
            keeps_alpn: alpn.is_some_and(|value| string(value) == Some("false")),
        }
    }

    /// Whether a proxy does not tell itself to this cluster. `skips_external`: nor to what is outside the mesh.
    pub fn is_told_nothing(&self, skips_external: bool) -> bool {
        self.disables_exchange || skips_external && (self.is_external || self.nameless == Some(PASSTHROUGH))
    }

    /// Whether its application protocols are as they are configured.
    pub fn keeps_alpn(&self) -> bool {
        self.keeps_alpn
    }

    /// Whether the destination depends on the request's host.
    pub fn needs_host(&self, route: RouteKind) -> bool {
        let service =
            self.service.as_ref().filter(|_| self.nameless.is_none() && route == RouteKind::Service);
        service.is_none_or(|service| service.host.is_none())
    }
}

/// The destination of what went to a cluster, if it went to one. `host`: the request's, if it may speak for the destination; else empty.
pub fn destination<'a>(
    host: &'a str,
    route: RouteKind,
    cluster: Option<&'a ClusterFacts>,
) -> Destination<'a> {
    let mut destination = Destination { host, name: host, namespace: "" };
    match (route, cluster) {
        (RouteKind::BlockAll, _) => destination.name = BLACK_HOLE,
        (RouteKind::AllowAny, _) => destination.name = PASSTHROUGH,
        (_, None) => {}
        (_, Some(ClusterFacts { nameless: Some(name), .. })) => destination.name = name,
        (_, Some(ClusterFacts { service: None, .. })) => {}
        (_, Some(ClusterFacts { service: Some(service), .. })) => {
            if let Some(host) = &service.host {
                destination.host = host;
            }
            let first = destination.host.split('.').next().unwrap_or_default();
            destination.name = service.name.as_deref().unwrap_or(first);
            destination.namespace = service.namespace.as_deref().unwrap_or_default();
        }
    }
    destination
}

/// The first of the services that are noted.
fn service(metadata: &Metadata) -> Option<Service> {
    let Some(Kind::ListValue(list)) = &metadata.get(NAMESPACE, &["services"])?.kind else { return None };
    let nothing = Struct::default();
    let first = match &list.values.first()?.kind {
        Some(Kind::StructValue(first)) => first,
        _ => &nothing,
    };
    let field = |key: &str| first.fields.get(key).map(|value| string(value).unwrap_or_default().into());
    Some(Service { host: field("host"), name: field("name"), namespace: field("namespace") })
}

fn string(value: &Value) -> Option<&str> {
    match &value.kind {
        Some(Kind::StringValue(text)) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(name: &str, istio: serde_json::Value) -> ClusterFacts {
        let cluster = serde_json::json!({
            "name": name, "type": "STATIC", "metadata": {"filter_metadata": {"istio": istio}},
        });
        let proto = ostro_envoy_json::from_value(&cluster, ostro_envoy_json::Unknown::Refuse).unwrap();
        ClusterFacts::of(&Cluster::compile(proto).unwrap())
    }

    fn said<'a>(host: &'a str, name: &'a str, namespace: &'a str) -> Destination<'a> {
        Destination { host, name, namespace }
    }

    #[test]
    fn a_service_that_is_noted_goes_before_the_requests_host() {
        let whole =
            facts("a", serde_json::json!({"services": [{"host": "s.n.svc", "name": "s", "namespace": "n"}]}));
        assert_eq!(destination("h", RouteKind::Service, Some(&whole)), said("s.n.svc", "s", "n"));
        assert!(!whole.needs_host(RouteKind::Service) && whole.needs_host(RouteKind::AllowAny));
        let nameless = facts("a", serde_json::json!({"services": [{"host": "s.n.svc"}]}));
        assert_eq!(destination("h", RouteKind::Service, Some(&nameless)), said("s.n.svc", "s", ""));
        let hostless = facts("a", serde_json::json!({"services": [{}]}));
        assert_eq!(destination("h.x", RouteKind::Service, Some(&hostless)), said("h.x", "h", ""));
        assert!(hostless.needs_host(RouteKind::Service));
        let none = facts("a", serde_json::json!({}));
        assert_eq!(destination("h", RouteKind::Service, Some(&none)), said("h", "h", ""));
        assert_eq!(destination("", RouteKind::Service, None), said("", "", ""));
    }

    #[test]
    fn what_stands_for_no_service_is_told_by_name() {
        let services = serde_json::json!({"services": [{"host": "s.n.svc"}]});
        let passthrough = facts("PassthroughCluster", services);
        assert_eq!(
            destination("h", RouteKind::Service, Some(&passthrough)),
            said("h", "PassthroughCluster", "")
        );
        assert_eq!(destination("h", RouteKind::of("block_all"), None), said("h", "BlackHoleCluster", ""));
        let any = destination("h", RouteKind::of("allow_any"), Some(&passthrough));
        assert_eq!(any, said("h", "PassthroughCluster", ""));
    }

    #[test]
    fn to_some_nothing_is_told() {
        let outside = facts("a", serde_json::json!({"external": true}));
        assert!(outside.is_told_nothing(true) && !outside.is_told_nothing(false));
        assert!(facts("PassthroughCluster", serde_json::json!({})).is_told_nothing(true));
        assert!(facts("a", serde_json::json!({"disable_mx": true})).is_told_nothing(false));
        assert!(facts("a", serde_json::json!({"alpn_override": "false"})).keeps_alpn());
    }
}
