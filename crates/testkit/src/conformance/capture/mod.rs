//! Folder `capture`: rules that others wrote, and ours for the same configuration, compared by what becomes of packets.
//!
//! For each case the golden rules are loaded in one pair of namespaces and ours, by either back end, in others like it.
//! The same table of probes runs in all: connections and datagrams in and out, from several users and groups, to
//! captured and other ports, addresses and interfaces, over IPv4 and IPv6. Somebody listens wherever one could arrive and
//! says where that is. What is compared is what was heard, so the text of the rules does not matter.
//!
//! Without IPv6 in the configuration the pod has none beyond its loopback, as where such configurations are made.

mod case;
mod golden;
mod probe;
mod world;

use std::collections::BTreeMap;
use std::path::Path;

use ostro_capture::{Backend, Config, Plan};

use super::{Case, Verdict};
use case::{RuleCase, Subject};
use probe::Probe;
use world::{Map, World};

/// Most differences that are told of one case.
const TOLD: usize = 6;

pub(super) fn run(dir: &Path) -> Result<Vec<Case>, String> {
    let cases = case::read(dir)?;
    Ok(cases
        .into_iter()
        .map(|case| Case { name: format!("capture/{}", case.name), verdict: judge(&case) })
        .collect())
}

fn judge(case: &RuleCase) -> Verdict {
    let subject = match &case.subject {
        Ok(subject) => subject,
        Err(what) => return Verdict::NotRead(what.clone()),
    };
    match compare(case, subject) {
        Ok(differences) if differences.is_empty() => Verdict::Passed,
        Ok(differences) => Verdict::Failed(differences),
        Err(error) => Verdict::Failed(vec![error]),
    }
}

/// What becomes of packets under rules by one back end and not under those by the other, for a configuration.
pub fn disagreements(config: &Config) -> Result<Vec<String>, String> {
    let subject = Subject { config: config.clone(), groups: BTreeMap::new() };
    let plan = Plan::new(config).map_err(|e| e.to_string())?;
    let map = Map::new(config);
    let probes = probe::table(config, &map);
    let world = |backend| {
        let plan = plan.clone();
        World::new(&map, &subject, move || ostro_capture::apply_by(backend, &plan).map_err(|e| e.to_string()))
    };
    let (nft, iptables) = (world(Backend::Nft)?, world(Backend::Iptables)?);
    let expected = probe::run(&iptables, &probes)?;
    let got = probe::run(&nft, &probes)?;
    differ(Backend::Nft, &probes, &expected, &got, &iptables, &nft)
}

/// What differs between the golden rules and ours.
fn compare(case: &RuleCase, subject: &Subject) -> Result<Vec<String>, String> {
    let text =
        std::fs::read_to_string(&case.golden).map_err(|e| format!("{}: {e}", case.golden.display()))?;
    let plan = Plan::new(&subject.config).map_err(|e| e.to_string())?;
    let map = Map::new(&subject.config);
    let probes = probe::table(&subject.config, &map);
    let (form, routing) = (case.form, plan.clone());
    let golden = World::new(&map, subject, move || {
        // Where it is not part of what is golden.
        if !golden::tells_routing(&text) {
            ostro_capture::routing::apply(&routing).map_err(|e| e.to_string())?;
        }
        golden::load(form, &text)
    })?;
    let expected = probe::run(&golden, &probes)?;
    let mut differences = Vec::new();
    for backend in [Backend::Nft, Backend::Iptables] {
        let plan = plan.clone();
        let load = move || ostro_capture::apply_by(backend, &plan).map_err(|e| e.to_string());
        let ours = World::new(&map, subject, load)?;
        let got = probe::run(&ours, &probes)?;
        differences.extend(differ(backend, &probes, &expected, &got, &golden, &ours)?);
    }
    Ok(differences)
}

/// What went differently, and does so again.
fn differ(
    backend: Backend,
    probes: &[Probe],
    expected: &[String],
    got: &[String],
    golden: &World,
    ours: &World,
) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    for (probe, (expected, got)) in probes.iter().zip(expected.iter().zip(got)) {
        if expected == got {
            continue;
        }
        // On a busy machine an answer may have come too late.
        let expected = probe::run_one(golden, *probe, probe::MORE_PATIENCE)?;
        let got = probe::run_one(ours, *probe, probe::MORE_PATIENCE)?;
        if expected != got {
            found.push(format!("{backend:?}: {probe}: expected {expected:?}, got {got:?}"));
        }
    }
    let more = found.len().saturating_sub(TOLD);
    found.truncate(TOLD);
    if more > 0 {
        found.push(format!("{backend:?}: and {more} more of {} probes", probes.len()));
    }
    Ok(found)
}
