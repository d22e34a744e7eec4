//! One document to an object: which kind it is, its metadata, and its kind's reading.

use std::collections::BTreeMap;

use ostro_names::{Name, Namespace};

use crate::decode::{At, Decode};
use crate::kubernetes::{Node, NodeAddress};
use crate::mesh_config::MeshConfig;
use crate::object::{Kind, Meta, Other, Spec, Timestamp};
use crate::schema::schema;
use crate::tree::Mark;
use crate::workload::{JobSpec, Workload};
use crate::yaml::{Document, Place};
use crate::{hosts, validate, yaml};
use ostro_names::limits;

/// What says which object a document is.
pub(crate) struct Header {
    pub meta: Meta,
    api_version: String,
    kind: String,
}

/// A kind that is read: its group, served versions, and whether it lives in namespaces.
struct Known {
    kind: Kind,
    group: &'static str,
    versions: &'static [&'static str],
    namespaced: bool,
}

const ISTIO: (&str, &[&str]) = ("networking.istio.io", &["v1", "v1beta1", "v1alpha3"]);

const KNOWN: &[Known] = &[
    known(Kind::Namespace, "", &["v1"], false),
    known(Kind::Node, "", &["v1"], false),
    known(Kind::Service, "", &["v1"], true),
    known(Kind::Endpoints, "", &["v1"], true),
    known(Kind::Pod, "", &["v1"], true),
    known(Kind::ServiceAccount, "", &["v1"], true),
    known(Kind::ConfigMap, "", &["v1"], true),
    known(Kind::Secret, "", &["v1"], true),
    known(Kind::EndpointSlice, "discovery.k8s.io", &["v1", "v1beta1"], true),
    known(Kind::Deployment, "apps", &["v1"], true),
    known(Kind::StatefulSet, "apps", &["v1"], true),
    known(Kind::DaemonSet, "apps", &["v1"], true),
    known(Kind::ReplicaSet, "apps", &["v1"], true),
    known(Kind::Job, "batch", &["v1"], true),
    known(Kind::VirtualService, ISTIO.0, ISTIO.1, true),
    known(Kind::DestinationRule, ISTIO.0, ISTIO.1, true),
    known(Kind::Gateway, ISTIO.0, ISTIO.1, true),
    known(Kind::ServiceEntry, ISTIO.0, ISTIO.1, true),
    known(Kind::WorkloadEntry, ISTIO.0, ISTIO.1, true),
];

const fn known(
    kind: Kind,
    group: &'static str,
    versions: &'static [&'static str],
    namespaced: bool,
) -> Known {
    Known { kind, group, versions, namespaced }
}

/// Kinds we do not read that live outside namespaces (beside all whose name begins with `Cluster`).
const CLUSTER_SCOPED: &[&str] = &[
    "APIService",
    "CSIDriver",
    "CustomResourceDefinition",
    "GatewayClass",
    "IngressClass",
    "MutatingWebhookConfiguration",
    "PersistentVolume",
    "PriorityClass",
    "RuntimeClass",
    "StorageClass",
    "ValidatingWebhookConfiguration",
];

/// The ConfigMap that holds the mesh's settings, and its key.
const MESH_CONFIG: (&str, &str) = ("istio", "mesh");

schema! {
    /// Metadata as written.
    strict struct RawMeta {
        /// As written.
        name: String,
        /// As written.
        namespace: String,
        /// As written.
        labels: BTreeMap<String, String>,
        /// As written.
        annotations: BTreeMap<String, String>,
        /// As written.
        creation_timestamp: Option<Timestamp>,
        /// As written.
        uid: String,
        /// As written.
        deletion_timestamp: Option<Timestamp>,
        ..[
            "clusterName", "deletionGracePeriodSeconds", "finalizers", "generateName", "generation",
            "managedFields", "ownerReferences", "resourceVersion", "selfLink",
        ]
    }
}

/// Reads which object a document is; None if it does not say. Complaints tell why.
pub(crate) fn header(at: &At<'_>) -> Option<Header> {
    if !at.is_mapping(&[], &[], false) {
        return None;
    }
    let api_version = required_text(at, "apiVersion", "such as v1 or networking.istio.io/v1");
    let kind = required_text(at, "kind", "such as Service or VirtualService");
    let metadata = at.field("metadata");
    let raw = if metadata.is_set() {
        RawMeta::decode(&metadata)
    } else {
        metadata.complain("nothing", "metadata with a name");
        RawMeta::default()
    };
    let (api_version, kind) = (api_version?, kind?);
    let (kind_id, namespaced) = kind_of(at, &api_version, &kind)?;
    let meta = meta(&metadata, raw, kind_id, namespaced)?;
    Some(Header { meta, api_version, kind })
}

fn required_text(at: &At<'_>, name: &str, example: &str) -> Option<String> {
    let field = at.field(name);
    match field.text() {
        Some(text) if !text.is_empty() => Some(text.to_owned()),
        _ => {
            field.refuse(format!("text {example}"));
            None
        }
    }
}

fn kind_of(at: &At<'_>, api_version: &str, kind: &str) -> Option<(Kind, bool)> {
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    if let Some(known) = KNOWN.iter().find(|known| known.group == group && known.kind.as_str() == kind) {
        if known.versions.contains(&version) {
            return Some((known.kind, known.namespaced));
        }
        let served: Vec<String> = known
            .versions
            .iter()
            .map(
                |version| if group.is_empty() { (*version).to_owned() } else { format!("{group}/{version}") },
            )
            .collect();
        at.field("apiVersion").refuse(served.join(", "));
        return None;
    }
    if !kind.bytes().all(|b| b.is_ascii_alphanumeric()) || kind.len() > 63 {
        at.field("kind").refuse("letters and digits, 63 at most");
        return None;
    }
    if !group.is_empty() && !hosts::is_subdomain(group) {
        at.field("apiVersion").refuse("group/version, the group a DNS name");
        return None;
    }
    let full = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
    let name = intern(&at.field("kind"), &full, Name::try_new)?;
    let cluster_scoped = kind.starts_with("Cluster") || CLUSTER_SCOPED.contains(&kind);
    Some((Kind::Other(name), !cluster_scoped))
}

fn intern<T>(at: &At<'_>, text: &str, new: fn(&str) -> Result<T, ostro_names::NameError>) -> Option<T> {
    new(text).map_err(|error| at.complain(error.to_string(), "fewer or shorter names")).ok()
}

fn meta(at: &At<'_>, raw: RawMeta, kind: Kind, namespaced: bool) -> Option<Meta> {
    let name_at = at.field("name");
    if !name_at.is_set() || raw.name.is_empty() {
        // Elsewise the complaint is there already.
        if at.is_set() && (!name_at.is_set() || name_at.text().is_some()) {
            name_at.refuse("a name");
        }
        return None;
    }
    // Services, Namespaces and (by Istio's rule) Gateways become labels of DNS names.
    let is_label = matches!(kind, Kind::Service | Kind::Namespace | Kind::Gateway);
    if is_label && !hosts::is_label(&raw.name) {
        name_at.refuse("a DNS label: lower case letters, digits and -, 63 at most");
        return None;
    }
    if !hosts::is_object_name(&raw.name) {
        name_at.refuse("a DNS name: lower case letters, digits, - and ., 253 at most");
        return None;
    }
    let namespace = match (namespaced, raw.namespace.as_str()) {
        (false, _) => "",
        (true, "") => "default",
        (true, given) if hosts::is_label(given) => given,
        (true, _) => {
            at.field("namespace").refuse("a DNS label: lower case letters, digits and -, 63 at most");
            return None;
        }
    };
    hosts::check_labels(&at.field("labels"), &raw.labels);
    Some(Meta {
        kind,
        name: intern(&name_at, &raw.name, Name::try_new)?,
        namespace: intern(&at.field("namespace"), namespace, Namespace::try_new)?,
        labels: raw.labels,
        annotations: raw.annotations,
        creation_timestamp: raw.creation_timestamp,
        uid: raw.uid,
        deletion_timestamp: raw.deletion_timestamp,
    })
}

/// Reads what an object says.
pub(crate) fn spec(at: &At<'_>, header: &Header) -> Spec {
    match header.meta.kind {
        Kind::Namespace => Spec::Namespace,
        Kind::Node => Spec::Node(Node { addresses: node_addresses(at) }),
        Kind::Service => Spec::Service(required(at)),
        Kind::EndpointSlice => Spec::EndpointSlice(Decode::decode(at)),
        Kind::Endpoints => Spec::Endpoints(Decode::decode(at)),
        Kind::Pod => Spec::Pod(Box::new(Decode::decode(at))),
        Kind::ServiceAccount => Spec::ServiceAccount,
        Kind::Deployment | Kind::StatefulSet | Kind::DaemonSet | Kind::ReplicaSet => {
            Spec::Workload(required(at))
        }
        Kind::Job => Spec::Workload(job(at)),
        Kind::ConfigMap => config_map(at, header),
        Kind::Secret => Spec::Secret(Box::new(Decode::decode(at))),
        Kind::VirtualService => Spec::VirtualService(istio(at)),
        Kind::DestinationRule => Spec::DestinationRule(istio(at)),
        Kind::Gateway => Spec::Gateway(*istio(at)),
        Kind::ServiceEntry => Spec::ServiceEntry(istio(at)),
        Kind::WorkloadEntry => Spec::WorkloadEntry(istio(at)),
        Kind::Other(_) => other(header),
    }
}

fn other(header: &Header) -> Spec {
    Spec::Other(Other { api_version: header.api_version.clone(), kind: header.kind.clone() })
}

/// The `spec` of a document, which must be there.
fn required<T: Decode + Default>(at: &At<'_>) -> Box<T> {
    let spec = at.field("spec");
    if spec.is_set() {
        Box::new(T::decode(&spec))
    } else {
        spec.refuse("a spec");
        Box::default()
    }
}

/// The `spec` of an Istio document, which has nothing beside it that we do not know.
fn istio<T: Decode + Default>(at: &At<'_>) -> Box<T> {
    at.is_mapping(&["apiVersion", "kind", "metadata", "spec", "status"], &[], true);
    required(at)
}

fn node_addresses(at: &At<'_>) -> Vec<NodeAddress> {
    let status = at.field("status");
    if !status.is_set() || !status.is_mapping(&[], &[], false) {
        return Vec::new();
    }
    status.read("addresses").unwrap_or_default()
}

/// A Job has fields of its own, and says `parallelism` where others say `replicas`.
fn job(at: &At<'_>) -> Box<Workload> {
    let mut workload: Box<Workload> = required(at);
    let spec = at.field("spec");
    if spec.is_set() {
        workload.job = JobSpec::decode(&spec);
        workload.replicas = workload.job.parallelism;
    }
    workload
}

/// The ConfigMap `istio` is the mesh's settings; others are data.
fn config_map(at: &At<'_>, header: &Header) -> Spec {
    let data = at.field("data");
    let mesh = data.field(MESH_CONFIG.1);
    if header.meta.name != MESH_CONFIG.0 || !mesh.is_set() {
        return Spec::ConfigMap(Box::new(Decode::decode(at)));
    }
    let Some(scalar) = mesh.scalar().filter(|_| mesh.text().is_some()) else {
        mesh.refuse("YAML inside text: begin it with |");
        return other(header);
    };
    let place = if scalar.literal { inside(mesh.mark(), &scalar.text) } else { Place::At(mesh.mark()) };
    let mut nodes = limits::DOCUMENT_NODES;
    let mut config = MeshConfig::default();
    for (index, Document { root, faults }) in
        yaml::parse(&scalar.text, place, &mut nodes).into_iter().enumerate()
    {
        for mut fault in faults {
            fault.path = [mesh.to_string(), fault.path].join(".").trim_end_matches('.').to_owned();
            at.sink().fault(fault);
        }
        match root {
            Some(root) if index == 0 => config = mesh_config(&mesh.graft(&root)),
            Some(root) => mesh.graft(&root).complain("a second document", "one"),
            None => {}
        }
    }
    Spec::MeshConfig(Box::new(config))
}

/// Where a block scalar's lines stand: its mark is in the first line that is not blank.
fn inside(mark: Mark, text: &str) -> Place {
    let blank = text.bytes().take_while(|&b| b == b'\n').count();
    Place::Inside(mark.line.saturating_sub(1).saturating_sub(u32::try_from(blank).unwrap_or(u32::MAX)))
}

/// Reads a MeshConfig.
pub(crate) fn mesh_config(at: &At<'_>) -> MeshConfig {
    let config = if at.is_set() { MeshConfig::decode(at) } else { MeshConfig::default() };
    validate::mesh_config(at, &config);
    config
}
