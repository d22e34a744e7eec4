//! The way out: connections from pods to addresses outside the mesh go on from the host.
//!
//! Rules in the mesh's namespace turn them to a listener there; what it accepts is handed to tasks on the host's side, which connect to the address that was meant. So the way out is that of an ordinary program of
//! the user: his routes, his firewall, his VPN, and no right that he does not have.
//!
//! An address that does not answer is noticed only after the client was accepted: the client sees its connection
//! reset.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use ostro_capture::netlink::batch::{ChainKind, Hook, HookPoint, TableRef};
use ostro_capture::netlink::expr::{Base, Compare, Expr, Meta, Nat, Register};
use ostro_capture::netlink::{Batch, Family, NetlinkError};
use ostro_mesh::vip::{LOCAL_RANGE, LOCAL_RANGE6};
use rustix::net::sockopt::{ip_original_dst, ipv6_original_dst};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::link::{GATEWAY, GATEWAY6, POD_NET, POD_NET6, has_ipv6};
use crate::place::Place;

/// Connections out at a time; the next ones wait in the kernel's backlog.
const CONNECTIONS_MAX: usize = 4_096;
/// A server that takes longer to accept is not there.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// After a failed accept (out of descriptors, mostly) the next try waits, or it would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

const TABLE: TableRef<'static> = TableRef { family: Family::Inet, name: "ostro-egress" };
/// After the rules for services' addresses, which are never outside.
const PRIORITY: i32 = -90;
const TCP: u8 = 6;

/// Why there is no way out. The machine's fault.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// No listener.
    #[error("listening for connections that leave the mesh: {0}")]
    Listen(#[from] io::Error),
    /// No rules.
    #[error("turning connections that leave the mesh: {0}")]
    Rules(#[from] NetlinkError),
}

/// Opens the way out of `mesh`. Connects on the side of the caller, whose thread has to be in the host's network.
pub async fn open(mesh: &Place) -> Result<(), EgressError> {
    let outside = Handle::current();
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut at = Vec::new();
    for address in [IpAddr::from(GATEWAY), GATEWAY6.into()].into_iter().filter(|a| a.is_ipv4() || has_ipv6())
    {
        let (outside, slots) = (outside.clone(), slots.clone());
        let bound = mesh.spawn(async move {
            let listener = TcpListener::bind((address, 0)).await?;
            let local = listener.local_addr()?;
            tokio::spawn(accept_all(listener, outside, slots));
            io::Result::Ok(local)
        });
        at.push(bound.await.map_err(io::Error::other)??);
    }
    let applied = mesh.spawn(async move { rules(&at).commit() });
    Ok(applied.await.map_err(io::Error::other)??)
}

/// What is not for the mesh goes to our listeners.
fn rules(listeners: &[SocketAddr]) -> Batch {
    let mut batch = Batch::default();
    batch.add_table(TABLE);
    let hook = Hook { kind: ChainKind::Nat, point: HookPoint::Prerouting, priority: PRIORITY };
    batch.add_chain(TABLE, "prerouting", Some(hook));
    for listener in listeners {
        batch.add_rule(TABLE, "prerouting", &turned_to(*listener), format!("to {listener}"));
    }
    batch
}

fn turned_to(listener: SocketAddr) -> Vec<Expr> {
    let (family, own) = match listener {
        SocketAddr::V4(_) => (Family::Ipv4, [POD_NET, LOCAL_RANGE]),
        SocketAddr::V6(_) => (Family::Ipv6, [POD_NET6, LOCAL_RANGE6]),
    };
    let mut out = vec![
        Expr::Meta(Meta::Family, Register::One),
        Expr::Compare(Register::One, Compare::Equal, vec![family.number()]),
        Expr::Meta(Meta::Protocol, Register::One),
        Expr::Compare(Register::One, Compare::Equal, vec![TCP]),
    ];
    own.iter().for_each(|net| out.extend(not_to(net)));
    let address = match listener.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    out.extend([
        Expr::Immediate(Register::One, address),
        Expr::Immediate(Register::Two, listener.port().to_be_bytes().to_vec()),
        Expr::Nat { which: Nat::Destination, family, address: Register::One, port: Some(Register::Two) },
    ]);
    out
}

fn not_to(net: &IpNet) -> [Expr; 3] {
    let (offset, network, mask) = match net {
        IpNet::V4(net) => (16, net.network().octets().to_vec(), net.netmask().octets().to_vec()),
        IpNet::V6(net) => (24, net.network().octets().to_vec(), net.netmask().octets().to_vec()),
    };
    let length = if net.network().is_ipv4() { 4 } else { 16 };
    [
        Expr::Payload { to: Register::One, base: Base::Network, offset, length },
        Expr::Bitwise { register: Register::One, xor: vec![0; mask.len()], mask },
        Expr::Compare(Register::One, Compare::NotEqual, network),
    ]
}

async fn accept_all(listener: TcpListener, outside: Handle, slots: Arc<Semaphore>) {
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let client = match listener.accept().await {
            Ok((client, _)) => client,
            Err(error) => {
                tracing::warn!(%error, "a connection to the outside was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Whoever connects to the listener itself means nobody.
        let Some(target) = meant(&client) else { continue };
        let Ok(client) = client.into_std() else { continue };
        outside.spawn(async move {
            if let Err(error) = pass_on(client, target).await {
                tracing::debug!(%error, %target, "a connection to the outside ended");
            }
            drop(slot);
        });
    }
}

/// Where the client wanted to go, before rules turned it here.
fn meant(client: &TcpStream) -> Option<SocketAddr> {
    let here = client.local_addr().ok()?;
    let target = match here {
        SocketAddr::V4(_) => ip_original_dst(client).ok()?.into(),
        SocketAddr::V6(_) => SocketAddr::from(ipv6_original_dst(client).ok()?),
    };
    (target != here).then_some(without_scope(target))
}

/// The number of an interface in the mesh means nothing outside.
fn without_scope(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(_) => address,
        IpAddr::V6(ip) => SocketAddr::new(Ipv6Addr::from(ip.octets()).into(), address.port()),
    }
}

async fn pass_on(client: std::net::TcpStream, target: SocketAddr) -> io::Result<()> {
    let mut client = TcpStream::from_std(client)?;
    let connected = timeout(CONNECT_MAX, TcpStream::connect(target)).await;
    let mut server = match connected.map_err(io::Error::from).and_then(|result| result) {
        Ok(server) => server,
        Err(error) => {
            // Closed with nothing said would look like an answer.
            client.set_zero_linger()?;
            return Err(error);
        }
    };
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::link;

    const POD: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 2);

    /// A host with addresses of the world outside (RFC 5737, RFC 3849), and a mesh on it with one pod.
    async fn world() -> (Vec<TcpListener>, Place, Place) {
        let net = link::connect().unwrap();
        link::loopback(&net).await.unwrap();
        let mut servers = Vec::new();
        for address in ["192.0.2.1", "2001:db8::1"] {
            let address: IpAddr = address.parse().unwrap();
            link::give(&net, link::index("lo").unwrap(), address).await.unwrap();
            servers.push(TcpListener::bind((address, 0)).await.unwrap());
        }
        let mesh = Place::open("mesh", || Ok(())).unwrap();
        link::ground(&mesh).await.unwrap();
        open(&mesh).await.unwrap();
        let pod = Place::open("pod", || Ok(())).unwrap();
        link::attach(&mesh, &pod, 1, POD).await.unwrap();
        (servers, mesh, pod)
    }

    #[tokio::test]
    async fn pods_reach_the_outside_as_the_host_does() {
        let host = Place::open("host", || Ok(())).unwrap();
        let checked = host.spawn(async {
            let (servers, _mesh, pod) = world().await;
            for server in servers {
                let target = server.local_addr().unwrap();
                let asked = pod.spawn(async move {
                    let mut stream = TcpStream::connect(target).await?;
                    stream.write_all(b"ping").await?;
                    let mut answer = String::new();
                    stream.read_to_string(&mut answer).await?;
                    io::Result::Ok(answer)
                });
                let (mut stream, peer) = server.accept().await.unwrap();
                assert_eq!(peer.ip(), target.ip(), "the host's own address");
                let mut question = [0; 4];
                stream.read_exact(&mut question).await.unwrap();
                stream.write_all(b"pong").await.unwrap();
                drop(stream);
                assert_eq!((&question, asked.await.unwrap().unwrap().as_str()), (b"ping", "pong"));
            }
        });
        checked.await.unwrap();
    }

    #[tokio::test]
    async fn what_does_not_answer_outside_is_a_reset_and_the_mesh_is_not_outside() {
        let host = Place::open("host", || Ok(())).unwrap();
        let checked = host.spawn(async {
            let (servers, _mesh, pod) = world().await;
            let target = servers[0].local_addr().unwrap();
            drop(servers);
            let read = pod.spawn(async move { TcpStream::connect(target).await?.read(&mut [0]).await });
            assert_eq!(read.await.unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionReset);
            let unused = SocketAddr::from((Ipv4Addr::new(10, 244, 7, 7), 80));
            let connected = pod.spawn(TcpStream::connect(unused)).await.unwrap();
            assert!(connected.is_err(), "no pod has this address");
        });
        checked.await.unwrap();
    }
}
