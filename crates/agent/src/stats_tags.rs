//! How Envoy's dotted stat names become Prometheus labels.
//!
//! Service hosts are full of dots, so the control plane ends the stat name of a cluster, listener or
//! connection manager with `;`, and these expressions read up to it. The first group of each is cut
//! from the name, the second is the label's value.

use serde_json::{Value, json};

const TAGS: [(&str, &str); 7] = [
    ("cluster_name", r"^cluster\.((.+?);\.)"),
    ("http_conn_manager_prefix", r"^http\.((.+?);\.)"),
    ("tcp_prefix", r"^tcp\.((.+?);\.)"),
    // Listeners are named by their address, in which Envoy writes `:` as `_`.
    ("listener_address", r"^listener\.(([_.\[\]\da-fA-F]+_\d+);?\.)"),
    ("worker_id", r"^listener_manager\.(worker_(\d+)\.)"),
    ("response_code", r"_rq(_(\d{3}))$"),
    ("response_code_class", r"_rq(_(\dxx))$"),
];

/// The `stats_config` of the bootstrap. Envoy's default extractors are off: they cut cluster names at
/// the first dot.
pub fn stats_config() -> Value {
    let tags: Vec<Value> =
        TAGS.iter().map(|(name, regex)| json!({"tag_name": name, "regex": regex})).collect();
    json!({"use_all_default_tags": false, "stats_tags": tags})
}
