//! Which program on this machine stands in for a container image.
//!
//! `images.yaml` is a list; the first entry whose pattern matches an image's name (without tag and digest;
//! `*` matches any run of characters) says what is run:
//!
//! ```yaml
//! images:
//! - match: "*/examples-bookinfo-reviews-v2"
//!   program: ostro-sample
//!   args: [reviews]
//!   env: {SERVICE_VERSION: v2}
//! - match: auto
//!   gateway: true          # a proxy of the mesh itself, no program
//! - match: "example.com/mine"
//!   program: /opt/mine/server
//!   containerArgs: true    # the manifest's own arguments follow
//! - match: ostro.dev/run
//!   containerCommand: true # the program is the one that the manifest's own `command` names
//! ```
//!
//! The program stands for the image's entry point, and `args` and `env` for what the image would bring. With
//! `containerArgs` the manifest's `command` (but for its first word, which is the entry point itself) and `args` follow;
//! without, they are meant for another program, and are left out.
//!
//! A program without a slash is looked for beside the `ostro` binary.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ostro_api::Complaint;
use serde::Deserialize;

/// What runs in place of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stand {
    /// A program of this machine.
    Program(Program),
    /// Nothing but a proxy: the pod is a gateway.
    Gateway,
    /// What the container's own `command` names.
    Command,
}

/// A program of this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// A path, or a name beside the `ostro` binary.
    pub program: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its environment; a container's own entries win.
    pub env: BTreeMap<String, String>,
    /// True if the container's own arguments follow.
    pub container_args: bool,
}

/// The map from images to programs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Images(Vec<(String, Stand)>);

/// What is wrong with an image map. The user's to mend.
#[derive(Debug, thiserror::Error)]
pub enum ImagesError {
    /// It cannot be read.
    #[error(
        "{path}: {source}; give a file like samples/images.yaml: images: [{{match, program, args, env}}]"
    )]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not YAML.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Text(Vec<Complaint>),
    /// It does not have the form above.
    #[error("not of the form `images: [{{match, program, args, env}}]`: {0}")]
    Form(#[from] serde_json::Error),
    /// An entry says both or neither.
    #[error(
        "the image map's entry for `{0}` needs one of `program`, `gateway: true`, `containerCommand: true`"
    )]
    Either(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    images: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Entry {
    r#match: String,
    program: Option<String>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    container_args: bool,
    #[serde(default)]
    gateway: bool,
    #[serde(default)]
    container_command: bool,
}

impl Images {
    /// The programs this repository brings (`samples/images.yaml`).
    pub fn built_in() -> Result<Self, ImagesError> {
        Self::parse("samples/images.yaml", include_bytes!("../../../samples/images.yaml"))
    }

    /// Reads an image map from a file.
    pub fn read(path: &Path) -> Result<Self, ImagesError> {
        let bytes =
            std::fs::read(path).map_err(|source| ImagesError::File { path: path.to_owned(), source })?;
        Self::parse(&path.display().to_string(), &bytes)
    }

    fn parse(name: &str, bytes: &[u8]) -> Result<Self, ImagesError> {
        let (value, complaints) = ostro_api::parse_value(name, bytes);
        match complaints.is_empty() {
            true => Self::from_value(value),
            false => Err(ImagesError::Text(complaints)),
        }
    }

    /// Reads an image map.
    pub fn from_value(value: serde_json::Value) -> Result<Self, ImagesError> {
        let file: File = serde_json::from_value(value)?;
        let entries = file.images.into_iter().map(|entry| {
            let Entry { r#match, program, args, env, container_args, gateway, container_command } = entry;
            match (program, gateway, container_command) {
                (Some(program), false, false) => {
                    Ok((r#match, Stand::Program(Program { program, args, env, container_args })))
                }
                (None, true, false) => Ok((r#match, Stand::Gateway)),
                (None, false, true) => Ok((r#match, Stand::Command)),
                _ => Err(ImagesError::Either(r#match)),
            }
        });
        Ok(Self(entries.collect::<Result<_, _>>()?))
    }

    /// Entries of `other` come after these: these win.
    pub fn then(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// What stands in for `image`.
    pub fn find(&self, image: &str) -> Option<&Stand> {
        let name = bare_name(image);
        self.0.iter().find(|(pattern, _)| matches(pattern, name)).map(|(_, stand)| stand)
    }
}

/// The lines that make a program of this machine stand in for `image`.
pub fn entry(image: &str) -> String {
    let name = serde_json::Value::from(bare_name(image));
    format!(
        "images:\n- match: {name}\n  program: /path/to/the/program\n  containerArgs: true   # with the manifest's own \
         arguments"
    )
}

/// The image's name without `@digest` and `:tag`; a colon before the last slash is a registry's port.
fn bare_name(image: &str) -> &str {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    match name.rsplit_once(':') {
        Some((bare, tag)) if !tag.contains('/') => bare,
        _ => name,
    }
}

/// `*` matches any run of characters. Linear in pattern times text: no pattern can stall the runner.
fn matches(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    let Some(mut rest) = pieces.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let Some(last) = pattern.rsplit_once('*').map(|(_, last)| last) else { return rest.is_empty() };
    let middle = pattern.split('*').count().saturating_sub(2);
    for piece in pieces.take(middle) {
        let Some((_, after)) = rest.split_once(piece) else { return false };
        rest = after;
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn patterns_match_names_without_tags() {
        for (pattern, image, expected) in [
            (
                "*/examples-bookinfo-ratings-v1",
                "registry.istio.io/release/examples-bookinfo-ratings-v1:1.20.3",
                true,
            ),
            (
                "*/examples-bookinfo-ratings-v1",
                "docker.io/istio/examples-bookinfo-ratings-v1@sha256:00",
                true,
            ),
            ("*/examples-bookinfo-ratings-v1", "examples-bookinfo-ratings-v1", false),
            ("auto", "auto", true),
            ("auto", "autos", false),
            ("localhost:5000/*", "localhost:5000/x/y", true),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b*", "xxbxxa", false),
            ("a*a", "a", false),
            ("*", "anything", true),
        ] {
            assert_eq!(matches(pattern, bare_name(image)), expected, "{pattern} {image}");
        }
    }

    #[test]
    fn the_built_in_map_knows_public_samples() {
        let images = Images::built_in().unwrap();
        let reviews = images.find("docker.io/istio/examples-bookinfo-reviews-v3:1.20.3");
        let Some(Stand::Program(program)) = reviews else { panic!("{reviews:?}") };
        assert_eq!(program.args, ["reviews", "--version", "v3"]);
        assert_eq!(images.find("auto"), Some(&Stand::Gateway));
        assert_eq!(images.find("docker.io/istio/proxyv2:1.31.0"), Some(&Stand::Gateway));
        assert_eq!(images.find("docker.io/library/nginx:1"), None);
    }

    #[test]
    fn the_entry_that_is_suggested_matches() {
        let image = "registry.example:5000/a/b:1.2@sha256:00";
        let images = Images::parse("images.yaml", entry(image).as_bytes()).unwrap();
        assert!(matches!(images.find(image), Some(Stand::Program(p)) if p.container_args));
    }

    #[test]
    fn the_first_match_wins_and_unclear_entries_are_refused() {
        let map = json!({"images": [
            {"match": "auto", "gateway": true},
            {"match": "*", "program": "x", "args": ["a"]},
        ]});
        let images = Images::from_value(map).unwrap();
        assert_eq!(images.find("auto"), Some(&Stand::Gateway));
        assert!(matches!(images.find("other:1"), Some(Stand::Program(p)) if p.program == "x"));
        let neither = json!({"images": [{"match": "a"}]});
        assert!(matches!(Images::from_value(neither), Err(ImagesError::Either(_))));
        let misspelt = json!({"images": [{"match": "a", "programme": "x"}]});
        assert!(matches!(Images::from_value(misspelt), Err(ImagesError::Form(_))));
    }
}
