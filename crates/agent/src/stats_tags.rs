//! How Envoy's dotted stat names become Prometheus labels.
//!
//! Service hosts are full of dots, so the control plane ends the stat name of a cluster, listener or
//! connection manager with `;`, and these expressions read up to it. The first group of each is cut
//! from the name, the second is the label's value.
//!
//! Every name goes through every expression that its beginning does not rule out, when the stat is made; a cluster has more
//! than a hundred. So each begins with the literal that Envoy looks for first, none goes back in what it has read, and
//! response codes, which end a name, are left to Envoy's own extractors: as expressions they cost a sidecar
//! with 40 clusters more than all else of its start.

use serde_json::{Value, json};

const TAGS: [(&str, &str); 5] = [
    ("cluster_name", r"^cluster\.(([^;]+);\.)"),
    ("http_conn_manager_prefix", r"^http\.(([^;]+);\.)"),
    ("tcp_prefix", r"^tcp\.(([^;]+);\.)"),
    // Listeners are named by their address, in which Envoy writes `:` as `_`.
    ("listener_address", r"^listener\.(([_.\[\]\da-fA-F]+_\d+);?\.)"),
    ("worker_id", r"^listener_manager\.(worker_(\d+)\.)"),
];

/// Envoy's own, by name.
const BUILT_IN: [&str; 2] = ["envoy.response_code", "envoy.response_code_class"];

/// The `stats_config` of the bootstrap. Envoy's other default extractors are off: they cut cluster names at
/// the first dot.
pub fn stats_config() -> Value {
    let ours = TAGS.iter().map(|(name, regex)| json!({"tag_name": name, "regex": regex}));
    let tags: Vec<Value> = ours.chain(BUILT_IN.iter().map(|name| json!({"tag_name": name}))).collect();
    json!({"use_all_default_tags": false, "stats_tags": tags})
}
