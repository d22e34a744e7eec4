//! What a pod's programs find around them: `/etc/hosts`, the pod's directory, and the programs themselves
//! at paths that every user can reach, wherever they are on the machine.
//!
//! Everything is mounted in the pod's own mount namespace, over directories every system has; the host
//! sees none of it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::mount::{MountFlags, mount, mount_bind};

/// Files of a pod's directory.
pub const HOSTS: &str = "hosts";
/// How it resolves names.
pub const RESOLV: &str = "resolv.conf";
/// Envoy's bootstrap.
pub const BOOTSTRAP: &str = "envoy.json";

/// Paths as they are inside a pod.
#[derive(Debug)]
pub struct Inside;

impl Inside {
    /// A file of the pod's directory.
    pub fn file(name: &str) -> PathBuf {
        Path::new("/run/pod").join(name)
    }

    /// Envoy.
    pub fn envoy() -> PathBuf {
        "/run/envoy".into()
    }

    /// The pod's programs, in the order of its plan.
    pub fn program(index: usize) -> PathBuf {
        format!("/run/program-{index}").into()
    }
}

/// What a pod is to find inside.
#[derive(Clone, Debug)]
pub struct Furniture {
    /// Its directory.
    pub dir: PathBuf,
    /// Envoy.
    pub envoy: PathBuf,
    /// Its programs, in the order of its plan.
    pub programs: Vec<PathBuf>,
    /// Its host name.
    pub hostname: String,
}

impl Furniture {
    /// Sources and targets, the sources open: so they are found even once a mount hides their paths.
    fn mounts(&self) -> io::Result<Vec<(File, PathBuf)>> {
        let mut mounts = vec![
            (open(&self.dir.join(HOSTS))?, "/etc/hosts".into()),
            (open(&self.dir.join(RESOLV))?, "/etc/resolv.conf".into()),
            (open(&self.envoy)?, Inside::envoy()),
        ];
        for (index, program) in self.programs.iter().enumerate() {
            mounts.push((open(program)?, Inside::program(index)));
        }
        Ok(mounts)
    }

    /// Mounts it all in the calling thread's mount namespace, which must be the pod's already (the kernel
    /// refuses sources from another), and sets host name and network options.
    pub fn install(&self) -> io::Result<()> {
        let dir = open(&self.dir)?;
        let mounts = self.mounts()?;
        mount("tmpfs", "/run", "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, c"mode=0755")?;
        fs::create_dir("/run/pod")?;
        mount_bind(magic_path(&dir), Path::new("/run/pod"))?;
        for (source, target) in &mounts {
            if target.starts_with("/run") {
                File::create(target)?;
            }
            mount_bind(magic_path(source), target)?;
        }
        rustix::system::sethostname(self.hostname.as_bytes())?;
        // Programs and gateways listen on ports below 1024 without being root, as in Kubernetes.
        fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0")
    }
}

/// The path by which the kernel finds an open file, wherever it is.
fn magic_path(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

/// Opens a path only to name it: no permission on its content is needed.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
        .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))
}
