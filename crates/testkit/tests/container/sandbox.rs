//! What a container engine does to a process, by Docker's defaults: namespaces of its own but for users, fourteen
//! capabilities, a root file system of layers, hidden and read-only parts of `/proc` and `/sys`, a filter of system calls.
//!
//! The filter is Docker's in effect where it matters here: what its documentation lists as refused is refused. (Docker's own
//! is a list of what is allowed.) AppArmor's profile is left out; it forbids to mount, and so goes with the filter.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::libc;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use ostro_testkit::census;
use ostro_testkit::netns::Netns;
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, mount_remount, unmount,
};
use rustix::process::Signal;
use rustix::thread::{CapabilitySet, CapabilitySets, LinkNameSpaceType, UnshareFlags};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use crate::image::Image;

/// Options of `docker run`, of those that `docs/local.md` names. (Without AppArmor here, its option changes nothing.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Given {
    /// `--security-opt seccomp=unconfined`
    pub seccomp_unconfined: bool,
    /// `--security-opt systempaths=unconfined`
    pub systempaths_unconfined: bool,
}

/// What a container has without `--cap-add`.
const CAPABILITIES: [CapabilitySet; 14] = [
    CapabilitySet::CHOWN,
    CapabilitySet::DAC_OVERRIDE,
    CapabilitySet::FSETID,
    CapabilitySet::FOWNER,
    CapabilitySet::MKNOD,
    CapabilitySet::NET_RAW,
    CapabilitySet::SETGID,
    CapabilitySet::SETUID,
    CapabilitySet::SETFCAP,
    CapabilitySet::SETPCAP,
    CapabilitySet::NET_BIND_SERVICE,
    CapabilitySet::SYS_CHROOT,
    CapabilitySet::KILL,
    CapabilitySet::AUDIT_WRITE,
];
const HIDDEN: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
/// What Docker's filter refuses to who lacks `CAP_SYS_ADMIN` and the other capabilities that containers lack.
const REFUSED: [libc::c_long; 36] = [
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_delete_module,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_io_uring_setup,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_move_pages,
    libc::SYS_nfsservctl,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pivot_root,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
];
/// Flags of `clone` that make a namespace.
const CLONE_NAMESPACES: u64 = 0x7e02_0000;

/// A container that is about to run.
pub struct Container {
    /// A directory to mount things below, in mount namespaces that nobody else sees.
    dir: tempfile::TempDir,
    network: Netns,
    word: String,
    given: Given,
}

impl Container {
    pub fn new(given: Given) -> Container {
        let dir = tempfile::tempdir().unwrap();
        let word = dir.path().file_name().unwrap().to_string_lossy().into_owned();
        let network = Netns::open(None).unwrap();
        // As on an engine's network; nobody is at the other end.
        network.address("lo", (IpAddr::V4(Ipv4Addr::new(172, 17, 0, 2)), 32)).unwrap();
        Container { dir, network, word, given }
    }

    /// The word by which its processes are told (`ostro_testkit::census`).
    pub fn word(&self) -> &str {
        &self.word
    }

    /// The image's program with these arguments, or with its own.
    pub fn command(&self, image: &Image, arguments: Option<&[&str]>) -> Command {
        let (program, first) = image.entrypoint.split_first().unwrap();
        let mut command = Command::new(program);
        command.args(first).env_clear();
        match arguments {
            Some(arguments) => command.args(arguments),
            None => command.args(&image.command),
        };
        command
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/root");
        command.envs(image.environment.iter().cloned()).env(census::VARIABLE, &self.word);
        let network = self.network.thread(|| File::open("/proc/thread-self/ns/net")).unwrap().unwrap();
        let (dir, files, given) = (self.dir.path().to_owned(), image.files.clone(), self.given);
        let filters = if given.seccomp_unconfined { Vec::new() } else { vec![refusing(), without_clone3()] };
        let enter = move || {
            rustix::thread::move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
            let own =
                UnshareFlags::NEWNS | UnshareFlags::NEWPID | UnshareFlags::NEWUTS | UnshareFlags::NEWIPC;
            // SAFETY: only namespaces are unshared.
            unsafe { rustix::thread::unshare_unsafe(own | UnshareFlags::NEWCGROUP)? };
            first_process()?;
            enter_root(&dir, &files)?;
            if !given.systempaths_unconfined {
                hide()?;
            }
            confine()?;
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            for filter in &filters {
                seccompiler::apply_filter(filter).map_err(io::Error::other)?;
            }
            Ok(())
        };
        // SAFETY: the child has one thread and a copy of this memory; what it does are system calls on itself.
        unsafe { command.pre_exec(enter) };
        command
    }
}

/// Goes on in the first process of the new process namespace. Who was called waits for it, as an engine's shim does.
fn first_process() -> io::Result<()> {
    // SAFETY: the process has one thread.
    match unsafe { fork() }? {
        ForkResult::Child => Ok(()),
        ForkResult::Parent { child } => {
            // Whoever started us waits for these to be closed.
            // SAFETY: nothing here uses a descriptor from now on.
            unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
            let code = match waitpid(child, None) {
                Ok(WaitStatus::Exited(_, code)) => code,
                Ok(WaitStatus::Signaled(_, signal, _)) => 128 + signal as i32,
                _ => 255,
            };
            // SAFETY: ends this process, whose memory is a copy.
            unsafe { libc::_exit(code) }
        }
    }
}

/// A root of two layers, with the image's files, in the calling process' mount namespace.
fn enter_root(dir: &Path, files: &[(PathBuf, PathBuf)]) -> io::Result<()> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let quiet = MountFlags::NOSUID | MountFlags::NODEV;
    mount("tmpfs", dir, "tmpfs", quiet, None)?;
    let [upper, work, root] = ["upper", "work", "root"].map(|name| dir.join(name));
    for made in [&upper, &work, &root] {
        fs::create_dir(made)?;
    }
    let layers = format!("lowerdir=/,upperdir={},workdir={}", upper.display(), work.display());
    let layers = std::ffi::CString::new(layers).map_err(io::Error::other)?;
    mount("overlay", &root, "overlay", MountFlags::empty(), layers.as_c_str())?;
    let at = |path: &str| root.join(path.trim_start_matches('/'));
    mount("proc", at("/proc"), "proc", quiet | MountFlags::NOEXEC, None)?;
    mount("sysfs", at("/sys"), "sysfs", quiet | MountFlags::NOEXEC | MountFlags::RDONLY, None)?;
    for own in ["/tmp", "/run", "/dev"] {
        mount("tmpfs", at(own), "tmpfs", MountFlags::NOSUID, None)?;
    }
    for device in DEVICES {
        let target = at("/dev").join(device);
        File::create(&target)?;
        mount_bind(Path::new("/dev").join(device), &target)?;
    }
    for (source, target) in files {
        let target = root.join(target.strip_prefix("/").map_err(io::Error::other)?);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        File::create(&target)?;
        mount_bind(source, &target)?;
    }
    File::create(at("/.dockerenv"))?;
    std::env::set_current_dir(&root)?;
    rustix::process::pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    std::env::set_current_dir("/")
}

fn hide() -> io::Result<()> {
    for path in HIDDEN.map(Path::new) {
        // Not every kernel has each.
        match fs::symlink_metadata(path) {
            Ok(meta) if meta.is_dir() => mount("tmpfs", path, "tmpfs", MountFlags::RDONLY, None)?,
            Ok(_) => mount_bind("/dev/null", path)?,
            Err(_) => {}
        }
    }
    for path in READ_ONLY.map(Path::new).into_iter().filter(|path| path.exists()) {
        mount_bind(path, path)?;
        let kept = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount_remount(path, MountFlags::BIND | MountFlags::RDONLY | kept, c"")?;
    }
    Ok(())
}

/// Leaves the capabilities that containers have.
fn confine() -> io::Result<()> {
    let kept = CAPABILITIES.into_iter().fold(CapabilitySet::empty(), |all, one| all | one);
    for number in 0..64 {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if kept.contains(capability) {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // Not one that this kernel knows.
            Err(Errno::INVAL) => break,
            Err(error) => return Err(error.into()),
        }
    }
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    Ok(rustix::thread::set_capabilities(None, sets)?)
}

fn filter(rules: BTreeMap<i64, Vec<SeccompRule>>, errno: Errno) -> BpfProgram {
    let refuse = SeccompAction::Errno(errno.raw_os_error().cast_unsigned());
    let arch = std::env::consts::ARCH.try_into().unwrap();
    SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch).unwrap().try_into().unwrap()
}

fn refusing() -> BpfProgram {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        REFUSED.into_iter().map(|call| (call, Vec::new())).collect();
    let any = (25..32).map(|bit| 1_u64 << bit).chain([0x0002_0000]);
    let any = any.filter(|flag| CLONE_NAMESPACES & flag != 0).map(|flag| {
        let is_set = SeccompCmpOp::MaskedEq(flag);
        let condition = SeccompCondition::new(0, SeccompCmpArgLen::Qword, is_set, flag).unwrap();
        SeccompRule::new(vec![condition]).unwrap()
    });
    rules.insert(libc::SYS_clone, any.collect());
    filter(rules, Errno::PERM)
}

/// Its flags are in memory, where filters cannot look: programs are to use `clone`.
fn without_clone3() -> BpfProgram {
    filter(BTreeMap::from([(libc::SYS_clone3, Vec::new())]), Errno::NOSYS)
}
