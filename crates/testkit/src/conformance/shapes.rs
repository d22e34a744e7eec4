//! Whatever of a directory ends as Envoy's resources, loaded into our proxy by a second control plane, in both dialects.
//!
//! Two sorts of cases: filters that others wrote down as Envoy gets them (documents with `typedConfig`), each put into a
//! listener; and the meshes of the folders `simulation`, `routing` and `bookinfo`, as `translate` makes them for a proxy. A
//! case passes if everything is in force as it was sent. One that is refused by name counts as not read, with the name.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::listener::v3::Listener;
use ostro_envoy_json::{Unknown, from_value};
use ostro_mesh::model::{Labels, Locality};
use ostro_mesh::{Change, Mesh, Proxy, ProxyKind, Settings, Snapshot};
use ostro_names::{Name, Namespace};
use serde_json::{Value, json};

use super::{Case, Verdict, files, place, read, routing, simulation, value};
use crate::dump;
use crate::loaded::differences;
use crate::netns;
use crate::ours::{Dialect, Options, Ours};
use crate::second::{ControlPlane, Resource};

/// How long the proxy may take to say what it thinks of a case.
const PATIENCE: Duration = Duration::from_secs(60);

const TYPE: &str = "type.googleapis.com/";
const NOT_SUPPORTED: &str = "not supported: ";

/// A case: its name, and what is to be loaded.
type Shape = (String, Vec<Resource>);

pub(super) fn run(dir: &Path) -> Result<Vec<Case>, String> {
    let mut shapes = golden(dir)?;
    for folder in ["simulation", "routing", "bookinfo"] {
        let of = dir.join(folder);
        if of.is_dir() {
            let meshes = match folder {
                // What is about objects that are not read makes nothing.
                "simulation" => {
                    let all = simulation::meshes(&of)?;
                    all.into_iter().filter_map(|(name, mesh)| Some((name, mesh.ok()?))).collect()
                }
                "routing" => routing_meshes(&of)?,
                _ => bookinfo_meshes(&of)?,
            };
            shapes.extend(
                meshes.into_iter().map(|(name, (mesh, proxy))| (name, dump::resources(&mesh, &proxy))),
            );
        }
    }
    let judged = netns::alone(move || judge_all(shapes)).map_err(|error| error.to_string())?;
    Ok(judged.into_iter().map(|(name, verdict)| Case { name: format!("shapes/{name}"), verdict }).collect())
}

async fn judge_all(shapes: Vec<Shape>) -> Vec<(String, Verdict)> {
    let mut stages = Vec::new();
    for dialect in Dialect::ALL {
        let plane = ControlPlane::start().await;
        let ours = Ours::start(plane.address(), dialect, Options::default());
        stages.push((dialect, plane, ours));
    }
    let mut judged = Vec::new();
    for (name, resources) in shapes {
        let mut verdict = Verdict::Passed;
        for (dialect, plane, ours) in &stages {
            verdict = worse(verdict, judge(plane, ours, &resources, *dialect).await);
        }
        judged.push((name, verdict));
    }
    judged
}

fn worse(one: Verdict, other: Verdict) -> Verdict {
    match (one, other) {
        (Verdict::Failed(mut one), Verdict::Failed(other)) => {
            one.extend(other);
            Verdict::Failed(one)
        }
        (failed @ Verdict::Failed(_), _) | (_, failed @ Verdict::Failed(_)) => failed,
        (unread @ Verdict::NotRead(_), _) | (_, unread @ Verdict::NotRead(_)) => unread,
        (Verdict::Passed, Verdict::Passed) => Verdict::Passed,
    }
}

async fn judge(plane: &ControlPlane, ours: &Ours, sent: &[Resource], dialect: Dialect) -> Verdict {
    let before = plane.look(|answers| answers.refused.len());
    // From nothing, so that each case stands for itself.
    let empty = plane.replace(Vec::new());
    let loaded = async {
        plane.settled(empty).await;
        let change = plane.replace(sent.to_vec());
        tokio::select! {
            () = plane.answered(change) => {}
            () = plane.refused(change, before) => {}
        }
    };
    if tokio::time::timeout(PATIENCE, loaded).await.is_err() {
        return Verdict::Failed(vec![format!(
            "{dialect:?}: not answered within {PATIENCE:?}: {}",
            ours.words()
        )]);
    }
    let refused: Vec<String> = plane
        .look(|answers| answers.refused.iter().skip(before).map(|refused| refused.message.clone()).collect());
    if refused.is_empty() {
        let wrong = differences(&ours.config_dump(), sent);
        let told = wrong.into_iter().map(|wrong| format!("{dialect:?}: {wrong}"));
        let told: Vec<String> = told.collect();
        return if told.is_empty() { Verdict::Passed } else { Verdict::Failed(told) };
    }
    let names: BTreeSet<String> = refused.iter().flat_map(|text| unsupported(text)).collect();
    let others = refused.iter().any(|text| text.contains("invalid: ") || !text.contains(NOT_SUPPORTED));
    if others {
        return Verdict::Failed(refused.into_iter().map(|text| format!("{dialect:?}: {text}")).collect());
    }
    Verdict::NotRead(names.into_iter().collect::<Vec<_>>().join(", "))
}

/// What a refusal says is not supported.
fn unsupported(text: &str) -> impl Iterator<Item = String> {
    let parts = text.split(NOT_SUPPORTED).skip(1);
    parts.map(|rest| rest.split([',', '\n']).next().unwrap_or_default().trim().replace(TYPE, ""))
}

/// Filters as others wrote them down, each in a listener.
fn golden(dir: &Path) -> Result<Vec<Shape>, String> {
    let mut shapes = Vec::new();
    for path in files(dir)? {
        // What is not one document of this form is another's.
        let text = String::from_utf8_lossy(&read(&path)?).into_owned();
        if !text.contains("@type")
            || !text.contains("typedConfig")
            || text.lines().any(|l| l.starts_with("apiVersion"))
        {
            continue;
        }
        let (_, name) =
            place(dir, &path).split_once('/').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap_or_default();
        let listener = listener_with(value(&path)?);
        let listener =
            from_value::<Listener>(&listener, Unknown::Refuse).map_err(|error| format!("{name}: {error}"))?;
        shapes.push((name, vec![Resource::new("golden", &listener)]));
    }
    Ok(shapes)
}

fn listener_with(filter: Value) -> Value {
    let any = |kind: &str, mut config: Value| {
        config["@type"] = format!("{TYPE}envoy.extensions.filters.{kind}").into();
        config
    };
    let is_http = filter["typedConfig"]["@type"].as_str().is_some_and(|kind| kind.contains(".filters.http."));
    let filters = if is_http {
        let router = json!({"name": "router", "typed_config": any("http.router.v3.Router", json!({}))});
        let manager = json!({"stat_prefix": "golden", "route_config": {}, "http_filters": [filter, router]});
        let manager = any("network.http_connection_manager.v3.HttpConnectionManager", manager);
        json!([{"name": "hcm", "typed_config": manager}])
    } else {
        let tcp = any("network.tcp_proxy.v3.TcpProxy", json!({"stat_prefix": "golden", "cluster": "none"}));
        json!([filter, {"name": "tcp", "typed_config": tcp}])
    };
    json!({
        "name": "golden",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": filters}],
    })
}

type Meshes = Vec<(String, (Snapshot, Proxy))>;

/// A sidecar of `default`, or the ingress gateway.
fn proxy(kind: ProxyKind, address: [u8; 4]) -> Proxy {
    let (id, namespace) = match kind {
        ProxyKind::Router => ("router", "istio-system"),
        _ => ("sidecar", "default"),
    };
    Proxy {
        kind,
        id: format!(
            "{id}~{}~app.{namespace}~{namespace}.svc.cluster.local",
            std::net::Ipv4Addr::from(address)
        ),
        addresses: vec![address.into()],
        namespace: Namespace::new(namespace),
        dns_domain: format!("{namespace}.svc.cluster.local"),
        labels: Labels::from([("istio".to_owned(), "ingressgateway".to_owned())]),
        locality: Locality::default(),
        service_account: None,
        cluster_id: Some(Name::new("Kubernetes")),
        extensions: BTreeSet::new(),
        metadata: [("NAMESPACE".to_owned(), namespace.to_owned())].into(),
    }
}

fn mesh(texts: &[(&str, &[u8])]) -> Snapshot {
    // What is wrong with objects is judged elsewhere; here it is enough that those that are good have effect.
    let objects = texts.iter().flat_map(|(name, text)| ostro_api::parse_file(*name, text).objects);
    Mesh::new(Settings::default()).apply(objects.map(|object| Change::Upsert(Arc::new(object))).collect()).0
}

/// Bookinfo with each file of rules, for a sidecar and for the gateway.
fn bookinfo_meshes(dir: &Path) -> Result<Meshes, String> {
    let application = read(&dir.join("platform/kube/bookinfo.yaml"))?;
    let rules = read(&dir.join("networking/destination-rule-all.yaml"))?;
    let mut meshes = Vec::new();
    for path in files(&dir.join("networking"))? {
        let one = read(&path)?;
        let snapshot = || mesh(&[("application", &application), ("rules", &rules), ("one", &one)]);
        let name = place(dir, &path);
        let sidecar = proxy(ProxyKind::Sidecar, [10, 1, 0, 1]);
        meshes.push((format!("{name}/sidecar"), (snapshot(), sidecar)));
        meshes.push((format!("{name}/gateway"), (snapshot(), proxy(ProxyKind::Router, [10, 1, 0, 2]))));
    }
    Ok(meshes)
}

/// The echo services with each case's rules, for the sidecar of one.
fn routing_meshes(dir: &Path) -> Result<Meshes, String> {
    let (services, cases) = routing::meshes(dir)?;
    let made = |(name, config): (String, String)| {
        let snapshot = mesh(&[("services", services.as_bytes()), ("config", config.as_bytes())]);
        (name, (snapshot, proxy(ProxyKind::Sidecar, [10, 1, 0, 1])))
    };
    Ok(cases.into_iter().map(made).collect())
}
