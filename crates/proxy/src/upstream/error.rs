//! Why an upstream did not answer, or did not go on.

use ostro_engine::ResponseFlags;

/// What went wrong at the upstream's side of one try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum UpstreamError {
    /// No connection came about; why.
    Connect(String),
    /// No connection came about in time.
    ConnectTimeout,
    /// The connection ended before the response was complete; `idle`: it was kept from earlier, and nothing of the
    /// response had come.
    Terminated,
    /// It broke its protocol; how.
    Protocol(&'static str),
    /// It reset the stream.
    Reset,
    /// It reset the stream without having looked at it.
    RefusedStream,
}

impl UpstreamError {
    /// Envoy's flag for it.
    pub fn flag(&self) -> ResponseFlags {
        match self {
            UpstreamError::Connect(_) | UpstreamError::ConnectTimeout => {
                ResponseFlags::UPSTREAM_CONNECTION_FAILURE
            }
            UpstreamError::Terminated => ResponseFlags::UPSTREAM_CONNECTION_TERMINATION,
            UpstreamError::Protocol(_) => ResponseFlags::UPSTREAM_PROTOCOL_ERROR,
            UpstreamError::Reset | UpstreamError::RefusedStream => ResponseFlags::UPSTREAM_REMOTE_RESET,
        }
    }

    /// Envoy's name for it, as in its bodies and details.
    pub fn reason(&self) -> &'static str {
        match self {
            UpstreamError::Connect(_) => "remote connection failure",
            UpstreamError::ConnectTimeout => "connection timeout",
            UpstreamError::Terminated => "connection termination",
            UpstreamError::Protocol(_) => "protocol error",
            UpstreamError::Reset => "remote reset",
            UpstreamError::RefusedStream => "remote refused stream reset",
        }
    }

    /// Why, in more words, if there are any.
    pub fn transport_failure(&self) -> Option<&str> {
        match self {
            UpstreamError::Connect(why) => Some(why),
            UpstreamError::Protocol(why) => Some(why),
            _ => None,
        }
    }
}
