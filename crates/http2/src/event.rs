//! What a connection reports.

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use ostro_engine::{Headers, Request};

use crate::{ErrorCode, StreamId};

/// A request's head. Its headers hold nothing that belongs to a connection, no `host`, and one `cookie` at most.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// The request. `authority` is `:authority`, or else `host`, or else empty.
    pub request: Request,
    /// `:protocol` of an extended CONNECT (RFC 8441).
    pub protocol: Option<HeaderValue>,
}

/// A response's head.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    /// Status.
    pub status: StatusCode,
    /// Headers, in order.
    pub headers: Headers,
}

/// What has come. `end`: nothing more comes on this stream.
#[derive(Debug)]
pub enum Event {
    /// A stream begins (server).
    Request {
        /// The stream.
        stream: StreamId,
        /// Its head.
        head: Box<RequestHead>,
        /// It has no body.
        end: bool,
    },
    /// A stream begins whose head is larger than the limits (server): to be answered with 431 and reset, or reset.
    TooLarge {
        /// The stream.
        stream: StreamId,
        /// It has no body.
        end: bool,
    },
    /// An interim response, 1xx (client).
    Interim {
        /// The stream.
        stream: StreamId,
        /// Its head.
        head: ResponseHead,
    },
    /// The response (client).
    Response {
        /// The stream.
        stream: StreamId,
        /// Its head.
        head: ResponseHead,
        /// It has no body.
        end: bool,
    },
    /// A part of the body; empty only at its end.
    Data {
        /// The stream.
        stream: StreamId,
        /// To be reported as [`consumed`](crate::Connection::consumed) some time.
        data: Bytes,
        /// It was the last.
        end: bool,
    },
    /// The end, with trailers.
    Trailers {
        /// The stream.
        stream: StreamId,
        /// Fields.
        trailers: Headers,
    },
    /// The stream is over.
    Reset {
        /// The stream.
        stream: StreamId,
        /// Why.
        code: ErrorCode,
        /// Whose wish or fault it was.
        origin: Origin,
        /// The peer has done nothing with the request: it may be sent again elsewhere.
        unprocessed: bool,
    },
    /// The peer takes no new streams (or, of a client: opens none any more).
    GoAway {
        /// Streams beyond were not looked at; they are reported as reset.
        last: u32,
        /// Why.
        code: ErrorCode,
        /// Whatever the peer adds.
        debug: Bytes,
    },
    /// A PING of ours was answered.
    Pong([u8; 8]),
    /// SETTINGS came: limits may have changed.
    Settings,
}

/// Who ended a stream before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The peer: it sent RST_STREAM or GOAWAY.
    Peer,
    /// This side, because the peer broke a rule on the stream.
    Us,
}
