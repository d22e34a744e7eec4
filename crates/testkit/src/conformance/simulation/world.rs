//! A case's mesh, and its proxy's resources.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use envoy_types::pb::envoy::config::listener::v3::Listener as ListenerProto;
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use ostro_api::{Kind, Object, Severity};
use ostro_engine::{Listener, Listeners, Reason, RouteTable};
use ostro_mesh::model::{Labels, Locality};
use ostro_mesh::{Change, Mesh, Proxy, ProxyKind, Settings, Snapshot, View};
use ostro_names::{Name, Namespace};
use ostro_translate::{Part, ResourceType, content, part_names, roster};
use prost::Message;
use serde_json::json;

use super::case::{ProxySpec, Simulation};
use crate::conformance::Verdict;

/// Address of a proxy that says none.
const PROXY_IP: [u8; 4] = [1, 1, 1, 1];

/// A mesh and a proxy, with the listeners the proxy gets.
pub(super) struct World {
    snapshot: Snapshot,
    proxy: Proxy,
    pub(super) listeners: Listeners,
    /// Listeners that were not taken, by name, with the reason.
    pub(super) refused: BTreeMap<String, Reason>,
    /// Names of all clusters.
    clusters: BTreeSet<&'static str>,
    /// A gateway has no listener for connections that none is meant for.
    pub(super) is_router: bool,
}

impl World {
    /// The world of a case, or why there is none.
    pub(super) fn build(case: &Simulation) -> Result<World, Verdict> {
        let (snapshot, proxy) = parts(case)?;
        let is_router = proxy.kind == ProxyKind::Router;
        let mut world = World {
            snapshot,
            proxy,
            listeners: Listeners::default(),
            refused: BTreeMap::new(),
            clusters: BTreeSet::new(),
            is_router,
        };
        world.clusters = world.names(ResourceType::Cluster).into_iter().map(Name::as_str).collect();
        world.take_listeners().map_err(|e| Verdict::Failed(vec![e]))?;
        Ok(world)
    }

    fn take_listeners(&mut self) -> Result<(), String> {
        for name in self.names(ResourceType::Listener) {
            let proto: ListenerProto = self.resource(ResourceType::Listener, name)?;
            match Listener::compile(proto) {
                Ok(listener) => self.listeners.insert(listener),
                Err(refusal) if matches!(refusal.reason(), Reason::SameMatch { .. }) => {
                    self.refused.insert(name.as_str().to_owned(), refusal.reason().clone());
                }
                Err(refusal) => return Err(format!("engine refuses what translate made: {refusal}")),
            }
        }
        Ok(())
    }

    /// Does a cluster satisfy an expectation? Where the cases come from, objects have no domain, so that a short name
    /// which no service has is completed with the namespace alone (`a` in `default` is `a.default`); ours have one.
    pub(super) fn is_cluster(&self, expected: &str, got: &str) -> bool {
        let completed = format!("{expected}.svc.{}", Settings::default().cluster_domain);
        expected == got || (completed == got && !self.clusters.contains(expected))
    }

    /// The names that a wildcard subscriber has.
    fn names(&self, kind: ResourceType) -> BTreeSet<Name> {
        let parts = roster(&self.view(), kind);
        let hosts = parts.public.iter().chain(parts.own.iter()).map(|host| Part::Host(*host));
        let parts: Vec<Part> = parts.fixed.iter().copied().chain(hosts).collect();
        parts.into_iter().flat_map(|part| part_names(&self.view(), kind, part)).collect()
    }

    /// The route configuration of this name, compiled.
    pub(super) fn routes(&self, name: &str) -> Result<RouteTable, String> {
        let proto: RouteConfiguration = self.resource(ResourceType::Route, Name::new(name))?;
        RouteTable::compile(proto).map_err(|refusal| format!("engine refuses what translate made: {refusal}"))
    }

    fn resource<M: Message + Default>(&self, kind: ResourceType, name: Name) -> Result<M, String> {
        let bytes =
            content(&self.view(), kind, name).ok_or_else(|| format!("there is no {kind:?} {name}"))?;
        M::decode(bytes).map_err(|error| format!("{kind:?} {name}: {error}"))
    }

    fn view(&self) -> View<'_> {
        View::new(&self.snapshot, &self.proxy)
    }
}

/// The mesh and the proxy of a case.
pub(super) fn parts(case: &Simulation) -> Result<(Snapshot, Proxy), Verdict> {
    let mut mesh = Mesh::new(Settings::default());
    let config = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "istio", "namespace": "istio-system"},
        "data": {"mesh": serde_json::Value::from(case.mesh_config.clone()).to_string()},
    });
    let mut objects = parse("mesh", &config.to_string())?;
    objects.extend(parse("config", &case.config)?);
    objects.extend(parse("kube", &case.kube)?);
    let changes = objects.into_iter().map(|o| Change::Upsert(Arc::new(o))).collect();
    Ok((mesh.apply(changes).0, proxy(&case.proxy)))
}

/// The objects of a text, all of which must be acceptable and of kinds that are read.
fn parse(what: &str, text: &str) -> Result<Vec<Object>, Verdict> {
    let parsed = ostro_api::parse_file(what, text.as_bytes());
    let errors: Vec<String> =
        parsed.complaints.iter().filter(|c| c.severity == Severity::Error).map(ToString::to_string).collect();
    if !errors.is_empty() {
        return Err(Verdict::Failed(errors));
    }
    let other = parsed.objects.iter().find_map(|o| match o.meta.kind {
        Kind::Other(kind) => Some(kind.as_str().to_owned()),
        _ => None,
    });
    match other {
        Some(kind) => Err(Verdict::NotRead(kind)),
        None => Ok(parsed.objects),
    }
}

fn proxy(spec: &ProxySpec) -> Proxy {
    let namespace = spec.metadata_namespace.as_ref().unwrap_or(&spec.namespace);
    let dns_domain = format!("{namespace}.svc.cluster.local");
    let (kind, kind_name) = match spec.kind.as_str() {
        "router" => (ProxyKind::Router, "router"),
        _ => (ProxyKind::Sidecar, "sidecar"),
    };
    let addresses = if spec.ip.is_empty() { vec![PROXY_IP.into()] } else { spec.ip.clone() };
    let mut metadata = spec.metadata.clone();
    metadata.insert("NAMESPACE".to_owned(), namespace.clone());
    // The proxies of these cases have an agent beside them, which fetches their certificates.
    metadata.insert("SDS".to_owned(), "true".to_owned());
    Proxy {
        kind,
        id: format!(
            "{kind_name}~{}~app.{namespace}~{dns_domain}",
            addresses.first().copied().unwrap_or(PROXY_IP.into())
        ),
        addresses,
        namespace: Namespace::new(namespace),
        dns_domain,
        labels: Labels::from_iter(spec.labels.clone()),
        locality: Locality::default(),
        service_account: None,
        cluster_id: Some(Name::new("Kubernetes")),
        extensions: BTreeSet::new(),
        metadata,
    }
}
