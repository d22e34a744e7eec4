//! Listening and connecting on loopback, in both families.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt::IpBindAddressNoPort};
use ostro_transport::{
    ConnectOptions, Keepalive, ListenOptions, SocketOption, canonical, connect, connect_unix, listen,
    listen_shared, listen_unix, original_destination, set_accepted,
};
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener};

const V4: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const V6: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), 0);

#[tokio::test]
async fn a_connection_has_what_was_asked_for() {
    for (any, source) in [(V4, "127.0.0.6:0"), (V6, "[::1]:0")] {
        let options = ListenOptions { options: vec![SocketOption::KeepIdle(33)], ..ListenOptions::default() };
        let listener = TcpListener::from_std(listen(any, &options).unwrap()).unwrap();
        let source: SocketAddr = source.parse().unwrap();
        let options = ConnectOptions {
            bind: Some(source),
            keepalive: Some(Keepalive { time: Some(Duration::from_secs(44)), ..Keepalive::default() }),
            options: vec![SocketOption::UserTimeout(5_000)],
            ..ConnectOptions::default()
        };
        let client = connect(listener.local_addr().unwrap(), &options).await.unwrap();
        let (server, from) = listener.accept().await.unwrap();
        assert_eq!((from.ip(), client.local_addr().unwrap()), (source.ip(), from));
        set_accepted(&server).unwrap();
        assert_eq!(
            SockRef::from(&server).tcp_keepalive_time().unwrap(),
            Duration::from_secs(33),
            "inherited"
        );
        let socket = SockRef::from(&client);
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap() && server.nodelay().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(44));
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(5)));
        assert_eq!(original_destination(&server, false).unwrap(), None, "nobody turned it");
        let local = server.local_addr().unwrap();
        assert_eq!(original_destination(&server, true).unwrap(), Some(local));
    }
}

/// The kernel chooses a port that is free toward the destination, so that 28,000 connections are not all there can be
/// from one address. A port that is given is bound as it is.
#[tokio::test]
async fn a_source_port_is_chosen_toward_the_destination() {
    let listener = TcpListener::from_std(listen(V4, &ListenOptions::default()).unwrap()).unwrap();
    let at = listener.local_addr().unwrap();
    let bind = |source: SocketAddr| ConnectOptions { bind: Some(source), ..ConnectOptions::default() };
    let chosen = connect(at, &bind("127.0.0.7:0".parse().unwrap())).await.unwrap();
    assert!(getsockopt(&chosen, IpBindAddressNoPort).unwrap());
    let given = chosen.local_addr().unwrap();
    drop((chosen, listener.accept().await.unwrap()));
    let other = TcpListener::from_std(listen(V4, &ListenOptions::default()).unwrap()).unwrap();
    let again = connect(other.local_addr().unwrap(), &bind(given)).await.unwrap();
    assert_eq!(again.local_addr().unwrap(), given);
}

#[tokio::test]
async fn workers_share_an_address() {
    let workers = NonZeroUsize::new(3).unwrap();
    for reuse_port in [true, false] {
        let options = ListenOptions { reuse_port, ..ListenOptions::default() };
        let sockets = listen_shared(V4, &options, workers).unwrap();
        let at = sockets[0].local_addr().unwrap();
        assert!(sockets.iter().all(|socket| socket.local_addr().unwrap() == at) && sockets.len() == 3);
        let mut accepting = tokio::task::JoinSet::new();
        for socket in sockets {
            let listener = TcpListener::from_std(socket).unwrap();
            accepting.spawn(async move {
                loop {
                    let (mut stream, _) = listener.accept().await.unwrap();
                    stream.write_all(b"!").await.unwrap();
                }
            });
        }
        for _ in 0..20 {
            let mut stream = connect(at, &ConnectOptions::default()).await.unwrap();
            assert_eq!(stream.read_u8().await.unwrap(), b'!');
        }
    }
}

#[tokio::test]
async fn who_cannot_have_an_address_is_told_which_and_why() {
    let options = ListenOptions { reuse_port: false, ..ListenOptions::default() };
    let socket = listen(V4, &options).unwrap();
    let at = socket.local_addr().unwrap();
    let error = listen(at, &options).unwrap_err();
    assert!(error.is_in_use() && !error.is_denied());
    assert_eq!(error.to_string(), format!("cannot bind '{at}': Address already in use (os error 98)"));
    // An address that this host lacks: bound all the same if asked for.
    let foreign: SocketAddr = "192.0.2.1:0".parse().unwrap();
    let error = listen(foreign, &options).unwrap_err();
    assert!(!error.is_in_use() && error.to_string().starts_with("cannot bind '192.0.2.1:0': "), "{error}");
    let free = ListenOptions { freebind: true, ..options };
    assert_eq!(listen(foreign, &free).unwrap().local_addr().unwrap().ip(), foreign.ip());
}

#[tokio::test]
async fn ipv4_through_an_ipv6_socket_only_if_asked_for() {
    let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0);
    for ipv4_compat in [true, false] {
        let options = ListenOptions { ipv4_compat, ..ListenOptions::default() };
        let listener = TcpListener::from_std(listen(any, &options).unwrap()).unwrap();
        let v4 = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), listener.local_addr().unwrap().port());
        let connected = connect(v4, &ConnectOptions::default()).await;
        assert_eq!(connected.is_ok(), ipv4_compat);
        if let Ok(client) = connected {
            let (server, from) = listener.accept().await.unwrap();
            assert_eq!(canonical(from), client.local_addr().unwrap());
            assert_eq!(original_destination(&server, true).unwrap(), Some(v4));
            assert_eq!(original_destination(&server, false).unwrap(), None);
        }
    }
}

#[tokio::test]
async fn a_backlog_is_the_kernel_s_to_keep() {
    let options = ListenOptions { backlog: NonZeroU32::new(u32::MAX), ..ListenOptions::default() };
    listen(V4, &options).unwrap();
}

#[tokio::test]
async fn unix_sockets() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    drop(listen_unix(&path, Some(0o600)).unwrap());
    assert!(path.exists(), "a file is left behind");
    let listener = UnixListener::from_std(listen_unix(&path, Some(0o640)).unwrap()).unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o640);
    let mut client = connect_unix(&path).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    server.write_all(b"x").await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'x');
    let file = dir.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    assert!(listen_unix(&file, None).unwrap_err().is_in_use());
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");

    let name = format!("@ostro-transport-{}", std::process::id());
    let listener = UnixListener::from_std(listen_unix(Path::new(&name), None).unwrap()).unwrap();
    connect_unix(Path::new(&name)).await.unwrap();
    listener.accept().await.unwrap();
    assert!(listen_unix(Path::new(&name), None).unwrap_err().is_in_use());
}
