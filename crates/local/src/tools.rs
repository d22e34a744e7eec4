//! Where the programs are that a mesh is made of.

use std::env;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// The version of Envoy that `cargo xtask setup` installs.
pub const ENVOY_VERSION: &str = "1.40.0";

/// Paths of programs.
#[derive(Clone, Debug)]
pub struct Tools {
    /// The `ostro` binary that runs.
    pub ostro: PathBuf,
    /// Its directory, where the sample programs are too.
    pub programs: PathBuf,
    /// Stock Envoy: `chosen`, else `OSTRO_ENVOY`, else the one below the build directory, else the one in
    /// `PATH`. That it is what it should be shows when it is used.
    pub envoy: PathBuf,
}

/// Why the programs are not together. The user's to mend.
#[derive(Debug, thiserror::Error)]
pub enum ToolsError {
    /// The path of the running program cannot be had.
    #[error("where this program is cannot be told: {0}")]
    Own(#[from] io::Error),
    /// There is no Envoy.
    #[error(
        "no Envoy found; get one by `cargo xtask setup`, or say where it is: --envoy FILE, or OSTRO_ENVOY"
    )]
    NoEnvoy,
    /// It is not where somebody says.
    #[error("{said}{path}: {source}; give the path of a stock Envoy, or leave it out to have one looked for")]
    Envoy {
        /// By which option or variable.
        said: &'static str,
        /// Where it should be.
        path: PathBuf,
        /// Why it cannot be run.
        source: io::Error,
    },
}

impl Tools {
    /// Looks around from the running binary.
    pub fn find(chosen: Option<PathBuf>) -> Result<Self, ToolsError> {
        let ostro = env::current_exe()?;
        let programs = ostro.parent().unwrap_or(Path::new("/")).to_owned();
        let built = || {
            let relative = format!("tools/envoy-{ENVOY_VERSION}/envoy");
            programs.ancestors().map(|dir| dir.join(&relative)).find(|path| path.exists())
        };
        let in_path = || {
            let path = env::var_os("PATH")?;
            env::split_paths(&path).map(|dir| dir.join("envoy")).find(|path| path.exists())
        };
        let said = chosen.map(|path| ("--envoy ", path));
        let said = said.or_else(|| Some(("OSTRO_ENVOY=", env::var_os("OSTRO_ENVOY").map(PathBuf::from)?)));
        let envoy = match said {
            Some((said, path)) => match executable(&path) {
                Ok(()) => path,
                Err(source) => return Err(ToolsError::Envoy { said, path, source }),
            },
            None => built().or_else(in_path).ok_or(ToolsError::NoEnvoy)?,
        };
        Ok(Self { ostro, programs, envoy })
    }
}

fn executable(path: &Path) -> io::Result<()> {
    let meta = path.metadata()?;
    match meta.is_file() && meta.permissions().mode() & 0o111 != 0 {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::PermissionDenied, "not an executable file")),
    }
}
