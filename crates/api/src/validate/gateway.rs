//! Rules of a Gateway.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::decode::At;
use crate::gateway::{Gateway, Server, ServerTlsMode, ServerTlsSettings, TlsProtocol};
use crate::hosts::{check_labels, is_label, is_partial_wildcard, is_wildcard_host};
use crate::validate::rules::{self, PROTOCOLS, Protocol, protocol};

pub(super) fn check(at: &At<'_>, gateway: &Gateway) {
    check_labels(&at.field("selector"), &gateway.selector);
    let servers = at.field("servers");
    if gateway.servers.is_empty() {
        servers.complain("nothing", "at least one server");
    }
    let (mut ports, mut names) = (BTreeSet::new(), BTreeSet::new());
    for (index, server) in gateway.servers.iter().enumerate() {
        let item = servers.item(index);
        check_server(&item, server);
        if let Some(port) = &server.port
            && !ports.insert(&port.name)
        {
            let found = format!("{:?} for the second time", port.name);
            item.field("port").field("name").complain(found, "port names of which each is used once");
        }
        if !server.name.is_empty() && !names.insert(&server.name) {
            let found = format!("{:?} for the second time", server.name);
            item.field("name").complain(found, "server names of which each is used once");
        }
    }
}

fn check_server(at: &At<'_>, server: &Server) {
    let hosts = at.field("hosts");
    if server.hosts.is_empty() {
        hosts.complain("nothing", "at least one host");
    }
    for (index, host) in server.hosts.iter().enumerate() {
        server_host(&hosts.item(index), host);
    }
    let socket = server.bind.strip_prefix("unix://");
    match socket {
        Some(path) => rules::unix_path(&at.field("bind"), path),
        None if !server.bind.is_empty() => rules::address(&at.field("bind"), &server.bind),
        None => {}
    }
    let Some(port) = &server.port else {
        at.field("port").complain("nothing", "a port");
        return;
    };
    let port_at = at.field("port");
    if socket.is_none() {
        rules::port(&port_at.field("number"), port.number);
    } else if port.number != 0 {
        port_at.field("number").complain("a port beside a Unix socket", "0, or no bind");
    }
    if port.target_port != 0 {
        port_at.field("targetPort").complain("targetPort, which means nothing here", "no targetPort");
    }
    if port.name.is_empty() {
        port_at.field("name").complain("nothing", "the port's name");
    }
    let known = protocol(&port.protocol).filter(|protocol| *protocol != Protocol::Udp);
    match known {
        None => port_at.field("protocol").refuse(PROTOCOLS),
        Some(protocol) => tls_fits(at, server, protocol),
    }
    if let Some(settings) = &server.tls {
        tls(&at.field("tls"), settings);
    }
}

/// `[namespace/]host`, no short names.
fn server_host(at: &At<'_>, text: &str) {
    let (namespace, host) = text.split_once('/').map_or((None, text), |(ns, host)| (Some(ns), host));
    if namespace.is_some_and(|ns| !matches!(ns, "*" | ".") && !is_label(ns)) {
        at.refuse("[namespace/]host, the namespace . (the Gateway's), * (any) or a name");
        return;
    }
    let good = host == "*"
        || host.parse::<IpAddr>().is_ok()
        || (host.contains('.') && is_wildcard_host(host) && !is_partial_wildcard(host));
    if !good {
        at.refuse("[namespace/]host, the host a full DNS name, *.domain, an IP address or *");
    }
}

/// TLS settings are there exactly where the protocol has TLS; plain HTTP may redirect to it.
fn tls_fits(at: &At<'_>, server: &Server, protocol: Protocol) {
    let tls = at.field("tls");
    match (protocol, &server.tls) {
        (Protocol::Tls, None) => tls.complain("nothing", "tls: the protocol has TLS"),
        (Protocol::Http, Some(settings)) => {
            let files = [&settings.ca_certificates, &settings.private_key, &settings.server_certificate];
            let opens = !matches!(settings.mode, ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough);
            if opens || files.iter().any(|file| !file.is_empty()) {
                tls.complain("tls on a port of plain HTTP", "httpsRedirect alone, or the protocol HTTPS");
            }
        }
        (Protocol::Tcp, Some(_)) => tls.complain("tls on a port without TLS", "no tls, or the protocol TLS"),
        _ => {}
    }
    if protocol != Protocol::Http && server.tls.as_ref().is_some_and(|tls| tls.https_redirect) {
        tls.field("httpsRedirect")
            .warn("httpsRedirect on a port that is not plain HTTP", "it on a port of HTTP");
    }
}

fn tls(at: &At<'_>, tls: &ServerTlsSettings) {
    let old = matches!(tls.min_protocol_version, TlsProtocol::V1_0 | TlsProtocol::V1_1);
    if old && tls.cipher_suites.is_empty() {
        at.field("minProtocolVersion").warn("a version without default ciphers", "cipherSuites beside it");
    }
    if tls.max_protocol_version != TlsProtocol::Auto && tls.max_protocol_version < tls.min_protocol_version {
        at.field("maxProtocolVersion").refuse("minProtocolVersion or newer");
    }
    let sources = sources(tls);
    match tls.mode {
        ServerTlsMode::IstioMutual => {
            for (name, set) in sources {
                if set {
                    at.field(name)
                        .complain(format!("{name} beside ISTIO_MUTUAL"), "the mesh's own certificates");
                }
            }
        }
        ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough => {
            if sources.iter().any(|(_, set)| *set) {
                at.warn("certificates for TLS that is passed through", "none: they are ignored");
            }
        }
        ServerTlsMode::Simple | ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual => opened(at, tls),
    }
    if !tls.ca_crl.is_empty() {
        if !tls.credential_name.is_empty() {
            at.field("caCrl").complain("caCrl beside credentialName", "the CRL in the credential");
        }
        if tls.mode == ServerTlsMode::Simple {
            at.field("caCrl").complain("caCrl for SIMPLE", "it for MUTUAL, OPTIONAL_MUTUAL");
        }
    }
}

fn sources(tls: &ServerTlsSettings) -> [(&'static str, bool); 6] {
    [
        ("serverCertificate", !tls.server_certificate.is_empty()),
        ("privateKey", !tls.private_key.is_empty()),
        ("caCertificates", !tls.ca_certificates.is_empty()),
        ("credentialName", !tls.credential_name.is_empty()),
        ("credentialNames", !tls.credential_names.is_empty()),
        ("tlsCertificates", !tls.tls_certificates.is_empty()),
    ]
}

/// TLS that this server opens needs a certificate from exactly one source.
fn opened(at: &At<'_>, tls: &ServerTlsSettings) {
    let files = !tls.server_certificate.is_empty() && !tls.private_key.is_empty();
    let secrets = !tls.credential_name.is_empty() || !tls.credential_names.is_empty();
    let given = [
        files,
        !tls.credential_name.is_empty(),
        !tls.credential_names.is_empty(),
        !tls.tls_certificates.is_empty(),
    ];
    if given.iter().filter(|given| **given).count() > 1 {
        let allowed =
            "one of credentialName, credentialNames, tlsCertificates, serverCertificate with privateKey";
        at.complain("several sources of certificates", allowed);
    }
    if tls.credential_names.len() > 2 || tls.tls_certificates.len() > 2 {
        at.warn("more than two certificates", "two: one RSA, one ECDSA");
    }
    if secrets {
        return;
    }
    if tls.mode != ServerTlsMode::Simple && tls.ca_certificates.is_empty() {
        at.field("caCertificates")
            .complain("nothing", "caCertificates or credentialName: clients prove themselves");
    }
    if tls.tls_certificates.is_empty() {
        certificate(at, &tls.server_certificate, &tls.private_key);
    }
    for (index, files) in tls.tls_certificates.iter().enumerate() {
        let list = at.field("tlsCertificates");
        certificate(&list.item(index), &files.server_certificate, &files.private_key);
    }
}

fn certificate(at: &At<'_>, certificate: &str, key: &str) {
    for (name, file) in [("serverCertificate", certificate), ("privateKey", key)] {
        if file.is_empty() {
            at.field(name).complain("nothing", format!("{name} or credentialName"));
        }
    }
}
