//! What a Pod or WorkloadEntry says of the workload it is, and what a Node says of where it is.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ostro_api::service_entry::WorkloadEntry;
use ostro_api::workload::Pod;
use ostro_api::{Meta, Object, Spec};
use ostro_names::Name;

use crate::model::{Labels, Locality, WorkloadRef};

/// A Pod or WorkloadEntry as endpoints see it.
#[derive(Debug, PartialEq)]
pub(crate) struct Workload {
    pub(crate) labels: Arc<Labels>,
    pub(crate) service_account: Option<Name>,
    pub(crate) identity: Arc<WorkloadRef>,
    /// Its proxy takes Istio mTLS.
    pub(crate) mtls: bool,
    /// Where it is, if it says so itself.
    pub(crate) locality: Option<Arc<Locality>>,
    /// Where a pod runs.
    pub(crate) node: Option<Name>,
    /// The addresses that are the pod's alone (a pod in its node's network has none; a WorkloadEntry is found by
    /// selector only).
    pub(crate) pod_addresses: Vec<IpAddr>,
    /// Takes traffic, as far as its own object says.
    pub(crate) ready: bool,
}

/// The workload of a Pod or WorkloadEntry.
pub(crate) fn of(object: &Object) -> Option<Workload> {
    match &object.spec {
        Spec::Pod(pod) => Some(of_pod(&object.meta, pod)),
        Spec::WorkloadEntry(entry) => {
            let mut labels = entry.labels.clone();
            labels.extend(object.meta.labels.clone());
            Some(of_entry(&object.meta, entry, labels))
        }
        _ => None,
    }
}

fn of_pod(meta: &Meta, pod: &Pod) -> Workload {
    let account = match pod.spec.service_account_name.as_str() {
        "" => "default",
        name => name,
    };
    let finished = matches!(pod.status.phase.as_str(), "Succeeded" | "Failed");
    let addresses = match pod.status.pod_ips.as_slice() {
        [] => vec![pod.status.pod_ip.as_str()],
        several => several.iter().map(|address| address.ip.as_str()).collect(),
    };
    let own = !finished && !pod.spec.host_network;
    let unready = pod.status.conditions.iter().any(|state| state.r#type == "Ready" && state.status != "True");
    Workload {
        mtls: takes_mtls(&meta.labels),
        service_account: Name::try_new(account).ok(),
        identity: Arc::new(identity(meta, pod_owner(meta), &meta.labels)),
        locality: own_locality(&meta.labels).map(Arc::new),
        node: Name::try_new(&pod.spec.node_name).ok().filter(|name| !name.is_empty()),
        pod_addresses: addresses.into_iter().filter_map(|text| text.parse().ok()).filter(|_| own).collect(),
        ready: !finished && !unready && pod.status.phase != "Pending" && meta.deletion_timestamp.is_none(),
        labels: Arc::new(meta.labels.clone()),
    }
}

/// The workload that an entry describes, on its own or inline in a ServiceEntry.
pub(crate) fn of_entry(meta: &Meta, entry: &WorkloadEntry, labels: Labels) -> Workload {
    Workload {
        mtls: takes_mtls(&labels),
        service_account: Name::try_new(&entry.service_account).ok().filter(|name| !name.is_empty()),
        identity: Arc::new(identity(meta, meta.name.as_str(), &labels)),
        locality: Some(Arc::new(place(&entry.locality, '/'))),
        node: None,
        pod_addresses: Vec::new(),
        ready: true,
        labels: Arc::new(labels),
    }
}

fn takes_mtls(labels: &Labels) -> bool {
    labels.get("security.istio.io/tlsMode").is_some_and(|mode| mode == "istio")
}

/// The name of what made the pod. Its owner is not in a slim Pod, but the makers leave their marks: a hash of the
/// template or a revision in the pod's name and labels.
fn pod_owner(meta: &Meta) -> &str {
    let name = meta.name.as_str();
    let label = |key: &str| meta.labels.get(key).map(String::as_str);
    if let Some(owner) = label("service.istio.io/workload-name") {
        return owner;
    }
    if let Some(hash) = label("pod-template-hash") {
        return name.rsplit_once(&format!("-{hash}-")).map_or(name, |(deployment, _)| deployment);
    }
    if let Some(job) = label("batch.kubernetes.io/job-name").or_else(|| label("job-name")) {
        return job;
    }
    if label("controller-revision-hash").is_some() {
        // StatefulSet: `name-0`; DaemonSet: `name-x7k2p`.
        return name.rsplit_once('-').map_or(name, |(set, _)| set);
    }
    name
}

fn identity(meta: &Meta, owner: &str, labels: &Labels) -> WorkloadRef {
    let first = |keys: [&str; 3], otherwise: &str| {
        keys.iter().find_map(|key| labels.get(*key)).cloned().unwrap_or_else(|| otherwise.to_owned())
    };
    let names = ["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"];
    let revisions = ["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"];
    WorkloadRef {
        name: owner.to_owned(),
        namespace: meta.namespace.as_str().to_owned(),
        canonical_name: first(names, owner),
        canonical_revision: first(revisions, "latest"),
    }
}

/// Where a pod says it is, against its node.
fn own_locality(labels: &BTreeMap<String, String>) -> Option<Locality> {
    if let Some(text) = labels.get("topology.istio.io/locality") {
        return Some(place(text, '.'));
    }
    labels.get("istio-locality").map(|text| place(text, '.'))
}

/// `region/zone/subzone`, or with dots for slashes where labels cannot hold them.
fn place(text: &str, separator: char) -> Locality {
    let separator = if text.contains('/') { '/' } else { separator };
    let mut parts = text.splitn(3, separator).map(str::to_owned);
    let mut next = || parts.next().unwrap_or_default();
    Locality { region: next(), zone: next(), subzone: next() }
}

/// Where a node is.
pub(crate) fn node_locality(labels: &BTreeMap<String, String>) -> Locality {
    let first = |keys: &[&str]| keys.iter().find_map(|key| labels.get(*key)).cloned().unwrap_or_default();
    Locality {
        region: first(&["topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"]),
        zone: first(&["topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"]),
        subzone: first(&["topology.istio.io/subzone"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{labels, meta};
    use ostro_api::Kind;

    fn owner(name: &str, marks: &[(&str, &str)]) -> String {
        let mut meta = meta(Kind::Pod, "ns", name);
        meta.labels = labels(marks);
        pod_owner(&meta).to_owned()
    }

    #[test]
    fn owners_leave_their_marks() {
        assert_eq!(owner("web-v1-5d8f-x2x9q", &[("pod-template-hash", "5d8f")]), "web-v1");
        assert_eq!(owner("db-0", &[("controller-revision-hash", "db-77")]), "db");
        assert_eq!(owner("tidy-28-abcde", &[("job-name", "tidy-28")]), "tidy-28");
        assert_eq!(owner("alone-5", &[]), "alone-5");
        assert_eq!(owner("odd", &[("service.istio.io/workload-name", "even")]), "even");
    }

    #[test]
    fn canonical_names_fall_back() {
        let meta = meta(Kind::Pod, "ns", "p");
        let named = |pairs: &[(&str, &str)]| {
            let found = identity(&meta, "owner", &labels(pairs));
            (found.canonical_name, found.canonical_revision)
        };
        assert_eq!(named(&[]), ("owner".into(), "latest".into()));
        assert_eq!(named(&[("app", "a"), ("version", "v2")]), ("a".into(), "v2".into()));
        assert_eq!(named(&[("app", "a"), ("app.kubernetes.io/name", "b")]).0, "b");
        assert_eq!(named(&[("app", "a"), ("service.istio.io/canonical-name", "c")]).0, "c");
    }

    #[test]
    fn localities_by_label_and_by_slash() {
        let place_of = |region: &str, zone: &str, subzone: &str| Locality {
            region: region.into(),
            zone: zone.into(),
            subzone: subzone.into(),
        };
        assert_eq!(place("r/z/s", '/'), place_of("r", "z", "s"));
        assert_eq!(place("r.z", '.'), place_of("r", "z", ""));
        assert_eq!(place("", '/'), Locality::default());
        assert_eq!(own_locality(&labels(&[("istio-locality", "r.z.s")])), Some(place_of("r", "z", "s")));
        assert_eq!(
            node_locality(&labels(&[
                ("topology.kubernetes.io/zone", "z"),
                ("topology.istio.io/subzone", "s")
            ])),
            place_of("", "z", "s")
        );
    }
}
