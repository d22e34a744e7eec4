//! `ostro run`: a program put into a mesh, with no YAML.

use super::Outcome;
use super::common::print;
use super::program::{found, is_for_all};
use super::up::{GroundArgs, hold};
use super::values::{label, replicas};
use ostro_local::api::applied::Store;
use ostro_local::api::client::{Client, ClientError, running};
use ostro_local::api::view::{Applied, Apply, Delete, Key, Text};
use ostro_local::meshes::{DEFAULT_NAME, MeshName, Meshes, name_option};
use ostro_local::wishes::InForce;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::str::FromStr;
use tokio::signal::unix::{SignalKind, signal};

/// The image that stands for a program of this machine (samples/images.yaml).
const IMAGE: &str = "ostro.dev/run";

/// Options of `ostro run`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
The program becomes a Deployment, and a Service of the same name for its ports. If the mesh runs, it joins; else \
one comes up in the foreground. It is taken out again when this command ends (Ctrl-C); with -d, by `ostro delete`.

Examples:
  ostro run --name a --port http:8080 -- python3 -m http.server 8080
  ostro run -d --name b --replicas 2 --env GREETING=hello --port grpc:9000 -- ./server")]
pub struct Args {
    /// What the program is called in the mesh: its Deployment, its Service, its host name for others.
    #[arg(long, value_name = "NAME", value_parser = label)]
    name: String,
    /// A port that it listens on, with its protocol: http:8080, grpc:9000, tcp:5432; may be given more than once.
    #[arg(long = "port", value_name = "PROTOCOL:PORT")]
    ports: Vec<Port>,
    /// Its namespace.
    #[arg(short, long, value_name = "NAMESPACE", value_parser = label, default_value = "default")]
    namespace: String,
    /// A variable of its environment; may be given more than once.
    #[arg(short, long = "env", value_name = "NAME=VALUE")]
    env: Vec<Variable>,
    /// How many of it.
    #[arg(long, value_name = "N", value_parser = replicas, allow_negative_numbers = true, default_value_t = 1)]
    replicas: u32,
    /// Only put it into the running mesh; it stays when this command ends.
    #[arg(short, long)]
    detach: bool,
    /// The mesh that is meant, of several that run on this machine.
    #[arg(long, value_name = "MESH", default_value = DEFAULT_NAME)]
    mesh: MeshName,
    /// Print one JSON object, or one for each change if no mesh runs (docs/local.md says what is in it).
    #[arg(long)]
    json: bool,
    #[command(flatten, next_help_heading = "If no mesh runs")]
    ground: GroundArgs,
    /// The program and its arguments.
    #[arg(last = true, required = true, num_args = 1.., value_name = "CMD", help_heading = "Arguments")]
    command: Vec<String>,
}

/// A port and what is spoken there.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Port {
    protocol: String,
    port: u16,
}

/// What ports' names may begin with, in Istio's words.
const PROTOCOLS: [&str; 11] =
    ["http", "http2", "https", "grpc", "grpc-web", "tcp", "tls", "mongo", "mysql", "redis", "udp"];

impl FromStr for Port {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || "write PROTOCOL:PORT, such as http:8080, grpc:9000 or tcp:5432".to_owned();
        let (protocol, port) = text.split_once(':').ok_or_else(form)?;
        if !PROTOCOLS.contains(&protocol) {
            return Err(format!("no protocol `{protocol}`; allowed: {}", PROTOCOLS.join(", ")));
        }
        let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(form)?;
        Ok(Self { protocol: protocol.to_owned(), port })
    }
}

/// A variable of the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Variable(String, String);

impl FromStr for Variable {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').ok_or("write NAME=VALUE, such as GREETING=hello")?;
        Ok(Self(name.to_owned(), value.to_owned()))
    }
}

impl Args {
    /// Joins the mesh, or brings one up.
    pub fn run(self) -> Outcome {
        let meshes = Meshes::of_this_user();
        let apply = Apply { files: vec![self.text()?], namespace: None, create: true };
        // Without a second thread: a mesh of our own could not be brought up any more.
        let joined = super::block_on_here(async {
            match Client::open(&meshes, &self.mesh).await {
                Ok(client) => self.join(&client, &apply).await.map(Some),
                Err(ClientError::NotRunning { .. } | ClientError::Killed { .. }) => Ok(None),
                Err(error) => Err(error.into()),
            }
        })?;
        if let Some(code) = joined {
            return Ok(code);
        }
        if self.detach {
            return Err(self.nothing_to_join(&running(&meshes)).into());
        }
        hold(&self.mesh, None, (&self.ground, None), (false, self.json), |state| {
            let mut store = Store::open(&state.join(ostro_local::api::APPLIED))?;
            store.apply(&apply, &InForce::default()).map_err(|refused| refused.refusal.to_string())?;
            self.ground.options(&self.mesh, state, Vec::new())
        })
    }

    async fn join(&self, client: &Client, apply: &Apply) -> Result<ExitCode, Box<dyn Error + Send + Sync>> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let applied = client.apply(apply).await?;
        match self.json {
            true => print(&format!("{:#}\n", self.as_json(client.name(), &applied)))?,
            false => print(&self.as_text(client.name()))?,
        }
        if self.detach {
            return Ok(ExitCode::SUCCESS);
        }
        let mut pods = client.watch_pods().await?;
        let gone = async {
            loop {
                match pods.next::<Value>().await {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(error),
                    None => return Ok(()),
                }
            }
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            ended = gone => {
                eprintln!("ostro: the mesh `{}` has ended, and `{}` with it", client.name(), self.name);
                ended?;
                return Ok(ExitCode::SUCCESS);
            }
        }
        client.delete(&self.delete()).await?;
        Ok(ExitCode::SUCCESS)
    }

    fn nothing_to_join(&self, running: &[MeshName]) -> String {
        let mut text = format!("no mesh named `{}` runs, and -d only joins one that does", self.mesh);
        if let Some(first) = running.first() {
            let names: Vec<&str> = running.iter().map(MeshName::as_str).collect();
            text.push_str(&format!("\n  these run:     {} (say which: --mesh {first})", names.join(", ")));
        }
        let option = name_option(&self.mesh);
        text + &format!(
            "\n  start it:      ostro up{option}\n  or without -d: a mesh of its own comes up with it"
        )
    }

    /// Where others reach it, if it speaks HTTP.
    fn url(&self) -> Option<String> {
        let port = self.ports.first().filter(|port| port.protocol.starts_with("http"))?;
        Some(format!("http://{}.{}:{}", self.name, self.namespace, port.port))
    }

    fn as_json(&self, mesh: &MeshName, applied: &Applied) -> Value {
        json!({
            "mesh": mesh.as_str(), "namespace": self.namespace, "name": self.name, "url": self.url(),
            "objects": applied.objects, "notes": applied.notes,
        })
    }

    fn as_text(&self, mesh: &MeshName) -> String {
        let (name, option) = (&self.name, name_option(mesh));
        let place =
            if self.namespace == "default" { String::new() } else { format!(" -n {}", self.namespace) };
        let mut text = format!("{name} is in the mesh `{mesh}`\n");
        if let Some(url) = self.url() {
            text.push_str(&format!("  others reach it:   {url}\n"));
        }
        text.push_str(&format!("  what it writes:    ostro logs {name}{place}{option} -f\n"));
        match self.detach {
            true => {
                let service = if self.ports.is_empty() { String::new() } else { format!(" svc/{name}") };
                text + &format!("  take it out:       ostro delete deploy/{name}{service}{place}{option}\n")
            }
            false => text + "  take it out:       Ctrl-C\n",
        }
    }

    fn delete(&self) -> Delete {
        let key = |kind: &str| Key {
            kind: kind.to_owned(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
        };
        Delete {
            files: Vec::new(),
            objects: vec![key("Deployment"), key("Service")],
            namespace: None,
            ignore_missing: true,
        }
    }

    /// The objects, as one text.
    fn text(&self) -> Result<Text, Box<dyn Error + Send + Sync>> {
        let (program, args) = self.command.split_first().ok_or("which program? ostro run ... -- CMD")?;
        let program = found(program)?;
        let directory = std::env::current_dir()?;
        let is_open = is_for_all(&directory);
        if !is_open {
            eprintln!(
                "ostro: {} is closed to others, and in a mesh of root's, programs run as nobody: this one runs in /",
                directory.display()
            );
        }
        let text = |path: &Path| path.to_str().map(str::to_owned).ok_or("a path that is not UTF-8");
        let labels = json!({"app": self.name});
        let env: BTreeMap<&str, &str> = self.env.iter().map(|v| (v.0.as_str(), v.1.as_str())).collect();
        let env: Vec<Value> = env.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
        let ports = || self.ports.iter().enumerate();
        let protocol = |port: &Port| if port.protocol == "udp" { "UDP" } else { "TCP" };
        let name = |index: usize, port: &Port| match index {
            0 => port.protocol.clone(),
            _ => format!("{}-{}", port.protocol, port.port),
        };
        let container = json!({
            "name": self.name,
            "image": IMAGE,
            "command": [text(&program)?],
            "args": args,
            "workingDir": if is_open { text(&directory)? } else { "/".to_owned() },
            "env": env,
            "ports": ports()
                .map(|(_, port)| json!({"containerPort": port.port, "protocol": protocol(port)}))
                .collect::<Vec<_>>(),
        });
        let metadata = json!({"name": self.name, "namespace": self.namespace, "labels": labels});
        let mut items = vec![json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {
                "replicas": self.replicas,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            },
        })];
        if !self.ports.is_empty() {
            let ports: Vec<Value> = ports()
                .map(|(index, port)| json!({"name": name(index, port), "port": port.port, "protocol": protocol(port)}))
                .collect();
            items.push(json!({
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": metadata,
                "spec": {"selector": labels, "ports": ports},
            }));
        }
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
        Ok(Text { name: "ostro run".to_owned(), text: list.to_string() })
    }
}
