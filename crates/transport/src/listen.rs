//! Listening sockets with the options that Envoy's listeners have.
//!
//! Invariant: a socket is returned with every option set that was asked for, bound, listening and non-blocking, or an
//! error says at which of these it failed.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::{NonZeroU32, NonZeroUsize};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::Path;

use socket2::{Domain, Protocol, Socket, Type};

use crate::option::{Keepalive, SocketOption};

/// How a listener's socket is made; `Default` is what Envoy does when the listener says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenOptions {
    /// `enable_reuse_port`: every worker has a socket of its own, and the kernel spreads connections over them.
    pub reuse_port: bool,
    /// `tcp_backlog_size`; none is as many as `net.core.somaxconn` lets there be.
    pub backlog: Option<NonZeroU32>,
    /// `transparent`: takes connections to addresses that are not of this host. Needs CAP_NET_ADMIN.
    pub transparent: bool,
    /// `freebind`: may bind an address that the host does not have yet.
    pub freebind: bool,
    /// `ipv4_compat`: an IPv6 socket takes IPv4 too.
    pub ipv4_compat: bool,
    /// `tcp_keepalive`, which what is accepted inherits.
    pub keepalive: Option<Keepalive>,
    /// `socket_options`. Those of connections are inherited by what is accepted.
    pub options: Vec<SocketOption>,
}

impl Default for ListenOptions {
    fn default() -> Self {
        ListenOptions {
            reuse_port: true,
            backlog: None,
            transparent: false,
            freebind: false,
            ipv4_compat: false,
            keepalive: None,
            options: Vec::new(),
        }
    }
}

/// Why there is no listening socket.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} '{at}': {source}")]
pub struct ListenError {
    doing: &'static str,
    at: String,
    source: io::Error,
}

impl ListenError {
    /// Somebody else has the address.
    pub fn is_in_use(&self) -> bool {
        self.source.kind() == io::ErrorKind::AddrInUse
    }

    /// This process may not (a port below 1024, `transparent` without the capability).
    pub fn is_denied(&self) -> bool {
        self.source.kind() == io::ErrorKind::PermissionDenied
    }
}

/// One listening socket.
pub fn listen(at: SocketAddr, options: &ListenOptions) -> Result<TcpListener, ListenError> {
    let failed = |doing| move |source| ListenError { doing, at: at.to_string(), source };
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))
        .map_err(failed("make a socket for"))?;
    prepare(&socket, at, options).map_err(failed("set the options of"))?;
    socket.bind(&at.into()).map_err(failed("bind"))?;
    let backlog = options.backlog.and_then(|backlog| i32::try_from(backlog.get()).ok());
    socket.listen(backlog.unwrap_or(i32::MAX)).map_err(failed("listen on"))?;
    Ok(socket.into())
}

fn prepare(socket: &Socket, at: SocketAddr, options: &ListenOptions) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    // A restarted proxy binds although connections of the old one linger in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(options.reuse_port)?;
    if at.is_ipv6() {
        socket.set_only_v6(!options.ipv4_compat)?;
    }
    match at {
        SocketAddr::V4(_) if options.transparent => socket.set_ip_transparent_v4(true)?,
        SocketAddr::V6(_) if options.transparent => socket.set_ip_transparent_v6(true)?,
        _ => {}
    }
    match at {
        SocketAddr::V4(_) if options.freebind => socket.set_freebind_v4(true)?,
        SocketAddr::V6(_) if options.freebind => socket.set_freebind_v6(true)?,
        _ => {}
    }
    if let Some(keepalive) = options.keepalive {
        keepalive.apply(socket)?;
    }
    options.options.iter().try_for_each(|option| option.apply(socket))
}

/// Sockets for `workers` that share one address: a group of the kernel's with `reuse_port`, else one socket that all of
/// them accept from. If the port is 0, all get the one that the first was given.
pub fn listen_shared(
    at: SocketAddr,
    options: &ListenOptions,
    workers: NonZeroUsize,
) -> Result<Vec<TcpListener>, ListenError> {
    let failed = |source| ListenError { doing: "share", at: at.to_string(), source };
    let first = listen(at, options)?;
    let bound = first.local_addr().map_err(failed)?;
    let mut sockets = Vec::with_capacity(workers.get());
    for _ in 1..workers.get() {
        sockets.push(match options.reuse_port {
            true => listen(bound, options)?,
            false => first.try_clone().map_err(failed)?,
        });
    }
    sockets.push(first);
    Ok(sockets)
}

/// A listening unix socket. A name that begins with `@` is abstract. A socket's file that is there already is taken
/// over, as Envoy does; any other file is left, and the error is that it is in use.
///
/// `mode` is the file's permissions (`core.v3.Pipe.mode`); none leaves them to the process' umask.
pub fn listen_unix(path: &Path, mode: Option<u32>) -> Result<UnixListener, ListenError> {
    let failed = |doing| move |source| ListenError { doing, at: path.display().to_string(), source };
    let listener = match abstract_name(path) {
        Some(name) => {
            let address = std::os::unix::net::SocketAddr::from_abstract_name(name).map_err(failed("bind"))?;
            UnixListener::bind_addr(&address).map_err(failed("bind"))?
        }
        None => {
            if fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
                fs::remove_file(path).map_err(failed("take over"))?;
            }
            let listener = UnixListener::bind(path).map_err(failed("bind"))?;
            if let Some(mode) = mode {
                let permissions = fs::Permissions::from_mode(mode & 0o7777);
                fs::set_permissions(path, permissions).map_err(failed("set the mode of"))?;
            }
            listener
        }
    };
    listener.set_nonblocking(true).map_err(failed("set the options of"))?;
    Ok(listener)
}

/// What follows the `@` of an abstract socket's name.
pub(crate) fn abstract_name(path: &Path) -> Option<&[u8]> {
    path.as_os_str().as_encoded_bytes().strip_prefix(b"@")
}
