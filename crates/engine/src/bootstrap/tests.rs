//! Bootstraps as JSON, compiled.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;

fn compile(json: &Value) -> Result<Bootstrap, Refusal> {
    Bootstrap::compile(ostro_envoy_json::from_json(&json.to_string()).unwrap())
}

fn refused(json: &Value) -> String {
    compile(json).unwrap_err().to_string()
}

/// What launchers of sidecars write.
fn sidecar() -> Value {
    let ads = json!({"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"});
    json!({
        "application_log_config": {"log_format": {"json_format": {"level": "%l", "msg": "%j"}}},
        "node": {"id": "sidecar~10.0.0.1~a.b~b.svc.cluster.local", "cluster": "a.b", "metadata": {"LABELS": {"app": "a"}}},
        "layered_runtime": {"layers": [
            {"name": "global config", "static_layer": {
                "overload.global_downstream_max_connections": "2147483647",
                "re2.max_program_size.error_level": "32768",
                "envoy.reloadable_features.http_reject_path_with_fragment": false,
                "a": {"b": {"numerator": 5, "denominator": "MILLION"}}}},
            {"name": "admin", "admin_layer": {}},
        ]},
        "bootstrap_extensions": [{"name": "envoy.bootstrap.internal_listener", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener"}}],
        "stats_config": {
            "use_all_default_tags": false,
            "stats_tags": [{"tag_name": "cluster_name", "regex": "^cluster\\.((.+?);\\.)"}, {"tag_name": "mesh", "fixed_value": "m"}],
            "stats_matcher": {"inclusion_list": {"patterns": [{"prefix": "cluster_manager"}, {"safe_regex": {"regex": "http\\..*_2xx"}}]}},
            "histogram_bucket_settings": [{"match": {"prefix": "istio"}, "buckets": [1.0, 5.0, 10.0]}],
        },
        "admin": {
            "access_log": [{"name": "envoy.access_loggers.file", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog", "path": "/dev/null"}}],
            "profile_path": "/var/lib/istio/data/envoy.prof",
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": 15000}},
        },
        "dynamic_resources": {
            "lds_config": ads, "cds_config": ads,
            "ads_config": {
                "api_type": "DELTA_GRPC", "transport_api_version": "V3", "set_node_on_first_message_only": true,
                "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"},
                    "initial_metadata": [{"key": "authorization", "value": "Bearer x"}]}],
            },
        },
        "static_resources": {"clusters": [{"name": "xds-grpc"}], "listeners": [{"name": "stats"}]},
        "cluster_manager": {"upstream_bind_config": {"socket_options": [{"level": 1, "name": 36, "int_value": 1337}]}},
    })
}

#[test]
fn a_sidecars_bootstrap_is_taken() {
    let bootstrap = compile(&sidecar()).unwrap();
    assert_eq!(bootstrap.node.cluster, "a.b");
    assert_eq!((bootstrap.clusters.len(), bootstrap.listeners.len(), bootstrap.secrets.len()), (1, 1, 0));
    assert_eq!(bootstrap.admin.unwrap().address.to_string(), "127.0.0.1:15000");
    assert_eq!(bootstrap.max_connections, Some(2_147_483_647));
    assert_eq!(bootstrap.flush_interval, Some(Duration::from_secs(5)));
    assert!(bootstrap.logs_json);
    assert_eq!(bootstrap.bind.options.len(), 1);

    let ads = bootstrap.dynamic.ads.unwrap();
    assert!(ads.is_delta && ads.tells_node_once);
    assert_eq!((ads.cluster.as_str(), ads.headers.len()), ("xds-grpc", 1));
    assert_eq!(ads.back_off, (Duration::from_millis(500), Duration::from_secs(30)));
    assert_eq!(
        bootstrap.dynamic.listeners,
        Some(SourceSettings { source: Source::Ads, fetch_timeout: None })
    );
    assert_eq!(bootstrap.dynamic.clusters, Some(SourceSettings { source: Source::Ads, fetch_timeout: None }));

    assert_eq!(
        bootstrap.runtime.get("a.b").unwrap().to_string(),
        r#"{"numerator":5,"denominator":"MILLION"}"#
    );
    assert!(bootstrap.runtime.layers[1].is_admin);
    assert_eq!(
        bootstrap.notices,
        [
            "layered_runtime: a.b has no effect",
            "layered_runtime: envoy.reloadable_features.http_reject_path_with_fragment has no effect",
        ]
    );

    let stats = bootstrap.stats;
    assert!(!stats.uses_default_tags);
    assert_eq!(stats.tags[1].value, TagValue::Fixed("m".into()));
    assert_eq!(stats.buckets[0].bounds, [1.0, 5.0, 10.0]);
    assert!(
        stats.matcher.has("cluster_manager.cds.update_success")
            && stats.matcher.has("http.a.downstream_rq_2xx")
    );
    assert!(!stats.matcher.has("cluster.x.upstream_rq_total"));
}

#[test]
fn an_empty_bootstrap_has_defaults() {
    let bootstrap = compile(&json!({})).unwrap();
    assert!(bootstrap.admin.is_none() && bootstrap.dynamic == DynamicResources::default());
    assert!(bootstrap.stats.uses_default_tags && bootstrap.stats.matcher.has("x"));
    assert_eq!(bootstrap.max_connections, None);
}

#[test]
fn the_overload_managers_limit_counts_more_than_the_runtimes() {
    let mut json = sidecar();
    json["overload_manager"] = json!({"refresh_interval": "0.25s", "resource_monitors": [{
        "name": "envoy.resource_monitors.global_downstream_max_connections",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
            "max_active_downstream_connections": "7"}}]});
    assert_eq!(compile(&json).unwrap().max_connections, Some(7));
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let heap = json!({"name": "envoy.resource_monitors.fixed_heap", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig", "max_heap_size_bytes": 1}});
    let ads = |change: Value| {
        let mut json = sidecar();
        for (key, value) in change.as_object().unwrap() {
            json["dynamic_resources"]["ads_config"][key] = value.clone();
        }
        json
    };
    let source = |source: Value| json!({"dynamic_resources": {"cds_config": source}});
    let cases = [
        (json!({"stats_sinks": [{"name": "envoy.stat_sinks.statsd"}]}), "not supported: stats_sinks"),
        (json!({"hds_config": {}}), "not supported: hds_config"),
        (
            json!({"overload_manager": {"resource_monitors": [heap]}}),
            "overload_manager.resource_monitors[0]: not supported: envoy.resource_monitors.fixed_heap",
        ),
        (
            json!({"overload_manager": {"actions": [{"name": "x"}]}}),
            "overload_manager: not supported: actions",
        ),
        (
            json!({"layered_runtime": {"layers": [{"name": "d", "disk_layer": {"symlink_root": "/x"}}]}}),
            "layered_runtime: not supported: disk_layer",
        ),
        (
            json!({"layered_runtime": {"layers": [{"name": "s", "static_layer": {"k": [1]}}]}}),
            "layered_runtime.layers[0]: invalid: runtime key k has no value that can be one",
        ),
        (
            json!({"admin": {"address": {"pipe": {"path": "/x"}}}}),
            "admin.address: not supported: an address that is no socket address",
        ),
        (
            json!({"admin": {"access_log_path": "/var/log/x", "address": {"socket_address": {"address": "::1", "port_value": 0}}}}),
            "admin: not supported: access_log_path \"/var/log/x\"",
        ),
        (
            json!({"cluster_manager": {"outlier_detection": {"event_log_path": "/x"}}}),
            "cluster_manager: not supported: outlier_detection",
        ),
        (
            json!({"bootstrap_extensions": [{"name": "envoy.bootstrap.wasm", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.wasm.v3.WasmService"}}]}),
            "bootstrap_extensions: not supported: envoy.bootstrap.wasm",
        ),
        (
            source(json!({"ads": {}, "resource_api_version": "V3"})),
            "dynamic_resources.cds_config: invalid: ads, of which there is no ads_config",
        ),
        (
            source(json!({"self": {}, "resource_api_version": "V3"})),
            "dynamic_resources.cds_config: not supported: self",
        ),
        (
            source(json!({"ads": {}})),
            "dynamic_resources.cds_config: invalid: resource_api_version must be V3",
        ),
        (ads(json!({"api_type": "REST"})), "dynamic_resources.ads_config: not supported: api_type 1"),
        (
            ads(json!({"grpc_services": [{"google_grpc": {"target_uri": "x", "stat_prefix": "y"}}]})),
            "dynamic_resources.ads_config.grpc_services[0]: not supported: google_grpc",
        ),
        (
            json!({"stats_flush_interval": "300s"}),
            "invalid: stats_flush_interval must be at least 1 ms and less than 5 minutes",
        ),
        (
            json!({"stats_config": {"histogram_bucket_settings": [{"match": {"prefix": "a"}, "buckets": [2.0, 1.0]}]}}),
            "stats_config.histogram_bucket_settings[0]: invalid: buckets must be positive, ascending, and no two the same",
        ),
    ];
    for (json, wanted) in cases {
        assert_eq!(refused(&json), wanted, "{json}");
    }
}

#[test]
fn statistics_may_be_merged_on_demand() {
    assert_eq!(compile(&json!({"stats_flush_on_admin": true})).unwrap().flush_interval, None);
    assert!(compile(&json!({"stats_flush_on_admin": true, "stats_flush_interval": "5s"})).is_err());
}

#[test]
fn resources_may_come_from_files() {
    let file = json!({"path_config_source": {"path": "/x/cds.json", "watched_directory": {"path": "/x"}}, "resource_api_version": "V3"});
    let dynamic = compile(&json!({"dynamic_resources": {"cds_config": file}})).unwrap().dynamic;
    let source = Source::Path { path: "/x/cds.json".into(), watched_directory: Some("/x".into()) };
    assert_eq!(
        dynamic.clusters,
        Some(SourceSettings { source, fetch_timeout: Some(Duration::from_secs(15)) })
    );
}
