//! What is said over the socket, as JSON. Stable within a version: fields are added, never changed.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::plan::Proxy;
use crate::status::{PodStatus, Role, Status};

/// `GET /v1/mesh`: the mesh as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mesh {
    /// [`super::VERSION`] of the one who answers.
    pub api: u32,
    /// Version of the `ostro` that runs it.
    pub version: String,
    /// Its name.
    pub name: String,
    /// Its state directory.
    pub state: PathBuf,
    /// The user's files and directories that it follows.
    pub followed: Vec<PathBuf>,
    /// Where the ingress gateway is reached from the host.
    pub ingress: SocketAddr,
    /// Where the control plane's pages are reached from the host.
    pub control: SocketAddr,
    /// What else is reached from the host.
    pub exposed: Vec<Exposed>,
    /// When it began, in seconds since 1970.
    pub started: u64,
}

/// A service that is reached from the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exposed {
    /// On the host.
    pub address: SocketAddr,
    /// The service's namespace.
    pub namespace: String,
    /// The service.
    pub service: String,
    /// The service's port.
    pub port: u16,
}

/// `GET /v1/pods`, and each line of `GET /v1/pods?watch=true`: all pods at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pods {
    /// All files were read, and a pod runs for every replica that they ask for.
    pub complete: bool,
    /// In order of namespace and name.
    pub pods: Vec<Pod>,
    /// What is asked for and cannot be run, for people.
    pub problems: Vec<String>,
}

/// A pod at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What asked for it.
    pub workload: Workload,
    /// Names of the containers whose programs run in it.
    pub containers: Vec<String>,
    /// It takes requests.
    pub ready: bool,
    /// How many of its containers take requests, of how many; its proxy is one of them.
    pub ready_containers: [usize; 2],
    /// A word for people, as `kubectl` has it: `Running`, `Init:1/2`, `CrashLoopBackOff`, `Terminating`...
    pub status: String,
    /// How often its programs were started again.
    pub restarts: u32,
    /// How its traffic is handled: `ostro` or `envoy` (which program its sidecar is), `gateway`, `none`.
    pub proxy: String,
    /// Its addresses, IPv4 first.
    pub addresses: Vec<IpAddr>,
    /// When it began, in seconds since 1970.
    pub started: u64,
    /// Why it is not started, if something it needs is missing.
    pub held: Option<String>,
}

/// What asked for a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// `Deployment`, `StatefulSet`, `Pod`...
    pub kind: String,
    /// Its name, in the pod's namespace.
    pub name: String,
}

/// `POST /v1/apply`: texts to put in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Apply {
    /// In the order that they are to be spoken of.
    pub files: Vec<Text>,
    /// Where objects go that do not say.
    #[serde(default)]
    pub namespace: Option<String>,
    /// Refuse what is there already.
    #[serde(default)]
    pub create: bool,
}

/// A file's name and text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Text {
    /// As complaints are to call it.
    pub name: String,
    /// YAML or JSON.
    pub text: String,
}

/// The answer: everything was put in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// In the order of the files.
    pub objects: Vec<Change>,
    /// Warnings, and what was accepted and is not acted upon.
    pub notes: Vec<String>,
}

/// What became of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Which.
    #[serde(flatten)]
    pub object: Key,
    /// What.
    pub change: Verb,
}

/// What was done with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// It was not there.
    Created,
    /// It was there and differed.
    Configured,
    /// It was there, as it is.
    Unchanged,
    /// It is there no more.
    Deleted,
}

impl Verb {
    /// As `kubectl` says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Configured => "configured",
            Self::Unchanged => "unchanged",
            Self::Deleted => "deleted",
        }
    }
}

/// Which object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key {
    /// Its kind; with its group if it is not acted upon.
    pub kind: String,
    /// Empty for kinds that have none.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// `POST /v1/delete`: objects to take out of force; each must have been applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delete {
    /// Texts whose objects are meant.
    #[serde(default)]
    pub files: Vec<Text>,
    /// Objects that are meant.
    #[serde(default)]
    pub objects: Vec<Key>,
    /// Where objects of the texts are that do not say.
    #[serde(default)]
    pub namespace: Option<String>,
    /// Those that are not there are passed over.
    #[serde(default)]
    pub ignore_missing: bool,
}

/// `POST /v1/scale`: how many pods a workload is to have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// Which workload.
    #[serde(flatten)]
    pub workload: Key,
    /// How many.
    pub replicas: u32,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scaled {
    /// How many its text asks for; the scale holds until that changes.
    pub written: u32,
    /// Where that is.
    pub origin: String,
}

/// `GET /v1/objects`: everything in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Objects {
    /// In order of kind, namespace, name.
    pub objects: Vec<Object>,
}

/// An object in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// Which.
    #[serde(flatten)]
    pub key: Key,
    /// `FILE:LINE`.
    pub origin: String,
    /// It came by `ostro apply`, not from the user's own files.
    pub applied: bool,
}

/// Any answer whose status is not 200: what is wrong, and everything that is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// In one sentence.
    pub error: String,
    /// One by one; empty if the sentence says all.
    #[serde(default)]
    pub details: Vec<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.error)?;
        self.details.iter().try_for_each(|detail| write!(f, "\n  {detail}"))
    }
}

impl From<&Status> for Pods {
    fn from(status: &Status) -> Self {
        Self {
            complete: status.complete,
            pods: status.pods.iter().map(Pod::from).collect(),
            problems: status.problems.clone(),
        }
    }
}

impl From<&PodStatus> for Pod {
    fn from(pod: &PodStatus) -> Self {
        let containers = pod.containers.iter().filter(|container| container.role != Role::Proxy);
        let (ready, all) = pod.ready_count();
        Self {
            namespace: pod.name.namespace.clone(),
            name: pod.name.name.clone(),
            workload: Workload { kind: pod.kind.clone(), name: pod.workload.clone() },
            containers: containers.map(|container| container.name.clone()).collect(),
            ready: pod.ready,
            ready_containers: [ready, all],
            status: pod.summary(),
            restarts: pod.restarts,
            proxy: proxy_name(pod.proxy).to_owned(),
            addresses: [Some(pod.ip.into()), pod.ip6.map(Into::into)].into_iter().flatten().collect(),
            started: pod.started_at,
            held: pod.held.clone(),
        }
    }
}

fn proxy_name(proxy: Proxy) -> &'static str {
    match proxy {
        Proxy::Sidecar(plane) => plane.as_str(),
        Proxy::Gateway(_) => "gateway",
        Proxy::None => "none",
    }
}
