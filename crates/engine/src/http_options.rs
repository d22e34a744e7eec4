//! How HTTP/1 and HTTP/2 are spoken: Envoy's protocol options, with its defaults, for either side of the proxy.

use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::http1_protocol_options::HeaderKeyFormat;
use envoy_types::pb::envoy::config::core::v3::http1_protocol_options::header_key_format::HeaderFormat;
use envoy_types::pb::envoy::config::core::v3::{
    Http1ProtocolOptions, Http2ProtocolOptions, KeepaliveSettings,
};
use http::HeaderValue;

use crate::Refusal;
use crate::proto::{flag, number, time_limit};
use crate::refusal::Within;
use crate::wire::{bounded, percent, required};

/// Least flow-control window that may be configured: what RFC 9113 starts with.
const WINDOW_MIN: u32 = 65_535;
/// Largest number of streams, and largest window, that HTTP/2 can say.
const TWO_TO_31: u32 = (1 << 31) - 1;

/// How HTTP/1 is spoken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http1Options {
    /// Requests of HTTP/1.0 are taken.
    pub accepts_http_10: bool,
    /// Host of a request of HTTP/1.0 that names none.
    pub default_host_for_http_10: Option<HeaderValue>,
    /// Trailers are passed on, not dropped (`enable_trailers`).
    pub sends_trailers: bool,
    /// `transfer-encoding: chunked` beside `content-length` is taken, the length dropped.
    pub allows_chunked_length: bool,
    /// An invalid message fails its request, not the connection; `None`: as the connection manager says.
    pub stream_error_on_invalid: Option<bool>,
    /// Absolute-form requests are taken.
    pub allows_absolute_url: bool,
    /// Methods that no RFC knows are taken.
    pub allows_custom_methods: bool,
    /// Requests are written with their absolute URL.
    pub sends_absolute_url: bool,
    /// Header names are written `Like-This`.
    pub proper_case: bool,
}

impl Default for Http1Options {
    fn default() -> Http1Options {
        Http1Options {
            accepts_http_10: false,
            default_host_for_http_10: None,
            sends_trailers: false,
            allows_chunked_length: false,
            stream_error_on_invalid: None,
            allows_absolute_url: true,
            allows_custom_methods: false,
            sends_absolute_url: false,
            proper_case: false,
        }
    }
}

/// How HTTP/2 is spoken.
#[derive(Clone, Debug, PartialEq)]
pub struct Http2Options {
    /// Bytes of the dynamic table our encoder may use.
    pub hpack_table_size: u32,
    /// Streams at once on a connection.
    pub max_concurrent_streams: u32,
    /// Bytes of a stream's receive window.
    pub stream_window: u32,
    /// Bytes of a connection's receive window.
    pub connection_window: u32,
    /// Extended CONNECT (RFC 8441) is announced and taken.
    pub allows_connect: bool,
    /// Frames waiting to be written, of all kinds.
    pub max_outbound_frames: u32,
    /// Frames waiting to be written, of PING, SETTINGS and RST_STREAM.
    pub max_outbound_control_frames: u32,
    /// Empty frames in a row that do not end a stream.
    pub max_empty_inbound_frames: u32,
    /// PRIORITY frames per stream opened.
    pub max_priority_frames_per_stream: u32,
    /// WINDOW_UPDATE frames per DATA frame sent.
    pub max_window_updates_per_data_frame: u32,
    /// An invalid message fails its stream, not the connection; `None`: as the connection manager says.
    pub stream_error_on_invalid: Option<bool>,
    /// PINGs that tell whether the peer is alive.
    pub keepalive: Option<Http2Keepalive>,
    /// Bytes of one header field; `None`: 64 KiB.
    pub max_header_field_bytes: Option<usize>,
}

impl Default for Http2Options {
    fn default() -> Http2Options {
        Http2Options {
            hpack_table_size: 4_096,
            max_concurrent_streams: 1_024,
            stream_window: 16 << 20,
            connection_window: 24 << 20,
            allows_connect: false,
            max_outbound_frames: 10_000,
            max_outbound_control_frames: 1_000,
            max_empty_inbound_frames: 1,
            max_priority_frames_per_stream: 100,
            max_window_updates_per_data_frame: 10,
            stream_error_on_invalid: None,
            keepalive: None,
            max_header_field_bytes: None,
        }
    }
}

/// PINGs that tell whether the peer is alive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Http2Keepalive {
    /// Between two PINGs; `None`: only before a stream on a connection that was idle.
    pub interval: Option<Duration>,
    /// A PING unanswered for so long ends the connection.
    pub timeout: Duration,
    /// Random addition to the interval, as a share of it.
    pub jitter: f64,
    /// A PING goes before a new stream on a connection that was idle for so long.
    pub idle_interval: Option<Duration>,
}

impl Http1Options {
    /// Reads the options.
    pub(crate) fn compile(proto: &Http1ProtocolOptions) -> Result<Http1Options, Refusal> {
        fates!(proto: Http1ProtocolOptions {
            compiled:
                allow_absolute_url,
                accept_http_10,
                default_host_for_http_10,
                header_key_format,
                enable_trailers,
                allow_chunked_length,
                override_stream_error_on_invalid_http_message,
                send_fully_qualified_url,
                allow_custom_methods;
            carried:;
            refused:
                use_balsa_parser,
                ignore_http_11_upgrade;
        });
        let host = Some(&proto.default_host_for_http_10).filter(|host| !host.is_empty());
        let host = host.map(|host| HeaderValue::from_str(host)).transpose();
        let error = proto.override_stream_error_on_invalid_http_message.map(|flag| flag.value);
        Ok(Http1Options {
            accepts_http_10: proto.accept_http_10,
            default_host_for_http_10: host.map_err(|_| Refusal::invalid("default_host_for_http_10"))?,
            sends_trailers: proto.enable_trailers,
            allows_chunked_length: proto.allow_chunked_length,
            stream_error_on_invalid: error,
            allows_absolute_url: flag(proto.allow_absolute_url.as_ref(), true),
            allows_custom_methods: proto.allow_custom_methods,
            sends_absolute_url: proto.send_fully_qualified_url,
            proper_case: proper_case(proto.header_key_format.as_ref())?,
        })
    }
}

fn proper_case(format: Option<&HeaderKeyFormat>) -> Result<bool, Refusal> {
    match format.and_then(|format| format.header_format.as_ref()) {
        None => Ok(false),
        Some(HeaderFormat::ProperCaseWords(_)) => Ok(true),
        Some(HeaderFormat::StatefulFormatter(formatter)) => {
            Err(Refusal::unsupported(format!("header_key_format {}", formatter.name)))
        }
    }
}

impl Http2Options {
    /// Reads the options.
    pub(crate) fn compile(proto: &Http2ProtocolOptions) -> Result<Http2Options, Refusal> {
        fates!(proto: Http2ProtocolOptions {
            compiled:
                hpack_table_size,
                max_concurrent_streams,
                initial_stream_window_size,
                initial_connection_window_size,
                allow_connect,
                max_outbound_frames,
                max_outbound_control_frames,
                max_consecutive_inbound_frames_with_empty_payload,
                max_inbound_priority_frames_per_stream,
                max_inbound_window_update_frames_per_data_frame_sent,
                stream_error_on_invalid_http_messaging,
                override_stream_error_on_invalid_http_message,
                connection_keepalive,
                max_header_field_size_kb;
            carried:;
            refused:
                allow_metadata,
                custom_settings_parameters,
                use_oghttp2_codec,
                max_metadata_size,
                enable_huffman_encoding,
                disallow_obs_text,
                stream_reset_burst,
                stream_reset_rate;
        });
        let default = Http2Options::default();
        let or = |field, value, bounds, default: u32| {
            bounded(field, value, bounds).map(|value| value.unwrap_or(default))
        };
        let windows = WINDOW_MIN..=TWO_TO_31;
        #[allow(deprecated, reason = "Envoy still reads the old field where the new one is not set")]
        let old = proto.stream_error_on_invalid_http_messaging.then_some(true);
        Ok(Http2Options {
            hpack_table_size: number(proto.hpack_table_size.as_ref()).unwrap_or(default.hpack_table_size),
            max_concurrent_streams: or(
                "max_concurrent_streams",
                proto.max_concurrent_streams.as_ref(),
                1..=TWO_TO_31,
                default.max_concurrent_streams,
            )?,
            stream_window: or(
                "initial_stream_window_size",
                proto.initial_stream_window_size.as_ref(),
                windows.clone(),
                default.stream_window,
            )?,
            connection_window: or(
                "initial_connection_window_size",
                proto.initial_connection_window_size.as_ref(),
                windows,
                default.connection_window,
            )?,
            allows_connect: proto.allow_connect,
            max_outbound_frames: or(
                "max_outbound_frames",
                proto.max_outbound_frames.as_ref(),
                1..=u32::MAX,
                default.max_outbound_frames,
            )?,
            max_outbound_control_frames: or(
                "max_outbound_control_frames",
                proto.max_outbound_control_frames.as_ref(),
                1..=u32::MAX,
                default.max_outbound_control_frames,
            )?,
            max_empty_inbound_frames: number(
                proto.max_consecutive_inbound_frames_with_empty_payload.as_ref(),
            )
            .unwrap_or(default.max_empty_inbound_frames),
            max_priority_frames_per_stream: number(proto.max_inbound_priority_frames_per_stream.as_ref())
                .unwrap_or(default.max_priority_frames_per_stream),
            max_window_updates_per_data_frame: or(
                "max_inbound_window_update_frames_per_data_frame_sent",
                proto.max_inbound_window_update_frames_per_data_frame_sent.as_ref(),
                1..=u32::MAX,
                default.max_window_updates_per_data_frame,
            )?,
            stream_error_on_invalid: proto
                .override_stream_error_on_invalid_http_message
                .map(|flag| flag.value)
                .or(old),
            keepalive: proto.connection_keepalive.as_ref().map(keepalive).transpose()?,
            max_header_field_bytes: number(proto.max_header_field_size_kb.as_ref())
                .map(|kilobytes| kilobytes as usize * 1_024),
        })
    }
}

fn keepalive(proto: &KeepaliveSettings) -> Result<Http2Keepalive, Refusal> {
    let KeepaliveSettings { interval, timeout, interval_jitter, connection_idle_interval } = proto;
    let read = || {
        Ok(Http2Keepalive {
            interval: time_limit(interval.as_ref(), None)?,
            timeout: required("timeout", timeout.as_ref())?,
            // Envoy's default.
            jitter: percent("interval_jitter", interval_jitter.as_ref())?.unwrap_or(15.0) / 100.0,
            idle_interval: time_limit(connection_idle_interval.as_ref(), None)?,
        })
    };
    read().within(|| "connection_keepalive".to_owned())
}
