//! Which service a name means to a proxy, asked by clusters, endpoints and listeners alike.

use std::sync::Arc;

use ostro_api::destination_rule::Subset;
use ostro_mesh::View;
use ostro_mesh::model::{Protocol, Service, ServicePort, TrafficRule};
use ostro_names::Host;

use crate::policy::{self, Policy};

/// The services that `host` means to this proxy, preferred one first: those of one namespace, since a hostname
/// that several namespaces declare means one of them. Several ServiceEntries of that namespace
/// may share the host, each with ports of its own.
pub fn meant(view: &View<'_>, host: Host) -> Vec<Arc<Service>> {
    let mut services = view.services(host);
    if let Some(first) = services.first().map(|service| service.namespace) {
        services.retain(|service| service.namespace == first);
    }
    services
}

/// What the name of an outbound cluster means to a proxy: a port of a service, seen through a subset.
pub struct Outbound {
    pub service: Arc<Service>,
    pub port: ServicePort,
    /// The rule in force.
    pub rule: Option<Arc<TrafficRule>>,
    subset_name: String,
}

impl Outbound {
    /// `None` if nothing that proxies carry serves the port, or if the rule in force has no such subset.
    pub fn find(view: &View<'_>, host: Host, port: u16, subset_name: &str) -> Option<Outbound> {
        let (service, port) = serving(view, host, port)?;
        if port.protocol == Protocol::Udp {
            return None;
        }
        let rule = view.traffic_rule(&service);
        let target = Outbound { service, port, rule, subset_name: subset_name.to_owned() };
        (subset_name.is_empty() || target.subset().is_some()).then_some(target)
    }

    /// The subset; `None` for the whole service.
    pub fn subset(&self) -> Option<&Subset> {
        self.rule.as_ref().and_then(|rule| policy::subset(&rule.spec, &self.subset_name))
    }

    /// The settings in force.
    pub fn policy(&self) -> Policy<'_> {
        let Some(rule) = &self.rule else { return Policy::default() };
        Policy::of(&rule.spec, self.subset(), self.port.number)
    }
}

/// The service that serves `port` under `host`, and the port.
fn serving(view: &View<'_>, host: Host, port: u16) -> Option<(Arc<Service>, ServicePort)> {
    meant(view, host).into_iter().find_map(|service| {
        let port = service.port(port)?.clone();
        Some((service, port))
    })
}
