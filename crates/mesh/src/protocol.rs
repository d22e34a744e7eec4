//! Which application protocol a port speaks, by what is written about it: `appProtocol`, else the port's name up to the
//! first `-`, as Istio's explicit protocol selection has it.

use ostro_api::kubernetes::{ServicePort, TransportProtocol};

use crate::model::Protocol;

/// Ports whose servers speak first: detection would wait for a client that waits for the server.
const SERVER_FIRST_PORTS: [u16; 4] = [25, 53, 3306, 27017];

/// The protocol of a port of a Kubernetes Service.
pub(crate) fn of_service_port(port: &ServicePort) -> Protocol {
    // Nothing proxies SCTP either: it has no listener, like UDP.
    if port.protocol != TransportProtocol::Tcp {
        return Protocol::Udp;
    }
    let name = match port.app_protocol.as_str() {
        "" => port.name.as_str(),
        "kubernetes.io/h2c" => return Protocol::Http2,
        "kubernetes.io/ws" => return Protocol::Http,
        "kubernetes.io/wss" => return Protocol::Https,
        declared => declared,
    };
    if name.get(..8).is_some_and(|prefix| prefix.eq_ignore_ascii_case("grpc-web")) {
        return Protocol::GrpcWeb;
    }
    let word = name.split('-').next().unwrap_or_default();
    match named(word) {
        Protocol::Auto if SERVER_FIRST_PORTS.contains(&port.port) => Protocol::Tcp,
        protocol => protocol,
    }
}

/// The protocol of this name, as ServiceEntries and Gateways write it; [`Protocol::Auto`] for any other word.
pub fn named(word: &str) -> Protocol {
    match word.to_ascii_lowercase().as_str() {
        "http" => Protocol::Http,
        "http2" => Protocol::Http2,
        "http_proxy" => Protocol::HttpProxy,
        "grpc" => Protocol::Grpc,
        "grpc-web" => Protocol::GrpcWeb,
        "https" => Protocol::Https,
        "tls" => Protocol::Tls,
        "tcp" => Protocol::Tcp,
        "mongo" => Protocol::Mongo,
        "redis" => Protocol::Redis,
        "mysql" => Protocol::Mysql,
        "udp" => Protocol::Udp,
        _ => Protocol::Auto,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(name: &str, app_protocol: &str, number: u16) -> Protocol {
        of_service_port(&ServicePort {
            name: name.into(),
            app_protocol: app_protocol.into(),
            port: number,
            ..ServicePort::default()
        })
    }

    #[test]
    fn names_and_app_protocols_decide() {
        for (name, app_protocol, number, expected) in [
            ("http", "", 80, Protocol::Http),
            ("HTTP-web", "", 80, Protocol::Http),
            ("http2-x-y", "", 80, Protocol::Http2),
            ("grpc-web", "", 80, Protocol::GrpcWeb),
            ("GRPC-Web-admin", "", 80, Protocol::GrpcWeb),
            ("grpc-admin", "", 80, Protocol::Grpc),
            ("web", "", 80, Protocol::Auto),
            ("", "", 80, Protocol::Auto),
            ("", "", 3306, Protocol::Tcp),
            ("http-oddly", "", 3306, Protocol::Http),
            ("tcp", "kubernetes.io/h2c", 80, Protocol::Http2),
            ("tcp", "kubernetes.io/ws", 80, Protocol::Http),
            ("tcp", "kubernetes.io/wss", 80, Protocol::Https),
            ("tcp", "http", 80, Protocol::Http),
            ("http", "nonsense", 80, Protocol::Auto),
            ("udp-odd", "", 80, Protocol::Udp),
        ] {
            assert_eq!(port(name, app_protocol, number), expected, "{name} {app_protocol} {number}");
        }
    }

    #[test]
    fn transport_comes_first() {
        let dns = ServicePort {
            name: "http".into(),
            port: 53,
            protocol: TransportProtocol::Udp,
            ..ServicePort::default()
        };
        assert_eq!(of_service_port(&dns), Protocol::Udp);
    }
}
