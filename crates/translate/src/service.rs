//! Which service a name means to a proxy, asked by clusters, endpoints and listeners alike.

use std::sync::Arc;

use ostro_mesh::View;
use ostro_mesh::model::{Service, ServicePort};
use ostro_names::Host;

/// The services that `host` means to this proxy, preferred one first: those of one namespace, since a hostname
/// that several namespaces declare means one of them (CONTRACT 3.5). Several ServiceEntries of that namespace
/// may share the host, each with ports of its own.
pub fn meant(view: &View<'_>, host: Host) -> Vec<Arc<Service>> {
    let mut services = view.services(host);
    if let Some(first) = services.first().map(|service| service.namespace) {
        services.retain(|service| service.namespace == first);
    }
    services
}

/// The service that serves `port` under `host`, and the port.
pub fn serving(view: &View<'_>, host: Host, port: u16) -> Option<(Arc<Service>, ServicePort)> {
    meant(view, host).into_iter().find_map(|service| {
        let port = service.port(port)?.clone();
        Some((service, port))
    })
}
