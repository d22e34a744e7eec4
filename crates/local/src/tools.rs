//! Where the programs are that a mesh is made of.

use std::env;
use std::io;
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
    /// `PATH`. Whether it is there shows when it is used.
    pub envoy: PathBuf,
}

impl Tools {
    /// Looks around from the running binary.
    pub fn find(chosen: Option<PathBuf>) -> io::Result<Self> {
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
        let envoy = chosen
            .or_else(|| env::var_os("OSTRO_ENVOY").map(PathBuf::from))
            .or_else(built)
            .or_else(in_path)
            .ok_or_else(|| io::Error::other("no Envoy found: run `cargo xtask setup`, or set OSTRO_ENVOY"))?;
        Ok(Self { ostro, programs, envoy })
    }
}
