//! TLS toward endpoints, as a DestinationRule's `tls` asks for it: with certificates from files.
//!
//! What it is not: Istio mTLS, nor certificates from secrets; both need SDS. A cluster that asks for what
//! cannot be had is unreachable, never plaintext.

use envoy_types::pb::envoy::config::core::v3::{
    DataSource, ProxyProtocolConfig, TransportSocket, data_source, proxy_protocol_config, transport_socket,
};
use envoy_types::pb::envoy::extensions::transport_sockets::proxy_protocol::v3::ProxyProtocolUpstreamTransport;
use envoy_types::pb::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, CommonTlsContext, SubjectAltNameMatcher, TlsCertificate,
    UpstreamTlsContext, common_tls_context::ValidationContextType, subject_alt_name_matcher::SanType,
};
use envoy_types::pb::envoy::r#type::matcher::v3::{StringMatcher, string_matcher};
use ostro_api::destination_rule::{ClientTlsMode, ClientTlsSettings, ProxyProtocol, ProxyProtocolVersion};
use prost::{Message, Name};

use crate::encode::any;
use crate::http_options::{Options, Version};

/// The roots that a proxy's system trusts, where Debian and its kin, distroless images among them, keep them.
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// What becomes of a cluster's connections.
#[derive(Debug, Clone, PartialEq)]
pub enum Socket {
    /// As they are.
    Plain,
    /// Wrapped in TLS, PROXY protocol, or both.
    Wrapped(Box<TransportSocket>),
    /// They cannot be made as demanded, so they are not made.
    Unavailable,
}

/// The transport of a cluster. `names` are the SANs of the service's own declaration, which hold where the rule has
/// none.
pub fn transport(
    tls: Option<&ClientTlsSettings>,
    proxy_protocol: Option<&ProxyProtocol>,
    names: &[String],
    http: &mut Options,
) -> Socket {
    let inner = match tls {
        None => None,
        Some(tls) if tls.mode == ClientTlsMode::Disable => None,
        Some(tls) if tls.mode == ClientTlsMode::IstioMutual || !tls.credential_name.is_empty() => {
            return Socket::Unavailable;
        }
        Some(tls) => Some(client_tls(tls, names, http)),
    };
    let socket = match (inner, proxy_protocol) {
        (inner, None) => inner,
        (inner, Some(protocol)) => {
            let inner = inner.unwrap_or_else(|| socket("envoy.transport_sockets.raw_buffer", &RawBuffer {}));
            Some(with_proxy_protocol(protocol, inner))
        }
    };
    socket.map_or(Socket::Plain, |socket| Socket::Wrapped(Box::new(socket)))
}

/// Whether the rule's own TLS is spoken, which Istio's ALPN must not replace.
pub fn is_users_own(tls: Option<&ClientTlsSettings>) -> bool {
    tls.is_some_and(|tls| matches!(tls.mode, ClientTlsMode::Simple | ClientTlsMode::Mutual))
}

fn client_tls(tls: &ClientTlsSettings, names: &[String], http: &mut Options) -> TransportSocket {
    let insecure = tls.insecure_skip_verify == Some(true);
    let names = if tls.subject_alt_names.is_empty() { names } else { &tls.subject_alt_names };
    if tls.sni.is_empty() {
        http.server_name_from_request(!insecure && names.is_empty());
    }
    let alpn: &[&str] = match http.version {
        Version::Http2 => &["h2"],
        Version::Http1 | Version::Downstream => &[],
    };
    let certificate = TlsCertificate {
        certificate_chain: Some(file(&tls.client_certificate)),
        private_key: Some(file(&tls.private_key)),
        ..Default::default()
    };
    let common = CommonTlsContext {
        tls_certificates: if tls.mode == ClientTlsMode::Mutual { vec![certificate] } else { Vec::new() },
        alpn_protocols: alpn.iter().map(|protocol| (*protocol).to_owned()).collect(),
        validation_context_type: (!insecure)
            .then(|| ValidationContextType::ValidationContext(validation(tls, names))),
        ..Default::default()
    };
    let context =
        UpstreamTlsContext { common_tls_context: Some(common), sni: tls.sni.clone(), ..Default::default() };
    socket("envoy.transport_sockets.tls", &context)
}

fn validation(tls: &ClientTlsSettings, names: &[String]) -> CertificateValidationContext {
    let roots = if tls.ca_certificates.is_empty() { SYSTEM_ROOTS } else { &tls.ca_certificates };
    // A name may be of any kind; the rule does not say which.
    let kinds = [SanType::Dns, SanType::Uri, SanType::IpAddress, SanType::Email];
    let exact = |name: &String, kind: SanType| SubjectAltNameMatcher {
        san_type: kind as i32,
        matcher: Some(StringMatcher {
            match_pattern: Some(string_matcher::MatchPattern::Exact(name.clone())),
            ..Default::default()
        }),
        ..Default::default()
    };
    CertificateValidationContext {
        trusted_ca: Some(file(roots)),
        match_typed_subject_alt_names: names
            .iter()
            .flat_map(|name| kinds.iter().map(move |kind| exact(name, *kind)))
            .collect(),
        crl: (!tls.ca_crl.is_empty()).then(|| file(&tls.ca_crl)),
        ..Default::default()
    }
}

fn with_proxy_protocol(protocol: &ProxyProtocol, inner: TransportSocket) -> TransportSocket {
    let version = match protocol.version {
        ProxyProtocolVersion::V1 => proxy_protocol_config::Version::V1,
        ProxyProtocolVersion::V2 => proxy_protocol_config::Version::V2,
    };
    let config = ProxyProtocolUpstreamTransport {
        config: Some(ProxyProtocolConfig { version: version as i32, ..Default::default() }),
        transport_socket: Some(inner),
        ..Default::default()
    };
    socket("envoy.transport_sockets.upstream_proxy_protocol", &config)
}

fn socket<M: Message + Name>(name: &str, config: &M) -> TransportSocket {
    TransportSocket {
        name: name.to_owned(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(any(config))),
    }
}

fn file(path: &str) -> DataSource {
    DataSource { specifier: Some(data_source::Specifier::Filename(path.to_owned())), ..Default::default() }
}
