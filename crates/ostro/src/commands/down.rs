//! `ostro down`: the end of a mesh, from another terminal, or after it was killed.

use super::Outcome;
use super::common::{MeshArgs, print};
use ostro_local::api::client::{Client, ClientError};
use ostro_local::meshes::{MeshName, Meshes};
use serde_json::{Value, json};
use std::io;
use std::process::ExitCode;

/// Options of `ostro down`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  ostro down                ends the mesh, and cleans up after one that was killed
  ostro down --name second  ends the mesh of that name
  ostro down --all          ends every mesh of this user")]
pub struct Args {
    #[command(flatten)]
    mesh: MeshArgs,
    /// End every mesh of this user.
    #[arg(long, conflicts_with = "name")]
    all: bool,
    /// Print one JSON object (docs/local.md says what is in it).
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Ends what is meant; returns when nothing of it is left.
    pub fn run(self) -> Outcome {
        super::block_on(async {
            let meshes = Meshes::of_this_user();
            let mut ended = Vec::new();
            let mut code = ExitCode::SUCCESS;
            if self.all {
                for name in meshes.names()? {
                    match end(&meshes, &name).await {
                        Ok(was) => self.tell(&name, was, &mut ended)?,
                        // One that is ending already is none of the others' business.
                        Err(error) => {
                            eprintln!("ostro: {error}");
                            code = ExitCode::FAILURE;
                        }
                    }
                }
            } else {
                let was = end(&meshes, &self.mesh.name).await?;
                self.tell(&self.mesh.name, was, &mut ended)?;
            }
            match self.json {
                true => print(&format!("{:#}\n", json!({"meshes": ended})))?,
                false if ended.is_empty() && code == ExitCode::SUCCESS => print("no mesh runs\n")?,
                false => {}
            }
            Ok(code)
        })
    }

    /// Tells of each mesh when it has ended, or of all at the end.
    fn tell(&self, name: &MeshName, was: Was, ended: &mut Vec<Value>) -> io::Result<()> {
        ended.push(json!({"name": name.as_str(), "was": was.as_str()}));
        match was {
            _ if self.json => Ok(()),
            Was::Running => print(&format!("mesh `{name}` has ended\n")),
            Was::Killed => print(&format!("mesh `{name}` had been killed; what it left is removed\n")),
        }
    }
}

/// What a mesh was before it was ended.
#[derive(Clone, Copy, Debug)]
enum Was {
    Running,
    Killed,
}

impl Was {
    fn as_str(self) -> &'static str {
        match self {
            Was::Running => "running",
            Was::Killed => "killed",
        }
    }
}

async fn end(meshes: &Meshes, name: &MeshName) -> Result<Was, Box<dyn std::error::Error + Send + Sync>> {
    match Client::open(meshes, name).await {
        Ok(client) => {
            client.down().await?;
            // Usually the mesh has done it itself.
            meshes.clean(name)?;
            Ok(Was::Running)
        }
        Err(ClientError::Killed { .. }) => {
            meshes.clean(name)?;
            Ok(Was::Killed)
        }
        Err(error) => Err(error.into()),
    }
}
