//! Why connections and streams end before their time.

use std::io;

use ostro_http2::{ConnectionError, ErrorCode, Origin};

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionFault {
    /// The peer broke a rule.
    #[error("the peer broke a rule: {0}")]
    Protocol(#[from] ConnectionError),
    /// The socket failed.
    #[error("the socket failed: {0}")]
    Io(io::ErrorKind),
    /// The peer closed it while streams were open; or its task was dropped.
    #[error("the connection was closed")]
    Closed,
    /// We closed it.
    #[error("closed from this side: {0}")]
    Local(ErrorCode),
}

/// Why a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// It was reset: by the peer, or by us because of what the peer did on it.
    #[error("the stream was reset by {origin:?}: {code}")]
    Reset {
        /// Why.
        code: ErrorCode,
        /// Whose wish or fault it was.
        origin: Origin,
        /// The peer has done nothing with the request: it may be sent again.
        unprocessed: bool,
    },
    /// Its connection ended.
    #[error(transparent)]
    Connection(#[from] ConnectionFault),
    /// Something was sent out of order: behind the end, before the head, or after a reset of our own.
    #[error("nothing of this kind can be sent on the stream now")]
    OutOfOrder,
}
