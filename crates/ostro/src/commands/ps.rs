//! `ostro ps`: the pods of a mesh, or the meshes of this machine.

use super::Outcome;
use super::common::{COMPLETED, MeshArgs, age, columns, print};
use ostro_local::api::client::{Client, ClientError};
use ostro_local::api::view::{Mesh, Pod, Pods};
use ostro_local::meshes::{MeshName, Meshes, Standing};
use serde_json::{Value, json};
use std::net::IpAddr;
use std::process::ExitCode;

/// Options of `ostro ps`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  ostro ps                  the pods of the mesh
  ostro ps -n shop -o wide  those of one namespace, with more columns
  ostro ps --all            the meshes that run on this machine")]
pub struct Args {
    #[command(flatten)]
    mesh: MeshArgs,
    /// Only pods of this namespace.
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// List the meshes of this user instead of the pods of one.
    #[arg(long, conflicts_with = "namespace")]
    all: bool,
    /// More columns.
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Output>,
    /// Print one JSON object (docs/local.md says what is in it).
    #[arg(long, conflicts_with = "output")]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// With workload and containers.
    Wide,
}

impl Args {
    /// Prints the list.
    pub fn run(self) -> Outcome {
        super::block_on(async {
            let text = if self.all { self.meshes().await? } else { self.pods().await? };
            print(&text)?;
            Ok(ExitCode::SUCCESS)
        })
    }

    async fn pods(&self) -> Result<String, ClientError> {
        let mut pods = self.mesh.open().await?.pods().await?;
        let mut namespaces: Vec<String> = pods.pods.iter().map(|pod| pod.namespace.clone()).collect();
        namespaces.dedup();
        if let Some(namespace) = &self.namespace {
            pods.pods.retain(|pod| pod.namespace == *namespace);
        }
        if self.json {
            return Ok(format!("{:#}\n", json!(pods)));
        }
        if let Some(namespace) = self.namespace.as_ref().filter(|_| pods.pods.is_empty()) {
            return Ok(match namespaces.is_empty() {
                true => "no pods\n".to_owned(),
                false => format!(
                    "no pods in namespace `{namespace}`; there are some in: {}\n",
                    namespaces.join(", ")
                ),
            });
        }
        Ok(table(&pods, self.output == Some(Output::Wide)))
    }

    async fn meshes(&self) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
        let meshes = Meshes::of_this_user();
        let mut found = Vec::new();
        for name in meshes.names()? {
            if meshes.standing(&name) != Standing::None {
                found.push(Found::look(&meshes, name).await);
            }
        }
        if self.json {
            let list: Vec<Value> = found.iter().map(Found::as_json).collect();
            return Ok(format!("{:#}\n", json!({"meshes": list})));
        }
        if found.is_empty() {
            return Ok("no mesh runs; start one: ostro up -f PATH, or ostro demo\n".to_owned());
        }
        let mut rows =
            vec![["NAME", "STATUS", "PODS", "READY", "INGRESS", "AGE"].map(str::to_owned).to_vec()];
        rows.extend(found.iter().map(Found::row));
        Ok(columns(&rows))
    }
}

/// A mesh, as far as it answers.
struct Found {
    name: MeshName,
    status: &'static str,
    seen: Option<(Mesh, Pods)>,
}

impl Found {
    async fn look(meshes: &Meshes, name: MeshName) -> Self {
        let seen = async {
            let client = Client::open(meshes, &name).await?;
            Ok::<_, ClientError>((client.mesh().await?, client.pods().await?))
        };
        let (status, seen) = match seen.await {
            Ok((mesh, pods)) if is_ready(&pods) => ("ready", Some((mesh, pods))),
            Ok(seen) => ("not ready", Some(seen)),
            Err(ClientError::Killed { .. }) => ("killed", None),
            Err(_) => ("does not answer", None),
        };
        Self { name, status, seen }
    }

    fn row(&self) -> Vec<String> {
        let mut row = vec![self.name.to_string(), self.status.to_owned()];
        if let Some((mesh, pods)) = &self.seen {
            let ready = pods.pods.iter().filter(|pod| pod.ready).count();
            row.extend([pods.pods.len().to_string(), ready.to_string()]);
            row.extend([mesh.ingress.to_string(), age(mesh.started)]);
        }
        row
    }

    fn as_json(&self) -> Value {
        let (mesh, pods) = match &self.seen {
            Some((mesh, pods)) => (Some(mesh), Some(pods)),
            None => (None, None),
        };
        json!({
            "name": self.name.as_str(),
            "status": self.status,
            "mesh": mesh,
            "pods": pods.map(|pods| pods.pods.len()),
            "ready": pods.map(|pods| pods.pods.iter().filter(|pod| pod.ready).count()),
        })
    }
}

fn is_ready(pods: &Pods) -> bool {
    pods.complete && pods.pods.iter().all(|pod| pod.ready || pod.status == COMPLETED)
}

fn table(pods: &Pods, wide: bool) -> String {
    let mut text = String::new();
    if pods.pods.is_empty() {
        text.push_str("no pods\n");
    } else {
        let mut head =
            ["NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "PROXY", "ADDRESS", "AGE"].to_vec();
        if wide {
            head.extend(["WORKLOAD", "CONTAINERS"]);
        }
        let mut rows = vec![head.into_iter().map(str::to_owned).collect()];
        rows.extend(pods.pods.iter().map(|pod| row(pod, wide)));
        text.push_str(&columns(&rows));
    }
    for pod in &pods.pods {
        if let Some(held) = &pod.held {
            text.push_str(&format!("problem: pod {}/{} is not started: {held}\n", pod.namespace, pod.name));
        }
    }
    for problem in &pods.problems {
        text.push_str(&format!("problem: {problem}\n"));
    }
    text
}

fn row(pod: &Pod, wide: bool) -> Vec<String> {
    let addresses: Vec<String> = pod.addresses.iter().map(IpAddr::to_string).collect();
    let mut row = vec![
        pod.namespace.clone(),
        pod.name.clone(),
        format!("{}/{}", pod.ready_containers[0], pod.ready_containers[1]),
        pod.status.clone(),
        pod.restarts.to_string(),
        pod.proxy.clone(),
        if wide { addresses.join(",") } else { addresses.into_iter().next().unwrap_or_default() },
        age(pod.started),
    ];
    if wide {
        row.push(format!("{}/{}", pod.workload.kind, pod.workload.name));
        row.push(pod.containers.join(","));
    }
    row
}
