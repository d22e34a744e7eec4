//! One proxy, described, and the bootstrap it starts from: node, static clusters and static listeners are
//! what Istio gives its sidecars.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Map, Value, json};

use crate::{ADMIN_PORT, bootstrap_static, stats_tags};

/// The personality of a proxy: the first part of its node id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Beside an application, which it serves and calls for.
    Sidecar,
    /// A gateway: no application, no captured traffic.
    Router,
}

impl Kind {
    /// As it is written in node ids.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Sidecar => "sidecar",
            Kind::Router => "router",
        }
    }
}

/// Where a proxy runs; the control plane prefers endpoints near to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Locality {
    /// Node label `topology.kubernetes.io/region`.
    pub region: String,
    /// Node label `topology.kubernetes.io/zone`.
    pub zone: String,
    /// Node label `topology.istio.io/subzone`.
    pub sub_zone: String,
}

/// Everything the bootstrap of one proxy depends on.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    /// Personality.
    pub kind: Kind,
    /// The pod's own address.
    pub ip: IpAddr,
    /// Pod name.
    pub pod: String,
    /// Pod namespace.
    pub namespace: String,
    /// The mesh's DNS domain, usually `cluster.local`.
    pub domain: String,
    /// Envoy's `node.cluster`: `<canonical or app>.<namespace>`.
    pub service_cluster: String,
    /// Where it runs.
    pub locality: Locality,
    /// Node metadata the control plane reads, beyond what the fields above already say.
    pub metadata: Map<String, Value>,
    /// The control plane's plaintext xDS address.
    pub xds: SocketAddr,
    /// The mark (`SO_MARK`) of everything the proxy sends, where capture rules know its traffic by that.
    pub mark: Option<u32>,
}

impl Bootstrap {
    /// `type~ip~pod.namespace~namespace.svc.domain`.
    pub fn node_id(&self) -> String {
        let Self { ip, pod, namespace, domain, .. } = self;
        format!("{}~{ip}~{pod}.{namespace}~{namespace}.svc.{domain}", self.kind.as_str())
    }

    /// The bootstrap as JSON.
    pub fn to_json(&self) -> Value {
        json!({
            "node": self.node(),
            "admin": {
                "address": bootstrap_static::address("127.0.0.1", ADMIN_PORT),
                // Without the flag Envoy collects heap profiles into a file it may not write.
                "profile_path": "/dev/null",
            },
            "dynamic_resources": dynamic_resources(),
            "static_resources": {
                "clusters": [
                    bootstrap_static::prometheus_cluster(),
                    bootstrap_static::agent_cluster(),
                    bootstrap_static::xds_cluster(self.xds),
                ],
                "listeners": [
                    bootstrap_static::metrics_listener(),
                    bootstrap_static::readiness_listener(),
                ],
            },
            "bootstrap_extensions": [{
                "name": "envoy.bootstrap.internal_listener",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener",
                },
            }],
            "cluster_manager": {"upstream_bind_config": {"socket_options": mark(self.mark)}},
            "overload_manager": overload_manager(),
            "layered_runtime": layered_runtime(),
            "stats_config": stats_tags::stats_config(),
        })
    }

    fn node(&self) -> Value {
        let mut metadata = self.metadata.clone();
        for (key, value) in [("NAME", self.pod.clone()), ("NAMESPACE", self.namespace.clone())] {
            metadata.insert(key.to_owned(), Value::String(value));
        }
        // A pod with several addresses tells them itself.
        metadata.entry("INSTANCE_IPS").or_insert_with(|| Value::String(self.ip.to_string()));
        let Locality { region, zone, sub_zone } = &self.locality;
        json!({
            "id": self.node_id(),
            "cluster": self.service_cluster,
            "locality": {"region": region, "zone": zone, "sub_zone": sub_zone},
            "metadata": metadata,
        })
    }
}

/// Everything else comes over one delta ADS stream. An initial fetch timeout of 0 means to wait for
/// the control plane however long it takes: a proxy that starts with half a configuration would
/// answer requests wrongly.
fn dynamic_resources() -> Value {
    let ads = json!({"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"});
    json!({
        "lds_config": ads,
        "cds_config": ads,
        "ads_config": {
            "api_type": "DELTA_GRPC",
            "transport_api_version": "V3",
            "set_node_on_first_message_only": true,
            "grpc_services": [{
                "envoy_grpc": {
                    "cluster_name": bootstrap_static::XDS_CLUSTER,
                    // A control plane that comes back should have its proxies back within a
                    // second or two; Envoy's own maximum is half a minute.
                    "retry_policy": {
                        "retry_back_off": {"base_interval": "0.2s", "max_interval": "2s"},
                    },
                },
            }],
        },
    })
}

/// Linux' numbers: level SOL_SOCKET, name SO_MARK. (A cluster's own bind configuration, as inbound ones have, replaces
/// this; those are told by their source address.)
fn mark(mark: Option<u32>) -> Value {
    let option = |mark: u32| json!({"level": 1, "name": 36, "int_value": mark, "state": "STATE_PREBIND"});
    mark.map(option).into_iter().collect()
}

/// No cap by default, but said explicitly, because Envoy warns about a limit it was never told.
fn overload_manager() -> Value {
    json!({
        "resource_monitors": [{
            "name": "envoy.resource_monitors.global_downstream_max_connections",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                "max_active_downstream_connections": i64::from(i32::MAX),
            },
        }],
    })
}

fn layered_runtime() -> Value {
    json!({
        "layers": [
            // As large as Istio lets regular expressions in routes be; Envoy's own limit is 100.
            {"name": "global config", "static_layer": {"re2.max_program_size.error_level": 32768}},
            {"name": "admin", "admin_layer": {}},
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reviews() -> Bootstrap {
        Bootstrap {
            kind: Kind::Sidecar,
            ip: "10.244.0.7".parse().unwrap(),
            pod: "reviews-v1-0".into(),
            namespace: "default".into(),
            domain: "cluster.local".into(),
            service_cluster: "reviews.default".into(),
            locality: Locality { region: "r".into(), zone: "z".into(), sub_zone: String::new() },
            metadata: json!({"LABELS": {"app": "reviews"}}).as_object().unwrap().clone(),
            xds: "10.244.0.1:15010".parse().unwrap(),
            mark: None,
        }
    }

    #[test]
    fn the_node_says_who_it_is() {
        let node = reviews().to_json()["node"].clone();
        assert_eq!(node["id"], "sidecar~10.244.0.7~reviews-v1-0.default~default.svc.cluster.local");
        assert_eq!(node["metadata"]["INSTANCE_IPS"], "10.244.0.7");
        assert_eq!(node["metadata"]["LABELS"]["app"], "reviews");
        assert_eq!(node["locality"]["zone"], "z");
    }
}
