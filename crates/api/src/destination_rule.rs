//! Istio's DestinationRule (networking.istio.io): how connections to a host are made.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::schema::{choice, schema};
use crate::virtual_service::PortSelector;

schema! {
    /// Policies and subsets of a host.
    strict struct DestinationRule {
        /// As written: short, fully qualified, or with a `*` in front.
        host: String,
        /// For every subset and port, unless they say otherwise.
        traffic_policy: Option<TrafficPolicy>,
        /// Named parts of the host's endpoints.
        subsets: Vec<Subset>,
        /// Namespaces that see this; empty means the mesh's default.
        export_to: Vec<String>,
        /// Only for client workloads with these labels.
        workload_selector: Option<MatchLabelsSelector>,
    }

    /// Selects workloads of its namespace by labels.
    strict struct MatchLabelsSelector {
        /// All of these.
        match_labels: BTreeMap<String, String>,
    }

    /// A named part of a host's endpoints.
    strict struct Subset {
        /// Its name.
        name: String,
        /// Endpoints with all of these labels.
        labels: BTreeMap<String, String>,
        /// Overrides the rule's, field by field.
        traffic_policy: Option<TrafficPolicy>,
    }

    /// How connections are made.
    strict struct TrafficPolicy {
        /// Choice of endpoint.
        load_balancer: Option<LoadBalancerSettings>,
        /// Limits.
        connection_pool: Option<ConnectionPoolSettings>,
        /// Ejection of endpoints that fail.
        outlier_detection: Option<OutlierDetection>,
        /// TLS toward the endpoints.
        tls: Option<ClientTlsSettings>,
        /// Overrides by port, each of its settings whole.
        port_level_settings: Vec<PortTrafficPolicy>,
        /// Through another proxy.
        tunnel: Option<TunnelSettings>,
        /// PROXY protocol toward the endpoints.
        proxy_protocol: Option<ProxyProtocol>,
        /// Bounds retries to a share of requests.
        retry_budget: Option<RetryBudget>,
    }

    /// How connections to one port are made.
    strict struct PortTrafficPolicy {
        /// Which port.
        port: Option<PortSelector>,
        /// Choice of endpoint.
        load_balancer: Option<LoadBalancerSettings>,
        /// Limits.
        connection_pool: Option<ConnectionPoolSettings>,
        /// Ejection of endpoints that fail.
        outlier_detection: Option<OutlierDetection>,
        /// TLS toward the endpoints.
        tls: Option<ClientTlsSettings>,
    }

    /// Choice of endpoint: `simple` or `consistent_hash`.
    strict struct LoadBalancerSettings {
        /// A standard algorithm.
        simple: Option<SimpleLb>,
        /// By hash of a part of the request.
        consistent_hash: Option<ConsistentHashLb>,
        /// Overrides the mesh's.
        locality_lb_setting: Option<LocalityLbSetting>,
        /// Deprecated form of `warmup.duration`.
        warmup_duration_secs: Option<Duration>,
        /// Slow start.
        warmup: Option<WarmupConfiguration>,
        ..["zoneAwareLbSetting"]
    }

    /// Choice by hash: one key of four, one algorithm of two.
    strict struct ConsistentHashLb {
        /// Key: this header.
        http_header_name: Option<String>,
        /// Key: this cookie, set if absent.
        http_cookie: Option<HttpCookie>,
        /// Key: the client's address.
        use_source_ip: Option<bool>,
        /// Key: this query parameter.
        http_query_parameter_name: Option<String>,
        /// Algorithm: ring hash (the default).
        ring_hash: Option<RingHash>,
        /// Algorithm: Maglev.
        maglev: Option<Maglev>,
        /// Deprecated form of `ring_hash.minimum_ring_size`; 0 means unset.
        minimum_ring_size: u64,
    }

    /// A cookie to hash.
    strict struct HttpCookie {
        /// Its name.
        name: String,
        /// Its path, when the proxy sets it.
        path: String,
        /// Its life, when the proxy sets it; zero is a session cookie, unset never sets it.
        ttl: Option<Duration>,
        /// More attributes, when the proxy sets it.
        attributes: Vec<HttpCookieAttribute>,
    }

    /// An attribute of a cookie.
    strict struct HttpCookieAttribute {
        /// Its name.
        name: String,
        /// Its value; may be empty.
        value: String,
    }

    /// Ring hash.
    strict struct RingHash {
        /// Least number of virtual nodes; 0 means 1024.
        minimum_ring_size: u64,
    }

    /// Maglev.
    strict struct Maglev {
        /// Prime; 0 means 65537.
        table_size: u64,
    }

    /// Slow start of new endpoints.
    strict struct WarmupConfiguration {
        /// How long.
        duration: Option<Duration>,
        /// Share of its weight a new endpoint starts with; unset means 10.
        minimum_percent: Option<f64>,
        /// Exponent of the ramp, at least 1; unset means 1.
        aggression: Option<f64>,
    }

    /// Preference by place: `distribute`, `failover` or `failover_priority`.
    strict struct LocalityLbSetting {
        /// Fixed shares by origin.
        distribute: Vec<LocalityDistribute>,
        /// Where a region's traffic goes when it fails.
        failover: Vec<LocalityFailover>,
        /// Labels whose agreement makes an endpoint near, in order.
        failover_priority: Vec<String>,
        /// Unset means the mesh's.
        enabled: Option<bool>,
    }

    /// Shares of one origin.
    strict struct LocalityDistribute {
        /// `region/zone/subzone`, `*` for any.
        from: String,
        /// Percent by locality; the sum is 100.
        to: BTreeMap<String, u32>,
    }

    /// Failover between regions.
    strict struct LocalityFailover {
        /// The region that fails.
        from: String,
        /// The region that takes over.
        to: String,
    }

    /// Limits.
    strict struct ConnectionPoolSettings {
        /// Of connections.
        tcp: Option<TcpSettings>,
        /// Of requests.
        http: Option<HttpSettings>,
    }

    /// Limits of connections.
    strict struct TcpSettings {
        /// 0 means the default, which is none.
        max_connections: u32,
        /// Unset means the mesh's.
        connect_timeout: Option<Duration>,
        /// Unset means the mesh's.
        tcp_keepalive: Option<TcpKeepalive>,
        /// Age at which a connection is closed.
        max_connection_duration: Option<Duration>,
        /// Unset means one hour.
        idle_timeout: Option<Duration>,
    }

    /// TCP keep-alive.
    strict struct TcpKeepalive {
        /// 0 means the system's.
        probes: u32,
        /// Idle time before the first probe; unset means the system's.
        time: Option<Duration>,
        /// Between probes; unset means the system's.
        interval: Option<Duration>,
    }

    /// Limits of requests.
    strict struct HttpSettings {
        /// 0 means the default.
        http1_max_pending_requests: u32,
        /// 0 means the default.
        http2_max_requests: u32,
        /// 0 means no limit.
        max_requests_per_connection: u32,
        /// 0 means the default.
        max_retries: u32,
        /// Unset means one hour.
        idle_timeout: Option<Duration>,
        /// HTTP/1 to HTTP/2 between proxies.
        h2_upgrade_policy: H2UpgradePolicy,
        /// Keep the protocol the client spoke.
        use_client_protocol: bool,
        /// 0 means the default.
        max_concurrent_streams: u32,
        /// HTTP/2 PING.
        http2_keep_alive: Option<Http2KeepAlive>,
    }

    /// HTTP/2 PING.
    strict struct Http2KeepAlive {
        /// Between pings.
        interval: Option<Duration>,
        /// Without an answer for this long the connection is closed.
        timeout: Option<Duration>,
    }

    /// Ejection of endpoints that fail.
    strict struct OutlierDetection {
        /// Deprecated, without effect beside `consecutive_5xx_errors`.
        consecutive_errors: i32,
        /// Tell local faults (connect, timeout) from answers.
        split_external_local_origin_errors: bool,
        /// Unset means 5.
        consecutive_local_origin_failures: Option<u32>,
        /// 502, 503, 504 in a row; unset or 0 means off.
        consecutive_gateway_errors: Option<u32>,
        /// 5xx in a row; unset means 5, 0 off.
        consecutive_5xx_errors: Option<u32>,
        /// Between sweeps; unset means 10 s.
        interval: Option<Duration>,
        /// Times the number of ejections; unset means 30 s.
        base_ejection_time: Option<Duration>,
        /// Of a host's endpoints, in percent; 0 means 10.
        max_ejection_percent: u32,
        /// Below this share of healthy endpoints nothing is ejected; in percent.
        min_health_percent: u32,
        ..["outlierDetectionHttpErrorCodes"]
    }

    /// TLS toward the endpoints.
    strict struct ClientTlsSettings {
        /// Which kind.
        mode: ClientTlsMode,
        /// File with the client's certificate.
        client_certificate: String,
        /// File with its key.
        private_key: String,
        /// File with the roots to trust.
        ca_certificates: String,
        /// Secret with all three; excludes the files.
        credential_name: String,
        /// Names one of which the server must prove.
        subject_alt_names: Vec<String>,
        /// Server name to send; empty means none.
        sni: String,
        /// Trust any server.
        insecure_skip_verify: Option<bool>,
        /// File with revoked certificates.
        ca_crl: String,
    }

    /// Through another proxy.
    strict struct TunnelSettings {
        /// `CONNECT` (also when empty) or `POST`.
        protocol: String,
        /// What to ask that proxy for.
        target_host: String,
        /// What to ask that proxy for.
        target_port: u16,
    }

    /// PROXY protocol toward the endpoints.
    strict struct ProxyProtocol {
        /// Which version.
        version: ProxyProtocolVersion,
    }

    /// Bounds retries to a share of requests.
    strict struct RetryBudget {
        /// Of active and pending requests, in percent; unset means 20.
        percent: Option<f64>,
        /// Always allowed; 0 means 3.
        min_retry_concurrency: u32,
        /// Unset means only requests in flight count.
        budget_interval: Option<Duration>,
    }
}

choice! {
    /// A standard algorithm.
    enum SimpleLb {
        /// Istio's choice: least request.
        Unspecified = "UNSPECIFIED",
        /// Deprecated name of `LEAST_REQUEST`.
        LeastConn = "LEAST_CONN",
        /// Any.
        Random = "RANDOM",
        /// To the address the client asked for.
        Passthrough = "PASSTHROUGH",
        /// In turn.
        RoundRobin = "ROUND_ROBIN",
        /// The idler of two.
        LeastRequest = "LEAST_REQUEST",
    }

    /// HTTP/1 to HTTP/2 between proxies.
    enum H2UpgradePolicy {
        /// The mesh's.
        Default = "DEFAULT",
        /// No.
        DoNotUpgrade = "DO_NOT_UPGRADE",
        /// Yes.
        Upgrade = "UPGRADE",
    }

    /// Which kind of TLS toward the endpoints.
    enum ClientTlsMode {
        /// None.
        Disable = "DISABLE",
        /// The server proves itself.
        Simple = "SIMPLE",
        /// Both do, with the given certificates.
        Mutual = "MUTUAL",
        /// Both do, with the mesh's certificates.
        IstioMutual = "ISTIO_MUTUAL",
    }

    /// Version of the PROXY protocol.
    enum ProxyProtocolVersion {
        /// Text.
        V1 = "V1",
        /// Binary.
        V2 = "V2",
    }
}
