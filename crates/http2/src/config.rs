//! Settings and limits of one side of a connection, under the names and with the defaults of Envoy 1.40
//! (`Http2ProtocolOptions`, and what the HTTP connection manager says of heads).

use std::time::Duration;

/// The window that HTTP/2 begins with, and the least that may be configured.
pub const WINDOW_DEFAULT: u32 = 65_535;
/// The largest window there is.
pub const WINDOW_MAX: u32 = (1 << 31) - 1;
/// The frame size that HTTP/2 begins with, and the least there is.
pub const FRAME_BYTES_DEFAULT: u32 = 1 << 14;
/// The largest frame that can be announced here. HTTP/2 knows larger ones; a frame is held in memory until it is whole.
pub const FRAME_BYTES_MAX: u32 = 1 << 20;
/// The largest table of header compression that can be configured.
pub const TABLE_BYTES_MAX: u32 = 1 << 20;

/// Settings and limits of one side. What is out of range is taken to the nearest end of it.
#[derive(Clone, Debug)]
pub struct Config {
    /// `initial_stream_window_size`, 65,535 and up: bytes of a body that may be received and not yet consumed.
    pub stream_window: u32,
    /// `initial_connection_window_size`, 65,535 and up: the same for all streams together.
    pub connection_window: u32,
    /// `max_concurrent_streams`. A server refuses what a client opens beyond; a client opens no more, whatever the
    /// server would take.
    pub max_concurrent_streams: u32,
    /// The largest frame that the peer may send, from 16,384 to [`FRAME_BYTES_MAX`].
    pub max_frame_bytes: u32,
    /// `hpack_table_size`, up to [`TABLE_BYTES_MAX`]: of both directions.
    pub table_bytes: u32,
    /// `enable_huffman_encoding`: spend time to save bytes. What the peer encodes is understood anyway.
    pub huffman: bool,
    /// `max_request_headers_kb` or `max_response_headers_kb`: bytes of all names and values of a head or of trailers.
    pub head_bytes: usize,
    /// `max_headers_count`, pseudo-headers included.
    pub head_fields: usize,
    /// `allow_connect`: a server takes extended CONNECT (RFC 8441).
    pub allow_connect: bool,
    /// `override_stream_error_on_invalid_http_message`.
    pub on_malformed: OnMalformed,
    /// Bytes that may wait to be sent on a stream. Past it [`capacity`](crate::Connection::capacity) is 0.
    pub send_buffer: usize,
    /// What a peer may do until it is thrown out.
    pub limits: FloodLimits,
}

/// What becomes of a message that breaks HTTP's rules and none of the connection's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnMalformed {
    /// The stream is reset with PROTOCOL_ERROR, as RFC 9113 section 8.1.1 says.
    ResetStream,
    /// The connection is closed; Envoy's default.
    CloseConnection,
}

/// How much a peer may do that costs us more than it. Past a limit the connection fails with ENHANCE_YOUR_CALM.
#[derive(Clone, Debug)]
pub struct FloodLimits {
    /// `max_outbound_frames`: frames of all kinds that wait for the socket.
    pub outbound_frames: u32,
    /// `max_outbound_control_frames`: PING, SETTINGS and RST_STREAM among them.
    pub outbound_control_frames: u32,
    /// `max_consecutive_inbound_frames_with_empty_payload`: HEADERS, CONTINUATION and DATA that carry nothing and end
    /// nothing.
    pub consecutive_empty_frames: u32,
    /// `max_inbound_priority_frames_per_stream`, times one more than there were streams.
    pub priority_frames_per_stream: u32,
    /// `max_inbound_window_update_frames_per_data_frame_sent`; see [`Config`]'s source for Envoy's formula.
    pub window_updates_per_data_frame: u32,
    /// PING and SETTINGS in a row, which have to be answered; with each frame of a message, and with time, there may be
    /// more.
    pub answers: u32,
    /// How many more each second.
    pub answers_per_second: u32,
    /// Envoy's `overload.premature_reset_total_stream_count`: when so many streams are over, less than half of them may
    /// have been reset by the client prematurely.
    pub premature_resets: u32,
    /// Envoy's `overload.premature_reset_min_stream_lifetime_seconds`: what is premature.
    pub premature_reset_lifetime: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            stream_window: 16 << 20,
            connection_window: 24 << 20,
            max_concurrent_streams: 1024,
            max_frame_bytes: FRAME_BYTES_DEFAULT,
            table_bytes: 4096,
            huffman: false,
            head_bytes: 60 << 10,
            head_fields: 100,
            allow_connect: false,
            on_malformed: OnMalformed::ResetStream,
            send_buffer: 128 << 10,
            limits: FloodLimits::default(),
        }
    }
}

impl Default for FloodLimits {
    fn default() -> Self {
        FloodLimits {
            outbound_frames: 10_000,
            outbound_control_frames: 1_000,
            consecutive_empty_frames: 1,
            priority_frames_per_stream: 100,
            window_updates_per_data_frame: 10,
            answers: 1_000,
            answers_per_second: 100,
            premature_resets: 500,
            premature_reset_lifetime: Duration::from_secs(1),
        }
    }
}

impl Config {
    pub(crate) fn stream_window(&self) -> u32 {
        self.stream_window.clamp(WINDOW_DEFAULT, WINDOW_MAX)
    }

    pub(crate) fn connection_window(&self) -> u32 {
        self.connection_window.clamp(WINDOW_DEFAULT, WINDOW_MAX)
    }

    pub(crate) fn max_frame_bytes(&self) -> u32 {
        self.max_frame_bytes.clamp(FRAME_BYTES_DEFAULT, FRAME_BYTES_MAX)
    }

    pub(crate) fn table_bytes(&self) -> u32 {
        self.table_bytes.min(TABLE_BYTES_MAX)
    }

    /// Bytes that a header block may have on the wire, past which the connection fails: a block has to be decoded
    /// whatever becomes of its stream, and what is too large for a head should be answered as such, up to a point.
    pub(crate) fn block_bytes_max(&self) -> usize {
        2 * self.head_bytes + FRAME_BYTES_DEFAULT as usize
    }
}
