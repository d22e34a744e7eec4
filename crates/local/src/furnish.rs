//! What a pod's programs find around them: `/etc/hosts`, the pod's directory, its volumes, and the programs themselves
//! at paths that every user can reach, wherever they are on the machine.
//!
//! Everything is mounted in the pod's own mount namespace, over the machine's own files; the host sees none of it.
//! Where a volume is to be mounted at a path that the machine does not have, the directory above is replaced by one of
//! the pod's own with the same entries, and a new one.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Component, Path, PathBuf};

use ostro_agent::DataPlane;
use rustix::fs::OFlags;
use rustix::mount::{
    MountFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive, mount_move, mount_remount, unmount,
};

use crate::volumes::{Content, Mount, Volumes};

/// Files of a pod's directory.
pub const HOSTS: &str = "hosts";
/// How it resolves names.
pub const RESOLV: &str = "resolv.conf";
/// How its proxy does.
pub const PROXY_RESOLV: &str = "proxy-resolv.conf";
/// The proxy's bootstrap, in Envoy's form.
pub const BOOTSTRAP: &str = "envoy.json";
/// Directory of its volumes.
const VOLUMES: &str = "volumes";
/// The pod's own in any case.
const RUN: &str = "/run";
/// Tells a directory of the pod's own; also where one is made, below `/run`.
const OWN: &str = ".own";
/// Where the old root is for a moment.
const OLD: &str = ".old";
/// Links that lead on from a link.
const LINKS_MAX: usize = 8;
/// Most entries of a directory that is replaced by one of the pod's own: each costs a mount.
const ENTRIES_MAX: usize = 1_024;

/// Paths as they are inside a pod.
#[derive(Debug)]
pub struct Inside;

impl Inside {
    /// A file of the pod's directory.
    pub fn file(name: &str) -> PathBuf {
        Path::new("/run/pod").join(name)
    }

    /// The proxy, under a name that tells which it is in lists of processes.
    pub fn proxy(plane: DataPlane) -> PathBuf {
        match plane {
            DataPlane::Ostro => "/run/ostro-proxy".into(),
            DataPlane::Envoy => "/run/envoy".into(),
        }
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
    /// Its proxy, if it has one: which program, and where that is.
    pub proxy: Option<(DataPlane, PathBuf)>,
    /// Its programs, in the order of its plan.
    pub programs: Vec<PathBuf>,
    /// Its host name.
    pub hostname: String,
    /// Where it finds its volumes, which [`write`] has put into its directory.
    pub mounts: Vec<Mount>,
}

/// Writes the volumes of a pod into its directory.
pub fn write(dir: &Path, volumes: &Volumes) -> io::Result<()> {
    for (name, content) in &volumes.contents {
        let root = dir.join(VOLUMES).join(name);
        fs::create_dir_all(&root)?;
        match content {
            Content::Empty => fs::set_permissions(&root, fs::Permissions::from_mode(0o777))?,
            Content::Files(files) => {
                for (path, bytes) in files {
                    let path = root.join(path);
                    if let Some(parent) = path.parent() {
                        fs::create_dir_all(parent)?;
                    }
                    fs::write(&path, bytes)?;
                    fs::set_permissions(&path, fs::Permissions::from_mode(0o444))?;
                }
            }
        }
    }
    // What an emptyDir is mounted by a sub path of is made on demand, as Kubernetes does.
    for mount in &volumes.mounts {
        let source = dir.join(VOLUMES).join(&mount.volume).join(&mount.sub_path);
        if volumes.contents.get(&mount.volume) == Some(&Content::Empty) && !source.exists() {
            fs::create_dir_all(&source)?;
            fs::set_permissions(&source, fs::Permissions::from_mode(0o777))?;
        }
    }
    Ok(())
}

impl Furniture {
    /// Sources and targets, the sources open: so they are found even once a mount hides their paths.
    fn mounts(&self) -> io::Result<Vec<(File, PathBuf)>> {
        let mut mounts = vec![
            (open(&self.dir.join(HOSTS))?, "/etc/hosts".into()),
            (open(&self.dir.join(RESOLV))?, "/etc/resolv.conf".into()),
        ];
        if let Some((plane, program)) = &self.proxy {
            mounts.push((open(program)?, Inside::proxy(*plane)));
        }
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
        mount("tmpfs", RUN, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, c"mode=0755")?;
        fs::create_dir("/run/pod")?;
        mount_bind(magic_path(&dir), Path::new("/run/pod"))?;
        for (source, target) in &mounts {
            mount_bind(magic_path(source), ready(target, false)?)?;
        }
        for volume in &self.mounts {
            mount_volume(volume).map_err(|e| said(&volume.target, &e))?;
        }
        rustix::system::sethostname(self.hostname.as_bytes())?;
        // Programs and gateways listen on ports below 1024 without being root, as in Kubernetes.
        fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0")
    }
}

fn mount_volume(volume: &Mount) -> io::Result<()> {
    let source = Inside::file(VOLUMES).join(&volume.volume).join(&volume.sub_path);
    let is_dir = fs::metadata(&source).map_err(|e| said(&source, &e))?.is_dir();
    let target = ready(&volume.target, is_dir)?;
    mount_bind(&source, &target)?;
    if volume.read_only {
        // A mount keeps what its file system forbids; these are all that a temporary directory may.
        let kept = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
        mount_remount(&target, kept, c"")
            .or_else(|_| mount_remount(&target, kept | MountFlags::NOEXEC, c""))?;
    }
    Ok(())
}

/// Makes the path one that can be mounted on, without a trace outside the pod; the path it really is.
fn ready(target: &Path, is_dir: bool) -> io::Result<PathBuf> {
    let target = &landing(target);
    if let Ok(real) = target.canonicalize() {
        return match real.is_dir() == is_dir {
            true => Ok(real),
            false => Err(io::Error::other("a file stands where a directory is mounted, or the reverse")),
        };
    }
    let above = target.ancestors().skip(1).find_map(|above| Some((above, above.canonicalize().ok()?)));
    let Some((above, real)) = above else { return Err(io::ErrorKind::NotFound.into()) };
    if !real.starts_with(RUN) {
        own(&real).map_err(|e| said(&real, &e))?;
    }
    let rest = target.strip_prefix(above).map_err(io::Error::other)?;
    let made = real.join(rest);
    if is_dir {
        fs::create_dir_all(&made)?;
    } else {
        if let Some(parent) = made.parent() {
            fs::create_dir_all(parent)?;
        }
        File::create(&made)?;
    }
    Ok(made)
}

/// Where a path leads that is a link to nothing: what `/etc/resolv.conf` is on many machines, once `/run` is the
/// pod's own.
fn landing(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        let Ok(link) = fs::read_link(&path) else { break };
        let joined = path.parent().unwrap_or(Path::new("/")).join(link);
        path = PathBuf::new();
        for part in joined.components() {
            match part {
                Component::ParentDir => drop(path.pop()),
                Component::CurDir => {}
                part => path.push(part),
            }
        }
    }
    path
}

/// Replaces a directory by one of the pod's own that has the same entries.
fn own(dir: &Path) -> io::Result<()> {
    let mark = dir.join(OWN);
    if fs::symlink_metadata(&mark).is_ok() {
        // It is the pod's own already.
        return Ok(());
    }
    let entries: Vec<fs::DirEntry> = fs::read_dir(dir)?.collect::<io::Result<_>>()?;
    if entries.len() > ENTRIES_MAX {
        return Err(io::Error::other("it has too many entries to add one"));
    }
    let mode = fs::metadata(dir)?.permissions();
    let staging = &Path::new(RUN).join(OWN);
    fs::create_dir_all(staging)?;
    mount("tmpfs", staging, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, c"mode=0755")?;
    fs::set_permissions(staging, mode)?;
    File::create(staging.join(OWN))?;
    for entry in entries {
        let (from, to) = (entry.path(), staging.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_symlink() {
            symlink(fs::read_link(&from)?, &to)?;
        } else if from == Path::new(RUN) {
            // The staging is below it: it moves over later.
            fs::create_dir(&to)?;
        } else if kind.is_dir() {
            fs::create_dir(&to)?;
            mount_bind_recursive(&from, &to)?;
        } else {
            File::create(&to)?;
            mount_bind(&from, &to)?;
        }
    }
    match dir == Path::new("/") {
        true => pivot(staging),
        false => Ok(mount_move(staging, dir)?),
    }
}

/// Makes `root` the root of the calling thread's mount namespace, and takes `/run` along.
fn pivot(root: &Path) -> io::Result<()> {
    std::env::set_current_dir(root)?;
    let old = Path::new("/").join(OLD);
    fs::create_dir(OLD)?;
    rustix::process::pivot_root(".", OLD)?;
    std::env::set_current_dir("/")?;
    mount_move(old.join("run"), RUN)?;
    unmount(&old, UnmountFlags::DETACH)?;
    fs::remove_dir(&old)
}

fn said(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
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
        .map_err(|e| said(path, &e))
}
