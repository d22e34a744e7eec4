//! Folder `routing`: what becomes of requests between real sidecars.
//!
//! A mesh of echo services is brought up as `ostro up` does (network namespaces, proxies, a control plane that
//! follows files), once for all cases. A case's objects are written into the followed directory, its calls are made
//! from inside the calling pod, and the objects are taken away again before the next case. Needs root.

mod case;
mod client;
mod judge;
mod stage;

use std::path::Path;

use ostro_agent::DataPlane;

use crate::mix::Mix;

use super::{Case, Verdict, files, place, value};
use case::{Port, Routing};
use stage::Stage;

/// The file that says which ports the services have.
const PORTS: &str = "echo-ports";

/// Every case of every file.
pub(super) fn run(dir: &Path, mix: Mix) -> Result<Vec<Case>, String> {
    let (ports, cases) = read_all(dir)?;
    let runtime = tokio::runtime::Runtime::new().map_err(|e| e.to_string())?;
    runtime.block_on(async {
        let stage = Stage::open(ports, mix).await?;
        let mut judged = Vec::new();
        for (name, case) in cases {
            let failures = stage.play(&case).await;
            let verdict = if failures.is_empty() { Verdict::Passed } else { Verdict::Failed(failures) };
            judged.push(Case { name, verdict });
        }
        stage.close().await;
        Ok(judged)
    })
}

/// The services, and the rules of each case by its name, as text.
pub(super) fn meshes(dir: &Path) -> Result<(String, Vec<(String, String)>), String> {
    let (ports, cases) = read_all(dir)?;
    Ok((
        stage::services(&ports, Mix::All(DataPlane::Ostro)),
        cases.into_iter().map(|(name, case)| (name, case.config)).collect(),
    ))
}

/// A case, and its name.
type Named = (String, Routing);

fn read_all(dir: &Path) -> Result<(Vec<Port>, Vec<Named>), String> {
    let (mut ports, mut cases) = (Vec::<Port>::new(), Vec::<Named>::new());
    for path in files(dir)? {
        let malformed = |e| format!("{}: {e}", path.display());
        if path.file_stem().is_some_and(|stem| stem == PORTS) {
            ports = serde_json::from_value(value(&path)?).map_err(malformed)?;
        } else {
            let of_file: Vec<Routing> = serde_json::from_value(value(&path)?).map_err(malformed)?;
            cases.extend(of_file.into_iter().map(|c| (format!("{}/{}", place(dir, &path), c.name), c)));
        }
    }
    Ok((ports, cases))
}
