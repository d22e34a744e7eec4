//! The bounds of everything that a control plane can make grow.

/// Bytes of one response, unless the caller says otherwise. 20,000 services of Istio's shape are some 100 MiB of
/// clusters at once.
pub const RESPONSE_BYTES: usize = 256 << 20;

/// Resources of one kind that are kept or asked for; further ones are refused by name.
pub const RESOURCES: usize = 500_000;

/// Responses that are read ahead of what is being worked on.
pub const RESPONSES: usize = 1;

/// Requests that wait for the stream to take them; the rest stays a set of names.
pub const REQUESTS: usize = 8;

/// Acknowledgements of one kind that wait; then no further response is read, and none is held back any more.
pub const ACKS: usize = 64;

/// Bytes of a reason that is sent to the control plane (Envoy's figure), and kept.
pub const REASON_BYTES: usize = 4_096;

/// Bytes of a file with resources.
pub const FILE_BYTES: u64 = 64 << 20;

/// Files that are watched.
pub const FILES: usize = 1_024;

/// The longest that a resource may say it lives.
pub const TTL_MAX: std::time::Duration = std::time::Duration::from_secs(7 * 24 * 60 * 60);

/// A text cut to the bytes that are kept of a reason.
pub(crate) fn cut(mut text: String) -> String {
    if text.len() > REASON_BYTES {
        text.truncate(text.floor_char_boundary(REASON_BYTES));
        text.push_str("...(truncated)");
    }
    text
}
