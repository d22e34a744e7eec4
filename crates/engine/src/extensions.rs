//! The extensions that this engine has, by the names and categories of Envoy's registry: what a proxy tells of itself
//! (`node.extensions`), so that control planes send what it can take.

/// An extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extension {
    /// What kind of extension it is (`envoy.filters.http`).
    pub category: &'static str,
    /// Its name.
    pub name: &'static str,
}

const ALL: &[(&str, &[&str])] = &[
    (
        "envoy.access_loggers",
        &["envoy.access_loggers.file", "envoy.access_loggers.stderr", "envoy.access_loggers.stdout"],
    ),
    ("envoy.bootstrap", &["envoy.bootstrap.internal_listener"]),
    (
        "envoy.clusters",
        &[
            "envoy.cluster.eds",
            "envoy.cluster.logical_dns",
            "envoy.cluster.original_dst",
            "envoy.cluster.static",
            "envoy.cluster.strict_dns",
            "envoy.clusters.dns",
        ],
    ),
    (
        "envoy.filters.http",
        &[
            "envoy.filters.http.cors",
            "envoy.filters.http.fault",
            "envoy.filters.http.grpc_stats",
            "envoy.filters.http.grpc_web",
            "envoy.filters.http.header_mutation",
            "envoy.filters.http.istio_stats",
            "envoy.filters.http.on_demand",
            "envoy.filters.http.peer_metadata",
            "envoy.filters.http.router",
            "envoy.filters.http.set_filter_state",
            "istio.alpn",
        ],
    ),
    (
        "envoy.filters.listener",
        &[
            "envoy.filters.listener.http_inspector",
            "envoy.filters.listener.original_dst",
            "envoy.filters.listener.proxy_protocol",
            "envoy.filters.listener.tls_inspector",
        ],
    ),
    (
        "envoy.filters.network",
        &[
            "envoy.filters.network.http_connection_manager",
            "envoy.filters.network.istio_stats",
            "envoy.filters.network.metadata_exchange",
            "envoy.filters.network.set_filter_state",
            "envoy.filters.network.tcp_proxy",
        ],
    ),
    ("envoy.filters.upstream_network", &["envoy.filters.network.upstream.metadata_exchange"]),
    (
        "envoy.load_balancing_policies",
        &[
            "envoy.load_balancing_policies.cluster_provided",
            "envoy.load_balancing_policies.least_request",
            "envoy.load_balancing_policies.maglev",
            "envoy.load_balancing_policies.random",
            "envoy.load_balancing_policies.ring_hash",
            "envoy.load_balancing_policies.round_robin",
            "envoy.load_balancing_policies.wrr_locality",
        ],
    ),
    ("envoy.request_id", &["envoy.request_id.uuid"]),
    ("envoy.resource_monitors", &["envoy.resource_monitors.global_downstream_max_connections"]),
    ("envoy.retry_host_predicates", &["envoy.retry_host_predicates.previous_hosts"]),
    ("envoy.retry_priorities", &["envoy.retry_priorities.previous_priorities"]),
    ("envoy.transport_sockets.downstream", &["envoy.transport_sockets.raw_buffer"]),
    ("envoy.transport_sockets.upstream", &["envoy.transport_sockets.raw_buffer"]),
    ("envoy.upstream_options", &["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"]),
];

/// All of them, in order of categories and names.
pub fn extensions() -> impl Iterator<Item = Extension> {
    ALL.iter().flat_map(|(category, names)| names.iter().map(|name| Extension { category, name }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_in_order_and_each_is_there_once() {
        let all: Vec<_> = extensions().map(|extension| (extension.category, extension.name)).collect();
        assert!(all.is_sorted_by(|one, next| one < next), "{all:?}");
    }
}
