//! The names by which a request's authority can mean a service: Istio's short names, by the namespace
//! of the proxy, and the service's addresses.

use std::net::IpAddr;

use ostro_mesh::View;
use ostro_mesh::model::{Registry, Resolution, Service, Visibility};
use ostro_names::{Host, Namespace};

/// One domain of a virtual host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    pub text: String,
    /// A shortened name: it gives way to a host that is called so in full.
    pub short: bool,
}

/// The domains of `service` for this proxy: its full name, the shorter ones that resolve where the proxy is, the same of
/// every alias, and its addresses.
pub fn of_service(view: &View<'_>, service: &Service, aliases: &[Host]) -> Vec<Domain> {
    let mut out = Vec::new();
    for host in std::iter::once(&service.host).chain(aliases) {
        names(view, *host, &mut out);
    }
    if is_headless(service) {
        let pods = out.iter().map(|domain| Domain { text: format!("*.{}", domain.text), ..*domain });
        let pods: Vec<Domain> = pods.collect();
        out.extend(pods);
    }
    let (four, six) = view.families();
    for net in view.addresses(service) {
        let exact = net.prefix_len() == net.max_prefix_len();
        match net.addr() {
            IpAddr::V4(address) if exact && four => out.push(full(address.to_string())),
            IpAddr::V6(address) if exact && six => out.push(full(format!("[{address}]"))),
            _ => {}
        }
    }
    out
}

/// The one domain of a host that is no service: itself.
pub fn of_host(host: Host) -> Vec<Domain> {
    match host.as_str().parse() {
        Ok(IpAddr::V6(address)) => vec![full(format!("[{address}]"))],
        _ => vec![full(host.as_str().to_owned())],
    }
}

fn full(text: String) -> Domain {
    Domain { text, short: false }
}

fn is_headless(service: &Service) -> bool {
    service.registry == Registry::Kubernetes
        && (service.headless || service.resolution == Resolution::Passthrough)
}

fn names(view: &View<'_>, host: Host, out: &mut Vec<Domain>) {
    let text = host.as_str();
    out.push(full(text.to_owned()));
    if text.starts_with('*') {
        return;
    }
    out.push(full(format!("{text}.")));
    let Some((name, namespace)) = kubernetes_name(text, view.domain()) else { return };
    let mut short = |text: String| out.push(Domain { text, short: true });
    // The narrow question: proxies of all other namespaces have the same names for this service.
    let own = Namespace::try_new(namespace)
        .is_ok_and(|namespace| view.sees(&Visibility::Namespaces(vec![namespace])));
    if own {
        short(name.to_owned());
    }
    short(format!("{name}.{namespace}"));
    short(format!("{name}.{namespace}.svc"));
}

/// Name and namespace in the host of a Kubernetes Service.
fn kubernetes_name<'h>(host: &'h str, domain: &str) -> Option<(&'h str, &'h str)> {
    let service = host.strip_suffix(domain)?.strip_suffix(".svc.")?;
    service.split_once('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hosts_of_the_clusters_domain_have_short_names() {
        let cases = [
            ("reviews.default.svc.cluster.local", Some(("reviews", "default"))),
            ("a.b.default.svc.cluster.local", Some(("a", "b.default"))),
            ("reviews.default.svc.other.local", None),
            ("example.com", None),
            ("svc.cluster.local", None),
            ("reviews.svc.cluster.local", None),
        ];
        for (host, expected) in cases {
            assert_eq!(kubernetes_name(host, "cluster.local"), expected, "{host}");
        }
    }

    #[test]
    fn hosts_that_are_ipv6_addresses_are_bracketed() {
        assert_eq!(of_host(Host::new("2001:db8::1"))[0].text, "[2001:db8::1]");
        assert_eq!(of_host(Host::new("192.0.2.1"))[0].text, "192.0.2.1");
        assert_eq!(of_host(Host::new("*.example.com"))[0].text, "*.example.com");
    }
}
