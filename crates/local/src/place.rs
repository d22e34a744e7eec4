//! A place: a thread inside namespaces of its own (network, mounts, host name), with a small runtime.
//!
//! Sockets opened and processes started by tasks of a place belong to its namespaces. That is all there is
//! to running something "in a pod": spawn it on the pod's place.

use std::fs::File;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::thread::UnshareFlags;
use tokio::runtime::{Builder, Handle};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long a closing place waits for blocking work (name lookups) of its tasks.
const CLOSE_MAX: Duration = Duration::from_millis(500);

/// A thread in namespaces of its own. Dropping it ends its tasks, then its processes; the namespaces go
/// with the last of them.
#[derive(Debug)]
pub struct Place {
    handle: Handle,
    netns: OwnedFd,
    close: CancellationToken,
    thread: Option<thread::JoinHandle<()>>,
}

impl Place {
    /// Makes a place; `furnish` runs in it first (mounts, sysctls), before any task.
    pub fn open(name: &str, furnish: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<Self> {
        let close = CancellationToken::new();
        let closed = close.clone();
        let (tell, told) = mpsc::sync_channel(1);
        // Names of threads are cut at 15 bytes by the kernel.
        let thread = thread::Builder::new().name(name.chars().take(15).collect()).spawn(move || {
            let made = enter()
                .and_then(|()| furnish())
                .and_then(|()| Ok((Builder::new_current_thread().enable_all().build()?, own_netns()?)));
            match made {
                Ok((runtime, netns)) => {
                    if tell.send(Ok((runtime.handle().clone(), netns))).is_ok() {
                        runtime.block_on(closed.cancelled());
                    }
                    runtime.shutdown_timeout(CLOSE_MAX);
                }
                // The other end waits for it below.
                Err(error) => drop(tell.send(Err(error))),
            }
        })?;
        let (handle, netns) = told.recv().map_err(io::Error::other)??;
        Ok(Self { handle, netns, close, thread: Some(thread) })
    }

    /// Runs a task in the place.
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.handle.spawn(task)
    }

    /// For running tasks in it without holding it.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Its network namespace.
    pub fn netns(&self) -> BorrowedFd<'_> {
        self.netns.as_fd()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.close.cancel();
        if let Some(thread) = self.thread.take() {
            // A panic of a task was reported where it happened.
            let _ = thread.join();
        }
    }
}

fn own_netns() -> io::Result<OwnedFd> {
    Ok(File::open("/proc/thread-self/ns/net")?.into())
}

/// Moves the calling thread into new namespaces whose mounts no other sees.
fn enter() -> io::Result<()> {
    let flags = UnshareFlags::NEWNET | UnshareFlags::NEWNS | UnshareFlags::NEWUTS;
    // SAFETY: only namespaces are unshared, not the table of file descriptors.
    unsafe { rustix::thread::unshare_unsafe(flags)? };
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    Ok(())
}
