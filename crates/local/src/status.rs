//! What can be seen of a running mesh, and asked of its pods.

use std::future::Future;
use std::net::Ipv4Addr;

use bytes::Bytes;
use http::{Method, StatusCode};
use ostro_agent::{Admin, AdminError};
use tokio::runtime::Handle;

use crate::plan::{PodName, Proxy};

/// The mesh at one moment.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// All files were read, and a pod runs for every replica they ask for.
    pub complete: bool,
    /// The pods, in order of their names.
    pub pods: Vec<PodStatus>,
    /// What the files ask for and cannot be run, for people.
    pub problems: Vec<String>,
}

impl Status {
    /// Every pod that should run does, and takes requests.
    pub fn is_ready(&self) -> bool {
        self.complete && self.pods.iter().all(|pod| pod.ready)
    }
}

/// A pod at one moment.
#[derive(Clone, Debug)]
pub struct PodStatus {
    /// Its name.
    pub name: PodName,
    /// Name of the workload it is of.
    pub workload: String,
    /// Its address.
    pub ip: Ipv4Addr,
    /// How its traffic is handled.
    pub proxy: Proxy,
    /// It takes requests.
    pub ready: bool,
    pub(crate) place: Option<Handle>,
}

impl PodStatus {
    /// Runs a future inside the pod, as its root user (whose traffic within the pod is not captured, but
    /// whose traffic out of it is). `None` if the pod is on its way out.
    pub async fn run<F>(&self, task: F) -> Option<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.place.as_ref()?.spawn(task).await.ok()
    }

    /// Asks the admin interface of the pod's proxy.
    pub async fn admin(&self, path: &str) -> Option<Result<(StatusCode, Bytes), AdminError>> {
        let path = path.to_owned();
        self.run(async move { Admin::local().call(Method::GET, &path).await }).await
    }
}
