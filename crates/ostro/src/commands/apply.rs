//! `ostro apply`: objects put into a running mesh.

use super::Outcome;
use super::common::{MeshArgs, key_text, print, texts};
use ostro_local::api::view::{Applied, Apply};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

/// Options of `ostro apply`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
All texts are checked first: if anything is wrong with any of them, everything that is wrong is said and nothing \
is applied. What is applied lasts until `ostro delete`, or until the mesh ends; with --state-dir, longer.

Examples:
  ostro apply -f reviews-v2.yaml
  ostro apply -f shop/ -n shop
  cat rule.yaml | ostro apply -f -")]
pub struct Args {
    /// Files, directories, or - for standard input.
    #[arg(short = 'f', long = "file", required = true, num_args = 1.., value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Where objects go that do not say [default: default].
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    #[command(flatten)]
    mesh: MeshArgs,
    /// Print one JSON object (docs/local.md says what is in it).
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Applies all or nothing.
    pub fn run(self) -> Outcome {
        super::block_on(async {
            let files = texts(&self.paths)?;
            let client = self.mesh.open().await?;
            let applied = client.apply(&Apply { files, namespace: self.namespace, create: false }).await?;
            say(&applied, self.json)?;
            Ok(ExitCode::SUCCESS)
        })
    }
}

/// Says what became of each object; notes go to standard error.
pub fn say(applied: &Applied, as_json: bool) -> std::io::Result<()> {
    if as_json {
        return print(&format!("{:#}\n", json!(applied)));
    }
    for note in &applied.notes {
        eprintln!("{note}");
    }
    let lines: Vec<String> = applied
        .objects
        .iter()
        .map(|change| format!("{} {}\n", key_text(&change.object), change.change.as_str()))
        .collect();
    print(&lines.concat())
}
