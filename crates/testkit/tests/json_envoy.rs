//! JSON as a stock Envoy reads and writes it: what it takes we take, what it refuses we refuse, and its `/config_dump` comes back
//! byte by byte from the messages we read out of it.

#![recursion_limit = "512"]
#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test by panicking")]

use envoy_types::pb::envoy::config::bootstrap::v3::Bootstrap;
use ostro_agent::{Bootstrap as Generated, Kind, Locality};
use ostro_envoy_json::{JsonReason, Style, Unknown, from_json, from_value, to_wire, write_message};
use ostro_testkit::envoy::{Envoy, Options, START_LIMIT, validate};
use serde_json::{Value, json};

const CONFIG_DUMP: &str = "envoy.admin.v3.ConfigDump";

/// A bootstrap in which many kinds of values occur.
fn motley() -> Value {
    json!({
        "node": {"id": "a", "cluster": "b", "metadata": {"n": 1.5, "big": 1e300, "l": [null, true, "x", {}], "s": {"t": "ü\n\u{1}"}}},
        "staticResources": {
            "clusters": [{
                "name": "c", "connectTimeout": "1.000001s", "type": "STRICT_DNS", "lb_policy": 1,
                "load_assignment": {"cluster_name": "c", "endpoints": [{"lb_endpoints": [
                    {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": "9"}}},
                     "load_balancing_weight": 3, "metadata": {"filter_metadata": {"istio": {"workload": "w;n"}}}},
                ]}]},
                "circuit_breakers": {"thresholds": [{"max_connections": 4294967295u32, "track_remaining": true,
                    "retry_budget": {"budget_percent": {"value": 20.5}}}]},
                "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": {"http2_protocol_options": {"connection_keepalive": {"interval": "30s", "timeout": "10s"}}}}},
                "upstream_bind_config": {"source_address": {"address": "0.0.0.0", "port_value": 0}, "freebind": false},
                "outlier_detection": {"consecutive_5xx": 0, "max_ejection_percent": 100},
            }],
            "listeners": [{
                "name": "l", "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
                "traffic_direction": "INBOUND",
                "socket_options": [{"level": 1, "name": 9, "int_value": "1", "state": "STATE_LISTENING"}, {"level": 6, "name": 1, "buf_value": "AQAAAA=="}],
                "access_log": [{"name": "f", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
                    "path": "/dev/null", "log_format": {"json_format": {"a": "%PROTOCOL%", "b": {"c": "%DURATION%"}}}}}],
                "filter_chains": [{
                    "filter_chain_match": {"prefix_ranges": [{"address_prefix": "10.0.0.0", "prefix_len": 8}], "application_protocols": ["istio", "h2"]},
                    "filters": [{"name": "h", "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                        "stat_prefix": "p", "stream_idle_timeout": "0s", "use_remote_address": false,
                        "route_config": {"name": "r", "virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [
                            {"match": {"safe_regex": {"regex": "/a.*"}}, "direct_response": {"status": 200, "body": {"inline_bytes": "_-8"}}},
                            {"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": [{"name": "c", "weight": 1}]}, "timeout": "0.5s",
                                "retry_policy": {"retry_on": "5xx", "num_retries": 0}, "hash_policy": [{"header": {"header_name": "x"}, "terminal": true}]}},
                        ]}]},
                        "http_filters": [{"name": "router", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}],
                    }}],
                }],
            }],
        },
        "layered_runtime": {"layers": [{"name": "s", "static_layer": {"re2.max_program_size.error_level": 32768, "x": {"numerator": 1, "denominator": "HUNDRED"}}}]},
        "stats_flush_interval": "60s",
    })
}

fn generated() -> Value {
    let bootstrap = Generated {
        kind: Kind::Sidecar,
        ip: "10.244.0.7".parse().unwrap(),
        pod: "reviews-v1-0".into(),
        namespace: "default".into(),
        domain: "cluster.local".into(),
        service_cluster: "reviews.default".into(),
        locality: Locality { region: "r".into(), zone: "z".into(), sub_zone: String::new() },
        metadata: json!({"LABELS": {"app": "reviews"}, "POD_PORTS": "[]"}).as_object().unwrap().clone(),
        xds: "127.0.0.1:1".parse().unwrap(),
        mark: Some(1337),
    };
    bootstrap.to_json()
}

#[test]
fn config_dump_comes_back_byte_by_byte() {
    for config in [motley(), generated()] {
        from_value::<Bootstrap>(&config, Unknown::Refuse).unwrap();
        let envoy = Envoy::start(&config, &Options::default());
        if config.get("dynamic_resources").is_none() {
            envoy.wait_ready(START_LIMIT);
        }
        let (status, text) = envoy.get("/config_dump?include_eds");
        assert_eq!(status, 200);
        let tree: Value = serde_json::from_str(&text).unwrap();
        let wire = to_wire(CONFIG_DUMP, &tree, Unknown::Refuse).unwrap();
        let mut ours = Vec::new();
        write_message(&mut ours, CONFIG_DUMP, &wire, Style::Pretty, 0).unwrap();
        // Maps have no order of their own: lines are compared, not their places.
        let lines = |text: &str| {
            let mut lines: Vec<String> =
                text.lines().map(|line| line.trim_end_matches(',').to_owned()).collect();
            lines.sort();
            lines
        };
        assert_eq!(lines(&String::from_utf8(ours).unwrap()), lines(&text));
    }
}

/// A bootstrap with one odd thing at a place.
fn with(place: &str, value: Value) -> Value {
    let mut config = motley();
    let (parent, key) = place.rsplit_once('/').unwrap();
    config.pointer_mut(parent).unwrap_or_else(|| panic!("{parent}"))[key] = value;
    config
}

#[test]
fn what_envoy_takes_we_take_and_what_it_refuses_we_refuse() {
    let cluster = "/staticResources/clusters/0";
    let cases = [
        // (where, what, whether it is taken)
        (format!("{cluster}/no_such_field"), json!(1), false),
        (format!("{cluster}/connect_timeout"), json!("1s"), true),
        (format!("{cluster}/connectTimeout"), json!("1m"), false),
        (format!("{cluster}/connectTimeout"), json!(1), false),
        (format!("{cluster}/connectTimeout"), json!({"seconds": 1}), true),
        (format!("{cluster}/connectTimeout"), json!({"hours": 1}), false),
        (format!("{cluster}/connectTimeout"), json!("1.0000000001s"), false),
        (format!("{cluster}/name"), json!(7), false),
        (format!("{cluster}/lb_policy"), json!("RING_HASH"), true),
        (format!("{cluster}/lb_policy"), json!("ring_hash"), true),
        (format!("{cluster}/lb_policy"), json!("ring-hash"), false),
        (format!("{cluster}/lb_policy"), json!("1"), true),
        (format!("{cluster}/lb_policy"), json!("NO_SUCH"), false),
        (format!("{cluster}/per_connection_buffer_limit_bytes"), json!("32768"), true),
        (format!("{cluster}/per_connection_buffer_limit_bytes"), json!(32768.0), true),
        (format!("{cluster}/per_connection_buffer_limit_bytes"), json!(3.5), false),
        (format!("{cluster}/per_connection_buffer_limit_bytes"), json!(-1), false),
        (format!("{cluster}/per_connection_buffer_limit_bytes"), json!(4_294_967_296u64), false),
        (format!("{cluster}/respect_dns_ttl"), json!("yes"), true),
        (format!("{cluster}/respect_dns_ttl"), json!("on"), false),
        (format!("{cluster}/respect_dns_ttl"), json!(1), false),
        (format!("{cluster}/respect_dns_ttl"), Value::Null, true),
        (format!("{cluster}/metadata"), json!({"filter_metadata": {"a": {"b": [1, {"c": null}]}}}), true),
        (format!("{cluster}/metadata"), json!({"filter_metadata": {"a": 1}}), false),
        (format!("{cluster}/metadata"), json!({"filter_metadata": {"a": null}}), true),
        (format!("{cluster}/transport_socket"), json!({"name": "x", "typed_config": {"@type": "/envoy.config.core.v3.Address"}}), false),
        (format!("{cluster}/health_checks"), json!("x"), false),
        (format!("{cluster}/health_checks"), json!({"timeout": "1s", "interval": "1s", "unhealthy_threshold": 1, "healthy_threshold": 1, "tcp_health_check": {}}), true),
        (
            format!("{cluster}/transport_socket"),
            json!({"name": "x", "typed_config": {"@type": "type.googleapis.com/no.Such"}}),
            false,
        ),
        (
            format!("{cluster}/transport_socket"),
            json!({"name": "envoy.transport_sockets.raw_buffer", "typed_config":
            {"@type": "type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer", "x": 1}}),
            false,
        ),
        ("/staticResources/listeners/0/socket_options/1/buf_value".into(), json!("***"), false),
        ("/staticResources/listeners/0/socket_options/0/buf_value".into(), json!("AQAAAA"), false),
        ("/staticResources/listeners/0/filter_chains/0/filters/0/typed_config/route_config/virtual_hosts/0/routes/1/match/path".into(), json!("/x"), false),
        ("/node/metadata".into(), json!([]), false),
    ];
    let mut wrong = Vec::new();
    for (place, value, taken) in cases {
        let config = with(&place, value.clone());
        let ours = from_value::<Bootstrap>(&config, Unknown::Refuse).map(drop);
        let theirs = validate(&config);
        if theirs.is_ok() != taken || ours.is_ok() != taken {
            wrong.push(format!("{place} = {value}: Envoy says {theirs:?}, we say {ours:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_complaint_says_where() {
    let place = "/staticResources/listeners/0/filter_chains/0/filters/0/typed_config/route_config/virtual_hosts/0/domain";
    let error = from_json::<Bootstrap>(&with(place, json!([])).to_string()).unwrap_err();
    assert_eq!(
        error.path(),
        "staticResources.listeners[0].filter_chains[0].filters[0].typed_config.route_config.virtual_hosts[0].domain"
    );
    assert_eq!(error.reason(), &JsonReason::UnknownField("envoy.config.route.v3.VirtualHost"));
    let mut unknown = Vec::new();
    from_value::<Bootstrap>(&with(place, json!([])), Unknown::Collect(&mut unknown)).unwrap();
    assert_eq!(unknown, [error.path()]);
}

#[test]
fn what_the_agent_writes_is_taken_whole() {
    let bootstrap = from_value::<Bootstrap>(&generated(), Unknown::Refuse).unwrap();
    let compiled = ostro_engine::Bootstrap::compile(bootstrap).unwrap();
    assert_eq!(compiled.notices, Vec::<String>::new());
    assert_eq!(
        compiled.dynamic.ads.map(|ads| (ads.cluster, ads.is_delta)),
        Some(("xds-grpc".to_owned(), true))
    );
    assert_eq!((compiled.clusters.len(), compiled.listeners.len()), (3, 2));
    assert_eq!(compiled.bind.options.len(), 1);
}
