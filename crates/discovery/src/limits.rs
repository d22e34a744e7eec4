//! The bounds of everything that peers can make grow.

/// Proxies connected at the same time; more are refused with RESOURCE_EXHAUSTED.
pub const CONNECTIONS: usize = 10_000;

/// Concurrent streams of one HTTP/2 connection (Istio's figure).
pub const STREAMS: u32 = 100_000;

/// Bytes of one request. Envoy's first request carries its extensions, some 200 KiB; one that comes back names everything
/// it has, at some hundred bytes a name, and would come back for ever if that were refused.
pub const REQUEST_BYTES: usize = 64 << 20;

/// Names one proxy may subscribe to in one type; more are refused by closing the stream.
pub const SUBSCRIBED_NAMES: usize = 500_000;

/// Type URLs that are not served which one stream may ask for; more are ignored without an answer.
pub const UNKNOWN_TYPES: usize = 16;

/// Responses of one stream that wait to be written. One per type is in flight, so this is reached only by a peer that
/// has let several acknowledgements time out; then nothing is added until it reads again.
pub const RESPONSES: usize = 8;

/// Requests of all streams that wait to be worked on; past it the streams are not read.
pub const REQUESTS: usize = 1_024;

/// Bytes of a peer's words (a NACK's reason) that are kept and logged.
pub const WORDS: usize = 2_048;

const _: () =
    assert!(REQUEST_BYTES / SUBSCRIBED_NAMES >= 128, "a proxy can say all that it may subscribe to");
