//! What messages need to be whole, where nothing set is not enough. Hand-kept; says nothing about any fate.

use serde_json::{Value, json};

const MANAGER: &str = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const TCP: &str = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
const ROUTER: &str = "envoy.extensions.filters.http.router.v3.Router";
const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

fn any(kind: &str, mut config: Value) -> Value {
    config["@type"] = format!("type.googleapis.com/{kind}").into();
    config
}

/// A message that is as small as it may be.
pub(super) fn example(message: &str) -> Value {
    alternatives(message).into_iter().next().unwrap_or_else(|| json!({}))
}

/// The key to use in a map whose entries are this message.
pub(super) fn key(entry: &str) -> &'static str {
    match entry {
        "envoy.config.cluster.v3.Cluster.TypedExtensionProtocolOptionsEntry" => OPTIONS,
        "envoy.config.core.v3.Metadata.TypedFilterMetadataEntry" => "envoy.probe",
        entry if entry.ends_with(".TypedPerFilterConfigEntry") => "envoy.filters.http.cors",
        _ => "probe",
    }
}

/// Several, where one does not reach everything: the first is what fields are set in.
pub(super) fn alternatives(message: &str) -> Vec<Value> {
    let text = json!({"exact": "probe"});
    let socket = |port: u32| json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    let ads = json!({"ads": {}, "resource_api_version": "V3"});
    let file = json!({"name": "log", "typed_config": any("envoy.extensions.access_loggers.file.v3.FileAccessLog", json!({"path": "/dev/null"}))});
    let one = match message {
        // Roots.
        "envoy.config.listener.v3.Listener" => json!({
            "name": "l",
            "address": socket(80),
            "filter_chains": [{"filters": [example("envoy.config.listener.v3.Filter")]}],
        }),
        "envoy.config.route.v3.RouteConfiguration" => {
            json!({"name": "r", "virtual_hosts": [example("envoy.config.route.v3.VirtualHost")]})
        }
        "envoy.config.cluster.v3.Cluster" => {
            json!({"name": "c", "type": "EDS", "eds_cluster_config": {"eds_config": ads}})
        }
        "envoy.config.endpoint.v3.ClusterLoadAssignment" => {
            json!({"cluster_name": "c", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": socket(80)}}]}]})
        }
        "envoy.config.bootstrap.v3.Bootstrap" => json!({"node": {"id": "n", "cluster": "c"}}),

        // Listeners.
        "envoy.config.listener.v3.Filter" => {
            return vec![
                json!({"name": "hcm", "typed_config": any(MANAGER, example(MANAGER))}),
                json!({"name": "tcp", "typed_config": any(TCP, example(TCP))}),
            ];
        }
        "envoy.config.listener.v3.FilterChain" => {
            json!({"filters": [example("envoy.config.listener.v3.Filter")]})
        }
        "envoy.config.listener.v3.ListenerFilter" => json!({
            "name": "tls",
            "typed_config": any("envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector", json!({})),
        }),
        "envoy.config.listener.v3.ListenerFilterChainMatchPredicate" => json!({"any_match": true}),
        "envoy.config.listener.v3.ListenerFilterChainMatchPredicate.MatchSet" => {
            json!({"rules": [{"any_match": true}, {"any_match": true}]})
        }
        "envoy.config.listener.v3.AdditionalAddress" => json!({"address": socket(81)}),
        "envoy.config.listener.v3.Listener.ConnectionBalanceConfig" => json!({"exact_balance": {}}),
        "envoy.config.core.v3.Address" => socket(82),
        "envoy.config.core.v3.SocketAddress" => json!({"address": "127.0.0.1", "port_value": 83}),
        "envoy.config.core.v3.Pipe" => json!({"path": "/probe"}),
        "envoy.config.core.v3.EnvoyInternalAddress" => json!({"server_listener_name": "probe"}),
        "envoy.config.core.v3.CidrRange" => json!({"address_prefix": "10.0.0.0", "prefix_len": 8}),
        "envoy.config.core.v3.SocketOption" => json!({"level": 1, "name": 2, "int_value": 1}),
        "envoy.config.core.v3.BindConfig" => {
            json!({"source_address": {"address": "127.0.0.1", "port_value": 0}})
        }
        "envoy.config.core.v3.ExtraSourceAddress" => {
            json!({"address": {"address": "127.0.0.2", "port_value": 0}})
        }
        "envoy.config.core.v3.TransportSocket" => {
            let kind = "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer";
            json!({"name": "envoy.transport_sockets.raw_buffer", "typed_config": any(kind, json!({}))})
        }
        MANAGER => json!({
            "stat_prefix": "x",
            "route_config": {"name": "r"},
            "http_filters": [{"name": "router", "typed_config": any(ROUTER, json!({}))}],
        }),
        TCP => json!({"stat_prefix": "x", "cluster": "c"}),
        "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster" => {
            json!({"clusters": [{"name": "c", "weight": 1}]})
        }
        "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster.ClusterWeight" => {
            json!({"name": "c", "weight": 1})
        }
        "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.TunnelingConfig" => {
            json!({"hostname": "probe:1"})
        }
        "envoy.extensions.filters.network.http_connection_manager.v3.Rds" => {
            json!({"route_config_name": "r", "config_source": ads})
        }
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter" => {
            // The router stays the last: a list of one.
            json!({"name": "router", "typed_config": any(ROUTER, json!({}))})
        }
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.UpgradeConfig" => {
            json!({"upgrade_type": "websocket"})
        }
        "envoy.extensions.filters.network.http_connection_manager.v3.ResponseMapper" => {
            json!({"filter": example("envoy.config.accesslog.v3.AccessLogFilter")})
        }
        "envoy.extensions.filters.network.http_connection_manager.v3.RequestIDExtension" => json!({
            "typed_config": any("envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig", json!({})),
        }),
        "envoy.config.accesslog.v3.AccessLog" => file,
        "envoy.extensions.access_loggers.file.v3.FileAccessLog" => json!({"path": "/dev/null"}),
        "envoy.config.accesslog.v3.AccessLogFilter" => json!({"not_health_check_filter": {}}),
        "envoy.config.accesslog.v3.AndFilter" | "envoy.config.accesslog.v3.OrFilter" => {
            json!({"filters": [{"not_health_check_filter": {}}, {"traceable_filter": {}}]})
        }
        "envoy.config.accesslog.v3.ComparisonFilter" => {
            json!({"op": "GE", "value": {"default_value": 400, "runtime_key": "k"}})
        }
        "envoy.config.accesslog.v3.StatusCodeFilter" | "envoy.config.accesslog.v3.DurationFilter" => {
            json!({"comparison": example("envoy.config.accesslog.v3.ComparisonFilter")})
        }
        "envoy.config.accesslog.v3.HeaderFilter" => {
            json!({"header": example("envoy.config.route.v3.HeaderMatcher")})
        }
        "envoy.config.accesslog.v3.RuntimeFilter" => {
            json!({"runtime_key": "k", "percent_sampled": {"numerator": 5}})
        }
        "envoy.config.accesslog.v3.ResponseFlagFilter" => json!({"flags": ["UH"]}),
        "envoy.config.core.v3.RuntimeUInt32" | "envoy.config.core.v3.RuntimeDouble" => {
            json!({"default_value": 5, "runtime_key": "k"})
        }
        "envoy.config.core.v3.RuntimeFeatureFlag" => json!({"default_value": true, "runtime_key": "k"}),
        "envoy.config.core.v3.RuntimeFractionalPercent" => json!({"default_value": {"numerator": 5}}),
        "envoy.config.core.v3.RuntimePercent" => json!({"default_value": {"value": 5}, "runtime_key": "k"}),
        "envoy.type.v3.HashPolicy" => json!({"source_ip": {}}),
        "envoy.config.core.v3.BackoffStrategy" => json!({"base_interval": "1s"}),
        "envoy.type.v3.Percent" => json!({"value": 5}),
        "envoy.type.v3.FractionalPercent" => json!({"numerator": 5}),
        "envoy.type.v3.Int64Range" | "envoy.type.v3.Int32Range" => json!({"start": 1, "end": 5}),
        "envoy.config.core.v3.SubstitutionFormatString" => {
            json!({"text_format_source": {"inline_string": "probe\n"}})
        }
        "envoy.config.core.v3.DataSource" => json!({"inline_string": "probe"}),
        "envoy.config.core.v3.Http2ProtocolOptions" => json!({}),
        "envoy.config.core.v3.SchemeHeaderTransformation" => json!({"scheme_to_overwrite": "https"}),
        "envoy.type.tracing.v3.CustomTag" => json!({"tag": "t", "literal": {"value": "v"}}),
        "envoy.type.tracing.v3.CustomTag.Literal" => json!({"value": "v"}),
        "envoy.type.tracing.v3.CustomTag.Environment" => json!({"name": "HOME"}),
        "envoy.type.tracing.v3.CustomTag.Header" => json!({"name": "x-probe"}),
        "envoy.type.tracing.v3.CustomTag.Metadata" => {
            json!({"kind": {"request": {}}, "metadata_key": {"key": "k", "path": [{"key": "p"}]}})
        }
        "envoy.type.metadata.v3.MetadataKey" => json!({"key": "k", "path": [{"key": "p"}]}),
        "envoy.type.metadata.v3.MetadataKey.PathSegment" => json!({"key": "p"}),
        "envoy.type.metadata.v3.MetadataKind" => json!({"request": {}}),
        "envoy.extensions.filters.common.set_filter_state.v3.FilterStateValue" => {
            json!({"object_key": "envoy.string", "factory_key": "envoy.string", "format_string": {"text_format_source": {"inline_string": "x"}}})
        }
        "envoy.extensions.filters.http.fault.v3.HTTPFault" => json!({}),
        "envoy.extensions.filters.http.fault.v3.FaultAbort" => {
            json!({"http_status": 503, "percentage": {"numerator": 5}})
        }
        "envoy.extensions.filters.common.fault.v3.FaultDelay" => {
            json!({"fixed_delay": "1s", "percentage": {"numerator": 5}})
        }
        "envoy.extensions.filters.common.fault.v3.FaultRateLimit" => {
            json!({"fixed_limit": {"limit_kbps": 5}, "percentage": {"numerator": 5}})
        }
        "envoy.extensions.filters.common.fault.v3.FaultRateLimit.FixedLimit" => json!({"limit_kbps": 5}),
        "envoy.config.common.mutation_rules.v3.HeaderMutation" => json!({"remove": "x-probe"}),
        "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation" => {
            json!({"mutations": {"request_mutations": [{"remove": "x-probe"}]}})
        }
        "envoy.extensions.filters.http.on_demand.v3.OnDemandCds" => json!({"source": ads}),

        // Routes.
        "envoy.config.route.v3.VirtualHost" => {
            json!({"name": "v", "domains": ["*"], "routes": [example("envoy.config.route.v3.Route")]})
        }
        "envoy.config.route.v3.Route" => json!({"match": {"prefix": "/"}, "route": {"cluster": "c"}}),
        "envoy.config.route.v3.RouteMatch" => json!({"prefix": "/"}),
        "envoy.config.route.v3.RouteAction" => json!({"cluster": "c"}),
        "envoy.config.route.v3.WeightedCluster" => json!({"clusters": [{"name": "c", "weight": 1}]}),
        "envoy.config.route.v3.WeightedCluster.ClusterWeight" => json!({"name": "c", "weight": 1}),
        "envoy.config.route.v3.RedirectAction" => json!({"host_redirect": "probe"}),
        "envoy.config.route.v3.DirectResponseAction" => json!({"status": 204}),
        "envoy.config.route.v3.HeaderMatcher" => json!({"name": "x-probe", "present_match": true}),
        "envoy.config.route.v3.QueryParameterMatcher" => json!({"name": "q", "present_match": true}),
        "envoy.config.route.v3.CookieMatcher" => json!({"name": "q", "string_match": text}),
        "envoy.config.route.v3.RouteAction.RequestMirrorPolicy" => json!({"cluster": "m"}),
        "envoy.config.route.v3.RouteAction.HashPolicy" => json!({"header": {"header_name": "x-probe"}}),
        "envoy.config.route.v3.RouteAction.HashPolicy.Header" => json!({"header_name": "x-probe"}),
        "envoy.config.route.v3.RouteAction.HashPolicy.Cookie" => json!({"name": "probe"}),
        "envoy.config.route.v3.RouteAction.HashPolicy.CookieAttribute" => {
            json!({"name": "SameSite", "value": "Lax"})
        }
        "envoy.config.route.v3.RouteAction.HashPolicy.QueryParameter" => json!({"name": "probe"}),
        "envoy.config.route.v3.RouteAction.HashPolicy.ConnectionProperties" => json!({"source_ip": true}),
        "envoy.config.route.v3.RouteAction.HashPolicy.FilterState" => json!({"key": "probe"}),
        "envoy.config.route.v3.RouteAction.UpgradeConfig" => json!({"upgrade_type": "websocket"}),
        "envoy.config.route.v3.RetryPolicy" => json!({"retry_on": "5xx"}),
        "envoy.config.route.v3.RetryPolicy.RetryBackOff" => json!({"base_interval": "1s"}),
        "envoy.config.route.v3.RetryPolicy.RateLimitedRetryBackOff" => {
            json!({"reset_headers": [{"name": "retry-after", "format": "SECONDS"}]})
        }
        "envoy.config.route.v3.RetryPolicy.ResetHeader" => json!({"name": "retry-after"}),
        "envoy.config.route.v3.RetryPolicy.RetryHostPredicate" => json!({
            "name": "envoy.retry_host_predicates.previous_hosts",
            "typed_config": any("envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate", json!({})),
        }),
        "envoy.config.route.v3.RetryPolicy.RetryPriority" => json!({
            "name": "previous",
            "typed_config": any("envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig", json!({"update_frequency": 2})),
        }),
        "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig" => {
            json!({"update_frequency": 2})
        }
        "envoy.config.core.v3.HeaderValueOption" => json!({"header": {"key": "x-probe", "value": "v"}}),
        "envoy.config.core.v3.HeaderValue" => json!({"key": "x-probe", "value": "v"}),
        "envoy.type.matcher.v3.StringMatcher" => text,
        "envoy.type.matcher.v3.RegexMatcher" => json!({"regex": "a.*"}),
        "envoy.type.matcher.v3.RegexMatchAndSubstitute" => {
            json!({"pattern": {"regex": "a.*"}, "substitution": "b"})
        }
        "envoy.type.matcher.v3.ListStringMatcher" => json!({"patterns": [text]}),
        "envoy.type.matcher.v3.MetadataMatcher" => {
            json!({"filter": "f", "path": [{"key": "p"}], "value": {"present_match": true}})
        }
        "envoy.type.matcher.v3.MetadataMatcher.PathSegment" => json!({"key": "p"}),
        "envoy.type.matcher.v3.ValueMatcher" => json!({"present_match": true}),
        "envoy.type.matcher.v3.PathMatcher" => json!({"path": text}),
        "envoy.config.route.v3.VirtualCluster" => {
            json!({"name": "v", "headers": [{"name": ":path", "present_match": true}]})
        }
        "envoy.config.route.v3.RateLimit" => json!({"actions": [{"remote_address": {}}]}),
        "envoy.config.route.v3.HedgePolicy" => json!({"initial_requests": 1}),
        "envoy.config.route.v3.FilterConfig" => json!({
            "config": any("envoy.extensions.filters.http.cors.v3.CorsPolicy", json!({})),
        }),
        "envoy.config.core.v3.TypedExtensionConfig" => {
            return vec![
                json!({"name": "probe", "typed_config": any("envoy.extensions.formatter.req_without_query.v3.ReqWithoutQuery", json!({}))}),
                json!({"name": "probe", "typed_config": any("envoy.extensions.early_data.v3.DefaultEarlyDataPolicy", json!({}))}),
                json!({"name": "probe", "typed_config": any("envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig", json!({"path_template": "/a/{b}"}))}),
                json!({"name": "probe", "typed_config": any("envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin", json!({}))}),
                json!({"name": "probe", "typed_config": any("envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig", json!({}))}),
                json!({"name": "probe", "typed_config": any("envoy.extensions.regex_engines.v3.GoogleRE2", json!({}))}),
                json!({"name": "probe", "typed_config": any("envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig", json!({}))}),
                json!({"name": "probe", "typed_config": any("envoy.extensions.health_check.event_sinks.file.v3.HealthCheckEventFileSink", json!({"event_log_path": "/dev/null"}))}),
            ];
        }

        // Clusters.
        OPTIONS => json!({"explicit_http_config": {"http_protocol_options": {}}}),
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.ExplicitHttpConfig" => {
            json!({"http_protocol_options": {}})
        }
        "envoy.config.cluster.v3.CircuitBreakers.Thresholds" => json!({}),
        "envoy.config.cluster.v3.CircuitBreakers.Thresholds.RetryBudget" => {
            json!({"budget_percent": {"value": 30}})
        }
        "envoy.config.core.v3.HealthCheck" => json!({
            "timeout": "1s", "interval": "1s", "unhealthy_threshold": 1, "healthy_threshold": 1,
            "http_health_check": {"path": "/"},
        }),
        "envoy.config.core.v3.HealthCheck.HttpHealthCheck" => json!({"path": "/"}),
        "envoy.config.core.v3.HealthCheck.Payload" => json!({"text": "00ff"}),
        "envoy.config.cluster.v3.Cluster.TransportSocketMatch" => {
            json!({"name": "m", "transport_socket": example("envoy.config.core.v3.TransportSocket")})
        }
        "envoy.config.cluster.v3.LoadBalancingPolicy" => {
            json!({"policies": [example("envoy.config.cluster.v3.LoadBalancingPolicy.Policy")]})
        }
        "envoy.config.cluster.v3.LoadBalancingPolicy.Policy" => json!({"typed_extension_config": {
            "name": "rr",
            "typed_config": any("envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin", json!({})),
        }}),
        "envoy.config.cluster.v3.Cluster.RefreshRate" => json!({"base_interval": "1s"}),
        "envoy.config.core.v3.ConfigSource" => ads,
        "envoy.config.core.v3.PathConfigSource" => json!({"path": "/probe"}),
        "envoy.config.core.v3.WatchedDirectory" => json!({"path": "/probe"}),
        "envoy.config.core.v3.ApiConfigSource" => json!({
            "api_type": "GRPC", "transport_api_version": "V3",
            "grpc_services": [{"envoy_grpc": {"cluster_name": "x"}}],
        }),
        "envoy.config.core.v3.GrpcService" => json!({"envoy_grpc": {"cluster_name": "x"}}),
        "envoy.config.core.v3.GrpcService.EnvoyGrpc" => json!({"cluster_name": "x"}),
        "envoy.config.core.v3.KeepaliveSettings" => json!({"interval": "1s", "timeout": "1s"}),
        "envoy.config.core.v3.Http1ProtocolOptions.HeaderKeyFormat" => json!({"proper_case_words": {}}),
        "envoy.extensions.load_balancing_policies.common.v3.SlowStartConfig"
        | "envoy.config.cluster.v3.Cluster.SlowStartConfig" => {
            json!({"slow_start_window": "1s"})
        }

        // Endpoints.
        "envoy.config.endpoint.v3.LocalityLbEndpoints" => {
            json!({"lb_endpoints": [{"endpoint": {"address": socket(84)}}]})
        }
        "envoy.config.endpoint.v3.LbEndpoint" => json!({"endpoint": {"address": socket(85)}}),
        "envoy.config.endpoint.v3.Endpoint" => json!({"address": socket(86)}),
        "envoy.config.endpoint.v3.Endpoint.AdditionalAddress" => json!({"address": socket(87)}),
        "envoy.config.endpoint.v3.ClusterLoadAssignment.Policy.DropOverload" => {
            json!({"category": "c", "drop_percentage": {"numerator": 5}})
        }

        // The bootstrap.
        "envoy.config.bootstrap.v3.Admin" => json!({"address": socket(0)}),
        "envoy.config.bootstrap.v3.RuntimeLayer" => json!({"name": "l", "static_layer": {"probe": "x"}}),
        "envoy.config.bootstrap.v3.RuntimeLayer.RtdsLayer" => json!({"name": "r", "rtds_config": ads}),
        "envoy.config.bootstrap.v3.LayeredRuntime" => json!({}),
        "envoy.config.metrics.v3.TagSpecifier" => json!({"tag_name": "probe", "fixed_value": "v"}),
        "envoy.config.metrics.v3.HistogramBucketSettings" => json!({"match": text, "buckets": [1, 5]}),
        "envoy.config.metrics.v3.StatsMatcher" => json!({"reject_all": false}),
        "envoy.config.overload.v3.OverloadManager" => json!({
            "resource_monitors": [example("envoy.config.overload.v3.ResourceMonitor")],
        }),
        "envoy.config.overload.v3.ResourceMonitor" => json!({
            "name": "envoy.resource_monitors.global_downstream_max_connections",
            "typed_config": any("envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig", json!({"max_active_downstream_connections": 5})),
        }),
        "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig" => {
            json!({"max_active_downstream_connections": 5})
        }
        _ => json!({}),
    };
    vec![one]
}
