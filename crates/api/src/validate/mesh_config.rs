//! Rules of a MeshConfig.

use std::time::Duration;

use crate::decode::At;
use crate::hosts::is_mixed_label;
use crate::mesh_config::MeshConfig;
use crate::validate::{http_route, load_balancer, rules};

/// Operators of a label selector of Kubernetes.
const OPERATORS: [&str; 4] = ["In", "NotIn", "Exists", "DoesNotExist"];

/// Complains about settings no mesh can have.
pub(crate) fn check(at: &At<'_>, config: &MeshConfig) {
    rules::port(&at.field("proxyListenPort"), config.proxy_listen_port);
    rules::port(&at.field("proxyInboundListenPort"), config.proxy_inbound_listen_port);
    if !(Duration::from_millis(1)..=Duration::from_secs(30)).contains(&config.connect_timeout) {
        at.field("connectTimeout").refuse("1ms to 30s");
    }
    // 0 means: wait for ever.
    let detection = Some(config.protocol_detection_timeout).filter(|timeout| !timeout.is_zero());
    rules::duration(&at.field("protocolDetectionTimeout"), detection);
    rules::duration(&at.field("dnsRefreshRate"), Some(config.dns_refresh_rate));
    load_balancer::locality_lb(&at.field("localityLbSetting"), &config.locality_lb_setting, true);
    trust_domain(&at.field("trustDomain"), &config.trust_domain);
    for (index, domain) in config.trust_domain_aliases.iter().enumerate() {
        let list = at.field("trustDomainAliases");
        trust_domain(&list.item(index), domain);
    }
    if !config.root_namespace.is_empty() && !crate::hosts::is_label(&config.root_namespace) {
        at.field("rootNamespace").refuse("a namespace");
    }
    if let Some(policy) = &config.default_http_retry_policy {
        http_route::retries(&at.field("defaultHttpRetryPolicy"), policy);
    }
    let selectors = at.field("discoverySelectors");
    for (index, selector) in config.discovery_selectors.iter().enumerate() {
        let conditions = selectors.item(index);
        let conditions = conditions.field("matchExpressions");
        for (index, condition) in selector.match_expressions.iter().enumerate() {
            if !OPERATORS.contains(&condition.operator.as_str()) {
                conditions.item(index).field("operator").refuse(OPERATORS.join(", "));
            }
        }
    }
    for (index, settings) in config.service_settings.iter().enumerate() {
        let list = at.field("serviceSettings");
        let item = list.item(index);
        for (index, host) in settings.hosts.iter().enumerate() {
            rules::wildcard_host(&item.field("hosts").item(index), host);
        }
    }
}

fn trust_domain(at: &At<'_>, domain: &str) {
    let name = domain.strip_suffix('.').unwrap_or(domain);
    if name.is_empty() || !name.split('.').all(is_mixed_label) {
        at.refuse("labels of letters, digits and - with dots between them");
    }
}
