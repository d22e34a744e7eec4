//! Istio's Gateway (networking.istio.io): what a proxy at the edge listens to.

use std::collections::BTreeMap;

use crate::schema::{choice, schema};

schema! {
    /// Servers on the proxies a selector picks.
    strict struct Gateway {
        /// What they listen to.
        servers: Vec<Server>,
        /// Labels of the gateway's pods, in any namespace; empty means every gateway.
        selector: BTreeMap<String, String>,
    }

    /// One port with its hosts.
    strict struct Server {
        /// Where it listens.
        port: Option<GatewayPort>,
        /// Address to bind; empty means any. `unix:` paths too.
        bind: String,
        /// `[namespace/]host`; the namespace `.` is the Gateway's, `*` any.
        hosts: Vec<String>,
        /// TLS of this server.
        tls: Option<ServerTlsSettings>,
        /// Accepted by Istio's schema, without effect.
        default_endpoint: String,
        /// Unique among all servers, if set.
        name: String,
    }

    /// A port of a gateway.
    strict struct GatewayPort {
        /// 1 to 65535.
        number: u16,
        /// HTTP, HTTPS, GRPC, GRPC-WEB, HTTP2, MONGO, TCP or TLS.
        protocol: String,
        /// Its name.
        name: String,
        /// Deprecated, without effect.
        target_port: u16,
    }

    /// TLS of a server.
    strict struct ServerTlsSettings {
        /// Answer plain requests with a redirect to https.
        https_redirect: bool,
        /// Which kind.
        mode: ServerTlsMode,
        /// File.
        server_certificate: String,
        /// File.
        private_key: String,
        /// File with the roots clients must prove themselves by.
        ca_certificates: String,
        /// File with revoked certificates.
        ca_crl: String,
        /// Secret; excludes the files.
        credential_name: String,
        /// One secret by kind of key.
        credential_names: Vec<String>,
        /// Secret or ConfigMap with the roots alone.
        ca_cert_credential_name: String,
        /// Files, one set by kind of key.
        tls_certificates: Vec<TlsCertificate>,
        /// Names one of which the client must prove.
        subject_alt_names: Vec<String>,
        /// Hashes of client keys to accept.
        verify_certificate_spki: Vec<String>,
        /// Hashes of client certificates to accept.
        verify_certificate_hash: Vec<String>,
        /// Oldest TLS version.
        min_protocol_version: TlsProtocol,
        /// Newest TLS version.
        max_protocol_version: TlsProtocol,
        /// OpenSSL names; unknown ones are ignored with a warning, as in Istio.
        cipher_suites: Vec<String>,
        /// Accept any client certificate.
        insecure_skip_verify: Option<bool>,
    }

    /// A certificate in files.
    strict struct TlsCertificate {
        /// File.
        server_certificate: String,
        /// File.
        private_key: String,
        /// File.
        ca_certificates: String,
    }
}

choice! {
    /// Which kind of TLS a server speaks.
    enum ServerTlsMode {
        /// Passed on by server name, never opened.
        Passthrough = "PASSTHROUGH",
        /// The server proves itself.
        Simple = "SIMPLE",
        /// The client does too.
        Mutual = "MUTUAL",
        /// Passed on to the cluster that the server name encodes.
        AutoPassthrough = "AUTO_PASSTHROUGH",
        /// Both do, with the mesh's certificates.
        IstioMutual = "ISTIO_MUTUAL",
        /// The client may.
        OptionalMutual = "OPTIONAL_MUTUAL",
    }

    /// A version of TLS.
    enum TlsProtocol {
        /// The default.
        Auto = "TLS_AUTO",
        /// 1.0
        V1_0 = "TLSV1_0",
        /// 1.1
        V1_1 = "TLSV1_1",
        /// 1.2
        V1_2 = "TLSV1_2",
        /// 1.3
        V1_3 = "TLSV1_3",
    }
}
