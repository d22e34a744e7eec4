//! `ostro delete`: objects that were applied, taken out again.

use super::Outcome;
use super::apply::say;
use super::common::{MeshArgs, kind, texts};
use ostro_local::api::view::{Delete, Key};
use std::path::PathBuf;
use std::process::ExitCode;

/// Options of `ostro delete`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Only what came by `ostro apply` or `ostro run` can be deleted. What is written in files that the mesh follows goes \
by editing them.

Examples:
  ostro delete -f reviews-v2.yaml
  ostro delete virtualservice reviews -n shop
  ostro delete deploy/a svc/a")]
pub struct Args {
    /// KIND NAME..., or KIND/NAME...
    #[arg(required_unless_present = "paths", conflicts_with = "paths", value_name = "KIND NAME")]
    objects: Vec<String>,
    /// Files or directories whose objects are meant, or - for standard input.
    #[arg(short = 'f', long = "file", num_args = 1.., value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Where objects are that do not say [default: default].
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Objects that are not there are no error.
    #[arg(long)]
    ignore_not_found: bool,
    #[command(flatten)]
    mesh: MeshArgs,
    /// Print one JSON object (docs/local.md says what is in it).
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Deletes all or nothing.
    pub fn run(self) -> Outcome {
        super::block_on(async {
            let delete = Delete {
                files: texts(&self.paths)?,
                objects: self.keys()?,
                namespace: self.namespace.clone(),
                ignore_missing: self.ignore_not_found,
            };
            let deleted = self.mesh.open().await?.delete(&delete).await?;
            say(&deleted, self.json)?;
            Ok(ExitCode::SUCCESS)
        })
    }

    fn keys(&self) -> Result<Vec<Key>, Box<dyn std::error::Error + Send + Sync>> {
        let namespace = self.namespace.as_deref().unwrap_or("default");
        let key = |kind: &str, name: &str| Key {
            kind: kind.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        let mut words = self.objects.iter();
        let Some(first) = words.next() else { return Ok(Vec::new()) };
        if first.contains('/') {
            let split = |word: &String| {
                let (typed, name) = word.split_once('/').ok_or_else(|| {
                    format!("`{word}` is not KIND/NAME; write all of them so, or KIND NAME...")
                })?;
                Ok(key(kind(typed)?, name))
            };
            return self.objects.iter().map(split).collect();
        }
        let kind = kind(first)?;
        let keys: Vec<Key> = words.map(|name| key(kind, name)).collect();
        match keys.is_empty() {
            true => Err(format!("which {kind}? Write: ostro delete {first} NAME").into()),
            false => Ok(keys),
        }
    }
}
