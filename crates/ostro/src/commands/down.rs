//! `ostro down`: the end of a mesh, from another terminal, or after it was killed.

use super::Outcome;
use super::common::{MeshArgs, print};
use ostro_local::api::client::{Client, ClientError};
use ostro_local::meshes::{MeshName, Meshes};
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
}

impl Args {
    /// Ends what is meant; returns when nothing of it is left.
    pub fn run(self) -> Outcome {
        super::block_on(async {
            let meshes = Meshes::of_this_user();
            if !self.all {
                let said = end(&meshes, &self.mesh.name).await?;
                print(&said)?;
                return Ok(ExitCode::SUCCESS);
            }
            let names = meshes.names()?;
            if names.is_empty() {
                print("no mesh runs\n")?;
            }
            let mut code = ExitCode::SUCCESS;
            for name in names {
                match end(&meshes, &name).await {
                    Ok(said) => print(&said)?,
                    // One that is ending already is none of the others' business.
                    Err(error) => {
                        eprintln!("ostro: {error}");
                        code = ExitCode::FAILURE;
                    }
                }
            }
            Ok(code)
        })
    }
}

async fn end(meshes: &Meshes, name: &MeshName) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
    match Client::open(meshes, name).await {
        Ok(client) => {
            client.down().await?;
            // Usually the mesh has done it itself.
            meshes.clean(name)?;
            Ok(format!("mesh `{name}` has ended\n"))
        }
        Err(ClientError::Killed { .. }) => {
            meshes.clean(name)?;
            Ok(format!("mesh `{name}` had been killed; what it left is removed\n"))
        }
        Err(error) => Err(error.into()),
    }
}
