//! Interfaces: a bridge in the mesh's own namespace, and a pair of them for every pod.
//!
//! Everybody is on one Ethernet: the control plane is reached at the bridge's address, pods at theirs. A
//! service's address leads to the bridge too, where nobody answers: it only has to have a route, because
//! the capture rules turn the connection to the proxy before it leaves the pod.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd as _, BorrowedFd};

use rtnetlink::{Handle, LinkBridge, LinkUnspec, LinkVeth, RouteMessageBuilder};
use rustix::net::{AddressFamily, SocketType, netdevice::name_to_index, socket};

use crate::place::Place;

/// Network of the pods: 10.244.0.0/16, as many installers choose.
pub const POD_NETWORK: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 0);
/// Length of its prefix.
pub const POD_PREFIX: u8 = 16;
/// The bridge: the pods' default route, and where the control plane listens.
pub const BRIDGE: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 1);

const BRIDGE_NAME: &str = "mesh0";
/// Its own, locally administered: a bridge without one takes the lowest of its ports', so that every pod
/// that joins may change it, and pods that still know the old one talk to nobody.
const BRIDGE_MAC: [u8; 6] = [0x02, b'o', b's', b't', b'r', b'o'];

/// What the kernel refused. Ours or the machine's fault (no root, a kernel without bridges), never the
/// user's YAML's.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// A request to the kernel.
    #[error("{step}: {source}")]
    Netlink {
        /// What was being done.
        step: &'static str,
        /// What the kernel said.
        source: rtnetlink::Error,
    },
    /// Something around it.
    #[error("{step}: {source}")]
    Io {
        /// What was being done.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

trait Step<T> {
    fn step(self, step: &'static str) -> Result<T, LinkError>;
}

impl<T> Step<T> for Result<T, rtnetlink::Error> {
    fn step(self, step: &'static str) -> Result<T, LinkError> {
        self.map_err(|source| LinkError::Netlink { step, source })
    }
}

impl<T> Step<T> for io::Result<T> {
    fn step(self, step: &'static str) -> Result<T, LinkError> {
        self.map_err(|source| LinkError::Io { step, source })
    }
}

impl<T> Step<T> for Result<T, tokio::task::JoinError> {
    fn step(self, step: &'static str) -> Result<T, LinkError> {
        self.map_err(|e| LinkError::Io { step, source: io::Error::other(e) })
    }
}

/// Makes the bridge in `mesh`.
pub async fn bridge(mesh: &Place) -> Result<(), LinkError> {
    mesh.spawn(async {
        let net = connect()?;
        loopback(&net).await?;
        let bridge = LinkBridge::new(BRIDGE_NAME).address(BRIDGE_MAC.to_vec()).up().build();
        net.link().add(bridge).execute().await.step("making the bridge")?;
        let index = index(BRIDGE_NAME)?;
        let address = IpAddr::V4(BRIDGE);
        net.address().add(index, address, POD_PREFIX).execute().await.step("giving the bridge its address")
    })
    .await
    .step("making the bridge")?
}

/// Ties `pod` to the bridge of `mesh` and gives it `address`. `serial` is unique among living pods.
pub async fn attach(mesh: &Place, pod: &Place, serial: u32, address: Ipv4Addr) -> Result<(), LinkError> {
    let pod_end = format!("p{serial}");
    // The descriptor is duplicated: the task must not outlive what it borrows.
    let netns = pod.netns().try_clone_to_owned().step("keeping the pod's namespace")?;
    let name = pod_end.clone();
    mesh.spawn(async move {
        let net = connect()?;
        let mesh_end = format!("m{serial}");
        let pair = LinkVeth::new(&mesh_end, &name).build();
        net.link().add(pair).execute().await.step("making a pair of interfaces")?;
        hand_over(&net, index(&name)?, std::os::fd::AsFd::as_fd(&netns)).await?;
        let join = LinkUnspec::new_with_index(index(&mesh_end)?).controller(index(BRIDGE_NAME)?).up().build();
        net.link().set(join).execute().await.step("joining the bridge")
    })
    .await
    .step("making a pair of interfaces")??;
    pod.spawn(furnish(pod_end, address)).await.step("setting up the pod's interface")?
}

async fn hand_over(net: &Handle, index: u32, netns: BorrowedFd<'_>) -> Result<(), LinkError> {
    let moved = LinkUnspec::new_with_index(index).setns_by_fd(netns.as_raw_fd()).build();
    net.link().set(moved).execute().await.step("moving an interface into the pod")
}

/// Inside the pod: its end becomes `eth0`, with the address and a default route.
async fn furnish(name: String, address: Ipv4Addr) -> Result<(), LinkError> {
    let net = connect()?;
    loopback(&net).await?;
    let eth0 = index(&name)?;
    let named = LinkUnspec::new_with_index(eth0).name("eth0").build();
    net.link().set(named).execute().await.step("naming the pod's interface")?;
    let up = LinkUnspec::new_with_index(eth0).up().build();
    net.link().set(up).execute().await.step("raising the pod's interface")?;
    let address = IpAddr::V4(address);
    net.address().add(eth0, address, POD_PREFIX).execute().await.step("giving the pod its address")?;
    let default = RouteMessageBuilder::<Ipv4Addr>::new().gateway(BRIDGE).build();
    net.route().add(default).execute().await.step("giving the pod a default route")
}

async fn loopback(net: &Handle) -> Result<(), LinkError> {
    let up = LinkUnspec::new_with_index(index("lo")?).up().build();
    net.link().set(up).execute().await.step("raising the loopback")
}

/// A netlink connection of the calling place.
fn connect() -> Result<Handle, LinkError> {
    let (connection, handle, _) = rtnetlink::new_connection().step("opening a netlink socket")?;
    tokio::spawn(connection);
    Ok(handle)
}

fn index(name: &str) -> Result<u32, LinkError> {
    let any = socket(AddressFamily::INET, SocketType::DGRAM, None)
        .map_err(io::Error::from)
        .step("opening a socket")?;
    name_to_index(any, name).map_err(io::Error::from).step("looking an interface up")
}
