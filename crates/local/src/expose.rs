//! The way in from the host: a listener on the host's loopback whose connections go on inside the mesh.
//!
//! Nothing of the host's network changes. The listening socket is made on the host's side and handed to a
//! task of the mesh's place: what it accepts came from the host, what it opens is in the mesh.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use crate::place::Place;

/// Connections forwarded at a time; the next ones wait in the kernel's backlog.
const CONNECTIONS_MAX: usize = 4_096;
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// After a failed accept (out of descriptors, mostly) the next try waits, or it would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where connections go, in turn. An empty list means they are closed at once.
pub type Backends = Vec<(Ipv4Addr, u16)>;
/// The latest of them.
pub type Targets = watch::Receiver<Backends>;

/// Listens on `host` (port 0: one that is free) and forwards to `targets` for as long as `mesh` lives.
/// Returns an address at which it is reached from the host.
pub fn expose(mesh: &Place, host: SocketAddr, targets: Targets) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(host)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    mesh.spawn(async move {
        match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => forward_all(listener, targets).await,
            Err(error) => tracing::error!(%error, %address, "cannot listen"),
        }
    });
    Ok(at_home(address))
}

/// What listens on every address is reached on the loopback; from another machine (or through a container's published
/// port) by whatever address that knows.
fn at_home(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

async fn forward_all(listener: tokio::net::TcpListener, targets: Targets) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut turn = 0_usize;
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let client = match listener.accept().await {
            Ok((client, _)) => client,
            Err(error) => {
                tracing::warn!(%error, "a connection from the host was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let target = {
            let targets = targets.borrow();
            turn = turn.wrapping_add(1);
            turn.checked_rem(targets.len()).and_then(|index| targets.get(index).copied())
        };
        let Some(target) = target else { continue };
        tokio::spawn(async move {
            // Either side's end is its own affair.
            let _ = forward(client, target).await;
            drop(slot);
        });
    }
}

async fn forward(mut client: TcpStream, target: (Ipv4Addr, u16)) -> io::Result<()> {
    let mut server = timeout(CONNECT_MAX, TcpStream::connect(target)).await??;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_listens_everywhere_is_reached_on_the_loopback() {
        let home = |text: &str| at_home(text.parse().unwrap()).to_string();
        assert_eq!(home("0.0.0.0:8080"), "127.0.0.1:8080");
        assert_eq!(home("[::]:8080"), "[::1]:8080");
        assert_eq!(home("192.0.2.1:80"), "192.0.2.1:80");
    }
}
