//! `ostro scale`: another number of pods for a workload, without editing its file.

use super::Outcome;
use super::common::{MeshArgs, kind, print};
use super::values::replicas;
use ostro_api::similar::did_you_mean;
use ostro_local::api::view::{Key, Objects, Scale};
use serde_json::json;
use std::process::ExitCode;

/// Kinds that have a number of replicas.
const SCALED: [&str; 3] = ["Deployment", "StatefulSet", "ReplicaSet"];

/// Candidates that a message lists.
const LISTED_MAX: usize = 10;

/// Options of `ostro scale`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
The scale holds until the number of replicas in the workload's own file changes, or until the mesh ends.

Examples:
  ostro scale deploy/reviews-v1 --replicas 3
  ostro scale reviews-v1 --replicas 0 -n shop")]
pub struct Args {
    /// NAME or KIND/NAME of a Deployment, StatefulSet or ReplicaSet.
    #[arg(value_name = "WORKLOAD")]
    workload: String,
    /// How many pods it is to have.
    #[arg(long, value_name = "N", value_parser = replicas, allow_negative_numbers = true)]
    replicas: u32,
    /// Its namespace [default: wherever there is one of that name].
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    #[command(flatten)]
    mesh: MeshArgs,
    /// Print one JSON object (docs/local.md says what is in it).
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Asks for the number.
    pub fn run(self) -> Outcome {
        super::block_on(async {
            let client = self.mesh.open().await?;
            let workload = self.find(&client.objects().await?)?;
            let scaled = client.scale(&Scale { workload: workload.clone(), replicas: self.replicas }).await?;
            if self.json {
                let said = json!({
                    "object": workload, "replicas": self.replicas, "written": scaled.written, "origin": scaled.origin,
                });
                print(&format!("{said:#}\n"))?;
                return Ok(ExitCode::SUCCESS);
            }
            let what = format!("{}/{}", workload.kind.to_lowercase(), workload.name);
            let holds = match scaled.written == self.replicas {
                true => format!("as {} has it", scaled.origin),
                false => format!(
                    "{} has {}; this holds until the replicas there change",
                    scaled.origin, scaled.written
                ),
            };
            print(&format!("{what} scaled to {} ({holds})\n", self.replicas))?;
            Ok(ExitCode::SUCCESS)
        })
    }

    /// The one workload that is meant.
    fn find(&self, objects: &Objects) -> Result<Key, Box<dyn std::error::Error + Send + Sync>> {
        let (kind, name) = match self.workload.split_once('/') {
            Some((typed, name)) => (Some(kind(typed)?), name),
            None => (None, self.workload.as_str()),
        };
        if let Some(kind) = kind.filter(|kind| !SCALED.contains(kind)) {
            return Err(not_scaled(kind).into());
        }
        let near: Vec<&Key> = objects
            .objects
            .iter()
            .map(|object| &object.key)
            .filter(|key| self.namespace.as_ref().is_none_or(|namespace| key.namespace == *namespace))
            .collect();
        let scaled: Vec<&Key> = near
            .iter()
            .filter(|key| kind.map_or(SCALED.contains(&key.kind.as_str()), |kind| key.kind == kind))
            .copied()
            .collect();
        let found: Vec<&Key> = scaled.iter().filter(|key| key.name == name).copied().collect();
        match found.as_slice() {
            [one] => Ok(Key::clone(one)),
            [] => Err(match near
                .iter()
                .find(|key| key.name == name && matches!(key.kind.as_str(), "Pod" | "Job" | "DaemonSet"))
            {
                Some(other) => not_scaled(&other.kind),
                None => {
                    let hint = did_you_mean(name, scaled.iter().map(|key| key.name.as_str()));
                    let list = match hint.is_empty() {
                        true if scaled.is_empty() => "; there are none that could be scaled".to_owned(),
                        true => format!("; there are:{}", listed(&scaled)),
                        false => String::new(),
                    };
                    format!("no workload `{}`{hint}{list}", self.workload)
                }
            }
            .into()),
            several => {
                let list = listed(several);
                Err(format!("`{}` may be any of these; say its kind and -n NAMESPACE{list}", self.workload)
                    .into())
            }
        }
    }
}

fn listed(keys: &[&Key]) -> String {
    let line = |key: &&Key| format!("\n  {}/{} -n {}", key.kind.to_lowercase(), key.name, key.namespace);
    let mut text: String = keys.iter().take(LISTED_MAX).map(line).collect();
    if keys.len() > LISTED_MAX {
        text.push_str(&format!("\n  and {} more", keys.len() - LISTED_MAX));
    }
    text
}

fn not_scaled(kind: &str) -> String {
    format!(
        "a {kind} has no number of replicas; what has: {}. To run a program more than once, make it a Deployment",
        SCALED.join(", ")
    )
}
