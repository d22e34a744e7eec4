//! The pods that a set of objects asks for. Pure: the same objects give the same pods, names included.

use std::collections::BTreeMap;
use std::fmt;

use ostro_agent::DataPlane;
use ostro_api::workload::{Container, JobSpec, PodSpec, RestartPolicy, TemplateMeta};
use ostro_api::{Kind, Object, Spec};
use serde::{Deserialize, Serialize};

use crate::dns::files::{DnsChoice, Policy, ResolvConf};
use crate::images::{self, Images, Program, Stand};
use crate::status::Role;

/// Most pods one workload may ask for on one machine.
pub const REPLICAS_MAX: u32 = 100;
/// Says whether a pod gets a sidecar; a label or an annotation.
const INJECT: &str = "sidecar.istio.io/inject";
/// Says which proxy a pod has: `ostro`, `envoy`, or (no gateway can be without) `none`. An annotation.
const PROXY: &str = "ostro.dev/proxy";
const HASH_LABEL: &str = "pod-template-hash";
const CANONICAL_NAME: &str = "service.istio.io/canonical-name";
const CANONICAL_REVISION: &str = "service.istio.io/canonical-revision";

/// Names a pod. Order is that of output.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PodName {
    /// Of the pod.
    pub namespace: String,
    /// Of the pod, unique in its namespace.
    pub name: String,
}

impl fmt::Display for PodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.name, self.namespace)
    }
}

/// How a pod's traffic is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Proxy {
    /// Its own traffic is captured by a proxy beside it, which is this program.
    Sidecar(DataPlane),
    /// It is a proxy: this program.
    Gateway(DataPlane),
    /// Not at all.
    None,
}

impl Proxy {
    /// Which program carries its traffic.
    pub fn data_plane(self) -> Option<DataPlane> {
        match self {
            Proxy::Sidecar(plane) | Proxy::Gateway(plane) => Some(plane),
            Proxy::None => None,
        }
    }

    /// It is a gateway.
    pub fn is_gateway(self) -> bool {
        matches!(self, Proxy::Gateway(_))
    }

    /// Its own traffic is captured.
    pub fn is_sidecar(self) -> bool {
        matches!(self, Proxy::Sidecar(_))
    }
}

/// A port a container tells of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Services may refer to it; may be empty.
    pub name: String,
    /// Its number.
    pub port: u16,
    /// `TCP`, `UDP`, `SCTP`.
    pub protocol: &'static str,
}

/// A container whose program is known.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// As written.
    pub container: Container,
    /// What it is to its pod.
    pub role: Role,
    /// What stands in for its image.
    pub program: Program,
}

/// What a pod is to its Job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobPart {
    /// Which of those that have to succeed.
    pub index: u32,
    /// How often this one was tried before.
    pub attempt: u32,
    /// Pods that run at a time.
    pub parallelism: u32,
    /// Failures before the Job gives up.
    pub backoff_limit: u32,
}

/// One pod, completely: two equal plans are the same pod.
#[derive(Clone, Debug, PartialEq)]
pub struct PodPlan {
    /// Its name.
    pub name: PodName,
    /// Kind and name of the workload that asked for it.
    pub workload: (Kind, String),
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Its service account.
    pub service_account: String,
    /// How its traffic is handled.
    pub proxy: Proxy,
    /// What runs in it: init containers in their order, then the others.
    pub runs: Vec<Run>,
    /// What it was planned from.
    pub spec: PodSpec,
    /// What it is to its Job.
    pub job: Option<JobPart>,
    /// Names of all its containers.
    pub containers: Vec<(String, String)>,
    /// Ports its containers tell of.
    pub ports: Vec<Port>,
    /// Its name under `subdomain`, and its host name; empty: its host name is its name.
    pub hostname: String,
    /// The headless service it is named under.
    pub subdomain: String,
    /// Whose names it resolves.
    pub dns: DnsChoice,
    /// Lines of its `/etc/hosts`: an address and its names.
    pub host_aliases: Vec<(String, Vec<String>)>,
}

impl PodPlan {
    /// When its containers are started again.
    pub fn restart_policy(&self) -> RestartPolicy {
        // A Job may not say Always, and has to say something.
        let default = if self.job.is_some() { RestartPolicy::OnFailure } else { RestartPolicy::Always };
        self.spec.restart_policy.unwrap_or(default)
    }

    /// What it calls itself.
    pub fn host_name(&self) -> &str {
        non_empty(&self.hostname).unwrap_or(&self.name.name)
    }
}

/// Why a workload, or part of one, is not run. The user's to mend; nothing else is affected.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum PlanError {
    /// Nothing is known to stand in for an image.
    #[error(
        "{workload}: no program stands in for image `{image}`, so its pods are not started. Say which, in a file \
         given with --images:\n{}",
        images::entry(image)
    )]
    Image {
        /// Which workload, and where it was written.
        workload: String,
        /// As written.
        image: String,
    },
    /// More replicas than one machine should run.
    #[error("{workload}: {asked} replicas asked for, {REPLICAS_MAX} is the most; {REPLICAS_MAX} are started")]
    Replicas {
        /// Which workload, and where it was written.
        workload: String,
        /// As written.
        asked: u32,
    },
    /// Its own command should say which program, and there is none.
    #[error(
        "{workload}: with image `{image}` the container's `command` says which program runs, and it has none"
    )]
    Command {
        /// Which workload, and where it was written.
        workload: String,
        /// As written.
        image: String,
    },
    /// No such proxy.
    #[error("{workload}: {PROXY} is `{asked}`; allowed: ostro, envoy, none; its pods get {given}")]
    Proxy {
        /// Which workload, and where it was written.
        workload: String,
        /// As written.
        asked: String,
        /// What its pods get instead.
        given: DataPlane,
    },
}

/// The pods of `objects`, and what could not be planned. Pods have `usual` as their proxies' program unless they say
/// otherwise.
pub fn plan<'a>(
    objects: impl IntoIterator<Item = &'a Object>,
    images: &Images,
    usual: DataPlane,
) -> (BTreeMap<PodName, PodPlan>, Vec<PlanError>) {
    let mut pods = BTreeMap::new();
    let mut errors = Vec::new();
    for object in objects {
        let (meta, spec, wanted, subdomain) = match &object.spec {
            Spec::Workload(workload) => {
                let template = &workload.template;
                let wanted = match object.meta.kind {
                    Kind::Job => completions(&workload.job),
                    _ => workload.replicas.unwrap_or(1),
                };
                (&template.metadata, &template.spec, wanted, &workload.service_name)
            }
            Spec::Pod(pod) => {
                let meta = TemplateMeta {
                    labels: object.meta.labels.clone(),
                    annotations: object.meta.annotations.clone(),
                };
                plan_workload(object, &meta, &pod.spec, (1, ""), (images, usual), &mut pods, &mut errors);
                continue;
            }
            _ => continue,
        };
        plan_workload(object, meta, spec, (wanted, subdomain), (images, usual), &mut pods, &mut errors);
    }
    errors.sort();
    errors.dedup();
    (pods, errors)
}

fn plan_workload(
    object: &Object,
    meta: &TemplateMeta,
    spec: &PodSpec,
    (wanted, subdomain): (u32, &str),
    (images, usual): (&Images, DataPlane),
    pods: &mut BTreeMap<PodName, PodPlan>,
    errors: &mut Vec<PlanError>,
) {
    let workload = format!("{}: {}", object.origin, object.key());
    if wanted > REPLICAS_MAX {
        errors.push(PlanError::Replicas { workload: workload.clone(), asked: wanted });
    }
    let asked = meta.annotations.get(PROXY).filter(|asked| *asked != "none");
    let plane = asked.map_or(Ok(usual), |asked| asked.parse::<DataPlane>()).unwrap_or_else(|_| {
        let asked = asked.cloned().unwrap_or_default();
        errors.push(PlanError::Proxy { workload: workload.clone(), asked, given: usual });
        usual
    });
    let mut gateway = false;
    let mut runs = Vec::new();
    let before = spec.init_containers.iter().map(|container| match container.restart_policy.as_str() {
        "Always" => (container, Role::Sidecar),
        _ => (container, Role::Init),
    });
    for (container, role) in before.chain(spec.containers.iter().map(|container| (container, Role::Main))) {
        match images.find(&container.image) {
            Some(Stand::Gateway) if role == Role::Main => gateway = true,
            // The proxy of a manifest into which it was injected elsewhere: ours takes its place.
            Some(Stand::Gateway) => {}
            Some(Stand::Program(program)) => {
                runs.push(Run { container: container.clone(), role, program: program.clone() });
            }
            Some(Stand::Command) => {
                let Some(program) = container.command.first().cloned() else {
                    errors.push(PlanError::Command { workload, image: container.image.clone() });
                    return;
                };
                let program = Program { program, container_args: true, ..Program::default() };
                runs.push(Run { container: container.clone(), role, program });
            }
            None => {
                errors.push(PlanError::Image { workload, image: container.image.clone() });
                return;
            }
        }
    }
    let hash = template_hash(object, meta, spec);
    for replica in 0..wanted.min(REPLICAS_MAX) {
        let name = PodName {
            namespace: object.meta.namespace.as_str().to_owned(),
            name: pod_name(object, &hash, replica),
        };
        let proxy = match (gateway, injected(meta)) {
            (true, _) => Proxy::Gateway(plane),
            (false, true) => Proxy::Sidecar(plane),
            (false, false) => Proxy::None,
        };
        let pod = PodPlan {
            workload: (object.meta.kind, object.meta.name.as_str().to_owned()),
            labels: pod_labels(object, meta, &hash),
            annotations: meta.annotations.clone(),
            service_account: non_empty(&spec.service_account_name).unwrap_or("default").to_owned(),
            proxy,
            runs: runs.clone(),
            spec: spec.clone(),
            job: job_part(object, replica),
            containers: spec.containers.iter().map(|c| (c.name.clone(), c.image.clone())).collect(),
            ports: spec.containers.iter().flat_map(|c| &c.ports).map(port).collect(),
            hostname: hostname(object, spec, &name),
            subdomain: non_empty(&spec.subdomain).unwrap_or(subdomain).to_owned(),
            dns: dns(spec),
            host_aliases: spec.host_aliases.iter().map(|a| (a.ip.clone(), a.hostnames.clone())).collect(),
            name: name.clone(),
        };
        pods.insert(name, pod);
    }
}

/// Pods of StatefulSets are known by their names, others only by one that they ask for.
fn hostname(object: &Object, spec: &PodSpec, name: &PodName) -> String {
    match object.meta.kind {
        Kind::StatefulSet => name.name.clone(),
        _ => spec.hostname.clone(),
    }
}

fn dns(spec: &PodSpec) -> DnsChoice {
    let policy = match spec.dns_policy.as_str() {
        "Default" => Policy::Default,
        "None" => Policy::None,
        _ => Policy::ClusterFirst,
    };
    let option = |option: &ostro_api::workload::PodDnsConfigOption| match option.value.as_str() {
        "" => option.name.clone(),
        value => format!("{}:{value}", option.name),
    };
    let config = spec.dns_config.as_ref().map(|config| ResolvConf {
        name_servers: config.nameservers.clone(),
        search: config.searches.clone(),
        options: config.options.iter().map(option).collect(),
    });
    DnsChoice { policy, config: config.unwrap_or_default() }
}

/// A pod written as such has its own name, StatefulSets number theirs; the others' names also say which template a pod is
/// of.
fn pod_name(object: &Object, hash: &str, replica: u32) -> String {
    let name = object.meta.name;
    match object.meta.kind {
        Kind::StatefulSet => format!("{name}-{replica}"),
        Kind::Pod => name.to_string(),
        _ => format!("{name}-{hash}-{replica}"),
    }
}

fn pod_labels(object: &Object, meta: &TemplateMeta, hash: &str) -> BTreeMap<String, String> {
    let mut labels = meta.labels.clone();
    labels.insert(HASH_LABEL.to_owned(), hash.to_owned());
    let of = |keys: &[&str]| keys.iter().find_map(|key| meta.labels.get(*key)).cloned();
    let name = of(&[CANONICAL_NAME, "app.kubernetes.io/name", "app"]);
    let revision = of(&[CANONICAL_REVISION, "app.kubernetes.io/version", "version"]);
    labels.insert(CANONICAL_NAME.to_owned(), name.unwrap_or_else(|| object.meta.name.as_str().to_owned()));
    labels.insert(CANONICAL_REVISION.to_owned(), revision.unwrap_or_else(|| "latest".to_owned()));
    labels
}

fn injected(meta: &TemplateMeta) -> bool {
    if let Some(proxy) = meta.annotations.get(PROXY) {
        return proxy != "none";
    }
    let says = meta.labels.get(INJECT).or_else(|| meta.annotations.get(INJECT));
    says.is_none_or(|value| value != "false")
}

/// Pods of a Job that have to succeed. (Where only `parallelism` is given, Kubernetes is content once one has
/// succeeded and the others have ended; here all of them have to.)
fn completions(job: &JobSpec) -> u32 {
    job.completions.or(job.parallelism).unwrap_or(1)
}

fn job_part(object: &Object, index: u32) -> Option<JobPart> {
    let Spec::Workload(workload) = &object.spec else { return None };
    let job = &workload.job;
    (object.meta.kind == Kind::Job).then(|| JobPart {
        index,
        attempt: 0,
        parallelism: job.parallelism.unwrap_or(1),
        backoff_limit: job.backoff_limit.unwrap_or(6),
    })
}

fn port(port: &ostro_api::workload::ContainerPort) -> Port {
    Port { name: port.name.clone(), port: port.container_port, protocol: port.protocol.as_str() }
}

fn non_empty(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// Eight hexadecimal digits that change whenever the template does. (FNV-1a: fixed for ever.)
fn template_hash(object: &Object, meta: &TemplateMeta, spec: &PodSpec) -> String {
    let text = format!("{}{meta:?}{spec:?}", object.key());
    let hash =
        text.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("{hash:08x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use ostro_agent::DataPlane;
    use ostro_api::workload::{PodTemplate, Workload};
    use ostro_api::{Meta, Origin};
    use serde_json::json;

    fn deployment(name: &str, image: &str, replicas: Option<u32>) -> Object {
        let container = Container { name: "c".into(), image: image.into(), ..Container::default() };
        let labels = BTreeMap::from([("app".to_owned(), name.to_owned())]);
        Object {
            meta: Meta {
                kind: Kind::Deployment,
                name: ostro_names::Name::new(name),
                namespace: ostro_names::Namespace::new("shop"),
                labels: BTreeMap::new(),
                annotations: BTreeMap::new(),
                creation_timestamp: None,
                uid: String::new(),
                deletion_timestamp: None,
            },
            origin: Origin { file: "shop.yaml".into(), line: 3 },
            spec: Spec::Workload(Box::new(Workload {
                replicas,
                template: PodTemplate {
                    metadata: TemplateMeta { labels, ..TemplateMeta::default() },
                    spec: PodSpec { containers: vec![container], ..PodSpec::default() },
                },
                ..Workload::default()
            })),
        }
    }

    fn images() -> Images {
        let map = json!({"images": [
            {"match": "x/web", "program": "web", "env": {"A": "1"}},
            {"match": "auto", "gateway": true},
        ]});
        Images::from_value(map).unwrap()
    }

    #[test]
    fn replicas_become_pods_with_stable_names() {
        let object = deployment("web", "x/web:1", Some(2));
        let (pods, errors) = plan([&object], &images(), DataPlane::Ostro);
        assert!(errors.is_empty());
        assert_eq!(pods.len(), 2);
        assert_eq!(plan([&object], &images(), DataPlane::Ostro).0, pods);
        for (replica, pod) in pods.values().enumerate() {
            assert!(pod.name.name.starts_with("web-") && pod.name.name.ends_with(&format!("-{replica}")));
            assert_eq!(pod.labels["service.istio.io/canonical-name"], "web");
            assert_eq!(pod.proxy, Proxy::Sidecar(DataPlane::Ostro));
            assert_eq!(pod.runs[0].program.env["A"], "1");
            assert_eq!((pod.runs[0].role, pod.restart_policy()), (Role::Main, RestartPolicy::Always));
        }
        let changed = plan([&deployment("web", "x/web:2", Some(2))], &images(), DataPlane::Ostro).0;
        assert!(changed.keys().all(|name| !pods.contains_key(name)), "a new template makes new pods");
    }

    #[test]
    fn an_unknown_image_concerns_its_own_workload_only() {
        let objects = [deployment("a", "x/other", None), deployment("b", "x/web", None)];
        let (pods, errors) = plan(&objects, &images(), DataPlane::Ostro);
        assert_eq!(pods.len(), 1);
        assert_eq!(errors.len(), 1);
        let text = errors[0].to_string();
        assert_eq!(
            text,
            "shop.yaml:3: Deployment shop/a: no program stands in for image `x/other`, so its pods are not started. \
             Say which, in a file given with --images:\n\
             images:\n\
             - match: \"x/other\"\n  program: /path/to/the/program\n  containerArgs: true   # with the manifest's own arguments"
        );
    }

    #[test]
    fn too_many_replicas_are_cut_and_said() {
        let (pods, errors) = plan([&deployment("a", "x/web", Some(5_000))], &images(), DataPlane::Ostro);
        assert_eq!(pods.len(), 100);
        assert!(matches!(errors[..], [PlanError::Replicas { asked: 5_000, .. }]));
    }

    #[test]
    fn the_proxys_own_image_makes_a_gateway_and_injection_can_be_refused() {
        let (pods, _) = plan([&deployment("gw", "auto", None)], &images(), DataPlane::Ostro);
        assert!(pods.values().all(|pod| pod.proxy.is_gateway() && pod.runs.is_empty()));
        let mut plain = deployment("web", "x/web", None);
        if let Spec::Workload(workload) = &mut plain.spec {
            workload.template.metadata.annotations.insert(INJECT.into(), "false".into());
        }
        assert!(plan([&plain], &images(), DataPlane::Ostro).0.values().all(|pod| pod.proxy == Proxy::None));
        for (asked, proxy, complaints) in [
            ("none", Proxy::None, 0),
            ("ostro", Proxy::Sidecar(DataPlane::Ostro), 0),
            ("envoy", Proxy::Sidecar(DataPlane::Envoy), 0),
            ("other", Proxy::Sidecar(DataPlane::Ostro), 1),
        ] {
            let mut chosen = deployment("web", "x/web", None);
            if let Spec::Workload(workload) = &mut chosen.spec {
                workload.template.metadata.annotations.insert(PROXY.into(), asked.into());
            }
            let (pods, errors) = plan([&chosen], &images(), DataPlane::Ostro);
            assert!(pods.values().all(|pod| pod.proxy == proxy), "{asked}");
            assert_eq!(errors.len(), complaints, "{asked}");
        }
    }
}
