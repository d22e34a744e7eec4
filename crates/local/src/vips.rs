//! Addresses of services, for everybody: for pods without a proxy, for UDP, and for proxies that pass a connection on as
//! it is.
//!
//! A task in the mesh's namespace, which all traffic between pods crosses, keeps the kernel's rules equal to what the
//! runner last said.

use std::time::Duration;

use ostro_capture::services::{Destinations, Services};
use tokio::sync::watch;

use crate::place::Place;

/// How long after rules were refused they are tried again.
const RETRY: Duration = Duration::from_secs(2);

/// Keeps what is sent to the returned end in force in `mesh`, for as long as that end is held.
pub fn keep(mesh: &Place) -> watch::Sender<Destinations> {
    let (tell, mut told) = watch::channel(Destinations::new());
    mesh.spawn(async move {
        let mut services = Services::default();
        loop {
            let wanted = told.borrow_and_update().clone();
            let refused = services.set(&wanted).inspect_err(|error| {
                tracing::error!(%error, "addresses of services do not lead where they should");
            });
            let retry = async {
                match refused {
                    Ok(()) => std::future::pending().await,
                    Err(_) => tokio::time::sleep(RETRY).await,
                }
            };
            tokio::select! {
                changed = told.changed() => if changed.is_err() { return },
                () = retry => {}
            }
        }
    });
    tell
}
