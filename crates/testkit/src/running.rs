//! A whole mesh for one test: `ostro up` in this process, in namespaces of its own, from files that the test
//! writes; and the question whether every proxy in it is content.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ostro_agent::DataPlane;
use ostro_local::images::Images;
use ostro_local::plan::Proxy;
use ostro_local::status::{PodStatus, Status};
use ostro_local::tools::Proxies;
use ostro_local::up::{Mesh, Options};
use tempfile::TempDir;

use crate::envoy;

/// How long a mesh may take until every pod is ready. Generous: tests share two cores.
const READY_MAX: Duration = Duration::from_secs(180);

/// How often something awaited is looked at.
pub const LOOK: Duration = Duration::from_millis(20);

/// A mesh that runs.
pub struct Running {
    /// The mesh itself.
    pub mesh: Mesh,
    directory: TempDir,
}

/// Names the directory of programs, if that is not where this workspace builds them.
pub const PROGRAMS: &str = "OSTRO_PROGRAMS";

/// A binary of this workspace, built beforehand (`cargo xtask test` does).
pub fn program(name: &str) -> PathBuf {
    let built = || envoy::workspace().join("target/debug");
    let path = std::env::var_os(PROGRAMS).map_or_else(built, PathBuf::from).join(name);
    assert!(path.exists(), "no {}: run `cargo build -p ostro -p ostro-samples`", path.display());
    path
}

impl Running {
    /// Brings up what `files` (name and text) say, and `more` paths; returns when every pod is ready.
    pub async fn start(files: &[(&str, &str)], more: &[PathBuf]) -> Running {
        Self::start_with(files, more, (program("ostro"), DataPlane::default())).await
    }

    /// As [`start`](Self::start), with `ostro` as the program that the control plane is started with, and `usual` as
    /// the proxies of pods that ask for no other.
    pub async fn start_with(
        files: &[(&str, &str)],
        more: &[PathBuf],
        (ostro, usual): (PathBuf, DataPlane),
    ) -> Running {
        let directory = tempfile::Builder::new().prefix("ostro-mesh-").tempdir().unwrap();
        let config = directory.path().join("config");
        std::fs::create_dir(&config).unwrap();
        for (name, text) in files {
            std::fs::write(config.join(name), text).unwrap();
        }
        let mut paths = vec![config];
        paths.extend(more.iter().cloned());
        let any = || "127.0.0.1:0".parse().unwrap();
        let programs = program("ostro-sample").parent().unwrap().to_path_buf();
        let mesh = Mesh::start(Options {
            name: "test".to_owned(),
            paths,
            state: directory.path().join("state"),
            images: Images::built_in().unwrap(),
            ostro,
            proxies: Proxies { usual, ostro: program("ostro"), envoy: Ok(envoy::binary()) },
            programs,
            ingress: any(),
            control_http: any(),
            expose: Vec::new(),
            drain: Duration::from_secs(1),
        })
        .await
        .unwrap();
        let running = Running { mesh, directory };
        running.ready().await;
        running
    }

    /// Waits until every pod is ready.
    pub async fn ready(&self) {
        let status = self.mesh.ready(READY_MAX).await;
        assert!(status.is_ready(), "not ready: {}", describe(&status));
    }

    /// The directory that is followed.
    pub fn config(&self) -> PathBuf {
        self.directory.path().join("config")
    }

    /// The mesh's state directory.
    pub fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    /// Puts a file into the followed directory, whole at once.
    pub fn write(&self, name: &str, text: &str) {
        let aside = self.config().join(format!(".{name}.new"));
        std::fs::write(&aside, text).unwrap();
        std::fs::rename(&aside, self.config().join(name)).unwrap();
    }

    /// Takes a file away.
    pub fn remove(&self, name: &str) {
        std::fs::remove_file(self.config().join(name)).unwrap();
    }

    /// A ready pod of the workload.
    pub fn pod(&self, workload: &str) -> PodStatus {
        let status = self.mesh.status();
        let found = status.pods.iter().find(|pod| pod.workload == workload && pod.ready);
        found.unwrap_or_else(|| panic!("no ready pod of {workload}: {}", describe(&status))).clone()
    }

    /// Pods with a proxy.
    pub fn proxies(&self) -> Vec<PodStatus> {
        self.mesh.status().pods.into_iter().filter(|pod| pod.proxy != Proxy::None).collect()
    }

    /// A page of the control plane.
    pub async fn control(&self, path: &str) -> Result<String, String> {
        let answer = crate::load::get(self.mesh.control_http(), path, &[("host", "control")]).await?;
        match answer.status {
            200 => Ok(String::from_utf8_lossy(&answer.body).into_owned()),
            status => Err(format!("{path}: {status}")),
        }
    }

    /// A counter or gauge of one proxy.
    pub async fn stat(&self, pod: &PodStatus, name: &str) -> u64 {
        let path = format!("/stats?filter=^{}$", name.replace('.', "\\."));
        let (_, body) =
            pod.admin(&path).await.expect("the pod is there").expect("its admin interface answers");
        let text = String::from_utf8_lossy(&body).into_owned();
        text.trim().rsplit(' ').next().and_then(|value| value.parse().ok()).unwrap_or(0)
    }

    /// Fails unless every proxy took every update, none is warming for long, and no logger that matters
    /// complained ([`crate::envoy_log`]).
    pub async fn assert_content(&self) {
        for pod in self.proxies() {
            for manager in ["cluster_manager.cds", "listener_manager.lds"] {
                let rejected = self.stat(&pod, &format!("{manager}.update_rejected")).await;
                assert_eq!(rejected, 0, "{} rejected updates: {manager}", pod.name);
            }
            let since = Instant::now();
            while self.stat(&pod, "cluster_manager.warming_clusters").await > 0 {
                assert!(since.elapsed() < Duration::from_secs(1), "{}: a cluster is still warming", pod.name);
                tokio::time::sleep(LOOK).await;
            }
        }
        let complaints = crate::envoy_log::complaints_below(&self.state().join("pods"));
        assert!(complaints.is_empty(), "proxies complained:\n{}", complaints.join("\n"));
    }

    /// Ends the mesh, after [`assert_content`](Self::assert_content).
    pub async fn end(self) {
        self.assert_content().await;
        self.mesh.end().await;
    }

    /// Keeps the mesh's directory for a look after a failure.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }
}

/// What is not ready, and why.
pub fn describe(status: &Status) -> String {
    let pods: Vec<String> = status
        .pods
        .iter()
        .map(|pod| format!("{} {}", pod.name, if pod.ready { "ready" } else { "NOT ready" }))
        .collect();
    format!(
        "complete: {}; pods: {}; problems: {}",
        status.complete,
        pods.join(", "),
        status.problems.join("; ")
    )
}
