//! Serving: HTTP/1 and h2c on the same port, until SIGTERM or SIGINT.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use axum::Router;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// A listener on every address of the pod, IPv6 too where there is any.
pub async fn bind(port: u16) -> io::Result<TcpListener> {
    let bound = match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        Ok(listener) => Ok(listener),
        Err(_) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await,
    };
    bound.map_err(|e| io::Error::new(e.kind(), format!("cannot listen on port {port}: {e}")))
}

/// Serves `router` on `port` until the process is told to end.
pub async fn http(router: Router, port: u16) -> io::Result<()> {
    serve(bind(port).await?, router).await
}

/// Serves `router` on `listener` until the process is told to end; open requests are finished.
pub async fn serve(listener: TcpListener, router: Router) -> io::Result<()> {
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service).with_graceful_shutdown(told_to_end()).await
}

/// Ends with the first SIGTERM or SIGINT. If signals cannot be heard, never: the default action of the
/// signal ends the process then.
pub async fn told_to_end() {
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}

/// The pod's name, which is its host name.
pub fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
