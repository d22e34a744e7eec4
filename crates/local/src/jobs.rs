//! Jobs: which of their pods are due, given how those that were have fared. Pure.
//!
//! A Job's pods are numbered; `parallelism` of them run at a time, in their order. One that has failed stays to be
//! looked at, and is tried again under the next name, until the Job has had as many failures as it may.

use std::collections::BTreeMap;

use ostro_api::Kind;

use crate::plan::{JobPart, PodName, PodPlan};
use crate::status::Phase;

/// `planned`, but of each Job only the pods that are due or have been: `phase` tells how far one has come, if it is
/// there.
pub fn due(
    planned: BTreeMap<PodName, PodPlan>,
    phase: impl Fn(&PodName) -> Option<Phase>,
) -> BTreeMap<PodName, PodPlan> {
    let mut jobs: BTreeMap<(String, Kind, String), Vec<(JobPart, PodPlan)>> = BTreeMap::new();
    let mut pods = BTreeMap::new();
    for (name, plan) in planned {
        match plan.job.clone() {
            Some(part) => {
                let (kind, workload) = plan.workload.clone();
                jobs.entry((name.namespace, kind, workload)).or_default().push((part, plan));
            }
            None => {
                pods.insert(name, plan);
            }
        }
    }
    for mut parts in jobs.into_values() {
        parts.sort_by_key(|(part, _)| part.index);
        pods.extend(due_of_one(&parts, &phase).into_iter().map(|plan| (plan.name.clone(), plan)));
    }
    pods
}

fn due_of_one(parts: &[(JobPart, PodPlan)], phase: &impl Fn(&PodName) -> Option<Phase>) -> Vec<PodPlan> {
    let mut due = Vec::new();
    let mut next = Vec::new();
    let (mut failures, mut active) = (0, 0);
    for (part, plan) in parts {
        for attempt in 0.. {
            let plan = attempted(plan, part, attempt);
            match phase(&plan.name) {
                Some(Phase::Failed) => {
                    failures += 1;
                    due.push(plan);
                    continue;
                }
                Some(Phase::Succeeded) => due.push(plan),
                Some(Phase::Pending | Phase::Running) => {
                    active += 1;
                    due.push(plan);
                }
                None => next.push(plan),
            }
            break;
        }
    }
    if let Some((part, _)) = parts.first()
        && failures <= part.backoff_limit
    {
        let room = part.parallelism.saturating_sub(active);
        due.extend(next.into_iter().take(usize::try_from(room).unwrap_or(usize::MAX)));
    }
    due
}

/// The same pod for another try.
fn attempted(plan: &PodPlan, part: &JobPart, attempt: u32) -> PodPlan {
    let mut plan = plan.clone();
    plan.job = Some(JobPart { attempt, ..part.clone() });
    if attempt > 0 {
        plan.name.name = format!("{}-r{attempt}", plan.name.name);
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::Images;
    use crate::plan::plan;
    use ostro_api::parse_file;

    /// Names of the pods that are due of a Job of four, two at a time, that may fail once; by how the others fare.
    fn names(states: &[(&str, Phase)]) -> Vec<String> {
        let yaml = "{apiVersion: batch/v1, kind: Job, metadata: {name: j}, spec: {completions: 4, parallelism: 2, \
                    backoffLimit: 1, template: {spec: {restartPolicy: Never, containers: [{name: c, image: x}]}}}}";
        let parsed = parse_file("job.yaml", yaml.as_bytes());
        assert!(parsed.complaints.is_empty(), "{:?}", parsed.complaints);
        let map = serde_json::json!({"images": [{"match": "x", "program": "x"}]});
        let (planned, _) =
            plan(&parsed.objects, &Images::from_value(map).unwrap(), ostro_agent::DataPlane::Ostro);
        assert_eq!(planned.len(), 4);
        let short = |name: &PodName| name.name.splitn(3, '-').last().unwrap().to_owned();
        let phase =
            |name: &PodName| states.iter().find(|(state, _)| *state == short(name)).map(|(_, phase)| *phase);
        due(planned, phase).keys().map(short).collect()
    }

    #[test]
    fn as_many_at_a_time_as_may_be() {
        assert_eq!(names(&[]), ["0", "1"]);
        assert_eq!(names(&[("0", Phase::Running), ("1", Phase::Succeeded)]), ["0", "1", "2"]);
        let all = ["0", "1", "2", "3"].map(|name| (name, Phase::Succeeded));
        assert_eq!(names(&all), ["0", "1", "2", "3"], "they stay to be seen");
    }

    #[test]
    fn one_that_failed_is_tried_again_as_often_as_it_may() {
        let failed = [("0", Phase::Failed), ("1", Phase::Running)];
        assert_eq!(names(&failed), ["0", "0-r1", "1"]);
        let again = [("0", Phase::Failed), ("0-r1", Phase::Failed), ("1", Phase::Running)];
        assert_eq!(names(&again), ["0", "0-r1", "1"], "the Job has given up");
    }
}
