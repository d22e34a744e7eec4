//! TLS that ends at a gateway: Gateway `servers[].tls`. Certificates come by SDS, by the names that Istio's agent and
//! this control plane know.

use envoy_types::pb::envoy::config::core::v3::{
    ApiConfigSource, ApiVersion, ConfigSource, GrpcService, TransportSocket, api_config_source,
    config_source, grpc_service, transport_socket,
};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::common_tls_context::{
    CombinedCertificateValidationContext, ValidationContextType,
};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, CommonTlsContext, DownstreamTlsContext, SdsSecretConfig,
    SubjectAltNameMatcher, TlsParameters, certificate_validation_context, subject_alt_name_matcher::SanType,
    tls_parameters,
};
use envoy_types::pb::envoy::r#type::matcher::v3::{StringMatcher, string_matcher};
use ostro_api::gateway::{ServerTlsMode, ServerTlsSettings, TlsProtocol};

use crate::encode::{ads, any, duration, wrapped};

/// The agent's SDS server, which a proxy with an agent has as a static cluster.
const AGENT_CLUSTER: &str = "sds-grpc";
/// At most one certificate of each kind of key (RSA, ECDSA).
const CERTIFICATES: usize = 2;
/// The ciphers that Envoy knows; it refuses a listener over any other.
const CIPHERS: [&str; 15] = [
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES256-SHA",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-RSA-AES128-SHA",
    "AES256-GCM-SHA384",
    "AES128-GCM-SHA256",
    "AES256-SHA",
    "AES128-SHA",
    "DES-CBC3-SHA",
];

/// The transport socket of a server that ends TLS, before HTTP or before opaque bytes.
pub fn server(tls: &ServerTlsSettings, http: bool) -> TransportSocket {
    let mut common = CommonTlsContext {
        tls_params: Some(parameters(tls)),
        tls_certificate_sds_secret_configs: certificates(tls),
        validation_context_type: clients(tls),
        ..Default::default()
    };
    if http {
        common.alpn_protocols = vec!["h2".to_owned(), "http/1.1".to_owned()];
    }
    let required = matches!(tls.mode, ServerTlsMode::Mutual | ServerTlsMode::IstioMutual);
    let context = DownstreamTlsContext {
        common_tls_context: Some(common),
        require_client_certificate: wrapped(required),
        ..Default::default()
    };
    TransportSocket {
        name: "envoy.transport_sockets.tls".to_owned(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(any(&context))),
    }
}

fn parameters(tls: &ServerTlsSettings) -> TlsParameters {
    use tls_parameters::TlsProtocol as Wire;
    let wire = |version, default| match version {
        TlsProtocol::Auto => default,
        TlsProtocol::V1_0 => Wire::TlSv10,
        TlsProtocol::V1_1 => Wire::TlSv11,
        TlsProtocol::V1_2 => Wire::TlSv12,
        TlsProtocol::V1_3 => Wire::TlSv13,
    };
    TlsParameters {
        tls_minimum_protocol_version: wire(tls.min_protocol_version, Wire::TlSv12) as i32,
        tls_maximum_protocol_version: wire(tls.max_protocol_version, Wire::TlsAuto) as i32,
        cipher_suites: tls
            .cipher_suites
            .iter()
            .filter(|name| CIPHERS.contains(&name.as_str()))
            .cloned()
            .collect(),
        ..Default::default()
    }
}

fn certificates(tls: &ServerTlsSettings) -> Vec<SdsSecretConfig> {
    if tls.mode == ServerTlsMode::IstioMutual {
        return vec![from_agent("default".to_owned())];
    }
    if !tls.credential_names.is_empty() {
        return tls.credential_names.iter().take(CERTIFICATES).map(|name| from_us(resource(name))).collect();
    }
    if !tls.credential_name.is_empty() {
        return vec![from_us(resource(&tls.credential_name))];
    }
    let file = |chain: &str, key: &str| from_agent(format!("file-cert:{chain}~{key}"));
    if tls.tls_certificates.is_empty() {
        return vec![file(&tls.server_certificate, &tls.private_key)];
    }
    let files = tls.tls_certificates.iter().take(CERTIFICATES);
    files.map(|one| file(&one.server_certificate, &one.private_key)).collect()
}

/// How clients are verified, if they are asked to prove themselves.
fn clients(tls: &ServerTlsSettings) -> Option<ValidationContextType> {
    let roots = match tls.mode {
        ServerTlsMode::IstioMutual => from_agent("ROOTCA".to_owned()),
        ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual => roots(tls),
        ServerTlsMode::Simple | ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough => return None,
    };
    let trust = certificate_validation_context::TrustChainVerification::AcceptUntrusted;
    Some(ValidationContextType::CombinedValidationContext(CombinedCertificateValidationContext {
        default_validation_context: Some(CertificateValidationContext {
            match_typed_subject_alt_names: tls
                .subject_alt_names
                .iter()
                .flat_map(|name| any_kind(name))
                .collect(),
            verify_certificate_spki: tls.verify_certificate_spki.clone(),
            verify_certificate_hash: tls.verify_certificate_hash.clone(),
            trust_chain_verification: if tls.insecure_skip_verify == Some(true) { trust as i32 } else { 0 },
            ..Default::default()
        }),
        validation_context_sds_secret_config: Some(roots),
        ..Default::default()
    }))
}

fn roots(tls: &ServerTlsSettings) -> SdsSecretConfig {
    let credential =
        [&tls.ca_cert_credential_name, &tls.credential_name].into_iter().find(|name| !name.is_empty());
    match credential.or(tls.credential_names.first()) {
        Some(name) => from_us(format!("{}-cacert", resource(name))),
        None => from_agent(format!("file-root:{}", tls.ca_certificates)),
    }
}

/// A name of any kind: the setting does not say which.
fn any_kind(name: &str) -> impl Iterator<Item = SubjectAltNameMatcher> + use<> {
    let matcher = StringMatcher {
        match_pattern: Some(string_matcher::MatchPattern::Exact(name.to_owned())),
        ..Default::default()
    };
    [SanType::Dns, SanType::Uri, SanType::IpAddress, SanType::Email].into_iter().map(move |kind| {
        SubjectAltNameMatcher { san_type: kind as i32, matcher: Some(matcher.clone()), ..Default::default() }
    })
}

/// The resource that a credential's name stands for: a secret of Kubernetes unless it says otherwise.
fn resource(name: &str) -> String {
    if name.contains("://") { name.to_owned() } else { format!("kubernetes://{name}") }
}

fn from_us(name: String) -> SdsSecretConfig {
    SdsSecretConfig { name, sds_config: Some(ads()) }
}

fn from_agent(name: String) -> SdsSecretConfig {
    let service = GrpcService {
        target_specifier: Some(grpc_service::TargetSpecifier::EnvoyGrpc(grpc_service::EnvoyGrpc {
            cluster_name: AGENT_CLUSTER.to_owned(),
            ..Default::default()
        })),
        ..Default::default()
    };
    let source = ApiConfigSource {
        api_type: api_config_source::ApiType::Grpc as i32,
        transport_api_version: ApiVersion::V3 as i32,
        grpc_services: vec![service],
        set_node_on_first_message_only: true,
        ..Default::default()
    };
    let config = ConfigSource {
        resource_api_version: ApiVersion::V3 as i32,
        initial_fetch_timeout: duration(std::time::Duration::ZERO),
        config_source_specifier: Some(config_source::ConfigSourceSpecifier::ApiConfigSource(source)),
        ..Default::default()
    };
    SdsSecretConfig { name, sds_config: Some(config) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(tls: &ServerTlsSettings) -> Vec<String> {
        certificates(tls).into_iter().map(|config| config.name).collect()
    }

    #[test]
    fn certificates_by_the_names_that_agents_and_istiod_know() {
        let secret = ServerTlsSettings { credential_name: "shop".into(), ..Default::default() };
        assert_eq!(names(&secret), ["kubernetes://shop"]);
        let several = ["rsa", "ecdsa", "third"].map(str::to_owned).to_vec();
        let both = ServerTlsSettings { credential_names: several, ..Default::default() };
        assert_eq!(names(&both), ["kubernetes://rsa", "kubernetes://ecdsa"]);
        let files = ServerTlsSettings {
            server_certificate: "/c.pem".into(),
            private_key: "/k.pem".into(),
            ..Default::default()
        };
        assert_eq!(names(&files), ["file-cert:/c.pem~/k.pem"]);
        let mesh = ServerTlsSettings { mode: ServerTlsMode::IstioMutual, ..secret };
        assert_eq!(names(&mesh), ["default"]);
    }

    #[test]
    fn clients_prove_themselves_where_the_mode_says_so() {
        let tls = |mode| ServerTlsSettings { mode, credential_name: "shop".into(), ..Default::default() };
        assert!(clients(&tls(ServerTlsMode::Simple)).is_none());
        for mode in [ServerTlsMode::Mutual, ServerTlsMode::OptionalMutual] {
            let Some(ValidationContextType::CombinedValidationContext(context)) = clients(&tls(mode)) else {
                panic!("{mode:?} verifies nobody")
            };
            let roots = context.validation_context_sds_secret_config.unwrap();
            assert_eq!(roots.name, "kubernetes://shop-cacert");
        }
    }

    #[test]
    fn ciphers_that_envoy_does_not_know_are_left_out() {
        let tls = ServerTlsSettings {
            cipher_suites: vec!["AES128-SHA".into(), "ROT13".into()],
            ..Default::default()
        };
        assert_eq!(parameters(&tls).cipher_suites, ["AES128-SHA"]);
    }
}
