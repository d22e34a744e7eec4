//! Where the programs are that a mesh is made of.

use std::env;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use ostro_agent::DataPlane;

/// The version of Envoy that `cargo xtask setup` installs.
pub const ENVOY_VERSION: &str = "1.40.0";

/// Paths of programs.
#[derive(Clone, Debug)]
pub struct Tools {
    /// The `ostro` binary that runs.
    pub ostro: PathBuf,
    /// Its directory, where the sample programs are too.
    pub programs: PathBuf,
    /// What proxies are.
    pub proxies: Proxies,
}

/// What the proxies of a mesh are.
#[derive(Clone, Debug)]
pub struct Proxies {
    /// What pods have that ask for no other.
    pub usual: DataPlane,
    /// The `ostro` binary: its proxy is a subcommand of it.
    pub ostro: PathBuf,
    /// Stock Envoy, or why there is none. That it is what it should be shows when it is used.
    pub envoy: Result<PathBuf, String>,
}

impl Proxies {
    /// The program of one of them; or why there is none.
    pub fn program(&self, plane: DataPlane) -> Result<&Path, &str> {
        match plane {
            DataPlane::Ostro => Ok(&self.ostro),
            DataPlane::Envoy => self.envoy.as_deref().map_err(String::as_str),
        }
    }
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
    /// Looks around from the running binary. Envoy is the one `chosen`, else that of `OSTRO_ENVOY`, else the one below
    /// the build directory, else the one in `PATH`; that there is none is an error only if it was chosen or is usual.
    pub fn find(usual: DataPlane, chosen: Option<PathBuf>) -> Result<Self, ToolsError> {
        let ostro = env::current_exe()?;
        let programs = ostro.parent().unwrap_or(Path::new("/")).to_owned();
        let is_wanted = usual == DataPlane::Envoy || chosen.is_some();
        let envoy = match Self::envoy(&programs, chosen) {
            Err(error) if is_wanted => return Err(error),
            found => found.map_err(|error| error.to_string()),
        };
        Ok(Self { proxies: Proxies { usual, ostro: ostro.clone(), envoy }, ostro, programs })
    }

    fn envoy(programs: &Path, chosen: Option<PathBuf>) -> Result<PathBuf, ToolsError> {
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
        match said {
            Some((said, path)) => match executable(&path) {
                Ok(()) => Ok(path),
                Err(source) => Err(ToolsError::Envoy { said, path, source }),
            },
            None => built().or_else(in_path).ok_or(ToolsError::NoEnvoy),
        }
    }
}

fn executable(path: &Path) -> io::Result<()> {
    let meta = path.metadata()?;
    match meta.is_file() && meta.permissions().mode() & 0o111 != 0 {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::PermissionDenied, "not an executable file")),
    }
}
