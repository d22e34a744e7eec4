//! Istio's MeshConfig: the settings of the whole mesh, with Istio's defaults.
//!
//! It is the key `mesh` of the ConfigMap `istio` in the root namespace. An absent object and an empty
//! one mean the same: [`MeshConfig::default`].

use std::time::Duration;

use crate::destination_rule::{LocalityLbSetting, TcpKeepalive};
use crate::schema::{choice, schema};
use crate::virtual_service::HttpRetry;
use crate::workload::LabelSelector;

schema! {
    /// Settings of the whole mesh.
    strict struct MeshConfig {
        /// Where sidecars take outbound connections.
        proxy_listen_port: u16 = 15001,
        /// Where sidecars take inbound connections.
        proxy_inbound_listen_port: u16 = 15006,
        /// An HTTP proxy port on sidecars; 0 means none.
        proxy_http_port: u16,
        /// Of connections to endpoints.
        connect_timeout: Duration = Duration::from_secs(10),
        /// Protocol detection gives up after this; zero means never.
        protocol_detection_timeout: Duration,
        /// Of connections to endpoints; unset means the system's.
        tcp_keepalive: Option<TcpKeepalive>,
        /// Mutual TLS wherever both sides can.
        enable_auto_mtls: bool = true,
        /// Destinations the mesh does not know.
        outbound_traffic_policy: OutboundTrafficPolicy,
        /// Ports no service declares.
        inbound_traffic_policy: InboundTrafficPolicy,
        /// Of identities.
        trust_domain: String = "cluster.local".to_owned(),
        /// Also trusted.
        trust_domain_aliases: Vec<String>,
        /// Objects here hold for the whole mesh; empty means the control plane's own namespace.
        root_namespace: String = "istio-system".to_owned(),
        /// `exportTo` of services that have none; empty means `*`.
        default_service_export_to: Vec<String>,
        /// `exportTo` of VirtualServices that have none; empty means `*`.
        default_virtual_service_export_to: Vec<String>,
        /// `exportTo` of DestinationRules that have none; empty means `*`.
        default_destination_rule_export_to: Vec<String>,
        /// Of clusters resolved by DNS.
        dns_refresh_rate: Duration = Duration::from_secs(60),
        /// Path, such as `/dev/stdout`; empty means no access log.
        access_log_file: String,
        /// Format string or JSON object; empty means Istio's.
        access_log_format: String,
        /// Lines of text or of JSON.
        access_log_encoding: AccessLogEncoding,
        /// Preference by place.
        locality_lb_setting: LocalityLbSetting = LocalityLbSetting { enabled: Some(true), ..LocalityLbSetting::default() },
        /// HTTP/1 to HTTP/2 between proxies.
        h2_upgrade_policy: MeshH2UpgradePolicy,
        /// What proxies make of odd paths before they match.
        path_normalization: PathNormalization,
        /// Namespaces the mesh reads; empty means all.
        discovery_selectors: Vec<LabelSelector>,
        /// Unset means Istio's built-in policy.
        default_http_retry_policy: Option<HttpRetry>,
        /// Hosts that stay within their cluster.
        service_settings: Vec<ServiceSettings>,
        /// Pattern of inbound clusters' statistics; empty means the cluster's name.
        inbound_cluster_stat_name: String,
        /// Pattern of outbound clusters' statistics; empty means the cluster's name.
        outbound_cluster_stat_name: String,
        ..[
            "accessLogService", "ca", "caCertificates", "certificates", "configSources", "defaultConfig",
            "defaultInboundHttpRetryPolicy", "defaultProviders", "defaultTrafficPolicy",
            "disableEnvoyListenerLog", "dnsRefreshRateSeconds", "enableEnvoyAccessLogService",
            "enablePrometheusMerge", "enableTracing", "extensionProviders", "hboneIdleTimeout",
            "ingressClass", "ingressControllerMode", "ingressSelector", "ingressService", "meshMTLS",
            "proxyInboundListenPortName", "serviceEntryVisibility", "serviceScopeConfigs", "thriftConfig",
            "tlsDefaults", "verifyCertificateAtClient",
        ]
    }

    /// Destinations the mesh does not know.
    strict struct OutboundTrafficPolicy {
        /// Whether they are reachable.
        mode: OutboundMode,
    }

    /// Ports no service declares.
    strict struct InboundTrafficPolicy {
        /// Where connections to them go.
        mode: InboundMode,
    }

    /// What proxies make of odd paths before they match.
    strict struct PathNormalization {
        /// How far they go.
        normalization: NormalizationType,
    }

    /// Settings of some hosts.
    strict struct ServiceSettings {
        /// What is set.
        settings: ServiceSettingsValues,
        /// For which hosts; `*` in front.
        hosts: Vec<String>,
    }

    /// What is set for hosts.
    strict struct ServiceSettingsValues {
        /// They stay within their cluster.
        cluster_local: bool,
    }
}

choice! {
    /// Whether unknown destinations are reachable.
    enum OutboundMode {
        /// Yes, as they are.
        AllowAny = "ALLOW_ANY",
        /// No.
        RegistryOnly = "REGISTRY_ONLY",
        /// Yes, hosts resolved by the proxy.
        AllowAnyDynamicDns = "ALLOW_ANY_DYNAMIC_DNS",
    }

    /// Where connections to undeclared ports go.
    enum InboundMode {
        /// To the pod's own address.
        Passthrough = "PASSTHROUGH",
        /// To the loopback address.
        Localhost = "LOCALHOST",
    }

    /// Lines of text or of JSON.
    enum AccessLogEncoding {
        /// Text.
        Text = "TEXT",
        /// JSON.
        Json = "JSON",
    }

    /// The mesh's word on HTTP/1 to HTTP/2.
    enum MeshH2UpgradePolicy {
        /// No.
        DoNotUpgrade = "DO_NOT_UPGRADE",
        /// Yes.
        Upgrade = "UPGRADE",
    }

    /// How far proxies normalise paths.
    enum NormalizationType {
        /// As BASE.
        Default = "DEFAULT",
        /// Not at all.
        None = "NONE",
        /// RFC 3986.
        Base = "BASE",
        /// And adjacent slashes become one.
        MergeSlashes = "MERGE_SLASHES",
        /// And escaped slashes are slashes.
        DecodeAndMergeSlashes = "DECODE_AND_MERGE_SLASHES",
    }
}
