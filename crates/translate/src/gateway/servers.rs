//! The servers of all Gateways that select a proxy, merged by the port that they really listen on.
//!
//! Conflicts are settled by age: on one address, plaintext HTTP servers share a port with each other, TLS servers with
//! each other as long as their hosts differ, and nothing else with anything.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ostro_api::gateway::{Server, ServerTlsMode, ServerTlsSettings};
use ostro_mesh::View;
use ostro_mesh::model::GatewayRules;

/// What a server makes of its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// HTTP in plaintext.
    Http,
    /// Opaque.
    Tcp,
    /// TLS, ended here or passed on.
    Tls,
}

/// One server at one of the ports that it listens on.
#[derive(Debug, Clone)]
pub struct Bound {
    pub gateway: Arc<GatewayRules>,
    /// As written.
    pub server: Server,
    /// The port listened on.
    pub port: u16,
}

impl Bound {
    /// `namespace/name` of its Gateway.
    pub fn gateway_name(&self) -> String {
        format!("{}/{}", self.gateway.age.namespace, self.gateway.age.name)
    }

    /// The port as written, which VirtualServices match and virtual hosts are named after.
    pub fn written_port(&self) -> u16 {
        self.server.port.as_ref().map_or(self.port, |port| port.number)
    }

    /// Its hosts with the namespaces whose VirtualServices may serve them; `None`: any namespace's.
    pub fn hosts(&self) -> impl Iterator<Item = (Option<&str>, &str)> {
        let own = self.gateway.age.namespace.as_str();
        self.server.hosts.iter().map(move |written| match written.split_once('/') {
            None | Some(("*", _)) => (None, bare(written)),
            Some((".", host)) => (Some(own), host),
            Some((namespace, host)) => (Some(namespace), host),
        })
    }

    /// The TLS settings, if connections are TLS.
    pub fn tls(&self) -> Option<&ServerTlsSettings> {
        self.server.tls.as_ref().filter(|_| class(&self.server) == Some(Class::Tls))
    }

    /// Whether TLS is passed on unopened.
    pub fn passes_through(&self) -> bool {
        self.tls().is_some_and(passes_through)
    }

    /// The route configuration of an HTTP server, plaintext or behind TLS that ends here.
    pub fn route_name(&self) -> Option<String> {
        let server = &self.server;
        let bind = if server.bind.is_empty() { String::new() } else { format!(".{}", server.bind) };
        match class(server)? {
            Class::Http => Some(format!("http.{}{bind}", self.port)),
            Class::Tls if is_https(server) && !self.passes_through() => {
                let (name, age) =
                    (server.port.as_ref().map_or("", |port| port.name.as_str()), &self.gateway.age);
                let port = self.written_port();
                Some(format!("https.{port}.{name}.{}.{}{bind}", age.name, age.namespace))
            }
            Class::Tls | Class::Tcp => None,
        }
    }
}

/// What listens at one address and port.
#[derive(Debug, Clone)]
pub struct Port {
    pub bind: IpAddr,
    pub number: u16,
    pub class: Class,
    /// In order of age; never empty.
    pub servers: Vec<Bound>,
}

impl Port {
    /// `<bind>_<port>`
    pub fn listener_name(&self) -> String {
        crate::names::listener(self.bind, self.number)
    }
}

/// A host without the namespace in front of it.
fn bare(written: &str) -> &str {
    written.split_once('/').map_or(written, |(_, host)| host)
}

/// The ports of this proxy, in the order in which the oldest Gateways ask for them.
pub fn ports(view: &View<'_>) -> Vec<Port> {
    let gateways = view.gateways();
    if gateways.is_empty() {
        return Vec::new();
    }
    merge(&gateways, &view.served_ports())
}

fn merge(gateways: &[Arc<GatewayRules>], served: &[(u16, u16)]) -> Vec<Port> {
    let mut ports: Vec<Port> = Vec::new();
    for gateway in gateways {
        for server in &gateway.spec.servers {
            let (Some(class), Some(bind)) = (class(server), bind(server)) else { continue };
            let Some(written) = server.port.as_ref().map(|port| port.number) else { continue };
            for port in listening(written, served) {
                add(
                    &mut ports,
                    (bind, class),
                    Bound { gateway: gateway.clone(), server: server.clone(), port },
                );
            }
        }
    }
    ports
}

fn add(ports: &mut Vec<Port>, (bind, class): (IpAddr, Class), server: Bound) {
    let number = server.port;
    let Some(known) = ports.iter_mut().find(|port| port.bind == bind && port.number == number) else {
        ports.push(Port { bind, number, class, servers: vec![server] });
        return;
    };
    let shares = match class {
        Class::Http => true,
        Class::Tcp => false,
        // Two chains for one server name would be refused by Envoy, whole listener and all.
        Class::Tls => !known.servers.iter().any(|other| shares_host(other, &server)),
    };
    if known.class == class && shares {
        known.servers.push(server);
    }
}

fn shares_host(one: &Bound, other: &Bound) -> bool {
    one.hosts().any(|(_, host)| other.hosts().any(|(_, candidate)| host.eq_ignore_ascii_case(candidate)))
}

/// The ports behind `written`: where the gateway's own Services send it, or the port itself.
fn listening(written: u16, served: &[(u16, u16)]) -> BTreeSet<u16> {
    let targets = served.iter().filter(|(port, _)| *port == written);
    let targets: BTreeSet<u16> = targets.map(|(_, target)| *target).collect();
    if targets.is_empty() { BTreeSet::from([written]) } else { targets }
}

/// The address to bind; `None` for what is none, such as a Unix socket.
fn bind(server: &Server) -> Option<IpAddr> {
    match server.bind.as_str() {
        "" => Some(Ipv4Addr::UNSPECIFIED.into()),
        address => address.parse().ok(),
    }
}

/// What the server makes of its connections; `None` if it says two things at once.
fn class(server: &Server) -> Option<Class> {
    let protocol = server.port.as_ref()?.protocol.as_str();
    let says = |names: &[&str]| names.iter().any(|name| name.eq_ignore_ascii_case(protocol));
    if says(&["HTTP", "HTTP2", "GRPC", "GRPC-WEB", "HTTP_PROXY"]) {
        return Some(Class::Http);
    }
    match server.tls {
        Some(_) => Some(Class::Tls),
        None if says(&["HTTPS", "TLS"]) => None,
        None => Some(Class::Tcp),
    }
}

fn is_https(server: &Server) -> bool {
    server.port.as_ref().is_some_and(|port| port.protocol.eq_ignore_ascii_case("HTTPS"))
}

fn passes_through(tls: &ServerTlsSettings) -> bool {
    matches!(tls.mode, ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ostro_api::gateway::{Gateway, GatewayPort};
    use ostro_mesh::model::Age;
    use ostro_names::{Name, Namespace};

    fn server(port: u16, protocol: &str, hosts: &[&str], tls: Option<ServerTlsMode>) -> Server {
        Server {
            port: Some(GatewayPort {
                number: port,
                protocol: protocol.into(),
                name: "p".into(),
                ..Default::default()
            }),
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            tls: tls.map(|mode| ServerTlsSettings { mode, ..Default::default() }),
            ..Default::default()
        }
    }

    fn gateway(name: &str, servers: Vec<Server>) -> Arc<GatewayRules> {
        Arc::new(GatewayRules {
            age: Age { created: None, namespace: Namespace::new("edge"), name: Name::new(name) },
            spec: Arc::new(Gateway { servers, ..Default::default() }),
        })
    }

    fn owners(ports: &[Port]) -> Vec<(u16, Class, Vec<String>)> {
        let names = |port: &Port| port.servers.iter().map(Bound::gateway_name).collect();
        ports.iter().map(|port| (port.number, port.class, names(port))).collect()
    }

    #[test]
    fn http_servers_share_a_port_and_nothing_else_does() {
        let merged = merge(
            &[
                gateway("a", vec![server(80, "HTTP", &["a.com"], None), server(90, "TCP", &["*"], None)]),
                gateway("b", vec![server(80, "HTTP2", &["a.com"], None), server(90, "TCP", &["*"], None)]),
                gateway("c", vec![server(80, "TCP", &["*"], None), server(90, "HTTP", &["*"], None)]),
            ],
            &[],
        );
        assert_eq!(
            owners(&merged),
            [
                (80, Class::Http, vec!["edge/a".to_owned(), "edge/b".to_owned()]),
                (90, Class::Tcp, vec!["edge/a".to_owned()]),
            ]
        );
    }

    #[test]
    fn tls_servers_share_a_port_unless_they_share_a_host() {
        let simple = Some(ServerTlsMode::Simple);
        let merged = merge(
            &[
                gateway("a", vec![server(443, "HTTPS", &["ns/a.com"], simple)]),
                gateway("b", vec![server(443, "HTTPS", &["b.com", "A.com"], simple)]),
                gateway("c", vec![server(443, "TLS", &["c.com"], Some(ServerTlsMode::Passthrough))]),
                gateway("d", vec![server(443, "HTTP", &["d.com"], None)]),
            ],
            &[],
        );
        assert_eq!(owners(&merged), [(443, Class::Tls, vec!["edge/a".to_owned(), "edge/c".to_owned()])]);
    }

    #[test]
    fn addresses_of_ones_own_do_not_conflict() {
        let bound = |bind: &str| Server { bind: bind.into(), ..server(80, "TCP", &["*"], None) };
        let merged = merge(
            &[gateway("a", vec![bound(""), bound("10.0.0.1"), bound("10.0.0.1"), bound("/run/s")])],
            &[],
        );
        let names: Vec<String> = merged.iter().map(Port::listener_name).collect();
        assert_eq!(names, ["0.0.0.0_80", "10.0.0.1_80"]);
    }

    #[test]
    fn a_service_of_the_gateway_moves_the_port_and_the_route_follows() {
        let servers = vec![
            server(80, "HTTP", &["a.com"], None),
            server(443, "HTTPS", &["a.com"], Some(ServerTlsMode::Simple)),
        ];
        let merged = merge(&[gateway("a", servers)], &[(80, 8080)]);
        let routes: Vec<_> = merged.iter().flat_map(|port| &port.servers).map(Bound::route_name).collect();
        assert_eq!(routes, [Some("http.8080".to_owned()), Some("https.443.p.a.edge".to_owned())]);
        assert_eq!((merged[0].number, merged[0].servers[0].written_port()), (8080, 80));
    }

    #[test]
    fn hosts_say_whose_virtual_services_may_serve_them() {
        let gateway = gateway("a", vec![]);
        let server = server(80, "HTTP", &["a.com", "*/b.com", "./c.com", "ns/d.com"], None);
        let bound = Bound { gateway, server, port: 80 };
        let hosts: Vec<_> = bound.hosts().collect();
        assert_eq!(hosts, [(None, "a.com"), (None, "b.com"), (Some("edge"), "c.com"), (Some("ns"), "d.com")]);
    }
}
