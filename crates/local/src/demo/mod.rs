//! A walk through what a mesh is for: Bookinfo behind an ingress, routed, weighted, matched, disturbed and
//! retried, each step judged from outside by counting answers.
//!
//! Applying a step is writing a file into a directory that the mesh follows, as a user would. Whether it has
//! taken effect is seen in the answers, never waited for by the clock.

mod judge;
mod steps;
mod table;
mod traffic;
mod visit;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use steps::Outcome;
pub use table::{head, render};
pub use visit::{Try, lay, tries, visitors};

use crate::up::{Mesh, Options, UpError};
use steps::Step;
use traffic::Client;

/// How long all pods may take to be ready.
const READY_MAX: Duration = Duration::from_secs(30);
/// How long a written file may take to show in the answers.
pub(crate) const EFFECT_MAX: Duration = Duration::from_secs(10);

const BASE: [(&str, &str); 3] = [
    ("bookinfo.yaml", include_str!("../../../../samples/bookinfo/bookinfo.yaml")),
    ("gateway.yaml", include_str!("../../../../samples/bookinfo/gateway.yaml")),
    ("subsets.yaml", include_str!("../../../../samples/bookinfo/subsets.yaml")),
];
const FLAKY: (&str, &str) = ("flaky.yaml", include_str!("../../../../samples/demo/flaky.yaml"));

/// Why the walk could not be made. That a step does not hold is not an error but an [`Outcome`].
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// There is no mesh.
    #[error(transparent)]
    Up(#[from] UpError),
    /// A file could not be written.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Pods were not ready in time.
    #[error("not ready within {READY_MAX:?}: {0}")]
    NotReady(String),
}

/// A mesh with Bookinfo in it.
#[derive(Debug)]
pub struct Demo {
    mesh: Mesh,
    yaml: PathBuf,
    started_in: Duration,
}

impl Demo {
    /// Brings it up; `yaml` is the directory of its files, `options.paths` is replaced by it.
    pub async fn start(options: Options, yaml: PathBuf) -> Result<Self, DemoError> {
        let begun = Instant::now();
        fs::create_dir_all(&yaml).map_err(|source| DemoError::File { path: yaml.clone(), source })?;
        for (name, text) in BASE.into_iter().chain([FLAKY]) {
            write(&yaml, name, text)?;
        }
        let mesh = Mesh::start(Options { paths: vec![yaml.clone()], ..options }).await?;
        let status = mesh.ready(READY_MAX).await;
        if !status.is_ready() {
            let unready = status.pods.iter().filter(|pod| !pod.ready).map(|pod| pod.name.to_string());
            let list: Vec<String> = status.problems.iter().cloned().chain(unready).collect();
            mesh.end().await;
            return Err(DemoError::NotReady(list.join(", ")));
        }
        Ok(Self { mesh, yaml, started_in: begun.elapsed() })
    }

    /// From the first file to the last pod ready.
    pub fn started_in(&self) -> Duration {
        self.started_in
    }

    /// The mesh, for looking at it.
    pub fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    /// Makes every step; each tells `heard` how it went. True if all held.
    pub async fn walk(&self, mut heard: impl FnMut(&Outcome)) -> Result<bool, DemoError> {
        let client = Client::new(self.mesh.ingress());
        let mut all = true;
        for step in steps::all() {
            let Step { file, text, .. } = step;
            write(&self.yaml, file, text)?;
            let outcome = step.judge(&client).await;
            all &= outcome.held();
            heard(&outcome);
        }
        Ok(all)
    }

    /// Ends the mesh.
    pub async fn end(self) {
        self.mesh.end().await;
    }
}

/// Puts a file in place whole, as an editor does.
fn write(dir: &Path, name: &str, text: &str) -> Result<(), DemoError> {
    let path = dir.join(name);
    let temporary = dir.join(format!(".{name}.new"));
    fs::write(&temporary, text)
        .and_then(|()| fs::rename(&temporary, &path))
        .map_err(|source| DemoError::File { path, source })
}
