//! HTTP/1 on the wire, without sockets: bytes to heads and bodies, and back (RFC 9112).
//!
//! Strict where leniency lets two readers of one connection disagree about where a message ends: lines end in CRLF, a
//! message has one way to tell its length, nothing is folded, no name is followed by a blank. What is refused is
//! refused with the status that the client sees ([`HeadError::status`]).

mod body;
mod encode;
mod fields;
mod framing;
mod head;
mod lines;
mod names;
mod target;

pub use body::{BodyDecoder, BodyError, Decoded};
pub use encode::{BodyEncoder, Names, Own, request_head, response_head};
pub use framing::Framing;
pub use head::{Expect, HeadError, HeadLimits, Request, Response, Version, request, response};
pub use lines::Search;
