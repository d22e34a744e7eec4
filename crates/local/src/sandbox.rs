//! What a mesh lives in, so that it needs no root and leaves nothing: namespaces for the whole process.
//!
//! [`enter`] turns the calling process into two and a half. The process that was called waits, passes signals on
//! and cleans up at the end. Its child is the first process of a new process namespace: it does nothing but reap,
//! and the kernel ends everything in the namespace with it. *Its* child returns from [`enter`] and is the mesh.
//! Whichever of the three is killed, nothing of the mesh survives, and with its last process go its network
//! namespaces, mounts, links and rules.
//!
//! The network is not part of it: threads of the mesh's process stay in the host's network, so that what they open
//! (published ports, ways out) is the host's. What lives elsewhere does so on a thread of its own
//! ([`Place`](crate::place::Place)).
//!
//! An ordinary user gets a user namespace in which one user, himself, is mapped to 0.
#![allow(unsafe_code, reason = "fork has no safe form; each call says why it is sound")]

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process;

use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{getegid, geteuid};
use rustix::thread::UnshareFlags;

/// What the processes that only wait for another one are woken by.
const AWAITED: [Signal; 5] =
    [Signal::SIGCHLD, Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];

/// What the kernel refused. The machine's fault or its administrator's choice; `ostro doctor` finds out which.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {source}")]
pub struct SandboxError {
    /// What was being done.
    pub step: &'static str,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

trait Step<T> {
    fn step(self, step: &'static str) -> Result<T, SandboxError>;
}

impl<T, E: Into<io::Error>> Step<T> for Result<T, E> {
    fn step(self, step: &'static str) -> Result<T, SandboxError> {
        self.map_err(|source| SandboxError { step, source: source.into() })
    }
}

/// Moves what follows in the caller into a sandbox. Has to be called before the process has a second thread.
///
/// Returns in the sandbox only. In the process that was called it never returns: it waits for the sandbox to end,
/// tells `cleanup` the exit code, and exits with it: that of what ran in the sandbox, or 128 and the signal's number if a
/// signal ended it.
pub fn enter(cleanup: impl FnOnce(i32)) -> Result<(), SandboxError> {
    unshare()?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .step("keeping mounts from the host")?;
    let (alive, held) = pipe_with(PipeFlags::CLOEXEC).step("opening a pipe")?;
    let before =
        awaited().thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK).step("blocking signals")?;
    match fork().step("starting the sandbox's first process")? {
        Some(init) => {
            drop(alive);
            let code = attend(init, false);
            // The other end of it tells a sandbox that has only just begun that its parent is there.
            drop(held);
            cleanup(code);
            process::exit(code);
        }
        None => {
            drop(held);
            init(&alive, &before)
        }
    }
}

/// Whether the process may act as any user, so that the proxy's traffic can be told apart by its user.
pub fn has_users() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let mut ranges = map.lines().filter_map(|line| {
        let mut numbers = line.split_ascii_whitespace().map(str::parse::<u64>);
        let (first, _, count) = (numbers.next()?.ok()?, numbers.next()?, numbers.next()?.ok()?);
        Some((first, count))
    });
    ranges.any(|(first, count)| first == 0 && count > 65_534)
}

fn unshare() -> Result<(), SandboxError> {
    let own = UnshareFlags::NEWNS | UnshareFlags::NEWPID;
    if geteuid().is_root() {
        // SAFETY: only namespaces are unshared, not the table of file descriptors.
        match unsafe { rustix::thread::unshare_unsafe(own) } {
            // Root of a container that may not: as everybody else.
            Err(rustix::io::Errno::PERM) => {}
            result => return result.step("making mount and process namespaces"),
        }
    }
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    // SAFETY: as above.
    unsafe { rustix::thread::unshare_unsafe(own | UnshareFlags::NEWUSER) }.step("making a user namespace")?;
    fs::write("/proc/self/setgroups", "deny").step("giving up supplementary groups")?;
    fs::write("/proc/self/uid_map", format!("0 {user} 1")).step("mapping the user")?;
    fs::write("/proc/self/gid_map", format!("0 {group} 1")).step("mapping the group")
}

/// The first process of the namespace: starts the mesh, which is what returns from here, and reaps until it ends.
fn init(alive: &OwnedFd, before: &SigSet) -> Result<(), SandboxError> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .step("tying the sandbox to its parent")?;
    if is_closed(alive) {
        // The parent was gone before the line above.
        process::exit(1);
    }
    // Its own view of processes, and of the sysctls of its own networks even where the host's are read-only. Where it is
    // refused (a container hides part of /proc) the host's does.
    let own_proc = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    if let Err(error) = mount("proc", "/proc", "proc", own_proc, None) {
        tracing::debug!(%error, "the sandbox has the host's /proc");
    }
    match fork().step("starting the mesh")? {
        Some(mesh) => process::exit(attend(mesh, true)),
        None => before.thread_set_mask().step("unblocking signals"),
    }
}

fn is_closed(pipe: &OwnedFd) -> bool {
    let mut polled = [PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN)];
    let ready = poll(&mut polled, Some(&Timespec::default()));
    ready.is_ok() && polled.iter().any(|fd| fd.revents().contains(PollFlags::HUP))
}

/// Waits for `child`, passing signals on; its exit code. With `reap`, every other child is waited for as well.
fn attend(child: Pid, reap: bool) -> i32 {
    let awaited = awaited();
    loop {
        match awaited.wait() {
            Ok(Signal::SIGCHLD) => {
                while let Some(status) = ended(child, reap) {
                    if status.pid() == Some(child) {
                        return code(status);
                    }
                }
            }
            // It fails only if the child is gone, which a signal of its own tells.
            Ok(signal) => drop(kill(child, signal)),
            // Disturbed: once more.
            Err(_) => {}
        }
    }
}

fn awaited() -> SigSet {
    AWAITED.into_iter().collect()
}

/// A child that has ended and was not told of yet.
fn ended(child: Pid, reap: bool) -> Option<WaitStatus> {
    let which = if reap { None } else { Some(child) };
    waitpid(which, Some(WaitPidFlag::WNOHANG)).ok().filter(|status| *status != WaitStatus::StillAlive)
}

fn code(status: WaitStatus) -> i32 {
    match status {
        WaitStatus::Exited(_, code) => code,
        WaitStatus::Signaled(_, signal, _) => 128 + signal as i32,
        _ => 1,
    }
}

/// `None` in the child.
fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: the process has one thread (as `enter` demands), so the child's copy of every lock is free.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Some(child)),
        ForkResult::Child => Ok(None),
    }
}
