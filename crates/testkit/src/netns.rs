//! Network namespaces to try packets in: a thread in one of its own, with a small runtime.
//!
//! Sockets opened by its tasks, and threads and processes they start, are in it. It goes with them.

use std::fs::File;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::thread;

use rtnetlink::packet_route::address::AddressHeaderFlags;
use rtnetlink::{Handle as Links, LinkUnspec, LinkVeth, RouteMessageBuilder};
use rustix::mount::{MountPropagationFlags, mount_bind, mount_change};
use rustix::net::{AddressFamily, SocketType, netdevice::name_to_index, socket};
use rustix::thread::UnshareFlags;
use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

/// A namespace. Dropping it ends its tasks.
#[derive(Debug)]
pub struct Netns {
    runtime: Handle,
    file: OwnedFd,
    close: CancellationToken,
    thread: Option<thread::JoinHandle<()>>,
}

/// An address with the length of its network's prefix.
pub type Address = (IpAddr, u8);

impl Netns {
    /// Makes one, its loopback up. Needs root. `groups`, if given, is what its threads find as `/etc/group`.
    pub fn open(groups: Option<&Path>) -> io::Result<Self> {
        let close = CancellationToken::new();
        let closed = close.clone();
        let groups = groups.map(Path::to_path_buf);
        let (tell, told) = sync_channel(1);
        let thread = thread::Builder::new().name("netns".to_owned()).spawn(move || {
            let made = enter(groups.as_deref())
                .and_then(|()| Ok((Builder::new_current_thread().enable_all().build()?, own_netns()?)));
            match made {
                Ok((runtime, file)) => {
                    if tell.send(Ok((runtime.handle().clone(), file))).is_ok() {
                        runtime.block_on(closed.cancelled());
                    }
                    runtime.shutdown_background();
                }
                // The other end waits for it below.
                Err(error) => drop(tell.send(Err(error))),
            }
        })?;
        let (runtime, file) = told.recv().map_err(io::Error::other)??;
        let made = Self { runtime, file, close, thread: Some(thread) };
        made.task(async { up(&links()?, "lo").await })??;
        Ok(made)
    }

    /// Runs a task in it, and waits for its end. Not to be called from a task.
    pub fn task<F>(&self, task: F) -> io::Result<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let (tell, told) = sync_channel(1);
        self.runtime.spawn(async move { drop(tell.send(task.await)) });
        told.recv().map_err(io::Error::other)
    }

    /// Starts a task in it.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    /// Runs `work` on a new thread in it, and waits for its end. Not to be called from a task.
    pub fn thread<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
        let started = self.task(async move { thread::Builder::new().spawn(work) })??;
        started.join().map_err(|_| io::Error::other("a thread in the namespace panicked"))
    }

    /// Ties it to another by a pair of interfaces, each with its name and addresses.
    pub fn link(
        &self,
        name: &str,
        at: &[Address],
        other: &Netns,
        other_name: &str,
        other_at: &[Address],
    ) -> io::Result<()> {
        let (mine, theirs) = (name.to_owned(), other_name.to_owned());
        // A name of its own until it is moved: both ends may be called eth0.
        let passing = "passing".to_owned();
        let file = other.file.try_clone()?;
        let (made, moving) = (mine.clone(), passing.clone());
        self.task(async move {
            let links = links()?;
            let pair = LinkVeth::new(&made, &moving).build();
            links.link().add(pair).execute().await.map_err(io::Error::other)?;
            let moved =
                LinkUnspec::new_with_index(index(&moving)?).setns_by_fd(file.as_fd().as_raw_fd()).build();
            links.link().set(moved).execute().await.map_err(io::Error::other)
        })??;
        self.furnish(mine.clone(), mine, at)?;
        other.furnish(passing, theirs, other_at)
    }

    fn furnish(&self, name: String, new_name: String, at: &[Address]) -> io::Result<()> {
        let at = at.to_vec();
        self.task(async move {
            let links = links()?;
            let named = LinkUnspec::new_with_index(index(&name)?).name(&new_name).build();
            links.link().set(named).execute().await.map_err(io::Error::other)?;
            up(&links, &new_name).await?;
            for address in at {
                add_address(&links, &new_name, address).await?;
            }
            Ok(())
        })?
    }

    /// Gives an interface an address.
    pub fn address(&self, interface: &str, address: Address) -> io::Result<()> {
        let interface = interface.to_owned();
        self.task(async move { add_address(&links()?, &interface, address).await })?
    }

    /// Sends what goes to `to` (everything of the gateway's family, without) by a gateway.
    pub fn route(&self, to: Option<IpAddr>, gateway: IpAddr) -> io::Result<()> {
        self.task(async move {
            let links = links()?;
            let added = match gateway {
                IpAddr::V4(gateway) => {
                    let mut route = RouteMessageBuilder::<std::net::Ipv4Addr>::new().gateway(gateway);
                    if let Some(IpAddr::V4(to)) = to {
                        route = route.destination_prefix(to, 32);
                    }
                    links.route().add(route.build()).execute().await
                }
                IpAddr::V6(gateway) => {
                    let mut route = RouteMessageBuilder::<std::net::Ipv6Addr>::new().gateway(gateway);
                    if let Some(IpAddr::V6(to)) = to {
                        route = route.destination_prefix(to, 128);
                    }
                    links.route().add(route.build()).execute().await
                }
            };
            added.map_err(io::Error::other)
        })?
    }
}

/// Runs `work`, with a small runtime, in a namespace of its own, and waits for its end. Not to be called from a task.
pub fn alone<T, F>(work: impl FnOnce() -> F + Send + 'static) -> io::Result<T>
where
    T: Send + 'static,
    F: Future<Output = T>,
{
    let netns = Netns::open(None)?;
    netns.thread(move || {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        Ok(runtime.block_on(work()))
    })?
}

impl Drop for Netns {
    fn drop(&mut self) {
        self.close.cancel();
        if let Some(thread) = self.thread.take() {
            // A panic of a task was reported where it happened.
            let _ = thread.join();
        }
    }
}

fn enter(groups: Option<&Path>) -> io::Result<()> {
    // SAFETY: only namespaces are unshared, not the table of file descriptors.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET | UnshareFlags::NEWNS)? };
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    if let Some(groups) = groups {
        mount_bind(groups, "/etc/group")?;
    }
    Ok(())
}

fn own_netns() -> io::Result<OwnedFd> {
    Ok(File::open("/proc/thread-self/ns/net")?.into())
}

fn links() -> io::Result<Links> {
    let (connection, links, _) = rtnetlink::new_connection()?;
    tokio::spawn(connection);
    Ok(links)
}

async fn up(links: &Links, name: &str) -> io::Result<()> {
    let up = LinkUnspec::new_with_index(index(name)?).up().build();
    links.link().set(up).execute().await.map_err(io::Error::other)
}

async fn add_address(links: &Links, interface: &str, (address, prefix): Address) -> io::Result<()> {
    let mut request = links.address().add(index(interface)?, address, prefix);
    // Usable at once: there is nobody to share it with.
    request.message_mut().header.flags.insert(AddressHeaderFlags::Nodad);
    request.execute().await.map_err(io::Error::other)
}

fn index(name: &str) -> io::Result<u32> {
    let any = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    Ok(name_to_index(any, name)?)
}
