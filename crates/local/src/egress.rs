//! The way out: connections from pods to addresses outside the mesh go on from the host.
//!
//! Rules in the mesh's namespace turn them to a listener there ([`table`](crate::table)); what it accepts is handed to
//! tasks on the host's side, which connect to the address that was meant. So the way out is that of an ordinary program of
//! the user: his routes, his firewall, his VPN, and no right that he does not have.
//!
//! An address that does not answer is noticed only after the client was accepted: the client sees its connection
//! reset.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::sockopt::{ip_original_dst, ipv6_original_dst};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::link::{GATEWAY, GATEWAY6, has_ipv6};
use crate::place::Place;

/// Connections out at a time; the next ones wait in the kernel's backlog.
const CONNECTIONS_MAX: usize = 4_096;
/// A server that takes longer to accept is not there.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// After a failed accept (out of descriptors, mostly) the next try waits, or it would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where rules have to turn connections that are to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listeners {
    /// Of IPv4.
    pub v4: SocketAddr,
    /// Of IPv6, where there is any.
    pub v6: Option<SocketAddr>,
}

/// Listens in `mesh` and connects on the side of the caller, whose thread has to be in the host's network.
pub async fn open(mesh: &Place) -> io::Result<Listeners> {
    let outside = Handle::current();
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let listen = async |address: IpAddr| {
        let (outside, slots) = (outside.clone(), slots.clone());
        let bound = mesh.spawn(async move {
            let listener = TcpListener::bind((address, 0)).await?;
            let local = listener.local_addr()?;
            tokio::spawn(accept_all(listener, outside, slots));
            io::Result::Ok(local)
        });
        bound.await.map_err(io::Error::other)?
    };
    let v4 = listen(GATEWAY.into()).await?;
    let v6 = if has_ipv6() { Some(listen(GATEWAY6.into()).await?) } else { None };
    Ok(Listeners { v4, v6 })
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
