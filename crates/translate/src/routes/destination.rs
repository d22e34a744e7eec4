//! From a destination as written to the cluster that it means: its port may be left out where the
//! service has one, and a host that nobody declared has a cluster name all the same.

use std::sync::Arc;

use ostro_api::virtual_service::Destination;
use ostro_mesh::model::{Resolution, Service};
use ostro_mesh::{View, resolve_host};
use ostro_names::{Host, Namespace};

use crate::{names, service};

/// What a destination means for one proxy and listener.
#[derive(Debug, Clone)]
pub struct Target {
    /// The service, if the proxy sees one under that host.
    pub service: Option<Arc<Service>>,
    pub port: u16,
    pub subset: String,
    /// The cluster's name; it need not exist.
    pub cluster: String,
}

/// Finds what `destination`, written in `namespace`, means on a listener of `listener_port`.
///
/// An unknown host still has a cluster's name: requests to it fail at the proxy, as in Istio, instead of going
/// somewhere else.
pub fn target(
    view: &View<'_>,
    destination: &Destination,
    namespace: Namespace,
    listener_port: u16,
) -> Option<Target> {
    let mut host = resolve(view, &destination.host, namespace)?;
    let mut services = service::meant(view, host);
    if let Some(Resolution::Alias(real)) = services.first().map(|service| service.resolution) {
        host = real;
        services = service::meant(view, host);
    }
    let port = match &destination.port {
        Some(port) => port.number,
        None => default_port(&services, listener_port),
    };
    let serving = services.iter().find(|service| service.port(port).is_some());
    Some(Target {
        service: serving.or(services.first()).cloned(),
        port,
        subset: destination.subset.clone(),
        cluster: names::outbound(port, &destination.subset, host.as_str()),
    })
}

/// The port meant where none is written: the listener's, unless the service has exactly one other.
fn default_port(services: &[Arc<Service>], listener_port: u16) -> u16 {
    if services.iter().any(|service| service.port(listener_port).is_some()) {
        return listener_port;
    }
    match services.first().map(|service| service.ports.as_slice()) {
        Some([only]) => only.number,
        _ => listener_port,
    }
}

/// The full name of a host written in `namespace`; `None` only if the process can take no more names.
pub fn resolve(view: &View<'_>, written: &str, namespace: Namespace) -> Option<Host> {
    resolve_host(written, namespace, view.domain())
}

/// The cluster of a whole service port.
pub fn cluster(host: Host, port: u16) -> String {
    names::outbound(port, "", host.as_str())
}
