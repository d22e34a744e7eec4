//! The bootstrap as it is written: a file, the command line, or both, in JSON or YAML.

use envoy_types::pb::envoy::config::bootstrap::v3::Bootstrap;
use ostro_envoy_json::{Unknown, to_value, to_wire};
use prost::Message as _;
use serde_json::Value;

use crate::options::Options;
use crate::server::StartError;

const BOOTSTRAP: &str = "envoy.config.bootstrap.v3.Bootstrap";

/// The bootstrap that the command line names: the file's, and over it what the command line itself says.
///
/// # Errors
/// There is none, it cannot be read, or it is none.
pub(crate) fn read(options: &Options) -> Result<Bootstrap, StartError> {
    let mut wire = Vec::new();
    if let Some(path) = &options.config_path {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| StartError::Unreadable { path: name.clone(), error })?;
        let is_json = path.extension().is_some_and(|extension| extension == "json");
        let tree = if is_json { to_value(&text).map_err(invalid)? } else { from_yaml(&name, &text)? };
        wire.extend(encode(&tree, options)?);
    }
    if let Some(text) = &options.config_yaml {
        // To append is to merge.
        wire.extend(encode(&from_yaml("--config-yaml", text)?, options)?);
    }
    if options.config_path.is_none() && options.config_yaml.is_none() {
        return Err(StartError::NoConfiguration);
    }
    Bootstrap::decode(wire.as_slice()).map_err(invalid)
}

fn invalid(error: impl ToString) -> StartError {
    StartError::Invalid(error.to_string())
}

fn from_yaml(name: &str, text: &str) -> Result<Value, StartError> {
    let (tree, complaints) = ostro_api::parse_value(name, text.as_bytes());
    if complaints.is_empty() {
        return Ok(tree);
    }
    let all: Vec<String> = complaints.iter().map(ToString::to_string).collect();
    Err(StartError::Invalid(all.join("\n")))
}

fn encode(tree: &Value, options: &Options) -> Result<Vec<u8>, StartError> {
    // An empty document says nothing.
    if tree.is_null() {
        return Ok(Vec::new());
    }
    let mut unknown = Vec::new();
    let fate = if options.takes_unknown_fields() { Unknown::Collect(&mut unknown) } else { Unknown::Refuse };
    let wire = to_wire(BOOTSTRAP, tree, fate).map_err(invalid)?;
    for path in unknown {
        tracing::warn!(%path, "unknown field of the bootstrap");
    }
    Ok(wire)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test's helpers fail the test by panicking")]

    use super::*;
    use clap::Parser as _;

    fn options(arguments: &[&str]) -> Options {
        Options::try_parse_from([&["envoy"], arguments].concat()).unwrap()
    }

    #[test]
    fn the_command_line_is_laid_over_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bootstrap.yaml");
        std::fs::write(
            &path,
            "node:\n  id: file\n  cluster: c\nstatic_resources:\n  clusters: [{name: a}]\n",
        )
        .unwrap();
        let path = path.to_str().unwrap();
        let over = "{node: {id: line}, static_resources: {clusters: [{name: b}]}}";
        let bootstrap = read(&options(&["-c", path, "--config-yaml", over])).unwrap();
        let node = bootstrap.node.unwrap();
        assert_eq!((node.id.as_str(), node.cluster.as_str()), ("line", "c"));
        let names: Vec<_> =
            bootstrap.static_resources.unwrap().clusters.into_iter().map(|c| c.name).collect();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn what_is_wrong_is_told() {
        let refused = |arguments: &[&str]| read(&options(arguments)).unwrap_err().to_string();
        assert_eq!(refused(&[]), "at least one of --config-path or --config-yaml must be non-empty");
        let odd = "{node: {id: a, odd: 1}}";
        assert_eq!(refused(&["--config-yaml", odd]), "node.odd: unknown field of envoy.config.core.v3.Node");
        assert!(read(&options(&["--config-yaml", odd, "--allow-unknown-static-fields"])).is_ok());
        assert!(
            refused(&["-c", "/nonexistent/x.json"]).starts_with("unable to read file: /nonexistent/x.json: ")
        );
        assert!(!refused(&["--config-yaml", "{a: [}"]).is_empty());
    }
}
