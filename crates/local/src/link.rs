//! Interfaces: a pair of them for every pod, and the mesh's own namespace, which routes between them.
//!
//! There is no bridge and no subnet: a pod's address is its alone (/32, /128), everything it sends goes to the mesh's
//! namespace, and that knows by a route of each pod where to pass it on. So all traffic between pods crosses one place in
//! both directions, where addresses of services can be translated without hiding who called; it takes no kernel module
//! beyond pairs of interfaces, and 10,000 pods are no more than 10,000 routes.
//!
//! IPv6 is there where the kernel has it; without it pods have IPv4 alone.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::path::Path;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rtnetlink::packet_route::address::AddressHeaderFlags;
use rtnetlink::packet_route::route::RouteScope;
use rtnetlink::{Handle, LinkUnspec, LinkVeth, RouteMessageBuilder};
use rustix::net::{AddressFamily, SocketType, netdevice::name_to_index, socket};

use crate::place::Place;

/// Network of the pods: 10.244.0.0/16, as many installers choose.
pub const POD_NETWORK: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 0);
/// Length of its prefix.
pub const POD_PREFIX: u8 = 16;
/// The mesh's own namespace, as pods reach it: their default route, and where the control plane and DNS listen.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 1);

/// The same in IPv6: unique local addresses (RFC 4193) that end in the bytes of the pod's IPv4 address.
pub const POD_NETWORK6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0x244, 0, 0, 0, 0, 0);
/// All pods, in IPv4.
pub const POD_NET: IpNet = IpNet::V4(Ipv4Net::new_assert(POD_NETWORK, POD_PREFIX));
/// All pods, in IPv6.
pub const POD_NET6: IpNet = IpNet::V6(Ipv6Net::new_assert(POD_NETWORK6, 64));
/// The mesh's own namespace, in IPv6.
pub const GATEWAY6: Ipv6Addr = v6(GATEWAY);

/// The next hop in every pod's routes: its interface's other end.
const NEXT_HOP6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const HAS_IPV6: &str = "/proc/sys/net/ipv6";

/// The IPv6 address of the pod with this IPv4 address.
pub const fn v6(address: Ipv4Addr) -> Ipv6Addr {
    let [.., high, low] = address.octets();
    let [a, b, c, d, ..] = POD_NETWORK6.segments();
    Ipv6Addr::new(a, b, c, d, 0, 0, 0, u16::from_be_bytes([high, low]))
}

/// What the kernel refused. Ours or the machine's fault (no rights, a kernel without pairs of interfaces), never the
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

/// Makes `mesh` a router for pods.
pub async fn ground(mesh: &Place) -> Result<(), LinkError> {
    mesh.spawn(async {
        let net = connect()?;
        loopback(&net).await?;
        let own = index("lo")?;
        allow("/proc/sys/net/ipv4/ip_forward").step("letting packets through (IPv4)")?;
        give(&net, own, GATEWAY.into()).await.step("giving the mesh its address")?;
        if has_ipv6() {
            allow("/proc/sys/net/ipv6/conf/all/forwarding").step("letting packets through (IPv6)")?;
            give(&net, own, GATEWAY6.into()).await.step("giving the mesh its IPv6 address")?;
        }
        Ok(())
    })
    .await
    .step("setting up the mesh's network")?
}

/// Whether the kernel lets pods have IPv6 addresses.
pub fn has_ipv6() -> bool {
    Path::new(HAS_IPV6).exists()
}

/// Ties `pod` to `mesh` and gives it `address` and its IPv6 twin. `serial` is unique among living pods.
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
        hand_over(&net, index(&name)?, netns.as_fd()).await?;
        lead_to(&net, index(&mesh_end)?, address).await
    })
    .await
    .step("making a pair of interfaces")??;
    pod.spawn(furnish(pod_end, address)).await.step("setting up the pod's interface")?
}

async fn hand_over(net: &Handle, index: u32, netns: BorrowedFd<'_>) -> Result<(), LinkError> {
    let moved = LinkUnspec::new_with_index(index).setns_by_fd(netns.as_raw_fd()).build();
    net.link().set(moved).execute().await.step("moving an interface into the pod")
}

/// In the mesh: what is for the pod goes to `port`.
async fn lead_to(net: &Handle, port: u32, address: Ipv4Addr) -> Result<(), LinkError> {
    raise(net, port).await.step("raising the pod's port")?;
    let route = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(address, 32)
        .output_interface(port)
        .scope(RouteScope::Link)
        .build();
    net.route().add(route).execute().await.step("making the pod's route")?;
    if !has_ipv6() {
        return Ok(());
    }
    give(net, port, NEXT_HOP6.into()).await.step("giving the pod's port its address")?;
    let route = RouteMessageBuilder::<Ipv6Addr>::new()
        .destination_prefix(v6(address), 128)
        .output_interface(port)
        .build();
    net.route().add(route).execute().await.step("making the pod's IPv6 route")
}

/// Inside the pod: its end becomes `eth0`, with the addresses and default routes.
async fn furnish(name: String, address: Ipv4Addr) -> Result<(), LinkError> {
    let net = connect()?;
    loopback(&net).await?;
    let eth0 = index(&name)?;
    let named = LinkUnspec::new_with_index(eth0).name("eth0").build();
    net.link().set(named).execute().await.step("naming the pod's interface")?;
    raise(&net, eth0).await.step("raising the pod's interface")?;
    give(&net, eth0, address.into()).await.step("giving the pod its address")?;
    let default =
        RouteMessageBuilder::<Ipv4Addr>::new().gateway(GATEWAY).output_interface(eth0).onlink().build();
    net.route().add(default).execute().await.step("giving the pod a default route")?;
    if !has_ipv6() {
        return Ok(());
    }
    give(&net, eth0, v6(address).into()).await.step("giving the pod its IPv6 address")?;
    let default = RouteMessageBuilder::<Ipv6Addr>::new().gateway(NEXT_HOP6).output_interface(eth0).build();
    net.route().add(default).execute().await.step("giving the pod an IPv6 default route")
}

pub(crate) async fn loopback(net: &Handle) -> Result<(), LinkError> {
    raise(net, index("lo")?).await.step("raising the loopback")
}

async fn raise(net: &Handle, index: u32) -> Result<(), rtnetlink::Error> {
    net.link().set(LinkUnspec::new_with_index(index).up().build()).execute().await
}

/// Gives an interface an address of which the network has no others, usable at once: nobody else can have it.
pub(crate) async fn give(net: &Handle, index: u32, address: IpAddr) -> Result<(), rtnetlink::Error> {
    let prefix = match address {
        IpAddr::V6(address) if address.is_unicast_link_local() => 64,
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    };
    let mut request = net.address().add(index, address, prefix);
    request.message_mut().header.flags.insert(AddressHeaderFlags::Nodad);
    request.execute().await
}

fn allow(sysctl: &str) -> io::Result<()> {
    fs::write(sysctl, "1").map_err(|e| io::Error::new(e.kind(), format!("{sysctl}: {e}")))
}

/// A netlink connection of the calling place.
pub(crate) fn connect() -> Result<Handle, LinkError> {
    let (connection, handle, _) = rtnetlink::new_connection().step("opening a netlink socket")?;
    tokio::spawn(connection);
    Ok(handle)
}

pub(crate) fn index(name: &str) -> Result<u32, LinkError> {
    let any = socket(AddressFamily::INET, SocketType::DGRAM, None)
        .map_err(io::Error::from)
        .step("opening a socket")?;
    name_to_index(any, name).map_err(io::Error::from).step("looking an interface up")
}
