//! The families, after Envoy's documentation of its statistics.

use super::cell::Counter;
use super::family::family;

family! {
    /// `cluster.<name>.`
    ClusterStats {
        upstream_cx_total: Counter,
        upstream_cx_active: Gauge,
        upstream_cx_http1_total: Counter,
        upstream_cx_http2_total: Counter,
        upstream_cx_connect_fail: Counter,
        upstream_cx_connect_timeout: Counter,
        upstream_cx_connect_attempts_exceeded: Counter,
        upstream_cx_overflow: Counter,
        upstream_cx_pool_overflow: Counter,
        upstream_cx_protocol_error: Counter,
        upstream_cx_idle_timeout: Counter,
        upstream_cx_max_requests: Counter,
        upstream_cx_max_duration_reached: Counter,
        upstream_cx_none_healthy: Counter,
        upstream_cx_destroy: Counter,
        upstream_cx_destroy_local: Counter,
        upstream_cx_destroy_remote: Counter,
        upstream_cx_destroy_with_active_rq: Counter,
        upstream_cx_destroy_local_with_active_rq: Counter,
        upstream_cx_destroy_remote_with_active_rq: Counter,
        upstream_cx_close_notify: Counter,
        upstream_cx_rx_bytes_total: Counter,
        upstream_cx_rx_bytes_buffered: Gauge,
        upstream_cx_tx_bytes_total: Counter,
        upstream_cx_tx_bytes_buffered: Gauge,
        upstream_cx_connect_ms: Histogram,
        upstream_cx_length_ms: Histogram,
        upstream_rq_total: Counter,
        upstream_rq_active: Gauge,
        upstream_rq_pending_total: Counter,
        upstream_rq_pending_active: Gauge,
        upstream_rq_pending_overflow: Counter,
        upstream_rq_pending_failure_eject: Counter,
        upstream_rq_cancelled: Counter,
        upstream_rq_maintenance_mode: Counter,
        upstream_rq_timeout: Counter,
        upstream_rq_max_duration_reached: Counter,
        upstream_rq_per_try_timeout: Counter,
        upstream_rq_per_try_idle_timeout: Counter,
        upstream_rq_rx_reset: Counter,
        upstream_rq_tx_reset: Counter,
        upstream_rq_retry: Counter,
        upstream_rq_retry_success: Counter,
        upstream_rq_retry_overflow: Counter,
        upstream_rq_retry_limit_exceeded: Counter,
        upstream_rq_retry_backoff_exponential: Counter,
        upstream_rq_retry_backoff_ratelimited: Counter,
        upstream_rq_completed: Counter,
        upstream_rq_1xx: Counter,
        upstream_rq_2xx: Counter,
        upstream_rq_3xx: Counter,
        upstream_rq_4xx: Counter,
        upstream_rq_5xx: Counter,
        upstream_rq: Codes = "upstream_rq_",
        upstream_rq_time: Histogram,
        upstream_rq_per_cx: Histogram,
        internal_upstream_rq: Codes = "internal.upstream_rq_",
        internal_upstream_rq_time: Histogram = "internal.upstream_rq_time",
        external_upstream_rq: Codes = "external.upstream_rq_",
        external_upstream_rq_time: Histogram = "external.upstream_rq_time",
        upstream_flow_control_paused_reading_total: Counter,
        upstream_flow_control_resumed_reading_total: Counter,
        upstream_flow_control_backed_up_total: Counter,
        upstream_flow_control_drained_total: Counter,
        upstream_internal_redirect_failed_total: Zero,
        upstream_internal_redirect_succeeded_total: Zero,
        upstream_rq_active_overflow: Zero,
        upstream_rq_rx_reset_no_error: Counter,
        upstream_cx_http3_total: Zero,
        bind_errors: Counter,
        retry_or_shadow_abandoned: Counter,
        original_dst_host_invalid: Counter,
        lb_healthy_panic: Counter,
        lb_zone_routing_all_directly: Zero,
        lb_zone_routing_cross_zone: Zero,
        lb_zone_routing_sampled: Zero,
        assignment_stale: Counter,
        assignment_timeout_received: Counter,
        update_attempt: Counter,
        update_success: Counter,
        update_failure: Counter,
        update_empty: Counter,
        update_no_rebuild: Counter,
        membership_change: Counter,
    }
}

family! {
    /// `http.<prefix>.`
    HttpStats {
        downstream_cx_total: Counter,
        downstream_cx_active: Gauge,
        downstream_cx_http1_total: Counter,
        downstream_cx_http1_active: Gauge,
        downstream_cx_http2_total: Counter,
        downstream_cx_http2_active: Gauge,
        downstream_cx_protocol_error: Counter,
        downstream_cx_destroy: Counter,
        downstream_cx_destroy_remote: Counter,
        downstream_cx_destroy_local: Counter,
        downstream_cx_idle_timeout: Counter,
        downstream_cx_max_duration_reached: Counter,
        downstream_cx_max_requests_reached: Counter,
        downstream_cx_drain_close: Counter,
        downstream_cx_upgrades_total: Counter,
        downstream_cx_upgrades_active: Gauge,
        downstream_cx_rx_bytes_total: Counter,
        downstream_cx_tx_bytes_total: Counter,
        downstream_cx_length_ms: Histogram,
        downstream_rq_total: Counter,
        downstream_rq_active: Gauge,
        downstream_rq_http1_total: Counter,
        downstream_rq_http2_total: Counter,
        downstream_rq_completed: Counter,
        downstream_rq_1xx: Counter,
        downstream_rq_2xx: Counter,
        downstream_rq_3xx: Counter,
        downstream_rq_4xx: Counter,
        downstream_rq_5xx: Counter,
        downstream_rq_rx_reset: Counter,
        downstream_rq_tx_reset: Counter,
        downstream_rq_timeout: Counter,
        downstream_rq_header_timeout: Counter,
        downstream_rq_idle_timeout: Counter,
        downstream_rq_max_duration_reached: Counter,
        downstream_rq_too_large: Counter,
        downstream_rq_time: Histogram,
        no_route: Counter,
        no_cluster: Counter,
        rq_direct_response: Counter,
        rq_redirect: Counter,
        rq_total: Counter,
        rq_reset_after_downstream_response_started: Counter,
        rs_too_large: Counter,
        downstream_cx_delayed_close_timeout: Counter,
        downstream_cx_destroy_active_rq: Counter,
        downstream_cx_destroy_local_active_rq: Counter,
        downstream_cx_destroy_remote_active_rq: Counter,
        downstream_cx_http1_soft_drain: Gauge,
        downstream_cx_http3_total: Zero,
        downstream_cx_overload_disable_keepalive: Zero,
        downstream_cx_rx_bytes_buffered: Gauge,
        downstream_cx_tx_bytes_buffered: Gauge,
        downstream_cx_ssl_total: Counter,
        downstream_cx_ssl_active: Gauge,
        downstream_flow_control_paused_reading_total: Counter,
        downstream_flow_control_resumed_reading_total: Counter,
        downstream_rq_failed_path_normalization: Counter,
        downstream_rq_http3_total: Zero,
        downstream_rq_non_relative_path: Counter,
        downstream_rq_overload_close: Zero,
        downstream_rq_redirected_with_normalized_path: Counter,
        downstream_rq_rejected_via_ip_detection: Zero,
        downstream_rq_response_before_rq_complete: Counter,
        downstream_rq_too_many_premature_resets: Counter,
        downstream_rq_ws_on_non_ws_route: Counter,
        rq_overload_local_reply: Zero,
    }
}

family! {
    /// `metadata_exchange.`: peers tell themselves over TLS alone, which is not there yet.
    MetadataExchangeStats {
        alpn_protocol_found: Zero,
        alpn_protocol_not_found: Counter,
        header_not_found: Zero,
        initial_header_not_found: Zero,
        metadata_added: Zero,
    }
}

family! {
    /// `listener.<address>.`
    ListenerStats per thread ["downstream_cx_total", "downstream_cx_active"] {
        downstream_cx_total: Counter,
        downstream_cx_active: Gauge,
        downstream_cx_destroy: Counter,
        downstream_cx_overflow: Counter,
        downstream_cx_overload_reject: Counter,
        downstream_cx_transport_socket_connect_timeout: Counter,
        downstream_global_cx_overflow: Counter,
        downstream_pre_cx_active: Gauge,
        downstream_pre_cx_timeout: Counter,
        downstream_listener_filter_error: Counter,
        downstream_listener_filter_remote_close: Counter,
        no_filter_chain_match: Counter,
        downstream_cx_length_ms: Histogram,
        connections_accepted_per_socket_event: Histogram,
        extension_config_missing: Zero,
        network_extension_config_missing: Zero,
    }
}

family! {
    /// `tcp.<prefix>.`
    TcpStats {
        downstream_cx_total: Counter,
        downstream_cx_no_route: Counter,
        downstream_cx_rx_bytes_total: Counter,
        downstream_cx_tx_bytes_total: Counter,
        idle_timeout: Counter,
        max_downstream_connection_duration: Counter,
        upstream_flush_total: Counter,
        upstream_flush_active: Gauge,
        downstream_cx_drain_close: Counter,
        downstream_cx_overload_close: Zero,
        downstream_cx_rx_bytes_buffered: Gauge,
        downstream_cx_tx_bytes_buffered: Gauge,
        downstream_flow_control_paused_reading_total: Counter,
        downstream_flow_control_resumed_reading_total: Counter,
        early_data_received_count_total: Zero,
        route_delayed_total: Zero,
    }
}

/// Where a request came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// From inside (`x-envoy-internal`).
    Internal,
    /// From outside.
    External,
}

impl ClusterStats {
    /// A response of an upstream, and how long it took, in milliseconds.
    pub fn answered(&self, status: u16, ms: u64, origin: Origin) {
        self.upstream_rq.inc(status);
        self.upstream_rq_completed.inc();
        let classes = [
            &self.upstream_rq_1xx,
            &self.upstream_rq_2xx,
            &self.upstream_rq_3xx,
            &self.upstream_rq_4xx,
            &self.upstream_rq_5xx,
        ];
        class(classes, status);
        let (codes, times) = match origin {
            Origin::Internal => (&self.internal_upstream_rq, &self.internal_upstream_rq_time),
            Origin::External => (&self.external_upstream_rq, &self.external_upstream_rq_time),
        };
        codes.inc(status);
        times.record(ms);
        self.upstream_rq_time.record(ms);
    }
}

impl HttpStats {
    /// A response to a client.
    pub fn answered(&self, status: u16) {
        let classes = [
            &self.downstream_rq_1xx,
            &self.downstream_rq_2xx,
            &self.downstream_rq_3xx,
            &self.downstream_rq_4xx,
            &self.downstream_rq_5xx,
        ];
        class(classes, status);
    }
}

fn class(classes: [&Counter; 5], status: u16) {
    if let Some(counter) = classes.get(usize::from(status / 100).wrapping_sub(1)) {
        counter.inc();
    }
}
