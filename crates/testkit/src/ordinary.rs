//! An ordinary user, who exists nowhere: no name, no groups, no sub-uids; and a directory with all that such a user can
//! have of this workspace, which may lie below one that only root enters. Needs root.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::UnshareFlags;

use crate::envoy;
use crate::running::{PROGRAMS, program};

/// Nobody on any machine: between the ranges of people, of services, and of users made up for containers.
pub const USER: u32 = 54_321;

/// The user's directory. It goes when dropped.
#[derive(Debug)]
pub struct Ordinary {
    dir: tempfile::TempDir,
}

impl Ordinary {
    /// A directory with `ostro`, `ostro-sample` and Envoy, and a directory for temporary files that is the user's.
    pub fn new() -> Self {
        Self::with(&[program("ostro"), program("ostro-sample"), envoy::binary()])
    }

    /// The same with other programs.
    pub fn with(programs: &[PathBuf]) -> Self {
        let dir = tempfile::Builder::new().prefix("ostro-user-").tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let ordinary = Self { dir };
        for source in programs {
            ordinary.install(source);
        }
        fs::create_dir(ordinary.tmp()).unwrap();
        std::os::unix::fs::chown(ordinary.tmp(), Some(USER), Some(USER)).unwrap();
        ordinary
    }

    /// Copies a program into the directory; where it is then.
    pub fn install(&self, source: &Path) -> PathBuf {
        let target = self.path(&source.file_name().unwrap().to_string_lossy());
        fs::copy(source, &target).unwrap_or_else(|error| panic!("{}: {error}", source.display()));
        fs::set_permissions(&target, fs::Permissions::from_mode(0o755)).unwrap();
        target
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A file of the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Where the user's temporary files go.
    pub fn tmp(&self) -> PathBuf {
        self.path("tmp")
    }

    /// A program of the directory as the user runs it, with nothing but that directory in `PATH`.
    pub fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.path(name));
        command.uid(USER).gid(USER).env_clear().env("PATH", self.dir()).env("TMPDIR", self.tmp());
        command.env("OSTRO_ENVOY", self.path("envoy")).current_dir("/");
        command
    }

    /// A test of the calling test binary, run in namespaces that the user has made: there the user is the only one there is, and
    /// may do what a mesh in `ostro up` may. The test finds programs of the directory, and what PATH had.
    pub fn test(&self, name: &str) -> Command {
        let binary = self.install(&std::env::current_exe().unwrap());
        let mut command = self.command(&binary.file_name().unwrap().to_string_lossy());
        command.args(["--exact", name, "--nocapture"]).env(PROGRAMS, self.dir());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        // SAFETY: what is done are system calls on the child itself, which has one thread and a copy of this memory.
        unsafe { command.pre_exec(enter) };
        command
    }
}

impl Default for Ordinary {
    fn default() -> Self {
        Self::new()
    }
}

fn enter() -> io::Result<()> {
    // Who has changed its user is a stranger to its own /proc until it says otherwise.
    set_dumpable_behavior(DumpableBehavior::Dumpable)?;
    // SAFETY: only namespaces are unshared.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER | UnshareFlags::NEWNS)? };
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {USER} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {USER} 1"))
}
