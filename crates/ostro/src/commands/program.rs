//! The program that `ostro run` puts into a mesh: found as a shell would find it, and looked at before it is tried.

use ostro_local::meshes::Meshes;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// What everybody may do with a file or directory: run it, or enter it.
const FOR_ALL: u32 = 0o001;
/// What somebody may do with it.
const FOR_ANYBODY: u32 = 0o111;

/// The program's path. Its file is there, and whoever the mesh's programs run as may run it.
pub fn found(program: &str) -> Result<PathBuf, String> {
    if program.contains('/') {
        return given(program);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all: Vec<PathBuf> =
        std::env::split_paths(&path).map(|dir| dir.join(program)).filter(|file| is_program(file)).collect();
    match (all.iter().find(|file| is_for_all(file)), all.first()) {
        (Some(file), _) => Ok(file.clone()),
        (None, Some(file)) => Err(closed(file)),
        (None, None) if Path::new(program).is_file() => {
            Err(format!("no program `{program}` in PATH; the file in this directory is ./{program}"))
        }
        (None, None) => {
            Err(format!("no program `{program}` in PATH; install it, or give its path (./{program})"))
        }
    }
}

fn given(program: &str) -> Result<PathBuf, String> {
    let file = Path::new(program).canonicalize().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            format!("{program}: nothing there; give the path of a program, or its name in PATH")
        }
        _ => format!("{program}: {error}; give the path of a program that you may run"),
    })?;
    match () {
        () if file.is_dir() => Err(format!("{program} is a directory; give the path of a program in it")),
        () if !is_program(&file) => {
            Err(format!("{program} is not executable; make it so: chmod +x {program}"))
        }
        () if !is_for_all(&file) => Err(closed(&file)),
        () => Ok(file),
    }
}

fn is_program(file: &Path) -> bool {
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & FOR_ANYBODY != 0)
}

fn closed(file: &Path) -> String {
    let shown = file.display();
    format!(
        "{shown} is closed to others, and in a mesh of root's, programs run as nobody: put it where everybody may run \
         it (install -m 755 {shown} /usr/local/bin), or run the mesh as an ordinary user"
    )
}

/// True if a program of the mesh can be run from, or in, this place: root's run as somebody else.
pub fn is_for_all(place: &Path) -> bool {
    let open = |path: &Path| path.metadata().is_ok_and(|meta| meta.permissions().mode() & FOR_ALL != 0);
    !Meshes::of_this_user().is_root() || place.ancestors().filter(|path| path.is_absolute()).all(open)
}
