//! The Dockerfile, as far as it is followed here: what is copied where, the environment, what is run.

use std::path::PathBuf;

use ostro_testkit::envoy;
use ostro_testkit::running::program;

/// What the Dockerfile makes.
pub struct Image {
    /// A file of this workspace, and where it is in the image.
    pub files: Vec<(PathBuf, PathBuf)>,
    /// `ENV`.
    pub environment: Vec<(String, String)>,
    /// `ENTRYPOINT`.
    pub entrypoint: Vec<String>,
    /// `CMD`.
    pub command: Vec<String>,
}

impl Image {
    /// Reads it, and takes programs from where this workspace builds them.
    pub fn read() -> Image {
        let path = envoy::workspace().join("Dockerfile");
        let mut image =
            Image { files: Vec::new(), environment: Vec::new(), entrypoint: Vec::new(), command: Vec::new() };
        for line in std::fs::read_to_string(path).unwrap().lines() {
            let (instruction, rest) = line.split_once(' ').unwrap_or((line, ""));
            match instruction {
                "" | "#" | "FROM" => {}
                "COPY" => image.copy(rest),
                "ENV" => {
                    let (name, value) = rest.split_once('=').unwrap();
                    image.environment.push((name.to_owned(), value.to_owned()));
                }
                "ENTRYPOINT" => image.entrypoint = serde_json::from_str(rest).unwrap(),
                "CMD" => image.command = serde_json::from_str(rest).unwrap(),
                other => panic!("the Dockerfile's {other} is not followed here: teach this test"),
            }
        }
        assert!(!image.files.is_empty() && !image.entrypoint.is_empty());
        image
    }

    fn copy(&mut self, rest: &str) {
        let words: Vec<&str> = rest.split(' ').collect();
        let (to, from) = words.split_last().unwrap();
        assert!(to.ends_with('/'), "a directory: {rest}");
        for file in from {
            let name = file.rsplit('/').next().unwrap();
            let source = match file.strip_prefix("dist/bin/") {
                Some("envoy") => envoy::binary(),
                Some(name) => program(name),
                None => envoy::workspace().join(name),
            };
            self.files.push((source, PathBuf::from(to).join(name)));
        }
    }
}
