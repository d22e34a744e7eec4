//! Rules of a DestinationRule.

use crate::decode::At;
use crate::destination_rule::{
    ClientTlsMode, ClientTlsSettings, ConnectionPoolSettings, DestinationRule, H2UpgradePolicy, HttpSettings,
    OutlierDetection, PortTrafficPolicy, RetryBudget, TcpSettings, TrafficPolicy, TunnelSettings,
};
use crate::hosts::{check_labels, is_host};
use crate::object::Meta;
use crate::validate::{load_balancer, rules};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// `maxRequestsPerConnection` of Istio's schema.
const REQUESTS_PER_CONNECTION: u32 = 1 << 29;

pub(super) fn check(at: &At<'_>, meta: &Meta, rule: &DestinationRule) {
    rules::wildcard_host(&at.field("host"), &rule.host);
    if let Some(policy) = &rule.traffic_policy {
        traffic_policy(&at.field("trafficPolicy"), policy);
    }
    let list = at.field("subsets");
    let mut names = BTreeSet::new();
    for (index, subset) in rule.subsets.iter().enumerate() {
        let item = list.item(index);
        let name = item.field("name");
        rules::subset_name(&name, &subset.name);
        if !names.insert(&subset.name) {
            name.complain(
                format!("{:?} for the second time", subset.name),
                "names of which each is used once",
            );
        }
        check_labels(&item.field("labels"), &subset.labels);
        if let Some(policy) = &subset.traffic_policy {
            traffic_policy(&item.field("trafficPolicy"), policy);
        }
    }
    let export = rules::Export { nobody: false, own_only: rule.workload_selector.is_some() };
    rules::export_to(&at.field("exportTo"), meta, &rule.export_to, &export);
    if let Some(selector) = &rule.workload_selector {
        let at = at.field("workloadSelector");
        check_labels(&at.field("matchLabels"), &selector.match_labels);
        if selector.match_labels.is_empty() {
            at.warn("a selector without labels", "matchLabels: it holds for the whole namespace");
        }
    }
}

fn traffic_policy(at: &At<'_>, policy: &TrafficPolicy) {
    const FIELDS: [&str; 8] = [
        "loadBalancer",
        "connectionPool",
        "outlierDetection",
        "tls",
        "portLevelSettings",
        "tunnel",
        "proxyProtocol",
        "retryBudget",
    ];
    if !FIELDS.iter().any(|field| at.field(field).is_set()) {
        at.complain("an empty policy", FIELDS.join(", "));
    }
    if policy.tunnel.is_some() && policy.proxy_protocol.is_some() {
        at.field("tunnel").complain("tunnel beside proxyProtocol", "one of them");
    }
    outlier_detection(&at.field("outlierDetection"), policy.outlier_detection.as_ref());
    connection_pool(&at.field("connectionPool"), policy.connection_pool.as_ref());
    load_balancer::check(
        &at.field("loadBalancer"),
        policy.load_balancer.as_ref(),
        policy.outlier_detection.is_some(),
    );
    tls(&at.field("tls"), policy.tls.as_ref());
    port_level(&at.field("portLevelSettings"), &policy.port_level_settings);
    if let Some(settings) = &policy.tunnel {
        tunnel(&at.field("tunnel"), settings);
    }
    if let Some(budget) = &policy.retry_budget {
        retry_budget(&at.field("retryBudget"), budget);
    }
}

fn port_level(list: &At<'_>, settings: &[PortTrafficPolicy]) {
    let mut ports = BTreeSet::new();
    for (index, policy) in settings.iter().enumerate() {
        let item = list.item(index);
        let number = policy.port.as_ref().map_or(0, |port| port.number);
        let port = item.field("port");
        rules::port(&port.field("number"), number);
        if number > 0 && !ports.insert(number) {
            port.field("number").warn(format!("the port {number} for the second time"), "each port once");
        }
        if ["loadBalancer", "connectionPool", "outlierDetection", "tls"]
            .iter()
            .all(|f| !item.field(f).is_set())
        {
            item.complain("an empty policy", "loadBalancer, connectionPool, outlierDetection, tls");
        }
        outlier_detection(&item.field("outlierDetection"), policy.outlier_detection.as_ref());
        connection_pool(&item.field("connectionPool"), policy.connection_pool.as_ref());
        let has_outlier = policy.outlier_detection.is_some();
        load_balancer::check(&item.field("loadBalancer"), policy.load_balancer.as_ref(), has_outlier);
        tls(&item.field("tls"), policy.tls.as_ref());
    }
}

fn outlier_detection(at: &At<'_>, outlier: Option<&OutlierDetection>) {
    let Some(outlier) = outlier else { return };
    rules::duration(&at.field("interval"), outlier.interval);
    rules::duration(&at.field("baseEjectionTime"), outlier.base_ejection_time);
    rules::percent(&at.field("maxEjectionPercent"), outlier.max_ejection_percent);
    rules::percent(&at.field("minHealthPercent"), outlier.min_health_percent);
    if outlier.consecutive_errors != 0 {
        let allowed = "consecutiveGatewayErrors or consecutive5xxErrors";
        at.field("consecutiveErrors").warn("consecutiveErrors, which is deprecated", allowed);
    }
    if outlier.consecutive_local_origin_failures.unwrap_or(0) > 0
        && !outlier.split_external_local_origin_errors
    {
        at.field("consecutiveLocalOriginFailures").complain(
            "consecutiveLocalOriginFailures without splitExternalLocalOriginErrors",
            "splitExternalLocalOriginErrors: true beside it",
        );
    }
}

fn connection_pool(at: &At<'_>, pool: Option<&ConnectionPoolSettings>) {
    let Some(pool) = pool else { return };
    if pool.tcp.is_none() && pool.http.is_none() {
        at.complain("an empty connection pool", "tcp, http");
    }
    if let Some(tcp) = &pool.tcp {
        tcp_settings(&at.field("tcp"), tcp);
    }
    if let Some(http) = &pool.http {
        http_settings(&at.field("http"), http);
    }
}

fn signed(at: &At<'_>, name: &str, value: u32) {
    if i32::try_from(value).is_err() {
        at.field(name).refuse("0 to 2147483647");
    }
}

fn tcp_settings(at: &At<'_>, tcp: &TcpSettings) {
    signed(at, "maxConnections", tcp.max_connections);
    rules::duration(&at.field("connectTimeout"), tcp.connect_timeout);
    rules::duration(&at.field("maxConnectionDuration"), tcp.max_connection_duration);
    // 0 turns the timeout off.
    rules::duration(&at.field("idleTimeout"), tcp.idle_timeout.filter(|timeout| !timeout.is_zero()));
    if let Some(keepalive) = &tcp.tcp_keepalive {
        let at = at.field("tcpKeepalive");
        rules::duration(&at.field("time"), keepalive.time);
        rules::duration(&at.field("interval"), keepalive.interval);
    }
}

fn http_settings(at: &At<'_>, http: &HttpSettings) {
    signed(at, "http1MaxPendingRequests", http.http1_max_pending_requests);
    signed(at, "http2MaxRequests", http.http2_max_requests);
    signed(at, "maxRetries", http.max_retries);
    signed(at, "maxConcurrentStreams", http.max_concurrent_streams);
    if http.max_requests_per_connection > REQUESTS_PER_CONNECTION {
        at.field("maxRequestsPerConnection").refuse(format!("0 to {REQUESTS_PER_CONNECTION}"));
    }
    rules::duration(&at.field("idleTimeout"), http.idle_timeout);
    if http.h2_upgrade_policy == H2UpgradePolicy::Upgrade && http.use_client_protocol {
        at.field("useClientProtocol")
            .complain("useClientProtocol beside h2UpgradePolicy: UPGRADE", "one of them");
    }
    if let Some(keepalive) = &http.http2_keep_alive {
        let at = at.field("http2KeepAlive");
        for (name, value) in [("interval", keepalive.interval), ("timeout", keepalive.timeout)] {
            let at = at.field(name);
            if value.is_none() {
                at.complain("nothing", "a duration, at least 1ms");
            }
            rules::duration(&at, value);
        }
    }
}

fn tls(at: &At<'_>, tls: Option<&ClientTlsSettings>) {
    let Some(tls) = tls else { return };
    let own = matches!(tls.mode, ClientTlsMode::Simple | ClientTlsMode::Mutual);
    let files = [
        ("clientCertificate", &tls.client_certificate),
        ("privateKey", &tls.private_key),
        ("caCertificates", &tls.ca_certificates),
    ];
    if own && !tls.credential_name.is_empty() {
        for (name, file) in files {
            if !file.is_empty() {
                at.field(name).complain(format!("{name} beside credentialName"), "one of them");
            }
        }
    } else if tls.mode == ClientTlsMode::Mutual {
        for (name, file) in [("clientCertificate", &tls.client_certificate), ("privateKey", &tls.private_key)]
        {
            if file.is_empty() {
                at.field(name).complain("nothing", format!("{name} or credentialName for MUTUAL"));
            }
        }
    }
    if tls.insecure_skip_verify == Some(true) && own {
        let trusts = !tls.ca_certificates.is_empty()
            || !tls.subject_alt_names.is_empty()
            || (tls.mode == ClientTlsMode::Simple && !tls.credential_name.is_empty());
        if trusts {
            let found = "insecureSkipVerify beside something to verify";
            at.field("insecureSkipVerify").complain(found, "either what to trust, or insecureSkipVerify");
        }
    }
}

fn tunnel(at: &At<'_>, tunnel: &TunnelSettings) {
    if !matches!(tunnel.protocol.as_str(), "" | "CONNECT" | "POST") {
        at.field("protocol").refuse("CONNECT, POST");
    }
    if !is_host(&tunnel.target_host) && tunnel.target_host.parse::<IpAddr>().is_err() {
        at.field("targetHost").refuse(format!("{}; an IP address", crate::hosts::HOST));
    }
    rules::port(&at.field("targetPort"), tunnel.target_port);
}

fn retry_budget(at: &At<'_>, budget: &RetryBudget) {
    if budget.percent.is_some_and(|percent| !(0.0..=100.0).contains(&percent)) {
        at.field("percent").refuse("0 to 100");
    }
    rules::duration(&at.field("budgetInterval"), budget.budget_interval);
}
