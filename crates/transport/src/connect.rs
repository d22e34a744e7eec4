//! Connecting, with what a cluster says about the socket.

use std::ffi::OsStr;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpSocket, TcpStream, UnixStream};

use crate::listen::abstract_name;
use crate::option::{Keepalive, SocketOption};

/// How a connection's socket is made; `Default` is what Envoy does when the cluster says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectOptions {
    /// `upstream_bind_config.source_address`. With port 0 the kernel chooses one that is free toward this
    /// destination, not one that is free toward all.
    pub bind: Option<SocketAddr>,
    /// May bind an address that the host does not have.
    pub freebind: bool,
    /// May bind an address that is another host's. Needs CAP_NET_ADMIN.
    pub transparent: bool,
    /// `SO_MARK`, by which capture knows the proxy's own traffic. Needs CAP_NET_ADMIN.
    pub mark: Option<u32>,
    /// `upstream_connection_options.tcp_keepalive`; none: no probes.
    pub keepalive: Option<Keepalive>,
    /// `upstream_bind_config.socket_options`.
    pub options: Vec<SocketOption>,
}

/// Connects; the socket has `TCP_NODELAY`. How long to wait is the caller's to say: a future that is dropped gives up.
pub async fn connect(to: SocketAddr, options: &ConnectOptions) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(mark) = options.mark {
        socket.set_mark(mark)?;
    }
    if let Some(keepalive) = options.keepalive {
        keepalive.apply(&socket)?;
    }
    options.options.iter().try_for_each(|option| option.apply(&socket))?;
    if let Some(source) = options.bind {
        bind(&socket, source, options)?;
    }
    TcpSocket::from_std_stream(socket.into()).connect(to).await
}

fn bind(socket: &Socket, source: SocketAddr, options: &ConnectOptions) -> io::Result<()> {
    match source {
        SocketAddr::V4(_) if options.transparent => socket.set_ip_transparent_v4(true)?,
        SocketAddr::V6(_) if options.transparent => socket.set_ip_transparent_v6(true)?,
        _ => {}
    }
    match source {
        SocketAddr::V4(_) if options.freebind => socket.set_freebind_v4(true)?,
        SocketAddr::V6(_) if options.freebind => socket.set_freebind_v6(true)?,
        _ => {}
    }
    if source.port() == 0 {
        setsockopt(socket, IpBindAddressNoPort, &true)?;
    }
    // A given port may still be in use toward another destination.
    socket.set_reuse_address(true)?;
    socket.bind(&source.into())
}

/// Connects to a unix socket; a name that begins with `@` is abstract.
pub async fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    match abstract_name(path) {
        Some(name) => UnixStream::connect(OsStr::from_bytes(&[b"\0", name].concat())).await,
        None => UnixStream::connect(path).await,
    }
}

/// What every connection that was accepted gets: `TCP_NODELAY`.
pub fn set_accepted(socket: &impl AsFd) -> io::Result<()> {
    SockRef::from(socket).set_tcp_nodelay(true)
}
