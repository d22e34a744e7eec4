//! Folder `simulation`: what a proxy does with a connection, given the resources we generate for it.
//!
//! A case's objects go through `api`, `mesh` and `translate`, as in the control plane; the resources are decoded and
//! compiled by `engine`, as in the data plane; each call is then matched as Envoy would. No socket is opened.

mod call;
mod case;
mod world;

use std::path::Path;

use ostro_mesh::{Proxy, Snapshot};

use super::{Case, Verdict, files, place, value};
use case::{Expect, Outcome, Simulation};
use world::World;

/// Every case of every file.
pub(super) fn run(dir: &Path) -> Result<Vec<Case>, String> {
    let all = read_all(dir)?;
    Ok(all.into_iter().map(|(name, case)| Case { name, verdict: judge(&case) }).collect())
}

/// The mesh and the proxy of every case, by its name, or why there are none.
pub(super) fn meshes(dir: &Path) -> Result<Vec<(String, MeshOf)>, String> {
    Ok(read_all(dir)?.into_iter().map(|(name, case)| (name, world::parts(&case))).collect())
}

type MeshOf = Result<(Snapshot, Proxy), Verdict>;

fn read_all(dir: &Path) -> Result<Vec<(String, Simulation)>, String> {
    let mut cases = Vec::new();
    for path in files(dir)? {
        let simulations: Vec<Simulation> =
            serde_json::from_value(value(&path)?).map_err(|e| format!("{}: {e}", path.display()))?;
        let named = |case: Simulation| (format!("{}/{}", place(dir, &path), case.name), case);
        cases.extend(simulations.into_iter().map(named));
    }
    Ok(cases)
}

fn judge(simulation: &Simulation) -> Verdict {
    let world = match World::build(simulation) {
        Ok(world) => world,
        Err(not_read) => return not_read,
    };
    let mut failures = Vec::new();
    for call in &simulation.calls {
        let outcome = call::run(&world, &call.call);
        let wrong = differences(&world, &call.expect, &outcome);
        if !wrong.is_empty() {
            failures.push(format!("call {:?}: {}; all of it: {outcome}", call.name, wrong.join(", ")));
        }
    }
    if let Some(routes) = &simulation.routes {
        failures.extend(routes.differences(&world));
    }
    if failures.is_empty() { Verdict::Passed } else { Verdict::Failed(failures) }
}

/// The expectation against the outcome, field by field. An error that is not expected must not be; other fields
/// count when given, and all of them when the expectation is strict.
fn differences(world: &World, expect: &Expect, got: &Outcome) -> Vec<String> {
    let differs = |(field, expected): (&'static str, &String)| {
        let got = got.field(field);
        let counts = field == "error" || expect.strict || !expected.is_empty();
        let equal = if field == "cluster" { world.is_cluster(expected, got) } else { expected == got };
        (counts && !equal).then(|| format!("{field}: expected {expected:?}, got {got:?}"))
    };
    expect.fields().into_iter().filter_map(differs).collect()
}
