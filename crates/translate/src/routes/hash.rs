//! Where the endpoint is chosen by a hash of the request: DestinationRule `consistentHash`.

use envoy_types::pb::envoy::config::route::v3::route_action::HashPolicy;
use envoy_types::pb::envoy::config::route::v3::route_action::hash_policy::{
    ConnectionProperties, Cookie, CookieAttribute, Header, PolicySpecifier, QueryParameter,
};
use ostro_api::destination_rule::{ConsistentHashLb, HttpCookie};
use ostro_mesh::View;
use ostro_mesh::model::Service;

use crate::encode::duration;
use crate::policy::{self, Policy};

/// What requests for a port of `service` are hashed by, if the rule in force chooses endpoints by hash.
pub fn policy(view: &View<'_>, service: &Service, port: u16, subset: &str) -> Option<HashPolicy> {
    let rule = view.traffic_rule(service)?;
    let policy = Policy::of(&rule.spec, policy::subset(&rule.spec, subset), port);
    hash_policy(policy.load_balancer?.consistent_hash.as_ref()?)
}

fn hash_policy(rule: &ConsistentHashLb) -> Option<HashPolicy> {
    let specifier = if let Some(name) = &rule.http_header_name {
        PolicySpecifier::Header(Header { header_name: name.clone(), ..Default::default() })
    } else if let Some(cookie) = &rule.http_cookie {
        PolicySpecifier::Cookie(self::cookie(cookie))
    } else if let Some(name) = &rule.http_query_parameter_name {
        PolicySpecifier::QueryParameter(QueryParameter { name: name.clone() })
    } else if rule.use_source_ip == Some(true) {
        PolicySpecifier::ConnectionProperties(ConnectionProperties { source_ip: true })
    } else {
        return None;
    };
    Some(HashPolicy { policy_specifier: Some(specifier), ..Default::default() })
}

fn cookie(rule: &HttpCookie) -> Cookie {
    let attribute = |attribute: &ostro_api::destination_rule::HttpCookieAttribute| CookieAttribute {
        name: attribute.name.clone(),
        value: attribute.value.clone(),
    };
    Cookie {
        name: rule.name.clone(),
        ttl: rule.ttl.and_then(duration),
        path: rule.path.clone(),
        attributes: rule.attributes.iter().map(attribute).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_policy_and_no_key_has_none() {
        let none = ConsistentHashLb { use_source_ip: Some(false), ..Default::default() };
        assert_eq!(hash_policy(&none), None);
        let source = ConsistentHashLb { use_source_ip: Some(true), ..Default::default() };
        let cookie = ConsistentHashLb {
            http_cookie: Some(HttpCookie { name: "user".into(), path: "/".into(), ..Default::default() }),
            ..Default::default()
        };
        let query = ConsistentHashLb { http_query_parameter_name: Some("q".into()), ..Default::default() };
        for rule in [source, cookie, query] {
            assert!(hash_policy(&rule).is_some(), "{rule:?}");
        }
    }
}
