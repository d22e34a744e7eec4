//! Which of a DestinationRule's settings hold for one cluster: the subset's over the rule's own, field by field;
//! `portLevelSettings` replace what they can set, as DestinationRule documents it.
//!
//! What it is not: the choice of the rule, which is `mesh`'s.

use ostro_api::destination_rule::{
    ClientTlsSettings, ConnectionPoolSettings, DestinationRule, LoadBalancerSettings, OutlierDetection,
    PortTrafficPolicy, ProxyProtocol, RetryBudget, Subset, TrafficPolicy, TunnelSettings,
};

/// The settings in force for one port of one subset.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Policy<'a> {
    pub load_balancer: Option<&'a LoadBalancerSettings>,
    pub connection_pool: Option<&'a ConnectionPoolSettings>,
    pub outlier_detection: Option<&'a OutlierDetection>,
    pub tls: Option<&'a ClientTlsSettings>,
    pub tunnel: Option<&'a TunnelSettings>,
    pub proxy_protocol: Option<&'a ProxyProtocol>,
    pub retry_budget: Option<&'a RetryBudget>,
}

impl<'a> Policy<'a> {
    /// The settings of `rule` for `port`, seen through `subset`.
    pub fn of(rule: &'a DestinationRule, subset: Option<&'a Subset>, port: u16) -> Self {
        let mut policy = Policy::default();
        let own = subset.and_then(|subset| subset.traffic_policy.as_ref());
        for layer in [rule.traffic_policy.as_ref(), own].into_iter().flatten() {
            policy.overlay(layer);
            policy.replace_for_port(layer, port);
        }
        policy
    }

    /// What a layer sets overrides what is below, field by field.
    fn overlay(&mut self, layer: &'a TrafficPolicy) {
        self.load_balancer = layer.load_balancer.as_ref().or(self.load_balancer);
        self.connection_pool = layer.connection_pool.as_ref().or(self.connection_pool);
        self.outlier_detection = layer.outlier_detection.as_ref().or(self.outlier_detection);
        self.tls = layer.tls.as_ref().or(self.tls);
        self.tunnel = layer.tunnel.as_ref().or(self.tunnel);
        self.proxy_protocol = layer.proxy_protocol.as_ref().or(self.proxy_protocol);
        self.retry_budget = layer.retry_budget.as_ref().or(self.retry_budget);
    }

    /// A port's settings replace all four they can set; what they leave unset is unset, not inherited.
    fn replace_for_port(&mut self, layer: &'a TrafficPolicy, port: u16) {
        let applies =
            |settings: &&PortTrafficPolicy| settings.port.as_ref().is_some_and(|p| p.number == port);
        if let Some(settings) = layer.port_level_settings.iter().find(applies) {
            self.load_balancer = settings.load_balancer.as_ref();
            self.connection_pool = settings.connection_pool.as_ref();
            self.outlier_detection = settings.outlier_detection.as_ref();
            self.tls = settings.tls.as_ref();
        }
    }
}

/// The subset called `name`; the first of several.
pub fn subset<'a>(rule: &'a DestinationRule, name: &str) -> Option<&'a Subset> {
    rule.subsets.iter().find(|subset| subset.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ostro_api::destination_rule::{SimpleLb, TcpSettings};
    use ostro_api::virtual_service::PortSelector;

    fn balancer(simple: SimpleLb) -> Option<LoadBalancerSettings> {
        Some(LoadBalancerSettings { simple: Some(simple), ..Default::default() })
    }

    fn pool(max_connections: u32) -> Option<ConnectionPoolSettings> {
        Some(ConnectionPoolSettings {
            tcp: Some(TcpSettings { max_connections, ..Default::default() }),
            http: None,
        })
    }

    fn port(number: u16, simple: SimpleLb) -> PortTrafficPolicy {
        PortTrafficPolicy {
            port: Some(PortSelector { number }),
            load_balancer: balancer(simple),
            ..Default::default()
        }
    }

    fn rule() -> DestinationRule {
        DestinationRule {
            host: "a".into(),
            traffic_policy: Some(TrafficPolicy {
                load_balancer: balancer(SimpleLb::Random),
                connection_pool: pool(7),
                port_level_settings: vec![port(80, SimpleLb::RoundRobin)],
                ..Default::default()
            }),
            subsets: vec![
                Subset { name: "plain".into(), ..Default::default() },
                Subset {
                    name: "own".into(),
                    traffic_policy: Some(TrafficPolicy {
                        connection_pool: pool(9),
                        port_level_settings: vec![port(81, SimpleLb::LeastRequest)],
                        ..Default::default()
                    }),
                    ..Default::default()
                },
            ],
            ..Default::default()
        }
    }

    #[test]
    fn layers_override_by_field_and_ports_replace_whole() {
        use SimpleLb::{LeastRequest, Random, RoundRobin};
        // (subset, port) -> balancer, connections
        let cases = [
            ("", 79, Some(Random), Some(7)),
            ("", 80, Some(RoundRobin), None),
            ("plain", 79, Some(Random), Some(7)),
            ("plain", 80, Some(RoundRobin), None),
            ("own", 79, Some(Random), Some(9)),
            ("own", 80, Some(RoundRobin), Some(9)),
            ("own", 81, Some(LeastRequest), None),
        ];
        let rule = rule();
        for (name, port, simple, connections) in cases {
            let policy = Policy::of(&rule, subset(&rule, name), port);
            assert_eq!(policy.load_balancer.and_then(|lb| lb.simple), simple, "{name} {port}");
            let got = policy.connection_pool.and_then(|p| p.tcp.as_ref()).map(|tcp| tcp.max_connections);
            assert_eq!(got, connections, "{name} {port}");
        }
    }
}
