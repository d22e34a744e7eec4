//! `ostro validate`: what the control plane would say about files, without a mesh.

use super::Outcome;
use ostro_sources::tree;
use std::path::PathBuf;
use std::process::ExitCode;

/// Options of `ostro validate`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Files, or directories searched for .yaml, .yml and .json.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
}

impl Args {
    /// Prints every complaint; exit status 1 if there is an error.
    pub fn run(self) -> Outcome {
        let tree = tree::walk(&self.paths);
        for problem in &tree.problems {
            println!("{}: found {}, allowed: {}", problem.path.display(), problem.found, problem.allowed);
        }
        println!("{} files, {} cannot be read", tree.files.len(), tree.problems.len());
        Ok(if tree.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
