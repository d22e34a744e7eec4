//! The control plane, as a process of its own in the mesh's namespace: killed, it is started again, and the
//! mesh runs on meanwhile.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ostro_agent::{Output, Process};
use ostro_mesh::vip::LOCAL_RANGE;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::link::GATEWAY;
use crate::place::Place;

/// Plaintext xDS.
pub const XDS_PORT: u16 = 15010;
/// Metrics and debug pages.
pub const HTTP_PORT: u16 = 15014;
/// How often a starting control plane is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// Time between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(2);

/// Where pods reach it.
pub fn xds() -> SocketAddr {
    (GATEWAY, XDS_PORT).into()
}

/// Waits until the control plane takes connections, at most `limit`: proxies started earlier would work all
/// the same, but begin by complaining.
pub async fn listening(mesh: &Place, limit: Duration) -> bool {
    let task = mesh.spawn(async move {
        let connected = async {
            while TcpStream::connect(xds()).await.is_err() {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(limit, connected).await.is_ok()
    });
    task.await.unwrap_or(false)
}

/// Keeps `ostro control` running in `mesh` until `stop`.
pub fn keep(mesh: &Place, ostro: &Path, paths: &[PathBuf], state: &Path, stop: CancellationToken) {
    let mut args: Vec<OsString> = ["control", "--xds"].map(OsString::from).to_vec();
    args.push(SocketAddr::from((Ipv4Addr::UNSPECIFIED, XDS_PORT)).to_string().into());
    args.push("--http".into());
    args.push(SocketAddr::from((Ipv4Addr::UNSPECIFIED, HTTP_PORT)).to_string().into());
    args.push("--state-dir".into());
    args.push(state.join("control").into());
    args.push("--cluster-ip-range".into());
    args.push(LOCAL_RANGE.to_string().into());
    args.push("--file".into());
    args.extend(paths.iter().map(OsString::from));
    let process = Process {
        args,
        output: Output::File(state.join("control.log")),
        grace: GRACE,
        ..Process::new("the control plane", ostro)
    };
    mesh.spawn(async move {
        if let Err(error) = process.keep(stop, std::future::ready(())).await {
            tracing::error!(%error, "the control plane was not started");
        }
    });
}
