//! Python libraries that tests use as foreign peers, pinned by version and hash, as `pip install --target` lays them out.
//!
//! A library lands once per user and version of Python in `~/.cache/ostro`, whole or not at all; `target/tools/NAME-VERSION`
//! is a link to it, to be put into `PYTHONPATH`.

use crate::shell::{self, Done, Failure, at};
use crate::tools;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A library and what it needs.
pub struct Library {
    name: &'static str,
    version: &'static str,
    /// What is imported.
    module: &'static str,
    /// Requirements, exact, each with the sha256 of the wheels we have read.
    requirements: &'static [(&'static str, &'static [&'static str])],
}

/// gRPC as most people's programs have it: client and server of the protocol suite.
pub const GRPCIO: Library = Library {
    name: "grpcio",
    version: "1.76.0",
    module: "grpc",
    requirements: &[
        (
            "grpcio==1.76.0",
            &[
                // CPython 3.10 to 3.13 on x86_64, 3.11 to 3.13 on aarch64.
                "49ce47231818806067aea3324d4bf13825b658ad662d3b25fada0bdad9b8a6af",
                "8843114c0cfce61b40ad48df65abcfc00d4dba82eae8718fab5352390848c5da",
                "980a846182ce88c4f2f7e2c22c56aefd515daeb36149d1c897f83cf57999e0b6",
                "61f69297cba3950a524f61c7c8ee12e55c486cb5f7db47ff9dcee33da6f0d3ae",
                "08caea849a9d3c71a542827d6df9d5a69067b0a1efbea8a855633ff5d9571465",
                "d388087771c837cdb6515539f43b9d4bf0b0f23593a24054ac16f7a960be16f4",
                "83d57312a58dcfe2a3a0f9d1389b299438909a02db60e2f2ea2ae2d8034909d3",
            ],
        ),
        ("typing_extensions==4.16.0", &["481caa481374e813c1b176ada14e97f1f67a4539ce9cfeb3f350d78d6370c2e8"]),
    ],
};

/// `cpython-311`: libraries of one do not suit another.
fn interpreter() -> Done<String> {
    let mut python = Command::new("python3");
    python.args(["-c", "import sys; print(sys.implementation.cache_tag)"]);
    match python.output() {
        Ok(output) if output.status.success() => {
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        }
        _ => Err(Failure::new("python3 does not run")),
    }
}

impl Library {
    /// The directory that [`Library::install`] makes.
    fn path(&self) -> PathBuf {
        shell::target().join("tools").join(format!("{}-{}", self.name, self.version))
    }

    /// Makes sure that the library is there, for the `python3` that is found now.
    pub fn install(&self) -> Done {
        if self.can_be_imported(&self.path()) {
            return Ok(());
        }
        let directory = format!("{}-{}-{}", self.name, self.version, interpreter()?);
        let cached = tools::cache_dir()?.join(directory);
        if !self.can_be_imported(&cached) {
            self.download(&cached)?;
        }
        let link = self.path();
        let tools = shell::target().join("tools");
        at(&tools, fs::create_dir_all(&tools))?;
        let partial = tools.join(format!(".{}-{}", self.name, std::process::id()));
        at(&partial, std::os::unix::fs::symlink(&cached, &partial))?;
        at(&link, fs::rename(&partial, &link))?;
        eprintln!("xtask: {} {} is at {}", self.name, self.version, link.display());
        Ok(())
    }

    fn can_be_imported(&self, path: &Path) -> bool {
        let mut python = Command::new("python3");
        python.args(["-c", &format!("import {}", self.module)]).env("PYTHONPATH", path);
        path.is_dir() && shell::succeeds(&mut python)
    }

    fn download(&self, cached: &Path) -> Done {
        let Some(parent) = cached.parent() else {
            return Err(Failure::new(format!("{} has no parent", cached.display())));
        };
        at(parent, fs::create_dir_all(parent))?;
        let scratch = parent.join(format!(".{}-{}", self.name, std::process::id()));
        at(&scratch, fs::create_dir_all(&scratch))?;
        let requirements = scratch.join("requirements.txt");
        let line = |(package, hashes): &(&str, &[&str])| {
            let hashes: String = hashes.iter().map(|hash| format!(" --hash=sha256:{hash}")).collect();
            format!("{package}{hashes}\n")
        };
        let text: String = self.requirements.iter().map(line).collect();
        at(&requirements, fs::write(&requirements, text))?;
        let whole = scratch.join("whole");
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"])
            .args(["--root-user-action=ignore", "--only-binary=:all:", "--require-hashes", "--target"])
            .arg(&whole)
            .arg("--requirement")
            .arg(&requirements);
        let done = shell::run(&mut pip).and_then(|()| self.place(&whole, cached));
        at(&scratch, fs::remove_dir_all(&scratch))?;
        done
    }

    /// What is there cannot be imported, or is another's who was quicker.
    fn place(&self, whole: &Path, cached: &Path) -> Done {
        if cached.exists() && !self.can_be_imported(cached) {
            at(cached, fs::remove_dir_all(cached))?;
        }
        match fs::rename(whole, cached) {
            Err(_) if self.can_be_imported(cached) => Ok(()),
            renamed => at(cached, renamed),
        }
    }
}
