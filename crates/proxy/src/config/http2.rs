//! HTTP/2 settings as configured, as the codec takes them.

use ostro_engine::{Cluster, Http2Options, HttpManager};
use ostro_http2::{Config, FloodLimits, OnMalformed};

/// What clients' connections may do.
pub(crate) fn http2_server(manager: &HttpManager) -> Config {
    let resets = manager.http2.stream_error_on_invalid.unwrap_or(manager.stream_error_on_invalid);
    Config {
        head_bytes: manager.limits.headers_bytes,
        head_fields: manager.limits.headers_count,
        on_malformed: if resets { OnMalformed::ResetStream } else { OnMalformed::CloseConnection },
        ..of(&manager.http2)
    }
}

/// What upstreams' connections may do.
pub(crate) fn http2_client(cluster: &Cluster) -> Config {
    let http = &cluster.http;
    let resets = http.http2.stream_error_on_invalid.unwrap_or_default();
    Config {
        head_bytes: http.max_response_headers_bytes,
        head_fields: usize::try_from(http.max_headers_count).unwrap_or(usize::MAX),
        on_malformed: if resets { OnMalformed::ResetStream } else { OnMalformed::CloseConnection },
        ..of(&http.http2)
    }
}

fn of(options: &Http2Options) -> Config {
    Config {
        stream_window: options.stream_window,
        connection_window: options.connection_window,
        max_concurrent_streams: options.max_concurrent_streams,
        table_bytes: options.hpack_table_size,
        allow_connect: options.allows_connect,
        limits: FloodLimits {
            outbound_frames: options.max_outbound_frames,
            outbound_control_frames: options.max_outbound_control_frames,
            consecutive_empty_frames: options.max_empty_inbound_frames,
            priority_frames_per_stream: options.max_priority_frames_per_stream,
            window_updates_per_data_frame: options.max_window_updates_per_data_frame,
            ..FloodLimits::default()
        },
        ..Config::default()
    }
}
