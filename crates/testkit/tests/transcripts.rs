//! The documents in `tests/transcripts`: what somebody types, and what comes. Each is run on a machine of its own
//! ([`ostro_testkit::room`]), as an ordinary user, with a real mesh and stock Envoy where it starts one.
//!
//! `OSTRO_BLESS=1` writes what comes into the documents.

use std::path::{Path, PathBuf};

use ostro_testkit::room::{Room, command};
use ostro_testkit::transcript::{Shell, check};

/// Words that the documents use beside programs: `until_so` waits for a command to succeed, for a minute at most.
const WORDS: &str = "until_so() { for _ in $(seq 600); do if \"$@\" >/dev/null 2>&1; then return 0; fi; sleep 0.1; done; \
                     echo \"never so: $*\"; return 1; }";

/// Runs documents of `tests/transcripts` among the files there.
fn run(documents: &[&str]) {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    run_at(documents.iter().map(|name| place.join(format!("{name}.md"))).collect(), place.join("files"));
}

/// Runs documents where the files of a directory lie.
fn run_at(paths: Vec<PathBuf>, files: PathBuf) {
    let room = Room::open(&[("files", &files)]);
    room.enter(move || {
        let mut shell = Shell::start(command("sh"));
        assert_eq!(shell.run(WORDS), Vec::<String>::new());
        assert_eq!(shell.run("cp -r ../files/. ."), Vec::<String>::new());
        for path in &paths {
            check(path, &mut shell);
        }
        // Whatever a document has left running.
        shell.run("ostro down --all");
    });
}

/// What a newcomer reads first.
#[test]
fn the_readme() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    run_at(vec![root.join("README.md")], root.join("samples"));
}

#[test]
fn mistakes_without_a_mesh() {
    run(&["mistakes_without_a_mesh"]);
}

/// One mesh for all of it.
#[test]
fn commands_mistakes_and_json_in_a_mesh() {
    run(&["commands", "mistakes_in_a_mesh", "json", "several_meshes"]);
}

#[test]
fn a_mesh_in_the_background() {
    run(&["background"]);
}
